"""The engine's general training step against a plain NumPy one: penalties, clipping, decay, weights, dropout."""

import itertools
import pickle
import threading

import numba
import numpy as np
import pytest

import fastmnist as fm
from fastmnist import reference, spec
from fastmnist.engine import Draws, FlatNetwork, flat, run_apart, truth_of

N, INPUTS, BATCH = 47, 30, 10
PENALTIES = {"l1": 0.02, "l2": 0.03, "bias_l1": 0.01, "bias_l2": 0.04}
LAYERS = (spec.Layer(19, "tanh", dropout=0.4), spec.Layer(9, "relu", biases=False), spec.Layer(5, "softmax"))


def make_data(dtype, n=N):
    random = np.random.default_rng(3)
    images = (random.random((n, INPUTS)) * (random.random((n, INPUTS)) < 0.3)).astype(dtype)
    return images, random.integers(5, size=n)


def make_parameters(layers, dtype):
    random = np.random.default_rng(4)
    sizes = [INPUTS, *(layer.units for layer in layers)]
    weights = [random.normal(0, 0.4, shape).astype(dtype) for shape in itertools.pairwise(sizes)]
    biases = [random.normal(0, 0.1, layer.units).astype(dtype) if layer.biases else None for layer in layers]
    return weights, biases


class Slow:
    """The same training in NumPy, one batch at a time."""

    def __init__(self, layers, optimizer, weights, biases):
        self.layers, self.optimizer = layers, optimizer
        self.tensors = [a for pair in zip(weights, biases, strict=True) for a in pair if a is not None]
        self.parameters = [(w, b) for w, b in zip(weights, biases, strict=True)]
        self.slots = {slot: [np.zeros_like(a) for a in self.tensors] for slot in (1, 2)}
        self.steps = 0

    def penalties(self):
        for layer, (w, b) in zip(self.layers, self.parameters, strict=True):
            yield w, layer.l1, layer.l2
            if b is not None:
                yield b, layer.bias_l1, layer.bias_l2

    def train_batch(self, x, targets, sample_weights, masks, rate, loss_scale):
        values, inputs = [x], x
        for layer, (w, b), mask in zip(self.layers, self.parameters, [*masks, None], strict=True):
            z = inputs @ w + (0 if b is None else b)
            inputs = reference.activate(z, layer.activation)
            if layer.dropout:
                inputs = inputs * mask / (1 - layer.dropout)
            values.append(inputs)
        entropy = -(sample_weights[:, None] * targets * np.log(values[-1])).sum()
        penalty = sum(l1 * np.abs(a).sum() + l2 * np.square(a).sum() for a, l1, l2 in self.penalties()) * len(x)
        delta = (values[-1] - targets) * sample_weights[:, None] * loss_scale / len(x)
        grads = []
        for k in reversed(range(len(self.layers))):
            w, b = self.parameters[k]
            grads[:0] = [values[k].T @ delta] + ([] if b is None else [delta.sum(axis=0)])
            if k:
                below = self.layers[k - 1]
                value = values[k] * (1 - below.dropout)
                delta = delta @ w.T
                delta = delta * (value > 0 if below.activation == "relu" else 1 - value**2)
                if below.dropout:
                    delta = delta * masks[k - 1] / (1 - below.dropout)
        self.step(grads, rate)
        return entropy, penalty

    def step(self, grads, rate):
        rule = self.optimizer
        self.steps += 1
        for k, (a, l1, l2) in enumerate(self.penalties()):
            grads[k] = grads[k] + l1 * np.sign(a) + 2 * l2 * a
        norms = [np.sqrt(np.square(g).sum()) for g in grads]
        if rule.clip_norm:
            grads = [g * min(1, rule.clip_norm / norm) for g, norm in zip(grads, norms, strict=True)]
        if rule.global_clip_norm:
            grads = [g * min(1, rule.global_clip_norm / np.linalg.norm(norms)) for g in grads]
        if rule.clip_value:
            grads = [np.clip(g, -rule.clip_value, rule.clip_value) for g in grads]
        for a, g, m, v in zip(self.tensors, grads, self.slots[1], self.slots[2], strict=True):
            a -= rate * rule.weight_decay * a
            if rule.name == "sgd":
                a -= rate * g
            elif rule.name in ("momentum", "nesterov"):
                nesterov = rule.name == "nesterov"
                reference.momentum_step(a, g, m, learning_rate=rate, momentum=rule.decay_1, nesterov=nesterov)
            elif rule.name == "rmsprop":
                reference.rmsprop_step(a, g, v, learning_rate=rate, rho=rule.decay_2, epsilon=rule.epsilon)
            else:
                betas = {"beta_1": rule.decay_1, "beta_2": rule.decay_2}
                reference.adam_step(a, g, m, v, self.steps, learning_rate=rate, **betas, epsilon=rule.epsilon)


def with_penalties(*layers):
    return [spec.Layer(a.units, a.activation, a.biases, a.dropout, **PENALTIES) for a in layers]


@pytest.mark.parametrize("penalized", [False, True])
@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"weight_decay": 0.1},
        {"clip_value": 0.02},
        {"clip_norm": 0.1},
        {"global_clip_norm": 0.2},
        {"name": "momentum", "decay_1": 0.8, "weight_decay": 0.2},
        {"name": "nesterov", "decay_1": 0.8, "clip_norm": 0.15},
        {"name": "rmsprop", "decay_2": 0.9, "clip_value": 0.1},
        {"name": "adam", "decay_1": 0.9, "decay_2": 0.99, "global_clip_norm": 0.3, "weight_decay": 0.05},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    ("dtype", "rows_at_a_time"), [(np.float32, BATCH), (np.float64, BATCH), (np.float64, 5)], ids=str
)
def test_training_agrees_with_numpy(monkeypatch, rows_at_a_time, dtype, rule, penalized):
    monkeypatch.setattr(flat, "_LARGEST_BLOCK", rows_at_a_time)
    monkeypatch.setattr(flat, "_PART_OF_A_BATCH", rows_at_a_time)
    layers = with_penalties(*LAYERS) if penalized else LAYERS
    optimizer = spec.Optimizer(**rule)
    images, labels = make_data(dtype)
    sample_weights = np.random.default_rng(5).uniform(0, 2, N)
    weights, biases = make_parameters(layers, dtype)
    slow = Slow(layers, optimizer, *make_parameters(layers, np.float64))
    network = FlatNetwork(INPUTS, layers, np.dtype(dtype))
    network.set(weights, biases)
    truth = truth_of(labels, N, 5, np.dtype(dtype), sample_weights=sample_weights)
    packed = fm.pack(images)
    rates = np.linspace(0.01, 0.05, 5)
    for epoch in range(2):
        order = np.random.default_rng(epoch).permutation(N)
        totals = network.train(
            packed, truth, order=order, batch_size=BATCH, rates=rates, optimizer=optimizer, loss="cross_entropy",
            steps_before=5 * epoch, loss_scale=1.5, draws=Draws(9, epoch=epoch), threads=3,
        )  # fmt: skip
        expected = np.zeros(2)
        for step, start in enumerate(range(0, N, BATCH)):
            rows = order[start : start + BATCH]
            place = np.arange(start, start + len(rows))
            masks = [reference.philox_mask(9, epoch, k, place, a.units, a.dropout) for k, a in enumerate(LAYERS[:-1])]
            targets = np.eye(5)[labels[rows]]
            expected += slow.train_batch(
                images[rows].astype(np.float64), targets, sample_weights[rows], masks, rates[step], 1.5
            )
    close = {"rtol": 2e-3, "atol": 2e-5} if dtype == np.float32 else {"rtol": 1e-9, "atol": 1e-12}
    np.testing.assert_allclose([totals.entropy, totals.penalty], expected, **close)
    network.get(weights, biases)
    for got, wanted in zip(slow.parameters, zip(weights, biases, strict=True), strict=True):
        for a, b in zip(got, wanted, strict=True):
            if b is not None:
                np.testing.assert_allclose(b, a, **close)


def test_copies_hold_no_memory_for_use_again():
    layers = [spec.Layer(7, "relu", dropout=0.5), spec.Layer(5, "softmax")]
    images, labels = make_data(np.float64)
    network = FlatNetwork(INPUTS, layers, np.dtype(np.float64))
    sizes = []
    for order in None, np.arange(N)[::-1].copy():
        network.train(
            fm.pack(images), truth_of(labels, N, 5, np.dtype(np.float64)), order=order, batch_size=BATCH,
            rates=np.full(-(-N // BATCH), 0.1), optimizer=spec.Optimizer(), loss="cross_entropy", draws=Draws(1),
        )  # fmt: skip
        again = pickle.loads(pickle.dumps(network))
        sizes.append(len(pickle.dumps(again)))
    assert network._shuffled is not None
    assert network._drawn.size > 0
    assert again._shuffled is None
    assert again._drawn.size == 0
    assert sizes[0] == sizes[1]
    assert (again.params == network.params).all()


@pytest.mark.parametrize(
    ("values", "rows_at_a_time"), [("floats", BATCH), ("bytes made floats", BATCH), ("floats", 5)], ids=str
)
@pytest.mark.parametrize("rule", [{"clip_norm": 0.1, "name": "adam", "decay_1": 0.9, "decay_2": 0.9}, {}], ids=str)
def test_the_bits_depend_neither_on_threads_nor_on_calls(monkeypatch, rows_at_a_time, rule, values):
    monkeypatch.setattr(flat, "_LARGEST_BLOCK", rows_at_a_time)
    monkeypatch.setattr(flat, "_PART_OF_A_BATCH", rows_at_a_time)
    monkeypatch.setattr(flat, "_PARALLEL_FROM", 0)
    monkeypatch.setattr(flat, "_TILES_PER_WORKER", 1)
    monkeypatch.setattr(flat, "_DECODED_FROM", 0)
    layers = with_penalties(spec.Layer(300, "relu", dropout=0.3), spec.Layer(40, "sigmoid"), spec.Layer(5, "softmax"))
    images, labels = make_data(np.float32)
    if values != "floats":
        images = np.round(images * 255).astype(np.uint8)
    truth, order = truth_of(labels, N, 5, np.dtype(np.float32)), np.random.default_rng(1).permutation(N)
    settings = {"batch_size": BATCH, "optimizer": spec.Optimizer(**rule), "loss": "cross_entropy", "draws": Draws(5)}
    results = []
    for calls in ("one", "one", "per batch"):
        weights, biases = make_parameters(layers, np.float32)
        network = FlatNetwork(INPUTS, layers, np.dtype(np.float32))
        network.set(weights, biases)
        starts = [0] if calls == "one" else range(0, N, BATCH)
        totals = np.zeros(5)
        for start in starts:
            part = order[start:] if calls == "one" else order[start : start + BATCH]
            rates = np.full(-(-len(part) // BATCH), 0.1)
            totals += network.train(
                fm.pack(images), truth, order=part, rates=rates, steps_before=start // BATCH, first_row=start,
                threads=1 if results else 3, **settings,
            )  # fmt: skip
        results.append((network.params.tobytes(), totals.round(9).tolist()))
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize(
    ("batch_size", "rows"),
    [(N, 4), (20, 4), (13, 13)],
    ids=["the last part is smaller", "the last batch has fewer parts", "no parts of one size"],
)
@pytest.mark.parametrize("rule", [{}, {"name": "nesterov", "decay_1": 0.8, "clip_norm": 0.15}], ids=str)
@pytest.mark.parametrize(
    "layers",
    [LAYERS, LAYERS[::2], (spec.Layer(19, "tanh"), *LAYERS[1:])],
    ids=["drawn by layer", "drawn by row", "not drawn"],
)
def test_a_large_batch_is_taken_in_parts(monkeypatch, layers, rule, batch_size, rows):
    images, labels = make_data(np.float64)
    packed, truth, steps = fm.pack(images), truth_of(labels, N, 5, np.dtype(np.float64)), -(-N // batch_size)
    results = []
    for largest in N, 4:
        monkeypatch.setattr(flat, "_LARGEST_BLOCK", largest)
        monkeypatch.setattr(flat, "_PART_OF_A_BATCH", largest)
        network, draws = FlatNetwork(INPUTS, layers, np.dtype(np.float64)), Draws(np.random.RandomState(2))
        network.set(*make_parameters(layers, np.float64))
        each = np.empty((2 * steps, 5))
        for epoch in np.split(each, 2):
            network.train(
                packed, truth, batch_size=batch_size, rates=np.linspace(0.1, 0.2, steps), draws=draws, each=epoch,
                optimizer=spec.Optimizer(**rule), loss="cross_entropy",
            )  # fmt: skip
        results.append((network.params, each, draws.rng.random()))
    by_layer = len(layers) > 2 and layers[0].dropout
    assert network._block_size(batch_size, N, 1, draws) == (batch_size if by_layer else rows)
    for whole, in_parts in zip(*results, strict=True):
        np.testing.assert_allclose(in_parts, whole, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(("batch_size", "rows_at_a_time"), [(1, BATCH), (BATCH, BATCH), (BATCH, 5)])
@pytest.mark.parametrize(("threads", "seconds"), [(1, 1.0), (2, 1.0), (1, 0.0)])
def test_each_step_has_its_totals(monkeypatch, batch_size, rows_at_a_time, threads, seconds):
    monkeypatch.setattr(flat, "_LARGEST_BLOCK", rows_at_a_time)
    monkeypatch.setattr(flat, "_PART_OF_A_BATCH", rows_at_a_time)
    monkeypatch.setattr(flat, "_PARALLEL_FROM", 0)
    monkeypatch.setattr(flat, "_SLICE", seconds)  # of one call of the kernel
    images, labels = make_data(np.float64, n=200)
    packed, truth = fm.pack(images), truth_of(labels, 200, 5, np.dtype(np.float64))
    settings = {"batch_size": batch_size, "optimizer": spec.Optimizer(), "loss": "cross_entropy", "threads": threads}
    networks = [FlatNetwork(INPUTS, LAYERS, np.dtype(np.float64)) for _ in range(2)]
    for network in networks:
        network.set(*make_parameters(LAYERS, np.float64))
    steps = -(-200 // batch_size)
    each = np.full((steps, 5), np.nan)
    totals = networks[0].train(packed, truth, rates=np.full(steps, 0.05), draws=Draws(3), each=each, **settings)
    for step, first in enumerate(range(0, 200, batch_size)):
        rows = np.arange(first, min(first + batch_size, 200))
        alone = networks[1].train(
            packed, truth, order=rows, rates=np.full(1, 0.05), draws=Draws(3), first_row=first, **settings
        )
        np.testing.assert_allclose(each[step], alone, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(each.sum(axis=0), totals, rtol=1e-12)
    assert totals.entropy > 0
    assert 0 < totals.correct < 200


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("as_bytes", [False, True])
def test_dense_images_give_numpy_s_results_on_any_threads(monkeypatch, dtype, as_bytes):
    monkeypatch.setattr(flat, "_PARALLEL_FROM", 0)
    monkeypatch.setattr(flat, "_TILES_PER_WORKER", 1)
    pixels = np.random.default_rng(0).integers(1, 256, size=(N, 301)).astype(np.uint8)
    images, labels = pixels / dtype(255), np.arange(N) % 5
    random = np.random.default_rng(1)
    start = [random.normal(0, 0.1, shape) for shape in ((301, 70), (70, 5))]
    expected = [w.copy() for w in start]
    reference.sgd_epoch(images.astype(np.float64), labels, expected, learning_rate=0.1, batch_size=7, output="softmax")
    results = []
    for threads in (1, 3):
        weights = [w.astype(dtype) for w in start]
        given = pixels if as_bytes else images
        fm.sgd_epoch(given, labels, weights, learning_rate=0.1, batch_size=7, output="softmax", threads=threads)
        for got, wanted in zip(weights, expected, strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=2e-6 if dtype == np.float32 else 1e-12)
        results.append([w.tobytes() for w in weights])
    assert results[0] == results[1]


@pytest.mark.slow  # as plain Python
def test_many_images_are_predicted_alike_on_any_threads(monkeypatch):
    monkeypatch.setattr(flat, "_PARALLEL_FROM", 0)
    random = np.random.default_rng(0)
    images = random.random((20_000, 40)) * (random.random((20_000, 40)) < 0.3)
    weights = [random.normal(size=(40, 90)), random.normal(size=(90, 5))]
    one, three = (fm.predict(images, weights, activation="tanh", threads=threads) for threads in (1, 3))
    assert (one == three).all()
    np.testing.assert_allclose(one, reference.predict(images, weights, activation="tanh"), atol=1e-11)


def test_state_goes_out_and_in():
    images, labels = make_data(np.float64)
    packed, truth = fm.pack(images), truth_of(labels, N, 5, np.dtype(np.float64))
    adam = spec.Optimizer("adam", decay_1=0.9, decay_2=0.99)
    settings = {"batch_size": BATCH, "rates": np.full(5, 0.01), "optimizer": adam, "loss": "cross_entropy"}
    layers = [spec.Layer(19, "tanh"), spec.Layer(5, "softmax", biases=False)]
    start = make_parameters(layers, np.float64)
    whole, first, second = (FlatNetwork(INPUTS, layers, np.dtype(np.float64)) for _ in range(3))
    whole.set(*start)
    first.set(*start)
    for before in (0, 5):
        whole.train(packed, truth, steps_before=before, **settings)
    first.train(packed, truth, **settings)
    arrays = make_parameters(layers, np.float64)
    first.get(*arrays)
    second.set(*arrays)
    for slot in (1, 2):
        first.state(slot, *arrays)
        second.set_state(slot, *arrays)
    second.train(packed, truth, steps_before=5, **settings)
    assert (second.params == whole.params).all()


def test_penalty_and_sides():
    layers = with_penalties(spec.Layer(3, "sigmoid"))
    weights, biases = make_parameters(layers, np.float64)
    network = FlatNetwork(INPUTS, layers, np.dtype(np.float64))
    network.set(weights, biases)
    w, b = weights[0], biases[0]
    expected = 0.02 * np.abs(w).sum() + 0.03 * (w**2).sum() + 0.01 * np.abs(b).sum() + 0.04 * (b**2).sum()
    assert network.penalty() == pytest.approx(expected)
    images = make_data(np.float64)[0]
    targets = (np.random.default_rng(0).random((N, 3)) < 0.5).astype(float)
    truth = truth_of(targets, N, 3, np.dtype(np.float64), threshold=0.5, sample_weights=np.arange(N))
    scores, outputs = network.infer(fm.pack(images), truth, None, want_outputs=True)
    np.testing.assert_array_equal(scores[:, 3], ((outputs > 0.5) == (targets > 0.5)).sum(axis=1))
    np.testing.assert_allclose(scores[:, 0], np.arange(N) * np.square(outputs - targets).sum(axis=1))


def test_probabilities_are_clipped_when_reported():
    network = FlatNetwork(1, [spec.Layer(2, "softmax")], np.dtype(np.float64))
    network.set([np.array([[0.0, 100.0]])], [np.zeros(2)])
    truth = truth_of(np.array([0]), 1, 2, np.dtype(np.float64), floor=1e-7)
    scores, _ = network.infer(fm.pack(np.ones((1, 1))), truth, None)
    assert scores[0, 1] == pytest.approx(-np.log(1e-7))


def test_dropout_of_inputs():
    images, _ = make_data(np.float64)
    packed = fm.pack(np.tile(images, (50, 1)))
    dropped = packed.dropped(0.25, np.random.default_rng(0))
    eye = [np.eye(INPUTS)]
    before, after = fm.predict(packed, eye), fm.predict(dropped, eye)
    assert set(np.unique((after / np.where(before == 0, 1, before)).round(12))) == {0, round(1 / 0.75, 12)}
    assert dropped.density == pytest.approx(packed.density * 0.75, rel=0.02)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"units": 0}, "units is 0"),
        ({"activation": "swish"}, "activation is 'swish'; accepted are 'linear'"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"l2": -1.0}, "l2 is -1.0"),
    ],
)
def test_a_layer_says_what_it_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        spec.Layer(**{"units": 3, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clip_norm": 1.0, "clip_value": 1.0}, "one at most"),
        ({"name": "lion"}, "optimizer is 'lion'"),
        ({"decay_1": 1.0}, "decay_1 is 1.0"),
        ({"epsilon": -1}, "epsilon is"),
    ],
)
def test_an_optimizer_says_what_it_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        spec.Optimizer(**change)


# Many networks at once


def many_networks(dtype, n=5):
    random = np.random.default_rng(2)
    return [
        [random.normal(0, 0.2, (INPUTS, 17 + k)).astype(dtype), random.normal(0, 0.2, (17 + k, 5)).astype(dtype)]
        for k in range(n)
    ]


@pytest.mark.parametrize("batch_size", [1, 8])
def test_many_trainings_are_each_their_own_single_run(batch_size):
    images, labels = make_data(np.float64)
    together, alone = many_networks(np.float64), many_networks(np.float64)
    rates = [0.01 * (k + 1) for k in range(5)]
    settings = {"batch_size": batch_size, "dropout": 0.5, "activation": "tanh"}
    streams = [7, np.random.RandomState(1), np.random.default_rng(1), 7, 8]
    results = fm.sgd_many(images, labels, together, learning_rate=rates, rng=streams, threads=3, **settings)
    streams = [7, np.random.RandomState(1), np.random.default_rng(1), 7, 8]
    expected = [
        fm.sgd_epoch(images, labels, w, learning_rate=rate, rng=rng, threads=1, **settings)
        for w, rate, rng in zip(alone, rates, streams, strict=True)
    ]
    assert results == expected
    for a, b in zip(together, alone, strict=True):
        assert all((x == y).all() for x, y in zip(a, b, strict=True))


SOURCE = np.random.PCG64(1)
TWINS = [np.random.Generator(SOURCE), np.random.Generator(SOURCE)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": []}, "weights is empty"),
        ({"learning_rate": [0.1]}, "learning_rate has 1 entries for 5 networks"),
        ({"dropout": 0.5}, "a stream of its own"),
        ({"dropout": 0.5, "rng": TWINS * 2 + [1]}, "a stream of its own"),
        ({"dropout": 0.5, "rng": [np.random] * 5}, "a stream of its own"),
        ({"learning_rate": [0.1, 0.1, 0.1, 0.1, -1]}, "learning_rate is -1"),
        ({"biases": [[np.zeros(17), np.zeros(5)]] * 5}, "biases"),
    ],
    ids=str,
)
def test_many_trainings_refused_change_nothing(change, message):
    images, labels = make_data(np.float64)
    arguments = {"weights": many_networks(np.float64), "learning_rate": 0.1, **change}
    with pytest.raises(ValueError, match=message):
        fm.sgd_many(images, labels, **arguments)
    for got, kept in zip(arguments["weights"], many_networks(np.float64), strict=False):
        assert all((a == b).all() for a, b in zip(got, kept, strict=True))


def test_many_trainings_of_one_network_are_refused():
    images, labels = make_data(np.float64)
    weights = many_networks(np.float64)
    with pytest.raises(ValueError, match=r"weights\[(.)\] of network 0 and weights\[\1\] of network 3 share memory"):
        fm.sgd_many(images, labels, [*weights[:3], weights[0]], learning_rate=0.1)


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="jobs run one after the other")
def test_a_failing_job_stops_the_others():
    started = threading.Event()

    def endless(threads, progress):
        started.set()
        while True:
            progress(0)

    def failing(threads, progress):
        started.wait(5)
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        run_apart([endless, failing], 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rates": np.zeros(6)}, "6 learning rates; 47 samples make 5 batches"),
        ({"order": np.array([0, 47])}, "order goes from 0 to 47; there are 47"),
        ({"repeats": 2, "optimizer": spec.Optimizer("momentum")}, "plain SGD only"),
    ],
    ids=str,
)
def test_training_refuses_what_kernels_cannot_check(change, message):
    images, labels = make_data(np.float64)
    network = FlatNetwork(INPUTS, [spec.Layer(5, "softmax")], np.dtype(np.float64))
    truth = truth_of(labels, N, 5, np.dtype(np.float64))
    given = {"batch_size": 10, "rates": np.zeros(1), "optimizer": spec.Optimizer(), "loss": "cross_entropy", **change}
    with pytest.raises(ValueError, match=message):
        network.train(fm.pack(images), truth, **given)


@pytest.mark.slow  # as plain Python
@pytest.mark.parametrize("density", [0.2, 1.0])
def test_small_updates_from_large_batches_are_not_lost_in_single_precision(density):
    """Added row by row to float32 weights, nearly two thirds of this update were lost."""
    random = np.random.default_rng(0)
    images = (random.random((5000, 60)) * (random.random((5000, 60)) < density)).astype(np.float32)
    labels = random.integers(5, size=5000)
    start = [random.normal(0, 0.3, shape) for shape in ((60, 33), (33, 5))]
    updates = []
    for dtype in (np.float32, np.float64):
        weights = [w.astype(dtype) for w in start]
        settings = {"learning_rate": 1e-3, "batch_size": 5000, "output": "softmax", "activation": "tanh"}
        fm.sgd_epoch(images, labels, weights, **settings)
        updates.append([w.astype(np.float64) - w0.astype(dtype) for w, w0 in zip(weights, start, strict=True)])
    for single, double in zip(*updates, strict=True):
        assert np.linalg.norm(single - double) < 5e-3 * np.linalg.norm(double)
