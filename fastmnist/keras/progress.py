"""The lines that training prints: Keras's, but without control characters where the output is not a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

_CELLS = 20
_INTERVAL = 0.05  # seconds between two updates of the bar, as in Keras


def is_live() -> bool:
    """Whether a line that has been printed can be printed over: on terminals and in notebooks."""
    return sys.stdout.isatty() or "ipykernel" in sys.modules


def say(message: str, beside_bar: bool = True) -> None:
    """Print a callback's message; below the bar where one may be shown."""
    sys.stdout.write(("\n" if beside_bar and is_live() else "") + message + "\n")
    sys.stdout.flush()


class Progress:
    """The progress of one epoch, or of one evaluation.

    Parameters
    ----------
    verbose : {"auto", 0, 1, 2}
        Nothing, a bar, or a line at the end; "auto" is 1.
    steps : int
        Batches to come.
    title : str, optional
        A line before the others.
    """

    def __init__(self, verbose: int | str, steps: int, title: str = "") -> None:
        self.verbose = 1 if verbose == "auto" else int(verbose)
        self.steps = steps
        self._live = self.verbose == 1 and is_live()
        self._started = self._shown = time.perf_counter()
        self._width = 0
        if self.verbose and title:
            self._write(title + "\n")

    def update(self, done: int) -> None:
        """Move the bar to `done` batches."""
        now = time.perf_counter()
        if self._live and now - self._shown >= _INTERVAL and done < self.steps:
            self._shown = now
            left = (now - self._started) / max(done, 1) * (self.steps - done)
            self._draw(f"{self._bar(done)} {_bold(_clock(left))}{self._pace(now, done)}")

    def finish(self, logs: Mapping[str, float]) -> None:
        """Print the last line, with the results."""
        if not self.verbose:
            return
        now = time.perf_counter()
        results = "".join(f" - {name}: {_number(value)}" for name, value in logs.items())
        pace, seconds = self._pace(now, self.steps), f"{now - self._started:.0f}s"
        if self.verbose == 2:
            self._write(f"{self.steps}/{self.steps} - {seconds} -{pace}{results}\n")
        elif self._live:
            self._draw(f"{self._bar(self.steps)} {_bold(seconds)}{pace}{results}")
            self._write("\n")
        else:
            self._write(f"{self.steps}/{self.steps} {'━' * _CELLS} {seconds}{pace}{results}\n")

    def _bar(self, done: int) -> str:
        filled = _CELLS * done // self.steps
        count = _bold(f"{done:{len(str(self.steps))}}/{self.steps}")
        return f"{count} \x1b[32m{'━' * filled}\x1b[0m\x1b[37m{'━' * (_CELLS - filled)}\x1b[0m"

    def _pace(self, now: float, done: int) -> str:
        seconds = (now - self._started) / max(done, 1)
        if seconds >= 1:
            return f" {seconds:.0f}s/step"
        return f" {seconds * 1e3:.0f}ms/step" if seconds >= 1e-3 else f" {seconds * 1e6:.0f}us/step"

    def _draw(self, line: str) -> None:
        blanks = " " * max(0, self._width - len(line))
        self._write(f"\r{line}{blanks}")
        self._width = len(line)

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


def _bold(text: str) -> str:
    return f"\x1b[1m{text}\x1b[0m"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}" if minutes else f"{rest}s"


def _number(value: float) -> str:
    return f"{value:.4f}" if abs(value) > 1e-3 else f"{value:.4e}"
