"""Run a program as ``python`` would, with its training loops replaced."""

from __future__ import annotations

import ast
import builtins
import importlib.machinery
import importlib.util
import os
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastmnist.accel import keras_names
from fastmnist.accel.hooks import ALWAYS, ON_REQUEST, Hooks
from fastmnist.accel.install import install_hooks
from fastmnist.accel.report import Report


@dataclass(frozen=True)
class Options:
    """What ``fastmnist run`` was told."""

    verbose: int = 0
    verify: bool = False
    strict: bool = False
    explain: bool = False
    profile: bool = False


@dataclass(frozen=True)
class _Program:
    source: bytes
    filename: str
    shown: str  # in reports
    names: dict[str, Any]


def run_script(path: str, arguments: list[str], options: Options) -> int:
    """Run a file.

    Parameters
    ----------
    path : str
        The script.
    arguments : list of str
        Its arguments.
    options : Options
        How to report.

    Returns
    -------
    int
        The exit code. `SystemExit` passes through, for the interpreter to deal with.
    """
    try:
        source = Path(path).read_bytes()
    except OSError as error:
        print(f"fastmnist: can't open file {path!r}: [Errno {error.errno}] {error.strerror}", file=sys.stderr)
        return 2
    sys.argv[:] = [path, *arguments]
    sys.path[0] = os.path.dirname(os.path.realpath(path))
    filename = os.path.abspath(path)
    loader = importlib.machinery.SourceFileLoader("__main__", filename)
    names = {"__file__": filename, "__cached__": None, "__loader__": loader}
    return _run(_Program(source, filename, path, names), options)


def run_code(code: str, arguments: list[str], options: Options) -> int:
    """Run a string, as ``python -c`` does; see `run_script`."""
    sys.argv[:] = ["-c", *arguments]
    sys.path[0] = ""
    return _run(
        _Program(code.encode(), "<string>", "<string>", {"__loader__": importlib.machinery.BuiltinImporter}), options
    )


def run_module(name: str, arguments: list[str], options: Options) -> int:
    """Run a module, as ``python -m`` does; see `run_script`."""
    sys.path[0] = os.getcwd()
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{name}.__main__")
    except ImportError as error:
        print(f"fastmnist: error while finding module {name!r}: {error}", file=sys.stderr)
        return 1
    if spec is None or spec.origin is None or not isinstance(spec.loader, importlib.machinery.SourceFileLoader):
        print(f"fastmnist: no module named {name!r} with a source to run", file=sys.stderr)
        return 1
    sys.argv[:] = [spec.origin, *arguments]
    names = {
        "__file__": spec.origin,
        "__cached__": spec.cached,
        "__loader__": spec.loader,
        "__spec__": spec,
        "__package__": spec.parent,
    }
    return _run(_Program(spec.loader.get_data(spec.origin), spec.origin, name, names), options)


def _run(program: _Program, options: Options) -> int:
    module = types.ModuleType("__main__")
    names = vars(module)
    names.update({"__annotations__": {}, "__builtins__": builtins, "__package__": None, **program.names})
    sys.modules["__main__"] = module
    try:
        tree = ast.parse(program.source, program.filename)
        report = Report(options.verbose, options.profile)
        hooks = Hooks(ON_REQUEST if options.verify else ALWAYS, report.say)
        code = compile(
            hooks.rewrite(tree, program.filename, program.shown), program.filename, "exec", dont_inherit=True
        )
    except (SyntaxError, ValueError) as error:
        sys.excepthook(type(error), error.with_traceback(None), None)
        return 1
    if options.explain:
        report.explain([record.loop for record in hooks.records])
    install_hooks(hooks, sys.path[0])
    keras_names.install(options.verbose, options.strict)
    status = 0
    try:
        exec(code, names)
    except SystemExit:
        report.finish(hooks.records, keras_names.reports(), keras_names.at_work(), options.verify)
        raise
    except KeyboardInterrupt as error:
        _show(error, program.filename)
        status = 130
    except BaseException as error:
        _show(error, program.filename)
        status = 1
    refused = report.finish(hooks.records, keras_names.reports(), keras_names.at_work(), options.verify)
    if options.strict and refused and status == 0:
        for line in refused:
            print(f"[fastmnist] --strict: {line}", file=sys.stderr)
        return 3
    return status


def _show(error: BaseException, filename: str) -> None:
    """Print an exception as the interpreter would: without the frames above the program's own."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_globals.get("__name__") != "__main__":
        traceback = traceback.tb_next
    while traceback is not None and traceback.tb_frame.f_code.co_filename != filename:
        traceback = traceback.tb_next
    sys.stdout.flush()
    sys.excepthook(type(error), error.with_traceback(traceback), traceback)
