"""How the workers of one kernel call, each on a thread of its own, meet and divide their work.

At the barrier every worker adds 1 to a counter that only grows, and waits until all have. Meeting costs about 0.2 us
where a launch of a parallel region costs 2.2 us (OpenMP) or 25 us (workqueue). Waiting threads give way to others after
a short spin, so that more workers than cores make progress too.

Cores are seldom equally fast: some have fewer resources by design, others lend them to somebody else's program. So
workers take whole blocks from a queue; and of each batch a worker owns what it does in the same time, judged by the
batches before in the same call. Per-sample SGD goes step by step: worker 0 takes each step, and the others do what jobs
of it they find, so that it never waits for a worker that has lost its core. Who does what changes no result.
"""

from __future__ import annotations

import platform
import sys

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from fastmnist._jit import inlined, kernel

# Looks at the counter before a thread yields its core: about 40 us.
_SPINS = 1_000
_YIELD = "SwitchToThread" if sys.platform == "win32" else "sched_yield"
_X86 = platform.machine() in ("x86_64", "AMD64")

# What is counted in a call that goes step by step, each in a cache line of its own: the step that has begun; jobs, of
# all steps, that somebody has taken; those that are done.
_STEP, _TAKEN, _DONE = 0, 8, 16
# A row of `paces` holds the time that the worker's last part took, and its own copies of all speeds and cuts.
TIME, _SPEEDS = 0, 8
# Weight of the last batch in a worker's speed, at first that of all: an interruption must not count for more.
_NEWEST = 1 / 8
# Work is divided anew if that saves so much: the weights of a tile move to another core.
_WORTHWHILE = 0.03


def _address(context, builder, signature, arguments):
    """Where arguments[0][arguments[1]] lies."""
    array = context.make_array(signature.args[0])(context, builder, arguments[0])
    return builder.gep(array.data, [arguments[1]])


@intrinsic
def _add_one(typingctx, counts, i):
    """counts[i] += 1, atomically; returns what was there. Who sees the new count sees everything written before."""

    def generate(context, builder, signature, arguments):
        one = ir.Constant(ir.IntType(64), 1)
        return builder.atomic_rmw("add", _address(context, builder, signature, arguments), one, "seq_cst")

    return types.int64(counts, types.intp), generate


@intrinsic
def _count(typingctx, counts, i):
    """counts[i], read atomically."""

    def generate(context, builder, signature, arguments):
        return builder.load_atomic(_address(context, builder, signature, arguments), "acquire", 8)

    return types.int64(counts, types.intp), generate


@intrinsic
def _replace(typingctx, counts, i, old, new):
    """counts[i] = new if it is `old`, atomically; returns what was there."""

    def generate(context, builder, signature, arguments):
        place = _address(context, builder, signature, arguments)
        result = builder.cmpxchg(place, arguments[2], arguments[3], "seq_cst", "seq_cst")
        return builder.extract_value(result, 0)

    return types.int64(counts, types.intp, types.int64, types.int64), generate


@intrinsic
def _pause(typingctx):
    """Tell the processor that this thread is spinning, so that a sibling on the same core gets its resources."""
    signature = types.void()

    def generate(context, builder, signature, arguments):
        if _X86:
            function_type = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, function_type, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _give_way(typingctx):
    """Let another thread have the core."""
    signature = types.void()

    def generate(context, builder, signature, arguments):
        function_type = ir.FunctionType(ir.IntType(32), [])
        builder.call(cgutils.get_or_insert_function(builder.module, function_type, _YIELD), [])
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def cycles(typingctx):
    """Count at a constant rate; 0 where no instruction tells, and then work is divided equally."""
    signature = types.int64()

    def generate(context, builder, signature, arguments):
        if not _X86:
            return ir.Constant(ir.IntType(64), 0)
        function_type = ir.FunctionType(ir.IntType(64), [])
        return builder.call(cgutils.get_or_insert_function(builder.module, function_type, "llvm.readcyclecounter"), [])

    return signature, generate


@inlined
def take(queue):
    """The next number of a queue (1,) int64, 0 at first; no two workers get the same."""
    return _add_one(queue, 0)


@inlined
def _wait(counts, i, least):
    """Wait until counts[i] is at least so much."""
    spins = 0
    while _count(counts, i) < least:
        spins += 1
        _pause()
        if spins > _SPINS:
            _give_way()


@kernel
def meet(barrier, meetings, n_workers):
    """Wait until all workers have come to meeting number `meetings` (from 0); returns the next number.

    barrier (1,) int64, 0 at the start of a kernel call.
    """
    if n_workers > 1:  # never where the kernels run as plain Python
        _add_one(barrier, 0)
        _wait(barrier, 0, (meetings + 1) * n_workers)
    return meetings + 1


def schedule() -> np.ndarray:
    """Make the counts of one kernel call that goes step by step."""
    return np.zeros(_DONE + 1, np.int64)


def dismiss(counts: np.ndarray) -> None:
    """Let workers go that wait for a step: there is none."""
    counts[_STEP] = np.iinfo(np.int64).max


@kernel
def next_job(step, n_jobs, counts):
    """A job of a step, of n_jobs, that no worker has; or -1. Whoever gets one is to say `job_done`."""
    taken = _count(counts, _TAKEN)
    while taken < (step + 1) * n_jobs:
        seen = _replace(counts, _TAKEN, taken, taken + 1)
        if seen == taken:
            return taken - step * n_jobs
        taken = seen
    return -1


@inlined
def job_done(counts):
    """Say that a job is done."""
    _add_one(counts, _DONE)


@kernel
def next_step(w, step, n_jobs, counts):
    """The next step. Worker 0 begins it when all jobs of this one are done; others wait for that, and may miss some."""
    if w == 0:
        _wait(counts, _DONE, (step + 1) * n_jobs)
        _add_one(counts, _STEP)
    else:
        _wait(counts, _STEP, step + 1)
    return _count(counts, _STEP)


def paces_for(n_workers: int) -> np.ndarray:
    """Make the scratch memory `paces` of one kernel call."""
    return np.zeros((n_workers, -(-(_SPEEDS + 2 * n_workers + 1) // 8) * 8))


@kernel
def divide_equally(w, n_workers, paces):
    """Start with equal parts, for all that worker w knows."""
    for k in range(n_workers + 1):
        paces[w, _SPEEDS + n_workers + k] = k / n_workers


@inlined
def _cut(n, w, n_workers, k, paces):
    """Where the part of worker k of n things begins, as worker w knows it."""
    return int(n * paces[w, _SPEEDS + n_workers + k] + 0.5)


@kernel
def owned(n, w, n_workers, paces):
    """Part [begin, end) of n things that worker w owns."""
    return _cut(n, w, n_workers, w, paces), _cut(n, w, n_workers, w + 1, paces)


@kernel
def divide(n, w, n_workers, paces):
    """Divide work anew, if that is worth it, by the times that the parts of n things have taken.

    For all workers, between two meetings: no times are written then, so that all come to the same result.
    """
    cuts = _SPEEDS + n_workers
    time = 0.0
    for k in range(n_workers):
        if paces[k, TIME] <= 0 or _cut(n, w, n_workers, k + 1, paces) == _cut(n, w, n_workers, k, paces):
            return
        time += paces[k, TIME]
    total = 0.0
    slowest = 0.0
    for k in range(n_workers):
        size = _cut(n, w, n_workers, k + 1, paces) - _cut(n, w, n_workers, k, paces)
        speed = paces[w, _SPEEDS + k]
        if speed == 0:
            speed = n / time
        speed += (size / paces[k, TIME] - speed) * _NEWEST
        paces[w, _SPEEDS + k] = speed
        total += speed
        slowest = max(slowest, size / speed)
    bound = (1 - _WORTHWHILE) * slowest
    done = 0.0
    begin = 0
    for k in range(n_workers):
        done += paces[w, _SPEEDS + k] / total
        end = int(n * done + 0.5)
        if end == begin or end - begin > bound * paces[w, _SPEEDS + k]:
            return
        begin = end
    done = 0.0
    for k in range(n_workers - 1):
        done += paces[w, _SPEEDS + k] / total
        paces[w, cuts + k + 1] = done


if config.DISABLE_JIT:

    def _add_one(counts, i):
        counts[i] += 1
        return counts[i] - 1

    def _count(counts, i):
        return counts[i]

    def _replace(counts, i, old, new):
        assert counts[i] == old
        counts[i] = new
        return old
