"""Configs of Keras's objects as the engine's specs: what is translated, and to what; what is refused, and why."""

import os

import numpy as np
import pytest

from fastmnist import spec
from fastmnist.keras.plan import Unsupported, plan_loss, plan_network, plan_optimizer, plan_rate

os.environ.setdefault("KERAS_BACKEND", "jax")

RELU, LINEAR, SOFTMAX = (
    ("Dense", {"name": name, "units": units, "activation": name, "use_bias": True})
    for name, units in (("relu", 8), ("linear", 6), ("softmax", 3))
)
POLICY = {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"}, "registered_name": None}


def dense(units=5, activation="linear", **more):
    return "Dense", {
        "name": "dense",
        "units": units,
        "activation": activation,
        "use_bias": True,
        "dtype": POLICY,
        **more,
    }


def dropout(rate, **more):
    return "Dropout", {"name": "dropout", "rate": rate, "seed": 1, "noise_shape": None, **more}


def activation(name):
    return "Activation", {"name": "activation", "activation": name}


def rescaling(scale, offset=0.0):
    return "Rescaling", {"name": "rescaling", "scale": scale, "offset": offset}


def regularizer(kind, **constants):
    return {"module": "keras.regularizers", "class_name": kind, "config": constants, "registered_name": None}


FLATTEN = "Flatten", {"name": "flatten", "data_format": "channels_last"}
PLAIN_RELU = "ReLU", {"name": "re_lu", "max_value": None, "negative_slope": 0.0, "threshold": 0.0}


def test_layers_without_weights_become_properties_of_the_dense_ones():
    plan = plan_network(
        [rescaling(1 / 255), FLATTEN, dropout(0.1), RELU, dropout(0.2), LINEAR, PLAIN_RELU, SOFTMAX], (28, 28)
    )
    assert plan.n_inputs == 784
    assert plan.dense == (3, 5, 7)
    assert plan.layers == (
        spec.Layer(8, "relu", dropout=0.2),
        spec.Layer(6, "relu"),
        spec.Layer(3, "softmax"),
    )
    assert (plan.input_dropout, plan.scale, plan.offset, plan.dtype) == (0.1, 1 / 255, 0.0, "float32")


def test_arguments_of_dense():
    penalties = {
        "kernel_regularizer": regularizer("L1L2", l1=0.1, l2=0.2),
        "bias_regularizer": regularizer("L2", l2=0.3),
    }
    plan = plan_network([dense(5, "tanh", use_bias=False), dense(2, "sigmoid", **penalties)], (4,))
    assert plan.layers == (
        spec.Layer(5, "tanh", biases=False),
        spec.Layer(2, "sigmoid", l1=0.1, l2=0.2, bias_l2=0.3),
    )
    assert plan_network([dense(1, None, kernel_regularizer=regularizer("L1", l1=0.5))], (4,)).layers[0].l1 == 0.5


@pytest.mark.parametrize(
    ("before", "after"),
    [([dropout(0.5)], [PLAIN_RELU]), ([], [PLAIN_RELU, dropout(0.5)]), ([PLAIN_RELU, dropout(0.5)], [PLAIN_RELU])],
)
def test_dropout_commutes_with_relu(before, after):
    plan = plan_network([dense(5), *before, *after, SOFTMAX], (4,))
    assert plan.layers[0] == spec.Layer(5, "relu", dropout=0.5)


def test_dropouts_in_a_row_keep_what_each_keeps():
    plan = plan_network([dropout(0.5), dropout(0.2), RELU, dropout(0.3), dropout(0.0), dropout(0.4), SOFTMAX], (4,))
    assert plan.input_dropout == pytest.approx(1 - 0.5 * 0.8)
    assert plan.layers[0].dropout == pytest.approx(1 - 0.7 * 0.6)


def test_rescalings_in_a_row():
    x = np.linspace(-3, 3, 7)
    plan = plan_network([rescaling(2.0, 1.0), FLATTEN, rescaling(0.5, -3), RELU], (7,))
    np.testing.assert_allclose(x * plan.scale + plan.offset, (x * 2 + 1) * 0.5 - 3)


def test_float64():
    policy = {**POLICY, "config": {"name": "float64"}}
    assert plan_network([dense(dtype=policy), dense(dtype="float64")], (4,)).dtype == "float64"


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        ([("LSTM", {"name": "lstm"}), SOFTMAX], "LSTM 'lstm' is not supported; Dense, Dropout"),
        ([FLATTEN], "no Dense layer"),
        ([dense(activation="gelu")], "activation='gelu'; linear, relu"),
        ([dense(activation={"class_name": "ReLU"})], "activation="),
        ([SOFTMAX, LINEAR], "follows a softmax"),
        ([RELU, activation("tanh")], "follows the activation relu"),
        ([dense(activation="sigmoid"), activation("sigmoid")], "follows the activation sigmoid"),
        ([activation("relu"), RELU], "comes before the first Dense"),
        ([dense(), dropout(0.5), activation("tanh"), SOFTMAX], "put the Dropout behind it"),
        ([dense(), dropout(0.5), activation("softmax")], "put the Dropout behind it"),
        ([RELU, dropout(0.5)], "drops its own outputs"),
        ([RELU, dropout(1.0), SOFTMAX], "rates below 1"),
        ([dropout(0.5, noise_shape=[None, 1]), SOFTMAX], "noise_shape="),
        ([RELU, rescaling(2.0), SOFTMAX], "comes after a Dense"),
        ([rescaling([1.0, 2.0]), SOFTMAX], "one number for each"),
        ([dropout(0.5), rescaling(1.0, 1.0), SOFTMAX], "put the Dropout behind"),
        ([dense(trainable=False)], "trainable=False"),
        ([dense(lora_rank=2)], "lora_rank=2"),
        ([dense(quantization_config={"class_name": "Int8QuantizationConfig"})], "quantization_config="),
        ([dense(kernel_constraint={"class_name": "MaxNorm"})], "kernel_constraint="),
        ([dense(bias_constraint={"class_name": "NonNeg"})], "bias_constraint="),
        ([dense(activity_regularizer=regularizer("L2", l2=0.1))], "activity_regularizer="),
        ([dense(kernel_regularizer=regularizer("OrthogonalRegularizer"))], "L1, L2 and L1L2"),
        ([dense(bias_regularizer={**regularizer("L2", l2=0.1), "registered_name": "my>L2"})], "bias_regularizer=L2"),
        ([("ReLU", {"name": "r", "max_value": 6.0})], "max_value=6.0"),
        ([dense(), ("ReLU", {"name": "r", "negative_slope": 0.1})], "negative_slope=0.1"),
        ([dense(), ("ReLU", {"name": "r", "threshold": 0.1})], "threshold=0.1"),
        ([dense(dtype="mixed_float16")], "mixed_float16; all float32"),
        ([dense(dtype="float64"), dense()], "float32, float64; all float32"),
    ],
)
def test_refused_layers(layers, reason):
    with pytest.raises(Unsupported) as refusal:
        plan_network(layers, (4,))
    assert reason in str(refusal.value)


def test_refused_shapes():
    with pytest.raises(Unsupported, match="put a Flatten layer before it"):
        plan_network([RELU], (28, 28))
    with pytest.raises(Unsupported, match="open dimensions"):
        plan_network([FLATTEN, RELU], (28, None))
    with pytest.raises(Unsupported, match="channels_first"):
        plan_network([("Flatten", {"name": "f", "data_format": "channels_first"}), RELU], (2, 3))


@pytest.mark.parametrize(
    ("name", "config", "expected"),
    [
        ("SGD", {"momentum": 0.0, "nesterov": True}, spec.Optimizer("sgd")),
        ("SGD", {"momentum": 0.9, "nesterov": False}, spec.Optimizer("momentum", 0.9)),
        ("SGD", {"momentum": 0.9, "nesterov": True, "clipvalue": 2}, spec.Optimizer("nesterov", 0.9, clip_value=2.0)),
        (
            "Adam",
            {"beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-6, "amsgrad": False, "clipnorm": 1.0},
            spec.Optimizer("adam", 0.8, 0.9, 1e-6, clip_norm=1.0),
        ),
        (
            "AdamW",
            {"beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-6, "weight_decay": 0.01},
            spec.Optimizer("adam", 0.8, 0.9, 1e-6, weight_decay=0.01),
        ),
        (
            "RMSprop",
            {"rho": 0.7, "epsilon": 1e-6, "momentum": 0.0, "centered": False, "global_clipnorm": 3.0},
            spec.Optimizer("rmsprop", 0.0, 0.7, 1e-6, global_clip_norm=3.0),
        ),
    ],
)
def test_optimizers(name, config, expected):
    off = {"use_ema": False, "ema_momentum": 0.99, "loss_scale_factor": None, "gradient_accumulation_steps": None}
    assert plan_optimizer(name, {"name": name, "learning_rate": 0.1, "weight_decay": None, **off, **config}) == expected


@pytest.mark.parametrize(
    ("name", "config", "reason"),
    [
        ("Lion", {}, "Lion is not supported; SGD, Adam"),
        ("Adam", {"amsgrad": True}, "amsgrad=True"),
        ("RMSprop", {"centered": True}, "centered=True"),
        ("RMSprop", {"momentum": 0.5}, "momentum=0.5"),
        ("SGD", {"use_ema": True}, "use_ema=True"),
        ("SGD", {"loss_scale_factor": 2.0}, "loss_scale_factor=2.0"),
        ("SGD", {"gradient_accumulation_steps": 4}, "gradient_accumulation_steps=4"),
    ],
)
def test_refused_optimizers(name, config, reason):
    with pytest.raises(Unsupported) as refusal:
        plan_optimizer(name, config)
    assert reason in str(refusal.value)


SCHEDULES = {
    "exponential": ("ExponentialDecay", {"initial_learning_rate": 0.1, "decay_steps": 7, "decay_rate": 0.5}),
    "exponential in steps": (
        "ExponentialDecay",
        {"initial_learning_rate": 0.1, "decay_steps": 7, "decay_rate": 0.9, "staircase": True},
    ),
    "inverse": ("InverseTimeDecay", {"initial_learning_rate": 0.1, "decay_steps": 7, "decay_rate": 0.5}),
    "inverse in steps": (
        "InverseTimeDecay",
        {"initial_learning_rate": 0.1, "decay_steps": 7, "decay_rate": 0.5, "staircase": True},
    ),
    "polynomial": ("PolynomialDecay", {"initial_learning_rate": 0.1, "decay_steps": 30}),
    "polynomial, again and again": (
        "PolynomialDecay",
        {"initial_learning_rate": 0.1, "decay_steps": 10, "end_learning_rate": 0.01, "power": 2.0, "cycle": True},
    ),
    "cosine": ("CosineDecay", {"initial_learning_rate": 0.1, "decay_steps": 30, "alpha": 0.1}),
    "cosine after a warm-up": (
        "CosineDecay",
        {"initial_learning_rate": 0.01, "decay_steps": 30, "warmup_target": 0.1, "warmup_steps": 7},
    ),
    "piecewise": ("PiecewiseConstantDecay", {"boundaries": [3, 9.5], "values": [0.1, 0.05, 0.3]}),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_are_keras_s(name):
    schedules = pytest.importorskip("keras").optimizers.schedules
    kind, arguments = SCHEDULES[name]
    schedule = getattr(schedules, kind)(**arguments)
    steps = np.arange(45)
    expected = [float(schedule(np.int32(step))) for step in steps]
    rates = plan_rate(schedules.serialize(schedule))(steps)
    assert rates.dtype == np.float64
    # Powers and cosines differ by a rounding or two of float32, 6e-8 each, between NumPy and a backend's compiler.
    np.testing.assert_allclose(rates, expected, rtol=4e-7, atol=1e-9)
    assert len(np.unique(rates)) > 2


def test_a_constant_rate():
    np.testing.assert_array_equal(plan_rate(0.25)(np.arange(3)), [0.25, 0.25, 0.25])


def test_refused_schedules():
    with pytest.raises(Unsupported, match="CosineDecayRestarts is not supported; ExponentialDecay"):
        plan_rate({"class_name": "CosineDecayRestarts", "config": {}})
    with pytest.raises(Unsupported, match=r"in integers; pass 1\.0"):
        plan_rate({"class_name": "ExponentialDecay", "config": {"initial_learning_rate": 1}})


@pytest.mark.parametrize(
    ("name", "config", "output", "expected"),
    [
        ("MeanSquaredError", {}, "tanh", ("squared_error", "tanh", 2 / 4, "squared", 1 / 4, 0.0)),
        ("CategoricalCrossentropy", {}, "softmax", ("cross_entropy", "softmax", 1.0, "entropy", 1.0, 1e-7)),
        (
            "SparseCategoricalCrossentropy",
            {"from_logits": True},
            "linear",
            ("cross_entropy", "softmax", 1.0, "entropy", 1.0, 1e-7),
        ),
        ("BinaryCrossentropy", {}, "sigmoid", ("cross_entropy", "sigmoid", 1 / 4, "entropy", 1 / 4, 1e-7)),
    ],
)
def test_losses(name, config, output, expected):
    plan = plan_loss(name, config, output, 4)
    assert (plan.loss, plan.output, plan.loss_scale, plan.reported, plan.report_scale, plan.floor) == expected


@pytest.mark.parametrize(
    ("name", "config", "output", "reason"),
    [
        ("Huber", {}, "linear", "Huber is not supported; MeanSquaredError"),
        ("MeanSquaredError", {"reduction": "sum"}, "linear", "reduction='sum'"),
        ("CategoricalCrossentropy", {"axis": 0}, "softmax", "axis=0"),
        ("SparseCategoricalCrossentropy", {"ignore_class": 0}, "softmax", "ignore_class=0"),
        ("CategoricalCrossentropy", {}, "sigmoid", "softmax is, or linear with from_logits=True"),
        ("CategoricalCrossentropy", {}, "linear", "from_logits=False on the output activation linear"),
        ("SparseCategoricalCrossentropy", {"from_logits": True}, "softmax", "from_logits=True on the output"),
        ("BinaryCrossentropy", {}, "softmax", "sigmoid is, or linear"),
    ],
)
def test_refused_losses(name, config, output, reason):
    with pytest.raises(Unsupported) as refusal:
        plan_loss(name, config, output, 4)
    assert reason in str(refusal.value)


def test_targets():
    classes = plan_loss("SparseCategoricalCrossentropy", {}, "softmax", 3)
    for y in ([0, 2], [[0.0], [2.0]], np.array([0, 2], np.uint8)):
        targets = classes.targets(y, 3)
        assert targets.dtype == np.int64
        assert targets.tolist() == [0, 2]
    with pytest.raises(ValueError, match="For vectors use categorical"):
        classes.targets(np.eye(3), 3)

    squared = plan_loss("MeanSquaredError", {}, "linear", 1)
    assert squared.targets([1, 2], 1).tolist() == [[1.0], [2.0]]
    with pytest.raises(ValueError, match=r"shape \(2, 1\); this model and its loss take \(N, 3\)"):
        squared.targets([[1], [2]], 3)

    one_hot = np.eye(4)[[1, 3]]
    smooth = plan_loss("CategoricalCrossentropy", {"label_smoothing": 0.2}, "softmax", 4).targets(one_hot, 4, "float64")
    np.testing.assert_allclose(smooth, one_hot * 0.8 + 0.05)
    smooth = plan_loss("BinaryCrossentropy", {"label_smoothing": 0.2}, "sigmoid", 4).targets(one_hot, 4)
    np.testing.assert_allclose(smooth, one_hot * 0.8 + 0.1, rtol=1e-6)
    assert smooth.dtype == np.float32


@pytest.mark.parametrize("bad", [[[0.5, 0.4]], [[np.nan, 1.0]], [[1.0, 1.0]]])
def test_targets_of_a_softmax_sum_to_one(bad):
    with pytest.raises(Unsupported, match="targets of row 1 sum to"):
        plan_loss("CategoricalCrossentropy", {}, "softmax", 2).targets([[0.0, 1.0], *bad], 2)


def test_thresholds_of_logits():
    logits = plan_loss("BinaryCrossentropy", {"from_logits": True}, "linear", 1)
    assert logits.threshold(0.5) == pytest.approx(1 / (1 + np.exp(-0.5)))
    assert plan_loss("BinaryCrossentropy", {}, "sigmoid", 1).threshold(0.3) == 0.3
