"""Keras's optimisers, as far as the engine has them: SGD, Adam, AdamW and RMSprop, with schedules.

An optimiser holds its constants and its state; the engine makes the updates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmnist import spec
from fastmnist.keras.naming import auto_name
from fastmnist.keras.optimizers import schedules
from fastmnist.keras.optimizers.schedules import LearningRateSchedule
from fastmnist.keras.plan import plan_optimizer, plan_rate
from fastmnist.keras.serialization import class_name, resolve, serialize, stand_ins
from fastmnist.keras.variables import Variable

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "RMSprop", "deserialize", "get", "schedules", "serialize"]

Rate: TypeAlias = float | LearningRateSchedule | Mapping[str, Any]


class Optimizer:
    """What all optimisers share.

    Parameters
    ----------
    learning_rate : float or LearningRateSchedule
    weight_decay : float, optional
        Share of every parameter that is taken off before each step, times the learning rate.
    clipnorm, clipvalue, global_clipnorm : float, optional
        Limit of the norm of each weight's gradient, of each number in it, or of the norm of all gradients together.
        At most one of them.
    use_ema, ema_momentum, ema_overwrite_frequency, loss_scale_factor, gradient_accumulation_steps
        Not supported.
    name : str, optional
    constants : dict, optional
        Of the subclass.

    Attributes
    ----------
    iterations : Variable
        Updates made so far.
    built : bool
        Whether the state exists.
    """

    keras_module = "keras.optimizers"

    def __init__(
        self,
        learning_rate: Rate,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: Any = None,
        loss_scale_factor: Any = None,
        gradient_accumulation_steps: Any = None,
        name: str | None = None,
        *,
        constants: Mapping[str, Any] | None = None,
        **unknown: Any,
    ) -> None:
        if unknown:
            raise ValueError(f"{type(self).__name__} does not know the arguments {', '.join(unknown)}.")
        self._constants = {
            "weight_decay": weight_decay,
            "clipnorm": clipnorm,
            "global_clipnorm": global_clipnorm,
            "clipvalue": clipvalue,
            "use_ema": use_ema,
            "ema_momentum": ema_momentum,
            "ema_overwrite_frequency": ema_overwrite_frequency,
            "loss_scale_factor": loss_scale_factor,
            "gradient_accumulation_steps": gradient_accumulation_steps,
            **(constants or {}),
        }
        clips = [clip for clip in (clipnorm, clipvalue, global_clipnorm) if clip is not None]
        if len(clips) > 1:
            raise ValueError(
                f"clipnorm is {clipnorm}, clipvalue {clipvalue} and global_clipnorm {global_clipnorm}; one is accepted."
            )
        self.name = auto_name(type(self).__name__) if name is None else name
        self.iterations = Variable(0, "iteration", f"{self.name}/iteration", np.int64, trainable=False)
        self.built = False
        self._rate: Variable | LearningRateSchedule
        self._set_rate(learning_rate)
        self._slots: list[tuple[Variable, ...]] = []
        self.plan()

    def _set_rate(self, learning_rate: Rate) -> None:
        if isinstance(learning_rate, Mapping):
            learning_rate = schedules.deserialize(learning_rate)
        if isinstance(learning_rate, LearningRateSchedule):
            if type(learning_rate).__module__ == schedules.__name__:
                plan_rate(serialize(learning_rate))
            self._rate = learning_rate
            return
        if callable(learning_rate):
            raise NotImplementedError(
                f"learning_rate is {learning_rate!r}; a float or a LearningRateSchedule is supported."
            )
        if isinstance(learning_rate, bool) or not isinstance(learning_rate, int | float | np.number | Variable):
            raise ValueError(f"learning_rate is {learning_rate!r}; a float or a LearningRateSchedule is wanted.")
        self._rate = Variable(float(learning_rate), "learning_rate", f"{self.name}/learning_rate", trainable=False)

    @property
    def learning_rate(self) -> Any:
        """The learning rate of the next step; assign a number, or a schedule, to change it."""
        return self._rate if isinstance(self._rate, Variable) else self._rate(int(self.iterations))

    @learning_rate.setter
    def learning_rate(self, learning_rate: Rate | ArrayLike) -> None:
        if isinstance(self._rate, LearningRateSchedule) and not isinstance(learning_rate, LearningRateSchedule):
            raise TypeError(
                f"{type(self).__name__} has the schedule {type(self._rate).__name__}, so its learning_rate cannot be "
                "set to a number; make the optimizer with a float instead."
            )
        if isinstance(self._rate, Variable) and not isinstance(learning_rate, LearningRateSchedule):
            self._rate.assign(np.asarray(learning_rate))
        else:
            self._set_rate(learning_rate)  # type: ignore[arg-type]

    def rates(self, first: int, count: int) -> NDArray[np.float64]:
        """Return the learning rates of `count` steps after the first `first` ones."""
        if isinstance(self._rate, Variable):
            return np.full(count, float(self._rate))
        steps = np.arange(first, first + count)
        if type(self._rate).__module__ == schedules.__name__:
            return np.asarray(self._rate(steps), np.float64)
        return np.array([float(self._rate(int(step))) for step in steps])

    @property
    def slot_names(self) -> tuple[str, ...]:
        """Names of the arrays that are kept for each weight, Keras's."""
        return ()

    def build(self, variables: Sequence[Variable]) -> None:
        """Make the state for these weights, all zeros, unless there is one already."""
        if self.built:
            return
        self._slots = [
            tuple(
                Variable(
                    np.zeros(weight.shape), f"{weight.path.replace('/', '_')}_{slot}",
                    f"{self.name}/{weight.path.replace('/', '_')}_{slot}", weight.dtype, trainable=False,
                )
                for slot in self.slot_names
            )
            for weight in variables
        ]  # fmt: skip
        self.built = True

    @property
    def variables(self) -> list[Variable]:
        """The state, in Keras's order: iterations, learning rate, then the slots of each weight."""
        rate = [self._rate] if isinstance(self._rate, Variable) else []
        return [self.iterations, *rate, *(slot for slots in self._slots for slot in slots)]

    def set_weights(self, weights: Sequence[ArrayLike]) -> None:
        """Replace the state, in the order of `variables`."""
        if not self.built or len(weights) != len(self.variables):
            raise ValueError(
                f"{type(self).__name__} has {len(self.variables)} variables, built: {self.built}; {len(weights)} "
                "values were given."
            )
        for variable, value in zip(self.variables, weights, strict=True):
            variable.assign(value)

    def get_slots(self) -> dict[int, list[NDArray[Any]]]:
        """Return the state as the engine numbers it: 1 for momentum, 2 for velocity; an array for each weight."""
        return {_SLOTS[name]: [slots[k].value for slots in self._slots] for k, name in enumerate(self.slot_names)}

    def plan(self) -> spec.Optimizer:
        """Return the constants as the engine takes them."""
        return plan_optimizer(class_name(self), self.get_config())

    def exclude_from_weight_decay(self, var_list: Any = None, var_names: Any = None) -> None:
        """Not supported."""
        raise NotImplementedError("exclude_from_weight_decay is not supported: weight_decay applies to all weights.")

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        rate = float(self._rate) if isinstance(self._rate, Variable) else serialize(self._rate)
        return {"name": self.name, "learning_rate": rate, **self._constants}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Optimizer:
        """Make one, with a new state, from its config."""
        return cls(**config)

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse new constants."""
        if name in self.__dict__.get("_constants", ()):
            raise NotImplementedError(
                f"changing {name} of {self.name!r} is not supported; compile with a new {type(self).__name__} instead."
            )
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        """Give the constants as attributes: ``optimizer.momentum``."""
        try:
            return self.__dict__["_constants"][name]
        except KeyError:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}") from None


# What the engine calls the slots.
_SLOTS = {"momentum": 1, "velocity": 2}


class SGD(Optimizer):
    """Gradient descent: ``m = momentum * m - rate * g; w += m``; with `nesterov`, ``w += momentum * m - rate * g``.

    Other arguments are those of `Optimizer`.
    """

    def __init__(
        self, learning_rate: Rate = 0.01, momentum: float = 0.0, nesterov: bool = False, *args: Any, **options: Any
    ) -> None:
        if not isinstance(momentum, float | int) or not 0 <= momentum <= 1:
            raise ValueError(f"momentum is {momentum!r}; a number in [0, 1] is wanted.")
        super().__init__(learning_rate, *args, **options, constants={"momentum": momentum, "nesterov": nesterov})

    @property
    def slot_names(self) -> tuple[str, ...]:
        """Momentum, if there is any."""
        return ("momentum",) if self.momentum else ()


class Adam(Optimizer):
    """Adam (Kingma and Ba, 2014): ``w -= rate * sqrt(1 - beta_2**t) / (1 - beta_1**t) * m / (sqrt(v) + epsilon)``.

    `amsgrad` is not supported; other arguments are those of `Optimizer`.
    """

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        *args: Any,
        **options: Any,
    ) -> None:
        constants = {"beta_1": beta_1, "beta_2": beta_2, "epsilon": epsilon, "amsgrad": amsgrad}
        super().__init__(learning_rate, *args, **options, constants=constants)

    @property
    def slot_names(self) -> tuple[str, ...]:
        """Mean of the gradients and of their squares."""
        return ("momentum", "velocity")


class AdamW(Adam):
    """Adam with a `weight_decay`, 0.004 by default."""

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        *args: Any,
        **options: Any,
    ) -> None:
        if weight_decay is None:
            raise ValueError("weight_decay is None; AdamW takes a float, and Adam does without.")
        super().__init__(learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay, *args, **options)


class RMSprop(Optimizer):
    """RMSprop (Tieleman and Hinton, 2012): ``v = rho * v + (1 - rho) * g**2; w -= rate * g / sqrt(v + epsilon)``.

    `momentum` and `centered` are not supported; other arguments are those of `Optimizer`.
    """

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        *args: Any,
        **options: Any,
    ) -> None:
        constants = {"rho": rho, "momentum": momentum, "epsilon": epsilon, "centered": centered}
        super().__init__(learning_rate, *args, **options, constants=constants)

    @property
    def slot_names(self) -> tuple[str, ...]:
        """Mean of the squared gradients."""
        return ("velocity",)


_CLASSES = {c.__name__: c for c in (SGD, Adam, AdamW, RMSprop)}
_CLASSES |= {name.lower(): c for name, c in _CLASSES.items()}
_ELSEWHERE = "Adadelta Adagrad Adafactor Adamax Ftrl Lamb Lion LossScaleOptimizer Muon Nadam ScheduleFreeAdamW".split()
__getattr__ = stand_ins(__name__, _ELSEWHERE)


def get(identifier: Any) -> Optimizer:
    """Return the optimiser of that name, config or class; optimisers stay what they are.

    Raises
    ------
    NotImplementedError
        For Keras's other optimisers.
    ValueError
        For unknown names.
    """
    if isinstance(identifier, str):
        identifier = {"class_name": identifier.lower(), "config": {}}
    found = resolve("optimizer", identifier, _CLASSES, _ELSEWHERE)
    if not isinstance(found, Optimizer):
        raise ValueError(f"Could not interpret optimizer {found!r}; a name or an optimizer is wanted.")
    return found


deserialize = get
