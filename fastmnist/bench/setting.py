"""What is measured on, and how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastmnist.bench.rows import Dataset


class CannotMeasure(Exception):
    """Something that a section needs is not there."""


@dataclass(frozen=True)
class Recipe:
    """Training with Adam, dropout and shuffled batches, from He's weights; `rates` (epochs, steps) has one a step."""

    sizes: tuple[int, ...]
    batch_size: int
    dropout: float
    rates: NDArray[np.float64]


class Course(NamedTuple):
    """A training by a recipe: `train` takes the rates of an epoch's steps, `accuracy` is that on the test images."""

    train: Callable[[NDArray[np.float64]], None]
    accuracy: Callable[[], float]


class Setting(NamedTuple):
    """What the command was told, and the data. `say` is told what is being done.

    A quick run takes few images and little time for everything.
    """

    dataset: Dataset
    source: str
    recipe: Recipe
    threads: int
    repetitions: int
    quick: bool
    say: Callable[[str], None]
