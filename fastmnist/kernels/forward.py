"""The forward pass of a block, and evaluation and prediction over many blocks.

Values of a layer are stored ``(tiles, capacity, V)``; all layers of a block follow one another in one scratch vector.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastmnist._jit import ONE, ZERO, entry, inlined, kernel
from fastmnist.kernels.barrier import take
from fastmnist.kernels.dense import dots, product
from fastmnist.kernels.held import held
from fastmnist.kernels.pointwise import activate, finish_outputs, score_outputs
from fastmnist.kernels.simd import W1, lanes_of, vload, vsplat, vstore
from fastmnist.kernels.sparse import PARTS, decode_values, panel_part, rows_of, sparse_forward, values_at
from fastmnist.spec import (
    ACTIVATION,
    BIASES,
    IN_TILES,
    MASK,
    N_IN,
    N_OUT,
    OUT_TILES,
    ROWS,
    VALUES,
    WEIGHTS,
    Logarithm,
)


class Truth(NamedTuple):
    """What the rows of the blocks should give."""

    labels: np.ndarray  # (n_rows,) int64: the class, or the argmax of the target vector
    targets: np.ndarray  # (n_rows, tiles * V) flattened float, empty where the targets are one-hot
    weights: np.ndarray  # (n_rows,) float64: factor on a row's losses and gradient; empty where all are 1
    logarithm: Logarithm  # of the cross-entropies that are reported
    threshold: float  # outputs above it count as 1 in `score_outputs`; NaN if nobody asks


class Dropout(NamedTuple):
    """Dropout draws of the rows of the blocks, and what is done with them."""

    mask: np.ndarray  # uint8, in drawing order, at least one tile longer than the draws; empty without dropout
    # (layers, 3) float64: the factor on kept values, 0 without dropout; that on values before the activation's gradient
    # is taken; that on kept gradients, 0 without dropout
    scales: np.ndarray


@inlined
def mask_start(b, n_rows, blocks, layers, k):
    """Where the draws of hidden layer k for block b start."""
    n_hidden = layers[layers.shape[0] - 1, MASK]
    return b * blocks.capacity * n_hidden + n_rows * layers[k, MASK]


@kernel
def set_rows(values, at, row_step, tile_step, r0, r1, t0, t1, params, biases):
    """values[t, r] = biases[t], or 0 where `biases` is -1."""
    lanes = lanes_of(values)
    for t in range(t0, t1):
        tile = vsplat(values.dtype.type(0), W1)
        if biases >= 0:
            tile = vload(params, biases + t * lanes, 0, W1)
        for r in range(r0, r1):
            vstore(values, at + t * tile_step + r * row_step, 0, tile)


@kernel
def first_layer_forward(b, blocks, inputs_at, layers, params, values, at, t0, t1, part_0, part_1):
    """Pre-activations of the first layer's tiles t0 <= t < t1 for block b; the biases go with the first part.

    Of sparse inputs, whose values begin at inputs_at, from parts part_0 <= part < part_1; dense ones are always taken
    whole.
    """
    lanes = lanes_of(values)
    n_rows = rows_of(b, blocks)
    n_in = layers[0, N_IN]
    n_tiles = layers[0, OUT_TILES]
    step = blocks.capacity * lanes
    biases = layers[0, BIASES] if part_0 == 0 else np.int64(-1)
    set_rows(values, at, lanes, step, ZERO, n_rows, t0, t1, params, biases)
    if blocks.dense.size:
        row_0 = b * blocks.capacity * n_in
        t = t0
        while t < t1:
            n, part, row_length = panel_part(t, t1, n_tiles, layers[0, ROWS], lanes)
            product(
                blocks.dense, row_0, n_in, ONE, params, layers[0, WEIGHTS] + part, row_length, lanes,
                values, at + t * step, lanes, step, n_rows, n_in, n,
            )  # fmt: skip
            t += n
    else:
        sparse_forward(
            b, blocks, inputs_at, params, layers[0, WEIGHTS], layers[0, ROWS], n_tiles, values, at, t0, t1,
            part_0, part_1,
        )  # fmt: skip


@inlined
def upper_layers_forward(b, blocks, layers, params, dropout, values, at, r0, r1):
    """Layers after the first for rows r0 <= r < r1 of block b, up to the finished outputs."""
    lanes = lanes_of(values)
    capacity = blocks.capacity
    step = capacity * lanes
    n_layers = layers.shape[0]
    n_rows = rows_of(b, blocks)
    for k in range(1, n_layers):
        below = at + layers[k - 1, VALUES] * capacity
        here = at + layers[k, VALUES] * capacity
        tiles = layers[k, OUT_TILES]
        set_rows(values, here, lanes, step, r0, r1, ZERO, tiles, params, layers[k, BIASES])
        n_out = layers[k, N_OUT]
        dots(
            values,
            below,
            params,
            layers[k, WEIGHTS],
            values,
            here,
            capacity,
            r0,
            r1,
            layers[k, IN_TILES],
            n_out,
        )
        if k < n_layers - 1:
            draws = mask_start(b, n_rows, blocks, layers, k)
            activate(
                values, here, lanes, step, r0, r1, n_out, ZERO, tiles, layers[k, ACTIVATION],
                dropout.mask, draws, n_out, dropout.scales[k, 0],
            )  # fmt: skip
    last = n_layers - 1
    here = at + layers[last, VALUES] * capacity
    for r in range(r0, r1):
        finish_outputs(values, here + r * lanes, step, layers[last, N_OUT], layers[last, ACTIVATION])


@inlined
def score_row(b, r, blocks, layers, truth, values, at):
    """`score_outputs` of row r of block b, its losses times the row's weight."""
    lanes = lanes_of(values)
    last = layers.shape[0] - 1
    n = b * blocks.capacity + r
    n_out = layers[last, N_OUT]
    here = at + layers[last, VALUES] * blocks.capacity + r * lanes
    squared, entropy, correct, sides = score_outputs(
        values, here, blocks.capacity * lanes, n_out, layers[last, ACTIVATION], truth.labels[n], truth.targets,
        n * layers[last, OUT_TILES] * lanes, truth.logarithm, truth.threshold,
    )  # fmt: skip
    weight = row_weight(truth, n)
    return weight * squared, weight * entropy, correct, sides


@inlined
def row_weight(truth, n):
    """Weight of row n."""
    return truth.weights[n] if truth.weights.size else 1.0


@entry
def infer(w, n_workers, queue, blocks, layers, params, dropout, truth, values, outputs, scores):
    """Outputs and scores of all rows, without dropout; a worker takes whole blocks.

    values: scratch, a block's values for each worker; outputs (n_rows, O), or (0, O) if not wanted; scores (n_rows, 4)
    from `score_row`, or (0, 4) if not wanted.
    """
    blocks, dropout, truth = held(blocks), held(dropout), held(truth)
    lanes = lanes_of(values)
    n_blocks = blocks.start.size
    last = layers.shape[0] - 1
    scratch = values.size // n_workers
    step = blocks.capacity * lanes
    at = w * scratch
    b = take(queue)
    while b < n_blocks:
        n_rows = rows_of(b, blocks)
        decode_values(b, blocks, w, n_workers)
        inputs_at = values_at(b, blocks, w, n_workers)
        first_layer_forward(b, blocks, inputs_at, layers, params, values, at, ZERO, layers[0, OUT_TILES], ZERO, PARTS)
        if last > 0:
            activate(
                values, at, lanes, step, ZERO, n_rows, layers[0, N_OUT], ZERO, layers[0, OUT_TILES],
                layers[0, ACTIVATION], dropout.mask, ZERO, ZERO, 0.0,
            )  # fmt: skip
        upper_layers_forward(b, blocks, layers, params, dropout, values, at, ZERO, n_rows)
        here = at + layers[last, VALUES] * blocks.capacity
        for r in range(n_rows):
            n = b * blocks.capacity + r
            if scores.shape[0]:
                squared, entropy, correct, sides = score_row(b, r, blocks, layers, truth, values, at)
                scores[n, 0] = squared
                scores[n, 1] = entropy
                scores[n, 2] = correct
                scores[n, 3] = sides
            if outputs.shape[0]:
                for o in range(layers[last, N_OUT]):
                    outputs[n, o] = values[here + o // lanes * step + r * lanes + o % lanes]
        b = take(queue)
