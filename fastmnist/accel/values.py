"""What the interpretation of a loop holds and hands on."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastmnist.accel.algebra import Algebra, Node, Shape
from fastmnist.accel.program import Path


@dataclass(eq=False, slots=True)
class Value:
    """What a name stands for while the iteration is interpreted.

    `now` is the value in this iteration. `node` is its expression, None where it is a plain object and the same in each
    iteration. `affine` (slope, start): an int, slope times the number of the iteration plus start. `items`: a tuple or
    list made in the loop; `entries`: a dictionary. A view has a `base` and remembers which `version` of it was seen.
    """

    now: Any
    node: Node | None = None
    affine: tuple[int, int] | None = None
    items: list[Value] | None = None
    entries: dict[Any, Value] | None = None
    path: Path | None = None
    base: Value | None = None
    version: int = 0
    seen: int = 0

    @property
    def fixed(self) -> bool:
        """Whether this is a plain object, the same in each iteration."""
        return self.node is None and self.affine is None and self.items is None and self.entries is None


@dataclass
class Draw:
    """One dropout mask: which stream it is drawn from, and how."""

    stream: Path | None  # None: NumPy's global legacy stream
    kind: str
    rate: float = 0.5


@dataclass
class Trace:
    """What one iteration does: reads it relies on, and everything it leaves behind."""

    algebra: Algebra
    reads: dict[Path, Any] = field(default_factory=dict)
    bindings: dict[Path, Value] = field(default_factory=dict)
    arrays: dict[int, Value] = field(default_factory=dict)
    draws: list[Draw] = field(default_factory=list)
    draw_of: dict[Node, int] = field(default_factory=dict)
    lines: dict[Path, int] = field(default_factory=dict)


def logical(value: Any) -> Shape:
    """Return the shape of a value as a matrix; of images, each as one row."""
    shape = np.shape(value)
    if len(shape) > 1:
        return shape[0], math.prod(shape[1:])
    return (1, shape[0]) if shape else (1, 1)
