"""Images as lists of their non-zero pixels, and the memory of what has been packed."""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmnist.engine.threads import count_threads, run_workers
from fastmnist.kernels import sparse

Floats = NDArray[np.floating[Any]]
T = TypeVar("T")

# Samples whose updates one block of exact per-sample SGD gathers. The recurrence grows with it, the number of passes
# over the first layer's weights shrinks.
PER_SAMPLE_BLOCK = 40
# Plain arrays whose packing is kept, most recent first: a training and a test set, and two to spare.
_REMEMBERED = 4
# Share of non-zeros from which a block is multiplied as a dense matrix.
_DENSE_FROM = 0.5


# One at a time: networks trained at once on the same images want the same blocks.
_preparing = threading.RLock()


class Packed:
    """Images as lists of their non-zero pixels: pack once, pass in place of the images, epoch after epoch.

    Made by `pack`. Holds a copy: later changes of the images are not seen.

    Attributes
    ----------
    shape : tuple of int
        (N, I).
    density : float
        Share of non-zero inputs.
    nbytes : int
        Memory held, blocks and Gram products prepared so far included.
    """

    def __init__(self, n_inputs: int, starts: NDArray[np.int64], columns: Any, values: Any, scale: float = 1.0) -> None:
        self.shape = (len(starts) - 1, n_inputs)
        self._starts = starts
        self._columns = columns
        self._values = values
        self._scale = scale
        self._prepared: dict[tuple[Any, ...], Any] = {}

    def __len__(self) -> int:
        """Return the number of images."""
        return self.shape[0]

    def __repr__(self) -> str:
        """Return shape and density."""
        return f"<fastmnist.Packed {self.shape[0]} x {self.shape[1]}, {self.density:.1%} non-zero>"

    @property
    def density(self) -> float:
        """Share of non-zero inputs."""
        return float(self._starts[-1]) / max(1, self.shape[0] * self.shape[1])

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        arrays = [self._starts, self._columns, self._values]
        for made in self._prepared.values():
            arrays += [a for a in (made if isinstance(made, tuple) else (made,)) if isinstance(a, np.ndarray)]
        return sum(a.nbytes for a in {id(a): a for a in arrays}.values())

    def _once(self, key: tuple[Any, ...], make: Callable[[], T]) -> T:
        with _preparing:
            if key not in self._prepared:
                self._prepared[key] = make()
            made: T = self._prepared[key]
            return made

    def _entries(self, dtype: np.dtype[Any]) -> tuple[Any, Floats]:
        """Values and their table for computations in `dtype`."""
        table = (np.arange(256, dtype=dtype) / dtype.type(255)) * dtype.type(self._scale)
        if self._values.dtype == np.uint8 or (self._values.dtype == dtype and self._scale == 1):
            return self._values, table
        return self._once(("values", dtype), lambda: (self._values * self._scale).astype(dtype)), table

    def dropped(self, rate: float, rng: np.random.Generator) -> Packed:
        """Dropout of the inputs: a share `rate` of them set to 0, the others divided by ``1 - rate``."""
        kept = rng.random(self._columns.size, dtype=np.float32) >= rate
        counts = np.concatenate(([0], np.cumsum(kept)))
        return Packed(
            self.shape[1], counts[self._starts], self._columns[kept], self._values[kept], self._scale / (1 - rate)
        )

    def blocks(
        self, dtype: np.dtype[Any], capacity: int, workers: int, order: NDArray[np.int64] | None = None
    ) -> sparse.Blocks:
        """Blocks of `capacity` samples, in the order given; those of the packed order are kept for the next epoch."""
        if order is not None:
            return self._make_blocks(dtype, capacity, workers, order)
        whole = np.arange(len(self))
        return self._once(("blocks", dtype, capacity), lambda: self._make_blocks(dtype, capacity, workers, whole))

    def gram(self, dtype: np.dtype[Any], blocks: sparse.Blocks, workers: int, keep: bool) -> Floats:
        """Inner products of the samples of each block."""

        def make() -> Floats:
            products = np.empty((len(blocks.start), blocks.capacity, blocks.capacity), dtype)
            run_workers(sparse.gram_products, workers, blocks, products)
            return products

        return self._once(("gram", dtype, blocks.capacity), make) if keep else make()

    def _make_blocks(
        self, dtype: np.dtype[Any], capacity: int, workers: int, order: NDArray[np.int64]
    ) -> sparse.Blocks:
        values, table = self._entries(dtype)
        n_inputs = self.shape[1]
        n_blocks = -(-len(order) // capacity)
        sizes = np.add.reduceat(np.diff(self._starts)[order], np.arange(0, len(order), capacity))
        n_entries = int(sizes.sum())
        dense = self.density >= _DENSE_FROM and capacity > 1
        needs_entries = not dense or capacity == PER_SAMPLE_BLOCK  # Gram products are made from entries
        stride = min(n_inputs, int(sizes.max())) if needs_entries else 0
        blocks = sparse.Blocks(
            capacity=capacity,
            n_rows=len(order),
            rows=np.empty(n_entries if needs_entries else 0, _index_dtype(capacity)),
            values=np.empty(n_entries if needs_entries else 0, values.dtype),
            table=table,
            start=np.concatenate(([0], np.cumsum(sizes)[:-1])),
            n_active=np.zeros(n_blocks, np.int64),
            active=np.empty((n_blocks, stride), np.int32),
            first=np.zeros((n_blocks, stride + 1), np.int32),
            dense=np.empty(len(order) * n_inputs if dense else 0, dtype),
        )
        if needs_entries:
            cursors = np.empty((workers, n_inputs), np.int32)
            slots = np.empty((workers, capacity + 2), np.int32)
            csr = self._starts, self._columns, values
            run_workers(sparse.transpose, workers, *csr, order, cursors, slots, blocks)
        if dense:
            rows = blocks.dense.reshape(-1, n_inputs)
            run_workers(sparse.unpack, workers, self._starts, self._columns, values, table, order, rows)
        return blocks


def _index_dtype(n: int) -> type[np.unsignedinteger[Any]]:
    return np.uint16 if n <= 65_536 else np.uint32


def pack(images: ArrayLike) -> Packed:
    """Prepare images for training: list the non-zero pixels of each, once.

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


def _pack(x: NDArray[Any], workers: int) -> Packed:
    n, n_inputs = x.shape
    if x.dtype == np.uint8:
        counts = np.count_nonzero(x, axis=1)
        as_codes = True
    else:
        table = np.arange(256, dtype=x.dtype) / x.dtype.type(255)
        counts = np.empty(n, np.int64)
        coded = np.empty(n, np.uint8)
        run_workers(sparse.count_entries, workers, x, table, counts, coded)
        if counts.min() < 0:
            row = int(np.argmin(counts))
            column = int(np.argmin(np.isfinite(x[row])))
            raise ValueError(
                f"images[{row}, {column}] is {x[row, column]}; all inputs must be finite. "
                "Look at where it comes from, or replace it with np.nan_to_num."
            )
        as_codes = bool(coded.all())
    starts = np.concatenate(([0], np.cumsum(counts)))
    columns = np.empty(starts[-1], _index_dtype(n_inputs))
    values = np.empty(starts[-1], np.uint8 if as_codes else x.dtype)
    run_workers(sparse.pack_entries, workers, x, as_codes and x.dtype != np.uint8, starts, columns, values)
    return Packed(n_inputs, starts, columns, values)


class _Memory:
    """Packings of plain arrays, each with a hash of the whole array it was made from; dropped when that is freed."""

    def __init__(self) -> None:
        self._packed: OrderedDict[tuple[Any, ...], tuple[bytes, Packed, weakref.ref[Any]]] = OrderedDict()
        self.renew_lock()

    def renew_lock(self) -> None:
        """Start with a free lock, as a forked child must."""
        self._lock = threading.Lock()

    def packed(self, x: NDArray[Any], source: NDArray[Any], workers: int) -> Packed:
        """Return the packing of `x`, the rows of `source`: made anew if any byte has changed."""
        owner = source
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
        place = source.__array_interface__["data"][0], source.strides
        key = (id(owner), place, x.shape, x.dtype)
        hashed = _hash(x, workers)
        with self._lock:
            known = self._packed.pop(key, None)
            if known is not None and known[0] == hashed:
                self._packed[key] = known
                return known[1]
        packed = _pack(x, workers)
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
    run_workers(sparse.fingerprint, workers, words, _MULTIPLIERS, sums)
    return sums.tobytes() + octets[whole:].tobytes()


def as_packed(images: ArrayLike | Packed, threads: int | None) -> Packed:
    """Return images that are packed as they are, others packed; remembered as long as no byte of them changes."""
    if isinstance(images, Packed):
        return images
    source = np.asarray(images)
    return _MEMORY.packed(_image_rows(source), source, count_threads(threads))
