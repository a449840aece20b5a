"""What one iteration computes, as expressions in a normal form: equal computations become one and the same node.

Every value is a matrix: a one-dimensional array is a row, a number is 1 by 1. A node is made by `Algebra` only, which
pulls numbers out of products, pushes transpositions down to the arrays, merges sums, and knows a few identities, so
that ``(x > 0) * x`` and ``np.maximum(x, 0)``, or ``labels - outputs`` with ``+=`` and ``outputs - labels`` with ``-=``,
cannot be told apart afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

Shape: TypeAlias = tuple[int, int]

# f(x) for each entry of x: transposing the result is transposing the argument.
ELEMENTWISE = frozenset(
    {"relu", "tanh", "sigmoid", "exp", "positive", "not_negative", "inverse", "log", "clip", "abs", "sqrt"}
)
_ZERO_OR_ONE = frozenset({"positive", "not_negative", "mask"})
_NEVER_NEGATIVE = _ZERO_OR_ONE | {"relu", "sigmoid", "softmax", "exp", "one", "abs"}
# Where two coefficients agree to this many digits, they are the same: a rate computed in another order, say.
_DIGITS = 11


@lru_cache(maxsize=10_000)
def _rounded(coefficient: float) -> str:
    return f"{coefficient:.{_DIGITS}g}"


class Node:
    """One expression. Two nodes of one `Algebra` are equal if and only if they are the same object."""

    __slots__ = ("args", "op", "order", "shape")

    def __init__(self, op: str, args: tuple[Any, ...], shape: Shape, order: int) -> None:
        self.op = op
        self.args = args
        self.shape = shape
        self.order = order

    def __repr__(self) -> str:
        """Return the expression, for debugging."""
        return f"{self.op}({', '.join(map(repr, self.args))})" if self.args else self.op

    def children(self) -> Iterator[Node]:
        """Nodes this one is made of."""
        for arg in self.args:
            if isinstance(arg, Node):
                yield arg
            elif self.op == "add":
                yield arg[0]


class Algebra:
    """Makes nodes, each once."""

    def __init__(self) -> None:
        self._nodes: dict[tuple[Any, ...], Node] = {}
        self._transposed: dict[Node, Node] = {}
        self.one = self.leaf("one", shape=(1, 1))

    def leaf(self, op: str, *args: Any, shape: Shape) -> Node:
        """Return the node of these parts as they are."""
        key = (op, args, shape)
        if key not in self._nodes:
            self._nodes[key] = Node(op, args, shape, len(self._nodes))
        return self._nodes[key]

    def number(self, value: float) -> Node:
        """Return a constant."""
        return self._sum({self.one: float(value)}, (1, 1))

    def zeros(self, shape: Shape) -> Node:
        """Return an array of zeros."""
        return self._sum({}, shape)

    def terms(self, x: Node) -> dict[Node, float]:
        """Return x as a sum: a coefficient for each term."""
        return dict(x.args) if x.op == "add" else {x: 1.0}

    def scaled(self, x: Node) -> tuple[float, Node]:
        """Return x as a coefficient times a node whose own leading coefficient is 1."""
        if x.op != "add" or not x.args:
            return 1.0, x
        lead = x.args[0][1]
        return lead, self._sum({term: c / lead for term, c in x.args}, x.shape)

    def _sum(self, terms: dict[Node, float], shape: Shape) -> Node:
        items = sorted(((term, c) for term, c in terms.items() if c != 0), key=lambda item: item[0].order)
        if len(items) == 1 and _rounded(items[0][1]) == "1" and items[0][0].shape == shape:
            return items[0][0]
        # The key is rounded, the coefficients are not: rounding would add up.
        key = ("add", tuple((term, _rounded(c)) for term, c in items), shape)
        if key not in self._nodes:
            self._nodes[key] = Node("add", tuple(items), shape, len(self._nodes))
        return self._nodes[key]

    def add(self, x: Node, y: Node, sign: float = 1.0) -> Node:
        """Return x + sign y."""
        terms = self.terms(x)
        for term, c in self.terms(y).items():
            terms[term] = terms.get(term, 0.0) + sign * c
        return self._sum(terms, broadcast(x.shape, y.shape))

    def total(self, nodes: Sequence[Node]) -> Node:
        """Return the sum of nodes of one shape, at least one."""
        terms: dict[Node, float] = {}
        for node in nodes:
            for term, c in self.terms(node).items():
                terms[term] = terms.get(term, 0.0) + c
        return self._sum(terms, nodes[0].shape)

    def times(self, factor: float, x: Node) -> Node:
        """Return a number times x."""
        return self._sum({term: factor * c for term, c in self.terms(x).items()}, x.shape)

    def multiply(self, x: Node, y: Node) -> Node:
        """Return the product of entries."""
        shape = broadcast(x.shape, y.shape)
        if shape not in (x.shape, y.shape):  # a column times a row
            column, row = (x, y) if x.shape[1] == 1 else (y, x)
            return self.matmul(column, row)
        if any(a.op == "add" and not a.args for a in (x, y)):
            return self.zeros(shape)
        (cx, ax), (cy, ay) = self.scaled(x), self.scaled(y)
        factors = [f for a in (ax, ay) for f in (a.args if a.op == "multiply" else (a,)) if f is not self.one]
        return self.times(cx * cy, self._product(self._simplify(factors), shape))

    def _product(self, factors: list[Node], shape: Shape) -> Node:
        if not factors and shape == (1, 1):
            return self.one
        if len(factors) == 1 and factors[0].shape == shape:
            return factors[0]
        return self.leaf("multiply", *sorted(factors, key=lambda node: node.order), shape=shape)

    def _simplify(self, factors: list[Node]) -> list[Node]:
        """Apply what is known of certain pairs of factors."""
        kept: list[Node] = []
        for f in factors:
            if not (f.op in _ZERO_OR_ONE and f in kept):
                kept.append(f)
        for f in list(kept):
            if f not in kept:
                continue
            (inner,) = f.args[:1] or (None,)
            if f.op in ("positive", "not_negative") and inner in kept:  # (x > 0) * x
                kept.remove(f)
                kept[kept.index(inner)] = self.relu(inner)
            elif f.op == "positive" and self.leaf("relu", inner, shape=f.shape) in kept:
                kept.remove(f)
            elif f.op == "inverse" and inner in kept:
                kept.remove(f)
                kept.remove(inner)
            elif f.op == "inverse":
                for flip in (lambda x: x, self.transpose):  # samples as rows, or as columns
                    total = flip(inner)
                    if total.op == "sum_columns" and total.args[0].op == "exp" and flip(total.args[0]) in kept:
                        kept.remove(f)  # exp(z) / sum exp(z)
                        kept[kept.index(flip(total.args[0]))] = flip(self._softmax(total.args[0].args[0]))
                        break
        return kept

    def _softmax(self, z: Node) -> Node:
        """Softmax does not see a number added to the whole row, such as its maximum."""
        terms = {t: c for t, c in self.terms(z).items() if not (t.op == "largest" and t.shape[1] == 1)}
        return self.leaf("softmax", self._sum(terms, z.shape), shape=z.shape)

    def matmul(self, x: Node, y: Node) -> Node:
        """Return the matrix product."""
        assert x.shape[1] == y.shape[0]
        (cx, ax), (cy, ay) = self.scaled(x), self.scaled(y)
        shape = (x.shape[0], y.shape[1])
        if shape == (1, 1) and ax is self.transpose(ay):
            product = self.sum_columns(self.multiply(ax, ax))
        else:
            product = self.leaf("matmul", ax, ay, shape=shape)
        return self.times(cx * cy, product)

    def transpose(self, x: Node) -> Node:
        """Return the transpose, pushed down to the arrays."""
        if x not in self._transposed:
            self._transposed[x] = self._transpose(x)
        return self._transposed[x]

    def _transpose(self, x: Node) -> Node:
        shape = (x.shape[1], x.shape[0])
        match x.op:
            case _ if x.shape == (1, 1):
                return x
            case "mask" | "draw" if 1 in x.shape:  # drawn in the same order
                return self.leaf(x.op, *x.args, shape=shape)
            case "transpose":
                return x.args[0]  # type: ignore[no-any-return]
            case "add":
                total = self._sum({}, shape)
                for term, c in x.args:
                    total = self.add(total, self.transpose(term), c)
                return total
            case "multiply":
                product = self.transpose(x.args[0])
                for factor in x.args[1:]:
                    product = self.multiply(product, self.transpose(factor))
                return product
            case "matmul":
                return self.matmul(self.transpose(x.args[1]), self.transpose(x.args[0]))
            case op if op in ELEMENTWISE:
                return self.leaf(op, self.transpose(x.args[0]), *x.args[1:], shape=shape)
        return self.leaf("transpose", x, shape=shape)

    def sum_columns(self, x: Node) -> Node:
        """Return the sum of each row, (N, 1)."""
        if x.shape[1] == 1:
            return x
        c, a = self.scaled(x)
        if a.op == "transpose" and a.args[0].op == "sum_columns":  # the sum of the sums of rows
            return self.times(c, self.sum(a.args[0].args[0]))
        return self.times(c, self.leaf("sum_columns", a, shape=(x.shape[0], 1)))

    def sum_rows(self, x: Node) -> Node:
        """Return the sum of each column, (1, O)."""
        return self.transpose(self.sum_columns(self.transpose(x)))

    def sum(self, x: Node) -> Node:
        """Return the sum of all entries."""
        if x.shape[0] == 1:
            return self.sum_columns(x)
        if x.shape[1] == 1:
            return self.sum_columns(self.transpose(x))
        c, a = self.scaled(x)
        flipped_c, flipped = self.scaled(self.transpose(a))
        if flipped.order < a.order:
            c, a = c * flipped_c, flipped
        return self.times(c, self.leaf("sum", a, shape=(1, 1)))

    def relu(self, x: Node) -> Node:
        """Return max(x, 0)."""
        c, a = self.scaled(x)
        if c < 0:
            return self.leaf("relu", x, shape=x.shape)
        return self.times(c, a if self.never_negative(a) else self.leaf("relu", a, shape=x.shape))

    def positive(self, x: Node) -> Node:
        """Return x > 0."""
        c, a = self.scaled(x)
        if c < 0:
            return self.leaf("positive", x, shape=x.shape)
        match a.op:
            case "relu":
                return self.positive(a.args[0])
            case op if op in _ZERO_OR_ONE:
                return a
            case "multiply" if self.never_negative(a):
                product = self.positive(a.args[0])
                for factor in a.args[1:]:
                    product = self.multiply(product, self.positive(factor))
                return product
        return self.leaf("positive", a, shape=x.shape)

    def not_negative(self, x: Node) -> Node:
        """Return x >= 0, which is 1 of what is never negative."""
        c, a = self.scaled(x)
        if c > 0 and self.never_negative(a):
            return self.one
        return self.leaf("not_negative", a if c > 0 else x, shape=x.shape)

    def never_negative(self, x: Node) -> bool:
        """Whether x >= 0 holds by construction."""
        if x.op == "multiply":
            return all(map(self.never_negative, x.args))
        return x.op in _NEVER_NEGATIVE

    def inverse(self, x: Node) -> Node:
        """Return 1 / x."""
        c, a = self.scaled(x)
        if a is self.one:
            return self.number(1 / c)
        terms = self.terms(x)
        if len(terms) == 2 and terms.get(self.one) in terms.values():
            (other,) = (term for term in terms if term is not self.one)
            if other.op == "exp" and terms[other] == terms[self.one]:  # 1 / (1 + exp(-z))
                sigmoid = self.leaf("sigmoid", self.times(-1, other.args[0]), shape=x.shape)
                return self.times(1 / terms[other], sigmoid)
        return self.times(1 / c, self.leaf("inverse", a, shape=x.shape))

    def function(self, op: str, x: Node, *parameters: float) -> Node:
        """Return an elementwise function without identities of its own."""
        return self.leaf(op, x, *parameters, shape=x.shape)

    def pick(self, x: Node, columns: Node) -> Node:
        """Return one entry of each row of x, those in the columns that are listed, as a row."""
        rest = self.terms(x)
        offset = rest.pop(self.one, 0.0)
        if offset:  # a number added to all entries, or to those that are picked
            return self.add(self.pick(self._sum(rest, x.shape), columns), self.number(offset))
        c, a = self.scaled(x)
        if a.op in ("log", "clip"):  # likewise
            return self.times(c, self.function(a.op, self.pick(a.args[0], columns), *a.args[1:]))
        return self.times(c, self.leaf("pick", a, columns, shape=columns.shape))

    def rows(self, x: Node, first: int, last: int) -> Node:
        """Return some rows of x."""
        n = last - first
        if (first, last) == (0, x.shape[0]):
            return x
        if x.op == "rows":
            source, slope, start, _ = x.args
            return self.leaf("rows", source, slope, start + first, n, shape=(n, x.shape[1]))
        return self.leaf("slice", x, first, last, shape=(n, x.shape[1]))

    def argmax(self, x: Node) -> Node:
        """Return the position of the largest entry of each row, as a row."""
        return self.leaf("argmax", x, shape=(1, x.shape[0]))

    def equal(self, x: Node, y: Node) -> Node:
        """Return x == y."""
        x, y = sorted((x, y), key=lambda node: node.order)
        return self.leaf("equal", x, y, shape=broadcast(x.shape, y.shape))


def broadcast(x: Shape, y: Shape) -> Shape:
    """Return the shape of x + y."""
    return (max(x[0], y[0]), max(x[1], y[1]))


def walk(roots: Iterable[Node]) -> Iterator[Node]:
    """Every node that the roots are made of, each once."""
    seen: set[Node] = set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            yield node
            stack.extend(node.children())


def contains(root: Node, wanted: Callable[[Node], bool]) -> bool:
    """Whether some part of `root` is wanted."""
    return any(map(wanted, walk([root])))


def is_found(node: Node) -> bool:
    """Whether this is an array that the iteration found, or rows of it."""
    inner: Node = node.args[0] if node.op in ("transpose", "slice") else node
    return inner.op in ("array", "rows")


def close(x: Node, y: Node) -> bool:
    """Whether two nodes are the same but for rounding in their coefficients."""
    pairs: dict[tuple[Node, Node], bool] = {}

    def same(x: Node, y: Node) -> bool:
        if x is y:
            return True
        if x.op != y.op or x.shape != y.shape or len(x.args) != len(y.args):
            return False
        if (x, y) not in pairs:
            pairs[x, y] = sums(x, y) if x.op == "add" else all(map(arguments, x.args, y.args))
        return pairs[x, y]

    def arguments(a: Any, b: Any) -> bool:
        return same(a, b) if isinstance(a, Node) and isinstance(b, Node) else bool(a == b)

    def sums(x: Node, y: Node) -> bool:
        left = list(y.args)
        for term, c in x.args:
            found = next((t for t in left if abs(t[1] - c) <= 1e-9 * abs(c) and same(term, t[0])), None)
            if found is None:
                return False
            left.remove(found)
        return True

    return same(x, y)
