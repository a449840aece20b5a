"""Train small neural networks on a CPU with exactly the results a NumPy script would have given.

The public names are loaded on first use (PEP 562), so that ``import fastmnist`` costs nothing: neither NumPy
nor Numba is imported until a function that needs it is asked for.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastmnist.accel.install import install, uninstall
    from fastmnist.data import DataUnavailableError, flatten, load_data, scale, to_categorical
    from fastmnist.engine import Network, Packed, pack
    from fastmnist.keras.accelerate import accelerate
    from fastmnist.plots import plot_images
    from fastmnist.scripts import evaluate, predict, sgd_epoch, sgd_many

__version__ = "0.1.0"

__all__ = [
    "DataUnavailableError",
    "Network",
    "Packed",
    "__version__",
    "accelerate",
    "evaluate",
    "flatten",
    "install",
    "load_data",
    "pack",
    "plot_images",
    "predict",
    "scale",
    "sgd_epoch",
    "sgd_many",
    "to_categorical",
    "uninstall",
]

_HOME = {
    "DataUnavailableError": "data",
    "Network": "engine",
    "Packed": "engine",
    "accelerate": "keras.accelerate",
    "evaluate": "scripts",
    "flatten": "data",
    "install": "accel.install",
    "load_data": "data",
    "load_ipython_extension": "accel.install",
    "pack": "engine",
    "plot_images": "plots",
    "predict": "scripts",
    "scale": "data",
    "sgd_epoch": "scripts",
    "sgd_many": "scripts",
    "to_categorical": "data",
    "uninstall": "accel.install",
    "unload_ipython_extension": "accel.install",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
