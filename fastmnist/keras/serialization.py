"""Objects as the dictionaries that Keras's files hold, and objects from the names and configs that users write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")

__all__ = ["class_name", "refuse_arguments", "resolve", "serialize", "stand_ins"]


def serialize(thing: Any) -> Any:
    """Return what Keras's ``serialize_keras_object`` returns for `thing`.

    An object that has a config becomes a dictionary with its module, class name and config; ``None``, strings and
    numbers stay what they are.
    """
    if not hasattr(thing, "get_config"):
        return thing
    saved = {
        "module": thing.keras_module,
        "class_name": type(thing).__name__,
        "config": thing.get_config(),
        "registered_name": None,
    }
    build_shape = getattr(thing, "build_shape", None)
    return saved if build_shape is None else {**saved, "build_config": {"input_shape": list(build_shape)}}


def class_name(thing: Any) -> str:
    """Return the name of a class of this package; of a subclass of yours with its module, which no plan accepts.

    What the methods of a subclass do is unknown to the engine, so it must not be taken for a base class of the same
    name.
    """
    kind = type(thing)
    return kind.__name__ if kind.__module__.startswith("fastmnist.keras.") else f"{kind.__module__}.{kind.__qualname__}"


def stand_ins(module: str, names: Iterable[str]) -> Callable[[str], Any]:
    """Return a module's ``__getattr__`` for names that Keras has and this package has not.

    Scripts may import them, as many do without need. Calling one raises NotImplementedError.
    """
    known = frozenset(names)

    def get_stand_in(name: str) -> Any:
        if name not in known:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")

        def stand_in(*arguments: Any, **options: Any) -> Any:
            raise NotImplementedError(f"{module}.{name} is not supported; see the names in {module}.__all__.")

        stand_in.__name__ = name
        return stand_in

    return get_stand_in


def resolve(
    kind: str, identifier: Any, classes: Mapping[str, Callable[..., T]], elsewhere: Iterable[str] = ()
) -> T | None:
    """Make an object from whatever Keras accepts in its place.

    Parameters
    ----------
    kind : str
        What is looked for, for messages: ``"optimizer"``.
    identifier : None, str, dict, class or object
        A name among `classes`, a dictionary made by `serialize`, a class to be called without arguments, or the object
        itself.
    classes : mapping
        By name, lower-case names and short ones included.
    elsewhere : iterable of str
        Names that Keras has and this package has not.

    Raises
    ------
    NotImplementedError
        For Keras's other names.
    ValueError
        For names that are nobody's.
    """
    config: Mapping[str, Any] | None = None
    if isinstance(identifier, Mapping):
        config = identifier.get("config") or {}
        identifier = str(identifier["class_name"])
    if isinstance(identifier, str):
        made = classes.get(identifier)
        if made is None:
            accepted = ", ".join(sorted({value.__name__ for value in classes.values()}))
            other = identifier.lower().replace("_", "") in {name.lower().replace("_", "") for name in elsewhere}
            if other:
                raise NotImplementedError(f"{kind} {identifier!r} is not supported; there are {accepted}.")
            raise ValueError(f"Could not interpret {kind} {identifier!r}; there are {accepted}.")
        build: Callable[..., T] = getattr(made, "from_config", None) or (lambda _: made())
        return made() if config is None else build(dict(config))
    given: T | None = identifier() if isinstance(identifier, type) else identifier
    return given


def refuse_arguments(where: str, **arguments: Any) -> None:
    """Raise NotImplementedError for the first argument that is neither None nor False.

    Unsupported arguments of Keras are part of the signatures here, so that their default may be written out.
    """
    for name, value in arguments.items():
        if value is not None and value is not False:
            raise NotImplementedError(f"{where} was given {name}={value!r}, which is not supported; leave it out.")
