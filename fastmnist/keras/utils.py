"""Keras's utilities that training scripts use."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmnist import data
from fastmnist.keras import naming
from fastmnist.keras.serialization import stand_ins

__all__ = ["clear_session", "get_random_seed", "normalize", "set_random_seed", "to_categorical"]

_ELSEWHERE = (
    "CustomObjectScope PyDataset Sequence array_to_img custom_object_scope get_file image_dataset_from_directory "
    "img_to_array load_img model_to_dot pad_sequences plot_model register_keras_serializable save_img split_dataset"
)
__getattr__ = stand_ins(__name__, _ELSEWHERE.split())

_seed: int | None = None


def to_categorical(x: ArrayLike, num_classes: int | None = None) -> NDArray[np.float64]:
    """Return one-hot rows, float64, of class numbers; a last dimension of 1 is dropped first.

    Parameters
    ----------
    x : array_like of integers
    num_classes : int, optional
        Default: the largest number and one.
    """
    classes = np.asarray(x)
    if classes.ndim > 1 and classes.shape[-1] == 1:
        classes = classes[..., 0]
    return data.to_categorical(classes.astype(np.int64), num_classes)


def normalize(x: ArrayLike, axis: int = -1, order: int = 2) -> NDArray[Any]:
    """Return `x` divided by its norms along `axis`; zeros stay zeros."""
    x = np.asarray(x)
    norms = np.atleast_1d(np.linalg.norm(x, order, axis))
    norms[norms == 0] = 1
    return np.asarray(x / np.expand_dims(norms, axis))


def set_random_seed(seed: int) -> None:
    """Seed Python's `random` and NumPy's global stream: initial weights, the order of samples, dropout."""
    global _seed
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise ValueError(f"seed is {seed!r}; an int is wanted.")
    _seed = seed
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the stream that Keras shuffles with


def get_random_seed() -> int | None:
    """Return what `set_random_seed` was last given, None if nothing."""
    return _seed


def clear_session(free_memory: bool = True) -> None:
    """Start numbering the names of layers and models anew; nothing is kept that would have to be freed."""
    naming.clear()
