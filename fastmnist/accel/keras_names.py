"""``keras.datasets.mnist`` from our own loader, for programs that use nothing else of Keras.

Active in ``fastmnist run`` only. As soon as a program touches anything else of Keras, the real one takes over.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Sequence
from typing import Any

_SERVED = (
    "keras",
    "keras.datasets",
    "keras.datasets.mnist",
    "tensorflow",
    "tensorflow.keras",
    "tensorflow.keras.datasets",
    "tensorflow.keras.datasets.mnist",
)


def load_data(path: str = "mnist.npz") -> Any:
    """Return ``(x_train, y_train), (x_test, y_test)``, as Keras does."""
    from fastmnist import data

    return data.load_data("mnist")


class _Stub(types.ModuleType):
    """A module that has what is served, and else is the real one."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if f"{self.__name__}.{name}" in _SERVED:
            return importlib.import_module(f"{self.__name__}.{name}")
        return getattr(_FINDER.real(self.__name__, f"{self.__name__}.{name}"), name)


class _Finder:
    """Finds the stubs, on `sys.meta_path`."""

    def __init__(self) -> None:
        self.active = False

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not self.active:
            return None
        if name in _SERVED:
            return importlib.machinery.ModuleSpec(name, self, is_package=not name.endswith("mnist"))  # type: ignore
        if name.startswith(("keras.", "tensorflow.")):
            self.real(name.partition(".")[0], name)
            return importlib.util.find_spec(name)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _Stub(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        if module.__name__.endswith("mnist"):
            module.load_data = load_data  # type: ignore[attr-defined]

    def real(self, name: str, wanted: str) -> types.ModuleType:
        """Step aside, and return the real module."""
        self.active = False
        stubs = {key: sys.modules.pop(key) for key in _SERVED if key in sys.modules}
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            sys.modules.update(stubs)
            self.active = True
            raise ImportError(
                f"{wanted} needs Keras, which cannot be imported here ({error}). fastmnist serves "
                "keras.datasets.mnist alone; Keras models are not served yet."
            ) from None
        return module


_FINDER: Any = _Finder()


def install() -> None:
    """Serve the names, unless Keras has been imported already."""
    _FINDER.active = not any(name in sys.modules for name in ("keras", "tensorflow"))
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
