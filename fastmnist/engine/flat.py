"""A dense network in the kernels' layout: parameters in, an epoch or an evaluation, parameters out."""

from __future__ import annotations

import itertools
import math
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmnist import spec
from fastmnist.engine.draws import Draws
from fastmnist.engine.memory import Floats, scratch, zeros
from fastmnist.engine.packing import PER_SAMPLE_BLOCK, Packed
from fastmnist.engine.threads import count_threads, counter, run_with_helpers, run_workers
from fastmnist.kernels import sgd, sparse
from fastmnist.kernels.barrier import paces_for, schedule
from fastmnist.kernels.forward import Dropout, Truth, infer
from fastmnist.kernels.sgd import Updates

EVALUATION_BLOCK = 64
# Seconds between two returns to Python: Ctrl-C and the progress bar wait this long. Each costs about 0.5 ms on two
# threads, and a shuffled epoch of row E is 0.14 s.
_SLICE = 0.1
# Dense inputs of one slice: bytes are converted to as many floats, 64 MB in single precision.
_DENSE_INPUTS = 1 << 24
# Multiply-adds a second to size the first slice by, as row B does on one thread; row E does 75e9 on two.
_FIRST_GUESS = 25e9
# Multiply-adds, and blocks, of per-sample SGD after which no update may be left over: the next call may begin there,
# whenever it does, with the same result. A run depends on the network and the images alone; the longest take 50 ms.
_RUN, _RUN_BLOCKS = 1_000_000_000, 64
# Multiply-adds of a block below which a second thread costs more than it saves.
_PARALLEL_FROM = 20_000
# Multiply-adds of a call of per-sample SGD from which helpers are woken, and the last panel is split for them (which
# changes last bits: no threads may have a say in it). With a helper, 200 images of row A's network took 9 % longer, 400
# took 10 % less, row A's 1,000, of 13e6, up to 20 % less (AVX2).
_HELPED_FROM = 5_000_000
# Tiles of a layer that make a worker of a mini-batch worth its barriers. Row D, of 13 tiles, took 2.7 us a sample with
# two workers and 4.7 us with one on two cores that nobody else used; beside one busy process 7.6 us and 4.7 us, beside
# two 4.8 us and 7.9 us. With 8 tiles and batches of 32, two workers took 2.2 us and one 2.6 us. Not measured on more
# cores than two.
_TILES_PER_WORKER = 4
# Rows of the largest batch that is one block, and of the blocks that larger ones are taken in: the values of more rows
# leave the caches. On AVX2, batches of 40,000 take 35 to 60 % less in blocks of 500, batches of 4,000 up to 27 % less.
_LARGEST_BLOCK, _PART_OF_A_BATCH = 2000, 500
# First-layer tiles that a worker takes each value of a block through, forward and backward counted apart, from which it
# turns the block's bytes into floats first, and the largest block of floats for which it does: they are to stay in the
# second cache. On AVX2, row E takes 11 % less; 16 units in float32 took 15 % more, batches of 20,000 up to 40 % more.
_DECODED_FROM, _DECODED_BYTES = 8, 1 << 19
# Networks that no call is using, kept for the next one of their kind, and bytes of one that is: making row A's takes
# 0.05 ms, and its calls 0.9; beside calls with large networks it is nothing.
_KEPT, _KEPT_BYTES = 4, 1 << 22


class Totals(NamedTuple):
    """Sums over the samples of one training call, each before its update."""

    squared: float  # squared errors, sum_o (o - t)**2, times the sample's weight
    entropy: float  # cross-entropies, times the sample's weight
    correct: int  # samples whose argmax is the target's
    right_side: int  # outputs on their target's side of the truth's threshold
    penalty: float  # the penalties on the parameters, once for each sample


class FlatNetwork:
    """A dense network in the kernels' layout, with the memory that its training needs.

    Parameters
    ----------
    n_inputs : int
        Inputs.
    layers : sequence of spec.Layer
        Its layers, the first hidden one first.
    dtype : dtype
        float32 or float64.
    straight_through : bool, default False
        Let gradients pass through dead ReLU units, see `scripts.sgd_epoch`.
    """

    def __init__(
        self, n_inputs: int, layers: Sequence[spec.Layer], dtype: np.dtype[Any], straight_through: bool = False
    ) -> None:
        self.layers = tuple(layers)
        self.dtype = dtype
        self.kind = n_inputs, self.layers, dtype, straight_through
        self.layout = spec.Layout(
            (n_inputs, *(layer.units for layer in layers)), tuple(layer.biases for layer in layers), dtype.itemsize
        )
        codes = [spec.ACTIVATIONS[layer.activation] for layer in layers]
        if straight_through:
            codes[:-1] = [spec.RELU_STRAIGHT_THROUGH if code == spec.RELU else code for code in codes[:-1]]
        if spec.SOFTMAX in codes[:-1]:
            raise ValueError('activation "softmax" is accepted for the last layer only.')
        if layers[-1].dropout:
            raise ValueError(f"dropout is {layers[-1].dropout} on the last layer; outputs are never dropped.")
        self.table = np.array(self.layout.table(codes), np.int64)
        self.params = zeros(self.layout.n_parameters, dtype)
        self._undropped = Dropout(np.empty(0, np.uint8), np.tile((0.0, 1.0, 0.0), (len(layers), 1)))
        self._grads = np.empty(0, dtype)
        self._slots = {1: np.empty(0, dtype), 2: np.empty(0, dtype)}
        self._shuffled: sparse.Blocks | None = None  # the last ones, whose memory the next ones take
        self._drawn = np.empty(0, np.uint8)  # memory for dropout draws

    def __getstate__(self) -> dict[str, Any]:
        """Leave memory that is only kept for use again out of copies and pickles."""
        return self.__dict__ | {"_shuffled": None, "_drawn": np.empty(0, np.uint8)}

    @property
    def nbytes(self) -> int:
        """Bytes of parameters, gradient, state and draws."""
        return sum(a.nbytes for a in (self.params, self._grads, *self._slots.values(), self._drawn))

    def _need(self, updates: Updates, slots: Sequence[int]) -> None:
        """Make the gradient and state vectors that the updates need, where there are none yet."""
        if (not updates.direct or updates.repeats > 1) and not self._grads.size:
            self._grads = zeros(self.layout.n_parameters, self.dtype)
        for slot in slots:
            self._slot(slot)

    def _slot(self, slot: int) -> Floats:
        if not self._slots[slot].size:
            self._slots[slot] = zeros(self.layout.n_parameters, self.dtype)
        return self._slots[slot]

    def _views(self, flat: Floats) -> Iterator[tuple[list[tuple[slice, Floats]], Floats | None]]:
        """Each layer's weights, as (I, n) views of `flat` and the columns they are, and its biases."""
        layout = self.layout
        lanes = layout.lanes
        for k, (n_in, n_out) in enumerate(itertools.pairwise(layout.sizes)):
            at, biases_at = layout.offsets[k]
            if k == 0:
                weights = []
                for tile, n_tiles in layout.panels:
                    columns = slice(tile * lanes, min((tile + n_tiles) * lanes, n_out))
                    whole = flat[at : at + layout.n_rows * n_tiles * lanes].reshape(layout.n_rows, -1)
                    weights.append((columns, whole[:n_in, : columns.stop - columns.start]))
                    at += whole.size
            else:
                whole = flat[at : at + n_out * layout.tiles(n_in) * lanes].reshape(n_out, -1)
                weights = [(slice(None), whole[:, :n_in].T)]
            yield weights, flat[biases_at : biases_at + n_out] if biases_at >= 0 else None

    def _copy_in(self, flat: Floats, weights: Sequence[Floats], biases: Sequence[Floats | None] | None) -> None:
        flat[:] = 0  # after a divergence there may be NaN in the padding
        for k, (views, bias_view) in enumerate(self._views(flat)):
            for columns, view in views:
                view[:] = weights[k][:, columns]
            if bias_view is not None and biases is not None:
                bias_view[:] = biases[k]

    def _copy_out(self, flat: Floats, weights: Sequence[Floats], biases: Sequence[Floats | None] | None) -> None:
        for k, (views, bias_view) in enumerate(self._views(flat)):
            for columns, view in views:
                weights[k][:, columns] = view
            bias = biases[k] if biases is not None else None
            if bias_view is not None and bias is not None:
                bias[:] = bias_view

    def set(self, weights: Sequence[Floats], biases: Sequence[Floats | None] | None) -> None:
        """Take over (I, O) weights and (O,) biases; None where a layer has none."""
        self._copy_in(self.params, weights, biases)

    def get(self, weights: Sequence[Floats], biases: Sequence[Floats | None] | None) -> None:
        """Write the parameters into (I, O) weights and (O,) biases."""
        self._copy_out(self.params, weights, biases)

    def set_state(self, slot: int, weights: Sequence[Floats], biases: Sequence[Floats | None] | None) -> None:
        """Take over an optimiser's state, arrays as in `set`. Slot 1: momentum, Adam's m; slot 2: running squares."""
        self._copy_in(self._slot(slot), weights, biases)

    def state(self, slot: int, weights: Sequence[Floats], biases: Sequence[Floats | None] | None) -> None:
        """Write an optimiser's state into arrays as in `get`."""
        self._copy_out(self._slot(slot), weights, biases)

    def reset_state(self) -> None:
        """Forget the optimiser's state."""
        self._slots = {slot: np.empty(0, self.dtype) for slot in self._slots}

    def penalty(self) -> float:
        """Return the penalties on the parameters as they are."""
        total = 0.0
        for layer, (views, biases) in zip(self.layers, self._views(self.params), strict=True):
            l1, l2, bias_l1, bias_l2 = layer.penalties
            for _, weights in views:
                total += l1 * float(np.abs(weights).sum()) + l2 * float(np.square(weights).sum())
            if biases is not None:
                total += bias_l1 * float(np.abs(biases).sum()) + bias_l2 * float(np.square(biases).sum())
        return total

    def train(
        self,
        packed: Packed,
        truth: Truth,
        *,
        batch_size: int,
        rates: NDArray[np.float64],
        optimizer: spec.Optimizer,
        loss: str,
        order: NDArray[np.int64] | None = None,
        steps_before: int = 0,
        loss_scale: float = 1.0,
        repeats: int = 1,
        draws: Draws | None = None,
        dropout_gradient: str = "scaled",
        first_row: int = 0,
        each: Floats | None = None,
        threads: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Totals:
        """Train on samples in the order given, a step for each batch.

        Parameters
        ----------
        packed : Packed
            Images.
        truth : Truth
            From `truth_of`, for all images.
        batch_size : int
            Samples of a batch; the last one may have fewer.
        rates : ndarray, shape (steps,), float64
            Learning rate of each step; training ends with the last one.
        optimizer : spec.Optimizer
            Update rule.
        loss : str
            "cross_entropy" for a softmax or sigmoid output; or "squared_error", whose gradient is (o - t) f'(o).
        order : ndarray of int64, optional
            Indices of the samples. Default: as they are.
        steps_before : int, default 0
            Steps that this optimiser has taken.
        loss_scale : float, default 1
            Factor on the gradient of the loss.
        repeats : int, default 1
            Updates from each batch's outputs, plain SGD only.
        draws : Draws, optional
            Where dropout draws come from.
        dropout_gradient : str, default "scaled"
            See `scripts.sgd_epoch`.
        first_row : int, default 0
            Number of the first sample within the epoch, for counter-based draws.
        each : ndarray, shape (steps, 5), float64, optional
            Gets each step's share of what is returned.
        threads : int, optional
            Threads to use; the result does not depend on it.
        progress : callable, optional
            Called with the number of samples done, several times a second. May raise to stop.
        """
        n_samples = self._count_samples(packed, order, batch_size, len(rates))
        capacity = self._block_size(batch_size, n_samples, repeats, draws)
        per_step = -(-batch_size // capacity)
        updates = self._updates(optimizer, loss, loss_scale, rates, per_step, steps_before, repeats)
        one_rate = bool((rates == rates[:1]).all())
        per_sample = batch_size == 1 and updates.direct and repeats == 1 and one_rate
        if per_sample:
            capacity = PER_SAMPLE_BLOCK
        self._need(updates, spec.SLOTS[optimizer.name])
        layout = self.layout
        n_values = layout.n_values * capacity
        if per_sample:
            aside = spec.PANEL_MOST * layout.lanes * capacity
            values = scratch(2 * (n_values + aside), self.dtype).reshape(2, -1)
            deltas = scratch(2 * n_values, self.dtype).reshape(2, -1)
        else:
            values, deltas = scratch(n_values, self.dtype), scratch(n_values, self.dtype)
        scores = np.empty((capacity, 4))
        totals = np.zeros((1, 5)) if each is None else each
        totals[:] = 0
        for_one = self._multiply_adds(packed)
        work = for_one * capacity
        threads = count_threads(threads)
        workers = threads if work > _PARALLEL_FROM else 1
        helped = per_sample and for_one * n_samples > _HELPED_FROM
        split = helped and work > _PARALLEL_FROM and packed.shape[1] > sparse.FIRST_PART
        if per_sample:
            workers = min(workers, 1 + len(layout.panels)) if helped else 1
        else:
            workers = max(1, min(workers, int(self.table[:, spec.OUT_TILES].max()) // _TILES_PER_WORKER))
        run = min(max(1, _RUN // work), _RUN_BLOCKS) if per_sample else per_step
        dense = packed.dense and not per_sample
        fixed = packed.blocks(self.dtype, capacity, threads) if order is None and not dense else None
        gram = packed.gram(self.dtype, fixed, threads, True) if fixed is not None and per_sample else None
        dense_inputs = capacity * packed.shape[1] if dense else 0
        for first, last in _slices(-(-n_samples // capacity), run, work, dense_inputs):
            row_0, row_1 = first * capacity, min(last * capacity, n_samples)
            rows = slice(row_0, row_1) if order is None else order[row_0:row_1]
            if dense:
                blocks = packed.dense_blocks(self.dtype, capacity, rows)
            elif isinstance(rows, np.ndarray):
                blocks = self._shuffled = packed.blocks(self.dtype, capacity, threads, rows, self._shuffled)
            else:
                assert fixed is not None
                blocks = _some_blocks(fixed, first, last, row_1 - row_0)
            dropout = self._dropout(
                draws, dropout_gradient, first_row + row_0, row_1 - row_0, capacity, per_sample, threads
            )
            some = _some_rows(truth, rows)
            steps = slice(row_0, row_1) if per_sample else slice(first // per_step, -(-last // per_step))
            some_totals = totals if each is None else totals[steps]
            if per_sample:
                products = gram[first:last] if gram is not None else packed.gram(self.dtype, blocks, threads, False)
                run_with_helpers(
                    sgd.train_per_sample, workers, schedule(), run, int(split), blocks, products.reshape(-1),
                    self.table, self.params, dropout, some, updates.loss, -float(rates[0]) * loss_scale,
                    values, deltas, some_totals,
                )  # fmt: skip
            else:
                factors = np.ones((len(self.layers), 2))
                tiles = 2 * int(self.table[0, spec.OUT_TILES]) // workers
                weights = sgd.Parameters(self.params, self._grads, self._slots[1], self._slots[2], factors)
                some_updates = updates._replace(rates=rates[steps], steps_before=steps_before + steps.start)
                run_workers(
                    sgd.train_batches, workers, counter(), paces_for(workers), _decoding(blocks, workers, tiles),
                    self.table, weights, dropout, some, some_updates, values, deltas, scores, some_totals,
                )  # fmt: skip
            if progress is not None:
                progress(row_1)
        squared, entropy, correct, right_side, penalty = totals.sum(axis=0).tolist()
        return Totals(squared, entropy, int(correct), int(right_side), penalty)

    def _block_size(self, batch_size: int, n_samples: int, repeats: int, draws: Draws | None) -> int:
        """Return how many rows of a batch the kernel takes at a time: all of them, unless the batch is large.

        All even then, if the blocks of each batch would not be of one size, if updates are repeated, or if a stream's
        draws are made for the whole batch, layer by layer.
        """
        drops = any(layer.dropout for layer in self.layers)
        by_layer = drops and draws is not None and not draws.are_numbered and len(self.layers) > 2
        if batch_size <= _LARGEST_BLOCK or repeats > 1 or by_layer:
            return batch_size
        if n_samples <= batch_size:
            return _PART_OF_A_BATCH
        sizes = range(_PART_OF_A_BATCH, _PART_OF_A_BATCH // 4, -1)
        return next((size for size in sizes if batch_size % size == 0), batch_size)

    @staticmethod
    def _count_samples(packed: Packed, order: NDArray[np.int64] | None, batch_size: int, steps: int) -> int:
        """Count the samples of so many steps; kernels would read past the end of what is not there."""
        there = len(packed if order is None else order)
        if steps > -(-there // batch_size):
            raise ValueError(
                f"there are {steps} learning rates; {there} samples make {-(-there // batch_size)} batches."
            )
        if order is not None and there and not (0 <= order.min() and order.max() < len(packed)):
            raise ValueError(f"order goes from {order.min()} to {order.max()}; there are {len(packed)} samples.")
        return min(there, steps * batch_size)

    def _updates(
        self,
        optimizer: spec.Optimizer,
        loss: str,
        loss_scale: float,
        rates: NDArray[np.float64],
        blocks_per_step: int,
        steps_before: int,
        repeats: int,
    ) -> Updates:
        penalties = [layer.penalties for layer in self.layers]
        penalized = any(map(any, penalties))
        changed = optimizer.weight_decay or optimizer.clip_value or optimizer.clip_norm or optimizer.global_clip_norm
        plain = optimizer.name == "sgd" and not penalized and not changed
        if repeats > 1 and not plain:
            raise ValueError(f"repeats is {repeats}; updates can be repeated with plain SGD only.")
        return Updates(
            loss=spec.LOSSES[loss],
            loss_scale=float(loss_scale),
            optimizer=spec.OPTIMIZERS[optimizer.name],
            rates=rates,
            blocks_per_step=blocks_per_step,
            steps_before=steps_before,
            decay_1=float(optimizer.decay_1),
            decay_2=float(optimizer.decay_2),
            epsilon=float(optimizer.epsilon),
            weight_decay=float(optimizer.weight_decay),
            clip_value=float(optimizer.clip_value),
            clip_norm=float(optimizer.clip_norm),
            global_clip_norm=float(optimizer.global_clip_norm),
            penalties=np.array(penalties if penalized else np.empty((0, 4)), np.float64),
            repeats=repeats,
            direct=plain and blocks_per_step == 1,
        )

    def _dropout(
        self,
        draws: Draws | None,
        gradient: str,
        row_0: int,
        n_rows: int,
        capacity: int,
        per_sample: bool,
        workers: int,
    ) -> Dropout:
        hidden = self.layout.sizes[1:-1]
        rates = [layer.dropout for layer in self.layers[:-1]]
        if draws is None or not any(rates):
            return self._undropped
        size = n_rows * sum(hidden) + spec.TILE_BYTES
        if self._drawn.size < size:
            self._drawn = scratch(size, np.dtype(np.uint8))
        mask = self._drawn[:size]
        draws.take(row_0, n_rows, 1 if per_sample else capacity, hidden, rates, workers, mask[: -spec.TILE_BYTES])
        if per_sample and len(hidden) > 1:
            mask = _by_layer(mask, n_rows, capacity, hidden)
        scales = self._undropped.scales.copy()
        for k, rate in enumerate(rates):
            if rate:
                keep = 1 / (1 - rate)
                scales[k] = {"scaled": (keep, 1 / keep, keep), "mask": (keep, 1, 1), "value": (keep, 1, keep)}[gradient]
        return Dropout(mask, scales)

    def infer(
        self, packed: Packed, truth: Truth | None, threads: int | None, want_outputs: bool = False
    ) -> tuple[NDArray[np.float64], Floats]:
        """Scores, (N, 4) as in `Totals`, if there is a `truth`, and outputs, (N, O), if wanted; else no rows."""
        n, n_out = len(packed), self.layout.sizes[-1]
        outputs = np.empty((n if want_outputs else 0, n_out), self.dtype)
        scores = np.empty((0 if truth is None else n, 4))
        if truth is None:
            truth = Truth(np.zeros(n, np.int64), np.empty(0, self.dtype), np.empty(0), spec.Logarithm(), np.nan)
        capacity = EVALUATION_BLOCK
        threads = count_threads(threads)
        fixed = None if packed.dense else packed.blocks(self.dtype, capacity, threads)
        per_block = self._multiply_adds(packed) * capacity
        for first, last in _slices(-(-n // capacity), 1, per_block, capacity * packed.shape[1] if packed.dense else 0):
            row_0, row_1 = first * capacity, min(last * capacity, n)
            rows = slice(row_0, row_1)
            if fixed is None:
                blocks = packed.dense_blocks(self.dtype, capacity, rows)
            else:
                blocks = _some_blocks(fixed, first, last, row_1 - row_0)
            workers = min(threads, last - first) if per_block * (last - first) > _PARALLEL_FROM else 1
            run_workers(
                infer, workers, counter(), _decoding(blocks, workers, int(self.table[0, spec.OUT_TILES])),
                self.table, self.params, self._undropped, _some_rows(truth, rows),
                scratch(workers * capacity * self.layout.n_values, self.dtype),
                outputs[row_0:row_1], scores[row_0:row_1],
            )  # fmt: skip
        return scores, outputs

    def _multiply_adds(self, packed: Packed) -> int:
        """Multiply-adds of the two first-layer products for one sample, and three times the layers above."""
        sizes = self.layout.sizes
        inputs = packed.density * sizes[0]
        return int(2 * inputs * sizes[1] + 3 * sum(a * b for a, b in itertools.pairwise(sizes[1:]))) + 1


_idle: OrderedDict[tuple[Any, ...], FlatNetwork] = OrderedDict()


def borrow(n_inputs: int, layers: tuple[spec.Layer, ...], dtype: np.dtype[Any], straight_through: bool) -> FlatNetwork:
    """Return a network whose parameters are yet to be set: one that has been given back, or a new one."""
    kept = _idle.pop((n_inputs, layers, dtype, straight_through), None)
    return kept or FlatNetwork(n_inputs, layers, dtype, straight_through)


def give_back(network: FlatNetwork) -> None:
    """Keep a network for the next call that borrows one of its kind, unless it is large."""
    if network.nbytes > _KEPT_BYTES:
        return
    _idle[network.kind] = network
    while len(_idle) > _KEPT:
        _idle.popitem(last=False)


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


def _slices(n_blocks: int, run: int, multiply_adds: int, dense_inputs: int) -> Iterator[tuple[int, int]]:
    """Ranges of whole runs of blocks that take about `_SLICE` seconds each, judged by the ones before.

    Both costs are those of one block; dense_inputs is 0 where the images are not dense.
    """
    most = max(1, _DENSE_INPUTS // dense_inputs) if dense_inputs else n_blocks
    count = max(1, int(_SLICE * _FIRST_GUESS / multiply_adds))
    first = 0
    while first < n_blocks:
        last = min(n_blocks, first + -(-min(count, most) // run) * run)
        started = time.perf_counter()
        yield first, last
        count = max(1, min(4 * count, int((last - first) * _SLICE / (time.perf_counter() - started))))
        first = last


def _some_blocks(blocks: sparse.Blocks, first: int, last: int, n_rows: int) -> sparse.Blocks:
    return blocks._replace(
        n_rows=n_rows,
        start=blocks.start[first:last],
        n_active=blocks.n_active[first:last],
        active=blocks.active[first:last],
        first=blocks.first[first:last],
    )


def _decoding(blocks: sparse.Blocks, workers: int, tiles: int) -> sparse.Blocks:
    """Blocks whose bytes the workers turn into floats as they go along, if so many tiles make that worth it."""
    size = spec.padded(2 * blocks.most, blocks.table.itemsize)
    if blocks.values.dtype != np.uint8 or tiles < _DECODED_FROM or size * blocks.table.itemsize > _DECODED_BYTES:
        return blocks
    return blocks._replace(codes=blocks.values, values=scratch(2 * workers * size, blocks.table.dtype))


def _some_rows(truth: Truth, rows: slice | NDArray[np.int64]) -> Truth:
    targets = truth.targets
    if targets.size:
        targets = targets.reshape(len(truth.labels), -1)[rows].reshape(-1)
    weights = truth.weights[rows] if truth.weights.size else truth.weights
    return truth._replace(labels=truth.labels[rows], targets=targets, weights=weights)


def truth_of(
    labels: ArrayLike,
    n: int,
    n_out: int,
    dtype: np.dtype[Any],
    *,
    sample_weights: ArrayLike | None = None,
    floor: float = sys.float_info.min,
    threshold: float = math.nan,
) -> Truth:
    """Check labels for `n` images and `n_out` outputs.

    Parameters
    ----------
    labels : ndarray, shape (n,) of integers in [0, n_out), or (n, n_out)
        Classes, or a target vector for each image: one-hot, or any finite values.
    n, n_out : int
        What they must fit.
    dtype : dtype
        The float type of the network.
    sample_weights : ndarray, shape (n,), optional
        Factors on the samples' losses and gradients. Default: 1.
    floor : float
        Probabilities are clipped to [floor, 1 - floor] when their cross-entropy is reported. By default a certain
        mistake costs 708 (87 in float32, whose softmax is never smaller), not infinity.
    threshold : float, default NaN
        Outputs and targets above it count as 1 in `Totals.right_side`; NaN counts nothing.

    Returns
    -------
    Truth
        As the kernels read it.
    """
    y = np.asarray(labels)
    if y.shape[:1] != (n,):
        raise ValueError(f"labels have shape {y.shape}, but there are {n} images: one label for each is wanted.")
    logarithm = spec.Logarithm(floor, 1 - floor)
    weights = np.empty(0) if sample_weights is None else np.array(sample_weights, np.float64)
    if sample_weights is not None and (weights.shape != (n,) or not np.isfinite(weights).all()):
        raise ValueError(f"sample weights have shape {weights.shape}; {n} finite numbers are wanted.")
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
        return Truth(y.astype(np.int64), np.empty(0, dtype), weights, logarithm, threshold)
    if y.shape != (n, n_out):
        raise ValueError(f"labels have shape {y.shape}; ({n},) integers or ({n}, {n_out}) targets are wanted.")
    if y.dtype.kind not in "biuf":
        raise TypeError(f"labels have dtype {y.dtype}; target vectors must be real numbers.")
    best = np.argmax(y, axis=1)
    one_hot = np.count_nonzero(y) == n and bool((y[np.arange(n), best] == 1).all())
    if one_hot:
        return Truth(best, np.empty(0, dtype), weights, logarithm, threshold)
    if not np.isfinite(y).all():
        raise ValueError("labels hold NaN or infinity; all targets must be finite.")
    padded = np.zeros((n, spec.padded(n_out, dtype.itemsize)), dtype)
    padded[:, :n_out] = y
    return Truth(best, padded.reshape(-1), weights, logarithm, threshold)
