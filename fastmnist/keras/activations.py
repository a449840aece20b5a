"""Keras's activations, on NumPy arrays: those that the engine trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmnist.keras.serialization import stand_ins

__all__ = ["get", "linear", "relu", "serialize", "sigmoid", "softmax", "tanh"]

Activation = Callable[[ArrayLike], NDArray[Any]]

_ELSEWHERE = (
    "celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh leaky_relu log_sigmoid "
    "log_softmax mish relu6 selu silu soft_shrink softplus softsign sparse_plus sparse_sigmoid sparsemax squareplus "
    "swish tanh_shrink threshold"
).split()
__getattr__ = stand_ins(__name__, _ELSEWHERE)


def linear(x: ArrayLike) -> NDArray[Any]:
    """Return `x`."""
    return np.asarray(x)


def relu(x: ArrayLike) -> NDArray[Any]:
    """Return ``max(x, 0)``."""
    return np.maximum(x, 0)


def sigmoid(x: ArrayLike) -> NDArray[Any]:
    """Return ``1 / (1 + exp(-x))``, without overflow."""
    x = np.asarray(x)
    small = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1, small) / (1 + small), x.dtype)


def tanh(x: ArrayLike) -> NDArray[Any]:
    """Return the hyperbolic tangent."""
    return np.tanh(x)


def softmax(x: ArrayLike, axis: int = -1) -> NDArray[Any]:
    """Return ``exp(x) / sum(exp(x))`` along `axis`."""
    x = np.asarray(x)
    powers = np.exp(x - x.max(axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis, keepdims=True))


_BY_NAME: dict[str, Activation] = {f.__name__: f for f in (linear, relu, sigmoid, softmax, tanh)}


def get(identifier: str | Activation | None) -> Activation:
    """Return the activation of that name; None is linear.

    Raises
    ------
    NotImplementedError
        For Keras's other activations, and for functions that are not of this module.
    ValueError
        For unknown names.
    """
    if identifier is None:
        return linear
    if callable(identifier):
        if identifier not in _BY_NAME.values():
            raise NotImplementedError(
                f"activation {identifier!r} is not supported; functions of fastmnist.keras.activations are."
            )
        return identifier
    if identifier in _BY_NAME:
        return _BY_NAME[identifier]
    message = f"activation {identifier!r}: there are {', '.join(_BY_NAME)}."
    raise NotImplementedError(f"No {message}") if identifier in _ELSEWHERE else ValueError(f"Unknown {message}")


def serialize(activation: Activation) -> str:
    """Return the activation's name."""
    return activation.__name__
