"""Keras's names in ``fastmnist run``: served as cheaply as the program allows.

A program that loads MNIST and uses nothing else of Keras gets the data from our own loader, and need not wait for
Keras. As soon as it touches anything else, Keras itself is imported, and its models ask `fastmnist.accelerate` first;
where Keras or its backend is missing, `fastmnist.keras` takes its place.
"""

from __future__ import annotations

import functools
import importlib
import importlib.machinery
import importlib.util
import sys
import types
import weakref
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
_LATER, _REAL, _OURS = "later", "real", "ours"


def load_data(path: str = "mnist.npz") -> Any:
    """Return ``(x_train, y_train), (x_test, y_test)``, as Keras does."""
    from fastmnist import data

    return data.load_data("mnist")


class _Stub(types.ModuleType):
    """A module that has what is served, and else is the real one, or ours."""

    def __getattr__(self, name: str) -> Any:
        full = f"{self.__name__}.{name}"
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if _FINDER.mode == _LATER and full in _SERVED:
            return importlib.import_module(full)
        _FINDER.decide(self.__name__)
        module = importlib.import_module(self.__name__)
        if module is self:
            raise AttributeError(f"{full} needs TensorFlow, which cannot be imported here; tensorflow.keras is served")
        return getattr(module, name)


class _Finder:
    """Finds the modules, on `sys.meta_path`, and is the loader of those that are not Keras's own."""

    def __init__(self) -> None:
        self.mode = _REAL
        self.verbose = 0
        self.strict = False
        self.models: weakref.WeakKeyDictionary[Any, None] = weakref.WeakKeyDictionary()  # in order

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if self.mode == _REAL or name.partition(".")[0] not in ("keras", "tensorflow"):
            return None
        if self.mode == _LATER and name not in _SERVED:
            self.decide(name.partition(".")[0])
            return importlib.util.find_spec(name)
        return importlib.machinery.ModuleSpec(name, self, is_package=not name.endswith("mnist"))  # type: ignore

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _Stub(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        name = module.__name__
        if self.mode == _OURS:
            if name != "tensorflow":
                sys.modules[name] = _ours(name)
        elif name.endswith("mnist"):
            module.load_data = load_data  # type: ignore[attr-defined]

    def decide(self, wanted: str) -> None:
        """Import Keras, or put `fastmnist.keras` in its place; from now on the stubs are out of the way."""
        if self.mode != _LATER:
            return
        self.mode = _REAL
        _remove_modules()
        try:
            importlib.import_module(wanted)
            keras = importlib.import_module("keras")
        except ImportError as error:
            _remove_modules()
            self.mode = _OURS
            sys.stderr.write(f"[fastmnist] Keras cannot be imported here ({error}): fastmnist.keras takes its place\n")
        else:
            self.accelerate(keras)

    def accelerate(self, keras: Any) -> None:
        """Let each model ask our kernels first, from when it is compiled; let MNIST be ours, however it is found."""
        importlib.import_module("keras.datasets.mnist").load_data = load_data  # type: ignore[attr-defined]
        # Where it is defined: Keras leaves a loaded model uncompiled if its class's `compile` is not the trainer's.
        owner = next(c for c in keras.Model.__mro__ if "compile" in vars(c))
        compile_ = owner.compile

        @functools.wraps(compile_)
        def compile_and_accelerate(model: Any, *arguments: Any, **keywords: Any) -> None:
            compile_(model, *arguments, **keywords)
            _accelerate()(model, strict=self.strict, verbose=self.verbose)
            self.models[model] = None

        owner.compile = compile_and_accelerate


def _ours(name: str) -> types.ModuleType:
    """Return the module of ours that stands for one of Keras's."""
    rest = name.removeprefix("tensorflow.").removeprefix("keras")
    try:
        return importlib.import_module(f"fastmnist.keras{rest}")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{name} needs Keras, which cannot be imported here; fastmnist.keras{rest} is not there", name=name
        ) from error


def _accelerate() -> Any:
    return importlib.import_module("fastmnist").accelerate


def _remove_modules() -> None:
    for name in [n for n in sys.modules if n.partition(".")[0] in ("keras", "tensorflow")]:
        del sys.modules[name]


_FINDER: Any = _Finder()


def install(verbose: int, strict: bool) -> None:
    """Serve the names, unless Keras has been imported already.

    Parameters
    ----------
    verbose : int
        1 or more: say when a Keras model's method runs in Keras, and why.
    strict : bool
        Whether that is an error.
    """
    _FINDER.mode = _REAL if any(name in sys.modules for name in ("keras", "tensorflow")) else _LATER
    _FINDER.verbose, _FINDER.strict = min(verbose, 1), strict
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)


def at_work() -> bool:
    """Whether the program uses Keras for more than its data."""
    return bool(_FINDER.mode == _OURS or _FINDER.models)


def reports() -> list[str]:
    """Say where the methods of Keras's models have run."""
    return [f"{model.name}: {call}" for model in _FINDER.models for call in _accelerate().report(model)]
