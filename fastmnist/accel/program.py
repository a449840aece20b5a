"""The running program as the recogniser sees it: places that hold values, and the sources of its functions."""

from __future__ import annotations

import ast
import builtins
import linecache
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

# How to get at a value from the loop: ("name", n), ("attr", path, n), ("item", path, key), ("source", k) for an array
# that the loop runs over, ("local", n) for a variable of the generator that it runs over, ("function",) for what made
# that, ("drawn",) for row numbers drawn in each iteration, ("global", path, n) for a name that the function at `path`
# uses. Data may be derived: ("flipped", path), the transpose; ("scaled", path, c), the products with c; ("taken", path,
# path), the rows that the second array lists; ("sliced", path, path), the same, as k:k + 1; ("eye", n), the identity;
# ("largest", path), the largest entry.
Path: TypeAlias = tuple[Any, ...]

MISSING: Any = object()


def _scaled(array: Any, factor: float) -> Any:
    """Divide where the program will have divided: / 255 is not * (1 / 255), to the last bit."""
    divisor = round(1 / factor) if abs(factor) < 1 else 0
    return array / divisor if divisor and abs(divisor * factor - 1) < 1e-9 else array * factor


def _eye(n: int) -> Any:
    import numpy as np

    return np.eye(n)


def _sliced(array: Any, rows: Any) -> Any:
    if rows.size and not 0 <= rows.min() <= rows.max() < len(array):
        raise Refused("slices that are empty, or counted from the end")
    return array[rows]


_DERIVED: dict[str, Any] = {
    "flipped": lambda array: array.T,
    "scaled": _scaled,
    "taken": lambda array, rows: array[rows],
    "sliced": _sliced,
    "eye": _eye,
    "largest": lambda array: array.max(),
}


def origins(path: Path) -> Iterator[Path]:
    """Yield the arrays of the program that data are derived from."""
    if path[0] not in _DERIVED:
        yield path
    else:
        for part in path[1:]:
            if isinstance(part, tuple):
                yield from origins(part)


def shown(path: Path) -> str:
    """Return a place as the program writes it, in quotes."""

    def written(path: Path) -> str:
        match path:
            case ("attr", owner, name):
                return f"{written(owner)}.{name}"
            case ("item", owner, key):
                return f"{written(owner)}[{key!r}]"
            case ("source", _):
                return "the samples"
        return str(path[-1])

    return f"'{written(path)}'"


class Refused(Exception):
    """The loop is not, or not certainly, one that can be replaced."""

    def __init__(self, reason: str, line: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.line = line


class Scope:
    """The names of the frame in which a loop runs."""

    def __init__(self, frame: types.FrameType, source: Callable[[Path], Any]) -> None:
        self.source = source
        self.names = frame.f_locals
        self.module = frame.f_globals
        self.at_top = self.names is self.module
        self._own = () if self.at_top else frame.f_code.co_varnames + frame.f_code.co_cellvars
        self._known: dict[Path, Any] = {}
        self._drawn: tuple[int, Any] = (0, ())

    def draw(self, first: int, numbers: Any) -> None:
        """Take row numbers that have been drawn; `first` is how many have been drawn before."""
        self._drawn = first, numbers

    def resolve(self, path: Path) -> Any:
        """Return what is at `path`, or MISSING."""
        if path not in self._known:
            self._known[path] = self._resolve(path)
        return self._known[path]

    def _resolve(self, path: Path) -> Any:
        if path[0] == "name":
            name = path[1]
            for names in (self.names,) if name in self._own else (self.names, self.module, vars(builtins)):
                if name in names:
                    return names[name]
            return MISSING
        if path[0] in _DERIVED:
            return _DERIVED[path[0]](*(self.resolve(part) if isinstance(part, tuple) else part for part in path[1:]))
        if path[0] in ("source", "local", "function"):
            return self.source(path)
        kind, owner_path, key = path
        owner = self.resolve(owner_path)
        if kind == "global":
            return _name_in_function(owner, key)
        try:
            return getattr(owner, key) if kind == "attr" else owner[key]
        except (AttributeError, LookupError, TypeError):
            return MISSING

    def rows(self, path: Path, rows: slice) -> Any:
        """Return some rows of data, without making the others where they are derived."""
        match path:
            case ("taken" | "sliced" as kind, inner, order):
                return _DERIVED[kind](self.resolve(inner), self.rows(order, rows))
            case ("scaled", inner, factor):
                return _scaled(self.rows(inner, rows), factor)
            case ("drawn",):
                import numpy as np

                first, numbers = self._drawn
                return np.asarray(numbers[rows.start - first : rows.stop - first], np.int64)
        return self.resolve(path)[rows]

    def gathered_from(self, path: Path) -> Path | None:
        """Return the data that others are gathered from, None if they are not gathered."""
        match path:
            case ("taken" | "sliced", tuple(inner), _):
                return inner
            case ("scaled", inner, factor):
                base = self.gathered_from(inner)
                return None if base is None else ("scaled", base, factor)
        return None

    def numbers(self, path: Path, rows: slice) -> Any:
        """Return which rows some of the gathered ones are."""
        import numpy as np

        kind, inner, order = path
        if kind == "scaled":
            return self.numbers(inner, rows)
        return _DERIVED[kind](np.arange(self.count_rows(inner)), self.rows(order, rows))

    def count_rows(self, path: Path) -> int:
        """Return the length of data, without making them where they are derived."""
        match path:
            case ("scaled", inner, _) | ("taken" | "sliced", _, inner):
                return self.count_rows(inner)
            case ("drawn",):
                return sys.maxsize
        return len(self.resolve(path))

    def is_module(self, function: Path, name: str) -> bool:
        """Whether `name` in the function at this path is the loop's own global."""
        code = self.resolve(function)
        assert isinstance(code, types.FunctionType)
        if name in code.__code__.co_varnames:
            raise Refused(f"{name!r} is read before it is set")
        return self.at_top and code.__globals__ is self.module and name not in code.__code__.co_freevars


def _name_in_function(function: types.FunctionType, name: str) -> Any:
    code = function.__code__
    if name in code.co_freevars:
        try:
            return (function.__closure__ or ())[code.co_freevars.index(name)].cell_contents
        except ValueError:
            return MISSING
    for names in (function.__globals__, vars(builtins)):
        if name in names:
            return names[name]
    return MISSING


class Functions:
    """Finds a function's syntax tree in the sources of the program."""

    def __init__(self) -> None:
        self._at: dict[tuple[str, int, str], list[ast.FunctionDef | ast.Lambda]] = {}
        self._files: set[str] = set()

    def add(self, tree: ast.Module, filename: str) -> None:
        """Note every function of a source file."""
        self._files.add(filename)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and all(map(_is_staticmethod, node.decorator_list)):
                line = node.decorator_list[0].lineno if node.decorator_list else node.lineno
                self._at.setdefault((filename, line, node.name), []).append(node)
            elif isinstance(node, ast.Lambda):
                self._at.setdefault((filename, node.lineno, "<lambda>"), []).append(node)

    def _add_cell(self, filename: str) -> None:
        """Note the functions of a notebook's cell, whose lines are kept where tracebacks look for them."""
        entry = linecache.cache.get(filename, ())
        if len(entry) == 4 and entry[1] is None:  # no file: it cannot differ from what was compiled
            self.add(ast.parse("".join(entry[2])), filename)

    def source(self, function: types.FunctionType) -> ast.FunctionDef | ast.Lambda | None:
        """Return the one tree that `function` was made of."""
        return self.source_of(function.__code__)

    def source_of(self, code: types.CodeType) -> ast.FunctionDef | ast.Lambda | None:
        """Return the one tree that the code of a function or generator was made of."""
        if code.co_filename not in self._files:
            self._add_cell(code.co_filename)
        found = self._at.get((code.co_filename, code.co_firstlineno, code.co_name), [])
        if len(found) > 1:  # lambdas on one line
            # Python's own first instruction takes no place.
            places = ((line, a) for line, end, a, b in code.co_positions() if a is not None and (line, a) != (end, b))
            begin = next(places, (0, 0))
            found = [f for f in found if isinstance(f, ast.Lambda) and _begins_in(f.body, begin)]
        return found[0] if len(found) == 1 else None


def _is_staticmethod(decorator: ast.expr) -> bool:
    return isinstance(decorator, ast.Name) and decorator.id == "staticmethod"


def _begins_in(body: ast.expr, place: tuple[int | None, int]) -> bool:
    return (body.lineno, body.col_offset) <= place < (body.end_lineno, body.end_col_offset)
