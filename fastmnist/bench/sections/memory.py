"""What training adds to the peak memory of a process."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fastmnist.bench.setting import CannotMeasure, Setting

TITLE = "Memory"

# Linux starts the peak that getrusage tells at that of the process that has started this one.
_TRAIN_ROW_E = """
import json, resource, sys
import fastmnist
from fastmnist.bench.rows import ROWS, work_for

def peak():
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

dataset = fastmnist.load_data(sys.argv[1])
work = work_for(ROWS["E"], dataset, None, int(sys.argv[2]))
loaded = peak()

def train(work):
    fastmnist.sgd_epoch(work.images, work.labels, *work.parameters(), **work.row.settings, threads=work.threads)
    return peak() - loaded

libraries = train(work.first(work.row.batch_size))
print(json.dumps({"images": len(work.images), "loaded": loaded, "libraries": libraries, "added": train(work)}))
"""


def measure(setting: Setting) -> dict[str, Any]:
    """Train an epoch of row E in a fresh process that has loaded the data, with kernels on disk."""
    if importlib.util.find_spec("resource") is None:
        raise CannotMeasure("this system does not tell a process its peak")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "digits.npz")
        (x_train, y_train), (x_test, y_test) = setting.dataset
        np.savez(path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
        command = [sys.executable, "-c", _TRAIN_ROW_E, str(path), str(setting.threads)]
        for _ in range(2):  # the first leaves the kernels on disk
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    measured: dict[str, Any] = json.loads(out)
    return measured


def words(measured: dict[str, Any]) -> Iterator[str]:
    """Tell what is added, and what for."""
    added, libraries, loaded = (measured[key] / 1e6 for key in ("added", "libraries", "loaded"))
    yield (
        f"Memory: an epoch of row E on {measured['images']:,} uint8 images adds {added:,.0f} MB to the peak of the "
        f"process that has loaded them ({loaded:,.0f} MB): {libraries:,.0f} MB for Numba, LLVM and the kernels, as the "
        f"first batch shows, and {added - libraries:,.0f} MB for the training."
    )
