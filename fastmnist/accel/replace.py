"""A recognised loop, ready to run: guards, verification, the call of the kernels."""

from __future__ import annotations

import ast
import time
import types
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastmnist.accel.interpret import Interpreter
from fastmnist.accel.iterables import Items
from fastmnist.accel.program import MISSING, Functions, Path, Refused, Scope, shown
from fastmnist.accel.recognise import Appended, Counter, Plan, Rows, collect, recognise
from fastmnist.accel.repeat import Repetition, recognise_repetition
from fastmnist.accel.values import Trace
from fastmnist.spec import Logarithm, Optimizer

if TYPE_CHECKING:
    from fastmnist.engine import Packed, Totals
    from fastmnist.scripts import Prepared

_TOLERANCE = 1e-9
# Softmax divides by sums of exponentials. While all shares are above this, no program's exponentials differ from the
# kernels', which keep to normal numbers: no share has become 0, whose logarithm times 0 is no number.
_LEAST_SHARE = 1e-300
# What is added to every target, so that the kernels count all outputs above `_LEAST_SHARE`; less than a sum can tell.
_TRACE_OF_A_TARGET = 1e-299
# An entropy per sample below this is mostly the rounding of a share near 1.
_LEAST_ENTROPY = 1e-6
# Share of an array's rows from which it is packed whole, and its rows taken in the program's order, which costs half as
# much as gathering them: 60,000 images of MNIST are hashed in 22 ms, gathered in 80 ms, packed in 88 ms.
_WHOLE_FROM = 1 / 4
# Iterations in a row that are worth it if each takes all samples, which takes milliseconds: two are verified at first.
# After so many one runs as written: the program has all that belongs to it, should it be stopped, and it is seen who is
# the quicker.
_SHORTEST_OF_ALL_ROWS, _MOST_OF_ALL_ROWS = 3, 49
_PLAIN = (int, float, str, bool, type(None), range, np.generic)


class Inputs(NamedTuple):
    """The images of some iterations: rows of an array, or the array that they are gathered from."""

    path: Path
    rows: slice
    are_whole: bool = False

    def packed(self, scope: Scope) -> Packed:
        """Return the images, packed."""
        from fastmnist.engine import as_packed

        match self.path:
            case ("scaled", inner, factor) if factor == 1 / 255:
                images = scope.rows(inner, self.rows)
                if images.dtype == np.uint8:
                    return as_packed(images, None)
        images = scope.rows(self.path, self.rows)
        exact = images.dtype == np.float32
        return as_packed(images if exact else images.astype(np.float64, copy=False), None, exact)


class _Score(NamedTuple):
    """What some iterations add up."""

    error: float = 0.0
    correct: int = 0
    entropy: float = 0.0
    penalty: float = 0.0


class _Scores(NamedTuple):
    """What some iterations add up, and each of them, if that is needed."""

    total: _Score
    each: list[_Score]


@dataclass
class _State:
    """What a loop starts from: to run its first iterations again on copies."""

    arrays: dict[Path, NDArray[Any]]
    counters: dict[Path, Any]
    lengths: dict[Path, int]  # of lists that are appended to
    stream: Any


class Replacement:
    """The plan for a loop, with everything that must still hold when it is used again.

    Parameters
    ----------
    loop : ast.For
        The loop.
    scope : Scope
        The names it sees.
    functions : Functions
        Finds the source of the program's functions.
    items : Items
        What it loops over.
    """

    def __init__(self, loop: ast.For, scope: Scope, functions: Functions, items: Items) -> None:
        self.verified = False
        self._items = items
        trace, self.plan = _understood(loop, scope, functions, items)
        # Counters change; what is counted may turn a float into NumPy's.
        self._kinds = {
            counter.path: {type(scope.resolve(counter.path)), counter.kind} for counter in self.plan.counters
        }
        appended = {path for path, _ in self.plan.appended}
        others = {path: value for path, value in trace.reads.items() if path not in {*self._kinds, *appended}}
        self._guards = {path: _fingerprint(value) for path, value in others.items()}
        self._arrays = [path for path, value in trace.reads.items() if isinstance(value, np.ndarray)]
        self._lists = [path for path, value in trace.reads.items() if type(value) is list]
        self._appended = appended
        self._aliases = self._alias_pattern(scope)
        self._unusual, self._own = trace.unusual, trace.unusual.copy()
        if _is_read_later(trace, self.plan):
            self._own |= np.append(trace.unusual[1:], False)
        self._start: _State | None = None
        self.trained: list[Path] = []  # the arrays that the loop changes
        self._data: list[Rows] = []
        if isinstance(self.plan, Repetition):
            self.trained = list(self.plan.steps)
            self._data = [rows for pair in self.plan.matches.values() for rows in pair]
        else:
            if self.plan.training is not None:
                self.trained = self.plan.arrays()
            self._data = [r for r in (self.plan.images, self.plan.targets, self.plan.labels) if r is not None]

    def has_unusual(self, n: int) -> bool:
        """Whether there are, of `n` iterations, some that take another branch than the others."""
        return bool(self._unusual[:n].any())

    def spans(self, n: int, shortest: int) -> list[tuple[int, int]]:
        """Return runs of iterations, first and last + 1, that the kernels can do if there are `n` iterations.

        The last one runs as written, and so do unusual ones.
        """
        takes_all = isinstance(self.plan, Plan) and self.plan.images.same
        if takes_all:
            shortest = min(shortest, _SHORTEST_OF_ALL_ROWS)
        own = self._own[:n].copy()
        own[-1] = True
        edges = np.flatnonzero(np.diff(own, prepend=True, append=True))
        spans = [(int(a), int(b)) for a, b in edges.reshape(-1, 2) if b - a >= shortest]
        if not takes_all:
            return spans
        return [(k, min(k + _MOST_OF_ALL_ROWS, b)) for a, b in spans for k in range(a, b, _MOST_OF_ALL_ROWS + 1)]

    @property
    def seconds_each(self) -> float:
        """Seconds that the kernels take for an iteration of all samples, 0 where it is not known, or takes others."""
        return self.plan.seconds_each if isinstance(self.plan, Plan) else 0.0

    def fits(self, scope: Scope, items: Items) -> bool:
        """Whether all that the recognition relied on is as it was."""
        if self._items.form != items.form or len(items) > len(self._items):
            return False
        if items is not self._items and len(items) == len(self._items):
            items.take_over(self._items)
            self._items = items
        return (
            all(_fingerprint(scope.resolve(path)) == was for path, was in self._guards.items())
            and all(type(scope.resolve(path)) in kinds for path, kinds in self._kinds.items())
            and all(type(scope.resolve(path)) is list for path in self._appended)
            and self._alias_pattern(scope) == self._aliases
        )

    def _alias_pattern(self, scope: Scope) -> list[int]:
        ids = [id(scope.resolve(path)) for path in self._arrays + self._lists]
        return [ids.index(i) for i in ids]

    def check(self, scope: Scope, items: Items, first: int, last: int) -> None:
        """Check what iterations `first` to `last` - 1 need, and what may differ from one pass to the next.

        Raises
        ------
        Refused
            If the arrays overlap, or the data are too short.
        """
        arrays = {id(a): a for a in map(scope.resolve, self._arrays)}
        kept = self._kept_as_they_are()
        for path in self.trained:
            array = scope.resolve(path)
            if not array.flags.writeable:
                raise Refused(f"{shown(path)} is read-only")
            is_shared = any(np.may_share_memory(array, a) for a in arrays.values() if a is not array)
            if is_shared or (path not in kept and items.touches(array)):
                raise Refused(f"{shown(path)} shares its memory with another array")
        for rows in self._data:
            if rows.of(first, last).stop > scope.count_rows(rows.path):
                raise Refused("the loop goes beyond the end of the data")

    def remember(self, scope: Scope) -> None:
        """Keep what the iterations that are verified start from."""
        self._start = self._state(scope)

    def verify(self, scope: Scope, first: int, last: int) -> float:
        """Run iterations `first` to `last` - 1 again, on copies, and compare with what the program has computed.

        Returns
        -------
        float
            The largest difference, relative.

        Raises
        ------
        Refused
            If a value differs.
        """
        start, now = self._start, self._state(scope)
        assert start is not None
        self._start = None
        try:
            self._set_stream(scope, start.stream)
            counters, appended = self._kernel(scope, first, last, start)
            if not _equal(self._state(scope).stream, now.stream):
                raise Refused("the random stream ends elsewhere than the program's")
        finally:
            self._set_stream(scope, now.stream)
        worst = 0.0
        pairs = [(path, start.arrays[path], now.arrays[path]) for path in start.arrays]
        pairs += [(path, counters[path], now.counters[path]) for path in counters]
        for path, values in appended.items():
            theirs = scope.resolve(path)[start.lengths[path] :]
            if list(map(type, values)) != list(map(type, theirs)):
                raise Refused(f"{shown(path)} gets other values")
            pairs.append((path, np.array(values, float), np.array(theirs, float)))
        for path, ours, theirs in pairs:
            scale = max(float(np.max(np.abs(theirs))), 1e-300)
            difference = float(np.max(np.abs(ours - theirs))) / scale
            if not difference <= _TOLERANCE:
                raise Refused(f"{shown(path)} differs by {difference:.1e} after {last - first} iteration(s)")
            worst = max(worst, difference)
        return worst

    def execute(self, scope: Scope, first: int, last: int, packed: Packed | None = None) -> dict[Path, Any]:
        """Run iterations `first` to `last` - 1; return the places that get a new value, in-place changes done.

        `packed` holds their images, where it is known already.

        Raises
        ------
        Refused
            If the result is not finite, or the kernels do not take the data; nothing has changed then.
        """
        state = self._state(scope)
        try:
            values, appended = self._kernel(scope, first, last, state, packed)
        except (LookupError, Refused, TypeError, ValueError) as error:
            self._set_stream(scope, state.stream)
            raise Refused(str(error)) from error
        computed = (*state.arrays.values(), *values.values(), *appended.values())
        if not all(np.isfinite(array).all() for array in computed):
            self._set_stream(scope, state.stream)
            raise Refused("the training diverges")
        kept = self._kept_as_they_are()
        for path, array in state.arrays.items():
            if path not in kept:
                scope.resolve(path)[...] = array
        for path, items in appended.items():
            scope.resolve(path).extend(items)
        for place, source in self.plan.rebound.items():
            values[place] = [state.arrays[p] for p in source] if isinstance(source, list) else state.arrays[source]
        return values

    def _kept_as_they_are(self) -> set[Path]:
        """Arrays in whose place the program puts new ones."""
        rebound = self.plan.rebound.values()
        return {path for paths in rebound for path in (paths if isinstance(paths, list) else [paths])}

    def _state(self, scope: Scope) -> _State:
        """Return copies of all that the loop changes."""
        where = {self._place_of(path): path for path in self.trained}
        stream = None
        if self._draws():
            assert isinstance(self.plan, Plan)
            stream = _stream(scope, self.plan.stream)
            stream = stream.bit_generator.state if isinstance(stream, np.random.Generator) else stream.get_state(False)
        return _State(
            {path: np.array(scope.resolve(place)) for place, path in where.items()},
            {counter.path: scope.resolve(counter.path) for counter in self.plan.counters},
            {path: len(scope.resolve(path)) for path, _ in self.plan.appended},
            stream,
        )

    def _draws(self) -> bool:
        plan = self.plan
        if not isinstance(plan, Plan) or plan.training is None:
            return False
        return plan.pick is not None or any(plan.training["dropout"])

    def _place_of(self, path: Path) -> Path:
        """Where the array first found at `path` is now: a place that was bound anew holds a new array."""
        return next((place for place, source in self.plan.rebound.items() if source == path), path)

    def _set_stream(self, scope: Scope, state: Any) -> None:
        if state is None or not isinstance(self.plan, Plan):
            return
        stream = _stream(scope, self.plan.stream)
        if isinstance(stream, np.random.Generator):
            stream.bit_generator.state = state
        else:
            stream.set_state(state)

    def _kernel(
        self, scope: Scope, first: int, last: int, state: _State, packed: Packed | None = None
    ) -> tuple[dict[Path, Any], dict[Path, list[Any]]]:
        """Train the arrays of `state`, or evaluate; return the counters as they are afterwards, and what lists get."""
        plan = self.plan
        if isinstance(plan, Plan) and plan.pick is not None:
            draw = getattr(_stream(scope, plan.stream), plan.pick.method)
            drawn = [draw(*plan.pick.arguments, **plan.pick.keywords) for _ in range(first, last)]
            numbers = np.concatenate([np.atleast_1d(number) for number in drawn])
            scope.draw(len(numbers) // (last - first) * first, numbers)
        if isinstance(plan, Repetition):
            matches = plan.advance(scope, state.arrays, first, last)
            scores = {counter.path: _Score(correct=matches.get(counter.path, 0)) for counter in plan.counters}
        else:
            before_and_after = _train_or_evaluate(plan, scope, first, last, state.arrays, packed)
            scores = {counter.path: before_and_after[counter.is_after].total for counter in plan.counters}
        counters = {
            counter.path: _counted(counter, state.counters[counter.path], scores[counter.path], last - first)
            for counter in plan.counters
        }
        appended: dict[Path, list[Any]] = {}
        for k in range(last - first) if plan.appended else ():
            for path, item in plan.appended:
                is_after = item.counter is not None and item.counter.is_after
                score = before_and_after[is_after].each[k]
                appended.setdefault(path, []).append(_appended(item, first + k, score))
        return counters, appended


def _understood(loop: ast.For, scope: Scope, functions: Functions, items: Items) -> tuple[Trace, Plan | Repetition]:
    """Interpret one iteration, and find the plan that computes what it does.

    If that fails, and the iterations are mere numbers, each of them may take all samples.
    """
    trained: set[Path] = set()
    try:
        trace = _trace(loop, scope, functions, items)
        trained = set(collect(trace, scope)[0])
        return trace, _plan(trace, scope)
    except Refused as refusal:
        if not items.is_counting:
            raise
        try:
            trace = _trace_of_all_rows(loop, scope, functions, items, trained)
        except Refused:  # no, it does not: the reason is the first one
            raise refusal from None
        return trace, recognise(trace, scope)


def _plan(trace: Trace, scope: Scope) -> Plan | Repetition:
    try:
        return recognise(trace, scope)
    except Refused as refusal:
        try:
            return recognise_repetition(trace, scope)
        except Refused:
            raise refusal from None


def _trace_of_all_rows(loop: ast.For, scope: Scope, functions: Functions, items: Items, trained: set[Path]) -> Trace:
    """Interpret one iteration that takes all rows of its data, which is all that it leaves unchanged.

    `trained` are arrays that it is known to change.
    """
    while True:
        trace = _trace(loop, scope, functions, items, trained)
        changed = set(collect(trace, scope)[0])
        if not changed - trained:
            return trace
        trained |= changed


def _train_or_evaluate(
    plan: Plan, scope: Scope, first: int, last: int, trained: dict[Path, NDArray[Any]], packed: Packed | None
) -> list[_Scores]:
    """Call the kernels; `trained` are the arrays to train, none for an evaluation.

    Returns the scores before the updates and, if the plan needs them, those after.
    """
    from fastmnist import scripts

    held = trained or {path: scope.resolve(path) for path in plan.arrays()}
    weights, biases = _layers(plan, held)
    inputs = inputs_of(plan, scope, first, last)
    images = inputs.packed(scope) if packed is None else packed
    targets = _some(scope, plan.targets, first, last)
    _check_targets(plan, targets, None if plan.labels is None else _some(scope, plan.labels, first, last))
    activations = [layer.activation for layer in plan.layers]
    network: dict[str, Any] = {"activation": activations[:-1], "output": activations[-1]}
    shares = activations[-1] == "softmax"
    if plan.training is None and shares:
        return [_Scores(_score(scripts.predict(images, weights, biases, **network), targets, plan), [])]
    if plan.training is None:
        return [_Scores(_Score(*scripts.evaluate(images, targets, weights, biases, **network)), [])]
    stream = None if plan.stream is None else scope.resolve(plan.stream)
    order = scope.numbers(plan.images.path, plan.images.of(first, last)) if inputs.are_whole else None
    truths = targets + _TRACE_OF_A_TARGET if shares else targets
    if order is not None:
        truths = _spread(truths, order, len(images))
    takes_all = plan.images.same
    passes = 2 if plan.scores_after and not takes_all else 1
    if passes > 1:
        # Each batch twice, the second time at a rate of 0: it scores what the first one has updated.
        batches = np.arange(len(images)) if order is None else order
        order = np.repeat(batches.reshape(-1, plan.images.count), passes, axis=0).reshape(-1)
    if plan.momentum is not None:
        # What the kernels take and leave is what a step adds to the weights.
        for velocity, factor in plan.momentum.velocities.values():
            held[velocity] *= factor
        network["optimizer"] = Optimizer(plan.momentum.rule, decay_1=plan.momentum.share)
        network["velocities"] = _layers(plan, {path: held[v] for path, (v, _) in plan.momentum.velocities.items()})
    prepared = scripts.prepare(
        images, truths, weights, biases, None,
        **network, **plan.training, rng=stream, drop_last=False, order=order,
    )  # fmt: skip
    if shares:
        truth = prepared.settings["truth"]
        prepared.settings["truth"] = truth._replace(logarithm=plan.logarithm or Logarithm(), threshold=_LEAST_SHARE)
    if passes > 1:
        prepared.settings["rates"][1::passes] = 0
    # Where each iteration takes all samples, scores after an update are those before the next.
    steps = passes * (last - first) + (takes_all and plan.scores_after)
    each = np.empty((steps, 5)) if plan.appended or takes_all or passes > 1 else None
    if takes_all and each is not None:
        totals = _train_one_by_one(plan, prepared, held, each, last - first)
    else:
        prepared.settings["each"] = each
        totals = prepared.run(None)
    if plan.momentum is not None:
        for velocity, factor in plan.momentum.velocities.values():
            held[velocity] /= factor
    if shares and totals.right_side != targets.size * (steps if takes_all else passes):
        raise Refused("softmax leaves the range of its exponentials")
    n = plan.images.count
    if each is None:
        _require_digits(plan, totals.entropy, len(targets))
        return [_Scores(_Score(totals.squared, totals.correct, totals.entropy, totals.penalty / n), [])]
    scores = [
        _Score(squared, int(correct), entropy, penalty / n) for squared, entropy, correct, _, penalty in each.tolist()
    ]
    _require_digits(plan, min(one.entropy for one in scores), n)
    if takes_all:
        return [_scores(scores[: last - first]), _scores(scores[steps - (last - first) :])]
    return [_scores(scores[k::passes]) for k in range(passes)]


def _train_one_by_one(
    plan: Plan, prepared: Prepared, trained: dict[Path, NDArray[Any]], each: NDArray[np.float64], n: int
) -> Totals:
    """Train for n steps that take all samples; `each` gets the scores of each, and of one more if it has the room."""
    from fastmnist.engine import Totals

    seconds = []
    for k in range(len(each)):
        started = time.perf_counter()
        before = {path: trained[path].copy() for path in plan.shared}
        prepared.settings["each"] = each[k : k + 1]
        if k == n:
            prepared.settings["rates"][:] = 0
        prepared.run(None, last=k + 1 == len(each))
        for path, biases in before.items():
            trained[path][...] = biases + np.sum(trained[path] - biases)
        seconds.append(time.perf_counter() - started)
    plan.seconds_each = min(seconds)
    squared, entropy, correct, right_side, penalty = each.sum(axis=0).tolist()
    return Totals(squared, entropy, int(correct), int(right_side), penalty)


def _layers(plan: Plan, arrays: dict[Path, NDArray[Any]]) -> tuple[list[NDArray[Any]], list[NDArray[Any]] | None]:
    """Return weights as (I, O), and biases, of arrays of the program."""
    weights = [arrays[layer.weights].T if layer.flipped else arrays[layer.weights] for layer in plan.layers]
    biases = [arrays[layer.biases].reshape(-1) for layer in plan.layers if layer.biases is not None]
    return weights, biases or None


def _scores(each: list[_Score]) -> _Scores:
    error, correct, entropy, penalty = map(sum, zip(*each, strict=True))
    return _Scores(_Score(error, correct, entropy, penalty), each)


def _check_targets(plan: Plan, targets: NDArray[Any], labels: NDArray[Any] | None) -> None:
    """Refuse targets that are not what the counters need."""
    if labels is not None:
        truth = targets if targets.ndim == 1 else np.argmax(targets, axis=1)
        if not np.array_equal(truth, labels):
            raise Refused("predictions are compared with other labels than those trained on")
    if plan.one_hot and not ((np.count_nonzero(targets, axis=1) == 1) & (targets.max(axis=1) == 1)).all():
        raise Refused("logarithms of one output for each sample are counted, but the targets are not one-hot")


def _score(outputs: NDArray[Any], targets: NDArray[Any], plan: Plan) -> _Score:
    """Return the score of shares, for targets that are class numbers or vectors."""
    if not outputs.min() > _LEAST_SHARE:
        raise Refused("softmax leaves the range of its exponentials")
    n, n_out = outputs.shape
    if targets.ndim == 1:
        if targets.dtype.kind not in "iu" or targets.min() < 0 or targets.max() >= n_out:
            raise Refused("the labels are not class numbers")
        targets = np.eye(n_out)[targets]
    logarithm = plan.logarithm or Logarithm()
    logs = np.log(np.clip(outputs, logarithm.floor, logarithm.ceiling) + logarithm.offset)
    entropy = -float(np.sum(targets * logs))
    _require_digits(plan, entropy, n)
    correct = np.argmax(outputs, axis=1) == np.argmax(targets, axis=1)
    return _Score(float(np.sum((outputs - targets) ** 2)), int(np.sum(correct)), entropy)


def _require_digits(plan: Plan, entropy: float, n: int) -> None:
    # Above 1, p + offset has a logarithm of the other sign: an entropy above n times the offset is no small difference
    # of large sums.
    if plan.logarithm is not None and not entropy > max(_LEAST_ENTROPY, plan.logarithm.offset) * n:
        raise Refused("the entropy is too small for its digits to be the program's")


def inputs_of(plan: Plan, scope: Scope, first: int, last: int) -> Inputs:
    """Return where the images of iterations `first` to `last` - 1 are."""
    rows = plan.images.of(first, last)
    if plan.training is not None:
        path = scope.gathered_from(plan.images.path)
        if path is not None and rows.stop - rows.start >= _WHOLE_FROM * scope.count_rows(path):
            return Inputs(path, slice(None), True)
    return Inputs(plan.images.path, rows)


def _spread(targets: NDArray[Any], order: NDArray[np.int64], n: int) -> NDArray[Any]:
    """Return targets that are to be taken in an order, so that they become these."""
    spread = np.zeros((n, *targets.shape[1:]), targets.dtype)
    spread[order] = targets
    if not np.array_equal(spread[order], targets):
        raise Refused("a sample comes twice, with different targets")
    return spread


def _counted(counter: Counter, value: Any, score: _Score, n: int) -> Any:
    kind: Any = counter.kind
    if issubclass(kind, int | np.integer):
        return kind(value + round(counter.correct) * score.correct + round(counter.each) * n)
    errors = counter.error * score.error + counter.entropy * score.entropy + counter.penalty * score.penalty
    return kind(value + errors + counter.correct * score.correct + counter.each * n)


def _appended(item: Appended, k: int, score: _Score) -> Any:
    if item.counter is not None:
        return _counted(item.counter, 0, score, 1)
    slope, start = item.affine
    return slope * k + start if slope else item.plain


def _trace(loop: ast.For, scope: Scope, functions: Functions, items: Items, trained: set[Path] | None = None) -> Trace:
    """Interpret one iteration, until it is known which numbers change from one to the next."""
    # A guess that saves a second interpretation: the first finds what is missing here, and what does not change.
    carried: set[Path] = {
        ("name", node.target.id)
        for node in ast.walk(loop)
        if isinstance(node, ast.AugAssign)
        and isinstance(node.op, ast.Add | ast.Sub)
        and isinstance(node.target, ast.Name)
        and type(scope.resolve(("name", node.target.id))) in (int, float, np.float64, np.int64)
    }
    guessed = True
    while True:
        interpreter = Interpreter(scope, functions, carried, len(items), trained)
        interpreter.assign(loop.target, items.value(interpreter))
        interpreter.run(loop.body)
        trace = interpreter.trace
        changed = {
            place
            for place in trace.bindings
            if place in trace.reads and isinstance(trace.reads[place], int | float | np.integer)
        }
        if changed == carried or (changed < carried and not guessed):
            return trace
        carried, guessed = (changed if guessed else carried | changed), False


def _is_read_later(trace: Trace, plan: Plan | Repetition) -> bool:
    """Whether unusual branches may read what the iteration before has left behind, other than what is trained."""
    kept = {*plan.rebound, *(counter.path for counter in plan.counters)}
    left = {
        place
        for place, value in trace.bindings.items()
        if place not in kept and value is not trace.arrays.get(id(trace.reads.get(place)))
    }
    return any(left - before for before in trace.set_before)


def _fingerprint(value: Any) -> Any:
    """Return what must stay the same for a recognition to hold."""
    if type(value) is np.ndarray:
        return (value.shape, value.dtype, value.strides)
    if isinstance(value, _PLAIN):
        return (type(value), value)
    if isinstance(value, dict):
        return (type(value), tuple(value))
    if isinstance(value, list | tuple):
        return (type(value), len(value))
    if isinstance(value, types.FunctionType):
        return (value, value.__code__, value.__defaults__)
    if isinstance(value, types.MethodType):
        return (value.__func__, getattr(value.__func__, "__code__", None), id(value.__self__))
    if isinstance(value, types.ModuleType | types.BuiltinFunctionType | np.ufunc | type) or value is MISSING:
        return value
    if callable(value):
        return (type(value), id(value))
    return type(value)


def _stream(scope: Scope, path: Path | None) -> Any:
    return np.random.mtrand._rand if path is None else scope.resolve(path)


def _some(scope: Scope, rows: Rows, first: int, last: int) -> NDArray[Any]:
    """Rows of the data that iterations `first` to `last` - 1 take."""
    some: NDArray[Any] = scope.rows(rows.path, rows.of(first, last))
    return some


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    return bool(np.array_equal(a, b))
