"""What the kernels run on, and what compiling them has cost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

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
