"""sgd_epoch, evaluate and predict against the reference, over shapes, dtypes, densities, streams and thread counts."""

import itertools
from types import SimpleNamespace
from unittest import mock

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastmnist as fm
from fastmnist import reference
from fastmnist.engine import flat, packing
from fastmnist.engine import threads as engine_threads
from fastmnist.engine.packing import PER_SAMPLE_BLOCK

SIZES = st.sampled_from([1, 2, 7, 8, 9, 15, 16, 17, 31, 33])  # around one and two tiles of both float types
TOLERANCE = {"float64": 1e-10, "float32": 3e-4}


def make_data(n, n_inputs, n_outputs, density, dtype, seed=0):
    """Random images of the given share of non-zeros, and integer labels."""
    random = np.random.default_rng(seed)
    images = random.random((n, n_inputs)) * (random.random((n, n_inputs)) < density)
    return images.astype(dtype), random.integers(n_outputs, size=n)


def make_weights(sizes, dtype, biases, seed=1):
    """Random weights, and biases or None."""
    random = np.random.default_rng(seed)
    weights = [(random.random((i, o)) * 0.6 - 0.3).astype(dtype) for i, o in itertools.pairwise(sizes)]
    vectors = [(random.random(o) - 0.5).astype(dtype) for o in sizes[1:]]
    return weights, vectors if biases else None


def copies(arrays, dtype=None):
    """Copies of a list of arrays, or None."""
    return None if arrays is None else [np.array(a, dtype) for a in arrays]


def assert_close(got, expected, tolerance):
    """Compare lists of arrays with a tolerance relative to the largest entry."""
    for g, e in zip(got, expected, strict=True):
        np.testing.assert_allclose(g, e, rtol=tolerance, atol=tolerance * max(1, np.abs(e).max(initial=0)))


@st.composite
def trainings(draw):
    """Arguments of `sgd_epoch`, and the data to call it with."""
    dtype = draw(st.sampled_from(["float64", "float32"]))
    depth = draw(st.integers(1, 4))
    sizes = [draw(SIZES | st.just(170)), *(draw(SIZES) for _ in range(depth))]  # 170 inputs are in two parts
    n = draw(st.sampled_from([1, 2, 5, PER_SAMPLE_BLOCK - 1, PER_SAMPLE_BLOCK, PER_SAMPLE_BLOCK + 1, 101]))
    output, loss = draw(
        st.sampled_from(
            [
                ("linear", None),
                ("sigmoid", "squared_error"),
                ("sigmoid", "cross_entropy"),
                ("tanh", None),
                ("relu", None),
                ("softmax", None),
                ("softmax", "squared_error"),
            ]
        )
    )
    rates = st.sampled_from([0.0, 0.5, 0.3])
    return {
        "dtype": dtype,
        "sizes": sizes,
        "n": n,
        "density": draw(st.sampled_from([0.0, 0.19, 1.0])),
        "biases": draw(st.booleans()),
        "arguments": {
            "learning_rate": 0.002,
            "batch_size": draw(st.sampled_from([b for b in (1, 3, 16, n) if b <= n])),
            "activation": draw(st.sampled_from(["relu", "sigmoid", "tanh", "linear"])),
            "output": output,
            "loss": loss,
            "relu_gradient": draw(st.sampled_from(["relu", "straight-through"])),
            "dropout": draw(st.one_of(rates, st.lists(rates, min_size=len(sizes) - 2, max_size=len(sizes) - 2))),
            "dropout_gradient": draw(st.sampled_from([None, "scaled", "mask", "value"])),
            "updates_per_batch": draw(st.sampled_from([1, 1, 3])),
            "drop_last": draw(st.booleans()),
        },
    }


@settings(max_examples=150)
@given(trainings(), st.integers(1, 3), st.sampled_from([3, 16, PER_SAMPLE_BLOCK]), st.integers(1, 3))
def test_an_epoch_gives_what_the_reference_gives(case, threads, block, run):
    with mock.patch.multiple(flat, PER_SAMPLE_BLOCK=block, _RUN_BLOCKS=run, _PARALLEL_FROM=0, _HELPED_FROM=0):
        check_epoch(case, threads)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_several_panels_in_parts_give_what_the_reference_gives(dtype, threads):
    arguments = {"learning_rate": 0.002, "dropout": 0.5, "dropout_gradient": "scaled"}
    case = {"dtype": dtype, "sizes": [400, 100, 10], "n": 101, "density": 0.19, "biases": True, "arguments": arguments}
    with mock.patch.multiple(flat, _PARALLEL_FROM=0, _HELPED_FROM=0):
        check_epoch(case, threads)


def check_epoch(case, threads):
    dtype, sizes = case["dtype"], case["sizes"]
    images, labels = make_data(case["n"], sizes[0], sizes[-1], case["density"], dtype)
    weights, biases = make_weights(sizes, dtype, case["biases"])
    exact_weights, exact_biases = copies(weights, np.float64), copies(biases, np.float64)
    expected = reference.sgd_epoch(
        images.astype(np.float64),
        labels,
        exact_weights,
        exact_biases,
        rng=np.random.RandomState(3),
        **case["arguments"],
    )
    got = fm.sgd_epoch(
        images, labels, weights, biases, rng=np.random.RandomState(3), threads=threads, **case["arguments"]
    )
    tolerance = TOLERANCE[dtype]
    assert got[0] == pytest.approx(expected[0], rel=tolerance, abs=tolerance)
    if dtype == "float64":
        assert got[1] == expected[1]
    assert_close(weights, exact_weights, tolerance)
    assert_close(biases or [], exact_biases or [], tolerance)


def test_a_wrong_kernel_would_be_seen():
    """The comparison above bites: a learning rate that is 0.1 % off fails it."""
    images, labels = make_data(41, 16, 4, 0.19, "float64")
    weights, _ = make_weights([16, 9, 4], "float64", False)
    others = copies(weights)
    fm.sgd_epoch(images, labels, weights, learning_rate=0.02)
    reference.sgd_epoch(images, labels, others, learning_rate=0.02002)
    with pytest.raises(AssertionError):
        assert_close(weights, others, TOLERANCE["float64"])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch_size", [1, 10])
@pytest.mark.parametrize("sizes", [(50, 40, 10), (50, 33, 20, 10), (50, 10)])
def test_threads_change_no_bit(dtype, batch_size, sizes):
    images, labels = make_data(130, 50, 10, 0.3, dtype)
    results = []
    for threads in (1, 2, 3):
        weights, biases = make_weights(sizes, dtype, True)
        score = fm.sgd_epoch(
            images,
            labels,
            weights,
            biases,
            learning_rate=0.01,
            batch_size=batch_size,
            dropout=0.25,
            rng=7,
            threads=threads,
        )
        outputs = fm.predict(images, weights, biases, threads=threads)
        results.append([score, *(a.tobytes() for a in (*weights, *biases, outputs))])
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("values", ["floats", "bytes made floats"])
def test_threads_really_split_the_work(monkeypatch, values):
    """Blocks this small would run on one thread; forced onto three, they still give the same bits."""
    images, labels = make_data(130, 170, 10, 0.3, "float64")
    if values != "floats":
        images = np.round(np.abs(images) * 60).clip(0, 255).astype(np.uint8)
    results = []
    for threshold in ("_PARALLEL_FROM", "_HELPED_FROM", "_SLICE"):
        monkeypatch.setattr(flat, threshold, 0)
    monkeypatch.setattr(flat, "_DECODED_FROM", 0)
    monkeypatch.setattr(flat, "_TILES_PER_WORKER", 1)
    for threads in (1, 3):
        for batch_size in (1, 10):
            weights, biases = make_weights((170, 100, 10), "float64", True)
            fm.sgd_epoch(images, labels, weights, biases, learning_rate=0.01, batch_size=batch_size, threads=threads)
            score = fm.evaluate(images, labels, weights, biases, threads=threads)
            results.append([score, *(a.tobytes() for a in (*weights, *biases))])
    assert results[:2] == results[2:]


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="plain Python has no helpers")
def test_a_helper_that_comes_when_all_is_done_changes_nothing(monkeypatch):
    late = []
    pool = SimpleNamespace(submit=lambda *call: late.append(call))
    for threshold in ("_PARALLEL_FROM", "_HELPED_FROM"):
        monkeypatch.setattr(flat, threshold, 0)
    images, labels = make_data(130, 170, 10, 0.3, "float64")
    images = fm.pack(images)  # its products are made by the first call, on the pool that threads really have
    alone, _ = make_weights((170, 100, 10), "float64", False)
    helped = copies(alone)
    fm.sgd_epoch(images, labels, alone, learning_rate=0.01, threads=1)
    monkeypatch.setattr(engine_threads, "_threads", lambda n: pool)
    fm.sgd_epoch(images, labels, helped, learning_rate=0.01, threads=2)
    for kernel, *arguments in late:
        held = [a.tobytes() for a in arguments if isinstance(a, np.ndarray)]  # NaN may lie where nobody looks
        kernel(*arguments)
        assert held == [a.tobytes() for a in arguments if isinstance(a, np.ndarray)]
    assert len(late) == 1
    assert [a.tobytes() for a in helped] == [a.tobytes() for a in alone]


@pytest.mark.parametrize("inputs", [50, 170])
def test_where_calls_end_changes_no_bit_of_per_sample_sgd(monkeypatch, inputs):
    """The updates that a block's products have not seen are followed within runs, and none outlives its run."""
    images, labels = make_data(500, inputs, 10, 0.3, "float64")
    for module in flat, packing:
        monkeypatch.setattr(module, "PER_SAMPLE_BLOCK", 8)
    monkeypatch.setattr(flat, "_RUN_BLOCKS", 5)
    monkeypatch.setattr(flat, "_HELPED_FROM", 0)
    results, calls = [], []
    original = flat.run_with_helpers
    monkeypatch.setattr(flat, "run_with_helpers", lambda *arguments: calls.append(1) or original(*arguments))
    for seconds in (0.1, 1e-9):
        monkeypatch.setattr(flat, "_SLICE", seconds)
        weights, biases = make_weights((inputs, 33, 10), "float64", True)
        fm.sgd_epoch(images, labels, weights, biases, learning_rate=0.01)
        results.append([a.tobytes() for a in (*weights, *biases)])
    assert len(calls) == 1 + 13
    assert results[0] == results[1]


@pytest.mark.parametrize("garbage", [0x00, 0xFF, 0x7F])
@pytest.mark.parametrize("batch_size", [1, 16])
def test_what_scratch_memory_held_before_does_not_matter(monkeypatch, garbage, batch_size):
    monkeypatch.setattr(flat, "_HELPED_FROM", 0)
    images, labels = make_data(50, 170, 10, 0.3, "float32")
    clean, _ = make_weights((170, 17, 9, 10), "float32", False)
    dirty = copies(clean)
    arguments = {
        "learning_rate": 0.01,
        "batch_size": batch_size,
        "activation": "sigmoid",
        "dropout": 0.5,
        "rng": 1,
    }
    fm.sgd_epoch(images, labels, clean, **arguments)

    def dirty_scratch(n, dtype):
        return np.full(n * dtype.itemsize, garbage, np.uint8).view(dtype)

    monkeypatch.setattr(flat, "scratch", dirty_scratch)
    monkeypatch.setattr(packing, "scratch", dirty_scratch)
    flat._idle.clear()
    fm.sgd_epoch(images, labels, dirty, **arguments)
    assert [a.tobytes() for a in clean] == [a.tobytes() for a in dirty]


@pytest.mark.parametrize("batch_size", [1, 16])
@pytest.mark.parametrize("sizes", [(30, 17, 10), (30, 17, 9, 10)])
def test_what_a_call_leaves_behind_does_not_reach_the_next(batch_size, sizes):
    images, labels = make_data(50, 30, 10, 0.3, "float64")
    clean, biases = make_weights(sizes, "float64", True)
    start = copies(clean), copies(biases)
    rates = [0.5, 0.0][: len(sizes) - 2]
    arguments = {"batch_size": batch_size, "dropout": rates, "rng": 1, "updates_per_batch": 1 + batch_size // 8}
    flat._idle.clear()
    fm.sgd_epoch(images, labels, clean, biases, learning_rate=0.01, **arguments)
    fm.sgd_epoch(images, labels, copies(clean), copies(biases), learning_rate=1e200, **arguments)
    again = fm.sgd_epoch(images, labels, *start, learning_rate=0.01, **arguments)
    assert np.isfinite(again[0])
    assert [a.tobytes() for a in (*clean, *biases)] == [a.tobytes() for a in (*start[0], *start[1])]


def test_networks_kept_for_the_next_call_are_few():
    images, labels = make_data(5, 6, 3, 0.5, "float64")
    for units in range(2, 12):
        fm.evaluate(images, labels, make_weights((6, units, 3), "float64", False)[0])
    assert len(flat._idle) == flat._KEPT
    fm.evaluate(images, labels, make_weights((6, flat._KEPT_BYTES // 48, 3), "float64", False)[0])
    assert max(network.nbytes for network in flat._idle.values()) < flat._KEPT_BYTES


@pytest.mark.parametrize("batch_size", [1, 7])
def test_only_the_weights_change(batch_size):
    images, labels = make_data(30, 12, 4, 0.4, "float64")
    targets = fm.to_categorical(labels, 4)
    before = images.copy(), targets.copy()
    weights, _ = make_weights((12, 5, 4), "float64", False)
    start = copies(weights)
    images.flags.writeable = targets.flags.writeable = False
    fm.sgd_epoch(images, targets, weights, learning_rate=0.01, batch_size=batch_size)
    assert all((w != s).any() for w, s in zip(weights, start, strict=True))
    trained = copies(weights)
    fm.evaluate(images, targets, weights)
    fm.predict(images, weights)
    assert (images == before[0]).all()
    assert (targets == before[1]).all()
    assert all((w == t).all() for w, t in zip(weights, trained, strict=True))


def test_byte_swapped_images_work():
    images, labels = make_data(40, 24, 4, 0.4, "float64")
    weights, _ = make_weights((24, 9, 4), "float64", False)
    expected = copies(weights)
    fm.sgd_epoch(images, labels, expected, learning_rate=0.01)
    fm.sgd_epoch(images.astype(images.dtype.newbyteorder()), labels, weights, learning_rate=0.01)
    assert all((w == e).all() for w, e in zip(weights, expected, strict=True))


def test_strided_images_and_weights_work():
    images, labels = make_data(40, 24, 4, 0.4, "float64")
    weights, _ = make_weights((24, 9, 4), "float64", False)
    expected = copies(weights)
    fm.sgd_epoch(images, labels, expected, learning_rate=0.01)
    wide = np.zeros((80, 48))
    wide[::2, ::2] = images
    fortran = [np.asfortranarray(w) for w in weights]
    fm.sgd_epoch(wide[::2, ::2], labels, fortran, learning_rate=0.01)
    assert all((f == e).all() for f, e in zip(fortran, expected, strict=True))


def test_bytes_are_read_as_value_over_255():
    random = np.random.default_rng(0)
    images = (random.integers(256, size=(40, 28, 28)) * (random.random((40, 28, 28)) < 0.2)).astype(np.uint8)
    labels = random.integers(10, size=40)
    results = []
    for x in (images, images.reshape(40, 784), images.reshape(40, 784) / 255, fm.pack(images)):
        weights, _ = make_weights((784, 20, 10), "float64", False)
        error, correct = fm.sgd_epoch(x, labels, weights, learning_rate=0.01)
        results.append((error, correct, weights[0].tobytes()))
    assert results.count(results[0]) == 4


def test_labels_and_one_hot_targets_agree_and_soft_targets_count_by_argmax():
    images, labels = make_data(40, 12, 4, 0.5, "float64")
    targets = fm.to_categorical(labels, 4)
    soft = targets * 0.7 + 0.05
    scores, trained = [], []
    for y in (labels, targets, soft):
        weights, _ = make_weights((12, 6, 4), "float64", False)
        exact = copies(weights)
        scores.append(fm.sgd_epoch(images, y, weights, learning_rate=0.01))
        trained.append(weights)
        expected = reference.sgd_epoch(images, y, exact, learning_rate=0.01)
        assert scores[-1] == (pytest.approx(expected[0]), expected[1])
        assert_close(weights, exact, 1e-12)
    assert scores[0] == scores[1]


@pytest.mark.parametrize("change", [(0, 0), (17, 5), (-1, -1)])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_an_array_changed_in_place_is_packed_anew(change, dtype):
    images, labels = make_data(40, 33, 4, 0.3, "float64")
    images = (images * 255).astype("uint8") if dtype == "uint8" else images.astype(dtype)
    weights, _ = make_weights((33, 6, 4), "float64", False)
    fm.sgd_epoch(images, labels, weights, learning_rate=0.01)
    images[change] += 1
    fresh = copies(weights)
    fm.sgd_epoch(images, labels, weights, learning_rate=0.01)
    fm.sgd_epoch(images.copy(), labels, fresh, learning_rate=0.01)
    assert all((w == f).all() for w, f in zip(weights, fresh, strict=True))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "change",
    [
        lambda x: np.negative(x, out=x),
        lambda x: np.negative(x[5, [1, 2]], out=x[5, 1:3]),
        lambda x: np.negative(x[7, ::2], out=x[7, ::2]),
        lambda x: np.multiply(x, 2, out=x),
        lambda x: x.sort(axis=1),
    ],
)
def test_changes_that_a_weak_hash_would_miss_are_noticed(change, dtype):
    x = np.random.default_rng(1).standard_normal((64, 784)).astype(dtype)
    weights, _ = make_weights((784, 9, 4), dtype, False)
    before = fm.predict(x, weights)
    change(x)
    after = fm.predict(x, weights)
    assert (after != before).any()
    assert (after == fm.predict(x.copy(), weights)).all()


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="plain Python runs one worker")
@pytest.mark.parametrize("batch_size", [1, 10])
def test_workers_run_all_or_none(monkeypatch, batch_size):
    """A thread that cannot be started must not leave the others waiting for it."""
    images, labels = make_data(130, 50, 10, 0.3, "float64")
    weights, _ = make_weights((50, 100, 10), "float64", True)
    for threshold in ("_PARALLEL_FROM", "_HELPED_FROM"):
        monkeypatch.setattr(flat, threshold, 0)
    monkeypatch.setattr(flat, "_TILES_PER_WORKER", 1)
    arguments = {"learning_rate": 0.01, "batch_size": batch_size, "threads": 3}
    fm.sgd_epoch(images, labels, weights, **arguments)
    start = copies(weights)
    submit = engine_threads._pool.submit
    submitted = []

    def failing(*arguments):
        submitted.append(arguments)
        if len(submitted) == 2:
            raise RuntimeError("can't start new thread")
        return submit(*arguments)

    monkeypatch.setattr(engine_threads._pool, "submit", failing)
    with pytest.raises(RuntimeError, match="new thread"):
        fm.sgd_epoch(images, labels, weights, **arguments)
    assert all((w == s).all() for w, s in zip(weights, start, strict=True))


def test_rows_swapped_in_place_are_noticed_and_unchanged_arrays_are_not_packed_again(monkeypatch):
    monkeypatch.setattr(packing, "_WORTH_REMEMBERING", 0)
    packings = []
    original = packing._pack
    monkeypatch.setattr(packing, "_pack", lambda x, *how: packings.append(len(x)) or original(x, *how))
    images, labels = make_data(64, 128, 4, 0.3, "float64", seed=5)
    weights, _ = make_weights((128, 6, 4), "float64", False)
    for _ in range(3):
        fm.sgd_epoch(images, labels, weights, learning_rate=0.01)
    assert packings == [64]
    images[[3, 40]] = images[[40, 3]]
    fm.sgd_epoch(images, labels, weights, learning_rate=0.01)
    assert packings == [64, 64]


def test_the_packing_of_a_freed_array_is_forgotten(monkeypatch):
    monkeypatch.setattr(packing, "_WORTH_REMEMBERING", 0)
    images, labels = make_data(64, 128, 4, 0.3, "float64", seed=6)
    weights, _ = make_weights((128, 6, 4), "float64", False)
    packing._MEMORY._packed.clear()
    fm.sgd_epoch(images[:40], labels[:40], weights, learning_rate=0.01)
    fm.sgd_epoch(images[:40], labels[:40], weights, learning_rate=0.01)
    assert len(packing._MEMORY._packed) == 1
    del images
    assert not packing._MEMORY._packed


def test_evaluate_and_predict_match_the_reference():
    images, labels = make_data(131, 40, 10, 0.2, "float64")
    weights, biases = make_weights((40, 17, 9, 10), "float64", True)
    for output in ("linear", "softmax", "sigmoid", "tanh", "relu"):
        expected = reference.predict(images, weights, biases, activation="tanh", output=output)
        got = fm.predict(images, weights, biases, activation="tanh", output=output)
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14)
        error, correct = fm.evaluate(images, labels, weights, biases, activation="tanh", output=output)
        wanted = reference.evaluate(images, labels, weights, biases, activation="tanh", output=output)
        assert (error, correct) == (pytest.approx(wanted[0]), wanted[1])


def test_a_list_of_activations_goes_layer_by_layer():
    images, _ = make_data(20, 12, 4, 0.5, "float64")
    weights, _ = make_weights((12, 9, 7, 4), "float64", False)
    hidden = np.maximum(np.tanh(images @ weights[0]) @ weights[1], 0)
    got = fm.predict(images, weights, activation=["tanh", "relu"])
    np.testing.assert_allclose(got, hidden @ weights[2], rtol=1e-12)


def test_divergence_gives_what_numpy_gives():
    images, labels = make_data(60, 20, 4, 0.5, "float64")
    weights, _ = make_weights((20, 9, 4), "float64", False)
    exact = copies(weights)
    arguments = {"learning_rate": 1e6, "activation": "linear"}
    error, correct = fm.sgd_epoch(images, labels, weights, **arguments)
    with np.errstate(all="ignore"):
        expected = reference.sgd_epoch(images, labels, exact, **arguments)
    assert np.isnan(error)
    assert np.isnan(expected[0])
    assert correct == expected[1]
    assert np.isnan(weights[1]).all()


# Randomness

STREAMS = {
    "global": lambda: None,
    "RandomState": lambda: np.random.RandomState(5),
    "RandomState on PCG64": lambda: np.random.RandomState(np.random.PCG64(5)),
    "Generator": lambda: np.random.default_rng(5),
    "Generator on MT19937": lambda: np.random.Generator(np.random.MT19937(5)),
}


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("draw", ["integers", "keep-below", "drop-below"])
@pytest.mark.parametrize(("batch_size", "sizes"), [(1, (30, 11, 4)), (1, (30, 11, 6, 4)), (16, (30, 11, 6, 4))])
def test_dropout_draws_and_leaves_the_stream_as_numpy_would(stream, draw, batch_size, sizes):
    images, labels = make_data(57, 30, 4, 0.3, "float64")
    rate = 0.5 if draw == "integers" else 0.3
    np.random.seed(9)
    rng = STREAMS[stream]()
    twin_state = np.random.RandomState(9) if rng is None else STREAMS[stream]()
    weights, _ = make_weights(sizes, "float64", False)
    exact = copies(weights)
    arguments = {"learning_rate": 0.01, "batch_size": batch_size, "dropout": rate, "dropout_draw": draw}
    got = fm.sgd_epoch(images, labels, weights, rng=rng, **arguments)
    expected = reference.sgd_epoch(images, labels, exact, rng=twin_state, **arguments)
    assert got == (pytest.approx(expected[0], rel=1e-12), expected[1])
    assert_close(weights, exact, 1e-11)
    after = np.random if rng is None else rng
    assert (after.random(10) == twin_state.random(10)).all()
    assert (after.standard_normal(3) == twin_state.standard_normal(3)).all()


def test_an_integer_seed_gives_philox_whatever_the_slices(monkeypatch):
    images, labels = make_data(90, 30, 4, 0.3, "float64")
    results = []
    for seconds in (0.1, 1e-9):
        monkeypatch.setattr(flat, "_SLICE", seconds)
        weights, _ = make_weights((30, 11, 6, 4), "float64", False)
        exact = copies(weights)
        error, _ = fm.sgd_epoch(images, labels, weights, learning_rate=0.01, batch_size=8, dropout=0.3, rng=2**40 + 3)
        results.append((error, [w.tobytes() for w in weights]))
    reference.sgd_epoch(images, labels, exact, learning_rate=0.01, batch_size=8, dropout=0.3, rng=2**40 + 3)
    assert_close(weights, exact, 1e-11)
    assert results[0] == results[1]


# Refusals

GOOD = {"learning_rate": 0.01}
SHARED = np.ones((12, 12))


def read_only(a):
    """Return a read-only copy."""
    a = a.copy()
    a.flags.writeable = False
    return a


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"images": np.zeros((20, 11))},
            ValueError,
            "images have 11 inputs each, but weights\\[0\\] has 12 rows",
        ),
        ({"images": np.zeros(20)}, ValueError, "images have shape \\(20,\\)"),
        ({"images": np.zeros((0, 12))}, ValueError, "nothing to compute"),
        ({"images": np.zeros((20, 12), object)}, TypeError, "images have dtype object"),
        ({"images": np.zeros((20, 12), complex)}, TypeError, "images have dtype complex128"),
        ({"images": np.zeros((20, 12), int)}, TypeError, "images have dtype int64"),
        ({"images": np.full((20, 12), np.nan)}, ValueError, "images\\[0, 0\\] is nan"),
        ({"images": np.full((20, 12), -np.inf)}, ValueError, "images\\[0, 0\\] is -inf"),
        ({"labels": np.zeros(19, int)}, ValueError, "labels have shape \\(19,\\), but there are 20 images"),
        ({"labels": np.full(20, 4)}, ValueError, "labels lie between 4 and 4; the network has 4 outputs"),
        ({"labels": np.full(20, -1)}, ValueError, "labels lie between -1 and -1"),
        ({"labels": np.zeros(20)}, TypeError, "labels have dtype float64"),
        ({"labels": np.zeros((20, 5))}, ValueError, "labels have shape \\(20, 5\\)"),
        ({"labels": np.full((20, 4), np.nan)}, ValueError, "labels hold NaN"),
        ({"labels": np.full((20, 4), 1j)}, TypeError, "labels have dtype complex128"),
        ({"weights": []}, ValueError, "weights is empty"),
        (
            {"weights": [np.zeros((12, 5)), np.zeros((6, 4))]},
            ValueError,
            "weights\\[1\\] has shape \\(6, 4\\)",
        ),
        (
            {"weights": [np.zeros((12, 5)), np.zeros(5)]},
            ValueError,
            "weights\\[1\\] is an array of shape \\(5,\\)",
        ),
        ({"weights": [np.zeros((12, 4)).tolist()]}, ValueError, "weights\\[0\\] is a list"),
        ({"weights": [np.zeros((12, 5), "f4"), np.zeros((5, 4))]}, TypeError, "dtypes float32, float64"),
        ({"weights": [np.zeros((12, 4), int)]}, TypeError, "dtypes int64"),
        ({"weights": [read_only(np.zeros((12, 4)))]}, ValueError, "weights\\[0\\] is read-only"),
        ({"weights": [SHARED, SHARED[:, :4]]}, ValueError, "weights\\[0\\] and weights\\[1\\] share memory"),
        ({"images": SHARED, "weights": [SHARED]}, ValueError, "weights\\[0\\] and images share memory"),
        ({"biases": [np.zeros(5)]}, ValueError, "1 biases for 2 weights"),
        ({"biases": [np.zeros(5), np.zeros(5)]}, ValueError, "biases\\[1\\]"),
        ({"biases": [np.zeros(5), read_only(np.zeros(4))]}, ValueError, "biases\\[1\\] is read-only"),
        ({"learning_rate": -0.1}, ValueError, "learning_rate is -0.1; 0 or more"),
        ({"learning_rate": np.nan}, ValueError, "learning_rate is nan"),
        ({"learning_rate": "fast"}, ValueError, "learning_rate is 'fast'"),
        ({"batch_size": 0}, ValueError, "batch_size is 0; a whole number from 1 to 20"),
        ({"batch_size": 21}, ValueError, "batch_size is 21"),
        ({"batch_size": 2.5}, TypeError, "batch_size is 2.5"),
        ({"dropout": 1.0}, ValueError, "dropout is 1.0"),
        ({"dropout": -0.1}, ValueError, "dropout is -0.1"),
        ({"activation": "gelu"}, ValueError, "activation is 'gelu'; accepted are 'linear', 'relu'"),
        ({"activation": ["relu", "relu"]}, ValueError, "2 activations are given for 1 hidden layers"),
        ({"output": "gelu"}, ValueError, "output is 'gelu'"),
        ({"loss": "hinge"}, ValueError, "loss is 'hinge'"),
        ({"loss": "cross_entropy"}, ValueError, 'needs output "softmax" or "sigmoid"'),
        ({"relu_gradient": "leaky"}, ValueError, "relu_gradient is 'leaky'"),
        ({"dropout_gradient": "none"}, ValueError, "dropout_gradient is 'none'"),
        ({"dropout_draw": "bits"}, ValueError, "dropout_draw is 'bits'"),
        ({"dropout": 0.3, "dropout_draw": "integers"}, ValueError, "0.5 is wanted"),
        ({"rng": "seed"}, TypeError, "rng is a str"),
        ({"rng": -1}, ValueError, "rng is -1"),
        ({"updates_per_batch": 0}, ValueError, "updates_per_batch is 0"),
        ({"threads": 0}, ValueError, "threads is 0"),
    ],
)
def test_a_refused_call_says_why_and_changes_nothing(change, error, message):
    images, labels = make_data(20, 12, 4, 0.5, "float64")
    weights, _ = make_weights((12, 5, 4), "float64", False)
    arguments = {"images": images, "labels": labels, "weights": weights, **GOOD, **change}
    before = [np.array(w) for w in (*arguments["weights"], *arguments.get("biases", ()))]
    np.random.seed(2)
    with pytest.raises(error, match=message):
        fm.sgd_epoch(**arguments)
    after = [*arguments["weights"], *arguments.get("biases", ())]
    assert all((np.array(a) == b).all() for a, b in zip(after, before, strict=True))
    assert np.random.random() == np.random.RandomState(2).random()


def test_an_interrupted_epoch_keeps_what_was_trained(monkeypatch):
    images, labels = make_data(90, 30, 4, 0.3, "float64")
    weights, _ = make_weights((30, 11, 4), "float64", False)
    first_half = copies(weights)
    monkeypatch.setattr(flat, "_RUN_BLOCKS", 1)
    fm.sgd_epoch(images[:PER_SAMPLE_BLOCK], labels[:PER_SAMPLE_BLOCK], first_half, learning_rate=0.01)
    monkeypatch.setattr(flat, "_SLICE", 1e-9)
    calls = []
    original = flat.run_with_helpers

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        original(*arguments)

    monkeypatch.setattr(flat, "run_with_helpers", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fm.sgd_epoch(images, labels, weights, learning_rate=0.01)
    assert all((w == h).all() for w, h in zip(weights, first_half, strict=True))
