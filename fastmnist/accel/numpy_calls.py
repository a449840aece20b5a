"""The NumPy functions, array methods and builtins that a training loop may call: a new spelling is a line here."""

from __future__ import annotations

import ast
import copy
import math
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from fastmnist.accel.algebra import Node, is_found
from fastmnist.accel.program import Refused
from fastmnist.accel.values import Draw, Pick, Value, logical

if TYPE_CHECKING:
    from fastmnist.accel.interpret import Interpreter

Arguments: TypeAlias = list[Value]
Keywords: TypeAlias = dict[str, Value]
Call: TypeAlias = "Callable[[Interpreter, Arguments, Keywords], Value]"

_FULL = slice(None)


def _only(arguments: Arguments, keywords: Keywords, count: int, *names: str) -> list[Any]:
    """Check how many arguments there are, and return those keywords' plain values, None where missing."""
    if len(arguments) != count or set(keywords) - set(names):
        raise Refused("arguments of a call that are not understood")
    return [_plain(keywords[name]) if name in keywords else None for name in names]


def _plain(value: Value) -> Any:
    if value.items is not None and all(item.fixed for item in value.items):
        return value.now
    if not value.fixed:
        raise Refused("an argument that depends on the data")
    return value.now


def _axis(arguments: Arguments, keywords: Keywords, *names: str) -> list[Any]:
    """As `_only`, for (x, axis=None, ...)."""
    if len(arguments) == 2 and "axis" not in keywords:
        keywords = {**keywords, "axis": arguments[1]}
        arguments = arguments[:1]
    return _only(arguments, keywords, 1, "axis", *names)


def _elementwise(name: str, node: Callable[[Interpreter, Node], Node]) -> Call:
    def call(at: Interpreter, arguments: Arguments, keywords: Keywords) -> Value:
        _only(arguments, keywords, 1)
        (x,) = arguments
        with np.errstate(all="ignore"):
            now = getattr(np, name)(x.now)
        return Value(now) if x.fixed else at.result(now, node(at, at.node(x)))

    return call


def _unary(name: str) -> Call:
    return _elementwise(name, lambda at, x: at.algebra.function(name, x))


def _operator(name: str) -> Call:
    def call(at: Interpreter, arguments: Arguments, keywords: Keywords) -> Value:
        _only(arguments, keywords, 2)
        return at.binary(getattr(ast, name)(), *arguments)

    return call


def _comparison(name: str) -> Call:
    def call(at: Interpreter, arguments: Arguments, keywords: Keywords) -> Value:
        _only(arguments, keywords, 2)
        return at.compare(getattr(ast, name)(), *arguments)

    return call


def _dot(at: Interpreter, arguments: Arguments, keywords: Keywords) -> Value:
    _only(arguments, keywords, 2)
    return at.matmul(*arguments)


def _outer(at: Interpreter, arguments: Arguments, keywords: Keywords) -> Value:
    _only(arguments, keywords, 2)
    x, y = (_as_row(at, value) for value in arguments)
    return at.result(np.zeros((x.shape[1], y.shape[1])), at.algebra.matmul(at.algebra.transpose(x), y))


def _as_row(at: Interpreter, value: Value) -> Node:
    node = at.exact(value)
    if node.shape[0] != 1:
        if node.shape[1] != 1:
            raise Refused("a matrix is read as a vector")
        node = at.algebra.transpose(node)
    return node


def _transpose(at: Interpreter, arguments: Arguments, keywords: Keywords) -> Value:
    _only(arguments, keywords, 1)
    (x,) = arguments
    node = at.node(x)
    return at.result(x.now.T, at.algebra.transpose(node) if np.ndim(x.now) == 2 else node, base=x)


def _sum(at: Interpreter, arguments: Arguments, keywords: Keywords) -> Value:
    axis, keepdims = _axis(arguments, keywords, "keepdims")
    x = arguments[0]
    if x.items is not None:
        raise Refused("a sum over a list")
    node = at.exact(x)
    return at.result(np.sum(x.now, axis=axis, keepdims=bool(keepdims)), _reduced(at, x, node, axis, keepdims, "sum"))


def _added(at: Interpreter, arguments: Arguments, keywords: Keywords) -> Value:
    """Python's ``sum(x)``, of the rows of an array or of the items of a list."""
    _only(arguments, keywords, 1)
    (x,) = arguments
    if x.items is None:
        return _sum(at, [x, Value(0)], {})
    total = Value(0)
    for item in x.items:
        total = at.binary(ast.Add(), total, item)
    return total


def _mean(at: Interpreter, arguments: Arguments, keywords: Keywords) -> Value:
    axis, keepdims = _axis(arguments, keywords, "keepdims")
    x = arguments[0]
    node = _reduced(at, x, at.exact(x), axis, keepdims, "sum")
    now = np.mean(x.now, axis=axis, keepdims=bool(keepdims))
    return at.result(now, at.algebra.times(np.size(now) / np.size(x.now), node))


def _largest(at: Interpreter, arguments: Arguments, keywords: Keywords) -> Value:
    axis, keepdims = _axis(arguments, keywords, "keepdims")
    x = arguments[0]
    if x.fixed:
        return Value(np.max(x.now, axis=axis))
    if x.path is not None and not x.version and np.ndim(x.now) == 1 and x.now.dtype.kind in "iu":
        return Value(at.read(("largest", x.path)))  # the number of classes, less one
    now = np.max(x.now, axis=axis, keepdims=bool(keepdims))
    return at.result(now, _reduced(at, x, at.exact(x), axis, keepdims, "largest"))


def _reduced(at: Interpreter, x: Value, node: Node, axis: Any, keepdims: Any, kind: str) -> Node:
    algebra = at.algebra

    def along_rows(node: Node) -> Node:
        if kind == "sum":
            return algebra.sum_columns(node)
        return algebra.leaf("largest", node, shape=(node.shape[0], 1))

    ndim = np.ndim(x.now)
    if axis is None or ndim < 2:
        if axis not in (None, 0, -1):
            raise Refused("a sum along an axis that is not understood")
        if kind == "sum":
            return algebra.sum(node)
        return algebra.leaf("largest", node, shape=(1, 1))
    if axis in (1, -1):
        column = along_rows(node)
        return column if keepdims else algebra.transpose(column)
    if axis in (0, -2):
        return algebra.transpose(along_rows(algebra.transpose(node)))
    raise Refused("a sum along an axis that is not understood")


def _argmax(at: Interpreter, arguments: Arguments, keywords: Keywords) -> Value:
    (axis,) = _axis(arguments, keywords)
    x = arguments[0]
    node = at.exact(x)
    if axis in (0, -2) and np.ndim(x.now) == 2:
        node = at.algebra.transpose(node)
    elif not (axis in (1, -1) and np.ndim(x.now) == 2):
        node = _as_row(at, x)
    return at.result(np.argmax(x.now, axis=axis), at.algebra.argmax(node))


def _maximum(at: Interpreter, arguments: Arguments, keywords: Keywords) -> Value:
    _only(arguments, keywords, 2)
    x, y = arguments if arguments[1].fixed else arguments[::-1]
    if not y.fixed or type(y.now) not in (int, float):
        raise Refused("a maximum of two arrays")
    node = at.node(x)
    clipped = at.algebra.function("clip", node, float(y.now), math.inf) if y.now else at.algebra.relu(node)
    return at.result(np.maximum(x.now, y.now), clipped)


def _where(at: Interpreter, arguments: Arguments, keywords: Keywords) -> Value:
    """``np.where(step, a, b)``: step * a, where b is 0; (1 - step) * b, where a is 0."""
    _only(arguments, keywords, 3)
    condition, x, y = arguments
    step = at.node(condition)
    now = np.where(condition.now, x.now, y.now)
    if step.op not in ("positive", "not_negative", "mask", "one") or not y.fixed or y.now != 0:
        raise Refused("np.where() in a form that is not understood")
    return at.result(now, at.algebra.multiply(step, at.node(x)))


def _clip(at: Interpreter, arguments: Arguments, keywords: Keywords) -> Value:
    """``np.clip(x, low, high)`` with numbers, or None for one of them."""
    _only(arguments, keywords, 3)
    x, low, high = arguments
    if not all(limit.fixed and type(limit.now) in (int, float, type(None)) for limit in (low, high)):
        raise Refused("np.clip() in a form that is not understood")
    now = np.clip(x.now, low.now, high.now)
    limits = (-math.inf if low.now is None else float(low.now), math.inf if high.now is None else float(high.now))
    return at.result(now, at.algebra.function("clip", at.node(x), *limits))


def _square(at: Interpreter, arguments: Arguments, keywords: Keywords) -> Value:
    _only(arguments, keywords, 1)
    node = at.node(arguments[0])
    return at.result(np.square(arguments[0].now), at.algebra.multiply(node, node))


def _power(at: Interpreter, arguments: Arguments, keywords: Keywords) -> Value:
    _only(arguments, keywords, 2)
    return at.binary(ast.Pow(), *arguments)


def _reshape(at: Interpreter, arguments: Arguments, keywords: Keywords) -> Value:
    _only(arguments[:1], keywords, 1)
    x, *sizes = arguments
    shape = [_plain(size) for size in sizes]
    now = np.reshape(x.now, *shape) if len(shape) == 1 else np.reshape(x.now, shape)
    if now.shape == np.shape(x.now) and x.path is None:  # the same memory, also where it is changed in place
        return x
    return _reshaped(at, x, now)


def _reshaped(at: Interpreter, x: Value, now: Any) -> Value:
    """Return x in another shape, where that is a row, a column, or no change."""
    node = at.node(x, of_images=True)
    if node.shape[0] * node.shape[1] != np.size(x.now):
        raise Refused("an array of equal numbers")
    if logical(now) == node.shape:
        return at.result(now, node, base=x)
    if node.shape in ((1, now.size), (now.size, 1)) and logical(now) == node.shape[::-1]:
        return at.result(now, at.algebra.transpose(node), base=x)
    raise Refused("a reshape that is not understood")


def _flat(at: Interpreter, arguments: Arguments, keywords: Keywords) -> Value:
    _only(arguments, keywords, 1)
    return _reshaped(at, arguments[0], np.ravel(arguments[0].now))


def _squeeze(at: Interpreter, arguments: Arguments, keywords: Keywords) -> Value:
    _only(arguments, keywords, 1)
    return _reshaped(at, arguments[0], np.squeeze(arguments[0].now))


def _at_least_2d(at: Interpreter, arguments: Arguments, keywords: Keywords) -> Value:
    _only(arguments, keywords, 1)
    return _reshaped(at, arguments[0], np.atleast_2d(arguments[0].now))


def _array(at: Interpreter, arguments: Arguments, keywords: Keywords) -> Value:
    """``np.array([x])`` and ``np.array(x)``, a copy."""
    (copy,) = _only(arguments, keywords, 1, "copy")
    (x,) = arguments
    if copy not in (True, None):
        raise Refused("np.array() that does not copy")
    if x.items is not None:
        if len(x.items) != 1:
            raise Refused("np.array() of several values")
        (x,) = x.items
        if np.ndim(x.now) != 1:
            raise Refused("np.array() of a value that is not a row")
        return at.result(np.array([x.now]), at.exact(x))
    return at.result(np.array(x.now), at.exact(x))


def _copy(at: Interpreter, arguments: Arguments, keywords: Keywords) -> Value:
    _only(arguments, keywords, 1)
    return at.result(np.copy(arguments[0].now), at.node(arguments[0]))


def _astype(at: Interpreter, arguments: Arguments, keywords: Keywords) -> Value:
    _only(arguments, keywords, 2)
    x, kind = arguments
    now, node = x.now.astype(_plain(kind)), at.node(x)
    whole = node.op in ("positive", "not_negative", "mask", "equal", "argmax", "one")
    if now.dtype.kind not in "biuf" or (now.dtype != np.float64 and not whole):
        raise Refused(f"a conversion to {now.dtype}")
    return at.result(now, node)


def _item(at: Interpreter, arguments: Arguments, keywords: Keywords) -> Value:
    _only(arguments, keywords, 1)
    node = at.exact(arguments[0])
    if node.shape != (1, 1):
        raise Refused("the method .item() of an array")
    return Value(arguments[0].now.item(), node)


def _append(at: Interpreter, arguments: Arguments, keywords: Keywords) -> Value:
    _only(arguments, keywords, 2)
    owner, item = arguments
    return _inserted(owner, len(owner.now), item)


def _insert(at: Interpreter, arguments: Arguments, keywords: Keywords) -> Value:
    _only(arguments, keywords, 3)
    owner, place, item = arguments
    return _inserted(owner, _plain(place), item)


def _inserted(owner: Value, place: int, item: Value) -> Value:
    assert owner.items is not None
    owner.items.insert(place, item)
    owner.now.insert(place, item.now)
    return Value(None)


def _reverse(at: Interpreter, arguments: Arguments, keywords: Keywords) -> Value:
    _only(arguments, keywords, 1)
    (owner,) = arguments
    assert owner.items is not None
    owner.items.reverse()
    owner.now.reverse()
    return Value(None)


# Random draws


def _size(value: Value) -> tuple[int, ...]:
    shape = _plain(value)
    return (shape,) if isinstance(shape, int) else tuple(shape)


def _drawn(at: Interpreter, stream: Value | None, kind: str, shape: tuple[int, ...]) -> Value:
    """Return a stand-in for random numbers; the stream is not touched."""
    if not shape:
        raise Refused("a single random number is drawn in the loop")
    number = len(at.trace.draws)
    at.trace.draws.append(Draw(None if stream is None else stream.path, kind))
    integers = kind == "integers"
    now = np.ones(shape, np.int64 if integers else np.float64)
    node = at.algebra.leaf("mask" if integers else "draw", number, shape=logical(now))
    at.trace.draw_of[node] = number
    return Value(now, node)


def _integers(at: Interpreter, stream: Value | None, arguments: Arguments, keywords: Keywords) -> Value:
    """``randint(2, size=...)`` and ``randint(0, 2, size)``: 0 or 1, each half of the time."""
    values = dict(zip(("low", "high", "size"), arguments, strict=False)) | keywords
    plain = {name: _plain(value) for name, value in values.items() if name != "size"}
    limits = (0, plain.get("low")) if plain.get("high") is None else (plain.get("low"), plain["high"])
    if limits != (0, 2) or "size" not in values or set(plain) - {"low", "high"}:
        method = "randint" if stream is None or isinstance(stream.now, np.random.RandomState) else "integers"
        return _picked_rows(at, stream, method, arguments, keywords)
    return _drawn(at, stream, "integers", _size(values["size"]))


def _choice(at: Interpreter, stream: Value | None, arguments: Arguments, keywords: Keywords) -> Value:
    return _picked_rows(at, stream, "choice", arguments, keywords)


def _picked_rows(at: Interpreter, stream: Value | None, method: str, arguments: Arguments, keywords: Keywords) -> Value:
    """Return a stand-in for row numbers drawn at random."""
    pick = Pick(
        None if stream is None else stream.path,
        method,
        tuple(map(_plain, arguments)),
        {name: _plain(value) for name, value in keywords.items()},
    )
    plain = (*pick.arguments, *pick.keywords.values())
    if at.trace.picks or not all(isinstance(value, int | np.integer | tuple | None) for value in plain):
        raise Refused("random numbers that are neither a dropout mask nor the rows of a batch")
    source = np.random.RandomState(0) if stream is None else copy.deepcopy(stream.now)
    now = getattr(source, method)(*pick.arguments, **pick.keywords)
    if np.ndim(now) > 1 or np.size(now) == 0:
        raise Refused("random numbers that are neither a dropout mask nor the rows of a batch")
    at.trace.picks.append(pick)
    n = np.size(now)
    return Value(now, at.algebra.leaf("items", ("drawn",), n, 0, n, shape=(1, n)))


def _random(at: Interpreter, stream: Value | None, arguments: Arguments, keywords: Keywords) -> Value:
    values = [*arguments, *([keywords["size"]] if "size" in keywords else [])]
    if len(values) != 1 or set(keywords) - {"size"}:
        raise Refused("random numbers that are not a dropout mask")
    return _drawn(at, stream, "random", _size(values[0]))


def _binomial(at: Interpreter, stream: Value | None, arguments: Arguments, keywords: Keywords) -> Value:
    """``binomial(1, p, size)``: 1 with probability p, by comparing one random number with p or with 1 - p."""
    values = dict(zip(("n", "p", "size"), arguments, strict=False)) | keywords
    if set(values) != {"n", "p", "size"} or _plain(values["n"]) != 1:
        raise Refused("binomial numbers that are not a dropout mask of 0 and 1")
    p = _plain(values["p"])
    # NumPy inverts for the rarer outcome: 0 where the number is at most exp(log(q)).
    limit = math.exp(math.log(max(p, 1 - p))) if 0 < p < 1 else 1.0
    over = math.nextafter(limit, 2.0)
    # It would draw again where the number left over is too large, which rounding alone can bring about.
    least = min(p, 1 - p)
    if not over < 1 or (1 - 2.0**-53) - limit > least * limit / (1 - least):
        raise Refused(f"a dropout mask of binomial numbers for p = {p}")
    value = _drawn(at, stream, "keep-below" if p > 0.5 else "drop-below", _size(values["size"]))
    draw = at.trace.draws[-1]
    draw.rate = 1 - over if p > 0.5 else over
    if p > 0.5 and 1 - draw.rate != over:
        raise Refused(f"a dropout mask of binomial numbers for p = {p}")
    assert value.node is not None
    value.now = np.ones(np.shape(value.now), np.int64)
    value.node = at.algebra.leaf("mask", *value.node.args, shape=value.node.shape)
    return value


def _rand(at: Interpreter, stream: Value | None, arguments: Arguments, keywords: Keywords) -> Value:
    _only(arguments, keywords, len(arguments))
    return _drawn(at, stream, "random", tuple(_plain(a) for a in arguments))


_DRAWS = {
    "randint": _integers,
    "integers": _integers,
    "choice": _choice,
    "binomial": _binomial,
    "random": _random,
    "random_sample": _random,
    "rand": _rand,
}


def _global_draw(draw: Any) -> Call:
    return lambda at, arguments, keywords: draw(at, None, arguments, keywords)


def _stream_draw(draw: Any) -> Call:
    return lambda at, arguments, keywords: draw(at, arguments[0], arguments[1:], keywords)


# Builtins


def _is_whole(node: Node) -> bool:
    if node.op in ("sum", "sum_columns"):
        return _is_whole(node.args[0])
    return node.op in ("equal", "argmax", "items")


def _number(kind: type) -> Call:
    def call(at: Interpreter, arguments: Arguments, keywords: Keywords) -> Value:
        _only(arguments, keywords, 1)
        (x,) = arguments
        if x.fixed:
            return Value(kind(x.now))
        if x.affine is not None and kind is int:
            return x
        node = at.exact(x)
        if node.shape != (1, 1) or (kind is int and not _is_whole(node)):
            raise Refused(f"{kind.__name__}() of a value that depends on the data")
        return Value(kind(x.now), node)

    return call


def _fixed(function: Callable[..., Any]) -> Call:
    """Call a function of plain objects."""
    return lambda at, arguments, keywords: Value(
        function(*map(_plain, arguments), **{name: _plain(value) for name, value in keywords.items()})
    )


def _zeros(at: Interpreter, arguments: Arguments, keywords: Keywords) -> Value:
    _only(arguments, keywords, 1)
    now = np.zeros(_plain(arguments[0]))
    return at.result(now, at.algebra.zeros(logical(now)))


def _zeros_like(at: Interpreter, arguments: Arguments, keywords: Keywords) -> Value:
    _only(arguments, keywords, 1)
    now = np.zeros_like(arguments[0].now)
    return at.result(now, at.algebra.zeros(logical(now)))


def _eye(at: Interpreter, arguments: Arguments, keywords: Keywords) -> Value:
    _only(arguments, keywords, 1)
    n = _plain(arguments[0])
    return at.result(np.eye(n), at.algebra.leaf("array", ("eye", n), shape=(n, n)))


def _dictionary_part(name: str) -> Call:
    def call(at: Interpreter, arguments: Arguments, keywords: Keywords) -> Value:
        _only(arguments, keywords, 1)
        (owner,) = arguments
        keys = list(at.each(owner))
        values = [at.subscript(owner, key) for key in keys]
        parts = {"keys": keys, "values": values, "items": list(map(at.pack, map(list, zip(keys, values, strict=True))))}
        return at.pack(parts[name])

    return call


def _length(at: Interpreter, arguments: Arguments, keywords: Keywords) -> Value:
    _only(arguments, keywords, 1)
    return Value(len(arguments[0].now))


def _smallest(at: Interpreter, arguments: Arguments, keywords: Keywords) -> Value:
    """``min((i + 1) * batch_size, n)``: what limits the last batch only."""
    _only(arguments, keywords, 2)
    x, y = arguments if arguments[1].fixed else arguments[::-1]
    if x.fixed and y.fixed:
        return Value(min(x.now, y.now))
    if x.affine is None or type(y.now) is not int or x.affine[0] < 0 or at.at_last(x) > y.now:
        raise Refused("min() of values that depend on the iteration")
    return x


def _enumerate(at: Interpreter, arguments: Arguments, keywords: Keywords) -> Value:
    _only(arguments, keywords, 1)
    return at.pack([at.pack([Value(k), item]) for k, item in enumerate(at.each(arguments[0]))])


def _zip(at: Interpreter, arguments: Arguments, keywords: Keywords) -> Value:
    _only(arguments, keywords, len(arguments), "strict")
    return at.pack([at.pack(list(items)) for items in zip(*map(at.each, arguments), strict=False)])


def _reversed(at: Interpreter, arguments: Arguments, keywords: Keywords) -> Value:
    _only(arguments, keywords, 1)
    return at.pack(list(at.each(arguments[0]))[::-1])


def _listed(kind: type) -> Call:
    def call(at: Interpreter, arguments: Arguments, keywords: Keywords) -> Value:
        _only(arguments, keywords, 1)
        return at.pack(list(at.each(arguments[0])), kind)

    return call


_NUMPY: dict[str, Call] = {
    "dot": _dot,
    "matmul": _dot,
    "outer": _outer,
    "transpose": _transpose,
    "sum": _sum,
    "mean": _mean,
    "max": _largest,
    "amax": _largest,
    "argmax": _argmax,
    "maximum": _maximum,
    "clip": _clip,
    "where": _where,
    "square": _square,
    "power": _power,
    "reshape": _reshape,
    "ravel": _flat,
    "squeeze": _squeeze,
    "atleast_2d": _at_least_2d,
    "array": _array,
    "zeros": _zeros,
    "zeros_like": _zeros_like,
    "eye": _eye,
    "identity": _eye,
    "arange": _fixed(np.arange),
    "copy": _copy,
    "exp": _elementwise("exp", lambda at, x: at.algebra.function("exp", x)),
    "tanh": _unary("tanh"),
    "log": _unary("log"),
    "absolute": _unary("abs"),
    "sqrt": _unary("sqrt"),
    "add": _operator("Add"),
    "subtract": _operator("Sub"),
    "multiply": _operator("Mult"),
    "divide": _operator("Div"),
    "greater": _comparison("Gt"),
    "greater_equal": _comparison("GtE"),
    "less": _comparison("Lt"),
    "less_equal": _comparison("LtE"),
    "equal": _comparison("Eq"),
    "not_equal": _comparison("NotEq"),
}

DICTIONARY_METHODS: dict[str, Call] = {name: _dictionary_part(name) for name in ("keys", "values", "items")}

LIST_METHODS: dict[str, Call] = {"append": _append, "insert": _insert, "reverse": _reverse}

METHODS: dict[str, Call] = {
    "dot": _dot,
    "transpose": _transpose,
    "sum": _sum,
    "mean": _mean,
    "max": _largest,
    "argmax": _argmax,
    "reshape": _reshape,
    "ravel": _flat,
    "flatten": _flat,
    "squeeze": _squeeze,
    "copy": _copy,
    "astype": _astype,
    "item": _item,
}


def _is_numpys(function: Any) -> bool:
    """Whether this is NumPy's own, and not a program's function under its name."""
    return not isinstance(function, types.FunctionType) or function.__globals__["__name__"].startswith("numpy.")


def _slice(at: Interpreter, arguments: list[Value], keywords: dict[str, Value]) -> Value:
    """``slice(start, stop)``."""
    if len(arguments) != 2:
        raise Refused("a slice with a step, or without a start")
    return Value(slice(*(bound.now for bound in arguments)), items=arguments)


# By the function itself, not by its name: whatever the program has put in its place is not found here.
CALLS: dict[Any, Call] = {
    len: _length,
    int: _number(int),
    float: _number(float),
    np.float64: _number(float),
    bool: _fixed(bool),
    range: _fixed(range),
    slice: _slice,
    abs: _fixed(abs),
    str: _fixed(str),
    sum: _added,
    max: _fixed(max),
    round: _fixed(round),
    math.sqrt: _fixed(math.sqrt),
    math.ceil: _fixed(math.ceil),
    math.floor: _fixed(math.floor),
    isinstance: _fixed(isinstance),
    min: _smallest,
    enumerate: _enumerate,
    zip: _zip,
    reversed: _reversed,
    list: _listed(list),
    tuple: _listed(tuple),
    **{
        getattr(np, name): call
        for name, call in _NUMPY.items()
        if getattr(np, name).__name__ == name and _is_numpys(getattr(np, name))
    },
    **{
        getattr(np.random, name): _global_draw(draw)
        for name, draw in _DRAWS.items()
        if getattr(getattr(np.random, name, None), "__self__", None) is np.random.mtrand._rand
    },
    **{name: _stream_draw(draw) for name, draw in _DRAWS.items()},
}


# Indexing


def index(at: Interpreter, owner: Value, key: Value) -> Value:
    """Return rows of the data, or a part of a value made in the loop."""
    node = at.node(owner, of_images=True)
    if node.shape != logical(owner.now):
        raise Refused("an index into an array of equal numbers")
    parts = key.items if isinstance(key.now, tuple) and key.items is not None else [key]
    if (picked := _picked(at, owner, node, parts)) is not None:
        return at.result(owner.now[key.now], picked)
    if parts[0].node is not None and len(parts) <= 2 and all(map(_takes_all, parts[1:])):
        return _taken(at, owner, parts[0], owner.now[parts[0].now], "taken")
    if (row := _sliced_row(at, parts)) is not None:
        return _taken(at, owner, row, owner.now[parts[0].now], "sliced")
    plain = [part.now if part.fixed or isinstance(part.now, slice) else None for part in parts]
    algebra = at.algebra
    match plain:
        case [e] if e is Ellipsis:
            return at.result(owner.now[...], node, base=owner)
        case [None, *rest] if parts[0].fixed and rest in ([], [_FULL]) and np.ndim(owner.now) == 1:
            return at.result(owner.now[None], node, base=owner)
        case [slice(start=None, stop=None), None] if parts[1].fixed and np.ndim(owner.now) == 1:
            return at.result(owner.now[:, None], algebra.transpose(node), base=owner)
        case [slice(start=None, stop=None), _] if np.ndim(owner.now) == 2 and (
            columns := _span(at, parts[1], node.shape[1])
        ):
            flipped = _rows(at, algebra.transpose(node), columns, owner)
            now = owner.now[:, columns[2] : columns[3]]
            now = now[:, 0] if not isinstance(parts[1].now, slice) else now
            return at.result(now, flipped if np.ndim(now) == 1 else algebra.transpose(flipped), base=owner)
        case [_] | [_, slice(start=None, stop=None)] if span := _span(at, parts[0], np.shape(owner.now)[0]):
            now = owner.now[span[2] : span[3]]
            now = now if isinstance(parts[0].now, slice) else now[0]
            if np.ndim(owner.now) > 2 and np.ndim(now) > 1:
                return _view(at, now, _rows(at, node, span, owner), owner)
            if np.ndim(owner.now) == 2:
                return at.result(now, _rows(at, node, span, owner), base=owner)
            if np.ndim(owner.now) == 1 and node.op == "array" and span[0]:
                n = span[3] - span[2]
                return at.result(now, algebra.leaf("items", node.args[0], *span[:2], n, shape=(1, n)), base=owner)
            if np.ndim(owner.now) == 1 and node.op == "items" and not span[0]:
                path, slope, start, _ = node.args
                n = span[3] - span[2]
                return at.result(now, algebra.leaf("items", path, slope, start + span[2], n, shape=(1, n)), base=owner)
            if np.ndim(owner.now) == 1 and span[3] - span[2] == node.shape[1]:
                return at.result(now, node, base=owner)
    raise Refused("an index that is not understood")


def _takes_all(part: Value) -> bool:
    return isinstance(part.now, slice) and part.now == _FULL


def _picked(at: Interpreter, owner: Value, node: Node, parts: list[Value]) -> Node | None:
    """Return one entry of each row, in the columns of the classes: ``p[y]``, ``p[0, y]``, ``p[np.arange(n), y]``."""
    *rows, columns = parts
    if len(parts) != np.ndim(owner.now) or len(parts) > 2 or is_found(node):
        return None
    if columns.node is None and rows and rows[0].node is not None:  # samples are columns: p[y, 0]
        (columns,), rows, node = rows, [columns], at.algebra.transpose(node)
    if columns.node is None or columns.node.op not in ("items", "argmax"):
        return None
    n = node.shape[0]
    listed = [np.atleast_1d(row.now) for row in rows if row.fixed and not isinstance(row.now, slice)]
    expected = [np.arange(n) for _ in rows]
    whole = all(np.asarray(part.now).dtype.kind in "iu" for part in parts) and columns.node.shape == (1, n)
    if not whole or len(listed) != len(expected) or not all(map(np.array_equal, listed, expected)):
        return None
    return at.algebra.pick(node, columns.node)


def _view(at: Interpreter, now: Any, node: Node, owner: Value) -> Value:
    """Return an image, whose pixels are one row of `node` until it is reshaped, unless they are a column already."""
    if np.ndim(now) == 2 and now.shape[1] == 1:
        node = at.algebra.transpose(node)
    root = owner.base or owner
    return Value(now, node, base=root, seen=root.version)


def _sliced_row(at: Interpreter, parts: list[Value]) -> Value | None:
    """Return k of a slice k:k + 1, where k is an entry of an array, such as one of a permutation."""
    bounds = parts[0].items if isinstance(parts[0].now, slice) else None
    if bounds is None or bounds[0].node is None or bounds[1].node is None or not all(map(_takes_all, parts[1:])):
        return None
    following = at.binary(ast.Add(), bounds[0], Value(1))
    return bounds[0] if bounds[1].node is following.node else None


def _taken(at: Interpreter, owner: Value, key: Value, now: Any, how: str) -> Value:
    """Return the rows that an array of row numbers lists, such as one batch of a permutation; `now` are those now."""
    node, listed = at.node(owner, of_images=True), at.exact(key)
    if node.op != "array" or listed.op != "items" or np.asarray(key.now).dtype.kind not in "iu":
        raise Refused("an index that is not understood")
    rows, slope, start, n = listed.args
    source = (how, node.args[0], rows)
    if np.ndim(owner.now) == 1:
        return at.result(now, at.algebra.leaf("items", source, slope, start, n, shape=(1, n)), base=owner)
    taken = at.algebra.leaf("rows", source, slope, start, n, shape=(n, node.shape[1]))
    return _view(at, now, taken, owner) if np.ndim(owner.now) > 2 else at.result(now, taken, base=owner)


def set_item(at: Interpreter, owner: Value, key: Value, value: Value) -> Value:
    """Return what ``owner[key] = value`` makes of `owner`: values set to 0 by a condition, or a one-hot vector."""
    node, now = at.exact(owner), np.array(owner.now)
    if key.node is not None and np.asarray(key.now).dtype == bool and np.shape(key.now) == now.shape:
        if value.fixed and value.now == 0:
            now[key.now] = 0
            return at.result(now, at.algebra.multiply(node, at.otherwise(key.node)))
    hot = _one_hot(at, owner, node, key)
    if hot is None or node is not at.algebra.zeros(node.shape) or not value.fixed or value.now != 1:
        raise Refused("an assignment to a part of an array that is not understood")
    now[_plain_key(key)] = 1
    return Value(now, hot)


def add_to_item(at: Interpreter, owner: Value, key: Value, value: Value, sign: float) -> Value | None:
    """Return what ``owner[key] += sign * value`` makes of `owner`, or None; ``p[np.arange(n), y] -= 1`` is known."""
    if key.now is Ellipsis or _takes_all(key):
        return at.binary(ast.Add() if sign > 0 else ast.Sub(), owner, value)
    node, now = at.exact(owner), np.array(owner.now)
    hot = _one_hot(at, owner, node, key)
    if hot is None or not value.fixed or not isinstance(value.now, int | float):
        return None
    now[_plain_key(key)] += sign * value.now
    return at.result(now, at.algebra.add(node, hot, sign * value.now))


def _one_hot(at: Interpreter, owner: Value, node: Node, key: Value) -> Node | None:
    """Return 1 at one entry of each row, in the columns of the classes, if ``owner[key]`` is that; see `_picked`."""
    *rows, column = key.items if isinstance(key.now, tuple) and key.items is not None else [key]
    if np.shape(owner.now)[1:] == (1,):  # a column
        flipped = Value(owner.now[:, 0], at.algebra.transpose(node))
        hot = _one_hot(at, flipped, at.algebra.transpose(node), rows[0] if rows else column)
        is_first = not rows or (column.fixed and column.now == 0)
        return at.algebra.transpose(hot) if hot is not None and is_first else None
    if column.node is None or column.node.op != "items":
        return None
    expected = [] if np.ndim(owner.now) == 1 else [np.arange(len(owner.now))]
    one_each = [np.atleast_1d(row.now) for row in rows if row.fixed and not isinstance(row.now, slice)]
    whole = np.asarray(column.now).dtype.kind in "iu" and node.shape[0] == np.size(column.now)
    if not whole or not len(rows) == len(one_each) == len(expected) or not all(map(np.array_equal, one_each, expected)):
        return None
    classes, slope, start, n = at.exact(column).args
    return at.algebra.leaf("rows", ("taken", ("eye", node.shape[1]), classes), slope, start, n, shape=node.shape)


def _plain_key(key: Value) -> Any:
    """Return an index as NumPy takes it."""
    return tuple(part.now for part in key.items) if isinstance(key.now, tuple) and key.items is not None else key.now


def _span(at: Interpreter, part: Value, n: int) -> tuple[int, int, int, int] | None:
    """Return slope and start of an index or slice over n rows, and the rows it takes in this iteration."""
    if isinstance(part.now, slice) and part.items is not None:
        if part.now.step is not None:
            return None
        lower, upper = part.items
        if lower.now is None:
            lower = Value(0)
        if upper.now is None:
            upper = Value(n)
        bounds = [(value.affine or (0, value.now), value.now) for value in (lower, upper)]
        if any(not (value.fixed or value.affine) or type(value.now) is not int for value in (lower, upper)):
            return None
        ((slope, start), first), ((slope_2, _), last) = bounds
        if slope != slope_2 or not 0 <= first < last:
            return None
        last = last if slope else min(last, n)
    elif (part.fixed or part.affine) and type(part.now) is int:
        (slope, start), first = part.affine or (0, part.now), part.now
        if first < 0 and not slope:
            first, start = first + n, start + n
        last = first + 1
    else:
        return None
    return (slope, start, first, last) if 0 <= first < last <= n else None


def _rows(at: Interpreter, node: Node, span: tuple[int, int, int, int], owner: Value) -> Node:
    slope, start, first, last = span
    if slope == 0:
        return at.algebra.rows(node, first, last)
    n = last - first
    if node.op == "array":
        return at.algebra.leaf("rows", node.args[0], slope, start, n, shape=(n, node.shape[1]))
    if node.op == "transpose" and node.args[0].op == "array":
        source = ("flipped", node.args[0].args[0])
        return at.algebra.leaf("rows", source, slope, start, n, shape=(n, node.shape[1]))
    raise Refused("an index that depends on the iteration, into values made in the loop")
