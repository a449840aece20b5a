"""What the rewritten program calls: decide at each entry of a loop, verify, run the kernel, keep a record."""

from __future__ import annotations

import ast
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Any

from fastmnist.accel.packings import Packings
from fastmnist.accel.program import Functions, Path, Refused, Scope
from fastmnist.accel.rewrite import Loop, rewrite

if TYPE_CHECKING:
    from fastmnist.accel.iterables import Items
    from fastmnist.accel.replace import Replacement

# Loops this short are not worth a look, and after so many refusals in a row no other is expected.
_SHORTEST = 6
_GIVE_UP = 3
# Seconds of verification after which no further iteration is begun.
_SLOW = 0.2
# Iterations that are run both ways before a loop is replaced: they give the time per iteration, too.
ALWAYS, ON_REQUEST = 2, 20


@dataclass
class Record:
    """What has become of one loop."""

    loop: Loop
    description: str = ""
    iterations: int = 0
    entries: int = 0
    seconds: float = 0.0
    per_iteration: float = 0.0
    difference: float = 0.0
    verified: int = 0
    refusal: str = ""
    refusal_line: int = 0
    refused_entries: int = 0
    in_a_row: int = 0

    def note_iteration(self, seconds: float) -> None:
        """Take what an iteration took as written. The least counts: the first ones start threads and fill caches."""
        self.per_iteration = min(seconds, self.per_iteration or seconds)

    @property
    def saved(self) -> float:
        """Seconds, against an estimate from the iterations that ran as written."""
        return max(0.0, self.iterations * self.per_iteration - self.seconds)


@dataclass
class _Run:
    """One pass through a loop."""

    record: Record
    items: Items
    head: int
    replacement: Replacement
    stamps: list[float] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    tail: Iterable[Any] = ()

    def timed(self) -> Iterator[Any]:
        """Yield the first iterations, and note the time at each."""
        self.stamps.append(time.perf_counter())
        while len(self.stamps) <= self.head and self.stamps[-1] - self.stamps[0] <= _SLOW:
            yield self.items.take()
            self.stamps.append(time.perf_counter())
        self.head = len(self.stamps) - 1

    def timed_tail(self, items: Iterator[Any]) -> Iterator[Any]:
        """Yield the last iteration, and note its time."""
        for item in items:
            started = time.perf_counter()
            yield item
            self.record.note_iteration(time.perf_counter() - started)


class Hooks:
    """The object behind ``__fastmnist__``.

    Attributes
    ----------
    records : list of Record
        What has become of each loop.
    active : bool
        Whether loops are replaced; else they all run as written.
    verify, say
        As given.

    Parameters
    ----------
    verify : int
        Iterations that are run both ways when a loop is first replaced.
    say : callable
        Takes the lines of a verbose report: level, text.
    """

    def __init__(self, verify: int, say: Callable[[int, str], None]) -> None:
        self.records: list[Record] = []
        self.active = True
        self._packings = Packings()
        self._functions = Functions()
        self._n_outers = 0
        self.verify = verify
        self.say = say
        self._runs: dict[tuple[int, int], _Run] = {}
        self._known: dict[int, Replacement] = {}
        self._as_written: set[int] = set()  # loops within iterations that are timed and compared

    def rewrite(self, tree: ast.Module, filename: str, shown: str) -> ast.Module:
        """Return a source's tree with calls of these hooks; `shown` is its name in reports."""
        rewritten, loops, outers = rewrite(tree, shown, len(self.records), self._n_outers)
        self.records += map(Record, loops)
        self._n_outers += len(outers)
        self._packings.add(loops, outers)
        self._functions.add(tree, filename)
        return rewritten

    def first(self, number: int, items: Any) -> Any:
        """Return what the program's own loop is to run before the kernel: everything, if it is to do it all."""
        record = self.records[number]
        if number in self._as_written or not self.active:
            return items
        run = self._begin(record, items, sys._getframe(1))
        if run is None:
            self._packings.forget(record.loop.outer)
            return items
        return run.timed() if run.head else ()

    def _begin(self, record: Record, items: Any, frame: FrameType) -> _Run | None:
        number = record.loop.number
        too_short = type(items) is range and len(items) < _SHORTEST
        if too_short or record.in_a_row >= _GIVE_UP or "numpy" not in sys.modules:
            return None
        self._runs.pop((number, id(frame)), None)
        try:
            run = self._prepare(record, items, frame)
        except Refused as refusal:
            self._refuse(record, refusal.reason, refusal.line)
            return None
        except Exception as error:  # whatever goes wrong here, the program itself may well go on
            self._refuse(record, f"it could not be analysed ({type(error).__name__}: {error})", 0)
            return None
        if run is not None:
            self._runs[number, id(frame)] = run
            if run.head:
                self._as_written |= {loop.number for loop in record.loop.inside}
        return run

    def middle(self, number: int) -> None:
        """Run the kernel."""
        frame = sys._getframe(1)
        run = self._runs.get((number, id(frame)))
        if run is None:
            return
        record, replacement = run.record, run.replacement
        self._as_written -= {loop.number for loop in record.loop.inside}
        scope = _scope(frame, run.items)
        run.tail = iter(run.items)
        n = len(run.items)
        try:
            if run.head:
                record.note_iteration(min(b - a for a, b in zip(run.stamps, run.stamps[1:], strict=False)))
                record.difference = replacement.verify(scope, run.head)
                record.verified = run.head
            started = time.perf_counter()
            packed = self._packings.images(record.loop, replacement, scope, run.head, n - 1)
            values = replacement.execute(scope, run.head, n - 1, packed)
            record.seconds += time.perf_counter() - started
        except Exception as error:  # the data may be such that the program itself stops, in an iteration to come
            refused = error if isinstance(error, Refused) else Refused(f"{type(error).__name__}: {error}")
            self._refuse(record, refused.reason, refused.line)
            self._known.pop(number, None)
            self._packings.forget(record.loop.outer)
            return
        self._packings.note_changed([scope.resolve(path) for path in replacement.trained])
        replacement.verified = True
        for place, value in values.items():
            self._store(scope, run, place, value)
        run.items.skip_to(n - 1)
        # A loop around others is not what it was as written: those are replaced in its last iteration.
        run.tail = iter(run.items) if record.loop.inside else run.timed_tail(iter(run.items))
        record.in_a_row = 0
        record.entries += 1
        record.iterations += n - 1 - run.head
        record.description = replacement.plan.describe()
        self.say(1 if record.entries == 1 else 2, f"{record.loop.where}: accelerated: {record.description}")

    def outer(self, number: int, items: Any) -> Any:
        """Note that a loop around others begins."""
        self._packings.begin(number, items)
        return items

    def last(self, number: int) -> Iterable[Any]:
        """Return what the program's own loop is to run after the kernel."""
        run = self._runs.pop((number, id(sys._getframe(1))), None)
        return () if run is None else run.tail

    def sets(self, number: int, name: str) -> bool:
        """Whether a local variable gets a new value."""
        run = self._runs.get((number, id(sys._getframe(1))))
        return run is not None and name in run.values

    def value(self, number: int, name: str) -> Any:
        """Return the new value of a local variable."""
        return self._runs[number, id(sys._getframe(1))].values[name]

    def _prepare(self, record: Record, iterable: Any, frame: FrameType) -> _Run | None:
        import numpy as np

        from fastmnist.accel.iterables import Items
        from fastmnist.accel.replace import Replacement

        items = Items(iterable)
        if len(items) < _SHORTEST:
            return None
        number, scope = record.loop.number, _scope(frame, items)
        node = record.loop.node
        assert isinstance(node, ast.For)
        modes = {*np.geterr().values()} - {"ignore", "warn"} or ({"raise"} if _warnings_are_errors() else set())
        if modes:
            raise Refused(
                f"NumPy is to {modes.pop()} on floating-point errors, which the kernels do not notice", record.loop.line
            )
        if not all(isinstance(part, ast.Name | ast.Tuple | ast.expr_context) for part in ast.walk(node.target)):
            raise Refused("the loop's variables are not names", record.loop.line)
        known = self._known.get(number)
        if known is None or not known.fits(scope, items):
            known = Replacement(node, scope, self._functions, items)
            self._known[number] = known
        known.check(scope, len(items))
        head = 0 if known.verified else min(self.verify, len(items) - 2)
        if head:
            known.remember(scope)
        return _Run(record, items, head, known)

    def _store(self, scope: Scope, run: _Run, place: Path, value: Any) -> None:
        if place[0] == "name":
            if scope.at_top:
                scope.module[place[1]] = value
            else:
                run.values[place[1]] = value
        elif place[0] == "attr":
            setattr(scope.resolve(place[1]), place[2], value)
        else:
            scope.resolve(place[1])[place[2]] = value

    def _refuse(self, record: Record, reason: str, line: int) -> None:
        record.in_a_row += 1
        record.refused_entries += 1
        record.refusal, record.refusal_line = reason, line or record.loop.line
        level = 1 if record.refused_entries == 1 and record.loop.multiplies else 2
        self.say(level, f"{record.loop.where}: runs as written: {reason} (line {record.refusal_line})")


def _warnings_are_errors() -> bool:
    """Whether a `RuntimeWarning` may be raised: the first filter that fits decides."""
    for action, message, category, module, line in warnings.filters:
        if issubclass(RuntimeWarning, category):
            if action == "error":
                return True
            if message is None and module is None and not line:
                return False
    return False


def _scope(frame: FrameType, items: Items) -> Scope:
    return Scope(frame.f_locals, frame.f_globals, items.arrays)
