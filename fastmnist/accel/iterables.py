"""What a loop runs over: a range, an array, or zip and enumerate of these, looked into without being used up."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastmnist.accel.program import Refused
from fastmnist.accel.values import Value

if TYPE_CHECKING:
    from fastmnist.accel.interpret import Interpreter

Part: TypeAlias = "range | NDArray[Any] | tuple[Part, ...]"


class Items:
    """The items of one pass through a loop.

    Parameters
    ----------
    iterable : object
        What the loop runs over. It is left as it is until the first item is taken.

    Raises
    ------
    Refused
        If it is something else.
    """

    def __init__(self, iterable: Any) -> None:
        self._part = _part(iterable, set())
        leaves = list(_leaves(self._part))
        if not leaves:
            raise Refused("a loop over nothing")
        self.arrays = [leaf for leaf in leaves if isinstance(leaf, np.ndarray)]
        self.form = _form(self._part)
        self._n = min(map(len, leaves))
        self._iterable = iterable
        self._iterator: Iterator[Any] | None = None
        self._taken = 0

    def __len__(self) -> int:
        """Return how many there are."""
        return self._n

    def __iter__(self) -> Iterator[Any]:
        """Yield the items that are left."""
        if self._iterator is None:
            self._iterator = iter(self._iterable)
        for item in self._iterator:
            self._taken += 1
            yield item

    def skip_to(self, k: int) -> None:
        """Leave out all items before the one with number `k`."""
        if isinstance(self._iterable, range):
            self._iterator = iter(self._iterable[k:])
        else:
            for _ in islice(iter(self), k - self._taken):
                pass
        self._taken = k

    def value(self, at: Interpreter) -> Value:
        """Return the item of the interpreted iteration."""
        paths = iter(range(len(self.arrays)))

        def value(part: Part) -> Value:
            if isinstance(part, range):
                return Value(part.start, affine=(part.step, part.start))
            if isinstance(part, tuple):
                return at.pack([value(inner) for inner in part])
            return at.subscript(at.load(("source", next(paths))), Value(0, affine=(1, 0)))

        return value(self._part)


def _part(iterable: Any, seen: set[int]) -> Part:
    kind = type(iterable)
    if kind is range or (kind is np.ndarray and iterable.ndim):
        part: Part = iterable
        return part
    if kind is enumerate:
        inner, start = iterable.__reduce__()[1]
        part = _part(inner, seen)
        return range(start, start + min(map(len, _leaves(part)))), part
    if kind is zip:
        return tuple(_part(inner, seen) for inner in iterable.__reduce__()[1])
    if kind in (type(iter(range(0))), type(iter(np.empty(0)))):
        if id(iterable) in seen:
            raise Refused("an iterator that is used twice")
        seen.add(id(iterable))
        _, (inner,), position = iterable.__reduce__()
        if not position:
            return _part(inner, seen)
    raise Refused(f"a loop over a {kind.__name__}")


def _leaves(part: Part) -> Iterator[range | NDArray[Any]]:
    if isinstance(part, tuple):
        for inner in part:
            yield from _leaves(inner)
    else:
        yield part


def _form(part: Part) -> Any:
    """Return all of a part but the arrays' values."""
    if isinstance(part, tuple):
        return tuple(map(_form, part))
    return (part.start, part.step) if isinstance(part, range) else "array"
