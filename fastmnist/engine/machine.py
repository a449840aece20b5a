"""What the kernels run on, and what compiling them has cost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import llvmlite.binding as llvm
import numba

from fastmnist import _jit
from fastmnist.kernels import forward, rng, sgd, sparse  # noqa: F401  (registers every entry)


def compile_seconds() -> float:
    """Seconds this process has spent compiling."""
    return _jit.clock.seconds


def on_compile(announce: Callable[[], None] | None) -> None:
    """Call `announce` whenever a compilation starts; None stops that."""
    _jit.clock.announce = announce


def cache_directory() -> Path | None:
    """Folder of the compiled kernels; None where nothing can be kept."""
    folders = [Path(entry._cache.cache_path) for entry in _jit.entries() if hasattr(entry._cache, "_cache_file")]
    return folders[0] if folders else None


def cached_kernels() -> int:
    """Kernels, counted once per float type, whose machine code lies on disk and is up to date."""
    return sum(len(_jit.cached_signatures(entry)) for entry in _jit.entries())


def cpu_features() -> list[str]:
    """Features that the kernels are compiled for."""
    if numba.config.CPU_FEATURES is not None:
        return [f[1:] for f in numba.config.CPU_FEATURES.split(",") if f.startswith("+")]
    return sorted(name for name, has in llvm.get_host_cpu_features().items() if has)


def vector_bits() -> int:
    """Width of the vector registers that the kernels use."""
    features = cpu_features()
    return 512 if "avx512f" in features else 256 if "avx2" in features else 128
