"""Whether the statements between two passes of a loop can write to an array: then what was packed need not be compared.

A loop over epochs is quiet if, but for its replaced loops, it only assigns names, compares, counts and prints, with
functions and values that are known to do no more, and draws or shuffles an order. By induction nothing but that happens
until the loop is left.
"""

from __future__ import annotations

import ast
import io
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmnist.accel.program import MISSING, Path, Scope

_EXPRESSIONS = (
    ast.Constant, ast.Name, ast.Attribute, ast.Subscript, ast.Slice, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare,
    ast.IfExp, ast.Tuple, ast.JoinedStr, ast.FormattedValue, ast.Call, ast.keyword, ast.operator, ast.unaryop,
    ast.boolop, ast.cmpop, ast.expr_context,
)  # fmt: skip
_KEYWORDS = frozenset({"axis", "keepdims", "end", "sep", "flush"})
_FUNCTIONS = {
    print, str, repr, format, len, int, float, bool, abs, round, min, max, range, zip, enumerate, time.time,
    time.perf_counter, np.arange,
}  # fmt: skip
_REDUCTIONS = {np.sum, np.mean, np.max, np.min, np.argmax}  # of an array, and along an axis: no third argument, ``out``
_OWNERS = ("builtins", "time", "numpy")  # of those functions, unless the program has put others in their place
_METHODS = frozenset({"sum", "mean", "max", "min", "argmax"})
_STREAMS = (np.random.RandomState, np.random.Generator)
_PLAIN = {int, float, str, bool, type(None), range}


@dataclass
class Between:
    """What a loop over epochs does outside of the loops in it that are replaced."""

    quiet: bool = True
    called: list[ast.Call] = field(default_factory=list)
    read: set[str] = field(default_factory=set)
    augmented: set[str] = field(default_factory=set)
    set_anew: set[str] = field(default_factory=set)
    shuffled: set[str] = field(default_factory=set)

    def holds(self, scope: Scope, arrays: Sequence[NDArray[Any]]) -> bool:
        """Whether the names mean what they seem to mean, and `arrays` stay as they are."""
        if np.get_printoptions()["formatter"]:
            return False
        calls = {node.func.id for node in self.called if isinstance(node.func, ast.Name)}
        return (
            self.quiet
            and not self.set_anew & (self.augmented | self.shuffled | calls)
            and all(_is_alone(thread) for thread in threading.enumerate())
            and all(_is_known(scope, node) for node in self.called)
            and all(_is_number(_value(scope, name)) for name in self.augmented)
            and all(_is_apart(_value(scope, name), arrays) for name in self.shuffled)
            and all(_is_plain(_value(scope, name)) for name in self.read - calls)
        )


def look_between(outer: ast.For, hooked: set[tuple[int, int]]) -> Between:
    """Collect what `outer` does, but for the loops that are hooked, given by line and column."""
    between = Between()
    between.set_anew |= {n.id for n in ast.walk(outer.target) if isinstance(n, ast.Name)}
    for statement in _statements(outer.body, hooked):
        match statement:
            case ast.For(iter=expression) if _position(statement) in hooked:
                between.set_anew |= set(_stored(statement))
            case ast.For(target=target, iter=expression):
                between.set_anew |= {n.id for n in ast.walk(target) if isinstance(n, ast.Name)}
            case ast.Assign(targets=targets, value=expression) if all(map(_is_names, targets)):
                if not _is_new(expression):
                    between.set_anew |= {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)}
            case ast.AugAssign(target=ast.Name(id=name), value=expression):
                between.augmented.add(name)
            case ast.Expr(value=expression) | ast.If(test=expression):
                pass
            case ast.Continue() | ast.Break() | ast.Pass():
                continue
            case _:
                between.quiet = False
                continue
        _look_at(expression, between)
    return between


def _look_at(expression: ast.expr, between: Between) -> None:
    functions = {id(node.func) for node in ast.walk(expression) if isinstance(node, ast.Call)}
    for node in ast.walk(expression):
        match node:
            case ast.Call(keywords=keywords):
                between.called.append(node)
                if isinstance(node.func, ast.Attribute) and node.func.attr == "shuffle":
                    names = {part.id for part in node.args if isinstance(part, ast.Name)}
                    between.shuffled |= names
                    between.quiet &= len(names) == len(node.args) == 1
                between.quiet &= all(k.arg in _KEYWORDS for k in keywords)
            case ast.Name(id=name) if id(node) not in functions:
                between.read.add(name)
        between.quiet &= isinstance(node, _EXPRESSIONS)


def _is_new(expression: ast.expr) -> bool:
    """Whether this gives constants, or an array with memory of its own."""
    match expression:
        case ast.Call(func=ast.Attribute(attr="arange" | "permutation")):
            return True
    return all(isinstance(n, ast.Constant | ast.Tuple | ast.Load) for n in ast.walk(expression))


def _position(statement: ast.stmt) -> tuple[int, int]:
    return statement.lineno, statement.col_offset


def _statements(body: list[ast.stmt], hooked: set[tuple[int, int]]) -> Iterator[ast.stmt]:
    for statement in body:
        yield statement
        if isinstance(statement, ast.If | ast.For) and _position(statement) not in hooked:
            yield from _statements(statement.body, hooked)
            yield from _statements(statement.orelse, hooked)


def _stored(loop: ast.For) -> Iterator[str]:
    augmented = {id(n.target) for n in ast.walk(loop) if isinstance(n, ast.AugAssign)}
    for node in ast.walk(loop):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and id(node) not in augmented:
            yield node.id


def _is_names(target: ast.expr) -> bool:
    return all(isinstance(n, ast.Name | ast.Tuple | ast.Store) for n in ast.walk(target))


def _is_alone(thread: threading.Thread) -> bool:
    return thread is threading.main_thread() or thread.name.startswith("fastmnist")


def _value(scope: Scope, name: str) -> Any:
    return scope.resolve(("name", name))


def _is_plain(value: Any) -> bool:
    """Whether reading, computing with, and printing a value does no more than that."""
    if type(value) is np.ndarray:
        return value.dtype.kind in "biuf"
    return value is MISSING or _is_number(value) or type(value) in _STREAMS or value in (np, np.random, sys, time)


def _is_number(value: Any) -> bool:
    """Whether this is a number, or something else, of a type that is not the program's own."""
    return type(value) in _PLAIN or (isinstance(value, np.generic) and type(value).__module__ == "numpy")


def _is_apart(value: Any, arrays: Sequence[NDArray[Any]]) -> bool:
    return type(value) is np.ndarray and not any(np.may_share_memory(value, array) for array in arrays)


def _is_known(scope: Scope, call: ast.Call) -> bool:
    """Whether a function that is called changes nothing."""
    match call.func:
        case ast.Attribute(value=ast.Constant(value=str()), attr="format" | "join" | "ljust" | "rjust"):
            return True
        case ast.Attribute(value=ast.Name(id=name), attr="append"):
            return type(_value(scope, name)) is list
        case ast.Attribute(value=ast.Name(id=name), attr=method) if method in _METHODS and len(call.args) < 2:
            if type(_value(scope, name)) is np.ndarray:
                return True
        case ast.Attribute(attr="permutation" | "shuffle" as name):
            # NumPy's own functions are methods of a stream, too.
            function = scope.resolve(_path(call.func))
            return type(getattr(function, "__self__", None)) in _STREAMS and function.__name__ == name
        case ast.Attribute(value=ast.Attribute(value=ast.Name(id=name), attr="stdout"), attr="write" | "flush"):
            return _value(scope, name) is sys and _prints_plainly()
    function = scope.resolve(_path(call.func))
    try:
        is_known = function in _FUNCTIONS or (function in _REDUCTIONS and len(call.args) < 3)
    except TypeError:
        return False
    return is_known and function.__module__ in _OWNERS and (function is not print or _prints_plainly())


def _prints_plainly() -> bool:
    return type(sys.stdout) in (io.TextIOWrapper, io.StringIO)


def _path(function: ast.expr) -> Path:
    match function:
        case ast.Name(id=name):
            return ("name", name)
        case ast.Attribute(value=owner, attr=name):
            return ("attr", _path(owner), name)
    return ("name", "")
