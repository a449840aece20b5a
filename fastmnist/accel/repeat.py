"""A loop that makes the same update again and again, such as one over the rows of a batch with the update inside.

Where the step D of an array does not depend on anything the loop changes, n iterations add n D. Where it is affine in
arrays of that kind, as the lower layer's step is in the upper weights, their mean on the way will do: n iterations add
n D(mean), and the mean of M, M + D, ..., is M + (n - 1) / 2 D. Nothing needs to be known of networks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmnist.accel.algebra import Node, contains
from fastmnist.accel.program import Path, Refused, Scope
from fastmnist.accel.recognise import Appended, Counter, Rows, collect
from fastmnist.accel.values import Trace

_FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "tanh": np.tanh,
    "exp": np.exp,
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "positive": lambda x: x > 0,
    "not_negative": lambda x: x >= 0,
    "inverse": lambda x: 1 / x,
    "transpose": np.transpose,
}


@dataclass
class Repetition:
    """Steps of arrays, those that depend on others last, and what is counted: matches of two arrays' rows."""

    steps: dict[Path, Node]
    counters: list[Counter]
    matches: dict[Path, tuple[Rows, Rows]] = field(default_factory=dict)
    rebound: dict[Path, Path | list[Path]] = field(default_factory=dict)
    appended: list[tuple[Path, Appended]] = field(default_factory=list)

    def describe(self) -> str:
        """Say in words what was found."""
        return f"an update of {len(self.steps)} arrays that is repeated"

    def advance(self, scope: Scope, arrays: dict[Path, NDArray[Any]], first: int, last: int) -> dict[Path, Any]:
        """Change `arrays` as iterations `first` to `last` - 1 do, and return how often rows matched."""
        n = last - first
        changed = set(self.steps)
        means: dict[Path, NDArray[Any]] = {}
        for path, step in self.steps.items():
            moves = contains(step, lambda node: _is_one_of(node, changed))
            d = _value(step, _Arrays(means if moves else arrays, scope), {})
            d = np.broadcast_to(d, _matrix(arrays[path]).shape).reshape(arrays[path].shape)
            means[path] = _matrix(arrays[path] + (n - 1) / 2 * d)
            arrays[path] += n * d
        return {
            place: int(np.sum(_best(scope, a, first, last) == _best(scope, b, first, last)))
            for place, (a, b) in self.matches.items()
        }


def recognise_repetition(trace: Trace, scope: Scope) -> Repetition:
    """Find out whether the loop repeats one update.

    Raises
    ------
    Refused
        If it does not.
    """
    finals, counts, rebound = collect(trace, scope)
    algebra = trace.algebra
    if trace.is_random or not finals or rebound or trace.appended:
        raise Refused("it is not the same update again and again")
    changed = set(finals)
    steps = {}
    for path, final in finals.items():
        array = scope.resolve(path)
        shape = array.shape if array.ndim == 2 else (1, *array.shape)
        steps[path] = algebra.add(final, algebra.leaf("array", path, shape=shape), -1.0)
        if array.dtype != np.float64:
            raise Refused("it is not the same update again and again")
    constant = {p: d for p, d in steps.items() if not contains(d, lambda node: _is_one_of(node, changed))}
    if not constant or any(contains(d, lambda node: node.op in ("rows", "items", "carried")) for d in steps.values()):
        raise Refused("it is not the same update again and again")
    for path, step in steps.items():
        if path not in constant and not _affine(step, set(constant), changed):
            raise Refused("it is not the same update again and again")
    repetition = Repetition({**constant, **steps}, [])
    for place, value in counts.items():
        assert value.node is not None
        terms = algebra.terms(value.node)
        carried = algebra.leaf("carried", place, shape=(1, 1))
        if terms.pop(carried, 0) != 1:
            raise Refused("it is not the same update again and again")
        counter = Counter(place, type(value.now), each=terms.pop(algebra.one, 0.0))
        if terms:
            ((match, counter.correct),) = terms.items()
            repetition.matches[place] = _matching(match)
        repetition.counters.append(counter)
    return repetition


@dataclass
class _Arrays:
    """Arrays by path: those that change as given, others as they are."""

    changed: dict[Path, NDArray[Any]]
    scope: Scope

    def __call__(self, path: Path) -> NDArray[Any]:
        return _matrix(self.changed[path] if path in self.changed else self.scope.resolve(path))


def _matching(match: Node) -> tuple[Rows, Rows]:
    if match.op == "equal" and all(side.op == "argmax" and side.args[0].op == "rows" for side in match.args):
        a, b = (
            Rows(path, start, n) for path, slope, start, n in (s.args[0].args for s in match.args) if slope == n == 1
        )
        return a, b
    raise Refused("it is not the same update again and again")


def _is_one_of(node: Node, paths: set[Path]) -> bool:
    return node.op == "array" and node.args[0] in paths


def _affine(node: Node, steady: set[Path], changed: set[Path]) -> bool:
    """Whether a step is affine in arrays that move steadily, and free of the others that change."""
    if not contains(node, lambda n: _is_one_of(n, changed)):
        return True
    match node.op:
        case "array":
            return node.args[0] in steady
        case "add" | "transpose":
            return all(_affine(child, steady, changed) for child in node.children())
        case "multiply" | "matmul":
            moving = [c for c in node.children() if contains(c, lambda n: _is_one_of(n, changed))]
            return len(moving) == 1 and _affine(moving[0], steady, changed)
    return False


def _matrix(array: NDArray[Any]) -> NDArray[Any]:
    return array if array.ndim == 2 else array.reshape(1, -1)


def _best(scope: Scope, rows: Rows, first: int, last: int) -> NDArray[Any]:
    best: NDArray[Any] = np.argmax(scope.rows(rows.path, rows.of(first, last)), axis=1)
    return best


def _value(node: Node, array: Callable[[Path], NDArray[Any]], known: dict[Node, Any]) -> Any:
    """Compute an expression."""
    if node not in known:
        known[node] = _computed(node, array, known)
    return known[node]


def _computed(node: Node, array: Callable[[Path], NDArray[Any]], known: dict[Node, Any]) -> Any:
    children = [_value(child, array, known) for child in node.children()]
    match node.op:
        case "one":
            return 1.0
        case "array":
            return array(node.args[0])
        case "slice":
            return children[0][node.args[1] : node.args[2]]
        case "add":
            total: Any = 0.0
            for child, (_, c) in zip(children, node.args, strict=True):
                total = total + c * child
            return total
        case "multiply":
            product: Any = children[0]
            for child in children[1:]:
                product = product * child
            return product
        case "matmul":
            return children[0] @ children[1]
        case op if op in _FUNCTIONS:
            return _FUNCTIONS[op](children[0])
    raise Refused("it is not the same update again and again")
