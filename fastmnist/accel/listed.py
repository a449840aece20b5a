"""A list that a loop runs over, as arrays: of samples, of tuples of them, or of batches, each a list or an array.

Lists are not copied before the kernels need them, and then only what comes before the last item, which may be a smaller
batch and runs as written.
"""

from __future__ import annotations

import math
from collections.abc import Sequence, Sized
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastmnist.accel.program import Path, Refused
from fastmnist.accel.values import Value

if TYPE_CHECKING:
    from fastmnist.accel.interpret import Interpreter

_NOT_ALIKE = "a loop over a list whose items are not alike"


class Column:
    """The samples of a list, or one member of each, where they are tuples.

    Parameters
    ----------
    listed : Listed
        The list.
    position : int, optional
        Which member; None where samples are no tuples.
    """

    def __init__(self, listed: Listed, position: int | None) -> None:
        self._listed = listed
        self._position = position
        self._array: NDArray[Any] | None = None
        self._spare: NDArray[Any] | None = None
        self._are_classes = False
        self._samples_axis = 0
        self.form = self._kind, self.shape, self._dtype = _form(self._member(listed.example))

    def _member(self, sample: Any) -> Any:
        return sample if self._position is None else sample[self._position]

    def array(self) -> NDArray[Any]:
        """Return the samples as rows, or the numbers, of all items but the last.

        Raises
        ------
        Refused
            If they are not alike.
        """
        if self._array is None:
            members = list(map(self._member, self._listed.samples()))
            if not self._are_alike(members):
                raise Refused(_NOT_ALIKE)
            if self._kind is not np.ndarray:
                self._array = np.array(members)
            elif self._are_classes:
                self._array = np.concatenate(members)
            else:
                n = self.count
                shape = (len(members) * n, math.prod(self.shape) // n)
                if self._spare is None or self._spare.shape != shape:
                    self._spare = np.empty(shape, self._dtype)
                # Another object each time: what is packed is known by the array it was made of.
                self._array = self._spare.view()
                if self._samples_axis == 1:
                    np.concatenate(members, axis=1, out=self._array.T)
                else:
                    np.concatenate(members, out=self._array.reshape(-1, *self.shape[1:]))
        return self._array

    def _are_alike(self, members: list[Any]) -> bool:
        kind, shape, dtype = self._kind, self.shape, self._dtype
        if kind is np.ndarray:
            return all(type(m) is kind and m.shape == shape and m.dtype == dtype for m in members)
        return all(type(m) is kind for m in members)

    def take_over(self, other: Column) -> None:
        """Write into the memory that another array of the same form had: new pages take longer than copying."""
        self._spare, other._array = other._array, None

    def forget(self) -> None:
        """Look at the list again when the array is next needed."""
        self._array = None

    def touches(self, array: NDArray[Any]) -> bool:
        """Whether an array shares memory with one of the list."""
        members = chain.from_iterable([self._listed.samples(), [self._listed.example]])
        return any(np.may_share_memory(array, self._member(sample)) for sample in members)

    @property
    def is_batch(self) -> bool:
        """Whether each is a matrix, neither row nor column."""
        return len(self.shape) == 2 and min(self.shape) > 1

    @property
    def count(self) -> int:
        """Samples in each: more than one where each is a batch."""
        return self.shape[self._samples_axis] if self.is_batch or self._are_classes else 1

    def follow(self, batches: list[Column]) -> None:
        """Take matrices as batches of rows or of columns, and integers as their classes, as all shapes together say."""
        heights, widths = {column.shape[0] for column in batches}, {column.shape[1] for column in batches}
        n = None
        if len(batches) > 1 and len(heights) > len(widths) == 1:
            (n,), self._samples_axis = widths, 1 if self.is_batch else 0
        elif len(heights) == 1:
            (n,) = heights
        is_whole = self._dtype is not None and self._dtype.kind in "iu"
        self._are_classes = self.shape == (n,) and is_whole

    def value(self, at: Interpreter, path: Path, number: int) -> Value:
        """Return sample `number` of an item as the interpreter has it; `path` is where it finds the array."""
        root = at.load(path)
        now, n = self._member(self._listed.sample(number)), self.count
        slope, algebra = n * self._listed.per_item, at.algebra
        if not isinstance(now, np.ndarray):
            return Value(now, algebra.leaf("items", path, slope, number, 1, shape=(1, 1)))
        if self._are_classes:
            return at.result(now, algebra.leaf("items", path, slope, number * n, n, shape=(1, n)), base=root)
        node = algebra.leaf("rows", path, slope, number * n, n, shape=(n, root.now.shape[1]))
        if now.ndim == 2 and (now.shape[1] == 1 or self._samples_axis == 1):
            node = algebra.transpose(node)
        return Value(now, node, base=root, seen=root.version)


class Listed:
    """What a loop over a list takes.

    Parameters
    ----------
    items : list or tuple
        The list, not empty.
    """

    def __init__(self, items: Sequence[Any]) -> None:
        self._items = items
        self._n = len(items)

    def __len__(self) -> int:
        """Return how many items there are."""
        return self._n

    @property
    def per_item(self) -> int:
        """Samples in each item: more than one where an item is a list of them."""
        return len(self._items[0]) if self._are_lists else 1

    @property
    def _are_lists(self) -> bool:
        return type(self._items[0]) is list and len(self._items[0]) > 0

    @property
    def example(self) -> Any:
        """The first sample."""
        return self.sample(0)

    def sample(self, number: int) -> Any:
        """Return a sample of the first item."""
        return self._items[0][number] if self._are_lists else self._items[0]

    def samples(self) -> Sequence[Any]:
        """Return those of all items but the last, as the list is now.

        Raises
        ------
        Refused
            If batches have different lengths, or tuples have.
        """
        samples = self._items[:-1]
        if self._are_lists:
            _require_lengths(samples, list, self.per_item)
            samples = list(chain.from_iterable(samples))
        if self._are_tuples:
            _require_lengths(samples, tuple, len(self.columns))
        return samples

    @cached_property
    def columns(self) -> list[Column]:
        """One for each member of a sample."""
        return [Column(self, k) for k in range(len(self.example))] if self._are_tuples else [Column(self, None)]

    @cached_property
    def _are_tuples(self) -> bool:
        return type(self.example) is tuple

    @property
    def form(self) -> Any:
        """What must be the same for a recognition to hold."""
        return self.per_item, type(self.example), tuple(column.form for column in self.columns)

    def value(self, at: Interpreter, paths: Sequence[Path]) -> Value:
        """Return the first item as the interpreter has it; `paths` are where it finds the columns' arrays."""
        at.trace.looks[id(self._items)] += 1
        samples = []
        for number in range(self.per_item):
            members = [c.value(at, path, number) for c, path in zip(self.columns, paths, strict=True)]
            samples.append(at.pack(members) if self._are_tuples else members[0])
        return at.pack(samples) if self._are_lists else samples[0]  # no list, which the loop might change


def _require_lengths(groups: Sequence[Any], kind: type[Sized], length: int) -> None:
    if any(type(group) is not kind or len(group) != length for group in groups):
        raise Refused(_NOT_ALIKE)


def _form(member: Any) -> tuple[type, tuple[int, ...], np.dtype[Any] | None]:
    """Return what kind of thing a member of a sample is."""
    if type(member) is np.ndarray and member.ndim in (1, 2) and member.size and member.dtype.kind in "biuf":
        return np.ndarray, member.shape, member.dtype
    if isinstance(member, int | np.integer) and not isinstance(member, bool):
        return type(member), (), None
    raise Refused(f"a loop over a list of {type(member).__name__}")
