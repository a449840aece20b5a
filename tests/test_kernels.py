"""Single kernels against NumPy: vectors, packing, blocks, products, activations, optimisers, the compile cache."""

import collections
import copy
import itertools
import os
import pickle
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import NamedTuple

import numba
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numba.core.typing.context import BaseContext

import fastmnist
import fastmnist as fm
from fastmnist import _jit, reference, spec
from fastmnist.engine import FlatNetwork, Packed, flat
from fastmnist.engine.packing import PER_SAMPLE_BLOCK
from fastmnist.kernels import barrier, dense, held, pointwise, sgd, simd, sparse

DTYPES = [np.float32, np.float64]
SIZES = st.sampled_from([1, 2, 3, 7, 8, 9, 15, 16, 17, 33, 65, 75])
jit = numba.njit


def tolerance(dtype):
    """A few dozen roundings."""
    return 64 * np.finfo(dtype).eps


def tiled(a):
    """(R, H) as (tiles, R, V), padded with zeros, flattened."""
    lanes = spec.TILE_BYTES // a.dtype.itemsize
    tiles = -(-a.shape[1] // lanes)
    out = np.zeros((len(a), tiles * lanes), a.dtype)
    out[:, : a.shape[1]] = a
    return out.reshape(len(a), tiles, lanes).transpose(1, 0, 2).copy().ravel()


def untiled(flat_values, rows, columns):
    """Inverse of `tiled`."""
    lanes = spec.TILE_BYTES // flat_values.itemsize
    return flat_values.reshape(-1, rows, lanes).transpose(1, 0, 2).reshape(rows, -1)[:, :columns]


def sparse_matrix(rows, columns, density, dtype, seed=0):
    """Random matrix with the given share of non-zeros."""
    random = np.random.default_rng(seed)
    return (random.standard_normal((rows, columns)) * (random.random((rows, columns)) < density)).astype(dtype)


# Tuples as addresses


class Pair(NamedTuple):
    numbers: np.ndarray
    factor: float


@jit
def _multiplied(pair, i):
    return pair.numbers[i] * pair.factor


@jit
def _multiply_all(pair):
    pair = held.held(pair)
    first = _multiplied(pair, 0)
    fields = held.opened(pair)
    for i in range(fields.numbers.size):
        pair.numbers[i] = _multiplied(fields, i) + held.opened(fields).factor
    return first


def test_a_held_tuple_has_the_fields_of_the_tuple():
    pair = Pair(np.arange(1.0, 4), 2.0)
    assert _multiply_all(pair) == 2
    assert pair.numbers.tolist() == [4, 6, 8]


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="plain Python has its own message")
def test_a_held_tuple_has_no_other_fields():
    with pytest.raises(numba.TypingError, match="Unknown attribute 'divisor'"):
        jit(lambda pair: held.held(pair).divisor)(Pair(np.zeros(1), 0.0))


# Division of work


@numba.njit(nogil=True)
def _work_on_steps(w, n_steps, n_jobs, counts, done):
    step = np.int64(0)
    while step < n_steps:
        job = barrier.next_job(step, n_jobs, counts)
        while job >= 0:
            if step > 0 and done[step - 1].sum() < n_jobs:  # the step before is not over
                done[step, job] = 100
            done[step, job] += 1
            barrier.job_done(counts)
            job = barrier.next_job(step, n_jobs, counts)
        step = barrier.next_step(w, step, n_jobs, counts)


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="plain Python runs one worker")
@pytest.mark.parametrize(("n_workers", "n_jobs"), [(1, 3), (2, 1), (3, 2), (4, 7)])
def test_every_job_of_a_step_is_done_once_before_the_next_begins(n_workers, n_jobs):
    counts, done = barrier.schedule(), np.zeros((3_000, n_jobs), np.int64)
    arguments = [(w, len(done), n_jobs, counts, done) for w in range(n_workers)]
    late = [threading.Timer(0.01 * w, _work_on_steps, arguments[w]) for w in range(1, n_workers)]
    for thread in late:
        thread.start()
    _work_on_steps(*arguments[0])
    for thread in late:
        thread.join()
    assert (done == 1).all()


@jit
def _divide(n, times, batches, paces, parts):
    n_workers = len(times)
    for w in range(n_workers):
        barrier.divide_equally(w, n_workers, paces)
    for _ in range(batches):
        for w in range(n_workers):
            begin, end = barrier.owned(n, w, n_workers, paces)
            paces[w, barrier.TIME] = times[w] * (end - begin)
        for w in range(n_workers):
            barrier.divide(n, w, n_workers, paces)
    for w in range(n_workers):
        parts[w] = barrier.owned(n, w, n_workers, paces)


def divided(n, times, batches=40):
    parts = np.empty((len(times), 2), np.int64)
    _divide(n, np.array(times, float), batches, barrier.paces_for(len(times)), parts)
    return parts.tolist()


def test_work_is_divided_by_the_time_it_takes():
    assert divided(25, [1.0, 1.0]) == [[0, 13], [13, 25]]
    assert divided(25, [1.0, 3.0]) == [[0, 19], [19, 25]]
    assert divided(25, [3.0, 1.0]) == [[0, 6], [6, 25]]
    assert divided(25, [1.0, 1.05]) == [[0, 13], [13, 25]]
    assert divided(100, [2.0, 1.0, 1.0]) == [[0, 20], [20, 60], [60, 100]]
    assert divided(25, [0.0, 0.0]) == [[0, 13], [13, 25]]
    # an interruption, even of the first batch
    assert divided(25, [1.0, 10.0], batches=1) == [[0, 16], [16, 25]]


@given(st.integers(0, 60), st.lists(st.integers(0, 10**9), min_size=1, max_size=6))
def test_all_work_is_divided(n, times):
    parts = divided(n, times)
    assert [begin for begin, _ in parts] == [0] + [end for _, end in parts[:-1]]
    assert parts[-1][1] == n
    assert n < len(times) or all(end > begin for begin, end in parts)


# Vectors


@jit
def _vector_operations(a, b, out, width):
    x = simd.vload(a, 1, 16, width)
    y = simd.vload(b, 1, 16, width)
    for k, v in enumerate(
        (
            simd.vfma(x, y, y),
            simd.vadd(x, y),
            simd.vsub(x, y),
            simd.vmul(x, y),
            simd.vdiv(x, y),
            simd.vsqrt(simd.vmul(x, x)),
            simd.vround(x),
            simd.vpower_of_two(simd.vround(x)),
            simd.vwhere_positive(x, y, x),
            simd.vsplat(a[0], width),
        )
    ):
        simd.vstore(out[k], 0, simd.TILE_BYTES // a.itemsize, v)
    return simd.vsum(x)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [simd.W1, simd.W2, simd.W3, simd.W4, simd.W5])
def test_vector_operations(dtype, width):
    random = np.random.default_rng(1)
    a, b = (random.standard_normal(100).astype(dtype) for _ in range(2))
    lanes = spec.TILE_BYTES // np.dtype(dtype).itemsize
    n = lanes * len(width)
    out = np.zeros((10, n), dtype)
    total = _vector_operations(a, b, out, width)
    at = np.concatenate([np.arange(lanes) + 1 + 16 * k for k in range(len(width))])
    x, y = a[at], b[at]
    exact = [
        x * y + y,
        x + y,
        x - y,
        x * y,
        x / y,
        np.abs(x),
        np.rint(x),
        2 ** np.rint(x),
        np.where(x > 0, y, x),
    ]
    for got, expected in zip(out, [*exact, np.full(n, a[0])], strict=True):
        np.testing.assert_allclose(got, expected, rtol=tolerance(dtype), atol=tolerance(dtype))
    np.testing.assert_allclose(total, x.sum(), rtol=1e-5)


@jit
def _half_operations(a, offsets, x, out, stride):
    there, apart = simd.vload(a, 2, offsets, simd.HALVES_3), simd.vload(a, 1, 9, simd.HALVES_3)
    simd.vaccumulate(out, 3, stride, simd.vfma(simd.vsplat(x, simd.HALVES_3), there, apart))


@pytest.mark.parametrize("dtype", DTYPES)
def test_halves_of_tiles_from_anywhere(dtype):
    random = np.random.default_rng(1)
    a, out = (random.standard_normal(100).astype(dtype) for _ in range(2))
    half = spec.TILE_BYTES // np.dtype(dtype).itemsize // 2
    offsets = (0, 50, 31)
    expected = out.copy()
    for k, offset in enumerate(offsets):
        at = 3 + k * half
        expected[at : at + half] += dtype(3) * a[2 + offset :][:half] + a[1 + 9 * k :][:half]
    _half_operations(a, offsets, dtype(3), out, half)
    np.testing.assert_allclose(out, expected, rtol=tolerance(dtype), atol=tolerance(dtype))


@jit
def _accumulate_sums(a, b, out, width):
    x = simd.vload(a, 1, 16, width)
    y = simd.vload(b, 1, 16, width)
    simd.vaccumulate_sums(out, 1, 5, (x, y, y, x))
    simd.vaccumulate_sums(out, 30, 5, (y,))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [simd.W1, simd.W2, simd.W4])
def test_sums_of_many_tiles_are_those_of_each(dtype, width):
    random = np.random.default_rng(1)
    a, b, out = (random.standard_normal(100).astype(dtype) for _ in range(3))
    expected = out.copy()
    lanes = spec.TILE_BYTES // np.dtype(dtype).itemsize
    for r in range(len(width)):
        x, y = (_halving_sum(v[1 + 16 * r :][:lanes]) for v in (a, b))
        expected[1 + 5 * r : 5 + 5 * r] += (x, y, y, x)
        expected[30 + 5 * r] += y
    _accumulate_sums(a, b, out, width)
    assert (out == expected).all()


def _halving_sum(v):
    return v[0] if v.size == 1 else _halving_sum(v[: v.size // 2] + v[v.size // 2 :])


def test_a_not_a_number_passes_through_relu():
    a = np.full(16, np.nan, np.float32)
    pointwise_activate(a, spec.RELU)
    assert np.isnan(a).all()


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="no machine code")
@pytest.mark.skipif("avx2" not in fm.engine.cpu_features(), reason="counts x86 registers")
def test_vectors_stay_vectors():
    """A silent loss of vectorisation would show as missing wide multiply-adds in the machine code."""
    register = "zmm" if fm.engine.vector_bits() == 512 else "ymm"

    @jit
    def products(s, v, out):
        dense.product(s, 0, 1, 4, v, 0, 64, 16, out, 0, 64, 16, 4, 10, 4)

    arrays = [np.zeros(1000, np.float32) for _ in range(3)]
    products(*arrays)
    (assembly,) = products.inspect_asm().values()
    fused = [line for line in assembly.splitlines() if "vfmadd" in line and register in line]
    assert len(fused) >= (16 if register == "zmm" else 8)


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="no machine code")
def test_a_kernel_is_not_inlined_because_its_caller_is():
    """Else the machine code of an entry would depend on what was compiled before it."""

    @_jit.kernel
    def half(x):
        return x / 2

    @_jit.inlined
    def quarter(x):
        return half(half(x))

    @jit
    def outermost(x):
        return quarter(x)

    assert outermost(1.0) == 0.25
    assert [o.fndesc.inline for kernel in (half, quarter) for o in kernel.overloads.values()] == [False, True]


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="no machine code")
def test_inference_asks_once_what_a_call_returns(monkeypatch):
    asked = collections.Counter()
    resolve = BaseContext.resolve_function_type

    def count(context, func, args, kws):
        asked[func] += 1
        return resolve(context, func, args, kws)

    monkeypatch.setattr(BaseContext, "resolve_function_type", count)

    @_jit.inlined
    def half(x):
        return x / 2

    @_jit.kernel
    def halves(x):
        while x > 1:
            x = half(x)
        return half(x)

    @jit
    def outermost(x):
        return halves(x)

    assert outermost(8.0) == 0.5
    assert asked[numba.typeof(half)] == 1


# Packing and blocks


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("density", [0.0, 0.19, 0.45, 1.0])
def test_packing_lists_every_non_zero(dtype, density):
    x = np.abs(sparse_matrix(61, 31, density, np.float64))
    x = (x * 60).clip(0, 255).astype(np.uint8) if dtype == "uint8" else x.astype(dtype)
    packed = fm.pack(x)
    assert packed.shape == (61, 31)
    assert packed.density == pytest.approx(np.count_nonzero(x) / x.size)
    assert len(packed) == 61
    expected = x / 255 if dtype == "uint8" else x
    for capacity in (1, 7, 40, 61):
        assert (dense_rows(packed, capacity, np.arange(61)) == expected).all()
    order = np.random.default_rng(0).permutation(61)[:47]
    assert (dense_rows(packed, 5, order) == expected[order]).all()


def test_blocks_of_many_rows():
    # masks of two words for the inputs, up to eleven for the rows, whose values are listed 256 rows at a time
    x = sparse_matrix(700, 170, 0.3, np.float64)
    order = np.random.default_rng(0).permutation(700)
    for capacity in (PER_SAMPLE_BLOCK, 64, 65, 300, 700):
        assert (dense_rows(fm.pack(x), capacity, order) == x[order]).all()


def test_quads_that_many_rows_share_are_listed_whole():
    packed = fm.pack(sparse_matrix(40, 31, 0.45, np.float64))
    for capacity, some in ((40, True), (10, False)):
        _, halves, _, lists = packed.blocks(np.dtype(np.float64), capacity, 1).n_active.T
        assert ((lists > halves) == some).all()


def test_two_parts_of_the_inputs_share_the_work_of_per_sample_sgd():
    packed = fm.pack(sparse_matrix(96, 784, 0.3, np.float64))
    for capacity, shares in ((PER_SAMPLE_BLOCK, (0.15, 0.25)), (40, (0, 0))):
        first, halves, more, lists = packed.blocks(np.dtype(np.float64), capacity, 1).n_active.T
        second = (halves - first + lists - more) / lists
        assert shares[0] <= second.min() <= second.max() <= shares[1]


def dense_rows(packed: Packed, capacity, order):
    """Unpack blocks into a matrix."""
    dtype = np.dtype(np.float64)
    if packed.dense:
        return packed.dense_blocks(dtype, capacity, order).dense.reshape(-1, packed.shape[1])
    blocks = packed.blocks(dtype, capacity, 1, order)
    out = np.zeros((len(order), 4 * -(-packed.shape[1] // 4)))
    for b in range(len(blocks.start)):
        v = 2 * blocks.start[b]
        for a in range(blocks.n_active[b, 3]):
            n = 2 if a < blocks.n_active[b, 1] else 4
            inputs = slice(blocks.active[b, a], blocks.active[b, a] + n)
            for e in range(blocks.start[b] + blocks.first[b, a], blocks.start[b] + blocks.first[b, a + 1]):
                values = blocks.values[v : v + n]
                values = blocks.table[values] if blocks.values.dtype == np.uint8 else values
                assert not out[b * capacity + blocks.rows[e], inputs].any()
                out[b * capacity + blocks.rows[e], inputs] = values
                v += n
    assert (out[:, packed.shape[1] :] == 0).all()
    return out[:, : packed.shape[1]]


def test_copies_and_pickles_hold_the_images_alone():
    x = sparse_matrix(200, 31, 0.2, np.float64)
    packed = fm.pack(x)
    size = len(pickle.dumps(packed))
    packed.blocks(x.dtype, 5, 1)
    packed.gram(x.dtype, packed.blocks(x.dtype, 40, 1), 1, True)
    again = pickle.loads(pickle.dumps(packed))
    assert len(pickle.dumps(packed)) < 1.5 * size
    order = np.arange(200)[::-1]
    assert (dense_rows(again, 7, order) == x[order]).all()
    assert (dense_rows(copy.copy(packed), 7, order) == x[order]).all()


def test_what_is_prepared_does_not_pile_up():
    packed = fm.pack(sparse_matrix(200, 31, 0.2, np.float64))
    sizes = []
    for capacity in range(1, 30):
        packed.blocks(np.dtype(np.float64), capacity, 1)
        sizes.append(packed.nbytes)
    assert max(sizes[10:]) < 2 * max(sizes[:6])


@pytest.mark.parametrize("density", [0.2, 1.0])
def test_dropped_single_precision_is_scaled_in_double(density):
    x = np.abs(sparse_matrix(23, 31, density, np.float32)) + np.float32(0)
    rate = 0.3
    dropped = dense_rows(fm.pack(x).dropped(rate, np.random.default_rng(0)), 5, np.arange(23))
    kept = dropped != 0
    assert (dropped[kept] == x.astype(np.float64)[kept] * (1 / (1 - rate))).all()


def test_bytes_and_their_255ths_take_one_byte_an_entry():
    x = np.random.default_rng(0).integers(256, size=(10, 784)).astype(np.uint8)
    sizes = [fm.pack(images).nbytes for images in (x, x / 255, (x / 255).astype(np.float32), x / 254)]
    assert sizes[0] < sizes[3] / 2
    assert fm.pack((x / np.float32(255)).astype(np.float32)).nbytes == sizes[0] == sizes[1]


@jit
def _first_layer(w, n_workers, blocks, weights, n_rows, n_tiles, out, deltas, updated):
    for b in range(blocks.start.size + 1):
        if b < blocks.start.size:
            sparse.decode_values(b, blocks, w, n_workers)
        for t0, t1 in ((0, n_tiles // 3), (n_tiles // 3, n_tiles)):
            for part in range(2 if b < blocks.start.size else 0):
                at = sparse.values_at(b, blocks, w, n_workers)
                sparse.sparse_forward(b, blocks, at, weights, 0, n_rows, n_tiles, out[b], 0, t0, t1, part, part + 1)
            if b > 0:
                at = sparse.values_at(b - 1, blocks, w, n_workers)
                sparse.sparse_update(b - 1, blocks, at, deltas[b - 1], 0, n_rows, n_tiles, updated, 0, t0, t1, 0, 2)


@settings(max_examples=40)
@example(dtype=np.float64, inputs=33, units=33, rows=PER_SAMPLE_BLOCK, density=1, values="decoded")
@example(dtype=np.float64, inputs=33, units=56, rows=PER_SAMPLE_BLOCK, density=1, values="bytes")
@example(dtype=np.float32, inputs=170, units=200, rows=PER_SAMPLE_BLOCK, density=0.6, values="decoded")
@given(
    dtype=st.sampled_from(DTYPES),
    inputs=SIZES | st.just(170),
    units=SIZES,
    rows=st.sampled_from([1, 2, 5, 12, PER_SAMPLE_BLOCK]),
    density=st.sampled_from([0, 0.2, 0.6, 1]),
    values=st.sampled_from(["floats", "bytes", "decoded"]),
)
def test_first_layer_products(dtype, inputs, units, rows, density, values):
    n_blocks = 3
    x = sparse_matrix(n_blocks * rows, inputs, density, dtype)
    x[:rows, inputs // 2 :] = 0  # blocks differ in size
    if values != "floats":
        x = ((np.abs(x) * 60).clip(0, 255).astype(np.uint8) / 255).astype(dtype)
    w, d = sparse_matrix(inputs, units, 1, dtype, 1), sparse_matrix(n_blocks * rows, units, 1, dtype, 2)
    blocks = fm.pack(x).blocks(np.dtype(dtype), rows, 1)
    worker, n_workers = 1, 3
    if values == "decoded":
        blocks = flat._decoding(blocks, n_workers, 100)
        assert (blocks.codes.size > 0) == bool(x.any())
        blocks.values[:] = np.nan
    network = FlatNetwork(inputs, [spec.Layer(units, biases=False)], np.dtype(dtype))
    network.set([w], None)
    deltas = np.stack([tiled(part) for part in np.split(d, n_blocks)])
    out, updated = np.zeros_like(deltas), network.params.copy()
    n_rows, n_tiles = network.layout.n_rows, network.layout.tiles(units)
    _first_layer(worker, n_workers, blocks, network.params, n_rows, n_tiles, out, deltas, updated)
    close = {"rtol": 1e-4, "atol": tolerance(dtype) * 50}
    got = np.concatenate([untiled(part, rows, units) for part in out])
    np.testing.assert_allclose(got, x @ w, **close)
    network.params[:] = updated
    network.get([w_after := np.empty_like(w)], None)
    np.testing.assert_allclose(w_after, w + x.T @ d, **close)


@jit
def _decode(b, blocks, w, n_workers):
    sparse.decode_values(b, blocks, w, n_workers)
    return sparse.values_at(b, blocks, w, n_workers)


def test_each_worker_keeps_the_values_of_two_blocks():
    x = (np.abs(sparse_matrix(64, 31, 0.3, np.float64)) * 60).clip(0, 255).astype(np.uint8)
    blocks = flat._decoding(fm.pack(x).blocks(np.dtype(np.float64), 16, 1), 2, 100)
    places = [_decode(b, blocks, w, 2) for b, w in ((0, 0), (1, 0), (2, 1), (3, 1))]
    ends = [*2 * blocks.start[1:], blocks.codes.size]
    for at, begin, end in zip(places, 2 * blocks.start, ends, strict=True):
        assert (blocks.values[at : at + end - begin] == blocks.codes[begin:end] / 255).all()


@pytest.mark.parametrize("density", [0.1, 0.45])
def test_gram_products(density):
    x = sparse_matrix(101, 50, density, np.float64)
    packed = fm.pack(x)
    blocks = packed.blocks(x.dtype, PER_SAMPLE_BLOCK, 1)
    gram = packed.gram(x.dtype, blocks, 1, False)
    n = PER_SAMPLE_BLOCK
    for b in range(len(gram)):
        rows, before = x[n * b : n * (b + 1)], x[n * max(b - 1, 0) : n * b]
        np.testing.assert_allclose(gram[b, : len(rows), 0, : len(before)], rows @ before.T, atol=1e-13)
        np.testing.assert_allclose(gram[b, : len(rows), 1, : len(rows)], rows @ rows.T, atol=1e-13)


def test_one_changed_bit_changes_the_fingerprint():
    words = np.random.default_rng(0).integers(2**63, size=(5, 16)).astype(np.uint64)
    multipliers = np.arange(1, 33, 2).astype(np.uint64)
    before, after = np.zeros(5, np.uint64), np.zeros(5, np.uint64)
    sparse.fingerprint(0, 1, words, multipliers, before)
    words[3, 7] ^= np.uint64(1 << 63)
    sparse.fingerprint(0, 1, words, multipliers, after)
    assert list(before != after) == [False, False, False, True, False]


# Dense products


@jit
def _product(s, v, out, rows, n_k, tiles, lanes):
    dense.product(s, 0, n_k, 1, v, 0, tiles * lanes, lanes, out, 0, tiles * lanes, lanes, rows, n_k, tiles)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 3, 4, 5, 8])
@pytest.mark.parametrize("tiles", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("inner", [9, 130])
def test_product(dtype, rows, tiles, inner):
    lanes = spec.TILE_BYTES // np.dtype(dtype).itemsize
    random = np.random.default_rng(0)
    s, v = (
        random.standard_normal((rows, inner)).astype(dtype),
        random.standard_normal((inner, tiles * lanes)).astype(dtype),
    )
    out = np.ones((rows, tiles * lanes), dtype)
    _product(s.ravel(), v.ravel(), out.ravel(), rows, inner, tiles, lanes)
    np.testing.assert_allclose(out, 1 + s @ v, rtol=1e-4, atol=tolerance(dtype) * inner)


@jit
def _dots(x, w, out, rows, tiles, units):
    dense.dots(x, 0, w, 0, out, 0, rows, 0, rows, tiles, units)


@settings(max_examples=40)
@given(dtype=st.sampled_from(DTYPES), inputs=SIZES, units=SIZES, rows=st.integers(1, 9))
def test_dots(dtype, inputs, units, rows):
    x, w = sparse_matrix(rows, inputs, 1, dtype), sparse_matrix(inputs, units, 1, dtype, 1)
    out = tiled(np.ones((rows, units), dtype))
    tiles = -(-inputs * dtype().itemsize // spec.TILE_BYTES)
    padded = np.zeros((units, tiles * spec.TILE_BYTES // dtype().itemsize), dtype)
    padded[:, :inputs] = w.T
    _dots(tiled(x), padded.ravel(), out, rows, tiles, units)
    np.testing.assert_allclose(untiled(out, rows, units), 1 + x @ w, rtol=1e-4, atol=tolerance(dtype) * 50)


# Activations and optimisers


@jit
def pointwise_activate(values, activation):
    """All lanes of `values`, as one row of tiles."""
    lanes = spec.TILE_BYTES // values.itemsize
    tiles = values.size // lanes
    pointwise.activate(values, 0, 0, lanes, 0, 1, values.size, 0, tiles, activation, np.zeros(0, np.uint8), 0, 0, 0.0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", spec.HIDDEN_ACTIVATIONS)
def test_activations_to_a_few_roundings(dtype, name):
    z = np.concatenate([np.linspace(-40, 40, 39_992), [0.0, -0.0, 1e-30, 1e4, -1e4, np.inf, -np.inf, 0.625]])
    z = z.astype(dtype)
    got = z.copy()
    with np.errstate(all="ignore"):  # infinities, where the kernels run as plain Python
        pointwise_activate(got, spec.ACTIVATIONS[name])
        expected = reference.activate(z.astype(np.longdouble), name)
    floor = np.finfo(dtype).tiny * 10
    np.testing.assert_allclose(got, expected.astype(dtype), rtol=6 * np.finfo(dtype).eps, atol=floor)


@jit
def _optimizer_step(updates, w, g, slot_1, slot_2, rate):
    tiles = w.size * w.itemsize // simd.TILE_BYTES
    pointwise.optimizer_step(updates, w, g, slot_1, slot_2, 0, tiles, rate, 0.0, 1.0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("optimizer", ["momentum", "nesterov", "rmsprop", "adam"])
def test_optimizer_steps(dtype, optimizer):
    random = np.random.default_rng(0)
    w, slot_1, slot_2 = random.random(48), np.zeros(48), np.zeros(48)
    kernel_w, kernel_1, kernel_2 = (a.astype(dtype) for a in (w, slot_1, slot_2))
    network = flat.FlatNetwork(1, [spec.Layer(1)], np.dtype(dtype))
    constants = spec.Optimizer(optimizer, decay_1=0.9, decay_2=0.999)
    updates = network._updates(constants, "squared_error", 1.0, np.zeros(1), 1, 0, 1)
    for step in range(1, 6):
        g = random.standard_normal(48)
        kernel_g = g.astype(dtype)
        rate = 0.01
        if optimizer == "adam":
            rate *= np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
            reference.adam_step(w, g, slot_1, slot_2, step, learning_rate=0.01, beta_1=0.9, beta_2=0.999, epsilon=1e-7)
        elif optimizer == "rmsprop":
            reference.rmsprop_step(w, g, slot_2, learning_rate=0.01, rho=0.999, epsilon=1e-7)
        else:
            reference.momentum_step(w, g, slot_1, learning_rate=0.01, momentum=0.9, nesterov=optimizer == "nesterov")
        _optimizer_step(updates, kernel_w, kernel_g, kernel_1, kernel_2, rate)
        assert (kernel_g == 0).all()
    np.testing.assert_allclose(kernel_w, w, rtol=tolerance(dtype))
    np.testing.assert_allclose(kernel_1, slot_1, rtol=tolerance(dtype), atol=tolerance(dtype))
    np.testing.assert_allclose(kernel_2, slot_2, rtol=tolerance(dtype), atol=tolerance(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("optimizer", ["momentum", "nesterov", "rmsprop", "adam"])
def test_what_an_optimizer_remembers_is_never_subnormal(dtype, optimizer):
    tiny = np.finfo(dtype).tiny
    before = np.resize(np.array([1.05, -1.05, 1.5, 1e6, np.nan, 0]) * tiny, 32).astype(dtype)
    slots = before.copy(), np.abs(before)
    network = flat.FlatNetwork(1, [spec.Layer(1)], np.dtype(dtype))
    constants = spec.Optimizer(optimizer, decay_1=0.9, decay_2=0.9)
    updates = network._updates(constants, "squared_error", 1.0, np.zeros(1), 1, 0, 1)
    w = np.ones_like(before)
    _optimizer_step(updates, w, np.zeros_like(w), *slots, 0.01)
    for k in {"momentum": [0], "nesterov": [0], "rmsprop": [1], "adam": [0, 1]}[optimizer]:
        expected = before * dtype(0.9) if k == 0 else np.abs(before) * dtype(0.9)
        expected[np.abs(before) < 1.1 * tiny] = 0
        np.testing.assert_allclose(slots[k], expected, rtol=tolerance(dtype), atol=0)
    assert (w[~np.isnan(before)] == 1).all()


# Compilation


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="no machine code")
def test_one_compiled_kernel_serves_every_architecture():
    random = np.random.default_rng(0)
    images, labels = random.random((30, 20)), random.integers(3, size=30)
    counts = []
    for sizes in ((20, 3), (20, 9, 3), (20, 40, 17, 8, 3)):
        weights = [random.random((i, o)) for i, o in itertools.pairwise(sizes)]
        for batch_size in (1, 4):
            fm.sgd_epoch(images, labels, weights, learning_rate=1e-3, batch_size=batch_size)
        fm.evaluate(images, labels, weights)
        counts.append(sum(len(entry.signatures) for entry in _jit.entries()))
    assert counts[0] == counts[1] == counts[2]


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="no machine code")
def test_machine_code_is_loaded_without_the_compiler_until_any_kernel_file_is_edited(tmp_path):
    """`philox_draws` lives in rng.py and calls `share` of sparse.py: after an edit there, a fresh process sees it."""
    package = tmp_path / "fastmnist"
    shutil.copytree(Path(fastmnist.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    program = (
        "import sys; import numpy as np; from fastmnist import _jit; from fastmnist.kernels.rng import philox_draws;"
        "out = np.full(8, 9, np.uint8);"
        "philox_draws(0, 1, 1, 2, 0, 0, 1, 1, np.array([8]), np.ones(1, np.uint32), out);"
        "print(out.sum(), _jit.clock.seconds > 0, 'numba.cpython.randomimpl' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}

    def run():
        command = [sys.executable, "-c", program]
        return subprocess.run(command, env=environment, cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    assert run().split() == ["8", "True", "True"]
    assert run().split() == ["8", "False", "False"]
    source = package / "kernels" / "sparse.py"
    text = source.read_text()
    assert "return n * w // n_workers, n * (w + 1) // n_workers" in text
    source.write_text(text.replace("return n * w // n_workers,", "return n * (w + 1) // n_workers,"))
    assert run().split() == ["72", "True", "True"]


def test_the_layout_keeps_padding_at_zero():
    images, labels = np.random.default_rng(0).random((40, 20)), np.arange(40) % 3
    network = fm.Network([20, 9, 5, 3], activation="sigmoid", dtype="float64", seed=1)
    for _ in range(3):
        network.train_epoch(images, labels, batch_size=7)
    inner = network._flat
    used = np.zeros(inner.params.size, bool)
    for views, biases in inner._views(np.arange(inner.params.size)):
        for _, weights in views:
            used[weights] = True
        used[biases] = True
    assert (inner.params[~used] == 0).all()
    assert np.count_nonzero(inner.params) == 20 * 9 + 9 + 9 * 5 + 5 + 5 * 3 + 3


@pytest.mark.parametrize("optimizer", list(spec.OPTIMIZERS))
@pytest.mark.parametrize("sizes", [(30, 9, 4), (30, 17, 6, 4)])
def test_networks_follow_the_reference(optimizer, sizes):
    random = np.random.default_rng(0)
    images, labels = random.random((41, 30)) * (random.random((41, 30)) < 0.3), random.integers(4, size=41)
    network = fm.Network(sizes, optimizer=optimizer, dtype="float64", seed=3)
    weights, biases = network.weights, network.biases
    slots = [[np.zeros_like(p) for p in (*weights, *biases)] for _ in range(2)]
    targets = reference.one_hot(labels, 4, np.float64)
    step, loss = 0, 0.0
    for start in range(0, 41, 8):
        step += 1
        rows = slice(start, start + 8)
        values = reference.forward(images[rows], weights, biases, activation="relu", output="softmax")
        loss += reference.loss_value(values[-1], targets[rows], "softmax", "cross_entropy")
        gradients = reference.backward(
            values, targets[rows], weights, activation="relu", output="softmax", loss="cross_entropy"
        )
        flat_gradients = [*gradients[0], *gradients[1]]
        for p, g, m, v in zip((*weights, *biases), flat_gradients, *slots, strict=True):
            if optimizer == "adam":
                reference.adam_step(p, g, m, v, step, learning_rate=0.02, beta_1=0.9, beta_2=0.999, epsilon=1e-7)
            elif optimizer == "rmsprop":
                reference.rmsprop_step(p, g, v, learning_rate=0.02, rho=0.9, epsilon=1e-7)
            elif optimizer == "sgd":
                p -= 0.02 * g
            else:
                reference.momentum_step(p, g, m, learning_rate=0.02, momentum=0.9, nesterov=optimizer == "nesterov")
    got, _ = network.train_epoch(images, labels, batch_size=8, learning_rate=0.02, shuffle=False)
    assert got == pytest.approx(loss / 41, rel=1e-12)
    for got_array, expected in zip((*network.weights, *network.biases), (*weights, *biases), strict=True):
        np.testing.assert_allclose(got_array, expected, rtol=1e-9, atol=1e-12)


def test_a_schedule_reaches_per_sample_sgd():
    images, labels = np.eye(6), np.arange(6) % 2
    networks = [fm.Network([6, 5, 2], optimizer="sgd", dtype="float64", seed=1) for _ in range(2)]
    networks[0].train_epoch(images, labels, batch_size=1, learning_rate=np.linspace(0.1, 0, 6), shuffle=False)
    networks[1].train_epoch(images, labels, batch_size=1, learning_rate=0.1, shuffle=False)
    assert (networks[0].weights[0] != networks[1].weights[0]).any()


def test_a_network_recovers_from_divergence_when_its_weights_are_put_back():
    images, labels = np.random.default_rng(0).random((40, 20)), np.arange(40) % 3
    network = fm.Network([20, 9, 3], activation="linear", optimizer="sgd", dtype="float64", seed=1)
    saved, expected = (network.weights, network.biases), network.predict(images)
    for _ in range(20):
        network.train_epoch(images, labels, batch_size=8, learning_rate=1e200)
    assert np.isnan(network.predict(images)).all()
    network.weights, network.biases = saved
    assert (network.predict(images) == expected).all()


def test_every_entry_is_named_in_the_readme():
    text = (Path(sgd.__file__).parent / "README.md").read_text()
    missing = [entry.py_func.__name__ for entry in _jit.entries() if f"`{entry.py_func.__name__}`" not in text]
    assert not missing
    assert flat.EVALUATION_BLOCK > 0
