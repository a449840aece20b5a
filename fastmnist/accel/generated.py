"""Generators that hand out batches: what one does for an item is interpreted as a part of the loop's own iteration."""

from __future__ import annotations

import ast
import builtins
import copy
import inspect
import types
from collections.abc import Iterator
from functools import cache
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmnist.accel.interpret import Interpreter
from fastmnist.accel.program import Functions, Path, Refused, Scope
from fastmnist.accel.rewrite import stored
from fastmnist.accel.values import Value

_ITEMS = "__fastmnist_items__"
# What must not stand in a generator's function, but for its one yield; and what must not stand in the loop around that:
# other ways out of it, and of setting names.
_NOWHERE: tuple[type[ast.AST], ...] = (ast.Yield, ast.YieldFrom, ast.Await, ast.Global, ast.Nonlocal)
_NOT_IN_LOOP = (
    *_NOWHERE, ast.Return, ast.Break, ast.Continue, ast.Delete, ast.NamedExpr, ast.Try, ast.TryStar, ast.Match,
    ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp,
    ast.GeneratorExp,
)  # fmt: skip
_INNER = (ast.For, ast.While, ast.With)


class Generated:
    """A generator that has handed out its first item, and can go on at any other.

    Its function ends with a loop over a range or an array, whose last statement is the only one that yields. It carries
    no variable from one item to the next.

    Parameters
    ----------
    iterator : generator or enumerate
        The generator, not begun, which nobody else has; or what numbers its items.
    source : ast.FunctionDef
        Its function.
    frame : types.FrameType
        The frame of the loop that takes the items.
    functions : Functions
        The program's functions.

    Raises
    ------
    StopIteration
        If there are no items.
    """

    def __init__(
        self, iterator: Iterator[Any], source: ast.FunctionDef, frame: types.FrameType, functions: Functions
    ) -> None:
        generator, self._number = _taken_apart(iterator)
        self._code = generator.gi_code
        self._source, self._loop = source, _last_loop(source)
        first = next(iterator)
        self._iterator: Iterator[Any] = chain([first], iterator)
        names = generator.gi_frame.f_locals
        self._locals = {name: names[name] for name in names.keys() - stored(self._loop)}
        self._globals = generator.gi_frame.f_globals
        self._refusal: Refused | None = None
        self._over: range | NDArray[Any] = range(0)
        try:
            self._over = self._looped_over(Interpreter(Scope(frame, self.held), functions, set(), 1)).now
        except Refused as refusal:
            self._refusal = refusal

    def __len__(self) -> int:
        """Return how many items there are in all."""
        return len(self._over)

    def __iter__(self) -> Iterator[Any]:
        """Return an iterator over the items that are left."""
        return self._iterator

    def require_understood(self) -> None:
        """Refuse generators that loop over anything else."""
        if self._refusal is not None:
            raise self._refusal

    def held(self, path: Path) -> Any:
        """Return the function, or one of the local variables that stay as they are."""
        return self._locals[path[1]] if path[0] == "local" else types.FunctionType(self._code, self._globals)

    @property
    def form(self) -> Any:
        """What must be the same for a recognition to hold."""
        return self._code, self._number, self._over if isinstance(self._over, range) else "array"

    def value(self, at: Interpreter) -> Value:
        """Return the first item as the interpreter has it."""
        *statements, last = self._loop.body
        assert isinstance(last, ast.Expr)
        assert isinstance(last.value, ast.Yield)
        assert last.value.value is not None
        over = self._looped_over(at)
        if isinstance(over.now, range):
            if over.now != self._over:
                raise Refused("a generator would loop over another range now", self._loop.lineno)
            item = Value(over.now.start, affine=(over.now.step, over.now.start))
        else:
            item = at.subscript(over, Value(0, affine=(1, 0)))
        at.frames.append((self._names(at, self._loop.body), ("function",)))
        at.assign(self._loop.target, item)
        at.run(statements)
        value = at.eval(last.value.value)
        at.frames.pop()
        trace = at.trace
        changes = any(array.version for array in trace.arrays.values())
        if trace.bindings or trace.appended or trace.is_random or changes:
            raise Refused("a generator that does more than hand out items", self._loop.lineno)
        return value if self._number is None else at.pack([Value(self._number, affine=(1, self._number)), value])

    def go_on_at(self, k: int) -> Iterator[Any]:
        """Return an iterator over the items from number `k` on."""
        code = _continued(self._source, self._code.co_filename, tuple(self._locals))
        items: Iterator[Any] = types.FunctionType(code, self._globals)(*self._locals.values(), self._over[k:])
        self._iterator = items if self._number is None else enumerate(items, self._number + k)
        return self._iterator

    def release(self) -> None:
        """Let go of what it holds: the loop is left."""
        self._iterator, self._locals = iter(()), {}

    def _looped_over(self, at: Interpreter) -> Value:
        at.frames.append((self._names(at, [self._loop.iter]), ("function",)))
        value = at.eval(self._loop.iter)
        at.frames.pop()
        # An array that is not its own might be bound anew, where the generator goes on with this one.
        is_array = type(value.now) is np.ndarray and value.path is not None and value.path[0] == "local"
        if is_array or (value.fixed and isinstance(value.now, range)):
            return value
        raise Refused("a generator that loops over neither a range nor an array of its own", self._loop.lineno)

    def _names(self, at: Interpreter, parts: list[Any]) -> dict[str, Value]:
        """Return the local variables that some code reads and the loop does not set."""
        names = {node.id for part in parts for node in ast.walk(part) if isinstance(node, ast.Name)}
        return {name: at.load(("local", name)) for name in self._locals if name in names}


def opened(items: Any, written: ast.expr, frame: types.FrameType, functions: Functions) -> Any:
    """Return what a loop is to run over in place of `items`: a generator as `Generated`, where it can be understood.

    Parameters
    ----------
    items : object
        What the loop runs over. If it has a method that makes a generator, this is called, as the loop would.
    written : ast.expr
        How the program has it.
    frame, functions
        As for `Generated`.
    """
    is_new = inspect.isgeneratorfunction(getattr(type(items), "__iter__", None))
    iterator = iter(items) if is_new else items
    generator, _ = _taken_apart(iterator)
    if generator is None or inspect.getgeneratorstate(generator) != inspect.GEN_CREATED:
        return iterator
    source = functions.source_of(generator.gi_code)
    if not (is_new or _is_new(written, frame, generator.gi_code)) or not _is_understood(source, generator.gi_code):
        return iterator
    assert isinstance(source, ast.FunctionDef)
    try:
        return Generated(iterator, source, frame, functions)
    except StopIteration:
        return iterator


def _taken_apart(iterator: Any) -> tuple[Any, int | None]:
    """Return the generator, None if there is none, and the first number if its items are numbered."""
    number: Any = None
    if type(iterator) is enumerate:
        made_of: Any = iterator.__reduce__()[1]
        iterator, number = made_of
    return (iterator if type(iterator) is types.GeneratorType else None), number


def _is_new(written: ast.expr, frame: types.FrameType, code: types.CodeType) -> bool:
    """Whether the program can have a generator nowhere else, as it is made where the loop begins."""
    match written:
        case ast.Call(func=ast.Name() as name, args=[numbered, *_]) if _found(name, frame) is enumerate:
            made_by = getattr(type(_found(numbered, frame)), "__iter__", None)
            return getattr(made_by, "__code__", None) is code or _is_new(numbered, frame, code)
        case ast.Call(func=called):
            function = _found(called, frame)
            return getattr(getattr(function, "__func__", function), "__code__", None) is code
    return False


def _found(node: ast.expr, frame: types.FrameType) -> Any:
    """Return what a name or an attribute stands for, if no code of the program's is needed to tell."""
    match node:
        case ast.Name(id=name):
            return next((n[name] for n in (frame.f_locals, frame.f_globals, vars(builtins)) if name in n), None)
        case ast.Attribute(value=owner, attr=name):
            return inspect.getattr_static(_found(owner, frame), name, None)
    return None


def _is_understood(source: ast.FunctionDef | ast.Lambda | None, code: types.CodeType) -> bool:
    """Whether a function ends with a loop that yields once, at its end, and has no other way out."""
    match source:
        case ast.FunctionDef(
            body=[*before, ast.For(orelse=[], body=[*_, ast.Expr(ast.Yield(ast.expr()) as last)]) as loop]
        ):
            first = not any(isinstance(n, _NOWHERE) for part in before for n in ast.walk(part))
            again = not any(isinstance(n, _NOT_IN_LOOP) for n in ast.walk(loop) if n is not last)
            is_plain = not any(map(_is_private, ast.walk(loop))) and not code.co_freevars and not code.co_cellvars
            is_fresh = _carries_nothing(loop.body, stored(loop.target), stored(loop))
            return first and again and is_plain and is_fresh
    return False


def _carries_nothing(body: list[ast.stmt], names: set[str], own: set[str]) -> bool:
    """Whether each of a loop's `own` names is set before it is read, in every pass; `names` are set before `body`."""
    for statement in body:
        branches = (statement.body, statement.orelse) if isinstance(statement, ast.If) else ()
        read = set(_read(statement.test if isinstance(statement, ast.If) else statement))
        if isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name):
            read.add(statement.target.id)
        if read & (own - names) or not all(_carries_nothing(branch, set(names), own) for branch in branches):
            return False
        new = stored(statement) - names
        sometimes = any(new - stored(*branch) for branch in branches) or isinstance(statement, _INNER)
        if new and sometimes:
            return False
        names |= new
    return True


def _read(node: ast.AST) -> Iterator[str]:
    return (n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load))


def _is_private(node: ast.AST) -> bool:
    """Whether a name means another one within a class."""
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    return name.startswith("__") and not name.endswith("__")


def _last_loop(source: ast.FunctionDef) -> ast.For:
    loop = source.body[-1]
    assert isinstance(loop, ast.For)
    return loop


@cache
def _continued(source: ast.FunctionDef, filename: str, names: tuple[str, ...]) -> types.CodeType:
    """Compile the loop of a generator's function as one of its local variables, and of the items that are left."""
    loop = copy.deepcopy(_last_loop(source))
    loop.iter = ast.copy_location(ast.Name(_ITEMS, ast.Load()), loop.iter)
    parameters = ast.arguments([], [ast.arg(name) for name in (*names, _ITEMS)], None, [], [], None, [])
    function = ast.copy_location(ast.FunctionDef(source.name, parameters, [loop], [], None), source)
    module = compile(ast.fix_missing_locations(ast.Module([function], [])), filename, "exec", dont_inherit=True)
    return next(constant for constant in module.co_consts if isinstance(constant, types.CodeType))
