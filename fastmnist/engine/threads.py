"""Running a kernel's workers, each on a thread of its own.

Kernels release the GIL, and meet at barriers of their own. Python's threads are used and not Numba's `prange`, because
workers that meet must run at the same time; it also makes forks and concurrent callers safe, with no threading layer at
all.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

from fastmnist.kernels.barrier import dismiss

T = TypeVar("T")

_busy = threading.Lock()
_pool: ThreadPoolExecutor | None = None


def _forget_pool() -> None:
    """Start afresh in a forked child: the pool's threads stayed with the parent."""
    global _busy, _pool
    _busy, _pool = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


# Asked once: it takes 20 us, 1 % of a call of row A.
_CORES = os.cpu_count() or 1


def count_threads(threads: int | None) -> int:
    """Check a `threads` argument; None means as many as Numba would use.

    More workers than four times the cores would only wait for one another, and results do not depend on their number.
    """
    if threads is None:
        return int(numba.config.NUMBA_NUM_THREADS)
    if isinstance(threads, bool) or not isinstance(threads, int | np.integer) or threads < 1:
        raise ValueError(f"threads is {threads!r}; a positive whole number or None (all) is wanted.")
    return min(int(threads), 4 * _CORES)


def worth(threads: int, operations: int) -> int:
    """Threads that some light operations are worth: starting one takes as long as 20,000 of them."""
    return max(1, min(threads, operations // 20_000))


def counter() -> NDArray[np.int64]:
    """Make a counter for the workers of one call: of their meetings, or of the blocks they take from a queue."""
    return np.zeros(1, np.int64)


def run_workers(kernel: Any, n_workers: int, *arguments: Any) -> None:
    """Call ``kernel(w, n_workers, *arguments)`` for every worker w at once, and wait for all.

    If another thread is at it already, one worker does all: the result is the same. Workers meet at barriers, so all
    must run or none: they start when all threads are there, on threads that no signal interrupts, with a kernel that is
    compiled. Ctrl-C waits for them to end.
    """
    if n_workers == 1 or numba.config.DISABLE_JIT or not _busy.acquire(blocking=False):
        kernel(0, 1, *arguments)
        return
    try:
        _compile(kernel, n_workers, *arguments)
        pool = _threads(n_workers)
        start = _Start()
        workers: list[Future[None]] = []
        try:
            for w in range(n_workers):
                workers.append(pool.submit(start.run, kernel, w, n_workers, *arguments))
            start.all_there = True
        finally:
            start.signal.set()
            _wait_for(workers)
        for worker in workers:
            worker.result()
    finally:
        _busy.release()


def run_with_helpers(kernel: Any, n_workers: int, counts: NDArray[np.int64], *arguments: Any) -> None:
    """Call ``kernel(0, n_workers, counts, *arguments)`` while other workers help, for kernels that go step by step.

    Worker 0 needs nobody, so this thread is it, and begins at once: row A's calls take 0.9 ms. A thread that is woken
    by a running one is sent to another core; two that are woken together often were not. Nor are helpers waited for
    when worker 0 is done: then all jobs are, and a helper that comes late finds none and goes. Should worker 0 never
    begin, they find jobs of the first step only, which writes to nothing but scratch memory.
    """
    if n_workers == 1 or numba.config.DISABLE_JIT or not _busy.acquire(blocking=False):
        kernel(0, 1, counts, *arguments)
        return
    try:
        _compile(kernel, n_workers, counts, *arguments)
        pool = _threads(n_workers)
        helpers: list[Future[None]] = []
        try:
            for w in range(1, n_workers):
                helpers.append(pool.submit(kernel, w, n_workers, counts, *arguments))
            kernel(0, n_workers, counts, *arguments)
        except BaseException:
            dismiss(counts)
            _wait_for(helpers)
            raise
    finally:
        _busy.release()


def _threads(n: int) -> ThreadPoolExecutor:
    """Return the threads that workers run on, n or more."""
    global _pool
    if _pool is None or _pool._max_workers < n:
        _pool = ThreadPoolExecutor(n, thread_name_prefix="fastmnist")
    return _pool


# Kernels and kinds of arguments they have been compiled for.
_compiled: set[tuple[Any, ...]] = set()


def _compile(kernel: Any, *arguments: Any) -> None:
    """Compile a kernel if these arguments may need it: having Numba find out takes 0.3 ms."""
    kinds = kernel, *map(_kind, arguments)
    if kinds not in _compiled:
        kernel.compile(tuple(numba.typeof(a) for a in (0, *arguments)))
        _compiled.add(kinds)


def _kind(argument: Any) -> Any:
    """Return what decides the Numba type of an argument, of those that kernels get."""
    if isinstance(argument, np.ndarray):
        return argument.dtype, argument.ndim, argument.flags.c_contiguous, argument.flags.writeable
    return tuple(map(_kind, argument)) if isinstance(argument, tuple) else type(argument)


class _Start:
    """Holds workers back until it is known whether all of them can run."""

    def __init__(self) -> None:
        self.signal = threading.Event()
        self.all_there = False

    def run(self, kernel: Any, *arguments: Any) -> None:
        """Wait for the signal, and run if all are there."""
        self.signal.wait()
        if self.all_there:
            kernel(*arguments)


def _wait_for(workers: list[Future[None]]) -> None:
    """Wait until all have ended, and raise an interruption only then: they write to memory that others use."""
    interruption: BaseException | None = None
    while True:
        try:
            wait(workers)
            break
        except KeyboardInterrupt as error:
            interruption = error
    if interruption is not None:
        raise interruption


class _Stopped(Exception):
    """Ends a job because another one has failed."""


def run_apart(jobs: Sequence[Callable[[int, Callable[[int], None]], T]], threads: int | None) -> list[T]:
    """Run independent jobs, each on one thread, ``job(1, progress)``; returns their results in order.

    Ctrl-C, or an error in one of them, ends every job at its next report of progress.
    """
    stopped = threading.Event()

    def go_on(_: int) -> None:
        if stopped.is_set():
            raise _Stopped

    at_once = min(count_threads(threads), len(jobs))
    if at_once == 1 or numba.config.DISABLE_JIT:
        return [job(1, go_on) for job in jobs]
    with ThreadPoolExecutor(at_once, thread_name_prefix="fastmnist-job") as pool:
        running = [pool.submit(job, 1, go_on) for job in jobs]
        try:
            wait(running, return_when=FIRST_EXCEPTION)
        finally:
            stopped.set()
            for one in running:
                one.cancel()
        ended = [one for one in running if not one.cancelled()]
        errors = [one.exception() for one in ended if not isinstance(one.exception(), _Stopped)]
        for error in filter(None, errors):
            raise error
        return [one.result() for one in ended]
