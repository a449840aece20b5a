"""How the time per sample grows with the number of samples and with the size of the hidden layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from fastmnist import data
from fastmnist.bench.measure import in_turn
from fastmnist.bench.peers import ours
from fastmnist.bench.rows import ROWS, Dataset, Row, work_for
from fastmnist.bench.setting import Setting
from fastmnist.bench.words import duration

TITLE = "Growth"

SAMPLES = (10_000, 100_000, 1_000_000)
HIDDEN = (32, 64, 128, 256, 512, 1024)
# Digits that are drawn; more samples are these again.
_DRAWN = 10_000


def measure(setting: Setting) -> dict[str, Any]:
    """Time our side of rows B and E on synthetic digits; a quick run leaves out the largest sizes."""
    sizes = SAMPLES[:-1] if setting.quick else SAMPLES
    digits = _digits(sizes[-1])
    samples, hidden = {}, {}
    for name in ("B", "E"):
        row = ROWS[name]
        setting.say(f"  samples, row {name}")
        samples[name] = _times([(n, replace(row, images=n)) for n in sizes], digits, setting)
        setting.say(f"  hidden units, row {name}")
        one_layer = replace(row, images=1_000 if setting.quick else _DRAWN)
        hidden[name] = _times([(h, replace(one_layer, sizes=(784, h, 10))) for h in HIDDEN], digits, setting)
    return {"samples": samples, "hidden": hidden}


def _digits(n: int) -> Dataset:
    (drawn, drawn_labels), _ = data.load_data("synthetic", n_train=_DRAWN, n_test=1)
    images, labels = np.resize(drawn, (n, *drawn.shape[1:])), np.resize(drawn_labels, n)
    return (images, labels), (images[:0], labels[:0])


def _times(rows: list[tuple[int, Row]], digits: Dataset, setting: Setting) -> dict[str, list[float]]:
    """Return for each size the quartiles of the seconds per sample."""
    sides = [(ours.kernels(work_for(row, digits, None, setting.threads)), row.images) for _, row in rows]
    for side, _ in sides:
        side.run()  # makes blocks and Gram products
    # Without a rest: after one of 0.3 s, row E's first 10,000 samples took 1.2 times as long on a virtual machine.
    quartiles = in_turn(sides, setting.repetitions, rest=0.0)
    return {str(size): times for (size, _), times in zip(rows, quartiles, strict=True)}


def words(measured: dict[str, Any]) -> Iterator[str]:
    """Tell the medians, and how far they are from constant and from proportional."""
    for name, times in measured["samples"].items():
        medians = [median for _, median, _ in times.values()]
        yield (
            f"Growth, row {name}: {_listed(times)} per sample of {_numbers(times)}; "
            f"the slowest takes {max(medians) / min(medians) - 1:.0%} more than the fastest."
        )
    for name, times in measured["hidden"].items():
        medians = [median for _, median, _ in times.values()]
        units = [int(h) for h in times]
        yield (
            f"Growth, row {name} with one hidden layer: {_listed(times)} per sample for {_numbers(times)} units; "
            f"{units[-1] // units[0]} times the units take {medians[-1] / medians[0]:.1f} times as long, "
            f"twice as many at most {max(b / a for a, b in pairwise(medians)):.1f} times."
        )


def _listed(times: dict[str, list[float]]) -> str:
    return ", ".join(duration(median) for _, median, _ in times.values())


def _numbers(times: dict[str, list[float]]) -> str:
    *first, last = (f"{int(size):,}" for size in times)
    return f"{', '.join(first)} and {last}"
