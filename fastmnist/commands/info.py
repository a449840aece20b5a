"""``fastmnist info``: what this installation runs on, and what it has found."""

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path

import llvmlite.binding as llvm
from numba import config

from fastmnist import __version__, data, engine


def run(*, as_json: bool) -> int:
    """Print versions, processor, threads, kernel cache and data."""
    report = _report()
    if as_json:
        print(json.dumps(report))
    else:
        for key, value in report.items():
            print(f"{key.replace('_', ' ')}: {_words(value)}")
    return 0


def _report() -> dict[str, str | int | list[str] | None]:
    cache = engine.cache_directory()
    features = engine.cpu_features()
    return {
        "fastmnist": __version__,
        "python": platform.python_version(),
        **{package: version(package) for package in ("numpy", "numba", "llvmlite")},
        "platform": platform.platform(),
        "cpu": config.CPU_NAME or llvm.get_host_cpu_name(),
        "cpu_features": [name for name in ("avx2", "fma", "avx512f") if name in features],
        "vector_bits": engine.vector_bits(),
        "threads": config.NUMBA_NUM_THREADS,
        "kernel_cache": None if cache is None else str(cache),
        "cached_kernels": engine.cached_kernels(),
        "mnist": _mnist(),
    }


def _mnist() -> str | None:
    """Return where `load_data` would read MNIST from, None where it would have to download it."""
    if override := os.environ.get("FASTMNIST_MNIST"):
        return override if Path(override).expanduser().exists() else None
    cached = data.keras_cache_file()
    return str(cached) if cached.is_file() else None


def _words(value: object) -> str:
    if isinstance(value, list):
        return " ".join(value)
    return "none" if value is None else str(value)
