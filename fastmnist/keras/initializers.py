"""Initial values of weights.

Random ones are drawn by NumPy's default generator: distributions are Keras's, the numbers are not, as they are not
between two of Keras's own backends either. Seeds that are not given come from Python's `random`, as in Keras, so
`utils.set_random_seed` fixes them.
"""

from __future__ import annotations

import math
import random
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastmnist.keras.naming import snake_case
from fastmnist.keras.serialization import resolve, stand_ins

__all__ = [
    "Constant",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "Initializer",
    "LecunNormal",
    "LecunUniform",
    "Ones",
    "RandomNormal",
    "RandomUniform",
    "TruncatedNormal",
    "VarianceScaling",
    "Zeros",
    "get",
]

Shape = tuple[int, ...]

# Standard deviation of a standard normal variable that is cut off at -2 and 2.
_TRUNCATED_DEVIATION = 0.87962566103423978


class Initializer:
    """What all initialisers share: called with a shape, described by a config."""

    keras_module = "keras.initializers"

    def __call__(self, shape: Shape, dtype: DTypeLike | None = None) -> NDArray[Any]:
        """Return an array of that shape, float32 unless a `dtype` is given."""
        return np.asarray(self._values(tuple(shape)), dtype or np.float32)

    def _values(self, shape: Shape) -> NDArray[Any]:
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Initializer:
        """Make one from its config."""
        return cls(**config)


class Constant(Initializer):
    """One value everywhere; default 0."""

    def __init__(self, value: float = 0.0) -> None:
        self.value = value

    def _values(self, shape: Shape) -> NDArray[Any]:
        return np.full(shape, self.value)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"value": self.value}


class Zeros(Initializer):
    """Zeros."""

    def _values(self, shape: Shape) -> NDArray[Any]:
        return np.zeros(shape)


class Ones(Initializer):
    """Ones."""

    def _values(self, shape: Shape) -> NDArray[Any]:
        return np.ones(shape)


class _Random(Initializer):
    """Values drawn from a seed: the same ones at each call, as in Keras."""

    def __init__(self, seed: int | None = None) -> None:
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int | np.integer)):
            raise NotImplementedError(f"{type(self).__name__} was given seed={seed!r}; an int or None is supported.")
        self.seed = random.randint(1, 10**9) if seed is None else int(seed)
        self._given_seed = None if seed is None else int(seed)

    @property
    def _generator(self) -> np.random.Generator:
        return np.random.default_rng(self.seed)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"seed": self._given_seed}


class RandomNormal(_Random):
    """Normal distribution; mean 0 and standard deviation 0.05 by default."""

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None) -> None:
        super().__init__(seed)
        self.mean, self.stddev = mean, stddev

    def _values(self, shape: Shape) -> NDArray[Any]:
        return self._generator.normal(self.mean, self.stddev, shape)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "mean": self.mean, "stddev": self.stddev}


class TruncatedNormal(RandomNormal):
    """Normal distribution without what is more than two standard deviations from the mean."""

    def _values(self, shape: Shape) -> NDArray[Any]:
        return self.mean + self.stddev * _truncated_normal(self._generator, shape)


class RandomUniform(_Random):
    """Uniform distribution; from -0.05 to 0.05 by default."""

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: int | None = None) -> None:
        super().__init__(seed)
        self.minval, self.maxval = minval, maxval

    def _values(self, shape: Shape) -> NDArray[Any]:
        return self._generator.uniform(self.minval, self.maxval, shape)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "minval": self.minval, "maxval": self.maxval}


class VarianceScaling(_Random):
    """Distribution whose variance is `scale` divided by the number of inputs, outputs, or their mean.

    Parameters
    ----------
    scale : float, default 1
    mode : {"fan_in", "fan_out", "fan_avg"}, default "fan_in"
    distribution : {"truncated_normal", "untruncated_normal", "uniform"}, default "truncated_normal"
        "normal" is another name for the first.
    seed : int, optional
    input_axes, output_axes : list of int, optional
        Not supported.
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: int | None = None,
        input_axes: Any = None,
        output_axes: Any = None,
    ) -> None:
        super().__init__(seed)
        if not scale > 0:
            raise ValueError(f"scale is {scale!r}; more than 0 is wanted.")
        _one_of("mode", mode, ("fan_in", "fan_out", "fan_avg"))
        _one_of("distribution", distribution, ("normal", "truncated_normal", "untruncated_normal", "uniform"))
        if input_axes is not None or output_axes is not None:
            raise NotImplementedError("input_axes and output_axes are not supported; leave them out.")
        self.scale = scale
        self.mode = mode
        self.distribution = "truncated_normal" if distribution == "normal" else distribution

    def _values(self, shape: Shape) -> NDArray[Any]:
        fan_in, fan_out = (shape[0], shape[-1]) if shape else (1, 1)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(1.0, fan)
        if self.distribution == "uniform":
            limit = math.sqrt(3 * variance)
            return self._generator.uniform(-limit, limit, shape)
        if self.distribution == "untruncated_normal":
            return self._generator.normal(0, math.sqrt(variance), shape)
        return math.sqrt(variance) / _TRUNCATED_DEVIATION * _truncated_normal(self._generator, shape)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "scale": self.scale,
            "mode": self.mode,
            "distribution": self.distribution,
            "input_axes": None,
            "output_axes": None,
        }


class _Named(VarianceScaling):
    """A `VarianceScaling` known by its author's name, of which only the seed is open."""

    constants: ClassVar[tuple[float, str, str]]

    def __init__(self, seed: int | None = None, input_axes: Any = None, output_axes: Any = None) -> None:
        super().__init__(*self.constants, seed, input_axes, output_axes)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"seed": self._given_seed, "input_axes": None, "output_axes": None}


class GlorotUniform(_Named):
    """Uniform, of variance ``2 / (fan_in + fan_out)`` (Glorot and Bengio, 2010)."""

    constants = 1.0, "fan_avg", "uniform"


class GlorotNormal(_Named):
    """Truncated normal, of variance ``2 / (fan_in + fan_out)`` (Glorot and Bengio, 2010)."""

    constants = 1.0, "fan_avg", "truncated_normal"


class HeUniform(_Named):
    """Uniform, of variance ``2 / fan_in`` (He et al., 2015)."""

    constants = 2.0, "fan_in", "uniform"


class HeNormal(_Named):
    """Truncated normal, of variance ``2 / fan_in`` (He et al., 2015)."""

    constants = 2.0, "fan_in", "truncated_normal"


class LecunUniform(_Named):
    """Uniform, of variance ``1 / fan_in`` (LeCun et al., 1998)."""

    constants = 1.0, "fan_in", "uniform"


class LecunNormal(_Named):
    """Truncated normal, of variance ``1 / fan_in`` (LeCun et al., 1998)."""

    constants = 1.0, "fan_in", "truncated_normal"


def _one_of(name: str, value: str, accepted: tuple[str, ...]) -> None:
    if value not in accepted:
        raise ValueError(f"{name} is {value!r}; accepted are {', '.join(map(repr, accepted))}.")


def _truncated_normal(generator: np.random.Generator, shape: Shape) -> NDArray[np.float64]:
    """Draw standard normal numbers; whatever lies beyond two deviations is drawn again."""
    values = generator.standard_normal(math.prod(shape))
    while (outside := np.flatnonzero(np.abs(values) > 2)).size:
        values[outside] = generator.standard_normal(outside.size)
    return values.reshape(shape)


_CLASSES = {
    c.__name__: c
    for c in (
        Constant, GlorotNormal, GlorotUniform, HeNormal, HeUniform, LecunNormal, LecunUniform, Ones, RandomNormal,
        RandomUniform, TruncatedNormal, VarianceScaling, Zeros,
    )
}  # fmt: skip
_CLASSES |= {snake_case(name): c for name, c in _CLASSES.items()}
_ELSEWHERE = "Identity IdentityInitializer Orthogonal OrthogonalInitializer STFT STFTInitializer".split()
__getattr__ = stand_ins(__name__, _ELSEWHERE)

constant, ones, zeros = Constant, Ones, Zeros
glorot_normal, glorot_uniform, he_normal, he_uniform = GlorotNormal, GlorotUniform, HeNormal, HeUniform
lecun_normal, lecun_uniform, variance_scaling = LecunNormal, LecunUniform, VarianceScaling
random_normal, random_uniform, truncated_normal = RandomNormal, RandomUniform, TruncatedNormal


def get(identifier: Any) -> Any:
    """Return the initialiser of that name or config.

    Functions of a shape and a dtype are taken as they are; an array stands for itself.
    """
    if isinstance(identifier, np.ndarray):
        values = identifier

        def given(shape: Shape, dtype: DTypeLike | None = None) -> NDArray[Any]:
            if tuple(shape) != values.shape:
                raise ValueError(f"the initial values have shape {values.shape}; {tuple(shape)} is wanted.")
            return values.astype(dtype or np.float32)

        return given
    found = resolve("initializer", identifier, _CLASSES, _ELSEWHERE)
    if found is None or callable(found):
        return found
    raise ValueError(f"Could not interpret initializer {identifier!r}; a name, a config or a function is wanted.")
