"""From one iteration's expressions to a call of `scripts.sgd_epoch` or `scripts.evaluate`.

Nothing is recognised by looking at the program: a network is guessed from the expressions, all that such a network
would compute is built anew, and every value that outlives the iteration must be the very same expression.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from fastmnist.accel.algebra import Algebra, Node, close, contains, walk
from fastmnist.accel.program import MISSING, Path, Refused, Scope, origins, shown
from fastmnist.accel.values import Draw, Pick, Trace, Value
from fastmnist.spec import Logarithm

_OUTPUTS = ("softmax", "sigmoid", "tanh", "relu")
_GRADIENTS = ("scaled", "mask", "value")


@dataclass
class Rows:
    """Rows of an array, or numbers in it, `count` of them in each iteration, from `start` on; or always the same."""

    path: Path
    start: int
    count: int
    same: bool = False

    def of(self, first: int, last: int) -> slice:
        """Return those of iterations `first` to `last` - 1."""
        if self.same:
            return slice(self.start, self.start + self.count)
        return slice(self.start + first * self.count, self.start + last * self.count)


@dataclass
class Layer:
    """One dense layer: where its arrays are, what it computes, and its dropout."""

    weights: Path
    flipped: bool  # stored as (O, I)
    biases: Path | None
    activation: str
    mask: Node | None = None
    scale: float = 1.0


@dataclass
class _Pass:
    """A forward pass: values, the hidden layers' possible derivatives, targets, and how far outputs are from them."""

    values: list[Node]
    derivatives: list[list[Node]]
    targets: Node
    residual: Node | None


@dataclass
class Counter:
    """A number that grows by so much for each unit of error, entropy and penalty, each correct sample and iteration."""

    path: Path
    kind: type
    error: float = 0.0
    correct: float = 0.0
    entropy: float = 0.0
    penalty: float = 0.0
    each: float = 0.0
    is_after: bool = False  # whether the scores are those of the same samples after the update


@dataclass
class Appended:
    """What a list gets in each iteration: something made of its scores, or an int, slope times its number and start."""

    counter: Counter | None = None
    affine: tuple[int, int] = (0, 0)
    plain: Any = None


@dataclass
class Momentum:
    """What the steps before leave in each step."""

    rule: str  # "momentum" or "nesterov"
    share: float  # of the velocity before
    velocities: dict[Path, tuple[Path, float]]  # of weights and biases: where each is, and how much of it a step adds


@dataclass
class Plan:
    """What replaces the loop."""

    layers: list[Layer]
    images: Rows
    targets: Rows
    labels: Rows | None = None  # class numbers that predictions are compared with, where they are an array of their own
    counters: list[Counter] = field(default_factory=list)
    # A place, and the array whose updated copy it gets, or arrays, for a list of such copies.
    rebound: dict[Path, Path | list[Path]] = field(default_factory=dict)
    appended: list[tuple[Path, Appended]] = field(default_factory=list)  # to which list, in each iteration
    training: dict[str, Any] | None = None
    momentum: Momentum | None = None
    stream: Path | None = None
    pick: Pick | None = None  # draws the rows of each batch
    shared: set[Path] = field(default_factory=set)  # biases that all get the sum of their layer's gradients
    logarithm: Logarithm | None = None  # of the probabilities, where an entropy is counted
    seconds_each: float = 0.0  # that an iteration took at best, if each takes all samples
    one_hot: bool = False  # whether the counters hold for one-hot targets only

    @property
    def scores_after(self) -> bool:
        """Whether something is made of scores after the update."""
        appended = [one.counter for _, one in self.appended if one.counter is not None]
        return any(counter.is_after for counter in (*self.counters, *appended))

    def arrays(self) -> list[Path]:
        """All weights and biases, and their velocities."""
        arrays = [p for layer in self.layers for p in (layer.weights, layer.biases) if p is not None]
        return arrays + ([] if self.momentum is None else [path for path, _ in self.momentum.velocities.values()])

    def describe(self) -> str:
        """Say in words what was found."""
        names = [layer.activation for layer in self.layers]
        depth = f"{len(names)} layer{'s' * (len(names) > 1)} ({', '.join(names)})"
        if self.training is None:
            return f"an evaluation, {self.images.count} sample(s) at a time, {depth}"
        words = "SGD, one sample at a time" if self.images.count == 1 else f"SGD, batches of {self.images.count}"
        if self.images.same:
            words = f"gradient descent on {self.images.count} samples"
        rates = self.training["dropout"]
        shown = rates[:1] if len(set(rates)) == 1 else rates
        extras = ["one gradient for all biases of a layer"] if self.shared else []
        extras += ["dropout " + " and ".join(f"{rate:g}" for rate in shown)] if any(rates) else []
        if self.training["updates_per_batch"] > 1:
            extras.append(f"{self.training['updates_per_batch']} updates per batch")
        if self.training["l2"] is not None:
            extras.append("weight decay")
        if self.momentum is not None:
            extras.append(f"{self.momentum.rule.replace('nesterov', 'Nesterov momentum')} {self.momentum.share:g}")
        if self.scores_after:
            extras.append("scores after each update")
        return ", ".join([words, depth, *extras])


def collect(trace: Trace, scope: Scope) -> tuple[dict[Path, Node], dict[Path, Value], dict[Path, Path | list[Path]]]:
    """Return what outlives an iteration: arrays that are updated, numbers that grow, places that get a new array."""
    recogniser = _Recogniser(trace, scope)
    recogniser.collect()
    return recogniser.finals, recogniser.counts, recogniser.rebound


def recognise(trace: Trace, scope: Scope) -> Plan:
    """Find the plan that computes what `trace` does.

    Raises
    ------
    Refused
        With the reason, and the line where there is one.
    """
    return _Recogniser(trace, scope).plan()


class _Recogniser:
    def __init__(self, trace: Trace, scope: Scope) -> None:
        self.trace = trace
        self.scope = scope
        self.algebra: Algebra = trace.algebra
        self.finals: dict[Path, Node] = {}  # arrays that are updated: by their own path
        self.counts: dict[Path, Value] = {}
        self.rebound: dict[Path, Path | list[Path]] = {}

    def plan(self) -> Plan:
        self.collect()
        roots = [*self.finals.values(), *(v.node for v in self.counts.values() if v.node is not None)]
        if not roots:
            raise Refused("the loop changes nothing that is known")
        refusals = []
        for outputs, targets in self._candidates(roots):
            try:
                return self._match(outputs, targets)
            except Refused as refusal:
                refusals.append(refusal)
        raise refusals[0] if refusals else Refused("no network is found in what the loop computes")

    # What outlives the iteration

    def collect(self) -> None:
        """Sort what the iteration leaves behind."""
        owners = {id(value): value for value in self.trace.arrays.values()}
        for value in owners.values():
            if value.version:
                assert value.path is not None
                assert value.node is not None
                self.finals[value.path] = value.node
        for place, value in self.trace.bindings.items():
            first = self._initial(place)
            if first is MISSING:
                self._check_key(place)
                continue
            if isinstance(first, np.ndarray):
                if self.trace.arrays[id(first)] is not value:
                    self.rebound[place] = self._replaced(place, first, value, owners)
            elif type(first) is type(value.now) is list and value.items is not None and len(value.items) == len(first):
                pairs = zip(first, value.items, strict=True)
                self.rebound[place] = [self._replaced(place, array, new, owners) for array, new in pairs]
            elif isinstance(first, int | float | np.integer):
                if value.node is None:
                    raise Refused(f"{shown(place)} changes in a way that is not understood", self._line(place))
                self.counts[place] = value
            else:
                raise Refused(f"{shown(place)} is a {type(first).__name__} that changes in the loop", self._line(place))

    def _replaced(self, place: Path, first: Any, value: Value, owners: dict[int, Value]) -> Path:
        """Take note of an array in whose place another is put, and return where it was found."""
        old = self.trace.arrays.get(id(first))
        if old is None or old.path in self.finals or value.node is None or np.shape(value.now) != first.shape:
            raise Refused(f"{shown(place)} is replaced in a way that is not understood", self._line(place))
        if id(value) in owners or value.base is not None or value.now.dtype != first.dtype:
            raise Refused(f"{shown(place)} is replaced by another array", self._line(place))
        assert old.path is not None
        self.finals[old.path] = value.node
        return old.path

    def _check_key(self, place: Path) -> None:
        """Refuse what adds a key to a dictionary of which it has asked what keys there are."""
        if place[0] == "item":
            owner = self.scope.resolve(place[1])
            if self.trace.looks[id(owner)] and place[2] not in owner:
                raise Refused(f"the loop asks whether there is {shown(place)}, and sets it", self._line(place))

    def _initial(self, place: Path) -> Any:
        """Return what the iteration found at a place that it sets; MISSING where it never looked."""
        for path, value in self.trace.reads.items():
            same = path == place
            if not same and path[0] == place[0] != "name" and path[-1] == place[-1]:
                same = self.scope.resolve(path[1]) is self.scope.resolve(place[1])
            if not same and place[0] == "name" and path[0] == "global" and path[-1] == place[-1]:
                raise Refused(f"a function reads {shown(place)}, which the loop sets", self._line(place))
            if same:
                return value
        return MISSING

    def _line(self, path: Path) -> int:
        return self.trace.lines.get(path, 0)

    # The network

    def _candidates(self, roots: list[Node]) -> Iterator[tuple[Node, Node]]:
        """Guess outputs and targets: ``outputs - targets`` is there, or their argmax is compared."""
        algebra = self.algebra
        seen: set[tuple[Node, Node]] = set()
        guesses: list[tuple[Node, Node]] = []
        nodes = sorted(walk(roots), key=lambda node: node.order)
        for node in nodes:
            if node.op == "add":
                terms = algebra.terms(node)
                for t, c in terms.items():
                    if _is_data(t) and len(terms) > 1:
                        rest = algebra.add(node, algebra.times(c, t), -1.0)
                        guesses.append((algebra.times(-1 / c, rest), t))
        for node in nodes:
            if node.op == "equal":
                for o, t in (node.args, node.args[::-1]):
                    if o.op == "argmax" and (t.op == "items" or (t.op == "argmax" and _is_data(t.args[0]))):
                        guesses.append((_unsliced(o.args[0]), t if t.op == "items" else t.args[0]))
        for node in nodes:
            match node:
                case Node(op="pick", args=(o, Node(op="items") as t)):
                    guesses.append((o, t))
                case Node(op="multiply", args=(a, b)):
                    for o, t in ((a, b), (b, a)):
                        if o.op == "log" and _is_data(t):
                            guesses.append((self._logarithm(o)[1], t))
        for o, t in guesses:
            if contains(o, lambda n: n.op == "matmul") and (o, t) not in seen:
                seen.add((o, t))
                yield o, t

    def _match(self, outputs: Node, targets: Node) -> Plan:
        algebra = self.algebra
        if self._has_columns(outputs):
            outputs, targets = algebra.transpose(outputs), algebra.transpose(targets)
        layers, inputs = self._decode(outputs)
        values, _ = self._forward(layers, inputs)
        if not close(values[-1], outputs):  # numbers move up through ReLU layers
            inputs = algebra.times(self._top_factor(outputs) / self._top_factor(values[-1]), inputs)
            values, _ = self._forward(layers, inputs)
        if not close(values[-1], outputs):
            raise Refused("the forward pass is not one of a dense network")
        n = self._samples_one_by_one(inputs)
        passes = [self._pass(layers, self._next(inputs, k), self._next(targets, k)) for k in range(n)]
        plan = Plan(layers, _rows_of(inputs, n), _rows_of(targets, n))
        self._check_data(plan)
        if self.finals:
            if targets.op == "items":
                raise Refused("the weights change in a way that is not understood", self._some_line(self.finals))
            self._train(plan, passes)
            plan.rebound = self.rebound
        elif self.trace.is_random:
            raise Refused("random numbers are drawn without training")
        self._count(plan, passes)
        self._append(plan, passes)
        return plan

    def _has_columns(self, outputs: Node) -> bool:
        """Whether samples are columns."""
        _, atom = self.algebra.scaled(outputs)
        return atom.op == "transpose" or _is_weights(self._product(self._peel(outputs)[1])[2].args[0])

    def _samples_one_by_one(self, inputs: Node) -> int:
        """Return how many samples each iteration takes apart from one another; 1 where a batch is one matrix."""
        _, node = self.algebra.scaled(inputs)
        if node.op != "rows":
            raise Refused("rows of the data that are not understood")
        path, slope, _, count = node.args
        rows = [n.args for n in walk(self.finals.values()) if n.op == "rows"]
        starts = {start for p, s, start, c in rows if (p, s, c) == (path, slope, count)}
        return len(starts) if len(starts) * count == slope else 1

    def _next(self, data: Node, k: int) -> Node:
        """Return the rows that sample `k` of an iteration takes, if these are the first one's."""
        if k == 0:
            return data
        factor, node = self.algebra.scaled(data)
        path, slope, start, count = node.args
        shifted = self.algebra.leaf(node.op, path, slope, start + k * count, count, shape=node.shape)
        return self.algebra.times(factor, shifted)

    def _pass(self, layers: list[Layer], inputs: Node, targets: Node, after: bool = False) -> _Pass:
        values, derivatives = self._forward(layers, inputs, after)
        residual = None if targets.op == "items" else self.algebra.add(values[-1], targets, -1.0)
        return _Pass(values, derivatives, targets, residual)

    def _some_line(self, paths: Iterable[Path]) -> int:
        return max((self._line(path) for path in paths), default=0)

    def _peel(self, value: Node) -> tuple[str, Node, Node | None]:
        """Take a layer's values apart: activation, what it is applied to, and the mask."""
        _, atom = self.algebra.scaled(value)
        mask = None
        if atom.op == "multiply":
            masks = [f for f in atom.args if f.op == "mask"]
            rest = [f for f in atom.args if f.op != "mask"]
            if len(masks) != 1 or len(rest) != 1:
                raise Refused("a layer is a product of several values")
            (mask,), (atom,) = masks, rest
            if mask.shape != atom.shape:
                raise Refused("a dropout mask that several samples share")
        if atom.op in ("relu", "tanh", "sigmoid", "softmax"):
            return atom.op, atom.args[0], mask
        return "linear", atom if mask is not None else value, mask

    def _top_factor(self, outputs: Node) -> float:
        return self._product(self._peel(outputs)[1])[0]

    def _product(self, z: Node) -> tuple[float, Node | None, Node]:
        """Take ``factor * values @ weights + biases`` apart."""
        terms = self.algebra.terms(z)
        products = [t for t in terms if t.op == "matmul"]
        others = [t for t in terms if t.op != "matmul"]
        if len(products) != 1 or len(others) > 1 or not all(map(_is_weights, others)):
            raise Refused("a layer is not a matrix product, with or without a bias")
        return terms[products[0]], (others[0] if others else None), products[0]

    def _decode(self, outputs: Node) -> tuple[list[Layer], Node]:
        layers: list[Layer] = []
        value = outputs
        while True:
            activation, z, mask = self._peel(value)
            factor, bias, matmul = self._product(z)
            value, weights = matmul.args
            if not _is_weights(weights):
                raise Refused("a layer's second factor is not an array of weights")
            flipped = weights.op == "transpose"
            biases = None if bias is None else _path(bias)
            layers.insert(0, Layer(_path(weights), flipped, biases, activation, mask))
            if _is_data(value):
                value = self.algebra.times(factor, value)
                break
        if len({layer.biases is None for layer in layers}) > 1:
            raise Refused("some layers have biases and some have none")
        if len({layer.weights for layer in layers}) < len(layers):
            raise Refused("two layers share their weights")
        for layer in layers:
            if layer.mask is not None:
                draw = self.trace.draws[layer.mask.args[0]]
                layer.scale = 1 / (1 - draw.rate)
        return layers, value

    def _array(self, path: Path, flipped: bool = False) -> Node:
        original = self.scope.resolve(path)
        shape = original.shape if original.ndim == 2 else (1, original.shape[0])
        node = self.algebra.leaf("array", path, shape=shape)
        return self.algebra.transpose(node) if flipped else node

    def _biases(self, layer: Layer, final: Node | None = None) -> Node:
        assert layer.biases is not None
        node = final or self._array(layer.biases)
        return node if node.shape[0] == 1 else self.algebra.transpose(node)

    def _forward(self, layers: list[Layer], inputs: Node, after: bool = False) -> tuple[list[Node], list[list[Node]]]:
        """Build all values, and for each hidden layer its possible derivatives, dropout included.

        `after`: with the weights and biases as the iteration leaves them.
        """
        algebra = self.algebra
        values, derivatives = [inputs], []
        for layer in layers:
            if after:
                weights, biases = self._oriented(layer, self.finals)
            else:
                weights = self._array(layer.weights, layer.flipped)
                biases = None if layer.biases is None else self._biases(layer)
            z = algebra.matmul(values[-1], weights)
            if biases is not None:
                z = algebra.add(z, biases)
            value = self._activate(layer.activation, z)
            dropped = value
            if layer.mask is not None:
                dropped = algebra.times(layer.scale, algebra.multiply(value, layer.mask))
            values.append(dropped)
            options = []
            for straight, gradient in product((False, True), _GRADIENTS):
                slope = self._slope(layer.activation, z, value if gradient == "scaled" else dropped, straight)
                if layer.mask is not None:
                    scale = 1.0 if gradient == "mask" else layer.scale
                    slope = algebra.multiply(slope, algebra.times(scale, layer.mask))
                options.append(slope)
            derivatives.append(options)
        return values, derivatives

    def _activate(self, name: str, z: Node) -> Node:
        if name == "linear":
            return z
        return self.algebra.relu(z) if name == "relu" else self.algebra.leaf(name, z, shape=z.shape)

    def _slope(self, name: str, z: Node, a: Node, straight: bool) -> Node:
        """Return the derivative of an activation at a value a = f(z)."""
        algebra = self.algebra
        match name:
            case "relu":
                return algebra.one if straight else algebra.positive(z)
            case "tanh":
                return algebra.add(algebra.one, algebra.multiply(a, a), -1.0)
            case "sigmoid":
                return algebra.multiply(a, algebra.add(algebra.one, a, -1.0))
        return algebra.one

    def _check_data(self, plan: Plan) -> None:
        changed = set(self.finals)
        for rows in (plan.images, plan.targets):
            if changed.intersection(origins(rows.path)):
                raise Refused("the loop changes its own data", self._line(rows.path))
        kind = self.scope.rows(plan.images.path, slice(0, 1)).dtype
        if kind not in (np.float64, np.float32) and kind.kind not in "biu":
            raise Refused(f"the images are {kind}, which would round differently")
        for layer in plan.layers:
            for path in (layer.weights, layer.biases):
                if path is not None and self.scope.resolve(path).dtype != np.float64:
                    raise Refused(f"{shown(path)} is not float64, and other types would round differently")
            units = self._array(layer.weights, layer.flipped).shape[1]
            if layer.biases is not None and self.scope.resolve(layer.biases).size != units:
                raise Refused(f"{shown(layer.biases)} has not one entry for each of {units} units")

    # Training

    def _train(self, plan: Plan, passes: list[_Pass]) -> None:
        layers, algebra, batch = plan.layers, self.algebra, plan.images.count
        wanted = {path for layer in layers for path in (layer.weights, layer.biases) if path is not None}
        if missing := wanted - set(self.finals):
            raise Refused(f"{min(map(shown, missing))} takes part, but is not updated")
        plan.momentum, steps = self._momentum(plan.arrays())
        if unknown := set(self.finals) - set(plan.arrays()):
            raise Refused(f"{min(map(shown, unknown))} is updated, but is not a weight", self._some_line(unknown))
        stream, kind, rates = self._dropout(layers)
        pick = next(iter(self.trace.picks), None)
        if pick is not None:
            if any(rates):
                raise Refused("rows and dropout masks that are drawn by turns")
            stream = pick.stream
        if len(passes) > 1 and any(rates):
            raise Refused("dropout of samples that a batch takes one by one")
        output = layers[-1].activation
        residuals = [p.residual for p in passes if p.residual is not None]
        losses = []
        if output in ("linear", "softmax", "sigmoid"):
            losses.append(("squared_error" if output == "linear" else "cross_entropy", residuals))
        if output in ("sigmoid", "tanh", "relu"):
            slopes = [self._output_slope(output, p.values[-1]) for p in passes]
            losses.append(("squared_error", list(map(algebra.multiply, residuals, slopes))))
        finals, decays = self._decayed(layers, steps)
        lowest = algebra.add(finals[0][0], self._array(layers[0].weights, layers[0].flipped), -1.0)
        many = {1} if len(passes) > 1 or decays or plan.momentum is not None else {1, len(algebra.terms(lowest))}
        for (loss, deltas), option, repeats in product(losses, range(2 * len(_GRADIENTS)), sorted(many)):
            rate = self._rate(finals[-1][0], layers[-1], passes, deltas, repeats)
            if rate is None:
                continue
            shared = self._updates(layers, passes, option, deltas, rate, repeats, finals)
            if shared is not None:
                if rate < 0:
                    raise Refused("the update climbs the error", self._some_line(self.finals))
                if shared and not (plan.images.same and plan.momentum is None and not any(b for _, b in decays)):
                    raise Refused("biases get the sum of all gradients of their layer", self._some_line(shared))
                plan.stream, plan.pick, plan.shared = stream, pick, shared
                twice = 2 * rate * batch  # the gradient of l2 w^2 is 2 l2 w
                plan.training = {
                    "learning_rate": rate * batch,
                    "batch_size": batch,
                    "loss": loss,
                    "relu_gradient": "straight-through" if option // len(_GRADIENTS) else "relu",
                    "dropout": rates,
                    "dropout_gradient": _GRADIENTS[option % len(_GRADIENTS)],
                    "dropout_draw": kind,
                    "updates_per_batch": repeats,
                    "l2": [(w / twice, b / twice) for w, b in decays] or None,
                }
                return
        raise Refused(
            "the weights' update is not the gradient of this network's loss times one rate for all layers and steps",
            self._some_line(self.finals),
        )

    def _momentum(self, wanted: list[Path]) -> tuple[Momentum | None, dict[Path, Node]]:
        """Return what the steps before leave in this one, and what it would make of the arrays without them.

        With ``v' = share v + c g``, a step adds ``factor v'``, or ``factor ((1 + share) v' - share v)``, Nesterov's.
        """
        algebra = self.algebra
        velocities: dict[Path, tuple[Node, float]] = {}
        others = set(self.finals).difference(wanted)
        for path in wanted:
            shape = self.scope.resolve(path).shape
            for term, c in algebra.terms(self.finals[path]).items():
                if term.op == "array" and term.args[0] in others and self.scope.resolve(term.args[0]).shape == shape:
                    velocities[path] = term, c
        if not velocities:
            return None, self.finals
        if missing := set(wanted) - set(velocities):
            raise Refused(f"{min(map(shown, missing))} has no momentum, and others have", self._some_line(wanted))
        shares = [algebra.terms(self.finals[v.args[0]]).get(v, 0.0) for v, _ in velocities.values()]
        share = shares[0]
        if not 0 < share < 1 or len({v for v, _ in velocities.values()}) < len(wanted):
            raise Refused("velocities that are not understood", self._some_line(wanted))
        for rule, left, ahead in (("momentum", share, 1.0), ("nesterov", share**2, 1 + share)):
            steps = {}
            for path, (v, c) in velocities.items():
                before = self._array(path)
                step = algebra.times(c / left, algebra.add(self.finals[v.args[0]], algebra.times(share, v), -1.0))
                after = algebra.add(algebra.add(before, algebra.times(ahead, step)), algebra.times(c, v))
                if close(after, self.finals[path]):
                    steps[path] = algebra.add(before, step)
            if len(steps) == len(wanted):
                factors = {path: (v.args[0], c / left) for path, (v, c) in velocities.items()}
                return Momentum(rule, share, factors), steps
        raise Refused("velocities that are not understood", self._some_line(wanted))

    def _decayed(
        self, layers: list[Layer], steps: dict[Path, Node]
    ) -> tuple[list[tuple[Node, Node | None]], list[tuple[float, float]]]:
        """Return the updates without weight decay, and which share of weights and biases that takes; [] if none."""
        finals = []
        shares = []
        for layer in layers:
            weights, biases = self._oriented(layer, steps)
            weights, share = self._without_decay(weights, self._array(layer.weights, layer.flipped))
            of_biases = 0.0
            # The gradient of a linear output has its biases in it, as decay would.
            if biases is not None and (layer is not layers[-1] or layer.activation != "linear"):
                biases, of_biases = self._without_decay(biases, self._biases(layer))
            finals.append((weights, biases))
            shares.append((share, of_biases))
        return finals, shares if any(map(any, shares)) else []

    def _without_decay(self, final: Node, array: Node) -> tuple[Node, float]:
        share = 1 - self.algebra.terms(final).get(array, 1.0)
        if not 0 < share < 1:
            return final, 0.0
        return self.algebra.add(final, self.algebra.times(share, array)), share

    def _oriented(self, layer: Layer, finals: dict[Path, Node]) -> tuple[Node, Node | None]:
        weights = finals[layer.weights]
        weights = self.algebra.transpose(weights) if layer.flipped else weights
        if layer.biases is None:
            return weights, None
        return weights, self._biases(layer, finals[layer.biases])

    def _output_slope(self, output: str, values: Node) -> Node:
        z = values.args[0] if output in _OUTPUTS and values.args else values
        return self._slope(output, z, values, False)

    def _rate(self, final: Node, layer: Layer, passes: list[_Pass], deltas: list[Node], repeats: int) -> float | None:
        """Learning rate over batch size, as the last layer's update has it."""
        change = self.algebra.add(final, self._array(layer.weights, layer.flipped), -1.0)
        unit = self._gradient([p.values[-2] for p in passes], deltas)
        (c, atom), (u, expected) = self.algebra.scaled(change), self.algebra.scaled(unit)
        return -c / u / repeats if close(atom, expected) else None

    def _gradient(self, values: list[Node], deltas: list[Node]) -> Node:
        algebra = self.algebra
        return algebra.total([algebra.matmul(algebra.transpose(v), d) for v, d in zip(values, deltas, strict=True)])

    def _updates(
        self,
        layers: list[Layer],
        passes: list[_Pass],
        option: int,
        output_deltas: list[Node],
        rate: float,
        repeats: int,
        finals: list[tuple[Node, Node | None]],
    ) -> set[Path] | None:
        """Return None if SGD at this rate, built anew, is not what the loop does to every weight and bias.

        Else the biases of which each gets the gradient of all of its layer's, added up.
        """
        algebra = self.algebra
        added_up: dict[int, Node] = {}
        weights = [self._array(layer.weights, layer.flipped) for layer in layers]
        biases = [None if layer.biases is None else self._biases(layer) for layer in layers]
        for _ in range(repeats):
            deltas = output_deltas
            before = list(weights)
            for k in range(len(layers) - 1, -1, -1):
                gradient = self._gradient([p.values[k] for p in passes], deltas)
                weights[k] = algebra.add(weights[k], algebra.times(rate, gradient), -1.0)
                if (bias := biases[k]) is not None:
                    gradient = algebra.total(list(map(algebra.sum_rows, deltas)))
                    biases[k] = algebra.add(bias, algebra.times(rate, gradient), -1.0)
                    gradient = algebra.total(list(map(algebra.sum, deltas)))
                    added_up[k] = algebra.add(bias, algebra.times(rate, gradient), -1.0)
                if k:
                    back = [algebra.matmul(delta, algebra.transpose(before[k])) for delta in deltas]
                    deltas = list(map(algebra.multiply, back, [p.derivatives[k - 1][option] for p in passes]))
        shared: set[Path] = set()
        for k, (layer, (final, final_biases)) in enumerate(zip(layers, finals, strict=True)):
            if not close(weights[k], final):
                return None
            bias = biases[k]
            if bias is not None and final_biases is not None and not close(bias, final_biases):
                if not close(added_up[k], final_biases):
                    return None
                assert layer.biases is not None
                shared.add(layer.biases)
        return shared

    def _dropout(self, layers: list[Layer]) -> tuple[Path | None, str, list[float]]:
        """Return the stream, the kind of draw, and the share dropped at each hidden layer."""
        draws: list[Draw] = self.trace.draws
        drawn = [None if layer.mask is None else layer.mask.args[0] for layer in layers]
        if drawn[-1] is not None:
            raise Refused("dropout at the output layer")
        order = [number for number in drawn if number is not None]
        if sorted(order) != list(range(len(draws))):
            raise Refused("random draws other than one dropout mask for a hidden layer")
        if order != sorted(order):
            raise Refused("dropout masks drawn in another order than the layers'")
        if len({(draw.stream, draw.kind) for draw in draws}) > 1:
            raise Refused("dropout masks that are drawn differently from layer to layer")
        rates = [0.0 if number is None else draws[number].rate for number in drawn[:-1]]
        return (draws[0].stream, draws[0].kind, rates) if draws else (None, "auto", rates)

    # Counters

    def _count(self, plan: Plan, passes: list[_Pass]) -> None:
        for place, value in self.counts.items():
            assert value.node is not None
            rest = self.algebra.terms(value.node)
            carried = [node for node in rest if node.op == "carried" and node.args[0] == place]
            if len(carried) != 1 or rest.pop(carried[0]) != 1:
                raise Refused(f"{shown(place)} changes in a way that is not understood", self._line(place))
            plan.counters.append(self._scored(plan, passes, place, type(value.now), rest))

    def _append(self, plan: Plan, passes: list[_Pass]) -> None:
        paths: dict[int, Path] = {}
        for path, value in self.trace.appended:
            path = paths.setdefault(id(self.scope.resolve(path)), path)
            if self.trace.looks[id(self.scope.resolve(path))]:
                raise Refused(f"{shown(path)} is looked at, and appended to")
            if not self.finals:
                raise Refused(f"{shown(path)} is appended to without training")
            if value.node is not None:
                rest = self.algebra.terms(value.node)
                appended = Appended(self._scored(plan, passes, path, type(value.now), rest))
            else:
                appended = Appended(None, value.affine or (0, 0), value.now)
            plan.appended.append((path, appended))

    def _scored(self, plan: Plan, passes: list[_Pass], place: Path, kind: type, rest: dict[Node, float]) -> Counter:
        """Return how a sum of terms is made of an iteration's scores, before or after the update."""
        training = plan.training
        if training is not None and len(passes) == 1:
            after = self._pass(plan.layers, passes[0].values[0], passes[0].targets, after=True)
            if after.values[-1] in walk(rest):
                if any(training["dropout"]) or training["updates_per_batch"] > 1 or plan.momentum is not None:
                    raise Refused("scores after an update with dropout, momentum or repeats", self._line(place))
                return self._counter(plan, [after], place, kind, rest, True)
        return self._counter(plan, passes, place, kind, rest, False)

    def _counter(
        self, plan: Plan, passes: list[_Pass], place: Path, kind: type, rest: dict[Node, float], after: bool
    ) -> Counter:
        """Return how a sum of terms is made of an iteration's scores."""
        algebra, counter = self.algebra, Counter(place, kind, is_after=after)
        outputs, targets = passes[0].values[-1], passes[0].targets
        residuals = [p.residual for p in passes if p.residual is not None]
        counter.each = rest.pop(algebra.one, 0.0)
        if residuals:
            error = algebra.total([algebra.sum(algebra.multiply(r, r)) for r in residuals])
            counter.error = _take(rest, algebra.terms(error))
        if plan.training is not None and plan.training["l2"] is not None:
            counter.penalty = _take(rest, algebra.terms(self._penalty(plan.layers, plan.training["l2"], after)))
        if len(passes) > 1:
            hits = [algebra.equal(algebra.argmax(p.values[-1]), algebra.argmax(p.targets)) for p in passes]
            counter.correct = _take(rest, algebra.terms(algebra.total(hits)))
        for correct, labels in self._correct(outputs, targets, list(rest)) if len(passes) == 1 else ():
            counter.correct = _take(rest, algebra.terms(correct))
            if counter.correct and labels is not None:
                if plan.labels not in (None, labels):
                    raise Refused("predictions are compared with two arrays of labels", self._line(place))
                plan.labels = labels
            if counter.correct:
                break
        for entropy, labels, one_hot, logarithm in self._entropies(outputs, targets, list(rest)):
            counter.entropy = -_take(rest, algebra.terms(entropy))
            if counter.entropy:
                if plan.logarithm not in (None, logarithm) or (labels and plan.labels not in (None, labels)):
                    raise Refused("logarithms of two kinds are counted", self._line(place))
                plan.logarithm = logarithm
                plan.labels, plan.one_hot = labels or plan.labels, plan.one_hot or one_hot
                break
        if rest:
            raise Refused(f"{shown(place)} counts something that is not understood", self._line(place))
        return counter

    def _penalty(self, layers: list[Layer], l2: list[tuple[float, float]], after: bool) -> Node:
        """Build the penalty on the weights as the iteration finds them, or `after`: as it leaves them."""
        arrays = [
            (path, c)
            for layer, pair in zip(layers, l2, strict=True)
            for path, c in zip((layer.weights, layer.biases), pair, strict=True)
        ]
        algebra = self.algebra
        squares = [
            (c, self.finals[path] if after else self._array(path)) for path, c in arrays if path is not None and c
        ]
        return algebra.total([algebra.times(c, algebra.sum(algebra.multiply(a, a))) for c, a in squares])

    def _correct(self, outputs: Node, targets: Node, terms: list[Node]) -> Iterator[tuple[Node, Rows | None]]:
        """Yield the number of correct outputs as it may be spelt, and labels of their own."""
        algebra = self.algebra
        if not any(node.op == "equal" for node in walk(terms)):
            return
        n = outputs.shape[0]
        for whole, each, labels in self._classes(targets, n, terms):
            yield algebra.sum(algebra.equal(algebra.argmax(outputs), whole)), labels
            yield algebra.total(list(map(algebra.equal, self._best(outputs), each()))), labels

    def _best(self, x: Node) -> list[Node]:
        algebra = self.algebra
        return [algebra.argmax(algebra.rows(x, k, k + 1)) for k in range(x.shape[0])]

    def _entropies(
        self, outputs: Node, targets: Node, terms: list[Node]
    ) -> Iterator[tuple[Node, Rows | None, bool, Logarithm]]:
        """Yield the cross-entropy as it may be spelt, negative; labels; whether targets must be one-hot; the log."""
        if outputs.op != "softmax":
            return
        algebra = self.algebra
        n = outputs.shape[0]
        for logarithm in sorted({self._logarithm(node)[0] for node in walk(terms) if node.op == "log"}):
            log = partial(self._log, logarithm)
            if targets.op != "items":
                own = algebra.sum_columns(algebra.multiply(targets, outputs))
                yield algebra.sum(algebra.multiply(targets, log(outputs))), None, False, logarithm
                yield algebra.sum(log(own)), None, True, logarithm
            for whole, each, labels in self._classes(targets, n, terms):
                one_hot = targets.op != "items"
                yield algebra.sum(log(algebra.pick(outputs, whole))), labels, one_hot, logarithm
                rows = [algebra.rows(outputs, k, k + 1) for k in range(n)]
                yield algebra.total(list(map(log, map(algebra.pick, rows, each())))), labels, one_hot, logarithm

    def _logarithm(self, node: Node) -> tuple[Logarithm, Node]:
        """Take a logarithm apart: what kind it is, and of what."""
        (x,) = node.args
        rest = self.algebra.terms(x)
        offset = rest.pop(self.algebra.one, 0.0)
        if list(rest.values()) == [1.0]:
            (x,) = rest
        else:
            offset = 0.0
        floor, ceiling, _ = Logarithm()
        if x.op == "clip":
            x, floor, ceiling = x.args
        return Logarithm(floor, ceiling, offset), x

    def _log(self, logarithm: Logarithm, x: Node) -> Node:
        algebra = self.algebra
        if logarithm[:2] != Logarithm()[:2]:
            x = algebra.function("clip", x, logarithm.floor, logarithm.ceiling)
        return algebra.function("log", algebra.add(x, algebra.number(logarithm.offset)))

    def _classes(
        self, targets: Node, n: int, terms: list[Node]
    ) -> Iterator[tuple[Node, Callable[[], list[Node]], Rows | None]]:
        """Yield the classes of n samples as they may be spelt, at once and one by one, and labels of their own."""
        algebra = self.algebra
        if targets.op != "items":
            yield algebra.argmax(targets), partial(self._best, targets), None
        starts: dict[tuple[Path, int], int] = {}
        for node in walk(terms):
            if node.op == "items" and node.args[1] in (n, 0):
                path, slope, start, _ = node.args
                starts[path, slope] = min(start, starts.get((path, slope), start))
        for (path, slope), start in sorted(starts.items(), key=lambda item: item[1]):
            items = partial(algebra.leaf, "items", path, slope)
            whole = items(start, n, shape=(1, n))
            yield whole, partial(_each, items, start, n), Rows(path, start, n, slope == 0)


def _each(items: Callable[..., Node], start: int, n: int) -> list[Node]:
    return [items(start + k, 1, shape=(1, 1)) for k in range(n)]


def _take(rest: dict[Node, float], unit: dict[Node, float]) -> float:
    """Remove a multiple of `unit` from `rest`, wholly, and return it; 0 where it is not there."""
    first = next(iter(unit))
    if first not in rest:
        return 0.0
    ratio = rest[first] / unit[first]
    if any(abs(rest.get(node, 0.0) - ratio * c) > 1e-9 * abs(ratio * c) for node, c in unit.items()):
        return 0.0
    for node in unit:
        del rest[node]
    return ratio


def _is_data(node: Node) -> bool:
    return node.op == "rows" or (node.op == "transpose" and node.args[0].op == "rows")


def _is_weights(node: Node) -> bool:
    return node.op == "array" or (node.op == "transpose" and node.args[0].op == "array")


def _path(node: Node) -> Path:
    path: Path = (node.args[0] if node.op == "transpose" else node).args[0]
    return path


def _unsliced(node: Node) -> Node:
    inner: Node = node.args[0] if node.op == "slice" else node
    return inner


def _rows_of(node: Node, samples: int) -> Rows:
    """Return which rows data take, `samples` times as many as the node has, checked to be batch after batch."""
    factor = 1.0
    if node.op == "add" and len(node.args) == 1:
        ((node, factor),) = node.args
    if node.op not in ("rows", "items"):
        raise Refused("rows of the data that are not understood")
    path, slope, start, count = node.args
    if slope not in (0, count * samples) or start < 0:
        raise Refused("the rows of the data do not follow one another, batch by batch")
    return Rows(path if factor == 1 else ("scaled", path, factor), start, slope or count, slope == 0)
