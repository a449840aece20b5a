"""Compiling the kernels of ``fastmnist train`` in two processes: Numba uses one core, however many threads ask it to.

This process compiles the training, which takes longest, another one all the rest, which leaves its machine code on
disk. On two cores the first run waited for 14.4 s, and for 20.9 s with one process (means of 3). Should the other
process fail, this one compiles the rest when it comes to it; should this one be killed, the other ends by itself.
"""

import subprocess
import sys
import time

import numpy as np

from fastmnist import engine

# Seconds to wait for the other process, which has less to compile and is nearly always done.
_PATIENCE = 60


def compile_for(dropout: float, threads: int | None) -> float:
    """Compile what a training needs if nothing is compiled yet; return the seconds waited for the other process."""
    if engine.cache_directory() is None or engine.cached_kernels() or engine.count_threads(threads) == 1:
        return 0.0
    # It is to import what this process has, and nothing from the folder that the user is in.
    program = f"import sys; sys.path[:] = {sys.path!r}; import {__name__} as ahead; ahead.compile_rest({dropout!r})"
    nowhere = subprocess.DEVNULL
    try:
        other = subprocess.Popen([sys.executable, "-P", "-c", program], stdin=nowhere, stdout=nowhere, stderr=nowhere)
    except (OSError, TypeError):  # no such program, or Python does not know its own
        return 0.0
    try:
        images = engine.Packed((2, 4), 1.0, np.full((2, 4), 255, np.uint8))  # dense: nothing is there to be packed
        engine.Network((4, 2, 2)).train_epoch(images, np.zeros(2, np.uint8), batch_size=2)
        waiting = time.perf_counter()
        other.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        pass
    finally:
        other.kill()
        other.wait()
    return time.perf_counter() - waiting


def compile_rest(dropout: float) -> None:
    """Evaluate images that are mostly black, and enough of them for `Network` to look whether it knows them; draw."""
    images = np.zeros((1000, 784), np.uint8)
    images[:, 0] = 255
    engine.Network((784, 512, 2)).evaluate(images, images[:, 1])
    if dropout:
        engine.Draws(0).take(0, 1, 1, [1], [dropout], 1, np.empty(1, np.uint8))
