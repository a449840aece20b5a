"""What a trainer is given: a model to reach through a few methods, and the words of ``compile``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastmnist import spec

__all__ = ["Host", "Metric", "Task", "Weights"]

Weights = list[NDArray[Any]]


class Host(Protocol):
    """A model, as the trainer sees it. Weights are lists in Keras's order: kernel (I, O) and bias (O,) by layer.

    Attributes
    ----------
    model
        What callbacks are given; its `stop_training` ends a fit.
    """

    model: Any

    def read(self) -> Weights:
        """Return the weights; the arrays are not changed."""

    def write(self, weights: Weights) -> None:
        """Replace the weights."""

    def read_optimizer(self) -> tuple[int, Mapping[int, Weights]]:
        """Return the number of updates made, and the optimiser's slots as the engine numbers them."""

    def write_optimizer(self, steps: int, slots: Mapping[int, Weights]) -> None:
        """Replace them."""

    def rates(self, first: int, count: int) -> NDArray[np.float64]:
        """Return the learning rates of `count` updates after the first `first` ones."""


@dataclass(frozen=True)
class Metric:
    """A metric to be reported.

    Attributes
    ----------
    name : str
        As the logs show it.
    class_name : str
        Keras's class, or "accuracy", which is one of three by the shape of the targets.
    config : dict
        As `get_config` returns it.
    weighted : bool
        Whether sample weights count.
    """

    name: str
    class_name: str
    config: Mapping[str, Any]
    weighted: bool = False


@dataclass(frozen=True)
class Task:
    """What a model is trained for: the words of `compile`.

    Attributes
    ----------
    loss, loss_config : str and dict
        Class name and config.
    metrics : tuple of Metric
    optimizer : spec.Optimizer
    seed : int
        Seeds dropout.
    """

    loss: str
    loss_config: Mapping[str, Any]
    metrics: tuple[Metric, ...]
    optimizer: spec.Optimizer
    seed: int
