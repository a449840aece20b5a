"""``fastmnist train``: train a network on MNIST, show how it goes, and test it."""

import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from fastmnist import engine
from fastmnist.commands import Recipe, UserError, ahead, dataset
from fastmnist.notice import compile_notice


class _Report(NamedTuple):
    """How a training is followed: called with the samples done in this epoch, and after each epoch."""

    progress: Callable[[int], None] | None
    epoch_done: Callable[[int, float, float], None]


@compile_notice()
def run(*, source: str | None, threads: int | None, save: str | None, as_json: bool, **options: Any) -> int:
    """Train, test, and print the result; return 1 where the loss is no longer a finite number.

    The other options are the fields of `Recipe`.
    """
    recipe = Recipe(**options)
    if save is not None and not save.endswith(".npz"):
        save += ".npz"  # as NumPy would
    if save is not None and not Path(save).absolute().parent.is_dir():
        raise UserError(f"--save {save}: there is no folder {Path(save).absolute().parent}")
    name, (x_train, y_train), (x_test, y_test) = dataset.load(source, "training")
    n_train = len(x_train)
    if recipe.batch_size > n_train:
        raise UserError(f"--batch-size {recipe.batch_size} is more than the {n_train} training images")
    n_classes = 1 + int(max(y_train.max(initial=9), y_test.max(initial=9)))
    sizes = (x_train[0].size, *recipe.hidden, n_classes)
    try:
        network = engine.Network(sizes, dropout=recipe.dropout, seed=recipe.seed, threads=threads)
    except ValueError as error:
        raise UserError(str(error)) from None

    # With --json, stdout is for the result alone.
    stream = sys.stderr if as_json else sys.stdout
    follow = _bar if stream.isatty() else _lines
    waited = ahead.compile_for(recipe.dropout, threads)
    images = engine.pack(x_train)
    compiled, start = engine.compile_seconds(), time.perf_counter()
    with follow(stream, recipe.epochs, n_train) as report:
        for epoch, rates in enumerate(learning_rates(recipe, n_train), 1):
            loss, correct = network.train_epoch(
                images,
                y_train,
                batch_size=recipe.batch_size,
                learning_rate=rates,
                progress=report.progress,
            )
            report.epoch_done(epoch, loss, correct / n_train)
            if not math.isfinite(loss):
                break
    train_seconds = time.perf_counter() - start - (engine.compile_seconds() - compiled)
    if not math.isfinite(loss):
        print(
            f"fastmnist: training diverged in epoch {epoch}: the loss is {loss}; "
            f"try a --learning-rate below {recipe.learning_rate:g}",
            file=sys.stderr,
        )
        return 1

    test_loss, test_correct = network.evaluate(x_test, y_test)
    if save is not None:
        try:
            network.save(save)
        except OSError as error:
            raise UserError(f"--save {save}: {error}") from None
    result = {
        "dataset": name,
        "test_accuracy": test_correct / len(y_test),
        "test_loss": test_loss,
        "train_accuracy": correct / n_train,
        "train_loss": loss,
        "epochs": recipe.epochs,
        "train_seconds": train_seconds,
        "compile_seconds": engine.compile_seconds() + waited,
        "samples_per_second": recipe.epochs * n_train / train_seconds,
        "sizes": sizes,
        "batch_size": recipe.batch_size,
        "learning_rate": recipe.learning_rate,
        "dropout": recipe.dropout,
        "seed": recipe.seed,
        "saved": save,
    }
    print(json.dumps(result) if as_json else _summary(result))
    return 0


def learning_rates(recipe: Recipe, n_train: int) -> NDArray[np.float64]:
    """Return the rate of every step, shape (epochs, steps): up in a line, then down along a cosine."""
    steps = math.ceil(n_train / recipe.batch_size)
    # The share of all steps done halfway through each step: the rate is never quite 0.
    done = (np.arange(recipe.epochs * steps) + 0.5) / (recipe.epochs * steps)
    rising = done / recipe.warm_up
    falling = 0.5 + 0.5 * np.cos(np.pi * (done - recipe.warm_up) / (1 - recipe.warm_up))
    rates = recipe.learning_rate * np.where(done < recipe.warm_up, rising, falling)
    return rates.reshape(recipe.epochs, steps)


@contextmanager
def _lines(stream: TextIO, epochs: int, n_train: int) -> Iterator[_Report]:
    """Follow a training with one plain line per epoch."""
    start, compiled = time.perf_counter(), engine.compile_seconds()

    def epoch_done(epoch: int, loss: float, accuracy: float) -> None:
        seconds = time.perf_counter() - start - (engine.compile_seconds() - compiled)
        print(
            f"epoch {epoch}/{epochs}  loss {loss:.4f}  accuracy {accuracy:.2%}  "
            f"{epoch * n_train / seconds:,.0f} samples/s",
            file=stream,
            flush=True,
        )

    yield _Report(None, epoch_done)


class _SpeedColumn(ProgressColumn):
    """Samples per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} samples/s")


@contextmanager
def _bar(stream: TextIO, epochs: int, n_train: int) -> Iterator[_Report]:
    """Follow a training with a progress bar."""
    columns = (
        TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[figures]}"),
        _SpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(file=stream), expand=True) as bar:
        task = bar.add_task("", total=epochs * n_train, epoch=1, epochs=epochs, figures="")
        done = 0

        def progress(samples_done: int) -> None:
            bar.update(task, completed=done + samples_done)

        def epoch_done(epoch: int, loss: float, accuracy: float) -> None:
            nonlocal done
            done = epoch * n_train
            figures = f"loss {loss:.4f}  accuracy {accuracy:.2%}"
            bar.update(task, completed=done, epoch=min(epoch + 1, epochs), figures=figures)

        yield _Report(progress, epoch_done)


def _summary(result: dict[str, Any]) -> str:
    network = "-".join(map(str, result["sizes"]))
    compiling = f", after {result['compile_seconds']:.1f} s of compiling" if result["compile_seconds"] else ""
    return (
        f"test accuracy {result['test_accuracy']:.2%}, test loss {result['test_loss']:.4f} "
        f"({result['dataset']}, {network}, epochs: {result['epochs']}, {result['train_seconds']:.1f} s"
        f"{compiling}, {result['samples_per_second']:,.0f} samples/s)"
        + (f"\nweights written to {result['saved']}" if result["saved"] else "")
    )
