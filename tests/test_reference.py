"""`reference` against formulas, known answers, NumPy's own draws and the NumPy scripts' loops."""

from copy import deepcopy
from itertools import pairwise

import numpy as np
import pytest

from fastmnist import reference

RTOL = 1e-12  # in float64 the order of summation may differ, and nothing more


@pytest.fixture
def rng():
    return np.random.default_rng(20)


@pytest.fixture
def global_twin():
    """Seed NumPy's global stream; a RandomState in the state it then has."""
    kept = np.random.get_state()
    np.random.seed(3)
    yield np.random.RandomState(3)
    np.random.set_state(kept)


@pytest.fixture
def digits(rng):
    """Sixty images as sparse as MNIST's, and their labels; read-only."""
    images = rng.random((60, 784)) * (rng.random((60, 784)) < 0.19)
    labels = rng.integers(10, size=60)
    images.setflags(write=False)
    labels.setflags(write=False)
    return images, labels


def make_weights(rng, *widths):
    return [0.2 * rng.random((i, o)) - 0.1 for i, o in pairwise(widths)]


def assert_close(actual, expected):
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=RTOL, atol=1e-15)


# Activations and losses


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("kind", "formula"),
    [
        ("linear", lambda z: z),
        ("relu", lambda z: (z > 0) * z),
        ("sigmoid", lambda z: 1 / (1 + np.exp(-z))),
        ("tanh", lambda z: (np.exp(z) - np.exp(-z)) / (np.exp(z) + np.exp(-z))),
        ("softmax", lambda z: np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)),
    ],
)
def test_activate(kind, formula, dtype):
    z = np.linspace(-4, 4, 21, dtype=dtype).reshape(3, 7)
    a = reference.activate(z, kind)
    assert a.dtype == dtype
    np.testing.assert_allclose(a, formula(z), rtol=20 * np.finfo(dtype).eps)


def test_activations_hold_at_both_ends():
    z = np.array([[-1e4, 0, 1e4]])
    np.testing.assert_array_equal(reference.activate(z, "sigmoid"), [[0, 0.5, 1]])
    np.testing.assert_array_equal(reference.activate(z, "tanh"), [[-1, 0, 1]])
    np.testing.assert_array_equal(reference.activate(z, "softmax"), [[0, 0, 1]])
    assert reference.activate(np.array([[-700.0]]), "sigmoid") == np.exp(-700.0)  # 1 - sigmoid(700) would be 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_straight_through_is_one_where_relu_is_off(dtype):
    a = np.array([[0, 0.5, 0]], dtype=dtype)
    for relu_gradient, expected in (("relu", [[0, 1, 0]]), ("straight-through", [[1, 1, 1]])):
        gradient = reference.activation_gradient(a, "relu", relu_gradient)
        assert gradient.dtype == dtype
        np.testing.assert_array_equal(gradient, expected)


def test_loss_values():
    o = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])
    t = np.array([[1.0, 0, 0], [0, 0.5, 0.5]])
    binary = np.log([0.7, 0.8, 0.9, 0.9]).sum() + 0.5 * np.log([0.1, 0.9, 0.8, 0.2]).sum()
    assert reference.loss_value(o, t, "linear", "squared_error") == pytest.approx(0.09 + 0.05 + 0.01 + 0.16 + 0.09)
    assert reference.loss_value(o, t, "softmax", "cross_entropy") == pytest.approx(
        -np.log(0.7) - 0.5 * np.log(0.1) - 0.5 * np.log(0.8)
    )
    assert reference.loss_value(o, t, "sigmoid", "cross_entropy") == pytest.approx(-binary)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_cross_entropy_of_certainty_is_zero_if_right_and_finite_if_wrong(output, dtype):
    o = np.array([[1, 0]], dtype=dtype)
    surprise = -np.log(np.finfo(dtype).tiny) * (2 if output == "sigmoid" else 1)
    assert reference.loss_value(o, o, output, "cross_entropy") == 0
    assert reference.loss_value(o, 1 - o, output, "cross_entropy") == pytest.approx(surprise)


# Dropout


def streams():
    return {
        "global": None,
        "RandomState": np.random.RandomState(3),
        "PCG64": np.random.default_rng(3),
        "Generator(MT19937)": np.random.Generator(np.random.MT19937(3)),
    }


def numpy_mask(rng, shape, rate, draw):
    """What a NumPy program writes."""
    if draw == "integers":
        return rng.integers(2, size=shape) if isinstance(rng, np.random.Generator) else rng.randint(2, size=shape)
    return rng.random(shape) < 1 - rate if draw == "keep-below" else 1 - (rng.random(shape) < rate)


def state_of(rng):
    return rng.bit_generator.state if isinstance(rng, np.random.Generator) else rng.get_state(legacy=False)


@pytest.mark.parametrize(("draw", "rate"), [("integers", 0.5), ("keep-below", 0.3), ("drop-below", 0.3)])
@pytest.mark.parametrize("name", streams())
def test_masks_are_numpys_draws_and_leave_its_state(global_twin, name, draw, rate):
    rng = streams()[name]
    twin = global_twin if rng is None else deepcopy(rng)
    for shape in ((1, 7), (5, 3), (0, 4), (400, 2)):  # odd counts leave half of a 64-bit word in a Generator
        mask = reference.dropout_mask(rng, shape, rate, draw)
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, numpy_mask(twin, shape, rate, draw))
    np.testing.assert_equal(state_of(np.random if rng is None else rng), state_of(twin))


def test_a_script_switches_21_of_40_units_off_after_seed_1():
    assert np.sum(reference.dropout_mask(np.random.RandomState(1), (40,), 0.5, "integers") == 0) == 21


def words(text):
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(
    ("counter", "key", "block"),
    [
        ("0 0 0 0", "0 0", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        (
            "ffffffff ffffffff ffffffff ffffffff",
            "ffffffff ffffffff",
            "408f276d 41c83b0e a20bc7c6 6d5451fd",
        ),
        (
            "243f6a88 85a308d3 13198a2e 03707344",
            "a4093822 299f31d0",
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_known_answers(counter, key, block):
    """From kat_vectors of Random123, philox4x32 with 10 rounds."""
    np.testing.assert_array_equal(reference.philox4x32(words(counter), words(key)), words(block))


def test_philox_mask_is_its_definition():
    seed, epoch, layer, rate = 0x1234567_89ABCDEF0, 3, 1, 0.3
    rows = np.array([0, 7, 59_999])
    mask = reference.philox_mask(seed, epoch, layer, rows, 10, rate)
    assert mask.shape == (3, 10)
    assert mask.dtype == np.uint8
    key = seed % 2**32, seed // 2**32 % 2**32
    for (b, unit), kept in np.ndenumerate(mask):
        block = reference.philox4x32((unit // 4, rows[b], layer, epoch), key)
        assert kept == (block[unit % 4] >= 0.3 * 2**32 // 1)


@pytest.mark.parametrize(("above", "kept"), [(0, 1), (1, 0)])
def test_philox_mask_keeps_a_unit_whose_word_equals_the_threshold(above, kept):
    rate = (0x6627E8D5 + above) / 2**32  # the first word of key 0
    assert reference.philox_mask(0, 0, 0, np.array([0]), 1, rate) == kept


def test_philox_mask_depends_on_every_part_of_its_position_and_on_no_other_row():
    base = {"seed": 5, "epoch": 0, "layer": 0, "rows": np.arange(50), "n_units": 33, "rate": 0.5}
    mask = reference.philox_mask(**base)
    np.testing.assert_array_equal(reference.philox_mask(**base | {"rows": np.arange(20, 30)}), mask[20:30])
    np.testing.assert_array_equal(reference.philox_mask(**base | {"n_units": 6}), mask[:, :6])
    for change in ({"seed": 6}, {"seed": 5 + 2**32}, {"epoch": 1}, {"layer": 1}, {"rows": np.arange(1, 51)}):
        assert np.any(reference.philox_mask(**base | change) != mask), change


def test_philox_mask_drops_its_rate():
    rows = np.arange(2000)
    assert reference.philox_mask(1, 0, 0, rows, 100, 0.2).mean() == pytest.approx(0.8, abs=0.004)  # 4.5 sigma
    assert reference.philox_mask(1, 0, 0, rows, 100, 0.0).all()
    assert reference.philox_mask(1, 0, 0, rows[:0], 100, 0.2).shape == (0, 100)


# The NumPy scripts' loops


def relu(x):
    return (x > 0) * x


def per_sample_script(images, labels, weights_0_1, weights_1_2, alpha, rng=None):
    """The loop of per-sample training, with dropout where there is an `rng`."""
    error, correct_cnt = (0.0, 0)
    for i in range(len(images)):
        layer_0 = images[i : i + 1]
        layer_1 = relu(np.dot(layer_0, weights_0_1))
        if rng:
            dropout_mask = rng.randint(2, size=layer_1.shape)
            layer_1 *= dropout_mask * 2
        layer_2 = np.dot(layer_1, weights_1_2)
        error += np.sum((layer_2 - labels[i : i + 1]) ** 2)
        correct_cnt += int(np.argmax(layer_2) == np.argmax(labels[i : i + 1]))
        layer_2_delta = layer_2 - labels[i : i + 1]
        layer_1_delta = layer_2_delta.dot(weights_1_2.T) * (layer_1 >= 0)
        if rng:
            layer_1_delta *= dropout_mask
        weights_1_2 -= alpha * layer_1.T.dot(layer_2_delta)
        weights_0_1 -= alpha * layer_0.T.dot(layer_1_delta)
    return error, correct_cnt


def mini_batch_script(images, labels, weights_0_1, weights_1_2, alpha, batch_size, rng):
    """The loop of mini-batch training with dropout, whose updates are made once per row of the batch."""
    error, correct_cnt = (0.0, 0)
    for i in range(int(len(images) / batch_size)):
        batch_start, batch_end = ((i * batch_size), ((i + 1) * batch_size))
        layer_0 = images[batch_start:batch_end]
        layer_1 = relu(np.dot(layer_0, weights_0_1))
        dropout_mask = rng.randint(2, size=layer_1.shape)
        layer_1 *= dropout_mask * 2
        layer_2 = np.dot(layer_1, weights_1_2)
        error += np.sum((layer_2 - labels[batch_start:batch_end]) ** 2)
        for k in range(batch_size):
            correct_cnt += int(
                np.argmax(layer_2[k : k + 1]) == np.argmax(labels[batch_start + k : batch_start + k + 1])
            )
            layer_2_delta = (layer_2 - labels[batch_start:batch_end]) / batch_size
            layer_1_delta = layer_2_delta.dot(weights_1_2.T) * (layer_1 >= 0)
            layer_1_delta *= dropout_mask
            weights_1_2 -= alpha * layer_1.T.dot(layer_2_delta)
            weights_0_1 -= alpha * layer_0.T.dot(layer_1_delta)
    return error, correct_cnt


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_per_sample_scripts(rng, digits, dropout):
    images, labels = digits
    expected = make_weights(rng, 784, 12, 10)
    weights = deepcopy(expected)
    theirs, ours = np.random.RandomState(1), np.random.RandomState(1)
    for _ in range(3):
        seen = per_sample_script(images, np.eye(10)[labels], *expected, 0.02, theirs if dropout else None)
        error, correct = reference.sgd_epoch(
            images,
            labels,
            weights,
            learning_rate=0.02,
            dropout=dropout,
            rng=ours,
            relu_gradient="straight-through",
        )
        assert error == pytest.approx(seen[0], rel=RTOL)
        assert correct == seen[1]
        assert_close(weights, expected)
    np.testing.assert_equal(state_of(ours), state_of(theirs))


@pytest.mark.parametrize("collapsed", [False, True])
def test_mini_batch_script(rng, digits, collapsed):
    images, labels = digits
    expected = make_weights(rng, 784, 12, 10)
    weights = deepcopy(expected)
    theirs, ours = np.random.RandomState(1), np.random.RandomState(1)
    for _ in range(3):
        seen = mini_batch_script(images, np.eye(10)[labels], *expected, 0.01, 16, theirs)
        error, correct = reference.sgd_epoch(
            images,
            labels,
            weights,
            learning_rate=0.01,
            batch_size=16,
            dropout=0.5,
            rng=ours,
            updates_per_batch=16,
            drop_last=True,
            collapsed=collapsed,
            relu_gradient="straight-through",
        )
        assert error == pytest.approx(seen[0], rel=RTOL)
        assert correct == seen[1]
        assert_close(weights, expected)
    np.testing.assert_equal(state_of(ours), state_of(theirs))


def test_the_mini_batch_script_on_mnist(mnist):
    """The three figures it prints for epochs 1 and 11: training error (twice), training and test accuracy."""
    (x_train, y_train), (x_test, y_test) = mnist
    images, labels = x_train[:10_000].reshape(-1, 784) / 255, y_train[:10_000]
    test_images = x_test.reshape(-1, 784) / 255
    printed = {1: (0.7752947227502046, 0.5039, 0.7451), 11: (0.4842224741600875, 0.7576, 0.8222)}
    rng = np.random.RandomState(1)
    weights = make_weights(rng, 784, 100, 10)
    for epoch in range(1, 12):
        error, correct = reference.sgd_epoch(
            images,
            labels,
            weights,
            learning_rate=0.001,
            batch_size=100,
            dropout=0.5,
            rng=rng,
            updates_per_batch=100,
            collapsed=True,
            relu_gradient="straight-through",
        )
        if epoch in printed:
            _, test_correct = reference.evaluate(test_images, y_test, weights)
            assert error / 10_000 == pytest.approx(printed[epoch][0], rel=1e-9)
            assert (correct / 10_000, test_correct / 10_000) == printed[epoch][1:]


# What the scripts do not do


def test_updates_per_batch_of_three_layers(rng, digits):
    """Values stay, weights move; biases, tanh, softmax and a short last batch on the way."""
    images, labels = digits
    (w0, w1, w2), (b0, b1, b2) = expected = (
        make_weights(rng, 784, 9, 7, 10),
        [rng.random(o) for o in (9, 7, 10)],
    )
    weights, biases = deepcopy(expected)
    seen_error, seen_correct = 0.0, 0
    for start in range(0, 60, 25):
        x, t = images[start : start + 25], np.eye(10)[labels[start : start + 25]]
        h1 = np.tanh(x @ w0 + b0)
        h2 = np.tanh(h1 @ w1 + b1)
        p = np.exp(h2 @ w2 + b2)
        p /= p.sum(axis=1)[:, None]
        seen_error += ((p - t) ** 2).sum()
        seen_correct += (p.argmax(axis=1) == labels[start : start + 25]).sum()
        for _ in range(4):
            d2 = (p - t) / len(x)
            d1 = (d2 @ w2.T) * (1 - h2**2)
            d0 = (d1 @ w1.T) * (1 - h1**2)
            for parameter, gradient in (
                *((w0, x.T @ d0), (w1, h1.T @ d1), (w2, h2.T @ d2)),
                *((b0, d0.sum(axis=0)), (b1, d1.sum(axis=0)), (b2, d2.sum(axis=0))),
            ):
                parameter -= 0.3 * gradient
    error, correct = reference.sgd_epoch(
        images,
        labels,
        weights,
        biases,
        learning_rate=0.3,
        batch_size=25,
        activation="tanh",
        output="softmax",
        updates_per_batch=4,
    )
    assert error == pytest.approx(seen_error, rel=RTOL)
    assert correct == seen_correct
    assert_close(weights + biases, [w0, w1, w2, b0, b1, b2])


@pytest.mark.parametrize("options", [{}, {"activation": "sigmoid", "output": "softmax", "dropout": 0.2, "rng": 7}])
def test_collapsed_is_repeated_with_biases_and_any_activation(rng, digits, options):
    images, labels = digits
    repeated = make_weights(rng, 784, 12, 10), [rng.random(12), rng.random(10)]
    once, collapsed = deepcopy(repeated), deepcopy(repeated)
    options = {"learning_rate": 0.1, "batch_size": 20} | options
    reference.sgd_epoch(images, labels, *once, **options)
    seen = reference.sgd_epoch(images, labels, *repeated, updates_per_batch=9, **options)
    assert reference.sgd_epoch(images, labels, *collapsed, updates_per_batch=9, collapsed=True, **options) == (
        pytest.approx(seen, rel=RTOL)
    )
    assert_close(collapsed[0] + collapsed[1], repeated[0] + repeated[1])
    assert np.abs(once[0][0] - repeated[0][0]).max() > 1e-3


@pytest.mark.parametrize("draw", ["auto", "keep-below", "drop-below", "seed"])
def test_dropout_draws_whole_layers_batch_by_batch(rng, digits, draw):
    images, labels = digits
    targets = np.eye(10)[labels]
    expected = make_weights(rng, 784, 9, 7, 10)
    weights = deepcopy(expected)
    theirs = np.random.default_rng(4)
    functions = {"activation": "sigmoid", "output": "linear"}
    for start in (0, 25, 50):
        rows = np.arange(60)[start : start + 25]
        masks = [
            reference.philox_mask(4, 0, layer, rows, width, 0.3)
            if draw == "seed"
            else numpy_mask(theirs, (len(rows), width), 0.3, "drop-below" if draw == "auto" else draw)
            for layer, width in enumerate((9, 7))
        ]
        values = reference.forward(images[rows], expected, masks=masks, dropout=0.3, **functions)
        gradients, _ = reference.backward(
            values, targets[rows], expected, loss="squared_error", masks=masks, dropout=0.3, **functions
        )
        for w, g in zip(expected, gradients, strict=True):
            w -= 0.1 * g
    stream = {"rng": 4} if draw == "seed" else {"rng": np.random.default_rng(4), "dropout_draw": draw}
    reference.sgd_epoch(images, labels, weights, learning_rate=0.1, batch_size=25, dropout=0.3, **functions, **stream)
    assert_close(weights, expected)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_no_rng_is_the_global_stream_and_is_left_alone_without_dropout(global_twin, rng, digits, dropout):
    weights = make_weights(rng, 784, 12, 10)
    reference.sgd_epoch(*digits, weights, learning_rate=0.01, dropout=dropout)
    if dropout:
        global_twin.randint(2, size=(60, 12))
    np.testing.assert_equal(state_of(np.random), state_of(global_twin))


@pytest.mark.parametrize(("relu_gradient", "dropout_gradient"), [("relu", "scaled"), ("straight-through", "mask")])
def test_the_default_dropout_gradient_follows_the_relu_gradient(rng, digits, relu_gradient, dropout_gradient):
    weights = make_weights(rng, 784, 12, 10)
    explicit = deepcopy(weights)
    options = {"learning_rate": 0.01, "dropout": 0.2, "rng": 5, "relu_gradient": relu_gradient}
    reference.sgd_epoch(*digits, weights, **options)
    reference.sgd_epoch(*digits, explicit, dropout_gradient=dropout_gradient, **options)
    assert_close(weights, explicit)


def test_last_batch_is_trained_as_a_smaller_one_or_dropped(rng, digits):
    images, labels = digits
    start = make_weights(rng, 784, 10)
    options = {"learning_rate": 0.1, "batch_size": 25}
    whole, dropped = deepcopy(start), deepcopy(start)
    reference.sgd_epoch(images, labels, whole, **options)
    reference.sgd_epoch(images, labels, dropped, drop_last=True, **options)
    fifty = deepcopy(start)
    reference.sgd_epoch(images[:50], labels[:50], fifty, **options)
    assert_close(dropped, fifty)
    gradient = images[50:].T @ (images[50:] @ fifty[0] - np.eye(10)[labels[50:]]) / 10
    assert_close(whole, [fifty[0] - 0.1 * gradient])


def test_evaluate_and_predict(rng, digits):
    images, labels = digits
    w0, w1 = weights = make_weights(rng, 784, 12, 10)
    b0, b1 = biases = [rng.random(12), rng.random(10)]
    outputs = np.exp(np.tanh(images @ w0 + b0) @ w1 + b1)
    outputs /= outputs.sum(axis=1)[:, None]
    network = (weights, biases)
    functions = {"activation": "tanh", "output": "softmax"}
    assert_close([reference.predict(images, *network, **functions)], [outputs])
    error, correct = reference.evaluate(images, labels, *network, **functions)
    assert error == pytest.approx(((outputs - np.eye(10)[labels]) ** 2).sum(), rel=RTOL)
    assert correct == (outputs.argmax(axis=1) == labels).sum()
    assert (error, correct) == reference.evaluate(images, np.eye(10)[labels], *network, **functions)
    assert_close([reference.predict(images, weights)], [relu(images @ w0) @ w1])


def test_the_first_of_equals_is_the_argmax():
    images, weights = np.ones((2, 1)), [np.ones((1, 3))]
    assert reference.evaluate(images, np.array([[1.0, 1, 0], [0, 1, 1]]), weights) == (2.0, 1)


def test_one_hot_gives_targets_the_weights_type():
    for labels in (np.array([2, 0], np.uint8), np.array([[0, 0, 1], [1, 0, 0]])):
        targets = reference.one_hot(labels, 3, np.dtype(np.float32))
        assert targets.dtype == np.float32
        np.testing.assert_array_equal(targets, [[0, 0, 1], [1, 0, 0]])


def test_float32_stays_float32(rng, digits):
    images, labels = digits[0].astype(np.float32), digits[1]
    weights = [w.astype(np.float32) for w in make_weights(rng, 784, 12, 10)]
    biases = [np.zeros(o, np.float32) for o in (12, 10)]
    for activation in ("relu", "sigmoid", "tanh"):
        drop = {"masks": [np.ones((60, 12), np.uint8)], "dropout": 0.2}
        functions = {"activation": activation, "output": "softmax"}
        values = reference.forward(images, weights, biases, **functions, **drop)
        gradients = reference.backward(
            values,
            reference.one_hot(labels, 10, weights[0].dtype),
            weights,
            loss="cross_entropy",
            **functions,
            **drop,
        )
        assert {a.dtype.name for a in (*values, *gradients[0], *gradients[1])} == {"float32"}


def test_only_weights_and_biases_change(rng, digits):
    """`digits` are read-only; here everything is, but for what training moves."""
    images, labels = digits
    weights, biases = make_weights(rng, 784, 12, 10), [rng.random(12), rng.random(10)]
    masks, targets = [rng.integers(2, size=(60, 12), dtype=np.uint8)], np.eye(10)[labels]
    for array in (*weights, *biases, *masks, targets):
        array.setflags(write=False)
    functions = {"activation": "linear", "output": "linear"}  # the one activation that returns its argument
    values = reference.forward(images, weights, biases, masks=masks, dropout=0.5, **functions)
    for array in values:
        array.setflags(write=False)
    reference.backward(values, targets, weights, loss="squared_error", masks=masks, dropout=0.5, **functions)
    reference.evaluate(images, targets, weights, biases, **functions)
    for output, loss in (("linear", "squared_error"), ("sigmoid", "cross_entropy")):
        reference.output_delta(values[-1], targets, output, loss)
        reference.loss_value(targets, targets, output, loss)


# Optimisers


def test_momentum_step(rng):
    for nesterov in (False, True):
        w, m = expected = rng.random(5), np.zeros(5)
        actual = deepcopy(expected)
        for g in rng.standard_normal((4, 5)):
            m = 0.9 * m - 0.1 * g
            w = w + (0.9 * m - 0.1 * g if nesterov else m)
            reference.momentum_step(actual[0], g, actual[1], learning_rate=0.1, momentum=0.9, nesterov=nesterov)
            assert_close(actual, (w, m))


def test_rmsprop_step(rng):
    w, v = expected = rng.random(5), np.zeros(5)
    actual = deepcopy(expected)
    for g in 1e-3 * rng.standard_normal((4, 5)):  # small: where epsilon is, inside or outside the root, is seen
        v = 0.9 * v + 0.1 * g**2
        w = w - 0.01 * g / (v + 1e-7) ** 0.5
        reference.rmsprop_step(actual[0], g, actual[1], learning_rate=0.01, rho=0.9, epsilon=1e-7)
        assert_close(actual, (w, v))


def test_adam_step(rng):
    """Against the textbook form, its epsilon moved to where Keras's is."""
    w, m, v = expected = rng.random(5), np.zeros(5), np.zeros(5)
    actual = deepcopy(expected)
    for step, g in enumerate(1e-6 * rng.standard_normal((4, 5)), start=1):
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g**2
        m_hat, v_hat = m / (1 - 0.9**step), v / (1 - 0.999**step)
        w = w - 0.01 * m_hat / (v_hat**0.5 + 1e-7 / (1 - 0.999**step) ** 0.5)
        reference.adam_step(actual[0], g, *actual[1:], step, learning_rate=0.01, beta_1=0.9, beta_2=0.999, epsilon=1e-7)
        for a, e in zip(actual, (w, m, v), strict=True):
            np.testing.assert_allclose(a, e, rtol=1e-10)


# Refusals


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a: reference.activate(a, "gelu"), "activation is 'gelu'; use one of 'linear', 'relu'"),
        (lambda a: reference.activation_gradient(a, "softmax"), "activation is 'softmax'; use one of"),
        (
            lambda a: reference.activation_gradient(a, "relu", "leaky"),
            "relu_gradient is 'leaky'; use one of 'relu'",
        ),
        (
            lambda a: reference.loss_value(a, a, "linear", "hinge"),
            "loss is 'hinge'; use one of 'squared_error'",
        ),
        (lambda a: reference.loss_value(a, a, "tanh", "cross_entropy"), "not 'tanh'; try 'squared_error'"),
        (lambda a: reference.output_delta(a, a, "linear", "cross_entropy"), "'softmax' or 'sigmoid' outputs"),
        (lambda a: reference.dropout_mask(None, (2,), 0.4, "integers"), "half of the units, not 0.4"),
        (
            lambda a: reference.dropout_mask(None, (2,), 0.4, "above"),
            "draw is 'above'; use one of 'integers'",
        ),
    ],
)
def test_unknown_names_are_refused(global_twin, call, message):
    with pytest.raises(ValueError, match=message):
        call(np.ones((2, 2)))
    np.testing.assert_equal(state_of(np.random), state_of(global_twin))


@pytest.mark.parametrize(
    ("options", "depth", "message"),
    [
        ({"collapsed": True}, 1, "takes two layers, got 1"),
        ({"collapsed": True}, 3, "takes two layers, got 3; use collapsed=False"),
        ({"dropout_gradient": "full"}, 2, "dropout_gradient is 'full'; use one of 'scaled', 'mask'"),
        ({"loss": "cross_entropy"}, 2, "not 'linear'"),
        ({"activation": "softmax"}, 2, "activation is 'softmax'"),
    ],
)
def test_a_refused_epoch_changes_no_weight(rng, digits, options, depth, message):
    weights = make_weights(rng, *(784, 12, 11)[:depth], 10)
    before = deepcopy(weights)
    with pytest.raises(ValueError, match=message):
        reference.sgd_epoch(*digits, weights, learning_rate=0.1, **options)
    for w, b in zip(weights, before, strict=True):
        np.testing.assert_array_equal(w, b)
