"""Compiling the kernels of ``fastmnist train`` in two processes: Numba uses one core, however many threads ask it to.

This process compiles the training, which takes longest, another one packing and evaluation, which leave their machine
code on disk. On two cores the first run waited for 18.9 s, and for 24.6 s with one process (means of 3).
"""

import subprocess
import sys
import time

import numpy as np

from fastmnist import engine


def compile_for(dropout: float, threads: int | None) -> float:
    """Compile what a training needs if nothing is compiled yet; return the seconds waited for the other process."""
    if engine.cache_directory() is None or engine.cached_kernels() or engine.count_threads(threads) == 1:
        return 0.0
    # Should the other process fail, this one compiles the rest when it comes to it.
    with subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as other:
        try:
            images = np.full((2, 4), 255, np.uint8)  # without zeros, so that nothing is packed
            engine.Network((4, 2, 2), dropout=dropout).train_epoch(images, np.zeros(2, np.uint8), batch_size=2)
            start = time.perf_counter()
            other.wait()
        except BaseException:
            other.kill()
            raise
    return time.perf_counter() - start


def _pack_and_evaluate() -> None:
    """Evaluate images that are mostly black, and enough of them for `Network` to look whether it knows them."""
    images = np.zeros((1000, 784), np.uint8)
    images[:, 0] = 255
    engine.Network((784, 2, 2)).evaluate(images, images[:, 1])


if __name__ == "__main__":
    _pack_and_evaluate()
