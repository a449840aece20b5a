"""``fastmnist reproduce``: the four original programs, and whether their printed figures come out again."""

import functools
import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from fastmnist import data, engine, scripts
from fastmnist.commands import UserError
from fastmnist.commands.figures import FIGURES
from fastmnist.notice import compile_notice

_REMARKS = {
    True: "(agrees)",
    False: "(DIFFERS)",
    None: "(no figure to compare with)",
}

_Sum = Literal["train_error", "train_correct", "test_error", "test_correct"]


@dataclass(frozen=True)
class Row:
    """One original program: 784 inputs, one hidden layer, 10 linear outputs, squared error, float64."""

    images: int
    hidden: int
    learning_rate: float
    epochs: int
    headings: tuple[_Sum, _Sum, _Sum, _Sum]
    """What is printed under the four headings. The first two are divided by the number of training images,
    the others by the number of test images, whichever images the sum was taken over."""
    batch_size: int = 1
    dropout: float = 0.0
    updates_per_batch: int = 1
    prints_last: bool = True
    """Every tenth epoch is printed; this is whether the last one is as well."""


ROWS = {
    "A": Row(
        images=1_000,
        hidden=40,
        learning_rate=0.005,
        epochs=350,
        headings=("train_error", "train_correct", "test_error", "test_correct"),
    ),
    "B": Row(
        images=10_000,
        hidden=40,
        learning_rate=0.005,
        epochs=120,
        headings=("test_error", "test_correct", "test_error", "test_correct"),
    ),
    "C": Row(
        images=10_000,
        hidden=100,
        learning_rate=0.005,
        epochs=120,
        headings=("train_error", "train_correct", "train_error", "train_correct"),
        dropout=0.5,
        prints_last=False,
    ),
    "D": Row(
        images=10_000,
        hidden=100,
        learning_rate=0.001,
        epochs=120,
        headings=("train_error", "train_correct", "train_error", "test_correct"),
        batch_size=100,
        dropout=0.5,
        updates_per_batch=100,
    ),
}


class Line(NamedTuple):
    """One printed line, its columns named as in the original."""

    epoch: int
    error: float
    correct: float
    test_err: float
    test_acc: float


@compile_notice()
def run(*, rows: list[str], epochs: int | None, as_json: bool) -> int:
    """Run the named rows, all four if none is named; return 1 where a figure differs from the original's."""
    names = rows or list(ROWS)
    unknown = [name for name in names if name not in ROWS]
    if unknown:
        raise UserError(f"there is no row {unknown[0]!r}; the rows are {', '.join(ROWS)}")
    try:
        mnist = data.load_data("mnist")
    except (OSError, ValueError) as error:
        raise UserError(f"the original figures need MNIST itself: {error}") from None

    # With --json, stdout is for the result alone.
    say = functools.partial(print, file=sys.stderr if as_json else sys.stdout, flush=True)
    reports, differing = [], 0
    for name in names:
        row = ROWS[name]
        n_epochs = epochs or row.epochs
        say(f"Row {name}: {row.images:,} images, 784-{row.hidden}-10, {n_epochs} of {row.epochs} epochs")
        compiled, start = engine.compile_seconds(), time.perf_counter()
        lines = []
        for line in _lines(row, mnist, n_epochs):
            agrees = _agrees(name, line)
            differing += agrees is False
            lines.append(line._asdict())
            say(f"{_printed(name, line)}  {_REMARKS[agrees]}")
        seconds = time.perf_counter() - start - (engine.compile_seconds() - compiled)
        say(f"Row {name} took {seconds:.2f} s\n")
        reports.append({"row": name, "lines": lines, "seconds": seconds})
    if as_json:
        print(json.dumps(reports if len(reports) > 1 else reports[0]))
    return 1 if differing else 0


def _lines(row: Row, mnist: Any, epochs: int) -> Iterator[Line]:
    """Train as the original did, from the same global random state, and yield the lines it printed."""
    (x_train, y_train), (x_test, y_test) = mnist
    images, labels = engine.pack(x_train[: row.images]), y_train[: row.images]
    test_images = engine.pack(x_test)

    np.random.seed(1)
    weights = [
        0.2 * np.random.random((x_train[0].size, row.hidden)) - 0.1,
        0.2 * np.random.random((row.hidden, 10)) - 0.1,
    ]
    for j in range(epochs):
        train_error, train_correct = scripts.sgd_epoch(
            images,
            labels,
            weights,
            learning_rate=row.learning_rate,
            batch_size=row.batch_size,
            relu_gradient="straight-through",
            dropout=row.dropout,
            updates_per_batch=row.updates_per_batch,
        )
        if j % 10 == 0 or (row.prints_last and j == epochs - 1):
            test_error, test_correct = scripts.evaluate(test_images, y_test, weights)
            sums: dict[_Sum, float] = {
                "train_error": train_error,
                "train_correct": train_correct,
                "test_error": test_error,
                "test_correct": test_correct,
            }
            error, correct, test_err, test_acc = (sums[heading] for heading in row.headings)
            n, n_test = len(labels), len(y_test)
            yield Line(j + 1, error / n, correct / n, test_err / n_test, test_acc / n_test)


def _printed(row: str, line: Line) -> str:
    """Format a line as the original program did."""
    if row == "A":
        return (
            f"I:{line.epoch - 1} Train-Err:{str(line.error)[:5]} Train-Acc:{line.correct} "
            f"Test-Err:{str(line.test_err)[:5]} Test-Acc:{line.test_acc}"
        )
    return (
        f"Epoch {line.epoch} | Error: {line.error} | Correct: {line.correct} | "
        f"Test-Err: {line.test_err} | Test-Acc: {line.test_acc}"
    )


def _agrees(row: str, line: Line) -> bool | None:
    """Compare with the original's figures: None where none was kept for this epoch."""
    figures = FIGURES[row].get(line.epoch)
    if figures is None:
        return None
    error, correct, test_err, test_acc = figures
    if (line.correct, line.test_acc) != (correct, test_acc):
        return False
    if row == "A":
        return (float(str(line.error)[:5]), float(str(line.test_err)[:5])) == (error, test_err)
    return math.isclose(line.error, error, rel_tol=1e-9) and math.isclose(line.test_err, test_err, rel_tol=1e-9)
