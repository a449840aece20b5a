"""Keras's losses, as far as the engine has them, and the functions of the same names on NumPy arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmnist.keras.naming import snake_case
from fastmnist.keras.serialization import refuse_arguments, resolve, serialize, stand_ins

__all__ = [
    "BinaryCrossentropy",
    "CategoricalCrossentropy",
    "Loss",
    "MeanSquaredError",
    "SparseCategoricalCrossentropy",
    "binary_crossentropy",
    "categorical_crossentropy",
    "deserialize",
    "get",
    "mean_squared_error",
    "serialize",
    "sparse_categorical_crossentropy",
]

_EPSILON = np.float32(1e-7)  # keras.config.epsilon()


def mean_squared_error(y_true: ArrayLike, y_pred: ArrayLike) -> NDArray[Any]:
    """Return the mean of ``(y_true - y_pred) ** 2`` over the outputs, shape (N,)."""
    return np.asarray(np.square(np.subtract(*_pair(y_true, y_pred))).mean(axis=-1))


def categorical_crossentropy(
    y_true: ArrayLike, y_pred: ArrayLike, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> NDArray[Any]:
    """Return ``-sum(y_true * log(y_pred))``, shape (N,), of one-hot rows or distributions."""
    targets, outputs = _pair(y_true, y_pred)
    if label_smoothing:
        targets = targets * (1 - label_smoothing) + label_smoothing / targets.shape[axis]
    return np.asarray(-(targets * _log_probabilities(outputs, from_logits)).sum(axis=axis))


def sparse_categorical_crossentropy(
    y_true: ArrayLike, y_pred: ArrayLike, from_logits: bool = False, ignore_class: Any = None, axis: int = -1
) -> NDArray[Any]:
    """Return ``-log(y_pred[y_true])``, shape (N,), of class numbers (N,) or (N, 1)."""
    refuse_arguments("sparse_categorical_crossentropy", ignore_class=ignore_class)
    y_pred = np.asarray(y_pred, np.float32)
    classes = np.asarray(y_true).astype(np.int64).reshape(len(y_pred))
    return np.asarray(-_log_probabilities(y_pred, from_logits)[np.arange(len(y_pred)), classes])


def binary_crossentropy(
    y_true: ArrayLike, y_pred: ArrayLike, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> NDArray[Any]:
    """Return the mean of ``-t * log(p) - (1 - t) * log(1 - p)`` over the outputs, shape (N,)."""
    targets, outputs = _pair(y_true, y_pred)
    if label_smoothing:
        targets = targets * (1 - label_smoothing) + label_smoothing / 2
    if from_logits:
        each = np.maximum(outputs, 0) - outputs * targets + np.log1p(np.exp(-np.abs(outputs)))
    else:
        p = np.clip(outputs, _EPSILON, 1 - _EPSILON)
        each = -targets * np.log(p) - (1 - targets) * np.log(1 - p)
    return np.asarray(each.mean(axis=axis))


def _pair(y_true: ArrayLike, y_pred: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    """Both as float32 of one shape; (N,) goes with (N, 1)."""
    targets, outputs = np.asarray(y_true, np.float32), np.asarray(y_pred, np.float32)
    if outputs.shape == (*targets.shape, 1):
        targets = targets[..., None]
    if targets.shape != outputs.shape:
        raise ValueError(f"y_true has shape {targets.shape} and y_pred {outputs.shape}; the same shape is wanted.")
    return targets, outputs


def _log_probabilities(y_pred: NDArray[Any], from_logits: bool) -> NDArray[Any]:
    if from_logits:
        shifted = y_pred - y_pred.max(axis=-1, keepdims=True)
        return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))
    return np.asarray(np.log(np.clip(y_pred / y_pred.sum(axis=-1, keepdims=True), _EPSILON, 1 - _EPSILON)))


class Loss:
    """What all losses share; called with targets and outputs, a loss is the mean over the samples.

    Parameters
    ----------
    reduction : {"sum_over_batch_size"}
        "mean" is another name for it.
    name : str, optional
    dtype
        Not supported.
    """

    keras_module = "keras.losses"

    def __init__(
        self, reduction: str = "sum_over_batch_size", name: str | None = None, dtype: Any = None, **arguments: Any
    ) -> None:
        kind = type(self).__name__
        if reduction not in ("sum_over_batch_size", "mean"):
            raise NotImplementedError(
                f"{kind} was given reduction={reduction!r}; 'sum_over_batch_size' and 'mean' are supported."
            )
        refuse_arguments(kind, dtype=dtype, ignore_class=arguments.get("ignore_class"))
        if arguments.get("axis", -1) != -1:
            raise NotImplementedError(f"{kind} was given axis={arguments['axis']}; -1 is supported.")
        if not 0 <= arguments.get("label_smoothing", 0) <= 1:
            raise ValueError(f"label_smoothing is {arguments['label_smoothing']!r}; a share in [0, 1] is wanted.")
        self.reduction = reduction
        self.name = name or snake_case(kind)
        self._arguments = arguments

    def __call__(self, y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> np.float32:
        """Return the mean over the samples, each multiplied by its weight, or all of them by one."""
        values = self.call(y_true, y_pred)
        if sample_weight is not None:
            weights = np.asarray(sample_weight, np.float32)
            if weights.shape == (*values.shape, 1):
                weights = weights[..., 0]
            values = values * np.broadcast_to(weights, values.shape)
        return np.float32(values.mean())

    def call(self, y_true: ArrayLike, y_pred: ArrayLike) -> NDArray[Any]:
        """Return the loss of each sample."""
        function = _FUNCTIONS[snake_case(type(self).__name__)]
        values: NDArray[Any] = function(y_true, y_pred, **self._arguments)
        return values

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"name": self.name, "reduction": self.reduction, **self._arguments}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Loss:
        """Make one from its config."""
        return cls(**config)


class MeanSquaredError(Loss):
    """Mean of ``(y_true - y_pred) ** 2`` over samples and outputs."""

    def __init__(
        self,
        reduction: str = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(reduction, name, dtype)


class CategoricalCrossentropy(Loss):
    """Cross-entropy of one-hot rows, or distributions, and a softmax.

    Parameters
    ----------
    from_logits : bool, default False
        The last layer is linear; the loss applies the softmax.
    label_smoothing : float, default 0
        Share of each target that is spread evenly over all classes.
    axis : {-1}
    reduction, name, dtype
        As for `Loss`.
    """

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(reduction, name, dtype, from_logits=from_logits, label_smoothing=label_smoothing, axis=axis)


class SparseCategoricalCrossentropy(Loss):
    """Cross-entropy of class numbers and a softmax.

    Parameters
    ----------
    from_logits : bool, default False
        The last layer is linear; the loss applies the softmax.
    ignore_class
        Not supported.
    axis : {-1}
    reduction, name, dtype
        As for `Loss`.
    """

    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: Any = None,
        reduction: str = "sum_over_batch_size",
        axis: int = -1,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        if axis != -1:
            raise NotImplementedError(f"SparseCategoricalCrossentropy was given axis={axis}; -1 is supported.")
        super().__init__(reduction, name, dtype, from_logits=from_logits, ignore_class=ignore_class)


class BinaryCrossentropy(Loss):
    """Cross-entropy of targets in [0, 1] and sigmoids, averaged over the outputs.

    Parameters
    ----------
    from_logits : bool, default False
        The last layer is linear; the loss applies the sigmoid.
    label_smoothing : float, default 0
        Targets are moved towards 1/2 by this share of the way.
    axis : {-1}
    reduction, name, dtype
        As for `Loss`.
    """

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(reduction, name, dtype, from_logits=from_logits, label_smoothing=label_smoothing, axis=axis)


_FUNCTIONS: dict[str, Any] = {
    f.__name__: f
    for f in (mean_squared_error, categorical_crossentropy, sparse_categorical_crossentropy, binary_crossentropy)
}
_SHORT = {"mse": MeanSquaredError, "MSE": MeanSquaredError, "bce": BinaryCrossentropy, "BCE": BinaryCrossentropy}
_CLASSES: dict[str, type[Loss]] = {
    c.__name__: c
    for c in (BinaryCrossentropy, CategoricalCrossentropy, MeanSquaredError, SparseCategoricalCrossentropy)
}
_CLASSES |= {snake_case(name): c for name, c in _CLASSES.items()} | _SHORT
_ELSEWHERE = (
    "KLDivergence Poisson BinaryFocalCrossentropy CategoricalFocalCrossentropy MeanAbsoluteError "
    "MeanAbsolutePercentageError MeanSquaredLogarithmicError CosineSimilarity LogCosh Huber Hinge SquaredHinge "
    "CategoricalHinge Dice Tversky Circle CTC crossentropy ce kld mae mape msle"
).split()
__getattr__ = stand_ins(__name__, _ELSEWHERE)


def get(identifier: Any) -> Loss | None:
    """Return the loss of that name, config, class or function; None and losses stay what they are.

    Raises
    ------
    NotImplementedError
        For Keras's other losses, and for functions of your own.
    ValueError
        For unknown names.
    """
    if callable(identifier) and identifier in _FUNCTIONS.values():
        identifier = identifier.__name__
    found = resolve("loss", identifier, _CLASSES, _ELSEWHERE)
    if found is not None and not isinstance(found, Loss):
        raise NotImplementedError(f"loss {found!r} is not supported; those of fastmnist.keras.losses are.")
    return found


deserialize = get
