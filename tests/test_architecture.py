"""The rules that the code keeps, beside what it computes."""

import ast
import doctest
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastmnist

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
KERNEL_FILES = sorted((Path(fastmnist.__file__).parent / "kernels").glob("*.py"))
HEAVY = {"numba", "llvmlite", "numpy", "rich", "pooch", "matplotlib"}


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("module", ["fastmnist", "fastmnist.__main__"])
def test_import_loads_nothing_heavy(module):
    loaded = run_python(f"import sys, {module}; print(*sys.modules)").split()
    assert module in loaded
    assert not HEAVY & set(loaded)


def test_import_takes_less_than_50_ms():
    code = "import time; start = time.perf_counter(); import fastmnist; print(time.perf_counter() - start)"
    assert min(float(run_python(code)) for _ in range(5)) < 0.05


def test_public_names():
    called_by_ipython = {"load_ipython_extension", "unload_ipython_extension"}
    assert {"__version__", *fastmnist._HOME} == {*fastmnist.__all__, *called_by_ipython}
    for name in fastmnist._HOME:
        assert hasattr(fastmnist, name)
    assert set(fastmnist.__all__) <= set(dir(fastmnist))
    with pytest.raises(AttributeError, match=r"module 'fastmnist' has no attribute 'no_such_name'"):
        _ = fastmnist.no_such_name


def test_import_contracts():
    pytest.importorskip("importlinter")
    code = "import sys; from importlinter import cli; sys.exit(cli.lint_imports('pyproject.toml', no_cache=True))"
    # In a process of its own: it forks, which JAX's threads would not survive.
    linted = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert linted.returncode == 0, linted.stdout


def decorator_names(function):
    for decorator in function.decorator_list:
        target = decorator.func if isinstance(decorator, ast.Call) else decorator
        if isinstance(target, ast.Name):
            yield target.id


def compiled_functions(source):
    """The functions that Numba compiles: those under a decorator of ``_jit``."""
    return [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef) and {"entry", "kernel", "inlined"} & set(decorator_names(node))
    ]


def what_a_kernel_may_not(function):
    """Yield whatever belongs in the engine: strings, None, exceptions, printing."""
    for statement in function.body[1:] if ast.get_docstring(function) else function.body:
        for node in ast.walk(statement):
            match node:
                case ast.Constant(value=str() | bytes() | None):
                    yield f"{function.name}, line {node.lineno}: the constant {node.value!r}"
                case ast.Try() | ast.Raise() | ast.Assert() | ast.With():
                    yield f"{function.name}, line {node.lineno}: {type(node).__name__.lower()}"
                case ast.Call(func=ast.Name(id="print" | "open" | "str" | "repr")):
                    yield f"{function.name}, line {node.lineno}: a call of {node.func.id}"


@pytest.mark.parametrize("path", KERNEL_FILES, ids=lambda path: path.name)
def test_kernels_are_loops_only(path):
    functions = compiled_functions(path.read_text(encoding="utf-8"))
    assert not [offence for function in functions for offence in what_a_kernel_may_not(function)]
    assert not [f.name for f in functions if not f.name.startswith("_") and ast.get_docstring(f) is None]


@pytest.mark.parametrize(
    "line", ["'text'", "None", "print(x)", "raise ValueError", "assert x", "try:\n  pass\n except E:\n  pass"]
)
def test_kernel_rules_bite(line):
    (function,) = compiled_functions(f"@entry\ndef f(x):\n '''Docstring.'''\n {line}")
    assert list(what_a_kernel_may_not(function))


def test_kernel_files_are_found():
    assert any(compiled_functions(path.read_text(encoding="utf-8")) for path in KERNEL_FILES)


@pytest.mark.parametrize("module", ["scripts", "engine.network", "engine.packing", "data", "keras.models"])
def test_docstring_examples(module):
    result = doctest.testmod(importlib.import_module(f"fastmnist.{module}"))
    assert result.attempted
    assert not result.failed


def test_readme_sets_up_with_two_commands():
    assert re.findall(r"^pip install .*&&.*$", README, re.MULTILINE) == [
        "pip install . && fastmnist train",
        'pip install ".[test]" && pytest',
    ]


def test_readme_examples_run(mnist, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    script, keras_script, pictures = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    names = {}
    exec(script, names)
    assert names["correct"] / len(names["y_test"]) > 0.85
    assert len(capsys.readouterr().out.splitlines()) == 10
    assert "epochs=5" in keras_script
    names = {}
    exec(keras_script.replace("epochs=5", "epochs=1"), names)
    assert names["model"].history.history["val_accuracy"][0] > 0.9
    exec(pictures, {})
    assert (tmp_path / "digits.png").stat().st_size > 0


def test_no_paths_of_one_machine():
    if not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout")
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    texts = {name: (ROOT / name).read_bytes() for name in files if (ROOT / name).is_file()}
    assert "README.md" in texts
    assert not [name for name, text in texts.items() if re.search(rb"/(?:work|home|root|Users)/\w", text)]
