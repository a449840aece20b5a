"""What the rewritten program calls: decide at each entry of a loop, verify, run the kernel, keep a record."""

from __future__ import annotations

import ast
import math
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
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
_GIVE_UP, _GIVE_UP_SHORT = 3, 100
# What never is, or makes, a generator.
_PLAIN = (range, list, tuple, zip, dict, set, str)
# Spans between unusual iterations after which it is looked at whether they are worth it.
_TRIAL = 32
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
    too_short: int = 0
    spans: int = 0  # between unusual iterations, and what they took in all
    spent: float = 0.0

    def note_iteration(self, seconds: float) -> None:
        """Take what an iteration took as written. The least counts: the first ones start threads and fill caches."""
        self.per_iteration = min(seconds, self.per_iteration or seconds)

    @property
    def saved(self) -> float:
        """Seconds, against an estimate from the iterations that ran as written."""
        return max(0.0, self.iterations * self.per_iteration - self.seconds)


@dataclass
class _Run:
    """One pass through a loop.

    `spans` are what kernels can do. `done` iterations are; those from `verified_from` on are to be compared. `handed`
    items are iterated over as written, the last ones where `is_last`; `is_pending` until the program has asked for
    more of them than there are.
    """

    record: Record
    items: Items
    replacement: Replacement
    spans: list[tuple[int, int]]
    done: int = 0
    verified_from: int | None = None
    handed: Iterable[Any] = ()
    is_pending: bool = False
    is_last: bool = False
    is_replaced: bool = False
    quickest: float = math.inf  # seconds of an iteration as written
    values: dict[str, Any] = field(default_factory=dict)

    def span(self) -> tuple[int, int]:
        """Return the next iterations that kernels can do; none, at the end, if there are no more."""
        n = len(self.items)
        return next(((max(a, self.done), b) for a, b in self.spans if b > self.done), (n, n))

    def hand_out(self, until: int) -> None:
        """Let the iterations before `until` run as written."""
        self.is_pending = self.done < until
        self.is_last = until == len(self.items)
        # A list may have grown, or have shrunk.
        count = None if self.is_last else until - self.done
        self.handed = self._timed(count) if self.is_pending else ()

    def leave(self) -> None:
        """Let go of what the loop has run over, as it would."""
        self.handed = ()
        self.items.release()

    def _timed(self, count: int | None) -> Iterator[Any]:
        # A loop around others is not what it was as written where those are replaced.
        compared = self.verified_from is not None
        began = now = time.perf_counter()
        for item in islice(self.items, count):
            self.done += 1
            yield item
            started, now = now, time.perf_counter()
            if compared or not self.record.loop.inside:
                self.record.note_iteration(now - started)
                self.quickest = min(self.quickest, now - started)
            if compared and now - began > _SLOW:
                break
        self.is_pending = False


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
        record, frame = self.records[number], sys._getframe(1)
        self._runs.pop((number, id(frame)), None)
        if number in self._as_written or not self.active:
            return items
        self._as_written -= {loop.number for loop in record.loop.inside}  # left over where a loop was left early
        run = None
        if not self._is_given_up(record):
            items = self._opened(record, items, frame)
            run = self._begin(record, items, frame)
        if run is None:
            self._packings.forget(record.loop.outer)
            return items
        self._runs[number, id(frame)] = run
        if run.replacement.has_unusual(len(run.items)):  # anything may happen in these iterations
            self._packings.forget(record.loop.outer)
        run.hand_out(run.span()[0])
        return run.handed

    @staticmethod
    def _is_given_up(record: Record) -> bool:
        hopeless = record.too_short >= _GIVE_UP_SHORT or record.in_a_row >= _GIVE_UP
        return hopeless or "numpy" not in sys.modules

    def _opened(self, record: Record, items: Any, frame: FrameType) -> Any:
        """Return what the loop is to run over: a generator that has handed out an item, if one is understood."""
        if type(items) in _PLAIN:
            return items
        from fastmnist.accel.generated import opened

        assert isinstance(record.loop.node, ast.For)
        return opened(items, record.loop.node.iter, frame, self._functions)

    def _begin(self, record: Record, items: Any, frame: FrameType) -> _Run | None:
        if type(items) in (range, list, tuple) and len(items) < _SHORTEST:
            return None
        try:
            return self._prepare(record, items, frame)
        except Refused as refusal:
            self._refuse(record, refusal.reason, refusal.line)
            return None
        except Exception as error:  # whatever goes wrong here, the program itself may well go on
            if _is_from_a_signal(error):
                raise
            self._refuse(record, f"it could not be analysed ({type(error).__name__}: {error})", 0)
            return None

    def middle(self, number: int) -> bool:
        """Run the kernel, or have iterations run as written first; return False where all of them are done."""
        frame = sys._getframe(1)
        run = self._runs.get((number, id(frame)))
        if run is None:
            return False
        if run.is_pending or run.is_last:
            del self._runs[number, id(frame)]
            run.leave()
            return False
        run.values.clear()
        record = run.record
        try:
            self._advance(run, frame)
        except Exception as error:  # the data may be such that the program itself stops, in an iteration to come
            if _is_from_a_signal(error):
                raise
            refused = error if isinstance(error, Refused) else Refused(f"{type(error).__name__}: {error}")
            self._refuse(record, refused.reason, refused.line)
            self._known.pop(number, None)
            self._packings.forget(record.loop.outer)
            run.verified_from = None
            run.hand_out(len(run.items))
        return True

    def _advance(self, run: _Run, frame: FrameType) -> None:
        """Run the kernel over the next span, unless other iterations have to run as written before."""
        began = time.perf_counter() - _compiling()
        record, inside = run.record, {loop.number for loop in run.record.loop.inside}
        scope = _scope(frame, run.items)
        first = run.verified_from
        run.verified_from = None
        if first is not None:
            self._as_written -= inside
            record.difference = run.replacement.verify(scope, first, run.done)
            record.verified = run.done - first
        elif run.done:
            run.items.look_again()
            run.replacement = self._replacement(record, scope, run.items)
            run.spans = run.replacement.spans(len(run.items), _SHORTEST - 1)
        replacement, (begin, end) = run.replacement, run.span()
        if record.spans >= _TRIAL and record.spent > record.iterations * record.per_iteration:
            record.in_a_row = _GIVE_UP
            raise Refused("the kernels take longer over so few iterations at a time than the program")
        if run.is_replaced and replacement.seconds_each > run.quickest:
            raise Refused("the kernels take longer over so few samples than the program")
        if begin > run.done:
            run.hand_out(begin)
            return
        if first is None:
            replacement.check(scope, run.items, begin, end)
        if first is None and not replacement.verified:
            replacement.remember(scope)
            run.verified_from = begin
            run.hand_out(begin + min(self.verify, end - begin - 1))
            self._as_written |= inside
            return
        started = time.perf_counter()
        packed = None
        if not replacement.has_unusual(len(run.items)):
            packed = self._packings.images(record.loop, replacement, scope, begin, end)
        values = replacement.execute(scope, begin, end, packed)
        record.seconds += time.perf_counter() - started
        self._packings.note_changed([scope.resolve(path) for path in replacement.trained])
        replacement.verified = True
        for place, value in values.items():
            self._store(scope, run, place, value)
        run.items.skip_to(end)
        run.done = end
        run.hand_out(run.span()[0])
        record.in_a_row = 0
        record.iterations += end - begin
        record.entries += not run.is_replaced
        record.description = replacement.plan.describe()
        if not run.is_replaced:
            self.say(1 if record.entries == 1 else 2, f"{record.loop.where}: accelerated: {record.description}")
        run.is_replaced = True
        if replacement.has_unusual(len(run.items)):
            record.spans += 1
            record.spent += time.perf_counter() - _compiling() - began

    def outer(self, number: int, items: Any) -> Any:
        """Note that a loop around others begins."""
        self._packings.begin(number, items)
        return items

    def next(self, number: int) -> Iterable[Any]:
        """Return what the program's own loop is to run next."""
        return self._runs[number, id(sys._getframe(1))].handed

    def sets(self, number: int, name: str) -> bool:
        """Whether a local variable gets a new value."""
        return name in self._runs[number, id(sys._getframe(1))].values

    def value(self, number: int, name: str) -> Any:
        """Return the new value of a local variable."""
        return self._runs[number, id(sys._getframe(1))].values[name]

    def _prepare(self, record: Record, iterable: Any, frame: FrameType) -> _Run | None:
        from fastmnist.accel.iterables import Items

        items = Items(iterable)
        if len(items) < _SHORTEST:
            record.too_short += 1
            return None
        replacement = self._replacement(record, _scope(frame, items), items)
        spans = replacement.spans(len(items), _SHORTEST - 1)
        if not spans:
            raise Refused(f"nowhere {_SHORTEST} iterations in a row take the same branches", record.loop.line)
        return _Run(record, items, replacement, spans)

    def _replacement(self, record: Record, scope: Scope, items: Items) -> Replacement:
        """Return how to replace a loop, as it was found before if that still holds."""
        import numpy as np

        from fastmnist.accel.replace import Replacement

        number, node = record.loop.number, record.loop.node
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
        return known

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


def _is_from_a_signal(error: Exception) -> bool:
    """Whether a handler of the program's has raised this, as one that sets a limit to the time."""
    handlers = {getattr(signal.getsignal(number), "__code__", None) for number in signal.valid_signals()}
    return any(frame.f_code in handlers for frame, _ in traceback.walk_tb(error.__traceback__))


def _compiling() -> float:
    """Seconds that this process has spent on compiling kernels."""
    from fastmnist import engine

    return engine.compile_seconds()


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
    return Scope(frame, items.source)
