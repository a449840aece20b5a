"""What the interpretation of a loop holds and hands on."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmnist.accel.algebra import Algebra, Node, Shape
from fastmnist.accel.program import Path


@dataclass(eq=False, slots=True)
class Value:
    """What a name stands for while the iteration is interpreted.

    `now` is the value in this iteration. `node` is its expression, None where it is a plain object and the same in each
    iteration. `affine` (slope, start): an int, slope times the number of the iteration plus start. `schedule`: another
    number or truth that depends on that number alone, in each iteration, for conditions only. `items`: a tuple or list
    made in the loop; `entries`: a dictionary. A view has a `base` and remembers which `version` of it was seen.
    """

    now: Any
    node: Node | None = None
    affine: tuple[int, int] | None = None
    schedule: list[Any] | None = None
    items: list[Value] | None = None
    entries: dict[Any, Value] | None = None
    path: Path | None = None
    base: Value | None = None
    version: int = 0
    seen: int = 0

    @property
    def fixed(self) -> bool:
        """Whether this is a plain object, the same in each iteration."""
        depends = self.node is not None or self.affine is not None or self.schedule is not None
        return not depends and self.items is None and self.entries is None


@dataclass
class Draw:
    """One dropout mask: which stream it is drawn from, and how."""

    stream: Path | None  # None: NumPy's global legacy stream
    kind: str
    rate: float = 0.5


@dataclass
class Pick:
    """Rows drawn at random: from which stream, and the call that gives those of one iteration."""

    stream: Path | None  # None: NumPy's global legacy stream
    method: str
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]


@dataclass
class Trace:
    """What one iteration does: reads it relies on, and everything it leaves behind.

    `unusual` are iterations that take another branch somewhere, such as each hundredth with its print; `set_before` is
    what the iteration has set by then, for each of these branches. `appended` is what lists get that outlive it,
    `looks` how often each of them is looked at otherwise, by its id; for a dictionary, how often its keys matter.
    """

    algebra: Algebra
    unusual: NDArray[np.bool_]
    reads: dict[Path, Any] = field(default_factory=dict)
    bindings: dict[Path, Value] = field(default_factory=dict)
    arrays: dict[int, Value] = field(default_factory=dict)
    draws: list[Draw] = field(default_factory=list)
    draw_of: dict[Node, int] = field(default_factory=dict)
    picks: list[Pick] = field(default_factory=list)
    lines: dict[Path, int] = field(default_factory=dict)
    set_before: list[set[Path]] = field(default_factory=list)
    appended: list[tuple[Path, Value]] = field(default_factory=list)
    looks: Counter[int] = field(default_factory=Counter)

    @property
    def is_random(self) -> bool:
        """Whether it draws random numbers."""
        return bool(self.draws or self.picks)


def logical(value: Any) -> Shape:
    """Return the shape of a value as a matrix; of images, each as one row."""
    shape = np.shape(value)
    if len(shape) > 1:
        return shape[0], math.prod(shape[1:])
    return (1, shape[0]) if shape else (1, 1)
