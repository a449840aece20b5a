"""A named array that Keras's attributes and arithmetic work on: weights, optimiser slots, learning rates."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray


class Variable(np.lib.mixins.NDArrayOperatorsMixin):
    """An array with a name.

    Parameters
    ----------
    value : array_like
        Copied, and converted to `dtype`.
    name, path : str
        As Keras has them: ``kernel`` and ``sequential/dense/kernel``.
    dtype : dtype, default float32
    trainable : bool, default True
    """

    def __init__(
        self, value: ArrayLike, name: str, path: str = "", dtype: DTypeLike = np.float32, trainable: bool = True
    ) -> None:
        self.value: NDArray[Any] = np.array(value, dtype)
        self.name = name
        self.path = path or name
        self.trainable = trainable

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.value.shape

    @property
    def dtype(self) -> str:
        """Name of the array's type."""
        return self.value.dtype.name

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return self.value.ndim

    def numpy(self) -> NDArray[Any]:
        """Return a copy of the array."""
        return self.value.copy()

    def assign(self, value: ArrayLike) -> None:
        """Replace the values; the shape must be the same.

        Raises
        ------
        ValueError
            If the shapes differ.
        """
        new = np.asarray(value, self.value.dtype)
        if new.shape != self.shape:
            raise ValueError(f"variable {self.path} has shape {self.shape}; a value of shape {new.shape} was given.")
        self.value[...] = new

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Let NumPy read it."""
        return np.array(self.value, dtype, copy=copy)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        """Compute with the array in its place."""
        plain = [x.value if isinstance(x, Variable) else x for x in inputs]
        return getattr(ufunc, method)(*plain, **options)

    def __float__(self) -> float:
        """Return the value of a scalar."""
        return float(self.value)

    def __int__(self) -> int:
        """Return the value of a scalar."""
        return int(self.value)

    def __format__(self, form: str) -> str:
        """Format a scalar as the number it is."""
        return format(self.value[()], form)

    def __len__(self) -> int:
        """Return the length of the first dimension."""
        return len(self.value)

    def __getitem__(self, index: Any) -> Any:
        """Return a part of the array."""
        return self.value[index]

    def __repr__(self) -> str:
        """Return path, shape, type and values."""
        return f"<Variable path={self.path}, shape={self.shape}, dtype={self.dtype}, value={self.value}>"
