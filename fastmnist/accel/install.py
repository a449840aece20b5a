"""Replace loops outside of ``fastmnist run``: in modules that are imported from now on, and in a notebook's cells.

Python compiles a file before it runs a line of it, so the script that calls `install` runs as it was compiled; what it
imports afterwards is rewritten on the way in. Only modules of the program's own folder are, and sources stay as they
are.
"""

from __future__ import annotations

import ast
import builtins
import importlib.machinery
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastmnist.accel.hooks import ALWAYS, ON_REQUEST, Hooks
from fastmnist.accel.report import Report
from fastmnist.accel.rewrite import HOOKS


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads a module with its loops hooked."""

    def __init__(self, name: str, path: str, tree: ast.Module, hooks: Hooks) -> None:
        super().__init__(name, path)
        self._tree = tree
        self._hooks = hooks

    def get_code(self, fullname: str) -> types.CodeType:
        rewritten = self._hooks.rewrite(self._tree, self.path, Path(self.path).name)
        code: types.CodeType = compile(rewritten, self.path, "exec", dont_inherit=True)
        return code


class _Finder:
    """Finds modules of the program's own folder, on `sys.meta_path`."""

    def __init__(self, hooks: Hooks, folder: str) -> None:
        self._hooks = hooks
        self._folder = Path(folder or ".").resolve()

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        top = self._folder / name.partition(".")[0]
        if not (top.is_dir() or top.with_suffix(".py").is_file()):  # most imports are of libraries
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or type(spec.loader) is not importlib.machinery.SourceFileLoader:
            return None
        origin = Path(spec.loader.path).resolve()
        if not origin.is_relative_to(self._folder) or {"site-packages", "dist-packages"} & set(origin.parts):
            return None
        source = spec.loader.get_data(spec.loader.path)
        if b"numpy" not in source:  # there is nothing to replace
            return None
        try:
            tree = ast.parse(source, spec.loader.path)
        except (SyntaxError, ValueError):
            return None  # the error is to be raised where it always is
        spec.loader = _Loader(name, spec.loader.path, tree, self._hooks)
        return spec


class _CellTransformer:
    """Rewrites cells, as one of IPython's ``ast_transformers``."""

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks

    def visit(self, tree: ast.Module) -> ast.Module:
        return self._hooks.rewrite(tree, "", "cell")


_finder: _Finder | None = None
_transformer: _CellTransformer | None = None


def install_hooks(hooks: Hooks, folder: str) -> None:
    """Let rewritten sources find `hooks`, and rewrite the modules of `folder` that are imported from now on."""
    global _finder
    uninstall()
    _finder = _Finder(hooks, folder)
    setattr(builtins, HOOKS, hooks)
    place = next((k for k, f in enumerate(sys.meta_path) if f is importlib.machinery.PathFinder), len(sys.meta_path))
    sys.meta_path.insert(place, _finder)


def install(*, verbose: int = 0, verify: bool = False) -> None:
    """Replace training loops in modules imported from now on, from the folder of the running script.

    The script or session that calls this, and modules imported before, run as they were compiled: use ``fastmnist run``
    for scripts and ``%load_ext fastmnist`` in notebooks. Calling it again changes the settings.

    Parameters
    ----------
    verbose : int, default 0
        1: say on stderr what becomes of each loop; 2: at each pass through it.
    verify : bool, default False
        Run twenty iterations of each loop both ways before it is replaced, instead of two.

    Examples
    --------
    >>> import fastmnist
    >>> fastmnist.install()
    >>> fastmnist.uninstall()
    """
    install_hooks(_hooks(verbose, verify), sys.path[0])


def uninstall() -> None:
    """Run all loops as they are written, those in modules imported meanwhile too."""
    global _finder
    if _finder is not None:
        sys.meta_path.remove(_finder)
        _finder = None
        getattr(builtins, HOOKS).active = False


def load_ipython_extension(shell: Any) -> None:
    """Replace training loops in the cells run from now on: ``%load_ext fastmnist``."""
    global _transformer
    hooks = _hooks(verbose=1, verify=False)
    install_hooks(hooks, "")
    _transformer = _CellTransformer(hooks)
    shell.ast_transformers.append(_transformer)


def unload_ipython_extension(shell: Any) -> None:
    """Run cells as they are written: ``%unload_ext fastmnist``."""
    global _transformer
    uninstall()
    if _transformer in shell.ast_transformers:
        shell.ast_transformers.remove(_transformer)
    _transformer = None


def _hooks(verbose: int, verify: bool) -> Hooks:
    """Return the hooks that sources were rewritten for, if any were, with these settings."""
    iterations, say = ON_REQUEST if verify else ALWAYS, Report(verbose, profile=False).say
    hooks: Hooks = getattr(builtins, HOOKS, None) or Hooks(iterations, say)
    hooks.verify, hooks.say, hooks.active = iterations, say, True
    return hooks
