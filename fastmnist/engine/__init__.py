"""Between users' arrays and the kernels: check, convert, allocate, choose, call.

The only layer that knows kernels and specs as a pair. Kernels are called for a fraction of a second at a time, so that
Ctrl-C, progress and callbacks are served between two calls.
"""

from fastmnist._jit import cpu_features, vector_bits
from fastmnist.engine.draws import Draws, Rng
from fastmnist.engine.flat import FlatNetwork, Totals, borrow, give_back, truth_of
from fastmnist.engine.machine import (
    cache_directory,
    cached_kernels,
    compile_seconds,
    on_compile,
)
from fastmnist.engine.network import Network
from fastmnist.engine.packing import Packed, as_packed, pack
from fastmnist.engine.threads import count_threads, run_apart

__all__ = [
    "Draws",
    "FlatNetwork",
    "Network",
    "Packed",
    "Rng",
    "Totals",
    "as_packed",
    "borrow",
    "cache_directory",
    "cached_kernels",
    "compile_seconds",
    "count_threads",
    "cpu_features",
    "give_back",
    "on_compile",
    "pack",
    "run_apart",
    "truth_of",
    "vector_bits",
]
