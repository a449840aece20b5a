"""Dense products on tiles, register-blocked. Offsets and strides are in numbers, not bytes.

Values and deltas of a layer are stored ``(tiles, capacity, V)``: tile t of row r lies at ``(t * capacity + r) * V``.
"""

from __future__ import annotations

from fastmnist._jit import inlined, kernel
from fastmnist.kernels.simd import (
    W1,
    W2,
    W3,
    W4,
    W5,
    WIDE,
    lanes_of,
    small_group_size,
    vaccumulate,
    vaccumulate_sums,
    vadd,
    vbroadcast,
    vfma,
    vload,
    vrepeat,
    vsplat,
    vstore,
)

# Four tiles of so many k are 32 KiB, and stay in the first cache while all rows use them.
_K_BLOCK = 128
# Rows that `dots` treats at once, with four units each.
_DOT_ROWS = W4 if WIDE else W2


@inlined
def _product_4_rows(s, s_at, s_row, s_k, v, v_at, v_k, v_tile, out, out_at, out_row, out_tile, n_k, width):
    # Sums of their own: weights in single precision would lose the small terms one by one.
    c0 = vsplat(out.dtype.type(0), width)
    c1 = c0
    c2 = c0
    c3 = c0
    for k in range(n_k):
        tiles = vload(v, v_at + k * v_k, v_tile, width)
        p = s_at + k * s_k
        c0 = vfma(vbroadcast(s, p, width), tiles, c0)
        c1 = vfma(vbroadcast(s, p + s_row, width), tiles, c1)
        c2 = vfma(vbroadcast(s, p + 2 * s_row, width), tiles, c2)
        c3 = vfma(vbroadcast(s, p + 3 * s_row, width), tiles, c3)
    vaccumulate(out, out_at, out_tile, c0)
    vaccumulate(out, out_at + out_row, out_tile, c1)
    vaccumulate(out, out_at + 2 * out_row, out_tile, c2)
    vaccumulate(out, out_at + 3 * out_row, out_tile, c3)


@inlined
def _product_1_row(s, s_at, s_k, v, v_at, v_k, v_tile, out, out_at, out_tile, n_k, width):
    c = vsplat(out.dtype.type(0), width)
    for k in range(n_k):
        c = vfma(vbroadcast(s, s_at + k * s_k, width), vload(v, v_at + k * v_k, v_tile, width), c)
    vaccumulate(out, out_at, out_tile, c)


@kernel
def _product_rows(s, s_at, s_row, s_k, v, v_at, v_k, v_tile, out, out_at, out_row, out_tile, n_rows, n_k, width):
    r = 0
    while r + 4 <= n_rows:
        p = s_at + r * s_row
        q = out_at + r * out_row
        _product_4_rows(s, p, s_row, s_k, v, v_at, v_k, v_tile, out, q, out_row, out_tile, n_k, width)
        r += 4
    while r < n_rows:
        p = s_at + r * s_row
        q = out_at + r * out_row
        _product_1_row(s, p, s_k, v, v_at, v_k, v_tile, out, q, out_tile, n_k, width)
        r += 1


@kernel
def product(s, s_at, s_row, s_k, v, v_at, v_k, v_tile, out, out_at, out_row, out_tile, n_rows, n_k, n_tiles):
    """out[r, t] += sum_k s[r, k] * v[k, t]: scalars s times tiles v, for r < n_rows, k < n_k, t < n_tiles.

    The element s[r, k] lies at ``s_at + r * s_row + k * s_k``; the tile v[k, t] at ``v_at + k * v_k + t * v_tile``; the
    tile out[r, t] at ``out_at + r * out_row + t * out_tile``.
    """
    for k in range(0, n_k, _K_BLOCK):
        n = min(_K_BLOCK, n_k - k)
        a = s_at + k * s_k
        t = 0
        while t < n_tiles:
            p = v_at + k * v_k + t * v_tile
            q = out_at + t * out_tile
            left = n_tiles - t
            if WIDE and left == 5:
                _product_rows(s, a, s_row, s_k, v, p, v_k, v_tile, out, q, out_row, out_tile, n_rows, n, W5)
                t += 5
            elif WIDE and left >= 4:
                _product_rows(s, a, s_row, s_k, v, p, v_k, v_tile, out, q, out_row, out_tile, n_rows, n, W4)
                t += 4
            elif WIDE and left >= 2:
                _product_rows(s, a, s_row, s_k, v, p, v_k, v_tile, out, q, out_row, out_tile, n_rows, n, W2)
                t += 2
            else:
                _product_rows(s, a, s_row, s_k, v, p, v_k, v_tile, out, q, out_row, out_tile, n_rows, n, W1)
                t += 1


@inlined
def _dot_4_units(x, x_at, x_tile, w, w_at, w_unit, out, out_at, n_tiles, width):
    lanes = lanes_of(out)
    c0 = vsplat(out.dtype.type(0), width)
    c1 = c0
    c2 = c0
    c3 = c0
    for t in range(n_tiles):
        rows = vload(x, x_at + t * x_tile, lanes, width)
        p = w_at + t * lanes
        c0 = vfma(vrepeat(vload(w, p, 0, W1), width), rows, c0)
        c1 = vfma(vrepeat(vload(w, p + w_unit, 0, W1), width), rows, c1)
        c2 = vfma(vrepeat(vload(w, p + 2 * w_unit, 0, W1), width), rows, c2)
        c3 = vfma(vrepeat(vload(w, p + 3 * w_unit, 0, W1), width), rows, c3)
    vaccumulate_sums(out, out_at, lanes, (c0, c1, c2, c3))


@inlined
def _dot_1_unit(x, x_at, x_tile, w, w_at, out, out_at, n_tiles, width):
    lanes = lanes_of(out)
    c = vsplat(out.dtype.type(0), width)
    for t in range(n_tiles):
        rows = vload(x, x_at + t * x_tile, lanes, width)
        c = vfma(vrepeat(vload(w, w_at + t * lanes, 0, W1), width), rows, c)
    vaccumulate_sums(out, out_at, lanes, (c,))


@kernel
def _dot_rows(x, x_at, x_tile, w, w_at, out, out_at, out_tile, n_tiles, n_units, width):
    lanes = lanes_of(out)
    w_unit = n_tiles * lanes
    o = 0
    while o + 4 <= n_units:
        q = out_at + o // lanes * out_tile + o % lanes
        _dot_4_units(x, x_at, x_tile, w, w_at + o * w_unit, w_unit, out, q, n_tiles, width)
        o += 4
    while o < n_units:
        q = out_at + o // lanes * out_tile + o % lanes
        _dot_1_unit(x, x_at, x_tile, w, w_at + o * w_unit, out, q, n_tiles, width)
        o += 1


@kernel
def dots(x, x_at, w, w_at, out, out_at, capacity, r0, r1, n_tiles, n_units):
    """out[r, o] += sum_h x[r, h] * w[o, h] for rows r0 <= r < r1 and all n_units units o.

    x (n_tiles, capacity, V) from offset `x_at`; w (n_units, n_tiles * V) from `w_at`; out (tiles, capacity, V) from
    `out_at`. Each sum runs over the tiles in order, lane by lane, and the lanes are added last.
    """
    lanes = lanes_of(out)
    step = capacity * lanes
    r = r0
    while r + len(_DOT_ROWS) <= r1:
        here = r * lanes
        _dot_rows(x, x_at + here, step, w, w_at, out, out_at + here, step, n_tiles, n_units, _DOT_ROWS)
        r += len(_DOT_ROWS)
    while r < r1:
        here = r * lanes
        _dot_rows(x, x_at + here, step, w, w_at, out, out_at + here, step, n_tiles, n_units, W1)
        r += 1


@kernel
def _back_and_update_tiles(d, d_at, d_tile, w, w_at, w_unit, x, x_at, x_tile, out, out_at, n_units, width):
    lanes = lanes_of(out)
    values = vload(x, x_at, x_tile, width)
    total = vsplat(out.dtype.type(0), width)
    for o in range(n_units):
        delta = vbroadcast(d, d_at + o // lanes * d_tile + o % lanes, width)
        row = vload(w, w_at + o * w_unit, lanes, width)
        total = vfma(delta, row, total)
        vstore(w, w_at + o * w_unit, lanes, vfma(delta, values, row))
    vstore(out, out_at, x_tile, total)


@kernel
def back_and_update(d, d_at, w, w_at, x, x_at, out, out_at, capacity, n_units, n_tiles):
    """One row: out[h] = sum_o d[o] * w[o, h] with the old w, while w[o, h] += d[o] * x[h].

    d, x and out are rows of ``(tiles, capacity, V)`` arrays at these offsets; w (n_units, n_tiles * V).
    """
    lanes = lanes_of(out)
    unit = n_tiles * lanes
    step = capacity * lanes
    t = 0
    while t < n_tiles:
        p = w_at + t * lanes
        q = x_at + t * step
        r = out_at + t * step
        n = small_group_size(n_tiles - t)
        if WIDE and n == 5:
            _back_and_update_tiles(d, d_at, step, w, p, unit, x, q, step, out, r, n_units, W5)
        elif WIDE and n == 4:
            _back_and_update_tiles(d, d_at, step, w, p, unit, x, q, step, out, r, n_units, W4)
        elif WIDE and n == 3:
            _back_and_update_tiles(d, d_at, step, w, p, unit, x, q, step, out, r, n_units, W3)
        elif n == 2:
            _back_and_update_tiles(d, d_at, step, w, p, unit, x, q, step, out, r, n_units, W2)
        else:
            _back_and_update_tiles(d, d_at, step, w, p, unit, x, q, step, out, r, n_units, W1)
        t += n


@kernel
def clear(values, at, row_step, tile_step, r0, r1, t0, t1):
    """values[t, r] = 0."""
    for t in range(t0, t1):
        for r in range(r0, r1):
            vstore(values, at + t * tile_step + r * row_step, 0, vsplat(values.dtype.type(0), W1))


@inlined
def sum_rows(d, at, n_rows):
    """Sum of a tile of all rows, the first of which lies at `at`."""
    lanes = lanes_of(d)
    total = vsplat(d.dtype.type(0), W1)
    for r in range(n_rows):
        total = vadd(total, vload(d, at + r * lanes, 0, W1))
    return total


@kernel
def add_rows(d, d_at, capacity, n_rows, out, out_at, t0, t1, factor):
    """out[t] += factor * sum_r d[t, r] for tiles t0 <= t < t1: the bias gradient."""
    lanes = lanes_of(out)
    for t in range(t0, t1):
        total = sum_rows(d, d_at + t * capacity * lanes, n_rows)
        p = out_at + t * lanes
        vstore(out, p, 0, vfma(vsplat(out.dtype.type(factor), W1), total, vload(out, p, 0, W1)))
