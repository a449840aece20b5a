"""Users' arrays, lists and frames, checked and brought to the shapes that training takes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmnist.keras.plan import Plan

__all__ = ["as_array", "as_samples", "class_weights", "flatten", "sample_weights", "scaled", "split", "unpack"]


def as_array(name: str, data: Any) -> NDArray[Any]:
    """Return numbers as an array.

    Raises
    ------
    NotImplementedError
        For generators, data sets and other things that are no array.
    TypeError
        For arrays of anything but real numbers.
    """
    if isinstance(data, Iterator | Mapping) or (not hasattr(data, "__array__") and not isinstance(data, list | tuple)):
        raise NotImplementedError(
            f"{name} is a {type(data).__name__}; arrays, lists and data frames are supported, data sets and generators "
            "are not."
        )
    array = np.asarray(data)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} has dtype {array.dtype}; real numbers are wanted. Try numpy.asarray(..., 'float32').")
    if array.ndim == 0:
        raise ValueError(f"{name} is the number {array}; an array with a row for each sample is wanted.")
    return array


def as_samples(name: str, data: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return samples of that shape, (N, *shape); a last dimension of 1 may be missing or too many, as in Keras.

    Raises
    ------
    ValueError
        If samples have another shape, or there are none.
    """
    x = as_array(name, data)
    if x.ndim == len(shape) and shape[-1:] == (1,):
        x = x[..., None]
    if x.ndim == len(shape) + 2 and x.shape[-1] == 1:
        x = x[..., 0]
    if x.shape[1:] != shape:
        wanted = f"(N, {', '.join(map(str, shape))})"
        fits = math.prod(x.shape[1:]) == math.prod(shape)
        hint = f" Try {name}.reshape(-1, {', '.join(map(str, shape))})." if fits else ""
        raise ValueError(f"{name} has shape {x.shape}; this model takes {wanted}.{hint}")
    if not len(x):
        raise ValueError(f"{name} has shape {x.shape}: there are no samples.")
    return x


def scaled(x: NDArray[Any], plan: Plan) -> NDArray[Any]:
    """Return inputs as the engine packs them: floats, or uint8 where it is to read them as value / 255."""
    if x.dtype == np.uint8 and plan.scale == 1 / 255 and plan.offset == 0:
        return x
    if x.dtype not in (np.float32, np.float64):
        x = x.astype(plan.dtype)
    if (plan.scale, plan.offset) == (1, 0):
        return x
    number = np.dtype(plan.dtype).type
    return np.asarray(x.astype(plan.dtype) * number(plan.scale) + number(plan.offset))


def sample_weights(weights: ArrayLike | None, n: int, dtype: str) -> NDArray[Any] | None:
    """Return a weight for each of `n` samples, or None.

    Raises
    ------
    ValueError
        If there are not as many, or one is not finite.
    """
    if weights is None:
        return None
    array = as_array("sample_weight", weights).astype(dtype)
    if array.shape not in ((n,), (n, 1)):
        raise ValueError(
            f"sample_weight has shape {array.shape}; one number for each of {n} samples, ({n},), is wanted."
        )
    if not np.isfinite(array).all():
        raise ValueError("sample_weight holds NaN or infinity; finite numbers are wanted.")
    return array.reshape(n)


def class_weights(y: NDArray[Any], weights: Mapping[Any, float]) -> NDArray[np.float32]:
    """Return the weight of each sample's class, 1 for classes that have none.

    Parameters
    ----------
    y : ndarray, shape (N,), (N, 1) or (N, O)
        Class numbers or one-hot rows.
    weights : dict
        Class numbers to weights.
    """
    classes = y.argmax(axis=1) if y.ndim > 1 and y.shape[1] > 1 else np.round(y.reshape(len(y))).astype(np.int64)
    out = np.ones(len(y), np.float32)
    for number, weight in weights.items():
        out[classes == int(number)] = weight
    return out


def split(share: float, *arrays: NDArray[Any] | None) -> tuple[list[Any], list[Any]]:
    """Return the first rows of each array, and the last `share` of them.

    Raises
    ------
    ValueError
        If one of the parts would be empty.
    """
    n = next(len(a) for a in arrays if a is not None)
    at = math.floor(n * (1 - share))
    if not 0 < at < n:
        raise ValueError(
            f"validation_split={share} of {n} samples leaves nothing for training or nothing for validation; another "
            "share, or more samples, is wanted."
        )
    return [None if a is None else a[:at] for a in arrays], [None if a is None else a[at:] for a in arrays]


def unpack(data: Any) -> tuple[Any, Any, Any]:
    """Return samples, targets and sample weights of ``(x, y)`` or ``(x, y, sample_weight)``."""
    if not isinstance(data, tuple | list) or len(data) not in (2, 3):
        raise ValueError(f"validation_data is a {type(data).__name__}; (x, y) or (x, y, sample_weight) is wanted.")
    return data[0], data[1], data[2] if len(data) == 3 else None


def flatten(things: Any) -> Iterator[Any]:
    """Yield things one by one, out of lists in lists; None is no thing."""
    if isinstance(things, list | tuple):
        for thing in things:
            yield from flatten(thing)
    elif things is not None:
        yield things
