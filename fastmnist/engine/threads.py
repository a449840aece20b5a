"""Running a kernel's workers, each on a thread of its own.

Kernels release the GIL, and meet at barriers of their own. Python's threads are used and not Numba's `prange`, because
all workers must run at the same time; this also makes forks and concurrent callers safe with every threading layer.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import numba
import numpy as np

_busy = threading.Lock()
_pool: ThreadPoolExecutor | None = None


def _forget_pool() -> None:
    """Start afresh in a forked child: the pool's threads stayed with the parent."""
    global _busy, _pool
    _busy, _pool = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def count_threads(threads: int | None) -> int:
    """Check a `threads` argument; None means as many as Numba would use."""
    if threads is None:
        return int(numba.get_num_threads())
    if isinstance(threads, bool) or not isinstance(threads, int | np.integer) or threads < 1:
        raise ValueError(f"threads is {threads!r}; a positive whole number or None (all) is wanted.")
    return int(threads)


def run_workers(kernel: Callable[..., None], n_workers: int, *arguments: Any) -> None:
    """Call ``kernel(w, n_workers, *arguments)`` for every worker w at once, and wait for all.

    If another thread is at it already, one worker does all: the result is the same.
    """
    global _pool
    if n_workers == 1 or numba.config.DISABLE_JIT or not _busy.acquire(blocking=False):
        kernel(0, 1, *arguments)
        return
    try:
        if _pool is None or _pool._max_workers < n_workers - 1:
            _pool = ThreadPoolExecutor(n_workers - 1, thread_name_prefix="fastmnist")
        others = [_pool.submit(kernel, w, n_workers, *arguments) for w in range(1, n_workers)]
        try:
            kernel(0, n_workers, *arguments)
        finally:
            wait(others)
        for other in others:
            other.result()
    finally:
        _busy.release()
