"""Names that Keras gives to what the user leaves unnamed: ``dense``, ``dense_1``, ``sequential``."""

import re
from collections import Counter

_given: Counter[str] = Counter()


def snake_case(name: str) -> str:
    """``ReLU`` is ``re_lu`` and ``RMSprop`` is ``rm_sprop``, as in Keras (keras/src/utils/naming.py)."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def auto_name(class_name: str) -> str:
    """Return a name that no other object has been given since the program, or the session, began."""
    name = snake_case(class_name)
    count = _given[name]
    _given[name] += 1
    return f"{name}_{count}" if count else name


def clear() -> None:
    """Start counting anew."""
    _given.clear()
