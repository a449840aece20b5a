"""What this machine is, and what it could do at best."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import numba
import numpy as np

from fastmnist import engine
from fastmnist.bench.measure import seconds
from fastmnist.engine.threads import run_workers
from fastmnist.kernels import simd
from fastmnist.spec import TILE_BYTES

# Five tiles make five chains of multiply-adds in 512-bit registers and ten in 256-bit ones. A multiply-add takes four
# cycles and two start in each, so that eight chains at least are wanted, and they must fit into the registers.
_CHAINS = 2 if engine.vector_bits() == 512 else 1


def processor() -> str:
    """Name of the processor, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def fma_peak(dtype: str, threads: int) -> float:
    """Return the most multiply-adds that registers alone sustain, as operations per second (two each)."""
    n = 10_000_000  # some 20 ms
    arrays = np.ones(80, dtype), np.zeros((threads, 80), dtype)
    run_workers(_multiply_add, threads, *arrays, 10, _CHAINS)
    best = min(seconds(lambda: run_workers(_multiply_add, threads, *arrays, n, _CHAINS)) for _ in range(7))
    lanes = TILE_BYTES // np.dtype(dtype).itemsize
    return 2 * 5 * _CHAINS * lanes * n * threads / best


@numba.njit(nogil=True)
def _multiply_add(w: int, n_workers: int, start: Any, out: Any, n: int, chains: int) -> None:
    lanes = TILE_BYTES // out.itemsize
    x = simd.vload(start, 0, 0, simd.W5)
    a, b = x, simd.vadd(x, x)
    if chains == 2:
        for _ in range(n):
            a, b = simd.vfma(a, x, x), simd.vfma(b, x, x)
    else:
        for _ in range(n):
            a = simd.vfma(a, x, x)
    simd.vstore(out[w], 0, lanes, simd.vadd(a, b))
