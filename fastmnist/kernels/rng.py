"""Dropout draws: NumPy's MT19937 stream continued exactly, and the counter-based Philox stream.

A draw is one byte, 1 where the unit is kept. Draws lie in the order in which the replaced program makes them: batch by
batch, within a batch layer by layer, within a layer row by row.
"""

from __future__ import annotations

import numpy as np

from fastmnist._jit import entry, inlined, kernel
from fastmnist.kernels.simd import fetch, put
from fastmnist.kernels.sparse import share
from fastmnist.spec import INTEGERS, KEEP_BELOW

_N, _M = 624, 397
_UPPER, _LOWER = np.uint32(0x80000000), np.uint32(0x7FFFFFFF)
_MATRIX = np.uint32(0x9908B0DF)
_LOW = np.uint64(0xFFFFFFFF)


@inlined
def _word(words, i):
    """words[i] for i >= 0: where an index might be negative, LLVM leaves the loop in scalars."""
    return np.uint32(fetch(words, i))


@inlined
def _twist(key, upper, lower):
    mixed = np.uint32((_word(key, upper) & _UPPER) | (_word(key, lower) & _LOWER))
    return np.uint32((mixed >> np.uint32(1)) ^ (np.uint32(mixed & np.uint32(1)) * _MATRIX))


@kernel
def _next_words(key, words):
    """Advance the state by 624 words and temper them (Matsumoto and Nishimura, 1998).

    Three loops whose reads lie at least 227 words away from their writes, so that each runs in vectors.
    """
    for i in range(_N - _M):
        put(key, i, _word(key, i + _M) ^ _twist(key, i, i + 1))
    for i in range(_N - _M, _N - 1):
        put(key, i, _word(key, i + _M - _N) ^ _twist(key, i, i + 1))
    put(key, _N - 1, _word(key, _M - 1) ^ _twist(key, _N - 1, 0))
    _temper(key, words)


@kernel
def _temper(key, words):
    for i in range(_N):
        y = _word(key, i)
        y = np.uint32(y ^ (y >> np.uint32(11)))
        y = np.uint32(y ^ (np.uint32(y << np.uint32(7)) & np.uint32(0x9D2C5680)))
        y = np.uint32(y ^ (np.uint32(y << np.uint32(15)) & np.uint32(0xEFC60000)))
        put(words, i, y ^ (y >> np.uint32(18)))


@inlined
def _below(a, b, bound):
    """Whether ``random()`` of two words, times 2**53, is below `bound`."""
    return (a >> np.uint32(5)) * 67108864.0 + (b >> np.uint32(6)) < bound


@entry
def mt19937_draws(key, position, draw, rate, words, out):
    """Fill `out` with dropout draws and return the new position; `key` (624,) uint32 is advanced in place.

    words (624,) uint32 is scratch.
    `draw` INTEGERS is ``randint(2)``: the lowest bit of one word. The others compare ``random()``, 53 bits of two words
    (a >> 5) * 2**26 + (b >> 6), with the rate: KEEP_BELOW keeps where it is below 1 - rate, DROP_BELOW drops where it
    is below rate.
    """
    _temper(key, words)
    keeps_below = draw == KEEP_BELOW
    bound = (1.0 - rate if keeps_below else rate) * 9007199254740992.0
    n = 0
    while n < out.size:
        if position == _N:
            _next_words(key, words)
            position = 0
        if draw == INTEGERS:
            count = min(_N - position, out.size - n)
            for k in range(count):
                put(out, n + k, _word(words, position + k) & np.uint32(1))
            n += count
            position += count
        elif position == _N - 1:
            first = _word(words, position)
            _next_words(key, words)
            put(out, n, _below(first, _word(words, 0), bound) == keeps_below)
            n += 1
            position = 1
        else:
            count = min((_N - position) // 2, out.size - n)
            for k in range(count):
                at = position + 2 * k
                put(out, n + k, _below(_word(words, at), _word(words, at + 1), bound) == keeps_below)
            n += count
            position += 2 * count
    return position


@inlined
def _philox_round(c0, c1, c2, c3, k0, k1):
    p0 = c0 * np.uint64(0xD2511F53)
    p1 = c2 * np.uint64(0xCD9E8D57)
    return (p1 >> np.uint64(32)) ^ c1 ^ k0, p1 & _LOW, (p0 >> np.uint64(32)) ^ c3 ^ k1, p0 & _LOW


@inlined
def philox4x32(c0, c1, c2, c3, k0, k1):
    """Four words for one counter and key: Philox4x32-10 (Salmon, Moraes, Dror and Shaw, 2011).

    Words are held in uint64: from uint32, LLVM rearranges every factor and product, twice the instructions on AVX2.
    """
    for _ in range(10):
        c0, c1, c2, c3 = _philox_round(c0, c1, c2, c3, k0, k1)
        k0 = (k0 + np.uint64(0x9E3779B9)) & _LOW
        k1 = (k1 + np.uint64(0xBB67AE85)) & _LOW
    return c0, c1, c2, c3


@kernel
def _philox_row(k0, k1, epoch, layer, row, n_units, threshold, out, at):
    """Draws of a row: whole blocks in a loop without branches, of which LLVM does many at a time; then the rest."""
    key_0, key_1, bound = np.uint64(k0), np.uint64(k1), np.uint64(threshold)
    c1, c2, c3 = np.uint64(row) & _LOW, np.uint64(layer) & _LOW, np.uint64(epoch) & _LOW
    n_blocks = n_units // 4
    for block in range(n_blocks):
        words = philox4x32(np.uint64(block) & _LOW, c1, c2, c3, key_0, key_1)
        put(out, at + 4 * block, words[0] >= bound)
        put(out, at + 4 * block + 1, words[1] >= bound)
        put(out, at + 4 * block + 2, words[2] >= bound)
        put(out, at + 4 * block + 3, words[3] >= bound)
    words = philox4x32(np.uint64(n_blocks), c1, c2, c3, key_0, key_1)
    for k in range(n_units % 4):
        out[at + 4 * n_blocks + k] = words[k] >= bound


@entry
def philox_draws(w, n_workers, k0, k1, epoch, row_0, n_rows, capacity, sizes, thresholds, out):
    """Draws for rows row_0 <= row < row_0 + n_rows of an epoch, in batches of `capacity`, hidden layers of `sizes`.

    A draw depends on the seed (k0, k1), epoch, layer, row and unit alone: unit u of a row is word u % 4 of the block
    with counter (u // 4, row, layer, epoch), kept where it is at least the layer's threshold. Layers with threshold 0
    are not drawn.
    """
    n_units = 0
    for layer in range(sizes.size):
        n_units += sizes[layer]
    begin, end = share(n_rows, w, n_workers)
    for r in range(begin, end):
        batch = r // capacity * capacity
        batch_rows = min(capacity, n_rows - batch)
        at = batch * n_units
        for layer in range(sizes.size):
            row_at = at + (r - batch) * sizes[layer]
            if thresholds[layer]:
                _philox_row(k0, k1, epoch, layer, row_0 + r, sizes[layer], thresholds[layer], out, row_at)
            at += batch_rows * sizes[layer]
