"""The program's source with hooks around the loops that might be replaced.

``for i in rows: body`` becomes

    for i in __fastmnist__.first(k, rows): body      # all of it, or what comes before a kernel can be used
    while __fastmnist__.middle(k):                   # iterations by a kernel, until there are none left
        for i in __fastmnist__.next(k): body         # some as written: verified ones, unusual ones, the last one

so that whatever the loop leaves behind is left by the program's own statements. A loop around such loops tells when it
begins: ``for j in __fastmnist__.outer(m, epochs)``. Lines and columns stay as they were.
"""

from __future__ import annotations

import ast
import copy
from dataclasses import dataclass, field

HOOKS = "__fastmnist__"
_STATEMENTS = (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Expr, ast.Pass)
_PRODUCTS = frozenset({"dot", "matmul", "outer", "argmax", "einsum"})


@dataclass
class Loop:
    """One loop of the program."""

    number: int
    node: ast.For | ast.While
    where: str
    refused: str | None = None  # before running
    refused_line: int = 0
    inside: list[Loop] = field(default_factory=list)
    outer: int | None = None  # the number of the loop around it
    within: tuple[str, ...] = ()  # names of the functions around it
    calls: frozenset[str] = frozenset()  # names of the program's functions that it calls, at any depth
    multiplies: bool = False  # whether it looks like a computation with matrices: others are not worth a word

    @property
    def line(self) -> int:
        """Its line."""
        return self.node.lineno


@dataclass
class Outer:
    """A loop around others, as the program has it."""

    number: int
    node: ast.For


def _is_product(node: ast.AST) -> bool:
    match node:
        case ast.BinOp(op=ast.MatMult()):
            return True
        case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name)):
            return name in _PRODUCTS
    return False


def _called(node: ast.AST) -> set[str]:
    """Names that are called, as functions or as methods."""
    called = set()
    for part in ast.walk(node):
        match part:
            case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name)):
                called.add(name)
    return called


def _look_into_calls(tree: ast.Module, loops: list[Loop]) -> None:
    """Note what the loops call, and whether they multiply: by name alone, good enough for what is worth a word."""
    bodies: dict[str, list[ast.AST]] = {}
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name):
                bodies.setdefault(name, []).append(node)
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Lambda() as function):
                bodies.setdefault(name, []).append(function)
    direct = {name: set().union(*map(_called, nodes)) & bodies.keys() for name, nodes in bodies.items()}
    products = {name for name, nodes in bodies.items() if any(_is_product(n) for node in nodes for n in ast.walk(node))}
    for loop in loops:
        found, new = set(), _called(loop.node) & bodies.keys()
        while new:
            found |= new
            new = set().union(*(direct[name] for name in new)) - found
        loop.calls = frozenset(found)
        loop.multiplies = bool(found & products) or any(map(_is_product, ast.walk(loop.node)))


def _calls(node: ast.For | ast.While) -> bool:
    return any(isinstance(n, ast.Call) or _is_product(n) for part in node.body for n in ast.walk(part))


def _why_not(loop: ast.For) -> tuple[str, int] | None:
    """Return the reason and line of something that no replaced loop may have."""
    if loop.orelse:
        return "an else branch", loop.lineno
    for node in (n for part in loop.body for n in ast.walk(part)):
        match node:
            case ast.Yield() | ast.YieldFrom() | ast.Await() | ast.NamedExpr():
                return f"the expression {ast.unparse(node)!r}", node.lineno
            case ast.Global() | ast.Nonlocal() | ast.AsyncFor() | ast.AsyncWith():  # the body is to stand there twice
                return _statement(node)
    return obstacle(loop.body)


def obstacle(body: list[ast.stmt]) -> tuple[str, int] | None:
    """Return the reason and line of a statement that no replaced iteration may run; it need not run all branches."""
    for statement in body:
        expressions: list[ast.AST] = [statement]
        match statement:
            case ast.If(test=test):
                expressions = [test]
            case ast.For(iter=iterable, body=inner, orelse=[]):
                if found := obstacle(inner):
                    return found
                expressions = [iterable]
            case _ if not isinstance(statement, _STATEMENTS):
                return _statement(statement)
        for node in (n for part in expressions for n in ast.walk(part)):
            match node:
                case ast.Call(func=ast.Name(id="print" | "input" | "open" | "exec" | "eval" as name)):
                    return f"a call of {name}()", node.lineno
    return None


def _statement(node: ast.stmt) -> tuple[str, int]:
    return f"the statement {ast.unparse(node).splitlines()[0]!r}", node.lineno


class _Rewriter(ast.NodeTransformer):
    def __init__(self, filename: str, n_loops: int, n_outers: int) -> None:
        self.filename = filename
        self.n_loops = n_loops
        self.n_outers = n_outers
        self.loops: list[Loop] = []
        self.scopes: list[ast.AST] = []
        self.numbers: dict[tuple[int, int], Loop] = {}
        self.enclosing: list[Loop] = []
        self.around: list[ast.For | None] = [None]
        self.outers: dict[tuple[int, int], Outer] = {}

    def _scope(self, node: ast.AST) -> ast.AST:
        self.scopes.append(node)
        self.around.append(None)
        node = self.generic_visit(node)
        self.around.pop()
        self.scopes.pop()
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = visit_Lambda = _scope

    def visit_For(self, node: ast.For) -> ast.AST | list[ast.stmt]:
        loop = self._noted(node)
        if loop is None:
            return self._visited(node)
        if (around := self.around[-1]) is not None and loop.outer is None:
            position = around.lineno, around.col_offset
            new = Outer(self.n_outers + len(self.outers), copy.deepcopy(around))
            loop.outer = self.outers.setdefault(position, new).number
        if why := _why_not(node):
            loop.refused, loop.refused_line = why
        self.enclosing.append(loop)
        again = copy.deepcopy(node)
        node = self._visited(node)
        replaced: list[ast.stmt] = [node]
        if loop.refused is None:
            again = self._visited(again)
            names = sorted(stored(*loop.node.body)) if self.scopes else []
            replaced = _hooked(loop.number, node, again, names)
        self.enclosing.pop()
        return replaced

    def visit_While(self, node: ast.While) -> ast.AST:
        loop = self._noted(node)
        if loop is None:
            return self.generic_visit(node)
        loop.refused, loop.refused_line = "a while loop; for loops are replaced", node.lineno
        self.enclosing.append(loop)
        self.generic_visit(node)
        self.enclosing.pop()
        return node

    def _noted(self, node: ast.For | ast.While) -> Loop | None:
        """Return what is known of a loop; None if it is not worth a look."""
        in_class = bool(self.scopes) and isinstance(self.scopes[-1], ast.ClassDef)
        if in_class or not _calls(node):
            return None
        at = (node.lineno, node.col_offset)
        if at not in self.numbers:  # a loop within a loop is seen twice
            loop = Loop(self.n_loops + len(self.loops), copy.deepcopy(node), f"{self.filename}:{node.lineno}")
            loop.within = tuple(s.name for s in self.scopes if isinstance(s, ast.FunctionDef))
            self.loops.append(loop)
            self.numbers[at] = loop
            for outer in self.enclosing:
                outer.inside.append(loop)
        return self.numbers[at]

    def _visited(self, node: ast.For) -> ast.For:
        self.around.append(node)
        self.generic_visit(node)
        self.around.pop()
        outer = self.outers.get((node.lineno, node.col_offset))
        if outer is not None:
            node.iter = ast.copy_location(_hook("outer", ast.Constant(outer.number), node.iter), node.iter)
        return node


def stored(*nodes: ast.AST) -> set[str]:
    """Return the names that some code sets."""
    return {n.id for node in nodes for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def _hook(name: str, *arguments: ast.expr) -> ast.Call:
    return ast.Call(ast.Attribute(ast.Name(HOOKS, ast.Load()), name, ast.Load()), list(arguments), [])


def _hooked(number: int, first: ast.For, again: ast.For, names: list[str]) -> list[ast.stmt]:
    k = ast.Constant(number)
    first.iter = ast.copy_location(_hook("first", k, first.iter), first.iter)
    again.iter = ast.copy_location(_hook("next", k), again.iter)
    middle = ast.While(_hook("middle", k), [], [])
    for name in names:
        value = ast.Assign([ast.Name(name, ast.Store())], _hook("value", k, ast.Constant(name)))
        middle.body.append(ast.If(_hook("sets", k, ast.Constant(name)), [value], []))
    for node in ast.walk(middle):
        ast.copy_location(node, first)
    middle.body.append(again)
    return [first, middle]


def rewrite(
    tree: ast.Module, filename: str, n_loops: int = 0, n_outers: int = 0
) -> tuple[ast.Module, list[Loop], list[Outer]]:
    """Return the program with hooks, its loops, and the loops around them; `tree` stays as it is.

    Parameters
    ----------
    tree : ast.Module
        The program.
    filename : str
        What to call it.
    n_loops, n_outers : int, default 0
        How many there are already, in sources that were rewritten before.
    """
    rewriter = _Rewriter(filename, n_loops, n_outers)
    rewritten = ast.fix_missing_locations(rewriter.visit(copy.deepcopy(tree)))
    _look_into_calls(tree, rewriter.loops)
    return rewritten, rewriter.loops, list(rewriter.outers.values())
