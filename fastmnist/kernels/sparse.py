"""Inputs as lists of their non-zero entries: packing, blocks of samples stored by input, first-layer products.

A *block* is a run of consecutive samples: a mini-batch, or the samples that exact blocked per-sample SGD treats
together. It lists, for each input that is non-zero anywhere in the block, the rows and values of its entries, so that
a weight row is loaded once and serves the whole block.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastmnist._jit import entry, inlined, kernel
from fastmnist.kernels.simd import W1, W2, W3, W4, W5, decode, group_size, vfma, vload, vsplat, vstore
from fastmnist.spec import TILE_BYTES


class Blocks(NamedTuple):
    """Blocks of samples, by input. Entry e of a block lies at ``start[block] + e`` of `rows` and `values`."""

    capacity: int  # rows of a block; the last one may have fewer
    n_rows: int  # rows of all blocks
    rows: np.ndarray  # (entries,) row within the block
    values: np.ndarray  # (entries,) bytes that stand for table[byte], or floats
    table: np.ndarray  # (256,) float
    start: np.ndarray  # (blocks,) int64
    n_active: np.ndarray  # (blocks,) int64: inputs with at least one entry
    active: np.ndarray  # (blocks, stride) int32: these inputs, those with few entries first
    first: np.ndarray  # (blocks, stride + 1) int32: first entry of each
    dense: np.ndarray  # (n_rows, I) flattened: the rows themselves where the data is dense, else empty


@inlined
def share(n, w, n_workers):
    """Part [begin, end) of n things that worker w of n_workers owns."""
    return n * w // n_workers, n * (w + 1) // n_workers


@entry
def count_entries(w, n_workers, x, table, counts, coded):
    """counts[n] = number of non-zeros of x[n], -1 if one is not finite; coded[n] = 1 if all are table entries k/255.

    x (N, I) bytes or floats, table (256,) of x's float type, counts (N,) int64, coded (N,) uint8.
    """
    begin, end = share(x.shape[0], w, n_workers)
    for n in range(begin, end):
        count = 0
        finite = True
        in_table = True
        for i in range(x.shape[1]):
            v = x[n, i]
            if v != 0:
                count += 1
                finite &= v - v == 0
                in_table &= 0 < v <= 1 and table[np.uint8(v * 255 + 0.5)] == v
        counts[n] = count if finite else -1
        coded[n] = in_table


@entry
def pack_entries(w, n_workers, x, as_codes, starts, columns, values):
    """List the non-zeros of each row: column and value, or the byte k that stands for k/255 where `as_codes`.

    x (N, I), starts (N + 1,) int64, columns and values (entries,).
    """
    begin, end = share(x.shape[0], w, n_workers)
    for n in range(begin, end):
        t = starts[n]
        for i in range(x.shape[1]):
            v = x[n, i]
            if v != 0:
                columns[t] = i
                values[t] = np.uint8(v * 255 + 0.5) if as_codes else v
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
def _transpose_block(b, w, starts, columns, values, order, cursors, slots, blocks):
    """Sort the entries of one block by input, inputs with few entries first.

    Loops over the entries of an input are short, and the processor predicts their ends when neighbours are of equal
    length: on row B's network that took the products from 1.35 to 0.85 us a sample.
    """
    capacity = blocks.capacity
    n_rows = min(capacity, blocks.n_rows - b * capacity)
    base = blocks.start[b]
    n_inputs = cursors.shape[1]
    for i in range(n_inputs):
        cursors[w, i] = 0
    for r in range(n_rows):
        sample = order[b * capacity + r]
        for t in range(starts[sample], starts[sample + 1]):
            cursors[w, columns[t]] += 1
    for count in range(n_rows + 2):
        slots[w, count] = 0
    for i in range(n_inputs):
        slots[w, cursors[w, i] + 1] += 1
    slots[w, 1] = 0  # inputs without entries take no slot
    for count in range(1, n_rows + 1):
        slots[w, count + 1] += slots[w, count]
    blocks.n_active[b] = slots[w, n_rows + 1]
    for i in range(n_inputs):
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
            e = base + cursors[w, columns[t]]
            cursors[w, columns[t]] += 1
            blocks.rows[e] = r
            blocks.values[e] = values[t]


@entry
def transpose(w, n_workers, starts, columns, values, order, cursors, slots, blocks):
    """Fill `blocks` from rows: its row r of block b is sample ``order[b * capacity + r]``.

    cursors (n_workers, I) and slots (n_workers, capacity + 2) int32 are scratch.
    """
    begin, end = share(blocks.n_active.size, w, n_workers)
    for b in range(begin, end):
        _transpose_block(b, w, starts, columns, values, order, cursors, slots, blocks)


@entry
def unpack(w, n_workers, starts, columns, values, table, order, out):
    """out[r] = the dense row of sample order[r]. out (R, I) float."""
    begin, end = share(order.size, w, n_workers)
    for r in range(begin, end):
        for i in range(out.shape[1]):
            out[r, i] = 0
        for t in range(starts[order[r]], starts[order[r] + 1]):
            out[r, columns[t]] = decode(values, table, t)


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
            v = decode(blocks.values, blocks.table, e)
            for f in range(begin, e):
                gram[b, r, blocks.rows[f]] += v * decode(blocks.values, blocks.table, f)


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
        row = vload(weights, at + blocks.active[b, a] * row_length, lanes, width)
        for e in range(base + blocks.first[b, a], base + blocks.first[b, a + 1]):
            p = out_at + np.int64(blocks.rows[e]) * lanes
            x = vsplat(decode(blocks.values, blocks.table, e), width)
            vstore(out, p, out_stride, vfma(x, row, vload(out, p, out_stride, width)))


@kernel
def sparse_forward(b, blocks, weights, at, n_tiles, out, out_at, t0, t1):
    """out[t, r] += sum_i x[r, i] * weights[i, t] for tiles t0 <= t < t1 and the rows of block b.

    weights (I, n_tiles, V) from offset `at`, out (n_tiles, capacity, V) from offset `out_at`.
    """
    lanes = TILE_BYTES // out.itemsize
    row_length = n_tiles * lanes
    out_stride = blocks.capacity * lanes
    t = t0
    while t < t1:
        p = at + t * lanes
        q = out_at + t * out_stride
        n = group_size(t1 - t)
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
        p = at + blocks.active[b, a] * row_length
        row = vload(out, p, lanes, width)
        for e in range(base + blocks.first[b, a], base + blocks.first[b, a + 1]):
            x = vsplat(decode(blocks.values, blocks.table, e), width)
            row = vfma(x, vload(deltas, deltas_at + np.int64(blocks.rows[e]) * lanes, deltas_stride, width), row)
        vstore(out, p, lanes, row)


@kernel
def sparse_update(b, blocks, deltas, deltas_at, n_tiles, out, at, t0, t1):
    """out[i, t] += sum_r x[r, i] * deltas[t, r] for tiles t0 <= t < t1 and the rows of block b.

    deltas (n_tiles, capacity, V) from offset `deltas_at`, out (I, n_tiles, V) from offset `at`.
    """
    lanes = TILE_BYTES // out.itemsize
    row_length = n_tiles * lanes
    deltas_stride = blocks.capacity * lanes
    t = t0
    while t < t1:
        p = at + t * lanes
        q = deltas_at + t * deltas_stride
        n = group_size(t1 - t)
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
