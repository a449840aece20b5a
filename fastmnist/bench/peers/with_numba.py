"""The scripts' loops written out and put under ``@njit``, with nothing else done for speed."""

import numba
import numpy as np

from fastmnist.bench.rows import Array, Side, Work


def every_pixel(work: Work) -> Side:
    """Multiply every pixel."""
    return _loop(work, skip_zeros=False)


def non_zero_pixels(work: Work) -> Side:
    """Pass over pixels that are zero, with one ``if``."""
    return _loop(work, skip_zeros=True)


def _loop(work: Work, skip_zeros: bool) -> Side:
    row, images, targets = work.row, work.floats(), work.targets()
    weights, _ = work.parameters()
    number = np.dtype(row.dtype).type

    def run() -> None:
        masks = work.draw_masks()
        _epoch(
            images,
            targets,
            *weights,
            np.full((1, 1), 0, row.dtype) if masks is None else masks * number(2),
            number(row.learning_rate),
            row.batch_size,
            row.updates_per_batch,
            skip_zeros,
        )

    return Side(run, lambda: weights)


@numba.njit
def _epoch(
    images: Array,
    targets: Array,
    weights_0: Array,
    weights_1: Array,
    masks: Array,
    alpha: float,
    size: int,
    repeats: int,
    skip_zeros: bool,
) -> None:
    inputs, hidden = weights_0.shape
    outputs = weights_1.shape[1]
    dropout = len(masks) == len(images)
    half = images.dtype.type(0.5)
    values = np.empty((size, hidden), images.dtype)
    deltas = np.empty((size, outputs), images.dtype)
    hidden_deltas = np.empty((size, hidden), images.dtype)
    for start in range(0, len(images), size):
        for r in range(size):
            values[r] = 0
            for i in range(inputs):
                x = images[start + r, i]
                if not (skip_zeros and x == 0):
                    for h in range(hidden):
                        values[r, h] += x * weights_0[i, h]
            for h in range(hidden):
                values[r, h] = max(values[r, h], images.dtype.type(0))
                if dropout:
                    values[r, h] *= masks[start + r, h]
            deltas[r] = -targets[start + r]
            for h in range(hidden):
                for o in range(outputs):
                    deltas[r, o] += values[r, h] * weights_1[h, o]
        deltas /= images.dtype.type(size)
        for _ in range(repeats):
            hidden_deltas[:] = 0
            for r in range(size):
                for h in range(hidden):
                    for o in range(outputs):
                        hidden_deltas[r, h] += deltas[r, o] * weights_1[h, o]
                    if dropout:
                        hidden_deltas[r, h] *= half * masks[start + r, h]
            for r in range(size):
                for h in range(hidden):
                    for o in range(outputs):
                        weights_1[h, o] -= alpha * values[r, h] * deltas[r, o]
                for i in range(inputs):
                    x = alpha * images[start + r, i]
                    if not (skip_zeros and x == 0):
                        for h in range(hidden):
                            weights_0[i, h] -= x * hidden_deltas[r, h]
