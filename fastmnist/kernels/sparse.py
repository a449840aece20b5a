"""Inputs as lists of their non-zero entries: packing, blocks of samples stored by input, first-layer products.

An *entry* is a pair of neighbouring inputs, 2p and 2p + 1, of one sample, of which at least one is not zero. Where one
pixel is not black the next one seldom is: MNIST's 150 non-zero pixels an image make 90 pairs. A pair costs little more
than a single input, since both products use one load and one store of the sample's values.

A *block* is a run of consecutive samples: a mini-batch, or the samples that exact blocked per-sample SGD treats
together. It lists, for each pair that has an entry anywhere in the block, the rows and values of its entries, so that
the two weight rows are loaded once and serve the whole block.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastmnist import spec
from fastmnist._jit import entry, inlined, kernel
from fastmnist.kernels.simd import W1, W2, W3, W4, W5, decode, vadd, vfma, vload, vsplat, vstore
from fastmnist.spec import TILE_BYTES

_panel_of = inlined(spec.panel_of)


class Blocks(NamedTuple):
    """Blocks of samples, by pair of inputs; entry e of a block is number ``start[block] + e`` of all."""

    capacity: int  # rows of a block; the last one may have fewer
    n_rows: int  # rows of all blocks
    rows: np.ndarray  # (entries,) row within the block
    values: np.ndarray  # (2 * entries,) bytes that stand for table[byte], or floats: both values of each entry
    table: np.ndarray  # (256,) float
    start: np.ndarray  # (blocks,) int64
    n_active: np.ndarray  # (blocks,) int64: pairs with at least one entry
    active: np.ndarray  # (blocks, stride) int32: these pairs, those with few entries first
    first: np.ndarray  # (blocks, stride + 1) int32: first entry of each
    dense: np.ndarray  # (n_rows, I) flattened: the rows themselves where the data is dense, else empty


@inlined
def share(n, w, n_workers):
    """Part [begin, end) of n things that worker w of n_workers owns."""
    return n * w // n_workers, n * (w + 1) // n_workers


@inlined
def panel_part(t, t1, n_tiles, n_rows, lanes):
    """Tiles from t on that lie in one panel of n_rows and before t1: how many, their offset, a row's length."""
    first, width = _panel_of(t, n_tiles)
    return min(first + width, t1) - t, (first * n_rows + t - first) * lanes, width * lanes


@inlined
def _second(x, n, i):
    """x[n, i + 1], or 0 past the last input."""
    return x[n, i + 1] if i + 1 < x.shape[1] else x.dtype.type(0)


@inlined
def _in_table(v, table):
    return v == 0 or (0 < v <= 1 and table[np.uint8(v * 255 + 0.5)] == v)


@entry
def count_entries(w, n_workers, x, table, counts, nonzeros, coded):
    """Counts[n], nonzeros[n] = entries and non-zeros of x[n]; coded[n] = whether all are table entries k / 255.

    counts[n] is -1 if one is not finite. x (N, I) bytes or floats, table (256,) of x's float type, counts and nonzeros
    (N,) int64, coded (N,) uint8.
    """
    begin, end = share(x.shape[0], w, n_workers)
    for n in range(begin, end):
        count = 0
        nonzero = 0
        finite = True
        in_table = True
        for i in range(0, x.shape[1], 2):
            u = x[n, i]
            v = _second(x, n, i)
            if u != 0 or v != 0:
                count += 1
                nonzero += int(u != 0) + int(v != 0)
                finite &= (u - u == 0) & (v - v == 0)
                in_table = in_table and _in_table(u, table) and _in_table(v, table)
        counts[n] = count if finite else -1
        nonzeros[n] = nonzero
        coded[n] = in_table


@entry
def pack_entries(w, n_workers, x, as_codes, starts, pairs, values):
    """List the entries of each row: number of the pair and both values, or their bytes k for k / 255 where `as_codes`.

    x (N, I), starts (N + 1,) int64, pairs (entries,), values (2 * entries,).
    """
    begin, end = share(x.shape[0], w, n_workers)
    for n in range(begin, end):
        t = starts[n]
        for i in range(0, x.shape[1], 2):
            u = x[n, i]
            v = _second(x, n, i)
            if u != 0 or v != 0:
                pairs[t] = i // 2
                values[2 * t] = np.uint8(u * 255 + 0.5) if as_codes else u
                values[2 * t + 1] = np.uint8(v * 255 + 0.5) if as_codes else v
                t += 1


@entry
def fingerprint(w, n_workers, words, multipliers, sums):
    """sums[n] = sum_i mix(words[n, i]) * multipliers[i] (mod 2**64): a hash that every change of one word changes.

    mix is the finaliser of SplitMix64 (Steele, Lea and Flood, 2014), a bijection. Without it changes of the highest
    bits, such as the signs of an even number of floats, would cancel.

    words (N, M) uint64: the rows of an array read as 8-byte words; multipliers (M,) odd uint64; sums (N,) uint64.
    """
    begin, end = share(words.shape[0], w, n_workers)
    for n in range(begin, end):
        total = np.uint64(0)
        for i in range(words.shape[1]):
            word = words[n, i]
            word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            total += (word ^ (word >> np.uint64(31))) * multipliers[i]
        sums[n] = total


@kernel
def _transpose_block(b, w, starts, pairs, values, order, cursors, slots, blocks):
    """Sort the entries of one block by pair, pairs with few entries first.

    Loops over the entries of a pair are short, and the processor predicts their ends when neighbours are of equal
    length: on row B's network that took the products from 1.35 to 0.85 us a sample.
    """
    capacity = blocks.capacity
    n_rows = min(capacity, blocks.n_rows - b * capacity)
    base = blocks.start[b]
    n_pairs = cursors.shape[1]
    for i in range(n_pairs):
        cursors[w, i] = 0
    for r in range(n_rows):
        sample = order[b * capacity + r]
        for t in range(starts[sample], starts[sample + 1]):
            cursors[w, pairs[t]] += 1
    for count in range(n_rows + 2):
        slots[w, count] = 0
    for i in range(n_pairs):
        slots[w, cursors[w, i] + 1] += 1
    slots[w, 1] = 0  # pairs without entries take no slot
    for count in range(1, n_rows + 1):
        slots[w, count + 1] += slots[w, count]
    blocks.n_active[b] = slots[w, n_rows + 1]
    for i in range(n_pairs):
        count = cursors[w, i]
        if count:
            blocks.active[b, slots[w, count]] = i
            slots[w, count] += 1
    entries = 0
    for a in range(blocks.n_active[b]):
        i = blocks.active[b, a]
        blocks.first[b, a] = entries
        entries += cursors[w, i]
        cursors[w, i] = blocks.first[b, a]
    blocks.first[b, blocks.n_active[b]] = entries
    for r in range(n_rows):
        sample = order[b * capacity + r]
        for t in range(starts[sample], starts[sample + 1]):
            e = base + cursors[w, pairs[t]]
            cursors[w, pairs[t]] += 1
            blocks.rows[e] = r
            blocks.values[2 * e] = values[2 * t]
            blocks.values[2 * e + 1] = values[2 * t + 1]


@entry
def transpose(w, n_workers, starts, pairs, values, order, cursors, slots, blocks):
    """Fill `blocks` from rows: its row r of block b is sample ``order[b * capacity + r]``.

    cursors (n_workers, number of pairs) and slots (n_workers, capacity + 2) int32 are scratch.
    """
    begin, end = share(blocks.n_active.size, w, n_workers)
    for b in range(begin, end):
        _transpose_block(b, w, starts, pairs, values, order, cursors, slots, blocks)


@entry
def list_again(w, n_workers, blocks, cursors, pairs, values):
    """Undo `transpose` of samples in order: list the entries of sample n from ``cursors[n]`` on, in any order."""
    begin, end = share(blocks.n_active.size, w, n_workers)
    for b in range(begin, end):
        base = blocks.start[b]
        for a in range(blocks.n_active[b]):
            for e in range(base + blocks.first[b, a], base + blocks.first[b, a + 1]):
                n = b * blocks.capacity + blocks.rows[e]
                t = cursors[n]
                cursors[n] += 1
                pairs[t] = blocks.active[b, a]
                values[2 * t] = blocks.values[2 * e]
                values[2 * t + 1] = blocks.values[2 * e + 1]


@kernel
def _gram_block(b, blocks, gram):
    """gram[b, r, s] = x_r . x_s for rows s < r of block b."""
    base = blocks.start[b]
    for r in range(blocks.capacity):
        for s in range(blocks.capacity):
            gram[b, r, s] = 0
    for a in range(blocks.n_active[b]):
        begin = base + blocks.first[b, a]
        for e in range(begin, base + blocks.first[b, a + 1]):
            r = blocks.rows[e]
            u = decode(blocks.values, blocks.table, 2 * e)
            v = decode(blocks.values, blocks.table, 2 * e + 1)
            for f in range(begin, e):
                product = u * decode(blocks.values, blocks.table, 2 * f)
                gram[b, r, blocks.rows[f]] += product + v * decode(blocks.values, blocks.table, 2 * f + 1)


@entry
def gram_products(w, n_workers, blocks, gram):
    """gram[b, r, s] = x_r . x_s for rows s < r of each block; the rest is zero. gram (blocks, capacity, capacity)."""
    begin, end = share(blocks.n_active.size, w, n_workers)
    for b in range(begin, end):
        _gram_block(b, blocks, gram)


@inlined
def _forward_tiles(b, blocks, weights, at, row_length, out, out_at, out_stride, width):
    lanes = TILE_BYTES // out.itemsize
    base = blocks.start[b]
    for a in range(blocks.n_active[b]):
        i = at + 2 * blocks.active[b, a] * row_length
        first = vload(weights, i, lanes, width)
        second = vload(weights, i + row_length, lanes, width)
        for e in range(base + blocks.first[b, a], base + blocks.first[b, a + 1]):
            p = out_at + np.int64(blocks.rows[e]) * lanes
            u = vsplat(decode(blocks.values, blocks.table, 2 * e), width)
            v = vsplat(decode(blocks.values, blocks.table, 2 * e + 1), width)
            vstore(out, p, out_stride, vfma(v, second, vfma(u, first, vload(out, p, out_stride, width))))


@kernel
def sparse_forward(b, blocks, weights, at, n_rows, n_tiles, out, out_at, t0, t1):
    """out[t, r] += sum_i x[r, i] * weights[i, t] for tiles t0 <= t < t1 and the rows of block b.

    weights: panels of n_rows (even) from offset `at`, out (n_tiles, capacity, V) from offset `out_at`.
    """
    lanes = TILE_BYTES // out.itemsize
    out_stride = blocks.capacity * lanes
    t = t0
    while t < t1:
        n, part, row_length = panel_part(t, t1, n_tiles, n_rows, lanes)
        p = at + part
        q = out_at + t * out_stride
        if n == 5:
            _forward_tiles(b, blocks, weights, p, row_length, out, q, out_stride, W5)
        elif n == 4:
            _forward_tiles(b, blocks, weights, p, row_length, out, q, out_stride, W4)
        elif n == 3:
            _forward_tiles(b, blocks, weights, p, row_length, out, q, out_stride, W3)
        elif n == 2:
            _forward_tiles(b, blocks, weights, p, row_length, out, q, out_stride, W2)
        else:
            _forward_tiles(b, blocks, weights, p, row_length, out, q, out_stride, W1)
        t += n


@inlined
def _update_tiles(b, blocks, deltas, deltas_at, deltas_stride, out, at, row_length, width):
    lanes = TILE_BYTES // out.itemsize
    base = blocks.start[b]
    for a in range(blocks.n_active[b]):
        i = at + 2 * blocks.active[b, a] * row_length
        # Sums of their own: weights in single precision would lose the small terms one by one.
        first = vsplat(out.dtype.type(0), width)
        second = first
        for e in range(base + blocks.first[b, a], base + blocks.first[b, a + 1]):
            delta = vload(deltas, deltas_at + np.int64(blocks.rows[e]) * lanes, deltas_stride, width)
            first = vfma(vsplat(decode(blocks.values, blocks.table, 2 * e), width), delta, first)
            second = vfma(vsplat(decode(blocks.values, blocks.table, 2 * e + 1), width), delta, second)
        vstore(out, i, lanes, vadd(vload(out, i, lanes, width), first))
        i += row_length
        vstore(out, i, lanes, vadd(vload(out, i, lanes, width), second))


@kernel
def sparse_update(b, blocks, deltas, deltas_at, n_rows, n_tiles, out, at, t0, t1):
    """out[i, t] += sum_r x[r, i] * deltas[t, r] for tiles t0 <= t < t1 and the rows of block b.

    deltas (n_tiles, capacity, V) from offset `deltas_at`, out: panels of n_rows (even) from offset `at`.
    """
    lanes = TILE_BYTES // out.itemsize
    deltas_stride = blocks.capacity * lanes
    t = t0
    while t < t1:
        n, part, row_length = panel_part(t, t1, n_tiles, n_rows, lanes)
        p = at + part
        q = deltas_at + t * deltas_stride
        if n == 5:
            _update_tiles(b, blocks, deltas, q, deltas_stride, out, p, row_length, W5)
        elif n == 4:
            _update_tiles(b, blocks, deltas, q, deltas_stride, out, p, row_length, W4)
        elif n == 3:
            _update_tiles(b, blocks, deltas, q, deltas_stride, out, p, row_length, W3)
        elif n == 2:
            _update_tiles(b, blocks, deltas, q, deltas_stride, out, p, row_length, W2)
        else:
            _update_tiles(b, blocks, deltas, q, deltas_stride, out, p, row_length, W1)
        t += n
