"""One iteration of a loop, interpreted: its own statements, over the values that the program holds at that moment.

Each value is carried twice: as NumPy computes it for this one iteration (on copies), which settles shapes, types and
branches, and as an expression in terms of what the iteration found, see `algebra`. Whatever is not understood raises
`Refused`, with its line. Nothing of the program is changed, and no random number is drawn.
"""

from __future__ import annotations

import ast
import operator
import types
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from fastmnist.accel.algebra import Algebra, Node, is_found
from fastmnist.accel.program import MISSING, Functions, Path, Refused, Scope, shown
from fastmnist.accel.rewrite import obstacle
from fastmnist.accel.values import Trace, Value, logical

_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.MatMult: operator.matmul,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}
_MIRRORED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Gt: ast.Lt,
    ast.Lt: ast.Gt,
    ast.GtE: ast.LtE,
    ast.LtE: ast.GtE,
    ast.Eq: ast.Eq,
    ast.NotEq: ast.NotEq,
}
_DICTIONARIES = (dict, OrderedDict)
_STEPS = 60_000  # statements of one iteration, unrolled, beyond which analysing it would cost too much
_DEPTH = 20  # calls within calls
_SCHEDULED = 1_000_000  # iterations for each of which a condition is computed: 0.2 s


class _Return(Exception):
    def __init__(self, value: Value) -> None:
        self.value = value


class Interpreter:
    """Interprets the body of a loop once.

    Parameters
    ----------
    scope : Scope
        The names that the loop sees.
    functions : Functions
        Finds the source of the program's own functions.
    carried : set of Path
        Numbers that an earlier interpretation saw change: they are symbols, not constants.
    iterations : int
        How many there are, at most.
    trained : set of Path, optional
        Arrays that each iteration changes; all others are data then, of which each iteration takes all rows.
    """

    def __init__(
        self, scope: Scope, functions: Functions, carried: set[Path], iterations: int, trained: set[Path] | None = None
    ) -> None:
        from fastmnist.accel.numpy_calls import CALLS, DICTIONARY_METHODS, LIST_METHODS, METHODS

        self.calls, self.methods = CALLS, METHODS
        self.dictionary_methods, self.list_methods = DICTIONARY_METHODS, LIST_METHODS
        self.scope = scope
        self.functions = functions
        self.carried = carried
        self.trained = trained
        self.iterations = iterations
        self.algebra: Algebra = Algebra()
        self.trace = Trace(self.algebra, np.zeros(iterations, bool))
        self.frames: list[tuple[dict[str, Value], Path | None]] = [({}, None)]
        self.heap: dict[tuple[int, Any], Value] = {}
        self.moved: set[Node] = set()
        self.meets_moved = False
        self.line = 0
        self.steps = 0

    # Statements

    def run(self, body: Iterable[ast.stmt]) -> None:
        """Interpret statements."""
        for statement in body:
            self.line = getattr(statement, "lineno", self.line)
            self.steps += 1
            if self.steps > _STEPS:
                raise Refused("one iteration takes too many steps to analyse", self.line)
            try:
                self.statement(statement)
            except Refused as refusal:
                refusal.line = refusal.line or self.line
                raise

    def statement(self, node: ast.stmt) -> None:
        """Interpret one statement."""
        match node:
            case ast.Assign(targets=targets, value=value):
                result = self.eval(value)
                for target in targets:
                    self.assign(target, result)
            case ast.AnnAssign(target=target, value=value) if value is not None:
                self.assign(target, self.eval(value))
            case ast.AugAssign(target=target, op=op, value=value):
                self.augment(target, op, value)
            case ast.Expr(value=ast.Constant()) | ast.Pass():
                pass
            case ast.Expr(value=value):
                self.eval(value)
            case ast.If(test=test, body=body, orelse=orelse):
                self.choose(test, body, orelse)
            case ast.For(target=target, iter=iterable, body=body, orelse=[]):
                for item in self.each(self.eval(iterable)):
                    self.assign(target, item)
                    self.run(body)
            case ast.Return(value=value) if len(self.frames) > 1:
                raise _Return(self.eval(value) if value is not None else Value(None))
            case _:
                raise Refused(f"the statement {ast.unparse(node).splitlines()[0]!r}")

    def choose(self, test: ast.expr, body: list[ast.stmt], orelse: list[ast.stmt]) -> None:
        """Interpret the branch of ``if test: body`` that is taken, where the data do not decide."""
        try:
            condition = self.keys_of(self.eval(test))
            if condition.fixed:
                branch = body if condition.now else orelse
            elif (truths := self.schedule(condition)) is not None:
                branch = self.usual([bool(truth) for truth in truths], body, orelse)
            else:
                self.count_if(condition, body, orelse)
                return
        except Refused as refusal:
            if found := obstacle(body) or obstacle(orelse):
                reason, line = found
                raise Refused(f"{reason}, under a condition that is not understood", line) from refusal
            raise
        self.run(branch)

    def usual(self, truths: list[bool], body: list[ast.stmt], orelse: list[ast.stmt]) -> list[ast.stmt]:
        """Return the branch that most iterations take, or the only one that can be replaced; note the others."""
        usual = 2 * sum(truths) > len(truths)
        hopeless = [self.is_hopeless(branch) for branch in (orelse, body)]
        if hopeless[0] != hopeless[1]:
            usual = hopeless[0]
        unusual = np.array(truths) != usual
        if unusual.any():
            self.trace.unusual |= unusual
            self.trace.set_before.append(set(self.trace.bindings))
        return body if usual else orelse

    def is_hopeless(self, branch: list[ast.stmt]) -> bool:
        """Whether no replaced iteration can take a branch."""
        returns = len(self.frames) > 1 and branch and isinstance(branch[-1], ast.Return)
        return obstacle(branch[:-1] if returns else branch) is not None

    def count_if(self, condition: Value, body: list[ast.stmt], orelse: list[ast.stmt]) -> None:
        """``if condition: count += 1``, and the same or nothing for else."""
        node = self.truth(condition)
        for branch, when in ((body, node), (orelse, self.otherwise(node))):
            match branch:
                case []:
                    continue
                case [ast.AugAssign(target=ast.Name() | ast.Attribute() as target, op=ast.Add(), value=step)]:
                    amount, old = self.eval(step), self.eval(_load(target))
                    if amount.fixed and type(amount.now) in (int, float) and not isinstance(old.now, np.ndarray):
                        total = self.algebra.add(self.node(old), self.algebra.times(float(amount.now), when))
                        self.assign(target, Value(old.now + amount.now, total))
                        continue
            raise Refused("a branch that depends on the data")

    def truth(self, condition: Value) -> Node:
        """Return 1 where a condition holds and 0 where it does not."""
        node = self.exact(condition)
        if node.shape != (1, 1) or not isinstance(condition.now, bool | np.bool_):
            raise Refused("a condition that depends on the data")
        return node

    def assign(self, target: ast.expr, value: Value) -> None:
        """Interpret an assignment."""
        match target:
            case ast.Name(id=name):
                if len(self.frames) == 1:
                    self.bind(("name", name), value)
                self.frames[-1][0][name] = value
            case ast.Tuple(elts=targets) | ast.List(elts=targets):
                values = list(self.each(value))
                if len(values) != len(targets) or any(isinstance(t, ast.Starred) for t in targets):
                    raise Refused("this kind of unpacking")
                for t, v in zip(targets, values, strict=True):
                    self.assign(t, v)
            case ast.Attribute(value=base, attr=name):
                owner = self.eval(base)
                self.plain_attributes(owner)
                assert owner.path is not None
                self.bind(("attr", owner.path, name), value)
                self.heap[id(owner.now), name] = value
            case ast.Subscript(value=base, slice=index):
                owner, key = self.place_in(base, index)
                if owner.items is not None and type(owner.now) is list and key.fixed and type(key.now) is int:
                    owner.items[key.now] = value
                    return
                if owner.entries is not None and _is_key(key):
                    owner.entries[key.now] = value
                    owner.now[key.now] = value.now
                    return
                if isinstance(owner.now, np.ndarray) and not owner.fixed:
                    from fastmnist.accel.numpy_calls import set_item

                    self.update(owner, set_item(self, owner, key, value))
                    return
                if type(owner.now) not in (list, *_DICTIONARIES) or owner.path is None or not _is_key(key):
                    raise Refused(f"an assignment to {ast.unparse(target)}")
                place = ("item", owner.path, self.key(owner.now, key.now))
                self.bind(place, value)
                self.heap[id(owner.now), place[2]] = value
            case _:
                raise Refused(f"an assignment to {ast.unparse(target)}")

    def place_in(self, base: ast.expr, index: ast.expr) -> tuple[Value, Value]:
        """Return what is assigned to and where in it; ``t[0][k]`` is ``t[0, k]``."""
        if isinstance(base, ast.Subscript):
            outer, row = self.eval(base.value), self.eval(base.slice)
            if isinstance(outer.now, np.ndarray) and not outer.fixed and row.fixed and isinstance(row.now, int):
                return outer, self.pack([row, self.eval(index)])
            return self.looked_at(self.subscript(outer, row)), self.eval(index)
        return self.eval(base), self.eval(index)

    def bind(self, place: Path, value: Value) -> None:
        """Note that a place outlives the iteration with this value."""
        self.trace.bindings[place] = value
        self.trace.lines[place] = self.line
        if isinstance(self.trace.reads.get(place), np.ndarray):
            self.note_moved(value)

    def note_moved(self, value: Value) -> None:
        """Remember what the iteration has made of an array that it found."""
        if self.meets_moved:
            raise Refused("one iteration is more than one step: it changes weights again that its data have met")
        if value.node is not None:
            self.moved |= {value.node, self.algebra.transpose(value.node)}

    def augment(self, target: ast.expr, op: ast.operator, expression: ast.expr) -> None:
        """Interpret ``target op= expression``."""
        if isinstance(target, ast.Subscript) and isinstance(op, ast.Add | ast.Sub):
            owner = self.eval(target.value)
            if isinstance(owner.now, np.ndarray) and not owner.fixed:
                from fastmnist.accel.numpy_calls import add_to_item

                key, version = self.eval(target.slice), owner.version
                amount = self.eval(expression)
                if owner.version != version:
                    raise Refused("an array that is changed while a part of it is added to")
                whole = add_to_item(self, owner, key, amount, 1.0 if isinstance(op, ast.Add) else -1.0)
                if whole is None:
                    raise Refused("an in-place change of a part of an array that is not understood")
                self.update(owner, whole)
                return
        old, other = self.eval(_load(target)), self.eval(expression)
        result = self.binary(op, old, other)
        if isinstance(old.now, np.ndarray):
            self.update(old, result)
            result = old
        elif old.items is not None or isinstance(old.now, list | dict | set):
            raise Refused(f"an in-place change of a {type(old.now).__name__}")
        self.assign(target, result)

    def update(self, old: Value, new: Value) -> None:
        """``old[...] = new``."""
        if old.base is not None:
            raise Refused("a view of another array is changed in place")
        if old.node is None or new.node is None or np.shape(new.now) != np.shape(old.now):
            raise Refused("an array is changed in place in a way that is not understood")
        if np.asarray(new.now).dtype != old.now.dtype:
            raise Refused(f"{np.asarray(new.now).dtype} values are stored into an array of {old.now.dtype}")
        old.now, old.node = new.now, new.node
        old.version += 1
        if old.path is not None:
            self.trace.lines[old.path] = self.line
            self.note_moved(old)

    # Places

    def read(self, path: Path) -> Any:
        """Return what is at `path` now, and remember that it was relied on."""
        value = self.scope.resolve(path)
        if value is MISSING:
            raise Refused(f"{shown(path)} is not defined")
        if path not in self.trace.reads:
            self.trace.reads[path] = value
        return value

    def load(self, path: Path) -> Value:
        """Return the value that the iteration finds at `path`."""
        now = self.read(path)
        if isinstance(now, np.ndarray):
            if id(now) not in self.trace.arrays:
                if type(now) is not np.ndarray or now.dtype.kind not in "biuf" or not now.dtype.isnative:
                    raise Refused(f"{shown(path)} is an array of type {type(now).__name__}, {now.dtype}")
                is_data = self.trained is not None and path not in self.trained
                node = self.all_rows(path, now) if is_data else self.algebra.leaf("array", path, shape=logical(now))
                self.trace.arrays[id(now)] = Value(now, node, path=path)
            return self.trace.arrays[id(now)]
        if path in self.carried:
            if type(now) not in (int, float, np.float64, np.int64):
                raise Refused(f"{shown(path)} is a {type(now).__name__} that changes in the loop")
            return Value(now, self.algebra.leaf("carried", path, shape=(1, 1)), path=path)
        return Value(now, path=path)

    def all_rows(self, path: Path, now: np.ndarray[Any, Any]) -> Node:
        """Return the samples of data, the same in each iteration; there are more of them than inputs or classes."""
        n, width = logical(now)
        if now.ndim == 1:
            return self.algebra.leaf("items", path, 0, 0, width, shape=(1, width))
        if n < width and now.ndim == 2:
            return self.algebra.transpose(self.algebra.leaf("rows", ("flipped", path), 0, 0, width, shape=(width, n)))
        return self.algebra.leaf("rows", path, 0, 0, n, shape=(n, width))

    def name(self, name: str) -> Value:
        """Return what a name stands for."""
        names, function = self.frames[-1]
        if name in names:
            return names[name]
        if function is None or self.scope.is_module(function, name):
            main = self.frames[0][0]
            if name in main:
                return main[name]
            return self.load(("name", name))
        return self.load(("global", function, name))

    @staticmethod
    def plain_attributes(owner: Value) -> None:
        """Refuse objects whose attributes may be more than they seem."""
        kind = type(owner.now)
        if owner.path is None or not owner.fixed or isinstance(owner.now, type | types.ModuleType | np.ndarray):
            raise Refused("an attribute of an object that is not understood")
        if any(getattr(kind, name) is not getattr(object, name) for name in ("__setattr__", "__getattribute__")):
            raise Refused(f"attributes of {kind.__name__} are not plain")

    def key(self, container: Any, key: Any) -> Any:
        """Return a key of a container, counted from the front."""
        return key % len(container) if isinstance(container, list | tuple) and container else key

    def attribute(self, owner: Value, name: str) -> Value:
        """Return an attribute."""
        if isinstance(owner.now, np.ndarray | np.generic) and not owner.fixed:
            if name in ("shape", "size", "ndim", "dtype"):
                return Value(getattr(owner.now, name))
            if name == "T":
                return self.methods["transpose"](self, [owner], {})
            raise Refused(f"the attribute .{name} of an array")
        if not owner.fixed or owner.path is None:
            raise Refused(f"the attribute .{name} of a value made in the loop")
        if (id(owner.now), name) in self.heap:
            return self.heap[id(owner.now), name]
        if not isinstance(owner.now, types.ModuleType | type):
            found = getattr(type(owner.now), name, None)
            if hasattr(found, "__set__") or hasattr(type(owner.now), "__getattr__"):
                raise Refused(f"the attribute .{name} is computed")
        return self.load(("attr", owner.path, name))

    # Expressions

    def eval(self, node: ast.expr) -> Value:
        """Interpret an expression."""
        return self.looked_at(self.evaluated(node))

    def keys_of(self, value: Value) -> Value:
        """Count how often it matters what keys a dictionary has that outlives the iteration."""
        if type(value.now) in _DICTIONARIES and value.path is not None:
            self.trace.looks[id(value.now)] += 1
        return value

    def looked_at(self, value: Value) -> Value:
        """Count how often a list that outlives the iteration is looked at."""
        if type(value.now) is list and value.path is not None:
            self.trace.looks[id(value.now)] += 1
        return value

    def evaluated(self, node: ast.expr) -> Value:
        """Return what an expression gives."""
        match node:
            case ast.Constant(value=constant):
                return Value(constant)
            case ast.Name(id=name):
                return self.name(name)
            case ast.Attribute(value=base, attr=name):
                return self.attribute(self.eval(base), name)
            case ast.BinOp(left=left, op=op, right=right):
                return self.binary(op, self.eval(left), self.eval(right))
            case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
                return self.binary(ast.Mult(), Value(-1 if isinstance(sign, ast.USub) else 1), self.eval(operand))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                value = self.keys_of(self.eval(operand))
                if value.fixed:
                    return Value(not value.now)
                return self.scheduled(lambda truth, _: not truth, value, Value(None))
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                return self.compare(op, self.eval(left), self.eval(right))
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                return self.pack([self.eval(part) for part in parts], list if isinstance(node, ast.List) else tuple)
            case ast.Dict(keys=keys, values=parts) if None not in keys:
                names = [self.eval(key) for key in keys if key is not None]
                if not all(map(_is_key, names)):
                    raise Refused("a dictionary with keys that are not plain")
                entries = {name.now: self.eval(part) for name, part in zip(names, parts, strict=True)}
                return Value({key: value.now for key, value in entries.items()}, entries=entries)
            case ast.ListComp(elt=element, generators=[ast.comprehension(target=target, iter=source, ifs=[])]):
                return self.comprehension(element, target, source)
            case ast.JoinedStr(values=parts):
                texts = [self.eval(part) for part in parts]
                if all(text.fixed for text in texts):
                    return Value("".join(text.now for text in texts))
            case ast.FormattedValue(value=inner, conversion=-1, format_spec=None):
                value = self.eval(inner)
                if value.fixed and isinstance(value.now, int | str):
                    return Value(str(value.now))
            case ast.Slice(lower=lower, upper=upper, step=None):
                bounds = [Value(None) if part is None else self.eval(part) for part in (lower, upper)]
                return Value(slice(*(b.now for b in bounds)), items=bounds)
            case ast.Subscript(value=base, slice=index):
                return self.subscript(self.eval(base), self.eval(index))
            case ast.Call():
                return self.call(node)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                condition = self.keys_of(self.eval(test))
                if condition.fixed:
                    return self.eval(body if condition.now else orelse)
                one, zero = self.eval(body), self.eval(orelse)
                if (one.now, zero.now) == (1, 0) and one.fixed and zero.fixed:
                    return Value(int(condition.now), self.truth(condition))
                raise Refused("a choice that depends on the data")
            case ast.BoolOp(op=op, values=parts):
                return self.joined(isinstance(op, ast.And), parts)
        raise Refused(f"the expression {ast.unparse(node)!r}")

    def joined(self, is_and: bool, parts: list[ast.expr]) -> Value:
        """Interpret ``a and b``, ``a or b``."""
        both = (lambda a, b: a and b) if is_and else (lambda a, b: a or b)
        joined = Value(is_and)
        for part in parts:
            value = self.keys_of(self.eval(part))
            if not value.fixed and self.schedule(value) is None:
                raise Refused("a condition that depends on the data")
            joined = value if joined.fixed else self.scheduled(both, joined, value)
            if joined.fixed and bool(joined.now) != is_and:
                break
        return joined

    def comprehension(self, element: ast.expr, target: ast.expr, source: ast.expr) -> Value:
        """Interpret ``[element for target in source]``, whose variables are its own."""
        names, function = self.frames[-1]
        items = []
        for item in self.each(self.eval(source)):
            inner = dict(names)
            if len(self.frames) == 1:  # names of the loop itself outlive it
                inner |= self.frames[0][0]
            self.frames.append((inner, function))
            try:
                self.assign(target, item)
                items.append(self.eval(element))
            finally:
                self.frames.pop()
        return self.pack(items, list)

    def pack(self, items: list[Value], kind: Callable[[Iterable[Any]], Any] = tuple) -> Value:
        """Return a tuple or list of values."""
        return Value(kind(item.now for item in items), items=items)

    def each(self, value: Value) -> Iterable[Value]:
        """Items of something to be looped over, or unpacked."""
        if value.items is not None and not isinstance(value.now, slice):
            return list(value.items)
        if value.entries is not None or (value.fixed and type(value.now) in _DICTIONARIES):
            return [Value(key) for key in self.keys_of(value).now]
        if value.fixed and isinstance(value.now, range):
            if len(value.now) > _STEPS:
                raise Refused("an inner loop of too many steps")
            return [Value(i) for i in value.now]
        if value.fixed and isinstance(value.now, list | tuple):
            return [self.subscript(value, Value(i)) for i in range(len(value.now))]
        raise Refused(f"a loop over a {type(value.now).__name__}")

    def node(self, value: Value, of_images: bool = False) -> Node:
        """Return the expression of a number or an array; of images only `of_images`, where nothing is computed."""
        if np.ndim(value.now) > 2 and not of_images:
            raise Refused(f"an array of {np.ndim(value.now)} dimensions")
        if value.base is not None and value.base.version != value.seen:
            raise Refused("a view is used after its array was changed")
        if value.node is not None:
            return value.node
        if not value.fixed:
            raise Refused("the number of the iteration enters into the computation")
        if isinstance(value.now, bool | int | float | np.floating | np.integer | np.bool_):
            return self.algebra.number(float(value.now))
        raise Refused(f"a {type(value.now).__name__} enters into the computation")

    def exact(self, value: Value) -> Node:
        """Return the expression, refusing one number that stands for a whole array."""
        node = self.node(value)
        if node.shape != logical(value.now):
            raise Refused("an array of equal numbers")
        return node

    def result(self, now: Any, node: Node, base: Value | None = None) -> Value:
        """Return a computed value; `base` is the array that it is a view of."""
        if node.shape not in (logical(now), (1, 1)):
            raise Refused("shapes that are not understood")
        if base is None:
            kind = np.asarray(now).dtype
            if kind not in (np.float64, np.int64, np.bool_):
                raise Refused(f"a computation in {kind}, which rounds or wraps where float64 does not")
            return Value(now, node)
        root = base.base or base
        return Value(now, node, base=root, seen=root.version)

    def binary(self, op: ast.operator, x: Value, y: Value) -> Value:
        """Interpret an arithmetic operation."""
        if x.fixed and y.fixed:
            return Value(_ARITHMETIC[type(op)](x.now, y.now))
        if any(v.affine is not None or v.schedule is not None for v in (x, y)):
            return self.affine(op, x, y)
        if any(v.items is not None or v.entries is not None for v in (x, y)) or type(op) not in _ARITHMETIC:
            raise Refused(f"the operation {type(op).__name__}")
        if isinstance(op, ast.MatMult):
            return self.matmul(x, y)
        algebra = self.algebra
        a, b = self.node(x), self.node(y)
        with np.errstate(all="ignore"):
            now = _ARITHMETIC[type(op)](x.now, y.now)
        match op:
            case ast.Add() if np.asarray(now).dtype != bool:
                node = algebra.add(a, b)
            case ast.Sub():
                node = algebra.add(a, b, -1.0)
            case ast.Mult():
                node = algebra.multiply(a, b)
            case ast.Div():
                node = algebra.multiply(a, algebra.inverse(b))
            case ast.Pow() if y.fixed and y.now == 2:
                node = algebra.multiply(a, a)
            case _:
                raise Refused(f"the operation {type(op).__name__}")
        return self.result(now, node)

    def at_last(self, value: Value) -> int:
        """Return an int that depends on the iteration as it is in the last one to be replaced."""
        slope, start = value.affine or (0, value.now)
        return int(slope * (self.iterations - 2) + start)

    def affine(self, op: ast.operator, x: Value, y: Value) -> Value:
        """Interpret arithmetic with the number of the iteration."""
        (a, c), (b, d) = (v.affine or (0, v.now) for v in (x, y))
        operation = _ARITHMETIC[type(op)]
        if x.schedule is not None or y.schedule is not None or type(c) is not int or type(d) is not int:
            return self.scheduled(operation, x, y)
        match op:
            case ast.Add():
                slope, start = a + b, c + d
            case ast.Sub():
                slope, start = a - b, c - d
            case ast.Mult() if a == 0 or b == 0:
                slope, start = a * d + b * c, c * d
            case _:
                return self.scheduled(operation, x, y)
        now = operation(x.now, y.now)
        return Value(now, affine=(slope, start)) if slope else Value(now)

    def schedule(self, value: Value) -> list[Any] | None:
        """Return what a number is in each iteration; None where it depends on more than the iteration's number."""
        if value.affine is not None:
            slope, start = value.affine
            return [slope * k + start for k in range(self.iterations)]
        if value.fixed and isinstance(value.now, bool | int | float | np.bool_ | np.integer | None):
            return [value.now] * self.iterations
        return value.schedule

    def scheduled(self, operation: Callable[[Any, Any], Any], x: Value, y: Value) -> Value:
        """Return what an operation gives in each iteration."""
        if self.iterations > _SCHEDULED:
            raise Refused("a condition on the number of the iteration, in too many iterations")
        a, b = self.schedule(x), self.schedule(y)
        if a is None or b is None:
            raise Refused("the number of the iteration enters into the computation")
        each = list(map(operation, a, b))
        return Value(each[0], schedule=each)

    def matmul(self, x: Value, y: Value) -> Value:
        """Return the matrix product, by NumPy's rules for one dimension."""
        a, b = self.exact(x), self.exact(y)
        algebra = self.algebra
        self.meets_moved |= (is_found(a) and b in self.moved) or (is_found(b) and a in self.moved)
        # Only shape and type matter, and products would take most of the time.
        dtype = np.result_type(x.now, y.now)
        shape = (*np.shape(x.now)[:-1], *np.shape(y.now)[1:])
        now = np.zeros(shape, dtype) if shape else dtype.type(0)
        match np.ndim(x.now), np.ndim(y.now):
            case (1 | 2, 2):
                node = algebra.matmul(a, b)
            case 2, 1:
                node = algebra.matmul(b, algebra.transpose(a))
            case 1, 1:
                node = algebra.matmul(a, algebra.transpose(b))
            case _:
                node = algebra.multiply(a, b)
        return self.result(now, node)

    def compare(self, op: ast.cmpop, x: Value, y: Value) -> Value:
        """Interpret a comparison."""
        if x.fixed and y.fixed:
            return Value(_COMPARISONS[type(op)](self.keys_of(x).now, self.keys_of(y).now))
        if isinstance(op, ast.Is | ast.IsNot) and y.fixed and y.now is None and x.schedule is None:
            return Value(isinstance(op, ast.IsNot))  # what depends on anything is not None
        if type(op) not in _MIRRORED or any(v.items or v.entries for v in (x, y)):
            raise Refused("a comparison that is not understood")
        if any(v.affine is not None or v.schedule is not None for v in (x, y)):
            return self.scheduled(_COMPARISONS[type(op)], x, y)
        if x.fixed:
            x, y, op = y, x, _MIRRORED[type(op)]()
        a = self.node(x)
        now = _COMPARISONS[type(op)](x.now, y.now)
        if isinstance(op, ast.Eq | ast.NotEq):
            same = self.algebra.equal(self.exact(x), self.exact(y))
            return self.result(now, same if isinstance(op, ast.Eq) else self.otherwise(same))
        if y.fixed and a.op == "draw":
            return self.mask(op, x, float(y.now))
        if y.fixed and y.now == 0:
            step = self.algebra.positive if isinstance(op, ast.Gt | ast.LtE) else self.algebra.not_negative
            return self.result(now, step(a) if isinstance(op, ast.Gt | ast.GtE) else self.otherwise(step(a)))
        raise Refused("a comparison that is not understood")

    def otherwise(self, step: Node) -> Node:
        """Return 1 where `step` is 0, and 0 where it is 1."""
        return self.algebra.add(self.algebra.one, step, -1.0)

    def mask(self, op: ast.cmpop, x: Value, threshold: float) -> Value:
        """``random(size) < share``: kept, or ``random(size) >= share``."""
        assert x.node is not None
        draw = self.trace.draws[self.trace.draw_of[x.node]]
        below = isinstance(op, ast.Lt)
        if not below and not isinstance(op, ast.GtE | ast.Gt):
            raise Refused("a dropout mask that is not understood")
        kind, rate = ("keep-below", 1 - threshold) if below else ("drop-below", threshold)
        # The kernels keep below 1 - rate, which must be the program's own number to the last bit.
        if draw.kind not in ("random", kind) or not 0 < rate < 1 or (below and 1 - rate != threshold):
            raise Refused("a dropout mask that is not understood")
        draw.kind, draw.rate = kind, rate
        return Value(np.ones(np.shape(x.now), bool), self.algebra.leaf("mask", *x.node.args, shape=x.node.shape))

    def subscript(self, owner: Value, key: Value) -> Value:
        """Interpret an index."""
        if isinstance(owner.now, list | tuple) and isinstance(key.now, slice) and all(b.fixed for b in key.items or ()):
            return self.pack(list(self.each(owner))[key.now], type(owner.now))
        if isinstance(owner.now, np.ndarray) and not owner.fixed:
            from fastmnist.accel.numpy_calls import index

            return index(self, owner, key)
        if not _is_key(key):
            raise Refused("an index that is not understood")
        if owner.items is not None:
            if isinstance(owner.now, list | tuple) and isinstance(key.now, int):
                return owner.items[key.now]
        elif owner.entries is not None:
            if key.now in owner.entries:
                return owner.entries[key.now]
        elif isinstance(owner.now, list | tuple | dict):
            if owner.path is None:
                return Value(owner.now[key.now])
            place = self.key(owner.now, key.now)
            if (id(owner.now), place) in self.heap:
                return self.heap[id(owner.now), place]
            return self.load(("item", owner.path, place))
        raise Refused(f"an index of a {type(owner.now).__name__}")

    # Calls

    def call(self, node: ast.Call) -> Value:
        """Interpret a call."""
        if any(k.arg is None for k in node.keywords):
            raise Refused("a call with unpacked arguments")
        if isinstance(node.func, ast.Attribute):
            owner = self.eval(node.func.value)
            is_array = isinstance(owner.now, np.ndarray | np.generic) and not owner.fixed
            if (
                type(owner.now) is list
                and owner.path is not None
                and node.func.attr == "append"
                and len(node.args) == 1
            ):
                return self.append(owner, self.eval(node.args[0]))
            if type(owner.now) in _DICTIONARIES and node.func.attr in self.dictionary_methods:
                return self.dictionary_methods[node.func.attr](self, [self.keys_of(owner), *self.arguments(node)], {})
            if is_array or owner.items is not None:
                methods = self.methods if is_array else self.list_methods if type(owner.now) is list else {}
                method = methods.get(node.func.attr)
                if method is None:
                    raise Refused(f"the method .{node.func.attr}() of a {type(owner.now).__name__}")
                return method(self, [owner, *self.arguments(node)], self.keywords(node))
            function = self.attribute(owner, node.func.attr)
        else:
            owner = None
            function = self.eval(node.func)
        if not function.fixed:
            raise Refused(f"a call of {ast.unparse(node.func)}")
        arguments = self.arguments(node)
        keywords = self.keywords(node)
        target = function.now
        try:
            known = self.calls.get(target)
        except TypeError:
            known = None
        if known is not None:
            return known(self, list(map(self.keys_of, arguments)), keywords)
        if owner is not None and type(owner.now) in (np.random.Generator, np.random.RandomState):
            assert isinstance(node.func, ast.Attribute)
            stream = self.calls.get(node.func.attr)
            if stream is not None and function.now == getattr(owner.now, node.func.attr):
                return stream(self, [owner, *arguments], keywords)
        if isinstance(target, types.MethodType) and owner is not None and owner.now is target.__self__:
            method = target.__func__
            if isinstance(method, types.FunctionType):
                return self.inline(method, ("attr", function.path, "__func__"), [owner, *arguments], keywords)
        if isinstance(target, types.FunctionType) and function.path is not None:
            return self.inline(target, function.path, arguments, keywords)
        raise Refused(f"a call of {ast.unparse(node.func)}()")

    def append(self, owner: Value, item: Value) -> Value:
        """Interpret ``owner.append(item)`` where the list outlives the iteration."""
        assert owner.path is not None
        if not isinstance(item.now, int | float | np.integer | np.floating | np.bool_) or item.schedule is not None:
            raise Refused(f"something other than a number is appended to {shown(owner.path)}")
        self.trace.looks[id(owner.now)] -= 1
        self.trace.appended.append((owner.path, item))
        return Value(None)

    def arguments(self, node: ast.Call) -> list[Value]:
        """Interpret positional arguments."""
        found: list[Value] = []
        for argument in node.args:
            if isinstance(argument, ast.Starred):
                found += self.each(self.eval(argument.value))
            else:
                found.append(self.eval(argument))
        return found

    def keywords(self, node: ast.Call) -> dict[str, Value]:
        """Interpret keyword arguments."""
        return {str(k.arg): self.eval(k.value) for k in node.keywords}

    def inline(
        self, function: types.FunctionType, path: Path, arguments: list[Value], keywords: dict[str, Value]
    ) -> Value:
        """Interpret a function of the program in place of the call."""
        source = self.functions.source(function)
        if source is None:
            raise Refused(f"a call of {function.__name__}(), which is decorated or not part of the program")
        if len(self.frames) > _DEPTH:
            raise Refused(f"a call of {function.__name__}() that is nested too deeply")
        parameters = source.args
        if parameters.vararg or parameters.kwarg or parameters.posonlyargs or parameters.kwonlyargs:
            raise Refused(f"a call of {function.__name__}(), which has parameters of an unusual kind")
        names = [p.arg for p in parameters.args]
        self.read(path)
        if len(arguments) > len(names) or set(keywords) - set(names[len(arguments) :]):
            raise Refused(f"a call of {function.__name__}() with arguments that do not fit")
        values = dict(zip(names, arguments, strict=False)) | keywords
        defaults = function.__defaults__ or ()
        for name, default in zip(names[len(names) - len(defaults) :], defaults, strict=True):
            if name not in values:
                if not isinstance(default, int | float | str | bool | None):
                    raise Refused(f"{function.__name__}() has a default that is not a number")
                values[name] = Value(default)
        line = self.line
        self.frames.append((values, path))
        try:
            if isinstance(source, ast.Lambda):
                return self.eval(source.body)
            self.run(source.body)
            return Value(None)
        except _Return as returned:
            return returned.value
        finally:
            self.frames.pop()
            self.line = line


def _load(target: ast.expr) -> ast.expr:
    """Return the expression that reads what `target` assigns."""
    match target:
        case ast.Name(id=name):
            return ast.Name(name, ast.Load())
        case ast.Attribute(value=value, attr=name):
            return ast.Attribute(value, name, ast.Load())
        case ast.Subscript(value=value, slice=index):
            return ast.Subscript(value, index, ast.Load())
    raise Refused("an assignment that is not understood")


def _is_key(key: Value) -> bool:
    return key.fixed and isinstance(key.now, int | str) and not isinstance(key.now, bool)
