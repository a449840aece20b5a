"""A dense network in the kernels' layout: parameters in, an epoch or an evaluation, parameters out."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmnist import spec
from fastmnist.engine.draws import Draws
from fastmnist.engine.packing import PER_SAMPLE_BLOCK, Floats, Packed
from fastmnist.engine.threads import count_threads, run_workers
from fastmnist.kernels import sgd, sparse
from fastmnist.kernels.forward import Dropout, Truth, infer
from fastmnist.kernels.sgd import Updates

EVALUATION_BLOCK = 64
# Seconds between two returns to Python: Ctrl-C and the progress bar wait this long at most.
_SLICE = 0.05
# Multiply-adds of a block below which a second thread costs more than it saves.
_PARALLEL_FROM = 20_000
# Tiles of a layer that make a worker worth its barriers. On a 2-core machine two workers took as long as one for 5 and
# 13 tiles when nothing else ran (rows B and D), and up to twice as long beside a BLAS whose threads spin; 25 tiles
# (row E) took 0.57 of the time.
_TILES_PER_WORKER = 8


def _scratch(n: int, dtype: np.dtype[Any]) -> Floats:
    """Memory on a tile boundary, whatever it holds."""
    octets = np.empty(n * dtype.itemsize + spec.TILE_BYTES, np.uint8)
    shift = -octets.__array_interface__["data"][0] % spec.TILE_BYTES
    return octets[shift : shift + n * dtype.itemsize].view(dtype)


def _zeros(n: int, dtype: np.dtype[Any]) -> Floats:
    """Zeros on a tile boundary."""
    zeros = _scratch(n, dtype)
    zeros[:] = 0
    return zeros


class FlatNetwork:
    """A dense network in the kernels' layout, with the memory that its training needs.

    Parameters
    ----------
    sizes : sequence of int
        Units per layer, inputs first.
    dtype : dtype
        float32 or float64.
    biases : bool
        Whether layers have biases.
    hidden : sequence of int
        Activation codes of the hidden layers.
    output : int
        Activation code of the output layer.
    """

    def __init__(
        self, sizes: Sequence[int], dtype: np.dtype[Any], biases: bool, hidden: Sequence[int], output: int
    ) -> None:
        self.layout = spec.Layout(tuple(sizes), biases, dtype.itemsize)
        self.dtype = dtype
        self.table = np.array(self.layout.table([*hidden, output]), np.int64)
        self.params = _zeros(self.layout.n_parameters, dtype)
        self.grads = self.slot_1 = self.slot_2 = np.empty(0, dtype)

    def allocate(self, optimizer: int, repeats: int = 1) -> None:
        """Make the gradient and state vectors that `optimizer` needs, where there are none yet."""
        n = self.layout.n_parameters
        if (optimizer != spec.SGD or repeats > 1) and not self.grads.size:
            self.grads = _zeros(n, self.dtype)
        if optimizer in (spec.MOMENTUM, spec.NESTEROV, spec.ADAM) and not self.slot_1.size:
            self.slot_1 = _zeros(n, self.dtype)
        if optimizer in (spec.RMSPROP, spec.ADAM) and not self.slot_2.size:
            self.slot_2 = _zeros(n, self.dtype)

    def _views(self, flat: Floats) -> Iterator[tuple[Floats, Floats | None]]:
        """Each layer's weights as an (I, O) view of `flat`, and its biases."""
        layout = self.layout
        for k, (n_in, n_out) in enumerate(itertools.pairwise(layout.sizes)):
            at, biases_at = layout.offsets[k]
            if k == 0:
                whole = flat[at : at + n_in * layout.tiles(n_out) * layout.lanes]
                view = whole.reshape(n_in, -1)[:, :n_out]
            else:
                whole = flat[at : at + n_out * layout.tiles(n_in) * layout.lanes]
                view = whole.reshape(n_out, -1)[:, :n_in].T
            yield view, flat[biases_at : biases_at + n_out] if biases_at >= 0 else None

    def set(self, weights: Sequence[Floats], biases: Sequence[Floats] | None) -> None:
        """Take over (I, O) weights and (O,) biases."""
        self.params[:] = 0  # after a divergence there may be NaN in the padding
        for k, (view, bias_view) in enumerate(self._views(self.params)):
            view[:] = weights[k]
            if bias_view is not None and biases is not None:
                bias_view[:] = biases[k]

    def get(self, weights: Sequence[Floats], biases: Sequence[Floats] | None) -> None:
        """Write the parameters into (I, O) weights and (O,) biases."""
        for k, (view, bias_view) in enumerate(self._views(self.params)):
            weights[k][:] = view
            if bias_view is not None and biases is not None:
                biases[k][:] = bias_view

    def train(
        self,
        packed: Packed,
        truth: Truth,
        *,
        order: NDArray[np.int64] | None,
        n_samples: int,
        capacity: int,
        updates: Updates,
        draws: Draws,
        mask_only: bool,
        threads: int | None,
        progress: Callable[[int], None] | None = None,
    ) -> tuple[float, float, int]:
        """Train on the first `n_samples` of `order`, `capacity` a batch; `updates.rates` has a rate for each batch.

        `mask_only` leaves dropout's scaling out of the gradient, see `scripts.sgd_epoch`.
        Returns the sum of squared errors, the cross-entropy and the number of correct outputs, each before its update.
        """
        one_rate = bool((updates.rates == updates.rates[:1]).all())
        per_sample = capacity == 1 and updates.optimizer == spec.SGD and updates.repeats == 1 and one_rate
        if per_sample:
            capacity = PER_SAMPLE_BLOCK
        self.allocate(updates.optimizer, updates.repeats)
        layout = self.layout
        values = _scratch(layout.n_values * capacity, self.dtype)
        deltas = _scratch(layout.n_values * capacity, self.dtype)
        scores = np.empty((capacity, 3))
        work = self._multiply_adds(packed) * capacity
        totals = np.zeros(3)
        threads = count_threads(threads)
        workers = threads if work > _PARALLEL_FROM else 1
        tiles = self.table[:1] if per_sample else self.table  # per-sample SGD splits only the first layer
        workers = max(1, min(workers, int(tiles[:, spec.OUT_TILES].max()) // _TILES_PER_WORKER))
        fixed = packed.blocks(self.dtype, capacity, threads) if order is None else None
        gram = packed.gram(self.dtype, fixed, threads, True) if fixed is not None and per_sample else None
        for first, last in _slices(-(-n_samples // capacity), work):
            row_0, row_1 = first * capacity, min(last * capacity, n_samples)
            if fixed is not None:
                blocks = _some_blocks(fixed, first, last, row_1 - row_0)
            else:
                assert order is not None
                blocks = packed.blocks(self.dtype, capacity, threads, order[row_0:row_1])
            dropout = self._dropout(draws, mask_only, row_0, row_1 - row_0, capacity, per_sample, threads)
            some = _some_rows(truth, row_0, row_1, order)
            barrier = np.zeros(1, np.int64)
            if per_sample:
                products = gram[first:last] if gram is not None else packed.gram(self.dtype, blocks, threads, False)
                run_workers(
                    sgd.train_per_sample, workers, barrier, blocks, products, self.table, self.params, dropout,
                    some, updates.loss, float(updates.rates[0]), values, deltas, totals,
                )  # fmt: skip
            else:
                weights = sgd.Parameters(self.params, self.grads, self.slot_1, self.slot_2)
                slice_updates = updates._replace(
                    rates=updates.rates[first:last], steps_before=updates.steps_before + first
                )
                run_workers(
                    sgd.train_batches, workers, barrier, blocks, self.table, weights, dropout, some, slice_updates,
                    values, deltas, scores, totals,
                )  # fmt: skip
            if progress is not None:
                progress(row_1)
        return float(totals[0]), float(totals[1]), int(totals[2])

    def _dropout(
        self,
        draws: Draws,
        mask_only: bool,
        row_0: int,
        n_rows: int,
        capacity: int,
        per_sample: bool,
        workers: int,
    ) -> Dropout:
        hidden = self.layout.sizes[1:-1]
        if draws.rate == 0 or not hidden:
            return no_dropout()
        mask = draws.take(row_0, n_rows, 1 if per_sample else capacity, hidden, workers)
        if per_sample and len(hidden) > 1:
            mask = _by_layer(mask, n_rows, capacity, hidden)
        scale = 1 / (1 - draws.rate)
        return Dropout(mask, scale, 1.0, 1.0) if mask_only else Dropout(mask, scale, 1 / scale, scale)

    def infer(
        self, packed: Packed, truth: Truth | None, threads: int | None, want_outputs: bool = False
    ) -> tuple[NDArray[np.float64], Floats]:
        """Scores of all rows, (N, 3), if there is a `truth`; outputs, (N, O), if wanted; else with no rows."""
        n, n_out = len(packed), self.layout.sizes[-1]
        outputs = np.empty((n if want_outputs else 0, n_out), self.dtype)
        scores = np.empty((0 if truth is None else n, 3))
        if truth is None:
            truth = Truth(np.zeros(n, np.int64), np.empty(0, self.dtype))
        capacity = EVALUATION_BLOCK
        threads = count_threads(threads)
        blocks = packed.blocks(self.dtype, capacity, threads)
        per_block = self._multiply_adds(packed) * capacity
        for first, last in _slices(len(blocks.start), per_block):
            row_0, row_1 = first * capacity, min(last * capacity, n)
            workers = min(threads, last - first) if per_block * (last - first) > _PARALLEL_FROM else 1
            run_workers(
                infer, workers, _some_blocks(blocks, first, last, row_1 - row_0), self.table, self.params,
                no_dropout(), _some_rows(truth, row_0, row_1, None),
                _scratch(workers * capacity * self.layout.n_values, self.dtype),
                outputs[row_0:row_1], scores[row_0:row_1],
            )  # fmt: skip
        return scores, outputs

    def _multiply_adds(self, packed: Packed) -> int:
        """Multiply-adds of the two first-layer products for one sample, and three times the layers above."""
        sizes = self.layout.sizes
        inputs = packed.density * sizes[0]
        return int(2 * inputs * sizes[1] + 3 * sum(a * b for a, b in itertools.pairwise(sizes[1:]))) + 1


def no_dropout() -> Dropout:
    """Return what kernels read as: no dropout."""
    return Dropout(np.empty(0, np.uint8), 0.0, 1.0, 0.0)


def _by_layer(mask: NDArray[np.uint8], n_rows: int, capacity: int, sizes: Sequence[int]) -> NDArray[np.uint8]:
    """Draws made sample by sample, rearranged as a block of samples lays them out: layer by layer, row by row."""
    out = np.zeros_like(mask)
    width = sum(sizes)
    draws = mask[: n_rows * width].reshape(n_rows, width)
    at = 0
    for row in range(0, n_rows, capacity):
        start = 0
        for size in sizes:
            part = draws[row : row + capacity, start : start + size]
            out[at : at + part.size] = part.ravel()
            at += part.size
            start += size
    return out


def _slices(n_blocks: int, multiply_adds: int) -> Iterator[tuple[int, int]]:
    """Ranges of blocks that take about `_SLICE` seconds each, judged by the ones before."""
    count = max(1, int(_SLICE * 2e9 / multiply_adds))
    first = 0
    while first < n_blocks:
        last = min(n_blocks, first + count)
        started = time.perf_counter()
        yield first, last
        count = max(1, min(4 * count, int((last - first) * _SLICE / (time.perf_counter() - started))))
        first = last


def _some_blocks(blocks: sparse.Blocks, first: int, last: int, n_rows: int) -> sparse.Blocks:
    per_block = blocks.dense.size // max(1, blocks.n_rows) * blocks.capacity
    return blocks._replace(
        n_rows=n_rows,
        start=blocks.start[first:last],
        n_active=blocks.n_active[first:last],
        active=blocks.active[first:last],
        first=blocks.first[first:last],
        dense=blocks.dense[first * per_block : last * per_block],
    )


def _some_rows(truth: Truth, row_0: int, row_1: int, order: NDArray[np.int64] | None) -> Truth:
    rows = slice(row_0, row_1) if order is None else order[row_0:row_1]
    targets = truth.targets
    if targets.size:
        targets = targets.reshape(len(truth.labels), -1)[rows].reshape(-1)
    return Truth(truth.labels[rows], targets)


def truth_of(labels: ArrayLike, n: int, n_out: int, dtype: np.dtype[Any]) -> Truth:
    """Check labels for `n` images and `n_out` outputs.

    Parameters
    ----------
    labels : ndarray, shape (n,) of integers in [0, n_out), or (n, n_out)
        Classes, or a target vector for each image: one-hot, or any finite values.
    n, n_out : int
        What they must fit.
    dtype : dtype
        The float type of the network.

    Returns
    -------
    Truth
        As the kernels read it.
    """
    y = np.asarray(labels)
    if y.shape[:1] != (n,):
        raise ValueError(f"labels have shape {y.shape}, but there are {n} images: one label for each is wanted.")
    if y.ndim == 1:
        if y.dtype.kind not in "iu":
            raise TypeError(
                f"labels have dtype {y.dtype}; one-dimensional labels are class numbers, so integers are wanted. "
                "Try labels.astype(int), or pass target vectors of shape (N, O)."
            )
        low, high = int(y.min()), int(y.max())
        if low < 0 or high >= n_out:
            raise ValueError(
                f"labels lie between {low} and {high}; the network has {n_out} outputs, so 0 to {n_out - 1} are "
                "accepted."
            )
        return Truth(y.astype(np.int64), np.empty(0, dtype))
    if y.shape != (n, n_out):
        raise ValueError(f"labels have shape {y.shape}; ({n},) integers or ({n}, {n_out}) targets are wanted.")
    if y.dtype.kind not in "biuf":
        raise TypeError(f"labels have dtype {y.dtype}; target vectors must be real numbers.")
    best = np.argmax(y, axis=1)
    one_hot = np.count_nonzero(y) == n and bool((y[np.arange(n), best] == 1).all())
    if one_hot:
        return Truth(best, np.empty(0, dtype))
    if not np.isfinite(y).all():
        raise ValueError("labels hold NaN or infinity; all targets must be finite.")
    padded = np.zeros((n, spec.padded(n_out, dtype.itemsize)), dtype)
    padded[:, :n_out] = y
    return Truth(best, padded.reshape(-1))
