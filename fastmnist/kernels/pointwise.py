"""Activations, their gradients, the output layer's losses, and the optimisers' steps."""

from __future__ import annotations

import math

from fastmnist._jit import inlined, kernel
from fastmnist.kernels.held import opened
from fastmnist.kernels.simd import (
    W1,
    lanes_of,
    vadd,
    vdiv,
    vfma,
    vkeep,
    vload,
    vmask,
    vmul,
    vnormal,
    vone_hot,
    vpower_of_two,
    vround,
    vsplat,
    vsqrt,
    vstore,
    vsub,
    vsum,
    vwhere_positive,
)
from fastmnist.spec import (
    CROSS_ENTROPY,
    LINEAR,
    MOMENTUM,
    NESTEROV,
    RELU,
    RELU_STRAIGHT_THROUGH,
    RMSPROP,
    SGD,
    SIGMOID,
    SOFTMAX,
    TANH,
)


@inlined
def _constant(x, value):
    """A tile of `value` in the float type of array x."""
    return vsplat(x.dtype.type(value), W1)


@inlined
def _clamp(x, v, bound):
    """Lanes of v limited to [-bound, bound]; NaN stays NaN."""
    limit = _constant(x, bound)
    low = vsub(_constant(x, 0.0), limit)
    v = vwhere_positive(vsub(v, limit), limit, v)
    return vwhere_positive(vsub(low, v), low, v)


@kernel
def _exp(x, v):
    """Exp of each lane to about 1 ulp: 2**n times a Taylor polynomial on [-ln 2 / 2, ln 2 / 2].

    Cody and Waite's reduction with ln 2 in two parts. Lanes are limited so that 2**n stays a normal number: beyond the
    limit the result is within the smallest or largest normal number of the truth.
    """
    single = x.itemsize == 4
    v = _clamp(x, v, 87.0 if single else 708.0)
    n = vround(vmul(v, _constant(x, 1.4426950408889634)))
    r = vfma(n, _constant(x, -0.693359375 if single else -0.6931471803691238), v)
    r = vfma(n, _constant(x, 2.12194440e-4 if single else -1.9082149292705877e-10), r)
    p = _constant(x, 0.0)
    if not single:
        p = _constant(x, 1 / 6227020800)
        p = vfma(p, r, _constant(x, 1 / 479001600))
        p = vfma(p, r, _constant(x, 1 / 39916800))
        p = vfma(p, r, _constant(x, 1 / 3628800))
        p = vfma(p, r, _constant(x, 1 / 362880))
        p = vfma(p, r, _constant(x, 1 / 40320))
    p = vfma(p, r, _constant(x, 1 / 5040))
    p = vfma(p, r, _constant(x, 1 / 720))
    p = vfma(p, r, _constant(x, 1 / 120))
    p = vfma(p, r, _constant(x, 1 / 24))
    p = vfma(p, r, _constant(x, 1 / 6))
    p = vfma(p, r, _constant(x, 0.5))
    p = vfma(p, r, _constant(x, 1.0))
    p = vfma(p, r, _constant(x, 1.0))
    return vmul(p, vpower_of_two(n))


@inlined
def _sigmoid(x, v):
    """1 / (1 + exp(-v))."""
    one = _constant(x, 1.0)
    return vdiv(one, vadd(one, _exp(x, vsub(_constant(x, 0.0), v))))


@inlined
def _tanh(x, v):
    """Tanh: v + v**3 P(v**2) / Q(v**2) below 0.625 (Moshier, Cephes), 1 - 2 / (exp(2 v) + 1) above."""
    one = _constant(x, 1.0)
    two = _constant(x, 2.0)
    s = vmul(v, v)
    p = vfma(_constant(x, -9.64399179425052238628e-1), s, _constant(x, -9.92877231001918586564e1))
    p = vfma(p, s, _constant(x, -1.61468768441708447952e3))
    q = vadd(s, _constant(x, 1.12811678491632931402e2))
    q = vfma(q, s, _constant(x, 2.23548839060100448583e3))
    q = vfma(q, s, _constant(x, 4.84406305325125486048e3))
    small = vfma(vmul(v, s), vdiv(p, q), v)
    large = vsub(one, vdiv(two, vadd(_exp(x, vadd(v, v)), one)))
    return vwhere_positive(vsub(s, _constant(x, 0.390625)), large, small)


@kernel
def _squash(values, at, row_step, tile_step, r0, r1, t0, t1, activation):
    """values[t, r] = sigmoid or tanh. On its own: its many constants would slow down every call for ReLU's sake."""
    for t in range(t0, t1):
        for r in range(r0, r1):
            p = at + t * tile_step + r * row_step
            v = vload(values, p, 0, W1)
            vstore(values, p, 0, _sigmoid(values, v) if activation == SIGMOID else _tanh(values, v))


@inlined
def activate(values, at, row_step, tile_step, r0, r1, n_units, t0, t1, activation, mask, mask_at, mask_row, keep_scale):
    """values[t, r] = f(values[t, r]) * mask[r, t] * keep_scale for hidden tiles t0 <= t < t1 and rows r0 <= r < r1.

    Tile t of row r lies at ``at + t * tile_step + r * row_step``. mask: dropout draws, 1 keeps, one byte per unit, row
    r from ``mask_at + r * mask_row``; ``keep_scale == 0`` means no dropout. Lanes past n_units are set to 0.
    """
    lanes = lanes_of(values)
    if activation == SIGMOID or activation == TANH:
        _squash(values, at, row_step, tile_step, r0, r1, t0, t1, activation)
    clips = activation == RELU or activation == RELU_STRAIGHT_THROUGH
    zero = _constant(values, 0.0)
    scale = _constant(values, keep_scale)
    for t in range(t0, t1):
        for r in range(r0, r1):
            p = at + t * tile_step + r * row_step
            v = vload(values, p, 0, W1)
            if clips:
                v = vwhere_positive(v, v, zero)
            if keep_scale != 0:
                kept = vmask(mask, mask_at + r * mask_row + t * lanes, 0, v)
                v = vmul(v, vmul(kept, scale))
            vstore(values, p, 0, vkeep(v, n_units - t * lanes))


@inlined
def through_activation(
    deltas,
    values,
    at,
    row_step,
    tile_step,
    r0,
    r1,
    n_units,
    t0,
    t1,
    activation,
    mask,
    mask_at,
    mask_row,
    value_scale,
    gradient_scale,
):
    """deltas[t, r] *= f'(values[t, r] * value_scale) * mask[r, t] * gradient_scale, f' as a function of f's value.

    Layout as in `activate`; ``gradient_scale == 0`` means no dropout. `value_scale` undoes dropout's scaling, or is 1
    where the gradient is to be taken at the scaled value.
    """
    lanes = lanes_of(values)
    one = _constant(values, 1.0)
    zero = _constant(values, 0.0)
    for t in range(t0, t1):
        for r in range(r0, r1):
            p = at + t * tile_step + r * row_step
            d = vload(deltas, p, 0, W1)
            f = vmul(vload(values, p, 0, W1), _constant(values, value_scale))
            if activation == RELU:
                d = vwhere_positive(f, d, zero)
            elif activation == SIGMOID:
                d = vmul(d, vmul(f, vsub(one, f)))
            elif activation == TANH:
                d = vmul(d, vsub(one, vmul(f, f)))
            if gradient_scale != 0:
                kept = vmask(mask, mask_at + r * mask_row + t * lanes, 0, d)
                d = vmul(d, vmul(kept, _constant(values, gradient_scale)))
            vstore(deltas, p, 0, vkeep(d, n_units - t * lanes))


@kernel
def finish_outputs(z, at, tile_step, n_units, activation):
    """Output activation of one row in place: softmax over its units, or f of each. Padding stays 0."""
    lanes = lanes_of(z)
    if activation == LINEAR:
        return
    largest = _constant(z, 0.0)
    if activation == SOFTMAX:
        top = z[at]
        for o in range(1, n_units):
            v = z[at + o // lanes * tile_step + o % lanes]
            top = v if v > top or v != v else top
        largest = vsplat(top, W1)
    total = _constant(z, 0.0)
    for t in range((n_units + lanes - 1) // lanes):
        p = at + t * tile_step
        v = vload(z, p, 0, W1)
        if activation == SOFTMAX:
            v = _exp(z, vsub(v, largest))
        elif activation == SIGMOID:
            v = _sigmoid(z, v)
        elif activation == TANH:
            v = _tanh(z, v)
        else:
            v = vwhere_positive(v, v, _constant(z, 0.0))
        v = vkeep(v, n_units - t * lanes)
        total = vadd(total, v)
        vstore(z, p, 0, v)
    if activation == SOFTMAX:
        scale = vsplat(z.dtype.type(1) / vsum(total), W1)
        for t in range((n_units + lanes - 1) // lanes):
            p = at + t * tile_step
            vstore(z, p, 0, vmul(vload(z, p, 0, W1), scale))


@inlined
def _target(z, t, label, targets, target_at):
    """Tile t of a row's targets: the padded row at `target_at`, or one-hot where `targets` is empty."""
    lanes = lanes_of(z)
    if targets.size == 0:
        return vone_hot(label - t * lanes, _constant(z, 0.0))
    return vload(targets, target_at + t * lanes, 0, W1)


@kernel
def score_outputs(z, at, tile_step, n_units, activation, label, targets, target_at, logarithm, threshold):
    """(squared error, cross-entropy, argmax right, outputs on the right side of `threshold`) of one finished row.

    targets[target_at:] is the row's target vector, padded to whole tiles; where `targets` is empty it is 1 at `label`.
    The cross-entropy has the logarithms of `Logarithm`. A NaN as `threshold` counts nothing.
    """
    lanes = lanes_of(z)
    squared = _constant(z, 0.0)
    for t in range((n_units + lanes - 1) // lanes):
        error = vsub(vload(z, at + t * tile_step, 0, W1), _target(z, t, label, targets, target_at))
        squared = vfma(error, error, squared)
    # np.argmax picks the first of equals, and the first NaN. Counting what would win against the label has no branch
    # to mispredict.
    own = z[at + label // lanes * tile_step + label % lanes]
    better = 0
    for o in range(n_units):
        v = z[at + o // lanes * tile_step + o % lanes]
        nan_first = (v != v) & ((own == own) | (o < label))
        better += (v > own) | ((v == own) & (o < label)) | nan_first
    entropy = 0.0
    if activation == SOFTMAX or activation == SIGMOID:
        if targets.size == 0 and activation == SOFTMAX:
            entropy = -_log(own, logarithm)
        else:
            for o in range(n_units):
                v = z[at + o // lanes * tile_step + o % lanes]
                target = z.dtype.type(o == label) if targets.size == 0 else targets[target_at + o]
                if target != 0:
                    entropy -= target * _log(v, logarithm)
                if activation == SIGMOID and target != 1:
                    entropy -= (1 - target) * _log(1 - v, logarithm)
    sides = 0
    if threshold == threshold:
        for o in range(n_units):
            v = z[at + o // lanes * tile_step + o % lanes]
            target = z.dtype.type(o == label) if targets.size == 0 else targets[target_at + o]
            sides += (v > threshold) == (target > threshold)
    return float(vsum(squared)), entropy, better == 0, sides


@kernel
def _log(p, logarithm):
    """The logarithm of a probability, see `Logarithm`; NaN stays NaN."""
    if p != p:
        return float(p)
    return math.log(min(max(float(p), logarithm.floor), logarithm.ceiling) + logarithm.offset)


@kernel
def output_deltas(z, d, at, tile_step, n_units, activation, loss, label, targets, target_at, scale):
    """d[o] = scale * dloss/dz[o] of one finished row, the squared error halved as (o - t) f'(o); padding set to 0."""
    lanes = lanes_of(z)
    n_tiles = (n_units + lanes - 1) // lanes
    one = _constant(z, 1.0)
    factor = vsplat(scale, W1)
    dot = _constant(z, 0.0)
    for t in range(n_tiles):
        p = at + t * tile_step
        v = vload(z, p, 0, W1)
        error = vsub(v, _target(z, t, label, targets, target_at))
        if loss != CROSS_ENTROPY:
            if activation == SIGMOID:
                error = vmul(error, vmul(v, vsub(one, v)))
            elif activation == TANH:
                error = vmul(error, vsub(one, vmul(v, v)))
            elif activation == RELU:
                error = vwhere_positive(v, error, _constant(z, 0.0))
            elif activation == SOFTMAX:
                dot = vfma(error, v, dot)
        vstore(d, p, 0, vmul(factor, error))
    if activation == SOFTMAX and loss != CROSS_ENTROPY:
        mean = vmul(factor, vsplat(vsum(dot), W1))
        for t in range(n_tiles):
            p = at + t * tile_step
            vstore(d, p, 0, vmul(vload(z, p, 0, W1), vsub(vload(d, p, 0, W1), mean)))


@kernel
def add_penalty(params, grads, at, n_tiles, l1, l2):
    """Add the gradient of ``l1 * sum(abs(w)) + l2 * sum(w**2)``, to n_tiles tiles of `grads` from offset `at`."""
    lanes = lanes_of(params)
    zero = _constant(params, 0.0)
    plus = _constant(params, l1)
    minus = _constant(params, -l1)
    for t in range(n_tiles):
        p = at + t * lanes
        w = vload(params, p, 0, W1)
        sign = vwhere_positive(w, plus, vwhere_positive(vsub(zero, w), minus, zero))
        g = vfma(_constant(params, 2 * l2), w, vadd(vload(grads, p, 0, W1), sign))
        vstore(grads, p, 0, g)


@kernel
def optimizer_step(updates, params, grads, slot_1, slot_2, at, n_tiles, rate, decay, factor):
    """One step for n_tiles tiles from offset `at`; the gradient is used up (set to 0).

    With g the gradient times `factor`, limited to +-clip_value, and w the parameter less `decay` times itself, sgd:
    w -= rate g; momentum: m = decay_1 m - rate g, w += m; nesterov: w += decay_1 m - rate g; rmsprop: v = decay_2 v +
    (1 - decay_2) g**2, w -= rate g / sqrt(v + epsilon); adam: m, v as running means, w -= rate m / (sqrt(v) + epsilon),
    with Adam's bias correction already in `rate`. Keras 3's rules.

    Of m and v, what is too small for a normal number becomes 0. The m of a weight whose gradient stays 0 would else end
    as the smallest subnormal number, for 0.9 of that is rounded to itself; 8,000 of 400,000 after five epochs, each of
    which makes the processor take 100 cycles for an operation, were a quarter of the whole epoch's time.
    """
    updates = opened(updates)
    optimizer = updates.optimizer
    lanes = lanes_of(params)
    rates = _constant(params, rate)
    b1 = _constant(params, updates.decay_1)
    b2 = _constant(params, updates.decay_2)
    c1 = _constant(params, 1 - updates.decay_1)  # the difference in float64: 1 - 0.999 in float32 is 5e-5 off
    c2 = _constant(params, 1 - updates.decay_2)
    eps = _constant(params, updates.epsilon)
    for t in range(n_tiles):
        p = at + t * lanes
        w = vload(params, p, 0, W1)
        g = vload(grads, p, 0, W1)
        if factor != 1:
            g = vmul(g, _constant(params, factor))
        if updates.clip_value > 0:
            g = _clamp(params, g, updates.clip_value)
        if decay != 0:
            w = vsub(w, vmul(_constant(params, decay), w))
        if optimizer == SGD:
            w = vsub(w, vmul(rates, g))
        elif optimizer == MOMENTUM or optimizer == NESTEROV:
            descent = vmul(rates, g)
            m = vnormal(vsub(vmul(b1, vload(slot_1, p, 0, W1)), descent))
            vstore(slot_1, p, 0, m)
            w = vadd(w, vsub(vmul(b1, m), descent) if optimizer == NESTEROV else m)
        elif optimizer == RMSPROP:
            v = vnormal(vadd(vmul(b2, vload(slot_2, p, 0, W1)), vmul(c2, vmul(g, g))))
            vstore(slot_2, p, 0, v)
            w = vsub(w, vdiv(vmul(rates, g), vsqrt(vadd(v, eps))))
        else:
            m = vload(slot_1, p, 0, W1)
            m = vnormal(vfma(c1, vsub(g, m), m))
            v = vload(slot_2, p, 0, W1)
            v = vnormal(vfma(c2, vsub(vmul(g, g), v), v))
            vstore(slot_1, p, 0, m)
            vstore(slot_2, p, 0, v)
            w = vsub(w, vdiv(vmul(rates, m), vadd(vsqrt(v), eps)))
        vstore(params, p, 0, w)
        vstore(grads, p, 0, _constant(params, 0.0))
