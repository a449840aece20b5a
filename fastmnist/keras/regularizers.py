"""Penalties on weights: L1, L2 and both."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastmnist.keras.serialization import resolve, stand_ins

__all__ = ["L1", "L1L2", "L2", "Regularizer", "get", "l1", "l1_l2", "l2"]


class Regularizer:
    """Penalty ``l1 * sum(|w|) + l2 * sum(w ** 2)``, added to the loss."""

    keras_module = "keras.regularizers"

    def __init__(self, l1: float, l2: float) -> None:
        for name, value in (("l1", l1), ("l2", l2)):
            if not isinstance(value, int | float) or not (0 <= value < math.inf):
                raise ValueError(f"{name} is {value!r}; a finite number, 0 or more, is wanted.")
        self.l1, self.l2 = float(l1), float(l2)

    def __call__(self, x: ArrayLike) -> float:
        """Return the penalty of `x`."""
        x = np.asarray(x)
        return self.l1 * float(np.abs(x).sum()) + self.l2 * float(np.square(x).sum())

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"l1": self.l1, "l2": self.l2}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Regularizer:
        """Make one from its config."""
        return cls(**config)


class L1(Regularizer):
    """Penalty ``l1 * sum(|w|)``; default 0.01."""

    def __init__(self, l1: float = 0.01) -> None:
        super().__init__(l1, 0.0)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"l1": self.l1}


class L2(Regularizer):
    """Penalty ``l2 * sum(w ** 2)``; default 0.01."""

    def __init__(self, l2: float = 0.01) -> None:
        super().__init__(0.0, l2)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"l2": self.l2}


class L1L2(Regularizer):
    """Both penalties; both 0 by default."""

    def __init__(self, l1: float = 0.0, l2: float = 0.0) -> None:
        super().__init__(l1, l2)


_ELSEWHERE = ["OrthogonalRegularizer", "orthogonal_regularizer"]
__getattr__ = stand_ins(__name__, _ELSEWHERE)

l1, l2, l1_l2 = L1, L2, L1L2
_CLASSES = {"L1": L1, "L2": L2, "L1L2": L1L2, "l1": L1, "l2": L2, "l1l2": L1L2, "l1_l2": L1L2}


def get(identifier: Any) -> Regularizer | None:
    """Return the regulariser of that name, config or class; None and objects stay what they are."""
    found = resolve("regularizer", identifier, _CLASSES, _ELSEWHERE)
    if found is not None and not isinstance(found, Regularizer):
        raise NotImplementedError(f"regularizer {found!r} is not supported; L1, L2 and L1L2 are.")
    return found
