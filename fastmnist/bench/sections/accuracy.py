"""How soon 98 % of MNIST's test images are told right, on average over several seeds."""

from __future__ import annotations

import importlib
import importlib.util
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastmnist.bench.measure import REST, seconds
from fastmnist.bench.setting import CannotMeasure, Setting
from fastmnist.bench.words import comparison, duration

TITLE = "98 % of MNIST's test images"

WANTED = 0.98
SEEDS, QUICK_SEEDS = 20, 2

# Each package, and the module of `peers` whose `follow` trains by a recipe.
_SIDES = {"fastmnist": ("numba", "ours"), "PyTorch": ("torch", "with_torch")}


def measure(setting: Setting) -> dict[str, Any]:
    """Train by the recipe of ``fastmnist train`` until the mean over the seeds gets there, the sides taking turns.

    Both sides start from uint8 images and from the same weights. The time of a seed is that of its training and of
    preparing the images; testing and compiling are left out.
    """
    if setting.source == "synthetic":
        raise CannotMeasure("it needs MNIST itself")
    n_seeds = QUICK_SEEDS if setting.quick else SEEDS
    sides = [
        _Side(name, importlib.import_module(f"fastmnist.bench.peers.{module}").follow, setting, n_seeds)
        for name, (package, module) in _SIDES.items()
        if importlib.util.find_spec(package) is not None
    ]
    for epoch, rates in enumerate(setting.recipe.rates, 1):
        running = [side for side in sides if not side.reached]
        for seed in range(n_seeds):
            for side in running:
                time.sleep(0 if setting.quick else REST)
                side.train(seed, rates)
        for side in running:
            side.test(epoch)
            setting.say(f"  {side.name}, epoch {epoch}: {side.accuracy:.2%}")
    return {"wanted": WANTED, "seeds": n_seeds, "cells": [side.cell(sides[0]) for side in sides]}


class _Side:
    """A library's trainings, one for each seed."""

    def __init__(self, name: str, follow: Any, setting: Setting, n_seeds: int) -> None:
        recipe = setting.recipe
        one_batch = tuple((x[: recipe.batch_size], y[: recipe.batch_size]) for x, y in setting.dataset)
        follow(recipe, one_batch, setting.threads)(0).train(recipe.rates[0, :1])  # compiles
        began = time.perf_counter()
        start = follow(recipe, setting.dataset, setting.threads)
        self.times = np.full(n_seeds, time.perf_counter() - began)
        self.courses = [start(seed) for seed in range(n_seeds)]
        self.name = name
        self.accuracy, self.epochs = 0.0, 0

    def train(self, seed: int, rates: Any) -> None:
        """Train one epoch more."""
        self.times[seed] += seconds(lambda: self.courses[seed].train(rates))

    def test(self, epoch: int) -> None:
        """Find the mean share of right answers after so many epochs."""
        self.epochs = epoch
        self.accuracy = float(np.mean([course.accuracy() for course in self.courses]))

    @property
    def reached(self) -> bool:
        """Whether it is there."""
        return self.accuracy >= WANTED

    def cell(self, ours: _Side) -> dict[str, Any]:
        """Mean and quartiles of the seconds, and how many times as long as ours that is, where both got there."""
        low, mean, high = np.percentile(self.times, 25), self.times.mean(), np.percentile(self.times, 75)
        return {
            "peer": self.name,
            "epochs": self.epochs,
            "accuracy": self.accuracy,
            "mean": float(mean),
            "low": float(low),
            "high": float(high),
            "ratio": float(mean / ours.times.mean()) if self.reached and ours.reached else None,
            "refused": None if self.reached else f"only {self.accuracy:.2%} after {self.epochs} epochs",
        }


def words(measured: dict[str, Any]) -> Iterator[str]:
    """Tell what each side took."""
    sides = []
    for cell in measured["cells"]:
        took = f"{cell['peer']} {duration(cell['mean'])} in {cell['epochs']} epochs"
        if cell["refused"]:
            took = f"{cell['peer']} {cell['refused']}"
        elif cell["peer"] != "fastmnist" and cell["ratio"] is not None:
            took += f" (fastmnist is {comparison(cell['ratio'])})"
        sides.append(took)
    yield (
        f"{TITLE}, by the recipe of fastmnist train, the mean of {measured['seeds']} seeds, "
        f"from uint8 images on: {', '.join(sides)}."
    )
