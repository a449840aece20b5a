"""Training: exact blocked per-sample SGD, and mini-batch steps with any optimiser.

Both run block by block. A mini-batch goes through two stages, split by tiles of units, then by rows; a block of
per-sample SGD through three, of which worker 0 takes the one that goes row by row. Sums are divided in the same way
whoever takes the parts, so results do not depend on the number of workers. Deltas carry the factor of the update (minus
the learning rate, or the gradient's 1 / B) from the output layer down.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastmnist._jit import ONE, ZERO, entry, inlined, kernel
from fastmnist.kernels.barrier import (
    TIME,
    cycles,
    divide,
    divide_equally,
    job_done,
    meet,
    next_job,
    next_step,
    owned,
)
from fastmnist.kernels.dense import add_rows, back_and_update, clear, product, sum_rows
from fastmnist.kernels.forward import (
    first_layer_forward,
    mask_start,
    row_weight,
    score_row,
    upper_layers_forward,
)
from fastmnist.kernels.held import held
from fastmnist.kernels.pointwise import activate, add_penalty, optimizer_step, output_deltas, through_activation
from fastmnist.kernels.simd import W1, W2, W3, W4, W5, group_size, lanes_of, prefetch, vadd, vfma, vload, vsplat, vstore
from fastmnist.kernels.sparse import (
    PARTS,
    count_panels,
    decode_values,
    gram_row,
    panel_end,
    panel_part,
    rows_of,
    sparse_update,
    values_at,
)
from fastmnist.spec import (
    ACTIVATION,
    ADAM,
    BIASES,
    IN_TILES,
    N_IN,
    N_OUT,
    OUT_TILES,
    PANEL_TILES,
    ROWS,
    VALUES,
    WEIGHTS,
)


class Updates(NamedTuple):
    """Loss and update rule; see `spec.Optimizer` for its constants."""

    loss: int
    loss_scale: float  # factor on the loss's gradient
    optimizer: int
    rates: np.ndarray  # (steps,) float64: the learning rate of each
    blocks_per_step: int  # whose gradients are added up, the last step's perhaps fewer; 1 if direct or repeated
    steps_before: int  # steps taken before the first one
    decay_1: float
    decay_2: float
    epsilon: float
    weight_decay: float
    clip_value: float
    clip_norm: float
    global_clip_norm: float
    penalties: np.ndarray  # (layers, 4) float64: L1 and L2 of the weights, of the biases; (0, 4) without
    repeats: int  # updates from each block's outputs
    direct: bool  # plain SGD, nothing else: gradients go straight into the parameters


class Parameters(NamedTuple):
    """Flat vectors in the layout of `spec.Layout`."""

    params: np.ndarray
    grads: np.ndarray  # zero before and after; empty where updates are direct and not repeated
    slot_1: np.ndarray  # the optimiser's state, empty where it has none
    slot_2: np.ndarray
    factors: np.ndarray  # (layers, 2) float64: what clipping leaves of the gradients of weights and biases; 1 at first


@kernel
def first_layer_update(b, blocks, inputs_at, layers, deltas, target, t0, t1, part_0, part_1):
    """Target += x^T deltas for the first layer's tiles t0 <= t < t1: weights, and with the first part the biases.

    Of sparse inputs, whose values begin at inputs_at, for parts part_0 <= part < part_1; dense ones are always taken
    whole.
    """
    lanes = lanes_of(target)
    n_rows = rows_of(b, blocks)
    n_in = layers[0, N_IN]
    n_tiles = layers[0, OUT_TILES]
    step = blocks.capacity * lanes
    if blocks.dense.size:
        row_0 = b * blocks.capacity * n_in
        t = t0
        while t < t1:
            n, part, row_length = panel_part(t, t1, n_tiles, layers[0, ROWS], lanes)
            product(
                blocks.dense, row_0, ONE, n_in, deltas, t * step, lanes, step,
                target, layers[0, WEIGHTS] + part, row_length, lanes, n_in, n_rows, n,
            )  # fmt: skip
            t += n
    else:
        sparse_update(
            b, blocks, inputs_at, deltas, ZERO, layers[0, ROWS], n_tiles, target, layers[0, WEIGHTS], t0, t1,
            part_0, part_1,
        )  # fmt: skip
    if part_0 == 0 and layers[0, BIASES] >= 0:
        add_rows(deltas, ZERO, blocks.capacity, n_rows, target, layers[0, BIASES], t0, t1, 1.0)


@inlined
def deltas_of_row(b, r, blocks, layers, truth, loss, values, deltas, scale):
    """`output_deltas` of row r of block b, times the row's weight."""
    lanes = lanes_of(values)
    last = layers.shape[0] - 1
    n = b * blocks.capacity + r
    n_out = layers[last, N_OUT]
    here = layers[last, VALUES] * blocks.capacity + r * lanes
    output_deltas(
        values, deltas, here, blocks.capacity * lanes, n_out, layers[last, ACTIVATION], loss, truth.labels[n],
        truth.targets, n * layers[last, OUT_TILES] * lanes, values.dtype.type(scale * row_weight(truth, n)),
    )  # fmt: skip


@inlined
def deltas_through(b, k, blocks, layers, dropout, values, deltas, r0, r1, t0, t1):
    """`through_activation` of hidden layer k's tiles t0 <= t < t1 and rows r0 <= r < r1."""
    lanes = lanes_of(values)
    n_out = layers[k, N_OUT]
    draws = mask_start(b, rows_of(b, blocks), blocks, layers, k)
    through_activation(
        deltas, values, layers[k, VALUES] * blocks.capacity, lanes, blocks.capacity * lanes, r0, r1, n_out, t0, t1,
        layers[k, ACTIVATION], dropout.mask, draws, n_out, dropout.scales[k, 1], dropout.scales[k, 2],
    )  # fmt: skip


@inlined
def activate_first(b, blocks, layers, dropout, values, r0, r1, t0, t1):
    """Activation and dropout of the first layer, unless it is the output layer."""
    if layers.shape[0] > 1:
        lanes = lanes_of(values)
        n_out = layers[0, N_OUT]
        draws = mask_start(b, rows_of(b, blocks), blocks, layers, ZERO)
        activate(
            values, ZERO, lanes, blocks.capacity * lanes, r0, r1, n_out, t0, t1, layers[0, ACTIVATION],
            dropout.mask, draws, n_out, dropout.scales[0, 0],
        )  # fmt: skip


@inlined
def _fetch_products(b, r, blocks, gram):
    """Have the Gram products of a row fetched while the block before is at work: 3 % of row B's time."""
    lanes = lanes_of(gram)
    begin, own = gram_row(b, r, blocks, lanes)
    for at in range(begin, own + r, lanes):
        prefetch(gram, at)


@inlined
def _fetch_tiles(a, capacity, n_rows, t0, t1):
    """Have tiles fetched that another worker may have written, all at once."""
    lanes = lanes_of(a)
    for t in range(t0, t1):
        for r in range(n_rows):
            prefetch(a, (t * capacity + r) * lanes)


@inlined
def _job_tiles(job, split, n_tiles):
    """Tiles [begin, end) and parts [begin, end) of the inputs of a job: a panel, or a part of the last one if split."""
    n_panels = count_panels(n_tiles)
    t0 = min(job, n_panels - 1) * PANEL_TILES
    part_0 = ONE if job == n_panels else ZERO
    part_1 = ONE if split and job == n_panels - 1 else PARTS
    return t0, panel_end(t0, n_tiles, n_tiles), part_0, part_1


@inlined
def _add_aside(b, blocks, values, aside, n_tiles):
    """Add what the second part of the inputs gave the last panel's tiles."""
    lanes = lanes_of(values)
    t0 = (count_panels(n_tiles) - 1) * PANEL_TILES
    for t in range(t0, n_tiles):
        for r in range(rows_of(b, blocks)):
            p = (t * blocks.capacity + r) * lanes
            vstore(values, p, 0, vadd(vload(values, p, 0, W1), vload(values, aside + p, 0, W1)))


@inlined
def _follow_block(b, blocks, layers, gram, values, before):
    """z_r += sum over the rows s of the block before of (x_r . x_s) delta_s: its update came after the products."""
    lanes = lanes_of(values)
    step = blocks.capacity * lanes
    n_rows = rows_of(b, blocks)
    n_tiles = layers[0, OUT_TILES]
    at, own = gram_row(b, ZERO, blocks, lanes)
    row = 2 * (own - at)
    product(gram, at, row, ONE, before, ZERO, lanes, step, values, ZERO, lanes, step, n_rows, blocks.capacity, n_tiles)
    if layers[0, BIASES] >= 0:
        for t in range(n_tiles):
            total = sum_rows(before, t * step, blocks.capacity)
            for r in range(n_rows):
                p = t * step + r * lanes
                vstore(values, p, 0, vadd(vload(values, p, 0, W1), total))


@inlined
def _recurrence_tiles(values, deltas, at, step, gram, gram_at, r, bias, width):
    lanes = lanes_of(values)
    z = vload(values, at + r * lanes, step, width)
    for s in range(r):
        z = vfma(vsplat(gram[gram_at + s] + bias, width), vload(deltas, at + s * lanes, step, width), z)
    vstore(values, at + r * lanes, step, z)


@inlined
def recurrence(b, r, blocks, layers, gram, values, deltas):
    """z_r += sum over the rows s < r of the block of (x_r . x_s) delta_s: what updating after each would have given.

    A bias is one more input that is always 1, so it adds 1 to each product.
    """
    lanes = lanes_of(values)
    step = blocks.capacity * lanes
    bias = values.dtype.type(layers[0, BIASES] >= 0)
    n_tiles = layers[0, OUT_TILES]
    _, own = gram_row(b, r, blocks, lanes)
    t = 0
    while t < n_tiles:
        n = group_size(n_tiles - t)
        if n == 5:
            _recurrence_tiles(values, deltas, t * step, step, gram, own, r, bias, W5)
        elif n == 4:
            _recurrence_tiles(values, deltas, t * step, step, gram, own, r, bias, W4)
        elif n == 3:
            _recurrence_tiles(values, deltas, t * step, step, gram, own, r, bias, W3)
        elif n == 2:
            _recurrence_tiles(values, deltas, t * step, step, gram, own, r, bias, W2)
        else:
            _recurrence_tiles(values, deltas, t * step, step, gram, own, r, bias, W1)
        t += n


@inlined
def _train_row(b, r, blocks, gram, layers, params, dropout, truth, loss, scale, values, deltas):
    """One sample, all of it but the first layer's products; returns its `score_row`."""
    capacity = blocks.capacity
    n_layers = layers.shape[0]
    recurrence(b, r, blocks, layers, gram, values, deltas)
    activate_first(b, blocks, layers, dropout, values, r, r + 1, ZERO, layers[0, OUT_TILES])
    upper_layers_forward(b, blocks, layers, params, dropout, values, ZERO, r, r + 1)
    score = score_row(b, r, blocks, layers, truth, values, ZERO)
    deltas_of_row(b, r, blocks, layers, truth, loss, values, deltas, scale)
    lanes = lanes_of(values)
    for k in range(n_layers - 1, 0, -1):
        here = layers[k, VALUES] * capacity
        below = layers[k - 1, VALUES] * capacity + r * lanes
        tiles = layers[k, IN_TILES]
        if layers[k, BIASES] >= 0:
            for t in range(layers[k, OUT_TILES]):
                p = layers[k, BIASES] + t * lanes
                d = vload(deltas, here + (t * capacity + r) * lanes, 0, W1)
                vstore(params, p, 0, vfma(vsplat(params.dtype.type(1), W1), d, vload(params, p, 0, W1)))
        back_and_update(
            deltas, here + r * lanes, params, layers[k, WEIGHTS], values, below, deltas, below,
            capacity, layers[k, N_OUT], tiles,
        )  # fmt: skip
        deltas_through(b, k - 1, blocks, layers, dropout, values, deltas, r, r + 1, ZERO, tiles)
    return score


@entry
def train_per_sample(
    w, n_workers, counts, run, split, blocks, gram, layers, params, dropout, truth, loss, scale, values, deltas, totals
):
    """Per-sample SGD, exactly, over blocks whose Gram products are known; adds `score_row` of each row to its totals.

    totals (1, 5) for all rows, or (rows, 5) for each; the fifth number stays as it is.

    A block goes through three steps. In the first, the first layer's products run for all its rows, in the second the
    recurrence and the layers above go row by row, and in the third the first layer is updated. In each step worker 0
    does the second for one block, while the panels' jobs are the third for the block before and the first for the block
    after; what the updates that a product did not see would have added to it is known from the Gram products. After
    `run` blocks nothing is left over, so that a call may end there and the next one go on. split (0 or 1): whether the
    last panel makes two jobs, one for each part of the inputs. scale: minus the learning rate, times the factor on the
    loss's gradient. values, deltas (2, tiles * capacity * V), in turns; values with room for as many more tiles as a
    panel has at most, where the products of the second part lie until they are added.
    """
    blocks, dropout, truth = held(blocks), held(dropout), held(truth)
    n_blocks = blocks.start.size
    n_tiles = layers[0, OUT_TILES]
    n_jobs = count_panels(n_tiles) + split
    aside = values.shape[1] - n_tiles * blocks.capacity * lanes_of(values)  # only the last panel's tiles lie there
    n_steps = n_blocks + 2 * (-(-n_blocks // run))
    step = ZERO
    while step < n_steps:
        first = step // (run + 2) * run
        n = min(run, n_blocks - first)
        k = step % (run + 2)
        if w == 0 and 0 < k <= n:
            b = first + k - 1
            _fetch_tiles(values[(k + 1) % 2], blocks.capacity, rows_of(b, blocks), ZERO, n_tiles)
            if split:
                _add_aside(b, blocks, values[(k + 1) % 2], aside, n_tiles)
            if k > 1:
                _follow_block(b, blocks, layers, gram, values[(k + 1) % 2], deltas[k % 2])
            for r in range(rows_of(b, blocks)):
                if k < n:
                    _fetch_products(b + 1, r, blocks, gram)
                squared, entropy, correct, sides = _train_row(
                    b, r, blocks, gram, layers, params, dropout, truth, loss, scale,
                    values[(k + 1) % 2], deltas[(k + 1) % 2],
                )  # fmt: skip
                at = b * blocks.capacity + r if totals.shape[0] > 1 else ZERO
                totals[at, 0] += squared
                totals[at, 1] += entropy
                totals[at, 2] += correct
                totals[at, 3] += sides
        job = next_job(step, n_jobs, counts)
        while job >= 0:
            t0, t1, part_0, part_1 = _job_tiles(job, split, n_tiles)
            if k >= 2:
                b = first + k - 2
                _fetch_tiles(deltas[k % 2], blocks.capacity, rows_of(b, blocks), t0, t1)
                inputs_at = 2 * blocks.start[b]
                first_layer_update(b, blocks, inputs_at, layers, deltas[k % 2], params, t0, t1, part_0, part_1)
            if k < n:
                b = first + k
                at = aside if part_0 else ZERO
                inputs_at = 2 * blocks.start[b]
                first_layer_forward(b, blocks, inputs_at, layers, params, values[k % 2], at, t0, t1, part_0, part_1)
            job_done(counts)
            job = next_job(step, n_jobs, counts)
        step = next_step(w, step, n_jobs, counts)


@kernel
def _upper_gradient(k, b, blocks, layers, values, deltas, target, t0, t1):
    """target[o, t] += sum_r deltas[r, o] * values[r, t] for layer k's input tiles t0 <= t < t1."""
    lanes = lanes_of(values)
    capacity = blocks.capacity
    step = capacity * lanes
    n_rows = rows_of(b, blocks)
    unit = layers[k, IN_TILES] * lanes
    here = layers[k, VALUES] * capacity
    below = layers[k - 1, VALUES] * capacity + t0 * step
    for tile in range(layers[k, OUT_TILES]):
        n_units = min(lanes, layers[k, N_OUT] - tile * lanes)
        out = layers[k, WEIGHTS] + tile * lanes * unit + t0 * lanes
        product(
            deltas, here + tile * step, ONE, lanes, values, below, lanes, step,
            target, out, unit, lanes, n_units, n_rows, t1 - t0,
        )  # fmt: skip


@kernel
def _back(k, blocks, layers, weights, deltas, r0, r1, t0, t1):
    """deltas[k - 1][r, t] += sum_o deltas[k][r, o] * weights[o, t], rows r0 <= r < r1, tiles t0 <= t < t1."""
    lanes = lanes_of(deltas)
    capacity = blocks.capacity
    step = capacity * lanes
    unit = layers[k, IN_TILES] * lanes
    here = layers[k, VALUES] * capacity + r0 * lanes
    below = layers[k - 1, VALUES] * capacity + r0 * lanes + t0 * step
    for tile in range(layers[k, OUT_TILES]):
        n_units = min(lanes, layers[k, N_OUT] - tile * lanes)
        w = layers[k, WEIGHTS] + tile * lanes * unit + t0 * lanes
        product(
            deltas, here + tile * step, lanes, ONE, weights, w, unit, lanes,
            deltas, below, lanes, step, r1 - r0, n_units, t1 - t0,
        )  # fmt: skip


@inlined
def _collapse_repeats(layers, params, sums, t0, t1, repeats):
    """Tiles of layer 1 after `repeats` equal updates U (in `sums`): params = W + r U, sums = sum of the W on the way.

    W + m U for m = 0 .. r - 1 add up to r W + r (r - 1) / 2 U.
    """
    lanes = lanes_of(params)
    unit = layers[1, IN_TILES] * lanes
    r = vsplat(params.dtype.type(repeats), W1)
    pairs = vsplat(params.dtype.type(repeats * (repeats - 1) / 2), W1)
    zero = vsplat(params.dtype.type(0), W1)
    for o in range(layers[1, N_OUT]):
        for t in range(t0, t1):
            p = layers[1, WEIGHTS] + o * unit + t * lanes
            w = vload(params, p, 0, W1)
            u = vload(sums, p, 0, W1)
            vstore(params, p, 0, vfma(r, u, w))
            vstore(sums, p, 0, vfma(r, w, vfma(pairs, u, zero)))


@kernel
def _gradients(b, repeat, blocks, inputs_at, layers, weights, dropout, updates, values, deltas, t, end):
    """Tiles t to `end`, of one panel: the first layer's deltas for block b, and gradients, or updates if direct.

    The gradients are those of the first layer, and of the weights that its values meet in the layer above. `repeat`
    counts the updates from the same outputs; the first layer, which the backward pass never reads, is updated once,
    after the last.
    """
    lanes = lanes_of(values)
    params = weights.params
    n_layers = layers.shape[0]
    step = blocks.capacity * lanes
    target = params if updates.direct else weights.grads
    collapsed = _collapses(layers, updates)
    last_repeat = collapsed or repeat == updates.repeats - 1
    n_rows = rows_of(b, blocks)
    if n_layers > 1:
        if repeat == 0:
            clear(deltas, ZERO, lanes, step, ZERO, n_rows, t, end)
        if collapsed:
            _upper_gradient(ONE, b, blocks, layers, values, deltas, weights.grads, t, end)
            _collapse_repeats(layers, params, weights.grads, t, end, updates.repeats)
            _back(ONE, blocks, layers, weights.grads, deltas, ZERO, n_rows, t, end)
            unit = layers[1, IN_TILES] * lanes
            clear(weights.grads, layers[1, WEIGHTS], unit, lanes, ZERO, layers[1, N_OUT], t, end)
        else:
            _back(ONE, blocks, layers, params, deltas, ZERO, n_rows, t, end)
            _upper_gradient(ONE, b, blocks, layers, values, deltas, target, t, end)
        if last_repeat:
            deltas_through(b, ZERO, blocks, layers, dropout, values, deltas, ZERO, n_rows, t, end)
    elif collapsed:
        _scale_rows(deltas, step, n_rows, t, end, updates.repeats)
    if last_repeat:
        first_layer_update(b, blocks, inputs_at, layers, deltas, target, t, end, ZERO, PARTS)


@inlined
def _collapses(layers, updates):
    """Whether repeated updates are one; in deeper networks they are only for the first layer."""
    return updates.repeats > 1 and layers.shape[0] <= 2


@kernel
def _upper_gradients(w, n_workers, paces, b, blocks, layers, weights, updates, values, deltas):
    """Worker w's part of what `_gradients` leaves out: layers above the second, all biases above the first."""
    target = weights.params if updates.direct else weights.grads
    factor = float(updates.repeats) if _collapses(layers, updates) else 1.0
    for k in range(1, layers.shape[0]):
        if k > 1:
            t0, t1 = owned(layers[k, IN_TILES], w, n_workers, paces)
            _upper_gradient(k, b, blocks, layers, values, deltas, target, t0, t1)
        if layers[k, BIASES] >= 0:
            t0, t1 = owned(layers[k, OUT_TILES], w, n_workers, paces)
            here = layers[k, VALUES] * blocks.capacity
            add_rows(deltas, here, blocks.capacity, rows_of(b, blocks), target, layers[k, BIASES], t0, t1, factor)


@inlined
def _scale_rows(deltas, step, n_rows, t0, t1, factor):
    lanes = lanes_of(deltas)
    for t in range(t0, t1):
        for p in range(t * step, t * step + n_rows * lanes):
            deltas[p] *= factor


@kernel
def _tensor(layers, k, biases):
    """Offset, rows and tiles a row of layer k's weights or biases; no rows where it has none."""
    if biases:
        return layers[k, BIASES], 0 if layers[k, BIASES] < 0 else 1, layers[k, OUT_TILES]
    return layers[k, WEIGHTS], layers[k, ROWS], layers[k, OUT_TILES] if k == 0 else layers[k, IN_TILES]


@kernel
def _own_part(w, n_workers, paces, k, t, end, layers, lanes, biases):
    """Worker w's part of layer k's weights or biases, of the first layer the tiles t to `end`, of one panel.

    Offset, rows, tiles a row, and the length of a row of all.
    """
    at, n_rows, n_tiles = _tensor(layers, k, biases)
    if k == 0:
        n, part, row_length = panel_part(t, end, n_tiles, n_rows, lanes)
        return at + part, n_rows, n, row_length
    t0, t1 = owned(n_tiles, w, n_workers, paces)
    return at + t0 * lanes, n_rows, t1 - t0, n_tiles * lanes


@kernel
def _penalize(w, n_workers, paces, k, t, end, layers, weights, penalties):
    """Add the gradient of the penalties on worker w's parameters in layer k, see `_own_part`."""
    for biases in range(2):
        l1, l2 = penalties[k, 2 * biases], penalties[k, 2 * biases + 1]
        at, n_rows, n, row_length = _own_part(w, n_workers, paces, k, t, end, layers, lanes_of(weights.params), biases)
        if l1 > 0 or l2 > 0:
            for row in range(n_rows):
                add_penalty(weights.params, weights.grads, at + row * row_length, n, l1, l2)


@kernel
def _penalty(layers, params, penalties):
    """Sum of the penalties: ``l1 * sum(abs(w)) + l2 * sum(w**2)`` over weights and biases."""
    lanes = lanes_of(params)
    total = 0.0
    for k in range(penalties.shape[0]):
        for biases in range(2):
            l1, l2 = penalties[k, 2 * biases], penalties[k, 2 * biases + 1]
            at, n_rows, n_tiles = _tensor(layers, k, biases)
            if l1 > 0 or l2 > 0:
                absolute = squares = 0.0
                for p in range(at, at + n_rows * n_tiles * lanes):
                    absolute += abs(params[p])
                    squares += float(params[p]) * params[p]
                total += l1 * absolute + l2 * squares
    return total


@kernel
def _clip_norms(layers, weights, updates):
    """weights.factors: bound / norm where the norm of a gradient, or of all together, is above its bound, else 1."""
    lanes = lanes_of(weights.params)
    whole = 0.0
    for k in range(layers.shape[0]):
        for biases in range(2):
            at, n_rows, n_tiles = _tensor(layers, k, biases)
            squares = 0.0
            for p in range(at, at + n_rows * n_tiles * lanes):
                squares += float(weights.grads[p]) * weights.grads[p]
            whole += squares
            if updates.clip_norm > 0:
                weights.factors[k, biases] = updates.clip_norm / max(np.sqrt(squares), updates.clip_norm)
    if updates.global_clip_norm > 0:
        weights.factors[:] = updates.global_clip_norm / max(np.sqrt(whole), updates.global_clip_norm)


@kernel
def _optimize(w, n_workers, paces, step, k, t, end, layers, weights, updates):
    """The optimiser's step for worker w's parameters in layer k, see `_own_part`."""
    rate = updates.rates[step]
    decay = rate * updates.weight_decay
    if updates.optimizer == ADAM:
        steps = updates.steps_before + step + 1
        rate *= np.sqrt(1 - updates.decay_2**steps) / (1 - updates.decay_1**steps)
    for biases in range(2):
        at, n_rows, n, row_length = _own_part(w, n_workers, paces, k, t, end, layers, lanes_of(weights.params), biases)
        for row in range(n_rows):
            optimizer_step(
                updates, weights.params, weights.grads, weights.slot_1, weights.slot_2, at + row * row_length, n,
                rate, decay, weights.factors[k, biases],
            )  # fmt: skip


@inlined
def _rows_of_step(b, blocks, updates):
    """Rows of all blocks whose gradients are added to block b's."""
    n_rows = updates.blocks_per_step * blocks.capacity
    return min(n_rows, blocks.n_rows - b // updates.blocks_per_step * n_rows)


@kernel
def _work_on_rows(
    w, n_workers, paces, b, fresh, blocks, layers, params, dropout, truth, updates, values, deltas, scores
):
    """Worker w's rows of block b: layers above the first, scores, and deltas down to layer 1.

    Not `fresh`: another update from the same outputs, so only the deltas, from the weights as they are now.
    """
    lanes = lanes_of(values)
    n_layers = layers.shape[0]
    n_rows = rows_of(b, blocks)
    r0, r1 = owned(n_rows, w, n_workers, paces)
    scale = updates.loss_scale / _rows_of_step(b, blocks, updates)
    if updates.direct:
        scale *= -updates.rates[b]
    if fresh:
        upper_layers_forward(b, blocks, layers, params, dropout, values, ZERO, r0, r1)
        for r in range(r0, r1):
            squared, entropy, correct, sides = score_row(b, r, blocks, layers, truth, values, ZERO)
            scores[r, 0] = squared
            scores[r, 1] = entropy
            scores[r, 2] = correct
            scores[r, 3] = sides
            deltas_of_row(b, r, blocks, layers, truth, updates.loss, values, deltas, scale)
    for k in range(n_layers - 1, 1, -1):
        below = layers[k - 1, VALUES] * blocks.capacity
        tiles = layers[k, IN_TILES]
        clear(deltas, below, lanes, blocks.capacity * lanes, r0, r1, ZERO, tiles)
        _back(k, blocks, layers, params, deltas, r0, r1, ZERO, tiles)
        deltas_through(b, k - 1, blocks, layers, dropout, values, deltas, r0, r1, ZERO, tiles)


@inlined
def _now(n_workers):
    """`cycles`, where there is work to divide; never where the kernels run as plain Python."""
    return cycles() if n_workers > 1 else ZERO


@entry
def train_batches(
    w, n_workers, barrier, paces, blocks, layers, weights, dropout, truth, updates, values, deltas, scores, totals
):
    """One step for one block or more, or `updates.repeats` for one; adds `score_row` of each row to totals.

    totals (1, 5) for all steps, or (steps, 5) for each: those four, and each row's share of the penalties. scores
    (capacity, 4) float64 is scratch.
    """
    blocks, weights, dropout = held(blocks), held(weights), held(dropout)
    truth, updates = held(truth), held(updates)
    n_blocks = blocks.start.size
    meetings = ZERO
    params = weights.params
    n_tiles = layers[0, OUT_TILES]
    divide_equally(w, n_workers, paces)
    repeats = updates.repeats if layers.shape[0] > 2 else 1
    clips = int(updates.clip_norm > 0 or updates.global_clip_norm > 0)
    penalizes = updates.penalties.shape[0] > 0
    for b in range(n_blocks + 1):
        last_step = (b - 1) // updates.blocks_per_step
        steps = b > 0 and (b == n_blocks or b % updates.blocks_per_step == 0)
        for repeat in range(repeats if b > 0 else 1):
            fresh = b == 0 or repeat == repeats - 1
            started = _now(n_workers)
            if fresh and b < n_blocks:
                decode_values(b, blocks, w, n_workers)
            for sweep in range(1 + clips):
                # A panel at a time, whose parameters, gradient and deltas stay near meanwhile: gradient, update and the
                # next block's product. Norms are known only once all gradients are there: then updates wait.
                sums, moves = b > 0 and sweep == 0, sweep == clips
                t, t1 = owned(n_tiles, w, n_workers, paces)
                while t < t1:
                    end = panel_end(t, t1, n_tiles)
                    if sums:
                        inputs_at = values_at(b - 1, blocks, w, n_workers)
                        _gradients(
                            b - 1, repeat, blocks, inputs_at, layers, weights, dropout, updates, values, deltas, t, end
                        )
                        if penalizes and steps:
                            _penalize(w, n_workers, paces, ZERO, t, end, layers, weights, updates.penalties)
                    if steps and moves and not updates.direct:
                        _optimize(w, n_workers, paces, last_step, ZERO, t, end, layers, weights, updates)
                    if b < n_blocks and moves and fresh:
                        inputs_at = values_at(b, blocks, w, n_workers)
                        first_layer_forward(b, blocks, inputs_at, layers, params, values, ZERO, t, end, ZERO, PARTS)
                        activate_first(b, blocks, layers, dropout, values, ZERO, rows_of(b, blocks), t, end)
                    t = end
                if sums:
                    _upper_gradients(w, n_workers, paces, b - 1, blocks, layers, weights, updates, values, deltas)
                for k in range(1, layers.shape[0] if steps and not updates.direct else 1):
                    if penalizes and sums:
                        _penalize(w, n_workers, paces, k, ZERO, ZERO, layers, weights, updates.penalties)
                    if moves:
                        _optimize(w, n_workers, paces, last_step, k, ZERO, ZERO, layers, weights, updates)
                if steps and not moves:
                    stopped = _now(n_workers)
                    meetings = meet(barrier, meetings, n_workers)
                    if w == 0:
                        _clip_norms(layers, weights, updates)
                    meetings = meet(barrier, meetings, n_workers)
                    started += _now(n_workers) - stopped
            if fresh and b == n_blocks:
                break
            paces[w, TIME] = _now(n_workers) - started
            meetings = meet(barrier, meetings, n_workers)
            divide(n_tiles, w, n_workers, paces)
            _work_on_rows(
                w, n_workers, paces, b if fresh else b - 1, fresh, blocks, layers, params, dropout, truth, updates,
                values, deltas, scores,
            )  # fmt: skip
            at = b // updates.blocks_per_step if totals.shape[0] > 1 else ZERO
            if fresh and w == 0 and b % updates.blocks_per_step == 0:
                totals[at, 4] += _rows_of_step(b, blocks, updates) * _penalty(layers, params, updates.penalties)
            meetings = meet(barrier, meetings, n_workers)
            if fresh and w == 0:
                for r in range(rows_of(b, blocks)):
                    for k in range(4):
                        totals[at, k] += scores[r, k]
