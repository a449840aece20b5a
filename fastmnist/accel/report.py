"""What is said on stderr: one line at the end, and more on request."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastmnist.accel.rewrite import Loop

if TYPE_CHECKING:
    from fastmnist.accel.hooks import Record


class Report:
    """Says what happened.

    Parameters
    ----------
    verbose : int
        0: one line at the end; 1: a line for each loop; 2: a line for each pass through a loop.
    profile : bool
        Whether to end with a table.
    """

    def __init__(self, verbose: int, profile: bool) -> None:
        self._verbose = verbose
        self._profile = profile

    def say(self, level: int, text: str) -> None:
        """Print a line, if so much is wanted."""
        if level <= self._verbose:
            _print(text)

    def explain(self, loops: Sequence[Loop]) -> None:
        """Say before running what may be replaced, and what certainly will not."""
        for loop in (loop for loop in loops if loop.multiplies):
            if loop.refused is None:
                words = "will be replaced if its values are those of a dense network's training or evaluation"
            else:
                words = f"runs as written: {loop.refused} (line {loop.refused_line})"
            _print(f"{loop.where}: {words}")

    def finish(self, records: Sequence[Record], models: Sequence[str], keras_at_work: bool, verify: bool) -> list[str]:
        """Print the summary; return a line for each loop that was worth replacing and was not."""
        for line in models:
            _print(line)
        done = [r for r in records if r.entries]
        refused = [
            f"{r.loop.where}: runs as written: {r.refusal or r.loop.refused} "
            f"(line {r.refusal_line or r.loop.refused_line})"
            for r in records
            if _is_missed(r, records)
        ]
        if self._verbose:
            for line in (line for r, line in _lines(records) if r.loop.refused is not None and line in refused):
                _print(line)
        if verify:
            for r in done:
                _print(f"{r.loop.where}: {r.verified} iterations both ways: largest difference {r.difference:.1e}")
        if self._profile and done:
            _table(done)
        if done:
            n, lines = len(done), ", ".join(str(r.loop.line) for r in done)
            saved = sum(r.saved for r in done)
            _print(f"{n} loop{'s' * (n > 1)} accelerated (line{'s' * (n > 1)} {lines}), about {saved:.1f} s saved")
        elif refused and not keras_at_work:
            _print("no loop was accelerated; -v says why")
        return refused


def _lines(records: Sequence[Record]) -> list[tuple[Record, str]]:
    return [
        (
            r,
            f"{r.loop.where}: runs as written: {r.refusal or r.loop.refused} "
            f"(line {r.refusal_line or r.loop.refused_line})",
        )
        for r in records
    ]


def _is_missed(record: Record, records: Sequence[Record]) -> bool:
    """Whether a loop was worth replacing, was not, and no loop inside or around it was."""
    loop = record.loop
    if record.entries or not loop.multiplies or not (loop.refused or record.refusal):
        return False
    inner = [r for r in records if _is_inside(r.loop, loop) and r.loop.multiplies]
    outer = [r for r in records if _is_inside(loop, r.loop)]
    return not any(r.entries for r in inner + outer) and not (inner and loop.refused)


def _is_inside(inner: Loop, outer: Loop) -> bool:
    """Whether a loop is part of another, or of a function that it calls."""
    return inner in outer.inside or not outer.calls.isdisjoint(inner.within)


def _table(records: Sequence[Record]) -> None:
    _print(f"{'line':>6} {'passes':>7} {'iterations':>11} {'seconds':>9} {'as written':>11}  what")
    for r in records:
        estimate = r.iterations * r.per_iteration
        _print(
            f"{r.loop.line:>6} {r.entries:>7} {r.iterations:>11} {r.seconds:>9.3f} {estimate:>11.3f}  {r.description}"
        )


def _print(text: str) -> None:
    sys.stderr.write(f"[fastmnist] {text}\n")
    sys.stderr.flush()
