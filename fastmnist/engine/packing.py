"""Images packed for the kernels, and the memory of what has been packed."""

from __future__ import annotations

import math
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmnist import spec
from fastmnist.engine.memory import Floats, scratch, zeros
from fastmnist.engine.threads import count_threads, counter, run_workers, worth
from fastmnist.kernels import sparse

T = TypeVar("T")

# Samples whose updates one block of exact per-sample SGD gathers. The recurrence grows with it, the number of passes
# over the first layer's weights shrinks.
PER_SAMPLE_BLOCK = 48
# Blocks, Gram products and converted entries kept with the images: those of two batch sizes, and an evaluation.
_KEPT = 6
# Plain arrays whose packing is kept, most recent first: a training and a test set, and two to spare.
_REMEMBERED = 4
# Bytes of an array below which it is packed each time: single images must not crowd out a training set.
_WORTH_REMEMBERING = 1 << 18
# Share of non-zeros from which images are held, and multiplied, as a dense matrix.
_DENSE_FROM = 0.5


# One at a time: networks trained at once on the same images want the same blocks.
_preparing = threading.RLock()


class Entries(NamedTuple):
    """Halves of quads of neighbouring inputs that are not all zero, row after row."""

    masks: NDArray[np.uint64]  # (N * words,) which halves
    starts: NDArray[np.int64]  # (N + 1,) their number in the samples before
    values: Any  # (2 * halves,) bytes k for k / 255, or floats


class Packed:
    """Images prepared for training: pack once, pass in place of the images, epoch after epoch.

    Made by `pack`. Holds a copy: later changes of the images are not seen. Images with many zeros are held as lists of
    the others, which are all that training needs.

    Attributes
    ----------
    shape : tuple of int
        (N, I).
    density : float
        Share of non-zero inputs; after `dropped`, what is to be expected of it.
    nbytes : int
        Memory held, blocks and Gram products prepared so far included.
    """

    def __init__(
        self, shape: tuple[int, int], density: float, images: Entries | NDArray[Any], scale: float = 1.0
    ) -> None:
        self.shape = shape
        self.density = density
        self._images = images
        self._scale = scale
        self._prepared: dict[tuple[Any, ...], Any] = {}

    def __len__(self) -> int:
        """Return the number of images."""
        return self.shape[0]

    def __repr__(self) -> str:
        """Return shape and density."""
        return f"<fastmnist.Packed {self.shape[0]} x {self.shape[1]}, {self.density:.1%} non-zero>"

    @property
    def dense(self) -> bool:
        """Whether the images are held, and multiplied, as a dense matrix."""
        return not isinstance(self._images, Entries)

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        arrays: list[Any] = []
        for held in (self._images, *self._prepared.values()):
            arrays += [a for a in (held if isinstance(held, tuple) else (held,)) if isinstance(a, np.ndarray)]
        return sum(a.nbytes for a in {id(a): a for a in arrays}.values())

    def dropped(self, rate: float, rng: np.random.Generator) -> Packed:
        """Dropout of the inputs: a share `rate` of them set to 0, the others divided by ``1 - rate``."""
        images = self._images
        values = images.values if isinstance(images, Entries) else images
        kept = values * (rng.random(values.shape, dtype=np.float32) >= rate)
        images = images._replace(values=kept) if isinstance(images, Entries) else kept
        return Packed(self.shape, self.density * (1 - rate), images, self._scale / (1 - rate))

    def __getstate__(self) -> dict[str, Any]:
        """Leave what can be prepared again out of copies and pickles."""
        return self.__dict__ | {"_prepared": {}}

    def _once(self, key: tuple[Any, ...], make: Callable[[], T]) -> T:
        with _preparing:
            made: T = self._prepared.pop(key) if key in self._prepared else make()
            self._prepared[key] = made  # the last ones used are at the end
            while len(self._prepared) > _KEPT:
                self._prepared.pop(next(iter(self._prepared)))
            return made

    def _table(self, dtype: np.dtype[Any]) -> Floats:
        """Return what bytes stand for."""
        table: Floats = _byte_values(dtype) * dtype.type(self._scale)
        return table

    def _numbers(self, values: NDArray[Any], dtype: np.dtype[Any]) -> Floats:
        """Float values as they are computed with in `dtype`."""
        values = values.astype(dtype, copy=False)
        return values if self._scale == 1 else values * dtype.type(self._scale)

    def _entries(self, dtype: np.dtype[Any], workers: int) -> Entries:
        """Entries with values for computations in `dtype`."""
        images = self._images
        entries = (
            images if isinstance(images, Entries) else self._once(("entries",), partial(_entries, images, workers))
        )
        if entries.values.dtype == np.uint8 or (entries.values.dtype == dtype and self._scale == 1):
            return entries
        return self._once(("entries", dtype), lambda: entries._replace(values=self._numbers(entries.values, dtype)))

    def blocks(
        self,
        dtype: np.dtype[Any],
        capacity: int,
        workers: int,
        order: NDArray[np.int64] | None = None,
        used: sparse.Blocks | None = None,
    ) -> sparse.Blocks:
        """Blocks of `capacity` samples by quad of inputs; those of the packed order are kept for the next epoch.

        Those of another order take the memory of `used` ones, if it will do: a fifth of the time went into new memory.
        """
        if order is not None:
            return self._make_blocks(dtype, capacity, workers, order, used)
        in_order = partial(self._make_blocks, dtype, capacity, workers, np.arange(len(self)))
        return self._once(("blocks", dtype, capacity), in_order)

    def dense_blocks(self, dtype: np.dtype[Any], capacity: int, rows: slice | NDArray[np.int64]) -> sparse.Blocks:
        """Blocks of `capacity` samples as dense rows; a view where these need no conversion."""
        assert not isinstance(self._images, Entries)
        images, table = self._images[rows], self._table(dtype)
        numbers = table[images] if images.dtype == np.uint8 else self._numbers(images, dtype)
        n_blocks = -(-len(images) // capacity)
        return sparse.Blocks(
            capacity=capacity,
            n_rows=len(images),
            most=0,
            rows=np.empty(0, _index_dtype(capacity)),
            values=np.empty(0, dtype),
            table=table,
            codes=np.empty(0, np.uint8),
            start=np.zeros(n_blocks, np.int64),
            n_active=np.empty((n_blocks, 0), np.int64),
            active=np.empty((n_blocks, 0), np.int32),
            first=np.empty((n_blocks, 0), np.int32),
            dense=np.ascontiguousarray(numbers).reshape(-1),
        )

    def gram(self, dtype: np.dtype[Any], blocks: sparse.Blocks, workers: int, keep: bool) -> Floats:
        """Inner products of each sample, (blocks, capacity, 2, padded): with the block before, and with its own.

        The first block has zeros for the one before.
        """

        def make() -> Floats:
            n_inputs, padded = spec.whole_quads(self.shape[1]), spec.padded(blocks.capacity, dtype.itemsize)
            shape = len(blocks.start), blocks.capacity, 2, padded
            gram = scratch(math.prod(shape), dtype).reshape(shape)
            columns = zeros(workers * 2 * n_inputs * padded, dtype)
            products = scratch(workers * blocks.capacity * padded, dtype)
            run_workers(sparse.gram_products, workers, counter(), blocks, n_inputs, columns, products, gram.reshape(-1))
            return gram

        return self._once(("gram", dtype, blocks.capacity), make) if keep else make()

    def _make_blocks(
        self,
        dtype: np.dtype[Any],
        capacity: int,
        workers: int,
        order: NDArray[np.int64],
        used: sparse.Blocks | None = None,
    ) -> sparse.Blocks:
        entries = self._entries(dtype, workers)
        n_lists = sparse.count_lists(self.shape[1])
        n_blocks = -(-len(order) // capacity)
        sizes = np.add.reduceat(entries.starts[order + 1] - entries.starts[order], np.arange(0, len(order), capacity))
        n_halves = int(sizes.sum())
        most = int(sizes.max())
        stride = min(n_lists, most)
        blocks = sparse.Blocks(
            capacity=capacity,
            n_rows=len(order),
            most=most,
            rows=_room(n_halves, np.dtype(_index_dtype(capacity)), used and used.rows),
            values=_room(2 * n_halves, entries.values.dtype, used and used.values),
            table=self._table(dtype),
            codes=np.empty(0, np.uint8),
            start=np.concatenate(([0], np.cumsum(sizes)[:-1])),
            n_active=np.empty((n_blocks, 2 * sparse.PARTS), np.int64),
            active=np.empty((n_blocks, stride), np.int32),
            first=np.zeros((n_blocks, stride + 1), np.int32),
            dense=np.empty(0, dtype),
        )
        workers = worth(workers, n_halves)
        n_words = len(entries.masks) // len(self)
        columns = np.empty((workers, -(-capacity // sparse.WORD_BITS), sparse.WORD_BITS * n_words), np.uint64)
        places = np.empty(workers * capacity, np.int64)
        cursors = np.empty((workers, n_lists), np.int32)
        slots = np.empty((workers, 2 * sparse.PARTS * capacity + 2), np.int32)
        parts = int(sparse.PARTS) if capacity == PER_SAMPLE_BLOCK else 1  # mini-batches need none: 1 % of row E's time
        run_workers(
            sparse.transpose, workers, counter(), parts, *entries, order, columns, places, cursors, slots, blocks
        )
        return blocks


def _byte_values(dtype: np.dtype[Any]) -> Floats:
    """Return k / 255 for each byte k."""
    values: Floats = np.arange(256, dtype=dtype) / dtype.type(255)
    return values


def _room(n: int, dtype: np.dtype[Any], used: NDArray[Any] | None) -> NDArray[Any]:
    """Memory for n numbers, or more: what has been used before if it will do, else new with some to spare."""
    if used is None:
        return np.empty(n, dtype)
    return used if used.dtype == dtype and used.size >= n else np.empty(n + n // 16, dtype)


def _index_dtype(n: int) -> type[np.unsignedinteger[Any]]:
    return np.uint16 if n <= 65_536 else np.uint32


def pack(images: ArrayLike) -> Packed:
    """Prepare images for training: list the non-zero pixels of each, once, unless most are non-zero.

    Parameters
    ----------
    images : ndarray, shape (N, I) or (N, H, W)
        float32 or float64, or uint8, which is read as value / 255. Not modified, not kept.

    Returns
    -------
    Packed
        Accepted wherever images are.

    Raises
    ------
    TypeError
        For other dtypes.
    ValueError
        For other shapes, empty arrays, NaN and infinity.

    Examples
    --------
    >>> import numpy as np, fastmnist as fm
    >>> fm.pack(np.eye(4))
    <fastmnist.Packed 4 x 4, 25.0% non-zero>
    """
    return _pack(_image_rows(images), count_threads(None))


def _image_rows(images: ArrayLike) -> NDArray[Any]:
    """Images as a contiguous (N, I) array of a supported dtype."""
    x = np.asarray(images)
    if not x.dtype.isnative:
        x = x.astype(x.dtype.newbyteorder("="))
    if x.dtype not in (np.uint8, np.float32, np.float64):
        raise TypeError(
            f"images have dtype {x.dtype}; float32, float64 and uint8 (read as value / 255) are accepted. "
            "Try images.astype('float32')."
        )
    if x.ndim < 2:
        raise ValueError(f"images have shape {x.shape}; (N, I) or (N, H, W) is wanted, one image a row.")
    if x.size == 0:
        raise ValueError(f"images have shape {x.shape}: there is nothing to compute.")
    return np.ascontiguousarray(x).reshape(len(x), -1)


def _pack(x: NDArray[Any], workers: int, exact: bool = False) -> Packed:
    masks, halves, nonzeros, as_codes = _count(x, workers)
    as_codes &= not exact or x.dtype != np.float32
    if halves.min() < 0:
        row = int(np.argmin(halves))
        column = int(np.argmin(np.isfinite(x[row])))
        raise ValueError(
            f"images[{row}, {column}] is {x[row, column]}; all inputs must be finite. "
            "Look at where it comes from, or replace it with np.nan_to_num."
        )
    density = nonzeros / x.size
    if density < _DENSE_FROM:
        return Packed(x.shape, density, _list_entries(x, workers, masks, halves, as_codes))
    if as_codes and x.dtype != np.uint8:
        return Packed(x.shape, density, (x * 255 + x.dtype.type(0.5)).astype(np.uint8))
    return Packed(x.shape, density, x.copy())


def _count(x: NDArray[Any], workers: int) -> tuple[NDArray[np.uint64], NDArray[np.int64], int, bool]:
    """Masks; halves of each row, -1 if one is not finite; non-zeros; whether all are multiples of 1/255 up to 1."""
    n = len(x)
    table = _byte_values(np.dtype(np.float32) if x.dtype == np.uint8 else x.dtype)
    masks = np.empty(n * -(-x.shape[1] // (2 * sparse.WORD_BITS)), np.uint64)
    halves, nonzeros, coded = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.uint8)
    run_workers(sparse.count_entries, worth(workers, x.size), x.reshape(-1), table, halves, nonzeros, coded, masks)
    return masks, halves, int(nonzeros.sum()), x.dtype == np.uint8 or bool(coded.all())


def _entries(x: NDArray[Any], workers: int) -> Entries:
    """Entries of all rows, dense or not."""
    masks, halves, _, as_codes = _count(x, workers)
    return _list_entries(x, workers, masks, halves, as_codes)


def _list_entries(
    x: NDArray[Any], workers: int, masks: NDArray[np.uint64], halves: NDArray[np.int64], as_codes: bool
) -> Entries:
    starts = np.concatenate(([0], np.cumsum(halves)))
    values = np.empty(2 * starts[-1], np.uint8 if as_codes else x.dtype)
    run_workers(sparse.pack_entries, worth(workers, x.size), x, as_codes and x.dtype != np.uint8, masks, starts, values)
    return Entries(masks, starts, values)


class _Memory:
    """Packings of plain arrays, each with a hash of the whole array it was made from; dropped when that is freed."""

    def __init__(self) -> None:
        self._packed: OrderedDict[tuple[Any, ...], tuple[bytes, Packed, weakref.ref[Any]]] = OrderedDict()
        self.renew_lock()

    def renew_lock(self) -> None:
        """Start with a free lock, as a forked child must."""
        self._lock = threading.Lock()

    def packed(self, x: NDArray[Any], source: NDArray[Any], workers: int, exact: bool) -> Packed:
        """Return the packing of `x`, the rows of `source`: made anew if any byte has changed."""
        owner = source
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
        place = source.__array_interface__["data"][0], source.strides
        key = (id(owner), place, x.shape, x.dtype, exact)
        hashed = _hash(x, workers)
        with self._lock:
            known = self._packed.pop(key, None)
            if known is not None and known[0] == hashed:
                self._packed[key] = known
                return known[1]
        packed = _pack(x, workers, exact)
        forget = weakref.ref(owner, lambda _: self._packed.pop(key, None))
        with self._lock:
            self._packed[key] = hashed, packed, forget
            while len(self._packed) > _REMEMBERED:
                self._packed.popitem(last=False)
        return packed


_MEMORY = _Memory()


def _renew_locks() -> None:
    """Start with free locks, as a forked child must."""
    global _preparing
    _preparing = threading.RLock()
    _MEMORY.renew_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)
_HASH_WORDS = 1024
_MULTIPLIERS = np.random.default_rng(0).integers(2**63, size=_HASH_WORDS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)


def _hash(x: NDArray[Any], workers: int) -> bytes:
    """One 64-bit sum for every 8 KiB of `x`, and its last bytes as they are."""
    octets = x.reshape(-1).view(np.uint8)
    whole = octets.size // (8 * _HASH_WORDS) * 8 * _HASH_WORDS
    words = octets[:whole].view(np.uint64).reshape(-1, _HASH_WORDS)
    sums = np.empty(len(words), np.uint64)
    run_workers(sparse.fingerprint, worth(workers, words.size), words, _MULTIPLIERS, sums)
    return sums.tobytes() + octets[whole:].tobytes()


def as_packed(images: ArrayLike | Packed, threads: int | None, exact: bool = False) -> Packed:
    """Return images that are packed as they are, others packed; remembered as long as no byte of them changes.

    Multiples of 1/255 that were rounded to float32 become those of float64 where that is computed with, unless `exact`.
    """
    if isinstance(images, Packed):
        return images
    source = np.asarray(images)
    if source.nbytes < _WORTH_REMEMBERING:
        return _pack(_image_rows(source), count_threads(threads), exact)
    return _MEMORY.packed(_image_rows(source), source, count_threads(threads), exact)
