"""The same model, weights, data and words, given to Keras and to ``fastmnist.keras``: weights agree step by step.

Both compute in float32, in different orders. A step moves a weight by the rate times a gradient that is summed over a
batch, so two correct programs differ by a few units of the last place of the largest terms at each step, and 50 steps
add up: 2e-6 for weights of order 1. Adam and RMSprop divide by the root of the mean square, which makes of a small
relative error in the gradient one of the same size in the step: 2e-5. Over a large batch the engine adds up row after
row, where Keras adds up blocks: 2e-5 again, for 790 rows.
"""

import os
import warnings

import numpy as np
import pytest

import fastmnist.keras as ours
from fastmnist.data import load_data

# Keras's variables under NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")

N, BATCH, I, O = 790, 16, 24, 5  # noqa: E741 - 50 steps, the last batch not full
STEPS = 50
random = np.random.default_rng(0)
X = (random.random((N, I)) * (random.random((N, I)) < 0.4)).astype(np.float32)
CLASSES = (X @ random.standard_normal((I, O))).argmax(axis=1)
ONE_HOT = np.eye(O)[CLASSES]
SEVERAL = (X[:, :O] > 0.2).astype(np.float32)
REAL = (X @ random.standard_normal((I, O)) / 4).astype(np.float32)
WEIGHTS = random.uniform(0.2, 3, N)


@pytest.fixture(scope="session")
def keras(tmp_path_factory):
    """Real Keras on JAX."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    os.environ.setdefault("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import keras
        except ImportError as error:
            reason = f"needs keras and jax, as in pip install '.[keras]': {error}"
            pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return keras


def stack(k, *layers, output="softmax", hidden="relu", first=(), units=O, **dense):
    """A model with a hidden layer, and what is put before and behind it."""
    return k.Sequential(
        [
            k.Input((I,)),
            *first,
            k.layers.Dense(32, hidden, **dense),
            *layers,
            k.layers.Dense(units, output, **dense),
        ]
    )


SPARSE = "sparse_categorical_crossentropy"
# Name: layers, optimiser, loss, targets, arguments of `fit`. The first three are functions of the module.
LAYERS = {
    "relu": lambda k: stack(k),
    "tanh": lambda k: stack(k, hidden="tanh"),
    "sigmoid": lambda k: stack(k, hidden="sigmoid"),
    "linear": lambda k: stack(k, hidden=None),
    "three layers": lambda k: stack(k, k.layers.Dense(16, "tanh"), k.layers.Dense(9, "sigmoid")),
    "no biases": lambda k: stack(k, use_bias=False),
    "one without biases": lambda k: stack(k, k.layers.Dense(16, use_bias=False), k.layers.ReLU()),
    "activation layers": lambda k: stack(k, k.layers.Activation("tanh"), hidden=None),
    "softmax layer": lambda k: k.Sequential([k.Input((I,)), k.layers.Dense(O), k.layers.Activation("softmax")]),
    "rescaling": lambda k: stack(k, first=[k.layers.Rescaling(2.0, offset=-0.5)]),
    "flatten": lambda k: k.Sequential([k.Input((4, 6)), k.layers.Flatten(), k.layers.Dense(O, "softmax")]),
    "dropout of nothing": lambda k: stack(k, k.layers.Dropout(0.0)),
}
REGULARIZERS = {
    "l1": lambda k: stack(k, kernel_regularizer="l1"),
    "l2": lambda k: stack(k, kernel_regularizer=k.regularizers.L2(0.003)),
    "both, biases too": lambda k: stack(k, kernel_regularizer=k.regularizers.L1L2(0.001, 0.002), bias_regularizer="l2"),
    "bias l1": lambda k: stack(k, bias_regularizer=k.regularizers.L1(0.02)),
}
LOSSES = {
    "mse": ("linear", lambda k: "mse", REAL, "mean_squared_error"),
    "mse of sigmoids": ("sigmoid", lambda k: k.losses.MeanSquaredError(), SEVERAL, "accuracy"),
    "mse of a softmax": ("softmax", lambda k: "mean_squared_error", ONE_HOT, "accuracy"),
    "categorical": ("softmax", lambda k: "categorical_crossentropy", ONE_HOT, "categorical_crossentropy"),
    "categorical, smoothed": (
        "softmax", lambda k: k.losses.CategoricalCrossentropy(label_smoothing=0.2), ONE_HOT, "accuracy",
    ),
    "categorical from logits": (
        "linear", lambda k: k.losses.CategoricalCrossentropy(from_logits=True), ONE_HOT, "accuracy",
    ),
    "sparse": ("softmax", lambda k: SPARSE, CLASSES, SPARSE),
    "sparse, in a column": ("softmax", lambda k: SPARSE, CLASSES[:, None].astype(np.uint8), "acc"),
    "sparse from logits": (
        "linear", lambda k: k.losses.SparseCategoricalCrossentropy(from_logits=True), CLASSES, "accuracy",
    ),
    "binary": ("sigmoid", lambda k: "binary_crossentropy", SEVERAL, "binary_accuracy"),
    "binary, smoothed": (
        "sigmoid", lambda k: k.losses.BinaryCrossentropy(label_smoothing=0.3), SEVERAL, "binary_accuracy",
    ),
    "binary from logits": (
        "linear", lambda k: k.losses.BinaryCrossentropy(from_logits=True), SEVERAL, "binary_accuracy",
    ),
}  # fmt: skip
OPTIMIZERS = {
    "sgd": lambda k: k.optimizers.SGD(0.3),
    "momentum": lambda k: k.optimizers.SGD(0.05, momentum=0.9),
    "nesterov": lambda k: k.optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    "adam": lambda k: "adam",
    "adam, other constants": lambda k: k.optimizers.Adam(0.01, beta_1=0.8, beta_2=0.95, epsilon=1e-3),
    "adamw": lambda k: k.optimizers.AdamW(0.003),
    "rmsprop": lambda k: k.optimizers.RMSprop(),
    "rmsprop, other constants": lambda k: k.optimizers.RMSprop(0.003, rho=0.7, epsilon=1e-4),
    "sgd with decay": lambda k: k.optimizers.SGD(0.1, weight_decay=0.05),
    "rmsprop with decay": lambda k: k.optimizers.RMSprop(0.002, weight_decay=0.1),
    "clipvalue": lambda k: k.optimizers.SGD(0.5, clipvalue=0.01),
    "clipnorm": lambda k: k.optimizers.SGD(0.5, momentum=0.5, clipnorm=0.1),
    "global_clipnorm": lambda k: k.optimizers.Adam(0.003, global_clipnorm=0.2),
}
SCHEDULES = {
    "exponential": lambda s: s.ExponentialDecay(0.3, 7, 0.8),
    "exponential, in stairs": lambda s: s.ExponentialDecay(0.3, 7, 0.5, staircase=True),
    "cosine": lambda s: s.CosineDecay(0.3, 30, alpha=0.1),
    "cosine, warmed up": lambda s: s.CosineDecay(0.01, 30, warmup_target=0.3, warmup_steps=10),
    "piecewise": lambda s: s.PiecewiseConstantDecay([10, 20], [0.3, 0.1, 0.02]),
    "inverse time": lambda s: s.InverseTimeDecay(0.3, 5, 0.5),
    "polynomial": lambda s: s.PolynomialDecay(0.3, 30, 0.01, power=2.0),
    "polynomial, in cycles": lambda s: s.PolynomialDecay(0.3, 12, 0.01, cycle=True),
}
FIT = {
    "sample weights": {"sample_weight": WEIGHTS},
    "class weights": {"class_weight": {0: 2.0, 3: 0.25}},
    "validation split": {"validation_split": 0.2},
    "validation data": {"validation_data": (X[:99], CLASSES[:99], WEIGHTS[:99])},
    "fewer steps": {"steps_per_epoch": 10, "epochs": 5},
    "one batch": {"batch_size": 1000, "epochs": 50},
}


def recorder(k):
    class Recorder(k.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.weights = []

        def on_train_batch_end(self, batch, logs=None):
            self.weights.append(self.model.get_weights())

    return Recorder()


def run(k, model, optimizer, loss, y, metric, fit, initial):
    """Train; return the weights after each step, and the history."""
    x = X.reshape(N, *model.input_shape[1:])
    model.set_weights(initial)
    model.compile(optimizer(k), loss(k), metrics=[metric])
    steps = recorder(k)
    arguments = {"batch_size": BATCH, "verbose": 0, "shuffle": False, "callbacks": [steps], **fit}
    history = model.fit(x, y, **arguments).history
    return steps.weights, history


def compare(keras, make, optimizer, loss=lambda k: SPARSE, y=CLASSES, metric="accuracy", bound=2e-6, **fit):
    theirs = make(keras)
    draws = np.random.default_rng(1)
    initial = [draws.normal(0, 0.3, w.shape) for w in theirs.get_weights()]
    wanted = run(keras, theirs, optimizer, loss, y, metric, fit, initial)
    mine = make(ours)
    got = run(ours, mine, optimizer, loss, y, metric, fit, initial)
    assert len(got[0]) == len(wanted[0]) >= 40
    assert max(np.abs(w - v).max() for w, v in zip(wanted[0][-1], initial, strict=True)) > 1e-3
    for step, (weights, expected) in enumerate(zip(got[0], wanted[0], strict=True)):
        for k, (w, e) in enumerate(zip(weights, expected, strict=True)):
            np.testing.assert_allclose(w, e, rtol=bound, atol=bound, err_msg=f"step {step}, weight {k}")
    assert list(got[1]) == list(wanted[1])
    for name, values in wanted[1].items():
        np.testing.assert_allclose(got[1][name], values, rtol=1e-5, atol=1e-6, err_msg=name)
    return theirs, mine


def sgd(k):
    return k.optimizers.SGD(0.1)


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_layers(keras, make):
    compare(keras, make, sgd)


@pytest.mark.parametrize("make", REGULARIZERS.values(), ids=REGULARIZERS)
def test_regularizers(keras, make):
    compare(keras, make, sgd)


@pytest.mark.parametrize(("output", "loss", "y", "metric"), LOSSES.values(), ids=LOSSES)
def test_losses(keras, output, loss, y, metric):
    theirs, mine = compare(keras, lambda k: stack(k, output=output), sgd, loss, y, metric)
    evaluated = [model.evaluate(X, y, verbose=0, sample_weight=WEIGHTS) for model in (theirs, mine)]
    np.testing.assert_allclose(evaluated[1], evaluated[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(mine.predict(X, verbose=0), theirs.predict(X, verbose=0), rtol=1e-4, atol=1e-5)


def test_one_output(keras):
    y = (CLASSES > 1).astype(int)
    compare(keras, lambda k: stack(k, output="sigmoid", units=1), sgd, lambda k: "binary_crossentropy", y)


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_optimizers(keras, optimizer):
    compare(keras, stack, optimizer, bound=2e-5)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_schedules(keras, schedule):
    compare(keras, stack, lambda k: k.optimizers.SGD(schedule(k.optimizers.schedules)))


@pytest.mark.parametrize("fit", FIT.values(), ids=FIT)
def test_arguments_of_fit(keras, fit):
    # Smooth: of many samples in a batch, one is so near to ReLU's edge that rounding decides on which side it is.
    compare(keras, lambda k: stack(k, hidden="tanh"), sgd, bound=2e-5 if "batch_size" in fit else 2e-6, **fit)


def test_with_shuffling_and_dropout_results_have_one_distribution(keras):
    (x, y), (x_test, y_test) = load_data("synthetic", n_train=1500, n_test=500)
    found = {}
    for k in (keras, ours):
        model = k.Sequential(
            [
                k.Input((28, 28)),
                k.layers.Rescaling(1 / 255),
                k.layers.Flatten(),
                k.layers.Dropout(0.1, seed=1),
                k.layers.Dense(32, "relu"),
                k.layers.Dropout(0.4, seed=2),
                k.layers.Dense(10, "softmax"),
            ]
        )
        model.compile(k.optimizers.SGD(0.2), SPARSE, metrics=["accuracy"])
        rows = []
        for seed in range(10):
            draws = np.random.default_rng(seed)
            model.set_weights(
                [draws.normal(0, np.sqrt(1 / len(w)), w.shape) * (w.ndim > 1) for w in model.get_weights()]
            )
            k.utils.set_random_seed(seed)
            history = model.fit(x, y, epochs=3, batch_size=50, verbose=0, validation_data=(x_test, y_test)).history
            rows.append([history[name][-1] for name in ("loss", "accuracy", "val_loss", "val_accuracy")])
        found[k] = np.array(rows)
    # Welch's t statistic of each of the four means.
    error = np.sqrt((found[keras].var(axis=0, ddof=1) + found[ours].var(axis=0, ddof=1)) / 10)
    difference = found[ours].mean(axis=0) - found[keras].mean(axis=0)
    assert (np.abs(difference / error) < 3).all(), (difference, error)
