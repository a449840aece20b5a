"""A barrier between the workers of one kernel call, each on a thread of its own.

Every worker adds 1 to a counter that only grows, and waits until all have. Meeting costs about 0.2 us where a launch of
a parallel region costs 2.2 us (OpenMP) or 25 us (workqueue). Waiting threads give way to others after a short spin, so
that more workers than cores make progress too.
"""

from __future__ import annotations

import platform
import sys

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastmnist._jit import kernel

# Looks at the counter before a thread yields its core: about 40 us.
_SPINS = 1_000
_YIELD = "SwitchToThread" if sys.platform == "win32" else "sched_yield"


@intrinsic
def _arrive(typingctx, counter):
    """counter[0] += 1, atomically; everything written before is seen by whoever sees the new count."""
    signature = types.void(counter)

    def generate(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        builder.atomic_rmw("add", array.data, ir.Constant(ir.IntType(64), 1), "seq_cst")
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _count(typingctx, counter):
    """counter[0], read atomically."""
    signature = types.int64(counter)

    def generate(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        return builder.load_atomic(array.data, "acquire", 8)

    return signature, generate


@intrinsic
def _pause(typingctx):
    """Tell the processor that this thread is spinning, so that a sibling on the same core gets its resources."""
    signature = types.void()

    def generate(context, builder, signature, arguments):
        if platform.machine() in ("x86_64", "AMD64"):
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


@kernel
def meet(barrier, meetings, n_workers):
    """Wait until all workers have come to meeting number `meetings` (from 0); returns the next number.

    barrier (1,) int64, 0 at the start of a kernel call.
    """
    if n_workers > 1:  # never where the kernels run as plain Python
        _arrive(barrier)
        spins = 0
        while _count(barrier) < (meetings + 1) * n_workers:
            spins += 1
            _pause()
            if spins > _SPINS:
                _give_way()
    return meetings + 1
