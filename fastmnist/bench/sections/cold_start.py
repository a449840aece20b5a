"""What a user waits for before anything is trained."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from fastmnist.bench.setting import Setting
from fastmnist.bench.words import duration

TITLE = "Cold start"

_FIRST_FIT = """
import time; start = time.perf_counter()
import numpy as np, fastmnist
images = np.random.default_rng(0).integers(256, size=(1000, 784), dtype=np.uint8)
fastmnist.Network((784, 512, 10), dropout=0.3).train_epoch(images, np.arange(1000) % 10)
print(time.perf_counter() - start)
"""


def measure(setting: Setting) -> dict[str, Any]:
    """Time fresh processes: with machine code on disk from first import to end of first fit, without any compilation.

    A quick run does not compile.
    """
    first_fit()  # leaves the machine code on disk
    return {
        "first_fit": statistics.median(first_fit() for _ in range(1 if setting.quick else setting.repetitions)),
        "compiling": None if setting.quick else compiling(),
    }


def first_fit() -> float:
    """Return the seconds that a fresh process takes from its first import to the end of its first short fit."""
    return float(_output("-c", _FIRST_FIT))


def compiling() -> float:
    """Return the seconds for which ``fastmnist train`` compiles where there is no machine code on disk."""
    with tempfile.TemporaryDirectory() as empty:
        out = _output(
            "-m", "fastmnist", "train", "--data", "synthetic", "--epochs", "1", "--json", NUMBA_CACHE_DIR=empty
        )
    return float(json.loads(out)["compile_seconds"])


def _output(*arguments: str, **environment: str) -> str:
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=os.environ | environment, check=True, capture_output=True, text=True).stdout


def words(measured: dict[str, Any]) -> Iterator[str]:
    """Tell both."""
    yield f"Cold start, import to end of the first fit: {duration(measured['first_fit'])} with kernels on disk" + (
        f"; without, fastmnist train compiles them for {duration(measured['compiling'])}."
        if measured["compiling"]
        else "."
    )
