"""What a loop runs over: a range, an array, a list, zip or enumerate of these, looked into without being used up.

Or a generator, which has handed out its first item.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastmnist.accel.generated import Generated
from fastmnist.accel.listed import Column, Listed
from fastmnist.accel.program import Path, Refused
from fastmnist.accel.values import Value

if TYPE_CHECKING:
    from fastmnist.accel.interpret import Interpreter

Part: TypeAlias = "range | NDArray[Any] | Listed | Generated | tuple[Part, ...]"

_ITERATORS = {*map(type, (iter(()), iter([]), iter(range(0)), iter(np.empty(0))))}


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
        self._leaves = list(_leaves(self._part))
        if not self._leaves:
            raise Refused("a loop over nothing")
        self._n = min(map(len, self._leaves))
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

    @property
    def is_counting(self) -> bool:
        """Whether the items are numbers alone."""
        return all(isinstance(leaf, range) for leaf in self._leaves)

    @property
    def form(self) -> Any:
        """All but the values of the arrays."""
        return _form(self._part)

    @cached_property
    def _sources(self) -> list[NDArray[Any] | Column]:
        found: list[NDArray[Any] | Column] = []
        for leaf in self._leaves:
            if isinstance(leaf, Listed):
                found += leaf.columns
            elif isinstance(leaf, np.ndarray):
                found.append(leaf)
        columns = [source for source in found if isinstance(source, Column)]
        batches = [column for column in columns if column.is_batch]
        for column in columns:
            column.follow(batches)
        return found

    def source(self, path: Path) -> Any:
        """Return one of the arrays that the items are taken from, or what a generator holds."""
        if isinstance(self._part, Generated):
            return self._part.held(path)
        source = self._sources[path[1]]
        return source.array() if isinstance(source, Column) else source

    def touches(self, array: NDArray[Any]) -> bool:
        """Whether an array shares memory with one of a list."""
        return any(source.touches(array) for source in self._sources if isinstance(source, Column))

    def take_over(self, other: Items) -> None:
        """Use the memory of the lists of an earlier pass, which had the same form and length."""
        for source, before in zip(self._sources, other._sources, strict=True):
            if isinstance(source, Column) and isinstance(before, Column):
                source.take_over(before)

    def look_again(self) -> None:
        """Take lists as they are now.

        Raises
        ------
        Refused
            If somebody else has taken items.
        """
        if self._iterator is self._iterable and any(at != self._taken for at in _positions(self._iterator)):
            raise Refused("items are taken from what is looped over")
        for source in self._sources:
            if isinstance(source, Column):
                source.forget()

    def release(self) -> None:
        """Let go of a generator's variables: the loop is left."""
        if isinstance(self._iterable, Generated):
            self._iterable.release()
            self._iterator = None

    def skip_to(self, k: int) -> None:
        """Leave out all items before the one with number `k`."""
        if isinstance(self._iterable, range):
            self._iterator = iter(self._iterable[k:])
        elif isinstance(self._iterable, Generated):
            self._iterator = self._iterable.go_on_at(k)
        else:
            for _ in islice(iter(self), k - self._taken):
                pass
        self._taken = k

    def value(self, at: Interpreter) -> Value:
        """Return the item of the interpreted iteration."""
        paths = (("source", k) for k in range(len(self._sources)))

        def value(part: Part) -> Value:
            if isinstance(part, range):
                return Value(part.start, affine=(part.step, part.start))
            if isinstance(part, tuple):
                return at.pack([value(inner) for inner in part])
            if isinstance(part, Generated):
                return part.value(at)
            if isinstance(part, Listed):
                return part.value(at, [next(paths) for _ in part.columns])
            return at.subscript(at.load(next(paths)), Value(0, affine=(1, 0)))

        return value(self._part)


def _part(iterable: Any, seen: set[int]) -> Part:
    kind = type(iterable)
    if kind is range or (kind is np.ndarray and iterable.ndim):
        part: Part = iterable
        return part
    if isinstance(iterable, Generated):
        iterable.require_understood()
        return iterable
    if kind in (list, tuple) and iterable:
        return Listed(iterable)
    if kind is enumerate:
        inner, start = iterable.__reduce__()[1]
        part = _part(inner, seen)
        return range(start, start + min(map(len, _leaves(part)))), part
    if kind is zip:
        return tuple(_part(inner, seen) for inner in iterable.__reduce__()[1])
    if kind in _ITERATORS:
        if id(iterable) in seen:
            raise Refused("an iterator that is used twice")
        seen.add(id(iterable))
        _, (inner,), *position = iterable.__reduce__()
        if position == [0]:
            return _part(inner, seen)
    raise Refused(f"a loop over a {kind.__name__}")


def _positions(iterator: Any) -> Iterator[int]:
    """How many items have been taken from each of the iterators that an iterator draws from."""
    made_of = iterator.__reduce__()
    if type(iterator) is enumerate:
        yield from _positions(made_of[1][0])
    elif type(iterator) is zip:
        for inner in made_of[1]:
            yield from _positions(inner)
    else:
        yield made_of[2] if len(made_of) > 2 else -1


def _leaves(part: Part) -> Iterator[range | NDArray[Any] | Listed | Generated]:
    if isinstance(part, tuple):
        for inner in part:
            yield from _leaves(inner)
    else:
        yield part


def _form(part: Part) -> Any:
    """Return all of a part but the arrays' values."""
    if isinstance(part, tuple):
        return tuple(map(_form, part))
    if isinstance(part, Listed | Generated):
        return part.form
    return (part.start, part.step) if isinstance(part, range) else "array"
