"""Keras's metrics, as far as training reports them: accuracies, and the losses as metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmnist.keras import losses
from fastmnist.keras.naming import snake_case
from fastmnist.keras.serialization import class_name, refuse_arguments, resolve, serialize, stand_ins

__all__ = [
    "BinaryAccuracy",
    "BinaryCrossentropy",
    "CategoricalAccuracy",
    "CategoricalCrossentropy",
    "Mean",
    "MeanSquaredError",
    "Metric",
    "SparseCategoricalAccuracy",
    "SparseCategoricalCrossentropy",
    "deserialize",
    "get",
    "serialize",
]


class Metric:
    """A running mean over samples.

    Parameters
    ----------
    name : str, optional
        As `History` and the progress lines show it. Default: the class's name in lower case.
    dtype
        Not supported.
    """

    keras_module = "keras.metrics"
    # Whether more is better: "up" or "down".
    direction: ClassVar = "down"

    def __init__(self, name: str | None = None, dtype: Any = None, **arguments: Any) -> None:
        refuse_arguments(type(self).__name__, dtype=None if dtype == "float32" else dtype)
        self.name = name or snake_case(type(self).__name__)
        self._arguments = arguments
        self.reset_state()

    def reset_state(self) -> None:
        """Begin anew."""
        self._total = self._count = 0.0

    def _values(self, y_true: ArrayLike, y_pred: ArrayLike) -> NDArray[Any]:
        """One number for each sample."""
        function = getattr(losses, snake_case(type(self).__name__))
        values: NDArray[Any] = function(y_true, y_pred, **self._arguments)
        return values

    def update_state(self, y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> None:
        """Add a batch."""
        self._add(self._values(y_true, y_pred), sample_weight)

    def _add(self, values: NDArray[Any], sample_weight: ArrayLike | None) -> None:
        weights = np.asarray(1.0 if sample_weight is None else sample_weight, np.float64)
        if weights.shape == (*values.shape, 1):
            weights = weights[..., 0]
        if 0 < weights.ndim < values.ndim:  # one for several values
            values = values.mean(axis=tuple(range(weights.ndim, values.ndim)))
        weights = np.broadcast_to(weights, values.shape)
        self._total += float((values * weights).sum())
        self._count += float(weights.sum())

    def result(self) -> np.float32:
        """Return the mean so far, 0 at the beginning."""
        return np.float32(self._total / self._count if self._count else 0)

    def __call__(self, *arguments: Any, **options: Any) -> np.float32:
        """Add a batch and return the mean so far."""
        self.update_state(*arguments, **options)
        return self.result()

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"name": self.name, "dtype": "float32", **self._arguments}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Metric:
        """Make one from its config."""
        return cls(**config)


class Mean(Metric):
    """Mean of the values given."""

    def update_state(  # type: ignore[override]
        self, values: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> None:
        """Add values."""
        self._add(np.asarray(values, np.float64), sample_weight)


class CategoricalAccuracy(Metric):
    """Share of the samples whose largest output is where the target row has its largest number."""

    direction = "up"

    def _values(self, y_true: ArrayLike, y_pred: ArrayLike) -> NDArray[Any]:
        return np.asarray(np.argmax(y_true, axis=-1) == np.argmax(y_pred, axis=-1))


class SparseCategoricalAccuracy(Metric):
    """Share of the samples whose largest output is that of their class."""

    direction = "up"

    def _values(self, y_true: ArrayLike, y_pred: ArrayLike) -> NDArray[Any]:
        best = np.argmax(y_pred, axis=-1)
        return np.asarray(np.asarray(y_true).reshape(best.shape) == best)


class BinaryAccuracy(Metric):
    """Share of the outputs that are on the right side of `threshold`, for targets 0 and 1."""

    direction = "up"

    def __init__(self, name: str | None = None, dtype: Any = None, threshold: float = 0.5) -> None:
        if not 0 < threshold < 1:
            raise ValueError(f"threshold is {threshold!r}; a number between 0 and 1 is wanted.")
        super().__init__(name, dtype, threshold=threshold)

    def _values(self, y_true: ArrayLike, y_pred: ArrayLike) -> NDArray[Any]:
        outputs = np.asarray(y_pred) > self._arguments["threshold"]
        return np.asarray(np.asarray(y_true).reshape(outputs.shape) == outputs)


class MeanSquaredError(Metric):
    """Mean of ``(y_true - y_pred) ** 2`` over samples and outputs."""


class CategoricalCrossentropy(Metric):
    """As the loss of that name."""

    def __init__(
        self,
        name: str | None = None,
        dtype: Any = None,
        from_logits: bool = False,
        label_smoothing: float = 0,
        axis: int = -1,
    ) -> None:
        super().__init__(name, dtype, from_logits=from_logits, label_smoothing=label_smoothing, axis=axis)


class SparseCategoricalCrossentropy(Metric):
    """As the loss of that name."""

    def __init__(
        self,
        name: str | None = None,
        dtype: Any = None,
        from_logits: bool = False,
        ignore_class: Any = None,
        axis: int = -1,
    ) -> None:
        super().__init__(name, dtype, from_logits=from_logits, ignore_class=ignore_class, axis=axis)


class BinaryCrossentropy(Metric):
    """As the loss of that name."""

    def __init__(
        self, name: str | None = None, dtype: Any = None, from_logits: bool = False, label_smoothing: float = 0
    ) -> None:
        super().__init__(name, dtype, from_logits=from_logits, label_smoothing=label_smoothing)


_CLASSES: dict[str, type[Metric]] = {
    c.__name__: c
    for c in (
        BinaryAccuracy, BinaryCrossentropy, CategoricalAccuracy, CategoricalCrossentropy, MeanSquaredError,
        SparseCategoricalAccuracy, SparseCategoricalCrossentropy,
    )
}  # fmt: skip
_CLASSES |= {snake_case(name): c for name, c in _CLASSES.items()}
_CLASSES |= {"mse": MeanSquaredError, "MSE": MeanSquaredError, "bce": BinaryCrossentropy, "BCE": BinaryCrossentropy}
_ELSEWHERE = (
    "Accuracy Mean Sum RootMeanSquaredError MeanAbsoluteError MeanAbsolutePercentageError MeanSquaredLogarithmicError "
    "CosineSimilarity LogCoshError R2Score AUC FalseNegatives FalsePositives Precision PrecisionAtRecall Recall "
    "RecallAtPrecision SensitivityAtSpecificity SpecificityAtSensitivity TrueNegatives TruePositives Hinge "
    "SquaredHinge CategoricalHinge KLDivergence Poisson TopKCategoricalAccuracy SparseTopKCategoricalAccuracy F1Score "
    "FBetaScore IoU BinaryIoU MeanIoU OneHotIoU OneHotMeanIoU mae mape msle kld crossentropy ce"
).split()
__getattr__ = stand_ins(__name__, _ELSEWHERE)


def described(identifier: Any) -> tuple[str, str, dict[str, Any]]:
    """Return name, class and config of what `get` takes; "accuracy" waits for the targets to tell which it is."""
    if identifier in ("accuracy", "acc"):
        return identifier, "accuracy", {}
    metric = get(identifier)
    name = identifier if isinstance(identifier, str) else metric.name
    return name, class_name(metric), metric.get_config()


def get(identifier: Any) -> Metric:
    """Return the metric of that name, config, class or function; metrics stay what they are.

    Raises
    ------
    NotImplementedError
        For Keras's other metrics, and for functions of your own.
    ValueError
        For unknown names.
    """
    name = getattr(identifier, "__name__", "")
    if name in _CLASSES and getattr(losses, name, None) is identifier:
        identifier = name
    found = resolve("metric", identifier, _CLASSES, _ELSEWHERE)
    if not isinstance(found, Metric) or isinstance(found, Mean):
        names = ", ".join(sorted({c.__name__ for c in _CLASSES.values()}))
        raise NotImplementedError(f"metric {found!r} is not supported; 'accuracy' and {names} are.")
    return found


deserialize = get
