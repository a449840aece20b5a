"""Learning rates as functions of the step number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastmnist.keras.plan import plan_rate
from fastmnist.keras.serialization import resolve, serialize, stand_ins

__all__ = [
    "CosineDecay",
    "ExponentialDecay",
    "InverseTimeDecay",
    "LearningRateSchedule",
    "PiecewiseConstantDecay",
    "PolynomialDecay",
    "deserialize",
    "serialize",
]


_ELSEWHERE = ["CosineDecayRestarts"]
__getattr__ = stand_ins(__name__, _ELSEWHERE)


class LearningRateSchedule:
    """Base of all schedules. A subclass of your own defines ``__call__(step)``; it is called for every step."""

    keras_module = "keras.optimizers.schedules"

    def __call__(self, step: Any) -> Any:
        """Return the learning rate after `step` updates, a number or an array; rates have the shape of `step`."""
        rates = plan_rate({"class_name": type(self).__name__, "config": self.get_config()})(np.asarray(step, np.int64))
        return rates[()]

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        raise NotImplementedError(f"{type(self).__name__} must define get_config.")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> LearningRateSchedule:
        """Make one from its config."""
        return cls(**config)


class _OfKeras(LearningRateSchedule):
    """A schedule whose attributes are the constructor's arguments."""

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return dict(vars(self))


class ExponentialDecay(_OfKeras):
    """``initial_learning_rate * decay_rate ** (step / decay_steps)``; with `staircase` the quotient is rounded down."""

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        decay_rate: float,
        staircase: bool = False,
        name: str = "ExponentialDecay",
    ) -> None:
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = _positive(decay_steps)
        self.decay_rate = decay_rate
        self.staircase = staircase
        self.name = name


class InverseTimeDecay(_OfKeras):
    """``initial_learning_rate / (1 + decay_rate * step / decay_steps)``; `staircase` rounds the quotient down."""

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        decay_rate: float,
        staircase: bool = False,
        name: str = "InverseTimeDecay",
    ) -> None:
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = _positive(decay_steps)
        self.decay_rate = decay_rate
        self.staircase = staircase
        self.name = name


class PolynomialDecay(_OfKeras):
    """From one rate to another as ``(1 - step / decay_steps) ** power``; with `cycle` again and again."""

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        end_learning_rate: float = 0.0001,
        power: float = 1.0,
        cycle: bool = False,
        name: str = "PolynomialDecay",
    ) -> None:
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = _positive(decay_steps)
        self.end_learning_rate = end_learning_rate
        self.power = power
        self.cycle = cycle
        self.name = name


class CosineDecay(_OfKeras):
    """Half a cosine from the rate to `alpha` times the rate; before it, a straight line up to `warmup_target`."""

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        alpha: float = 0.0,
        name: str = "CosineDecay",
        warmup_target: float | None = None,
        warmup_steps: int = 0,
    ) -> None:
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = _positive(decay_steps)
        self.alpha = alpha
        self.name = name
        self.warmup_target = warmup_target
        self.warmup_steps = warmup_steps


class PiecewiseConstantDecay(_OfKeras):
    """The first of `values` up to and including step ``boundaries[0]``, and so on."""

    def __init__(self, boundaries: Sequence[int], values: Sequence[float], name: str = "PiecewiseConstant") -> None:
        if len(boundaries) != len(values) - 1:
            raise ValueError(
                f"there are {len(boundaries)} boundaries and {len(values)} values; one value more than boundaries is "
                "wanted."
            )
        self.boundaries = list(boundaries)
        self.values = list(values)
        self.name = name


def deserialize(config: Mapping[str, Any]) -> LearningRateSchedule:
    """Make a schedule from a dictionary made by `serialize`."""
    made = resolve("learning rate schedule", config, _CLASSES, _ELSEWHERE)
    if not isinstance(made, LearningRateSchedule):
        raise TypeError(f"{config!r} does not describe a learning rate schedule.")
    return made


def _positive(decay_steps: ArrayLike) -> Any:
    if not np.asarray(decay_steps) > 0:
        raise ValueError(f"decay_steps is {decay_steps!r}; more than 0 is wanted.")
    return decay_steps


_CLASSES = {
    c.__name__: c for c in (CosineDecay, ExponentialDecay, InverseTimeDecay, PiecewiseConstantDecay, PolynomialDecay)
}
