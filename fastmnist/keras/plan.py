"""From Keras's words to the engine's: what a model, an optimiser and a loss mean to the kernels.

It reads class names and config dicts, as `get_config` returns them and `.keras` files hold them, never objects: real
Keras models and those of `fastmnist.keras` are translated by the same lines. What the engine would not compute as
Keras does is refused with `Unsupported`, whose message is the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmnist import spec

Config = Mapping[str, Any]
Schedule = Callable[[ArrayLike], NDArray[np.float64]]

# What each layer may be given; every other argument must be at its neutral value, None or False.
_ARGUMENTS = {
    "Dense": {"units", "activation", "use_bias", "kernel_regularizer", "bias_regularizer"},
    "Dropout": {"rate"},
    "Flatten": {"data_format"},
    "Activation": {"activation"},
    "ReLU": set(),
    "Rescaling": {"scale", "offset"},
}
_NO_EFFECT = {"name", "dtype", "trainable", "seed", "kernel_initializer", "bias_initializer"}
_ADAM = {"beta_1", "beta_2", "epsilon"}
_OPTIMIZERS = {"SGD": {"momentum", "nesterov"}, "Adam": _ADAM, "AdamW": _ADAM, "RMSprop": {"rho", "epsilon"}}

_EPSILON = 1e-7  # keras.config.epsilon(): probabilities are clipped to [1e-7, 1 - 1e-7] before the logarithm
_SUM_TOLERANCE = 1e-6  # a few roundings of float32 probabilities that add up to 1


class Unsupported(NotImplementedError):
    """The engine does not do this as Keras does; the message says what, and what is supported."""


@dataclass(frozen=True)
class Plan:
    """A stack of Keras layers as the engine sees it.

    Attributes
    ----------
    n_inputs : int
        Inputs of the first dense layer: the size of the flattened input.
    layers : tuple of spec.Layer
        The dense layers, with the activations, regularisers and dropout that belong to them.
    dense : tuple of int
        For each of them, the index of its Dense layer among the layers given.
    dtype : str
        "float32" or "float64".
    input_dropout : float
        Share of the inputs dropped in training, after the scaling.
    scale, offset : float
        Inputs are read as ``x * scale + offset``.
    """

    n_inputs: int
    layers: tuple[spec.Layer, ...]
    dense: tuple[int, ...]
    dtype: str
    input_dropout: float
    scale: float
    offset: float


@dataclass(frozen=True)
class LossPlan:
    """A Keras loss as the engine computes it.

    Attributes
    ----------
    loss : str
        The engine's name: "squared_error" or "cross_entropy".
    output : str
        Activation of the last layer in training and evaluation. It differs from the model's own, "linear", where the
        loss takes logits; predictions keep the model's own.
    loss_scale : float
        Factor on the engine's gradient.
    reported : str
        Which of the engine's totals Keras's loss is, "squared" or "entropy" ...
    report_scale : float
        ... times this.
    floor : float
        Probabilities are clipped to [floor, 1 - floor] in the reported loss.
    classes : bool
        Targets are class numbers, not vectors.
    smooth : float
        Share of each target vector that is replaced ...
    smooth_by : float
        ... by this constant, already multiplied by the share.
    logits : bool
        Whether the loss takes logits.
    """

    loss: str
    output: str
    loss_scale: float
    reported: str
    report_scale: float
    floor: float = 0.0
    classes: bool = False
    smooth: float = 0.0
    smooth_by: float = 0.0
    logits: bool = False

    def threshold(self, value: float = 0.5) -> float:
        """Move a threshold that Keras compares the model's outputs with to where `output` has it."""
        return 1 / (1 + math.exp(-value)) if self.logits and self.output == "sigmoid" else value

    def targets(self, y: ArrayLike, n_out: int, dtype: str = "float32") -> NDArray[Any]:
        """Turn Keras's targets into what `engine.truth_of` takes.

        Parameters
        ----------
        y : ndarray, shape (N,), (N, 1) or (N, n_out)
            Class numbers of any type, or target vectors.
        n_out : int
            Outputs of the network.
        dtype : str, default: "float32"
            The float type of the network.

        Returns
        -------
        ndarray, shape (N,) of int64 or (N, n_out) of `dtype`
            Classes, or target vectors with the label smoothing done.

        Raises
        ------
        ValueError
            If the shape does not fit the loss.
        Unsupported
            If targets of a softmax do not sum to 1: the engine's gradient is that of distributions.
        """
        y = np.asarray(y)
        if self.classes:
            if y.shape not in ((len(y),), (len(y), 1)):
                raise ValueError(
                    f"targets have shape {y.shape}; sparse categorical cross-entropy takes class numbers of shape "
                    "(N,) or (N, 1). For vectors use categorical cross-entropy."
                )
            return y.reshape(-1).astype(np.int64)
        if y.ndim == 1 and n_out == 1:
            y = y[:, None]
        if y.ndim != 2 or y.shape[1] != n_out:
            raise ValueError(
                f"targets have shape {y.shape}; this model and its loss take (N, {n_out}). For class numbers use "
                "sparse categorical cross-entropy, or to_categorical."
            )
        y = y.astype(dtype)
        if self.loss == "cross_entropy" and self.output == "softmax":
            sums = y.sum(axis=1)
            wrong = np.flatnonzero(~(np.abs(sums - 1) <= _SUM_TOLERANCE))
            if wrong.size:
                raise Unsupported(
                    f"the targets of row {wrong[0]} sum to {sums[wrong[0]]:g}; categorical cross-entropy is supported "
                    "for targets that sum to 1, as those of to_categorical do."
                )
        return y * y.dtype.type(1 - self.smooth) + y.dtype.type(self.smooth_by) if self.smooth else y


def plan_network(layers: Sequence[tuple[str, Config]], input_shape: tuple[int | None, ...]) -> Plan:
    """Translate a stack of layers.

    Parameters
    ----------
    layers : sequence of (str, dict)
        Class name and config of each layer in order, without the InputLayer.
    input_shape : tuple of int
        Shape of one sample.

    Returns
    -------
    Plan

    Raises
    ------
    Unsupported
        With the reason, if the engine would not compute what Keras does.
    """
    if any(n is None for n in input_shape):
        raise Unsupported(f"input shape {input_shape} has open dimensions; every dimension must be known.")
    sizes = tuple(int(n) for n in input_shape if n is not None)
    stack = _Stack()
    for at, (kind, config) in enumerate(layers):
        if kind not in _ARGUMENTS:
            raise Unsupported(f"layer {_name(kind, config)} is not supported; {', '.join(_ARGUMENTS)} are.")
        _refuse_arguments(f"layer {_name(kind, config)}", config, _ARGUMENTS[kind] | _NO_EFFECT)
        stack.where = f"layer {_name(kind, config)}"
        if kind == "Dense":
            if len(sizes) != 1:
                raise Unsupported(f"{stack.where} gets samples of shape {sizes}; put a Flatten layer before it.")
            sizes = (int(config["units"]),)
            stack.dense(at, config)
        elif kind == "Dropout":
            stack.drop(float(config["rate"]))
        elif kind == "Flatten":
            if config.get("data_format") == "channels_first" and len(sizes) > 1:
                raise Unsupported(f'{stack.where} has data_format="channels_first"; "channels_last" is supported.')
            sizes = (math.prod(sizes),)
        elif kind == "Rescaling":
            stack.rescale(config)
        else:
            stack.activate("relu" if kind == "ReLU" else _activation(stack.where, config["activation"]))
    if not stack.layers:
        raise Unsupported("the model has no Dense layer.")
    if stack.layers[-1].dropout:
        raise Unsupported("the model drops its own outputs: a Dropout layer after the last Dense is not supported.")
    dtypes = {_dtype(config) for _, config in layers}
    if dtypes not in ({"float32"}, {"float64"}):
        raise Unsupported(f"layers compute in {', '.join(sorted(dtypes))}; all float32 or all float64 is supported.")
    n_inputs = math.prod(int(n) for n in input_shape if n is not None)
    return Plan(
        n_inputs, tuple(stack.layers), tuple(stack.at), dtypes.pop(), stack.input_dropout, stack.scale, stack.offset
    )


class _Stack:
    """The layers so far; every Keras layer that has no weights becomes a property of its neighbours."""

    def __init__(self) -> None:
        self.layers: list[spec.Layer] = []
        self.at: list[int] = []
        self.input_dropout = 0.0
        self.scale, self.offset = 1.0, 0.0
        self.where = ""

    def dense(self, at: int, config: Config) -> None:
        if not config.get("trainable", True):
            raise Unsupported(f"{self.where} has trainable=False; only models that train as a whole are supported.")
        if self.layers and self.layers[-1].activation == "softmax":
            raise Unsupported(f"{self.where} follows a softmax; softmax is supported at the end of the model.")
        l1, l2 = _penalty(self.where, "kernel_regularizer", config)
        bias_l1, bias_l2 = _penalty(self.where, "bias_regularizer", config)
        self.layers.append(
            spec.Layer(
                units=int(config["units"]),
                activation=_activation(self.where, config.get("activation")),
                biases=bool(config.get("use_bias", True)),
                l1=l1,
                l2=l2,
                bias_l1=bias_l1,
                bias_l2=bias_l2,
            )
        )
        self.at.append(at)

    def activate(self, activation: str) -> None:
        """Two activations in a row, where the pair is one of the engine's: linear with any, ReLU with itself."""
        if activation == "linear":
            return
        if not self.layers:
            raise Unsupported(f"{self.where} comes before the first Dense layer; activations after one are supported.")
        last = self.layers[-1]
        if last.activation != "linear" and not last.activation == activation == "relu":
            raise Unsupported(
                f"{self.where} follows the activation {last.activation}; one for each Dense is supported."
            )
        if last.dropout and activation != "relu":
            raise Unsupported(
                f"{self.where} computes {activation} of values that a Dropout has scaled, which is supported for relu "
                "alone; put the Dropout behind it."
            )
        self.layers[-1] = replace(last, activation=activation)

    def drop(self, rate: float) -> None:
        """Dropouts in a row keep what each of them keeps."""
        before = self.layers[-1].dropout if self.layers else self.input_dropout
        rate = 1 - (1 - before) * (1 - rate) if before else rate
        if rate >= 1:
            raise Unsupported(f"{self.where} drops everything; rates below 1 are supported.")
        if self.layers:
            self.layers[-1] = replace(self.layers[-1], dropout=rate)
        else:
            self.input_dropout = rate

    def rescale(self, config: Config) -> None:
        if self.layers:
            raise Unsupported(f"{self.where} comes after a Dense layer; before the first one it is supported.")
        scale, offset = config["scale"], config["offset"]
        if not isinstance(scale, int | float) or not isinstance(offset, int | float):
            raise Unsupported(f"{self.where} has scale={scale}, offset={offset}; one number for each is supported.")
        if self.input_dropout and offset:
            raise Unsupported(
                f"{self.where} adds {offset} to inputs that a Dropout has zeroed; put the Dropout behind."
            )
        self.scale, self.offset = self.scale * scale, self.offset * scale + offset


def _name(kind: str, config: Config) -> str:
    return f"{kind} {config['name']!r}" if config.get("name") else kind


def _refuse_arguments(where: str, config: Config, accepted: set[str]) -> None:
    """Every argument that is not read must be at a value that changes nothing."""
    for argument, value in config.items():
        if argument not in accepted and value not in (None, False, 0.0):
            raise Unsupported(f"{where} has {argument}={value!r}, which is not supported.")


def _dtype(config: Config) -> str:
    """Compute and variable type of a layer: the name of its policy."""
    policy = config.get("dtype") or "float32"
    return str(policy if isinstance(policy, str) else policy["config"]["name"])


def _activation(where: str, activation: Any) -> str:
    if activation is None:
        return "linear"
    if activation not in tuple(spec.ACTIVATIONS):
        raise Unsupported(f"{where} has activation={activation!r}; {', '.join(spec.ACTIVATIONS)} are supported.")
    return str(activation)


def _penalty(where: str, argument: str, config: Config) -> tuple[float, float]:
    regularizer = config.get(argument)
    if regularizer is None:
        return 0.0, 0.0
    kind = regularizer.get("class_name")
    if kind not in ("L1", "L2", "L1L2") or regularizer.get("registered_name"):
        raise Unsupported(f"{where} has {argument}={kind}; L1, L2 and L1L2 are supported.")
    constants = regularizer["config"]
    return float(constants.get("l1", 0.0)), float(constants.get("l2", 0.0))


def plan_optimizer(class_name: str, config: Config) -> spec.Optimizer:
    """Translate an optimiser; its learning rate is `plan_rate`'s.

    Parameters
    ----------
    class_name : str
        "SGD", "Adam", "AdamW" or "RMSprop".
    config : dict
        As its `get_config` returns it.

    Raises
    ------
    Unsupported
        For other optimisers, and for amsgrad, centered, use_ema, loss_scale_factor, gradient_accumulation_steps and
        RMSprop's momentum.
    """
    if class_name not in _OPTIMIZERS:
        raise Unsupported(f"optimizer {class_name} is not supported; {', '.join(_OPTIMIZERS)} are.")
    common = {"name", "learning_rate", "weight_decay", "clipvalue", "clipnorm", "global_clipnorm"}
    no_effect = {"ema_momentum", "ema_overwrite_frequency"}  # without use_ema
    _refuse_arguments(f"optimizer {class_name}", config, common | no_effect | _OPTIMIZERS[class_name])
    optimizer = spec.Optimizer(
        weight_decay=float(config.get("weight_decay") or 0.0),
        clip_value=float(config.get("clipvalue") or 0.0),
        clip_norm=float(config.get("clipnorm") or 0.0),
        global_clip_norm=float(config.get("global_clipnorm") or 0.0),
    )
    if class_name == "SGD":
        momentum = float(config["momentum"])
        kind = "sgd" if not momentum else "nesterov" if config["nesterov"] else "momentum"
        return replace(optimizer, name=kind, decay_1=momentum)
    epsilon = float(config["epsilon"])
    if class_name == "RMSprop":
        return replace(optimizer, name="rmsprop", decay_2=float(config["rho"]), epsilon=epsilon)
    decays = {"decay_1": float(config["beta_1"]), "decay_2": float(config["beta_2"])}
    return replace(optimizer, name="adam", epsilon=epsilon, **decays)


def plan_rate(learning_rate: float | Config, dtype: str = "float32") -> Schedule:
    """Translate a learning rate: a number, or a schedule's class name and config.

    Parameters
    ----------
    learning_rate : float or dict
        The entry of that name in an optimiser's config.
    dtype : str, default: "float32"
        The type that Keras computes schedules in, its floatx. Each operation is rounded to it here too.

    Returns
    -------
    callable
        From step numbers (updates made before), shape (S,), to rates, (S,) float64.

    Raises
    ------
    Unsupported
        For schedules other than ExponentialDecay, InverseTimeDecay, PolynomialDecay, CosineDecay and
        PiecewiseConstantDecay.
    """
    if isinstance(learning_rate, int | float):
        return lambda steps: np.full(np.shape(steps), learning_rate, np.float64)
    kind, config = learning_rate.get("class_name"), learning_rate["config"]
    if kind not in _SCHEDULES or learning_rate.get("registered_name"):
        raise Unsupported(f"learning rate schedule {kind} is not supported; {', '.join(_SCHEDULES)} are.")
    start = config.get("initial_learning_rate", 1.0)
    if not isinstance(start, float):
        raise Unsupported(
            f"{kind} has initial_learning_rate={start!r}, with which Keras computes in integers; pass {float(start)}."
        )
    schedule, real = _SCHEDULES[kind], np.dtype(dtype).type
    return lambda steps: np.asarray(schedule(np.asarray(steps), config, real), np.float64)


def _decays(steps: NDArray[Any], config: Config, real: Any) -> Any:
    """Share of `decay_steps` that has passed, in whole ones if `staircase`."""
    share = steps.astype(real) / real(config["decay_steps"])
    return np.floor(share) if config["staircase"] else share


def _exponential(steps: NDArray[Any], config: Config, real: Any) -> Any:
    return real(config["initial_learning_rate"]) * real(config["decay_rate"]) ** _decays(steps, config, real)


def _inverse_time(steps: NDArray[Any], config: Config, real: Any) -> Any:
    divisor = real(1) + real(config["decay_rate"]) * _decays(steps, config, real)
    return real(config["initial_learning_rate"]) / divisor


def _polynomial(steps: NDArray[Any], config: Config, real: Any) -> Any:
    start, end = real(config["initial_learning_rate"]), real(config["end_learning_rate"])
    step, whole = steps.astype(real), real(config["decay_steps"])
    if config["cycle"]:
        whole = whole * np.where(step == 0, real(1), np.ceil(step / whole))
    else:
        step = np.minimum(step, whole)
    return (start - end) * (real(1) - step / whole) ** real(config["power"]) + end


def _cosine(steps: NDArray[Any], config: Config, real: Any) -> Any:
    start, alpha = real(config["initial_learning_rate"]), config["alpha"]
    step, whole = steps.astype(real), real(config["decay_steps"])
    warm, peak = real(0), start
    if config["warmup_target"] is not None:
        warm, peak = real(config["warmup_steps"]), real(config["warmup_target"])
    done = np.minimum(step, whole + warm) - warm
    cosine = real(0.5) * (real(1) + np.cos(real(math.pi) * (done / whole)))
    rate = peak * (real(1 - alpha) * cosine + real(alpha))
    if warm:
        rate = np.where(step < warm, (peak - start) * (step / warm) + start, rate)
    return rate


def _piecewise(steps: NDArray[Any], config: Config, real: Any) -> Any:
    # Keras casts the boundaries to the type of the step, an integer.
    boundaries = np.asarray(config["boundaries"]).astype(np.int64)
    return np.asarray(config["values"], real)[np.searchsorted(boundaries, steps)]


_SCHEDULES: dict[str, Callable[[NDArray[Any], Config, Any], Any]] = {
    "ExponentialDecay": _exponential,
    "InverseTimeDecay": _inverse_time,
    "PolynomialDecay": _polynomial,
    "CosineDecay": _cosine,
    "PiecewiseConstantDecay": _piecewise,
}


def plan_loss(class_name: str, config: Config, activation: str, n_out: int) -> LossPlan:
    """Translate a loss for a model whose last activation is `activation` and which has `n_out` outputs.

    Parameters
    ----------
    class_name : str
        "MeanSquaredError", "CategoricalCrossentropy", "SparseCategoricalCrossentropy" or "BinaryCrossentropy".
    config : dict
        As its `get_config` returns it; what is missing has Keras's default.
    activation : str
        Activation of the last layer.
    n_out : int
        Outputs.

    Raises
    ------
    Unsupported
        For other losses, other reductions, and pairs of loss and output whose gradient the engine does not have.
    """
    reduction = config.get("reduction", "sum_over_batch_size")
    if reduction not in ("sum_over_batch_size", "mean"):
        raise Unsupported(f"loss {class_name} has reduction={reduction!r}; 'sum_over_batch_size' is supported.")
    _refuse_arguments(
        f"loss {class_name}",
        config,
        {"name", "reduction", "from_logits", "label_smoothing", "axis", "ignore_class"},
    )
    if config.get("axis", -1) not in (-1, 1):
        raise Unsupported(f"loss {class_name} has axis={config['axis']}; the last axis, -1, is supported.")
    if class_name == "MeanSquaredError":
        return LossPlan("squared_error", activation, 2 / n_out, "squared", 1 / n_out)
    if config.get("ignore_class") is not None:
        raise Unsupported(f"loss {class_name} has ignore_class={config['ignore_class']}, which is not supported.")
    logits = bool(config.get("from_logits", False))
    smooth = float(config.get("label_smoothing", 0.0))
    if class_name in ("CategoricalCrossentropy", "SparseCategoricalCrossentropy"):
        _check_output(class_name, logits, activation, "softmax")
        classes = class_name.startswith("Sparse")
        return LossPlan(
            "cross_entropy", "softmax", 1.0, "entropy", 1.0, _EPSILON, classes, smooth, smooth / n_out, logits
        )
    if class_name == "BinaryCrossentropy":
        _check_output(class_name, logits, activation, "sigmoid")
        return LossPlan(
            "cross_entropy", "sigmoid", 1 / n_out, "entropy", 1 / n_out, _EPSILON, False, smooth, smooth / 2, logits
        )
    raise Unsupported(
        f"loss {class_name} is not supported; MeanSquaredError, CategoricalCrossentropy, SparseCategoricalCrossentropy "
        "and BinaryCrossentropy are."
    )


def _check_output(class_name: str, logits: bool, activation: str, wanted: str) -> None:
    """Refuse all but the pair whose gradient the engine has; it turns logits into probabilities by itself."""
    if activation != ("linear" if logits else wanted):
        raise Unsupported(
            f"loss {class_name} with from_logits={logits} on the output activation {activation} is not supported; "
            f"{wanted} is, or linear with from_logits=True."
        )
