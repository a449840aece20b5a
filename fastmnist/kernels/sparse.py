"""Inputs as lists of their non-zero entries: packing, blocks of samples stored by input, first-layer products.

Inputs are taken in *quads* of neighbours, 4q to 4q + 3, and their two halves: where one pixel is not black the next one
seldom is. MNIST's 150 non-zero pixels an image lie in 88 halves of 56 quads. An *entry* is a half, or a whole quad both
of whose halves have a non-zero: its products share one load and one store of the sample's values.

A *block* is a run of consecutive samples: a mini-batch, or the samples that exact blocked per-sample SGD treats
together. It has up to three *lists* of entries for each quad, so that a list's rows of weights are loaded once and
serve the whole block.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastmnist import spec
from fastmnist._jit import ZERO, entry, inlined, kernel
from fastmnist.kernels.barrier import take
from fastmnist.kernels.dense import clear
from fastmnist.kernels.held import held, opened
from fastmnist.kernels.simd import (
    HALVES_3,
    W1,
    W2,
    W3,
    W4,
    W5,
    WIDE,
    count_ones,
    decode,
    fetch,
    lanes_of,
    nonzeros_at,
    prefetch,
    put,
    small_group_size,
    trailing_zeros,
    vaccumulate,
    vcopy,
    vdecode,
    vfma,
    vload,
    vprefetch,
    vsplat,
    vstore,
)

_panel_of = inlined(spec.panel_of)


# Kinds of lists: list 3q + kind has entries of quad q's first half, of its second, or of the whole.
_FIRST, _SECOND, _WHOLE, _KINDS = 0, 1, 2, 3

# Rows, and halves of quads, that a word of a mask tells of.
WORD_BITS = 64

# Groups of 64 rows whose values are listed together: those of 256 MNIST images, 45 KB, stay near while they are.
_GROUPS = 4

# Samples that a shuffled order is prefetched ahead of.
_AHEAD = 8

# Neighbouring blocks whose inner products one worker works out: each is written as a matrix once, not twice.
_GRAM_BLOCKS = 16

# Inputs may be in two parts, so that two workers can share the products of one panel, each with weights of its own: of
# every five runs of 8 quads, the last is in the second part. For a fifth of row B's only panel worker 0 has time beside
# the sums; a fifth of row C's last panel is what it has no time for. Two threads take 0.59 us a sample instead of 0.68
# us, and 1.32 us instead of 1.37 us, one thread 4 to 5 % longer.
_RUN, _RUNS = 8, 5
PARTS = np.int64(2)
# Inputs up to here are all in the first part.
FIRST_PART = 4 * _RUN * (_RUNS - 1)

# Whole quads of a block from which they are a list of their own, not entries of both halves: it spares the loads and
# stores of half of them, and costs those of four more rows of weights.
_WHOLE_FROM = 16


def count_lists(n_inputs: int) -> int:
    """Count the lists that a block of samples with so many inputs may have."""
    return _KINDS * -(-n_inputs // 4)


class Blocks(NamedTuple):
    """Blocks of samples, by list; entry e of a block is number ``start[block] + e`` of all.

    The values of a block follow one another, two of each entry of a half, four of a whole: from ``2 * start[block]``
    on, or where `values_at` says if they are made of codes, which lie there.
    """

    capacity: int  # rows of a block; the last one may have fewer
    n_rows: int  # rows of all blocks
    most: int  # halves of a block at most
    rows: np.ndarray  # (halves,) or longer: row within the block
    values: np.ndarray  # (2 * halves,) or longer: bytes that stand for table[byte], or floats
    table: np.ndarray  # (256,) float
    codes: np.ndarray  # such bytes, where `values` is memory for the floats of two blocks of each worker; else empty
    start: np.ndarray  # (blocks,) int64: halves of the blocks before
    n_active: np.ndarray  # (blocks, 4) int64: lists with entries, up to the end of each kind: halves of the
    # first part, of the second; wholes of the first, of the second
    active: np.ndarray  # (blocks, stride) int32: their first inputs, in order of kind, then few entries before many
    first: np.ndarray  # (blocks, stride + 1) int32: first entry of each
    dense: np.ndarray  # (n_rows, I) flattened: the rows themselves where the data is dense, else empty


@inlined
def _wholes_at(b, blocks):
    """Entry e's values begin 2 e after the first of the block, if it is a half; 4 e plus this, if a whole quad."""
    return -2 * blocks.first[b, blocks.n_active[b, PARTS - 1]]


@inlined
def values_at(b, blocks, w, n_workers):
    """Where worker w finds the values of block b."""
    if blocks.codes.size:
        return (2 * w + b % 2) * (blocks.values.size // (2 * n_workers))
    return 2 * blocks.start[b]


@kernel
def decode_values(b, blocks, w, n_workers):
    """Turn the codes of block b, if there are any, into worker w's values; those of the block before stay there.

    Every tile then reads a number, and not first a byte that says where it is.
    """
    blocks = opened(blocks)
    if blocks.codes.size:
        to = values_at(b, blocks, w, n_workers)
        begin = 2 * blocks.start[b]
        n = _wholes_at(b, blocks) + 4 * blocks.first[b, blocks.n_active[b, 2 * PARTS - 1]]
        for k in range(n):
            blocks.values[to + k] = blocks.table[fetch(blocks.codes, begin + k)]


@inlined
def share(n, w, n_workers):
    """Part [begin, end) of n things that worker w of n_workers owns."""
    return n * w // n_workers, n * (w + 1) // n_workers


@inlined
def rows_of(b, blocks):
    """Rows of block b."""
    return min(blocks.capacity, blocks.n_rows - b * blocks.capacity)


@inlined
def count_panels(n_tiles):
    """Count the panels of the first layer."""
    last, _ = _panel_of(n_tiles - 1, n_tiles)
    return last // spec.PANEL_TILES + 1


@inlined
def panel_end(t, t1, n_tiles):
    """Where the tiles from t on end that lie in one panel and before t1."""
    first, width = _panel_of(t, n_tiles)
    return min(first + width, t1)


@kernel
def panel_part(t, t1, n_tiles, n_rows, lanes):
    """Tiles from t on that lie in one panel of n_rows and before t1: how many, their offset, a row's length."""
    first, width = _panel_of(t, n_tiles)
    return min(first + width, t1) - t, (first * n_rows + t - first) * lanes, width * lanes


@inlined
def _without_lowest(bits):
    """`bits`, which are not all 0, without the lowest 1."""
    return bits & (bits - np.uint64(1))


@inlined
def _in_table(v, table):
    return v == 0 or (0 < v <= 1 and table[np.uint8(v * 255 + 0.5)] == v)


@inlined
def _halves_of(bits):
    """Bit h: whether bit 2h or 2h + 1 of `bits` is 1."""
    bits |= bits >> np.uint64(1)
    bits &= np.uint64(0x5555555555555555)
    bits = (bits | bits >> np.uint64(1)) & np.uint64(0x3333333333333333)
    bits = (bits | bits >> np.uint64(2)) & np.uint64(0x0F0F0F0F0F0F0F0F)
    bits = (bits | bits >> np.uint64(4)) & np.uint64(0x00FF00FF00FF00FF)
    bits = (bits | bits >> np.uint64(8)) & np.uint64(0x0000FFFF0000FFFF)
    return (bits | bits >> np.uint64(16)) & np.uint64(0x00000000FFFFFFFF)


@entry
def count_entries(w, n_workers, x, table, halves, nonzeros, coded, masks):
    """Find what is not zero in each row: bit h of its words of `masks` for half h; halves[n], nonzeros[n] count it.

    halves[n] is -1 if an input is not finite; coded[n]: whether all are table entries k / 255. x (N * I,) bytes or
    floats, table (256,) of x's float type, halves and nonzeros (N,) int64, coded (N,) uint8, masks (N * words,) uint64.
    """
    n_rows = halves.size
    n_inputs = x.size // n_rows
    n_words = masks.size // n_rows
    lanes = lanes_of(x)
    begin, end = share(n_rows, w, n_workers)
    for n in range(begin, end):
        row = n * n_inputs
        some = nonzero = 0
        finite = True
        in_table = True
        for word in range(n_words):
            mask = np.uint64(0)
            first = 2 * WORD_BITS * word
            for i in range(first, min(first + 2 * WORD_BITS, n_inputs), lanes):
                bits = np.uint64(0)
                if i + lanes <= n_inputs:
                    bits = nonzeros_at(x, row + i)
                else:
                    for k in range(n_inputs - i):
                        bits |= np.uint64(x[row + i + k] != 0) << np.uint64(k)
                nonzero += count_ones(bits)
                mask |= _halves_of(bits) << np.uint64((i - first) // 2)
                while bits and x.itemsize > 1:  # bytes are always finite, and in the table
                    v = x[row + i + trailing_zeros(bits)]
                    finite &= v - v == 0
                    in_table = in_table and _in_table(v, table)
                    bits = _without_lowest(bits)
            masks[n * n_words + word] = mask
            some += count_ones(mask)
        halves[n] = some if finite else -1
        nonzeros[n] = nonzero
        coded[n] = in_table


@inlined
def _input(x, n, i, as_codes):
    """x[n, i], 0 past the last input; or its byte k for k / 255 where `as_codes`."""
    v = x[n, i] if i < x.shape[1] else x.dtype.type(0)
    return np.uint8(v * 255 + 0.5) if as_codes else v


@entry
def pack_entries(w, n_workers, x, as_codes, masks, starts, values):
    """List the values of each row's halves that are not zero, in ascending order.

    x (N, I), masks (N * words,) uint64, starts (N + 1,) int64: halves of the rows before, values (2 * halves,): bytes k
    for k / 255 where `as_codes`.
    """
    n_words = masks.size // x.shape[0]
    begin, end = share(x.shape[0], w, n_workers)
    for n in range(begin, end):
        at = 2 * starts[n]
        for word in range(n_words):
            bits = masks[n * n_words + word]
            while bits:
                i = 2 * (WORD_BITS * word + trailing_zeros(bits))
                bits = _without_lowest(bits)
                values[at] = _input(x, n, i, as_codes)
                values[at + 1] = _input(x, n, i + 1, as_codes)
                at += 2


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
def _lists(b, blocks, part_0, part_1):
    """Lists of the parts part_0 <= part < part_1: where those of halves begin and end, and those of wholes."""
    begin = blocks.n_active[b, part_0 - 1] if part_0 else ZERO
    n_active = blocks.n_active
    return begin, n_active[b, part_1 - 1], n_active[b, PARTS + part_0 - 1], n_active[b, PARTS + part_1 - 1]


@inlined
def _next(w, i, counters):
    """Worker w's counter i, which goes on by one."""
    count = counters[w, i]
    counters[w, i] += 1
    return count


@inlined
def _key(count, list_number, n_rows, n_parts):
    """Lists are ordered by this: halves before wholes, the first part before the second, few entries before many."""
    second = n_parts == PARTS and list_number // (_KINDS * _RUN) % _RUNS == _RUNS - 1
    return count + n_rows * (PARTS * int(list_number % _KINDS == _WHOLE) + int(second))


@kernel
def _order_lists(b, w, n_rows, n_parts, cursors, slots, blocks):
    """Order the lists of a block, whose numbers of entries are in `cursors`; then their first entries are there.

    Loops over the entries of a list are short, and the processor predicts their ends when neighbours are of equal
    length: on row B's network that took the products from 1.35 to 0.85 us a sample.
    """
    blocks = opened(blocks)
    n_lists = cursors.shape[1]
    last = 2 * PARTS * n_rows
    for key in range(last + 2):
        slots[w, key] = 0
    for i in range(n_lists):
        if cursors[w, i]:
            slots[w, _key(cursors[w, i], i, n_rows, n_parts) + 1] += 1
    for key in range(last + 1):
        slots[w, key + 1] += slots[w, key]
    for kind in range(2 * PARTS):
        blocks.n_active[b, kind] = slots[w, (kind + 1) * n_rows + 1]
    n_active = slots[w, last + 1]
    for i in range(n_lists):
        if cursors[w, i]:
            blocks.active[b, _next(w, _key(cursors[w, i], i, n_rows, n_parts), slots)] = i
    entries = 0
    for a in range(n_active):
        i = blocks.active[b, a]
        blocks.active[b, a] = i // _KINDS * 4 + 2 * int(i % _KINDS == _SECOND)
        blocks.first[b, a] = entries
        entries += cursors[w, i]
        cursors[w, i] = blocks.first[b, a]
    blocks.first[b, n_active] = entries


@kernel
def _gather_masks(b, w, n_rows, n_groups, blocks, masks, starts, values, order, columns, places):
    """Masks of a block's rows, column by column: bit r of columns[w, g, h] for half h of row 64 g + r.

    places[w * capacity + r] is where the values of row r begin.
    """
    blocks = opened(blocks)
    n_words = columns.shape[2] // WORD_BITS
    begin = b * blocks.capacity
    for r in range(n_rows, n_groups * WORD_BITS):
        for word in range(n_words):
            columns[w, r // WORD_BITS, word * WORD_BITS + r % WORD_BITS] = 0
    for r in range(n_rows):
        # in a shuffled order no processor guesses the next sample, about 5 cache lines of MNIST's
        ahead = order[min(begin + r + _AHEAD, blocks.n_rows - 1)]
        prefetch(masks, ahead * n_words)
        prefetch(starts, ahead)
        sample = order[begin + r]
        places[w * blocks.capacity + r] = 2 * starts[sample]
        for v in range(2 * starts[sample], 2 * starts[sample + 1], lanes_of(values)):
            prefetch(values, v)
        for word in range(n_words):
            columns[w, r // WORD_BITS, word * WORD_BITS + r % WORD_BITS] = masks[sample * n_words + word]
    for g in range(n_groups):
        for word in range(n_words):
            _transpose_bits(columns, w, g, word * WORD_BITS)


@kernel
def _transpose_bits(columns, w, g, at):
    """Exchange rows and columns of the 64 by 64 bits of columns[w, g, at:]: blocks off the diagonal, then smaller ones.

    Warren, Hacker's Delight, 7-3.
    """
    low = np.uint64(0xFFFFFFFF)
    size = 32
    while size:
        shift = np.uint64(size)
        for first in range(at, at + WORD_BITS, 2 * size):
            for k in range(first, first + size):
                changed = ((columns[w, g, k] >> shift) ^ columns[w, g, k + size]) & low
                columns[w, g, k] ^= changed << shift
                columns[w, g, k + size] ^= changed
        size //= 2
        low ^= low << np.uint64(size)


@kernel
def _count_lists(w, n_groups, columns, cursors):
    """Number of entries of each list of a block, in `cursors`."""
    for i in range(0, cursors.shape[1], _KINDS):
        half = i // _KINDS * 2
        first = second = whole = 0
        for g in range(n_groups):
            low, high = columns[w, g, half], columns[w, g, half + 1]
            first += count_ones(low)
            second += count_ones(high)
            whole += count_ones(low & high)
        separate = whole < _WHOLE_FROM
        cursors[w, i + _FIRST] = first if separate else first - whole
        cursors[w, i + _SECOND] = second if separate else second - whole
        cursors[w, i + _WHOLE] = 0 if separate else whole


@kernel
def _append(bits, row, w, i, base, values_from, values, places, cursors, blocks, width):
    """Append the rows of a group, bit 0 of `bits` being row number `row`, to list i.

    The next value of each is at `places`; as many as `width` is long go from `values_from` on.
    """
    blocks = opened(blocks)
    e = cursors[w, i]
    place = w * blocks.capacity
    while bits:
        r = row + trailing_zeros(bits)
        bits = _without_lowest(bits)
        at = fetch(places, place + r)
        put(places, place + r, at + len(width))
        put(blocks.rows, base + e, r)
        vcopy(values, at, blocks.values, values_from + len(width) * e, width)
        e += 1
    cursors[w, i] = e


@kernel
def _transpose_block(b, w, n_parts, masks, starts, values, order, columns, places, cursors, slots, blocks):
    """Sort the entries of one block by list."""
    n_rows = rows_of(b, blocks)
    n_groups = -(-n_rows // WORD_BITS)
    _gather_masks(b, w, n_rows, n_groups, blocks, masks, starts, values, order, columns, places)
    _count_lists(w, n_groups, columns, cursors)
    _order_lists(b, w, n_rows, n_parts, cursors, slots, blocks)
    base = blocks.start[b]
    wholes_from = blocks.first[b, blocks.n_active[b, PARTS - 1]]
    halves_at = 2 * base
    wholes_at = halves_at + _wholes_at(b, blocks)
    for begin in range(0, n_groups, _GROUPS):
        for i in range(0, cursors.shape[1], _KINDS):
            half = i // _KINDS * 2
            for g in range(begin, min(begin + _GROUPS, n_groups)):
                low, high = columns[w, g, half], columns[w, g, half + 1]
                both = low & high if cursors[w, i + _WHOLE] >= wholes_from else np.uint64(0)
                row = WORD_BITS * g
                _append(both, row, w, i + _WHOLE, base, wholes_at, values, places, cursors, blocks, W4)
                _append(low & ~both, row, w, i + _FIRST, base, halves_at, values, places, cursors, blocks, W2)
                _append(high & ~both, row, w, i + _SECOND, base, halves_at, values, places, cursors, blocks, W2)


@entry
def transpose(w, n_workers, queue, n_parts, masks, starts, values, order, columns, places, cursors, slots, blocks):
    """Fill `blocks` from rows: its row r of block b is sample ``order[b * capacity + r]``.

    n_parts: parts that the inputs are in, 1 or 2. Scratch: columns (n_workers, groups of 64 rows, 64 * words) uint64,
    places (n_workers * capacity,) int64, cursors (n_workers, number of lists) and slots (n_workers, 4 * capacity + 2)
    int32.
    """
    blocks = held(blocks)
    b = take(queue)
    while b < blocks.start.size:
        _transpose_block(b, w, n_parts, masks, starts, values, order, columns, places, cursors, slots, blocks)
        b = take(queue)


@kernel
def _forward_tiles(b, blocks, inputs_at, lists, weights, at, row_length, out, out_at, out_stride, width):
    blocks = opened(blocks)
    lanes = lanes_of(out)
    base = blocks.start[b]
    for a in range(lists[0], lists[1]):
        # The next list's weights may be anywhere in the panel: row E took 17 % longer without this, and without the
        # same for a list's own weights in the update (AVX2).
        p = at + blocks.active[b, min(a + 1, lists[1] - 1)] * row_length
        vprefetch(weights, p, row_length, W2, width)
        p = at + blocks.active[b, a] * row_length
        w0 = vload(weights, p, lanes, width)
        w1 = vload(weights, p + row_length, lanes, width)
        for e in range(blocks.first[b, a], blocks.first[b, a + 1]):
            p = out_at + fetch(blocks.rows, base + e) * lanes
            v = inputs_at + 2 * e
            z = vfma(vdecode(blocks.values, blocks.table, v, width), w0, vload(out, p, out_stride, width))
            z = vfma(vdecode(blocks.values, blocks.table, v + 1, width), w1, z)
            vstore(out, p, out_stride, z)
    wholes_at = inputs_at + _wholes_at(b, blocks)
    for a in range(lists[2], lists[3]):
        p = at + blocks.active[b, min(a + 1, lists[3] - 1)] * row_length
        vprefetch(weights, p, row_length, W4, width)
        p = at + blocks.active[b, a] * row_length
        w0 = vload(weights, p, lanes, width)
        w1 = vload(weights, p + row_length, lanes, width)
        w2 = vload(weights, p + 2 * row_length, lanes, width)
        w3 = vload(weights, p + 3 * row_length, lanes, width)
        for e in range(blocks.first[b, a], blocks.first[b, a + 1]):
            p = out_at + fetch(blocks.rows, base + e) * lanes
            v = wholes_at + 4 * e
            z = vfma(vdecode(blocks.values, blocks.table, v, width), w0, vload(out, p, out_stride, width))
            z = vfma(vdecode(blocks.values, blocks.table, v + 1, width), w1, z)
            z = vfma(vdecode(blocks.values, blocks.table, v + 2, width), w2, z)
            z = vfma(vdecode(blocks.values, blocks.table, v + 3, width), w3, z)
            vstore(out, p, out_stride, z)


@kernel
def sparse_forward(b, blocks, inputs_at, weights, at, n_rows, n_tiles, out, out_at, t0, t1, part_0, part_1):
    """out[t, r] += sum_i x[r, i] * weights[i, t] for tiles t0 <= t < t1 and the rows of block b.

    The sum is over the inputs i of parts part_0 <= part < part_1. inputs_at: `values_at`; weights: panels of n_rows
    from offset `at`; out (n_tiles, capacity, V) from offset `out_at`.
    """
    lanes = lanes_of(out)
    out_stride = blocks.capacity * lanes
    lists = _lists(b, blocks, part_0, part_1)
    t = t0
    while t < t1:
        n, part, row_length = panel_part(t, t1, n_tiles, n_rows, lanes)
        n = small_group_size(n)
        p = at + part
        q = out_at + t * out_stride
        if WIDE and n == 5:
            _forward_tiles(b, blocks, inputs_at, lists, weights, p, row_length, out, q, out_stride, W5)
        elif WIDE and n == 4:
            _forward_tiles(b, blocks, inputs_at, lists, weights, p, row_length, out, q, out_stride, W4)
        elif WIDE and n == 3:
            _forward_tiles(b, blocks, inputs_at, lists, weights, p, row_length, out, q, out_stride, W3)
        elif n == 2:
            _forward_tiles(b, blocks, inputs_at, lists, weights, p, row_length, out, q, out_stride, W2)
        else:
            _forward_tiles(b, blocks, inputs_at, lists, weights, p, row_length, out, q, out_stride, W1)
        t += n


@kernel
def _update_halves(b, blocks, inputs_at, lists, deltas, deltas_at, deltas_stride, out, at, row_length, width):
    """`sparse_update` of the lists of halves of quads."""
    blocks = opened(blocks)
    lanes = lanes_of(out)
    base = blocks.start[b]
    # Sums of their own: weights in single precision would lose the small terms one by one.
    zero = vsplat(out.dtype.type(0), width)
    for a in range(lists[0], lists[1]):
        p = at + blocks.active[b, a] * row_length
        vprefetch(out, p, row_length, W2, width)
        g0 = zero
        g1 = zero
        for e in range(blocks.first[b, a], blocks.first[b, a + 1]):
            delta = vload(deltas, deltas_at + fetch(blocks.rows, base + e) * lanes, deltas_stride, width)
            v = inputs_at + 2 * e
            g0 = vfma(vdecode(blocks.values, blocks.table, v, width), delta, g0)
            g1 = vfma(vdecode(blocks.values, blocks.table, v + 1, width), delta, g1)
        vaccumulate(out, p, lanes, g0)
        vaccumulate(out, p + row_length, lanes, g1)


@kernel
def _update_wholes(b, blocks, inputs_at, lists, deltas, deltas_at, deltas_stride, out, at, row_length, stride, width):
    """`sparse_update` of the lists of whole quads; stride: from tile to tile of `out`."""
    blocks = opened(blocks)
    lanes = lanes_of(out)
    base = blocks.start[b]
    zero = vsplat(out.dtype.type(0), width)
    wholes_at = inputs_at + _wholes_at(b, blocks)
    for a in range(lists[2], lists[3]):
        p = at + blocks.active[b, a] * row_length
        vprefetch(out, p, row_length, W4, width)
        g0 = zero
        g1 = zero
        g2 = zero
        g3 = zero
        for e in range(blocks.first[b, a], blocks.first[b, a + 1]):
            delta = vload(deltas, deltas_at + fetch(blocks.rows, base + e) * lanes, deltas_stride, width)
            v = wholes_at + 4 * e
            g0 = vfma(vdecode(blocks.values, blocks.table, v, width), delta, g0)
            g1 = vfma(vdecode(blocks.values, blocks.table, v + 1, width), delta, g1)
            g2 = vfma(vdecode(blocks.values, blocks.table, v + 2, width), delta, g2)
            g3 = vfma(vdecode(blocks.values, blocks.table, v + 3, width), delta, g3)
        vaccumulate(out, p, stride, g0)
        vaccumulate(out, p + row_length, stride, g1)
        vaccumulate(out, p + 2 * row_length, stride, g2)
        vaccumulate(out, p + 3 * row_length, stride, g3)


@inlined
def _update_tiles(b, blocks, inputs_at, lists, deltas, deltas_at, deltas_stride, out, at, row_length, width):
    lanes = lanes_of(out)
    _update_halves(b, blocks, inputs_at, lists, deltas, deltas_at, deltas_stride, out, at, row_length, width)
    _update_wholes(b, blocks, inputs_at, lists, deltas, deltas_at, deltas_stride, out, at, row_length, lanes, width)


@kernel
def _update_panel(b, blocks, inputs_at, lists, deltas, deltas_at, deltas_stride, out, at, row_length, n):
    """`sparse_update` of n tiles of one panel, where tiles are two registers of 16 each.

    Four sums of three registers fit, with what they are made of: whole quads take three tiles in two steps, and the
    rest tile by tile. Row E took 5 % longer with all of it tile by tile.
    """
    lanes = lanes_of(out)
    for t in range(0, n, 2):
        p = deltas_at + t * deltas_stride
        q = at + t * lanes
        if n - t > 1:
            _update_halves(b, blocks, inputs_at, lists, deltas, p, deltas_stride, out, q, row_length, W2)
        else:
            _update_halves(b, blocks, inputs_at, lists, deltas, p, deltas_stride, out, q, row_length, W1)
    done = 0
    if n >= 3:
        half = lanes // 2
        offsets = (ZERO, half, deltas_stride)  # a tile, and the first half of the next one
        _update_wholes(b, blocks, inputs_at, lists, deltas, deltas_at, offsets, out, at, row_length, half, HALVES_3)
        p = deltas_at + deltas_stride + half
        offsets = (ZERO, deltas_stride - half, deltas_stride)
        _update_wholes(b, blocks, inputs_at, lists, deltas, p, offsets, out, at + 3 * half, row_length, half, HALVES_3)
        done = 3
    for t in range(done, n):
        p = deltas_at + t * deltas_stride
        q = at + t * lanes
        _update_wholes(b, blocks, inputs_at, lists, deltas, p, deltas_stride, out, q, row_length, lanes, W1)


@kernel
def sparse_update(b, blocks, inputs_at, deltas, deltas_at, n_rows, n_tiles, out, at, t0, t1, part_0, part_1):
    """out[i, t] += sum_r x[r, i] * deltas[t, r] for tiles t0 <= t < t1 and the rows of block b.

    Inputs i are those of parts part_0 <= part < part_1. inputs_at: `values_at`; deltas (n_tiles, capacity, V) from
    offset `deltas_at`; out: panels of n_rows from offset `at`.
    """
    lanes = lanes_of(out)
    deltas_stride = blocks.capacity * lanes
    lists = _lists(b, blocks, part_0, part_1)
    t = t0
    while t < t1:
        n, part, row_length = panel_part(t, t1, n_tiles, n_rows, lanes)
        p = at + part
        q = deltas_at + t * deltas_stride
        if WIDE and n == 5:
            _update_tiles(b, blocks, inputs_at, lists, deltas, q, deltas_stride, out, p, row_length, W5)
        elif WIDE and n == 4:
            _update_tiles(b, blocks, inputs_at, lists, deltas, q, deltas_stride, out, p, row_length, W4)
        elif WIDE and n == 3:
            _update_tiles(b, blocks, inputs_at, lists, deltas, q, deltas_stride, out, p, row_length, W3)
        elif WIDE and n == 2:
            _update_tiles(b, blocks, inputs_at, lists, deltas, q, deltas_stride, out, p, row_length, W2)
        elif WIDE:
            _update_tiles(b, blocks, inputs_at, lists, deltas, q, deltas_stride, out, p, row_length, W1)
        else:
            _update_panel(b, blocks, inputs_at, lists, deltas, q, deltas_stride, out, p, row_length, n)
        t += n


@inlined
def gram_row(b, r, blocks, lanes):
    """Where the products of row r of block b lie, first with the block before, and from where with its own."""
    row = -(-blocks.capacity // lanes) * lanes
    at = (b * blocks.capacity + r) * 2 * row
    return at, at + row


@inlined
def _column_at(column, n_tiles, n_inputs, lanes):
    """Where a column begins in panels of n_inputs rows, and a row's length."""
    tile = column // lanes
    first, width = _panel_of(tile, n_tiles)
    return (first * n_inputs + tile - first) * lanes + column % lanes, width * lanes


@kernel
def _set_columns(b, blocks, n_tiles, n_inputs, columns, at, present):
    """Write the rows of block b as columns of a matrix in panels, from offset `at`; or zeros, where they have been."""
    blocks = opened(blocks)
    lanes = lanes_of(columns)
    base = blocks.start[b]
    wholes_at = _wholes_at(b, blocks)
    for a in range(blocks.n_active[b, 2 * PARTS - 1]):
        n = 2 if a < blocks.n_active[b, PARTS - 1] else 4
        values_from = 2 * base + (0 if n == 2 else wholes_at)
        for e in range(blocks.first[b, a], blocks.first[b, a + 1]):
            p, row_length = _column_at(fetch(blocks.rows, base + e), n_tiles, n_inputs, lanes)
            p += at + blocks.active[b, a] * row_length
            for k in range(n):
                v = decode(blocks.values, blocks.table, values_from + n * e + k)
                columns[p + k * row_length] = v if present else columns.dtype.type(0)


@kernel
def _gram_block(b, blocks, n_tiles, n_inputs, columns, at, products, products_at, gram, gram_at):
    """gram[r, s] = x_r . column s for the rows of block b; gram from offset `gram_at`, 2 * n_tiles tiles a row."""
    lanes = lanes_of(gram)
    n_rows = rows_of(b, blocks)
    clear(products, products_at, lanes, blocks.capacity * lanes, ZERO, n_rows, ZERO, n_tiles)
    inputs_at = 2 * blocks.start[b]
    sparse_forward(
        b, blocks, inputs_at, columns, at, n_inputs, n_tiles, products, products_at, ZERO, n_tiles, ZERO, PARTS
    )
    for r in range(n_rows):
        for t in range(n_tiles):
            tile = vload(products, products_at + (t * blocks.capacity + r) * lanes, 0, W1)
            vstore(gram, gram_at + (2 * n_tiles * r + t) * lanes, 0, tile)


@entry
def gram_products(w, n_workers, queue, blocks, n_inputs, columns, products, gram):
    """Inner products of the rows of each block, with those of the block before and with one another.

    gram (blocks, capacity, 2, tiles of a block's rows * V) flattened; columns (n_workers, 2, n_inputs * tiles * V)
    flattened, zero before and after, and products (n_workers, tiles * capacity * V) flattened are scratch. n_inputs:
    inputs, rounded up to quads.
    """
    blocks = held(blocks)
    lanes = lanes_of(gram)
    n_tiles = -(-blocks.capacity // lanes)
    size = n_inputs * n_tiles * lanes
    n_blocks = blocks.start.size
    begin = take(queue) * _GRAM_BLOCKS
    while begin < n_blocks:
        end = min(begin + _GRAM_BLOCKS, n_blocks)
        for b in range(max(begin - 1, 0), end):
            _set_columns(b, blocks, n_tiles, n_inputs, columns, (2 * w + b % 2) * size, True)
            if b >= begin:
                first, second = gram_row(b, ZERO, blocks, lanes)
                for own in range(2):
                    at = (2 * w + (b + 1 + own) % 2) * size
                    gram_at = second if own else first
                    products_at = w * n_tiles * blocks.capacity * lanes
                    _gram_block(b, blocks, n_tiles, n_inputs, columns, at, products, products_at, gram, gram_at)
                if b > 0:
                    _set_columns(b - 1, blocks, n_tiles, n_inputs, columns, (2 * w + (b + 1) % 2) * size, False)
        _set_columns(end - 1, blocks, n_tiles, n_inputs, columns, (2 * w + (end - 1) % 2) * size, False)
        begin = take(queue) * _GRAM_BLOCKS
