"""Programs run as written and with their loops replaced: same output, same names, same random state."""

import ast
import contextlib
import io
import itertools
import linecache
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accel_scripts import (
    AUTHORS,
    BIASED,
    CLASS,
    COLUMNS,
    DATA,
    DEEP,
    DIGITS,
    DROPOUT,
    DROPPED,
    MINI_BATCH,
    PER_SAMPLE,
    REFUSED,
    REPEATED,
    TANH,
    WHOLE_SET,
    changed,
)

from fastmnist.accel import install
from fastmnist.accel.hooks import Hooks
from fastmnist.accel.replace import Replacement
from fastmnist.accel.rewrite import HOOKS
from fastmnist.engine import packing

NUMBER = re.compile(r"-?\d+\.?\d*(?:e-?\d+)?")


# What every program does at its end: write what it has computed, in three ways, and stop with a code of its own.
WRITING = """
for _name, _value in sorted(globals().items()):
    if isinstance(_value, np.ndarray):
        np.save(_name, _value)
        np.savetxt(_name + ".txt", _value.reshape(-1)[:100])
    elif isinstance(_value, (int, float)):
        with open("numbers.log", "a") as _file:
            _file.write(f"{_name} {_value}\\n")
sys.exit(3)
"""


def execute(program, replaced, verify=2):
    """Run a program in this folder; return what it printed, its names, NumPy's random state and the hooks' records."""
    tree = ast.parse(program + WRITING, "program.py")
    names = {"__name__": "__main__", "__annotations__": {}}
    hooks = None
    if replaced:
        names["__builtins__"] = {**vars(__import__("builtins"))}
        hooks = Hooks(verify, lambda level, text: None)
        names["__builtins__"][HOOKS] = hooks
        tree = hooks.rewrite(tree, "program.py", "program.py")
    out = io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        np.errstate(all="ignore"),
        np.printoptions(),  # a program may change them
        warnings.catch_warnings(action="default"),  # pytest's are errors, and then nothing is replaced
        pytest.raises(SystemExit, match="3"),
    ):
        exec(compile(tree, "program.py", "exec"), names)
    names.pop("__builtins__")
    return out.getvalue(), names, np.random.get_state(), hooks and hooks.records


def assert_same_numbers(ours, theirs):
    assert NUMBER.sub("#", ours) == NUMBER.sub("#", theirs)
    for a, b in zip(NUMBER.findall(ours), NUMBER.findall(theirs), strict=True):
        if a != b:
            assert float(a) == pytest.approx(float(b), rel=1e-9)


def assert_same_value(ours, theirs, exact):
    assert type(ours) is type(theirs) or isinstance(ours, types.FunctionType | type) or hasattr(ours, "__dict__")
    if isinstance(ours, np.ndarray):
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        if exact or ours.dtype.kind != "f":
            np.testing.assert_array_equal(ours, theirs)
        else:
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)
    elif isinstance(ours, float):
        assert ours == pytest.approx(theirs, rel=0 if exact else 1e-9, abs=0, nan_ok=True)
    elif isinstance(ours, list | tuple):
        for a, b in zip(ours, theirs, strict=True):
            assert_same_value(a, b, exact)
    elif isinstance(ours, np.random.Generator):
        assert ours.bit_generator.state == theirs.bit_generator.state
    elif isinstance(ours, int | str):
        assert ours == theirs
    elif type(ours).__name__ == "Network":
        assert_same_value(list(vars(ours).values()), list(vars(theirs).values()), exact)


def assert_same_files(ours, theirs, exact):
    names = sorted(path.name for path in theirs.iterdir())
    assert sorted(path.name for path in ours.iterdir()) == names
    assert any(name.endswith((".npy", ".log")) for name in names)
    for name in names:
        if exact:
            assert (ours / name).read_bytes() == (theirs / name).read_bytes(), name
        elif name.endswith(".log"):
            assert_same_numbers((ours / name).read_text(), (theirs / name).read_text())
        else:
            load = np.load if name.endswith(".npy") else np.loadtxt
            assert_same_value(load(ours / name), load(theirs / name), exact=False)


def run_both(program, exact=False, verify=2):
    """Run a program both ways, compare, and return the lines of the replaced loops and the records."""
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for replaced in (False, True):
            Path(folder, str(replaced)).mkdir()
            random.seed(0)
            with contextlib.chdir(Path(folder, str(replaced))):
                runs.append(execute(program, replaced, verify))
        assert_same_files(Path(folder, "True"), Path(folder, "False"), exact)
    (out, names, state, _), (our_out, our_names, our_state, records) = runs
    if exact:
        assert our_out == out
    assert_same_numbers(our_out, out)
    assert list(our_names) == list(names)
    for name, value in names.items():
        assert_same_value(our_names[name], value, exact)
    for a, b in zip(our_state, state, strict=True):
        np.testing.assert_array_equal(a, b)
    return [r for r in records if r.entries], records


DELTAS = "        layer_1_delta = layer_2_delta.dot(weights_1_2.T) * relu2deriv(layer_1)\n"
COUNT = "        correct_cnt += int(np.argmax(layer_2) == np.argmax(labels[i:i+1]))\n"
RELU = "relu = lambda x: (x > 0) * x\n"
DERIVATIVE = "relu2deriv = lambda x: x >= 0\n"
UPPER = "        weights_1_2 -= alpha * layer_1.T.dot(layer_2_delta)\n"
LOWER = "        weights_0_1 -= alpha * layer_0.T.dot(layer_1_delta)\n"
ERROR = "        error += np.sum((layer_2 - labels[i:i+1]) ** 2)\n"
MASK = "        dropout_mask = np.random.randint(2, size=layer_1.shape)\n        layer_1 *= dropout_mask * 2\n"

ENTROPY = "        loss += -np.sum(t * np.log(p))\n"
TEST_ENTROPY = "        test_loss -= np.sum(test_labels[i:i + 1] * np.log(q))\n"
HEAD, _, LOOPS = PER_SAMPLE.partition("for j in")
TEST_LABELS = ("y =", "test_y = np.argmax(test_labels, axis=1)\ny =")

LISTED = (
    HEAD
    + """\
import random
pairs = [(x, t) for x, t in zip(images, labels)]
for j in range(iterations):
    error, correct_cnt = 0.0, 0
    for x, t in LIST:
        layer_1 = relu(np.dot(x, weights_0_1))
        layer_2 = np.dot(layer_1, weights_1_2)
        error += np.sum((layer_2 - t) ** 2)
        correct_cnt += int(np.argmax(layer_2) == np.argmax(t))
        layer_2_delta = layer_2 - t
        layer_1_delta = layer_2_delta.dot(weights_1_2.T) * (layer_1 > 0)
        weights_1_2 -= alpha * np.outer(layer_1, layer_2_delta)
        weights_0_1 -= alpha * np.outer(x, layer_1_delta)
        #
    print(j, error, correct_cnt)
"""
)
BY_BATCH = (
    ("np.outer(x, layer_1_delta)", "x.T @ layer_1_delta"),
    ("np.outer(layer_1, layer_2_delta)", "layer_1.T @ layer_2_delta"),
    ("int(np.argmax(layer_2) == np.argmax(t))", "int(np.sum(np.argmax(layer_2, 1) == np.argmax(t, 1)))"),
)

SLICES = "yield X[k:k + size], Y[k:k + size]"


def generated(body, over="batches(images, labels, 7)", *changes):
    """Return a program that loops over batches of a generator, of which `body` is given."""
    if not body.startswith("class"):
        body = f"def batches(X, Y, size):\n{textwrap.indent(body, '    ')}"
    return changed(LISTED, ("LIST", over), ("import random\n", f"import random\n{body}\n"), *BY_BATCH, *changes)


def drawn(draw, *changes):
    """Return a program that draws the rows of each batch at random."""
    return changed(
        LISTED,
        (
            "for x, t in LIST:\n",
            f"for n in range(23):\n        rows = {draw}\n        x, t = images[rows], labels[rows]\n",
        ),
        ("import random\n", "old, new = np.random.RandomState(5), np.random.default_rng(5)\n"),
        ("print(j, error,", "print(np.random.random(), old.random(), new.random(), error,"),
        *BY_BATCH,
        *changes,
    )


GENERATORS: dict[str, list[Any]] = {
    "slices": [f"for k in range(0, len(X), size):\n    {SLICES}"],
    "a shuffled order": [
        "assert len(X) == len(Y)\nif size > 2:\n    order = np.arange(X.shape[0])\n    np.random.shuffle(order)\n"
        "for k in range(0, X.shape[0] - size + 1, size):\n"
        "    rows = order[k:k + size] if size > 2 else slice(k, k + size)\n    yield X[rows], Y[rows]"
    ],
    "slices that are objects": [
        "for k in range(0, len(X), size):\n    rows = slice(k, min(k + size, len(X)))\n    yield X[rows], Y[rows]"
    ],
    "shuffled arrays": [
        f"order = np.random.permutation(len(X))\nX, Y = X[order], Y[order]\nfor k in range(0, 60, size):\n    {SLICES}"
    ],
    "numbers of an array": ["order = np.random.permutation(60)\nfor k in order:\n    yield X[k:k + 1], Y[k:k + 1]"],
    "numbered": [
        f"for k in range(0, len(X), size):\n    {SLICES}",
        "batches(images, labels, 7)",
        ("for x, t in batches(images, labels, 7)", "for n, (x, t) in enumerate(batches(images, labels, 7), 3)"),
        ("#", "if n % 8 == 0: print(n, x.sum())"),
    ],
    "left early": [
        "class Lamp:\n    def __del__(self): print('off')\ndef batches(X, Y, size):\n    lamp = Lamp()\n"
        "    for k in range(0, len(X), size):\n        " + SLICES,
        "batches(images, labels, 3)",
        ("for x, t in batches(images, labels, 3)", "for n, (x, t) in enumerate(batches(images, labels, 3))"),
        ("#", "if n == 15: break"),
    ],
    "one of two": [
        "class Nothing: pass\ndef batches(X, Y, size):\n    for k in range(0, 60, size):\n        "
        + SLICES
        + "\ndef others(X, Y, size):\n    for k in range(0, 60, size):\n        yield X[59 - k:60 - k], Y[59 - k:60 - k]",
        "(batches if j < 2 else others)(images, labels, 1)",
        (
            "    for x, t in (batches if j < 2 else others)",
            "    made = batches if j < 2 else others\n    for x, t in made",
        ),
        ("(0.05, 3,", "(0.05, 4,"),
    ],
    "numbered from elsewhere": [
        f"for k in range(0, 60, size):\n    {SLICES}",
        "batches(images, labels, 1)",
        (
            "for x, t in batches(images, labels, 1)",
            "for n, (x, t) in enumerate(batches(images, labels, 1), 10 * (j > 1))",
        ),
        ("error += np.sum((layer_2 - t) ** 2)", "t = labels[n % 10 : n % 10 + 1] if False else t"),
        ("layer_2_delta = layer_2 - t", "layer_2_delta = layer_2 - more[n:n + 1]"),
        ("== np.argmax(t, 1)", "== np.argmax(more[n:n + 1], 1)"),
        ("(0.05, 3,", "(0.05, 4,"),
        ("alpha,", "more = np.roll(np.tile(labels, (2, 1)), 7, axis=0)\nalpha,"),
    ],
    "a method": [
        "class Data:\n    def __init__(self, size): self.size = size\n"
        "    def batches(self, X, Y):\n        order = np.random.permutation(len(X))\n"
        "        for k in range(0, len(X), self.size):\n            rows = order[k:k + self.size]\n"
        "            yield X[rows], Y[rows]\ndata = Data(7)",
        "data.batches(images, labels)",
    ],
    "an object": [
        "class Data:\n    def __len__(self): return -(-len(images) // 7)\n    def __iter__(self):\n"
        "        order = np.random.permutation(60)\n        for k in range(len(self)):\n"
        "            rows = order[k * 7:(k + 1) * 7]\n            yield images[rows], labels[rows]\ndata = Data()",
        "data",
    ],
    "an object, numbered": [
        "class Data:\n    def __iter__(self):\n        for k in range(0, 60, 7):\n"
        "            yield images[k:k + 7], labels[k:k + 7]\ndata = Data()",
        "data",
        ("x, t in data", "n, (x, t) in enumerate(data)"),
    ],
}

_LAST = "        w1 -= 0.5 * x.T @ d1\n"
_DECAYED = "        w1 -= 0.5 * (x.T @ d1 + 0.02 * w1)\n"
_SCORES = """\
        q = softmax(np.tanh(np.tanh(x @ w1) @ w2) @ w3)
        kept.append(-np.sum(t * np.log(q)) / len(x))
"""
_KEPT = ("np.random.seed", "kept = []\nnp.random.seed")
UNDROPPED = changed(
    DROPPED,
    ("        m1 = (np.random.random(a1.shape) < 0.75) / 0.75\n        a1 *= m1\n", ""),
    ("        m2 = (np.random.random(a2.shape) < 0.5) / 0.5\n        a2 *= m2\n", ""),
    (" * m1", ""),
    (" * m2", ""),
    _KEPT,
)
_GRADIENTS = {"w3": "a2.T @ d3", "w2": "a1.T @ d2", "w1": "x.T @ d1"}


def with_velocities(program, form, **others):
    """Return a program of three layers whose arrays w have velocities v, and are updated by gradients g like this."""
    updates = []
    for w, gradient in _GRADIENTS.items():
        numbered = re.sub(r"\b([vw])\b", rf"\g<1>{w[1]}", others.get(w, form))
        own = re.sub(r"\bg\b", f"({gradient})", numbered)
        updates.append((f"        {w} -= 0.5 * {gradient}\n", f"        {own}\n"))
    made = "y = np.argmax(labels, axis=1)\n"
    return changed(program, (made, made + "v1, v2, v3 = map(np.zeros_like, (w1, w2, w3))\n"), *updates)


_DELTAS_OF_ALL = "    d = (p - T) / n\n"
_SUM_OF_HIDDEN = "np.sum(dh, axis=0, keepdims=True)"
OF_ALL_SAMPLES = {
    "as it is": WHOLE_SET,
    "every fifth prints": changed(
        WHOLE_SET, (_DELTAS_OF_ALL, _DELTAS_OF_ALL + "    if i % 5 == 0: print(i, np.mean(np.argmax(p, 1) == y))\n")
    ),
    "lists and counts": changed(
        WHOLE_SET,
        ("for i in", "hits, losses, total = 0, [], 0.0\nfor i in"),
        (
            _DELTAS_OF_ALL,
            _DELTAS_OF_ALL + "    losses.append(-np.mean(np.log(p[np.arange(n), y])))\n"
            "    hits += np.sum(np.argmax(p, axis=1) == y)\n    total += np.sum((p - T) ** 2) + 0.01 * np.sum(w1 ** 2)\n",
        ),
        ("w1 -= 0.5 * X.T @ dh", "w1 -= 0.5 * (X.T @ dh + 0.02 * w1)"),
    ),
    "scores after each update": changed(
        WHOLE_SET,
        ("for i in", "before, after, hits = [], [], 0\nfor i in"),
        (_DELTAS_OF_ALL, _DELTAS_OF_ALL + "    before.append(np.sum((p - T) ** 2))\n"),
        (
            "print(i",
            "    f = np.exp(np.tanh(X @ w1 + b1) @ w2 + b2); f = f / np.sum(f, axis=1, keepdims=True)\n"
            "    after.append(-np.sum(T * np.log(f))); hits += np.sum(np.argmax(f, axis=1) == y)\nprint(i",
        ),
    ),
    "the same, one gradient for all biases of a layer": changed(
        WHOLE_SET,
        (_SUM_OF_HIDDEN, "np.sum(dh)"),
        ("for i in", "after = []\nfor i in"),
        (
            "print(i",
            "    f = np.exp(np.tanh(X @ w1 + b1) @ w2 + b2); f = f / np.sum(f, axis=1, keepdims=True)\n"
            "    after.append(-np.sum(T * np.log(f)))\n    if i % 9 == 0: print(i, after[-1])\nprint(i",
        ),
    ),
    "new arrays, weight decay": changed(
        WHOLE_SET,
        ("w1 -= 0.5 * X.T @ dh", "w1 = w1 - 0.5 * (X.T @ dh + 0.02 * w1)"),
        ("w2 -= 0.5 * ", "w2 = w2 - 0.5 * "),
    ),
    "one gradient for all biases of a layer": changed(WHOLE_SET, (_SUM_OF_HIDDEN, "np.sum(dh)")),
    "one gradient for all biases of both layers": changed(
        WHOLE_SET,
        (_SUM_OF_HIDDEN, "np.sum(dh)"),
        ("np.sum(d, axis=0, keepdims=True)", "d.sum()"),
        ("np.zeros((1, 4))", "np.ones((1, 4))"),
    ),
    "momentum": changed(
        WHOLE_SET,
        ("for i in", "v1, v2, c1, c2 = map(np.zeros_like, (w1, w2, b1, b2))\nfor i in"),
        ("w2 -= 0.5 * h.T @ d\n", "v2 = 0.8 * v2 - 0.5 * h.T @ d; w2 += v2\n"),
        ("w1 -= 0.5 * X.T @ dh\n", "v1 = 0.8 * v1 - 0.5 * X.T @ dh; w1 += v1\n"),
        ("b2 -= 0.5 * np.sum(d, axis=0, keepdims=True)\n", "c2 = 0.8 * c2 - 0.5 * d.sum(axis=0); b2 += c2\n"),
        (f"b1 -= 0.5 * {_SUM_OF_HIDDEN}\n", "c1 = 0.8 * c1 - 0.5 * dh.sum(axis=0); b1 += c1\n"),
    ),
    "dropout": changed(
        WHOLE_SET,
        ("    z = h", "    m = np.random.randint(2, size=h.shape); h = h * m * 2\n    z = h"),
        ("(1 - h ** 2)", "(1 - h ** 2) * m"),
    ),
    "the first rows": changed(
        WHOLE_SET,
        ("X @ w1", "X[:50] @ w1"),
        ("X.T", "X[:50].T"),
        ("(p - T) / n", "(p - T[:50]) / 50\n    hits += np.sum(p.argmax(1) == y[:50])"),
        ("for i in", "hits = 0\nfor i in"),
        ("(p - T) **", "(p - T[:50]) **"),
    ),
    "bytes, class numbers, scaled and spread in each iteration": changed(
        WHOLE_SET,
        ("X, T,", "B, T,"),
        ("y, n = images", "y, n = (200 * images).astype(np.uint8)"),
        ("    h =", "    X = B / 255.0\n    T = np.eye(4)[y]\n    h ="),
    ),
    "class numbers, spread by their largest": changed(
        WHOLE_SET, ("    h =", "    T = np.zeros((n, y.max() + 1))\n    T[np.arange(n), y] = 1\n    h =")
    ),
    "samples as columns": changed(
        WHOLE_SET, ("X, T, y, n = images", "X, T, y, n = images.T.copy()"), ("X @", "X.T @"), ("X.T @ dh", "X @ dh")
    ),
    "the data change where it prints": changed(
        WHOLE_SET,
        (_DELTAS_OF_ALL, _DELTAS_OF_ALL + "    if i % 7 == 0: print(i); X[0] += 0.5; T[1] = T[2]\n"),
        ("X, T, y, n = images, labels", "X, T, y, n = images.copy(), labels.copy()"),
    ),
    "a function, at several rates": changed(
        WHOLE_SET,
        ("\n    ", "\n        "),
        ("for i in", "def train(rate, w1, w2, b1, b2):\n    for i in"),
        ("-= 0.5", "-= rate"),
        (
            "print(i,",
            "    return p, w1\nfor rate in (0.3, 0.6):\n    p, w1 = train(rate, w1, w2, b1, b2)\n    print(rate,",
        ),
    ),
}

_PREVIOUS = "        previous = np.argmax(layer_2)\n"
_VELOCITY = "v = 0.9 * v - 0.5 * g; w += v"
MOMENTUM = {
    "the velocity is the step": with_velocities(UNDROPPED, _VELOCITY),
    "a sum of gradients": with_velocities(UNDROPPED, "v *= 0.9; v += g; w -= 0.5 * v"),
    "a mean of gradients, new arrays": with_velocities(UNDROPPED, "v = 0.9 * v + 0.1 * g; w = w - 2 * v"),
    "Nesterov's, by the velocity before": with_velocities(
        UNDROPPED, "u = v; v = 0.9 * v - 0.5 * g; w += 1.9 * v - 0.9 * u"
    ),
    "Nesterov's, by the gradient": with_velocities(UNDROPPED, "v = 0.9 * v - 0.5 * g; w += 0.9 * v - 0.5 * g"),
    "weight decay in the gradient": with_velocities(UNDROPPED, "v = 0.9 * v - 0.5 * (g + 0.01 * w); w += v"),
    "dropout": with_velocities(DROPPED, _VELOCITY),
    "one sample at a time": changed(
        PER_SAMPLE,
        (UPPER, UPPER.replace("weights_1_2 -= alpha *", "v2 = 0.5 * v2 +") + "        weights_1_2 -= alpha * v2\n"),
        (LOWER, LOWER.replace("weights_0_1 -= alpha *", "v1 = 0.5 * v1 +") + "        weights_0_1 -= alpha * v1\n"),
        ("for j in", "v1, v2 = np.zeros_like(weights_0_1), np.zeros_like(weights_1_2)\nfor j in"),
    ),
    "prints between, a share and a rate for each epoch": changed(
        with_velocities(UNDROPPED, "v = (0.5 + 0.1 * epoch) * v - 0.5 / (1 + epoch) * g; w += v"),
        ("        x, t =", "        if n == 45: print(n, v1.sum())\n        x, t ="),
    ),
    "of rows that each iteration draws": changed(
        with_velocities(UNDROPPED, _VELOCITY),
        ("        x, t =", "        rows = np.random.choice(60, 5)\n        x, t ="),
        ("images[n:n + 5], labels[n:n + 5]", "images[rows], labels[rows]"),
        ("y[n:n + 5]", "y[rows]"),
    ),
    "samples as columns, in lists": DATA
    + """\
W, b = [weights_0_1.T.copy(), weights_1_2.T.copy()], [np.zeros((7, 1)), np.zeros((4, 1))]
vW, vb = [np.zeros(w.shape) for w in W], [np.zeros((7, 1)), np.zeros((4, 1))]
for epoch in range(3):
    error = 0.0
    for k in range(0, 60, 6):
        a = [images[k:k + 6].T]
        for l in range(2):
            a.append(1 / (1 + np.exp(-(W[l] @ a[l] + b[l]))))
        t = labels[k:k + 6].T
        error += np.sum((a[2] - t) ** 2)
        d = (a[2] - t) * a[2] * (1 - a[2])
        for l in (1, 0):
            old, old_b = vW[l], vb[l]
            vW[l] = 0.8 * vW[l] - 0.3 * (d @ a[l].T / 6 + 0.01 * W[l])
            vb[l] = 0.8 * vb[l] - 0.3 * d.sum(axis=1, keepdims=True) / 6
            if l:
                d = W[l].T @ d * a[l] * (1 - a[l])
            W[l] += 1.8 * vW[l] - 0.8 * old
            b[l] += 1.8 * vb[l] - 0.8 * old_b
    print(epoch, error, vb[1].ravel())
""",
    "biases, in dictionaries": DATA
    + """\
params = {"w1": weights_0_1, "b1": np.zeros((1, 7)), "w2": weights_1_2, "b2": np.zeros((1, 4))}
velocities = {name: np.zeros_like(array) for name, array in params.items()}
def step(x, t, rate=0.2, share=0.9):
    h = np.tanh(x @ params["w1"] + params["b1"])
    d = (h @ params["w2"] + params["b2"] - t) / len(x)
    g = {"w2": h.T @ d, "b2": d.sum(0, keepdims=True)}
    d = d @ params["w2"].T * (1 - h ** 2)
    g["w1"], g["b1"] = x.T @ d, d.sum(0, keepdims=True)
    for name in params:
        velocities[name] = share * velocities[name] + (1 - share) * g[name]
        params[name] = params[name] - rate * velocities[name]
for epoch in range(3):
    for k in range(0, 60, 6):
        step(images[k:k + 6], labels[k:k + 6])
    print(params["b1"], velocities["b2"])
""",
}

# What the scores after an update are used for, the program, and how many of its loops are replaced.
SCORED_AFTER = [
    ("losses in a list", changed(UNDROPPED, (_LAST, _LAST + _SCORES)), 2),
    (
        "errors and hits, beside those before it",
        changed(
            UNDROPPED,
            (
                _LAST,
                _LAST
                + _SCORES
                + "        after += 0.5 * np.sum((q - t) ** 2)\n"
                + "        right += np.sum(np.argmax(q, axis=1) == y[n:n + 5]); kept.append(np.sum((p - t) ** 2))\n",
            ),
            ("loss, hits = 0.0, 0", "loss, hits, after, right = 0.0, 0, 0.0, 0"),
            ("print(epoch,", "print(after, right, epoch,"),
        ),
        2,
    ),
    (
        "of rows in a random order",
        changed(
            UNDROPPED,
            (_LAST, _LAST + _SCORES),
            ("    loss, hits = 0.0, 0\n", "    loss, hits, order = 0.0, 0, np.random.permutation(60)\n"),
            ("images[n:n + 5], labels[n:n + 5]", "images[order[n:n + 5]], labels[order[n:n + 5]]"),
            ("y[n:n + 5]", "y[order[n:n + 5]]"),
        ),
        2,
    ),
    (
        "of rows that each iteration draws",
        changed(
            UNDROPPED,
            (_LAST, _LAST + _SCORES),
            ("        x, t =", "        rows = np.random.choice(60, 5)\n        x, t ="),
            ("images[n:n + 5], labels[n:n + 5]", "images[rows], labels[rows]"),
            ("y[n:n + 5]", "y[rows]"),
        ),
        2,
    ),
    (
        "of one sample at a time",
        changed(
            PER_SAMPLE,
            (
                LOWER,
                LOWER
                + "        kept.append(np.sum((relu(layer_0 @ weights_0_1) @ weights_1_2 - labels[i:i+1]) ** 2))\n",
            ),
            _KEPT,
        ),
        2,
    ),
    (
        "with biases",
        changed(
            BIASED,
            (
                "lower_b -= alpha * dh.sum(axis=0)\n",
                "lower_b -= alpha * dh.sum(axis=0)\n        kept.append(np.sum((forward(x)[1] - t) ** 2))\n",
            ),
            _KEPT,
        ),
        1,
    ),
    (
        "with weight decay",
        changed(UNDROPPED, (_LAST, _DECAYED + _SCORES)),
        2,
    ),
    (
        "with the penalty on the weights as they are then",
        changed(
            UNDROPPED,
            (_LAST, _DECAYED + _SCORES.replace("/ len(x)", "/ len(x) + np.sum(w1 ** 2)")),
        ),
        2,
    ),
]

STYLES = {
    "functions of a class": (
        changed(
            PER_SAMPLE,
            (RELU, "class F:\n    @staticmethod\n    def relu(x):\n        return (x > 0) * x\nf = F()\n"),
            ("layer_1 = relu(", "layer_1 = f.relu("),
        ),
        2,
    ),
    "a class that is none, beyond the loop": (
        changed(
            PER_SAMPLE,
            (ERROR, ""),
            (COUNT, ""),
            ("layer_2_delta = layer_2 - labels[i:i+1]", "layer_2_delta = layer_2.copy(); layer_2_delta[0, y[i]] -= 1"),
            ("alpha,", "y = np.append(np.argmax(labels, axis=1), 9)\nalpha,"),
        ),
        2,
    ),
    **{
        f"bytes: {how}": (
            changed(
                PER_SAMPLE,
                ("alpha,", f"octets = (images * 255).astype(np.uint8)\nimages = {images}\nalpha,"),
                ("layer_0 = images[i:i+1]", f"layer_0 = images[i:i+1]{scaled}"),
            ),
            2,
        )
        for how, images, scaled in (
            ("divided by 255", "octets", " / 255"),
            ("divided by 256", "octets", " / 256"),
            ("times a number", "octets", " * 0.0039"),
            ("of float32, divided by 255 before", "octets.astype(np.float32) / np.float32(255)", ""),
        )
    },
    "images of float32, with weights of float64": (
        changed(PER_SAMPLE, ("alpha,", "images = images.astype(np.float32)\nalpha,")),
        2,
    ),
    "slices in an order drawn anew": (
        changed(PER_SAMPLE, ("for i in range(len(images)):", "for i in np.random.permutation(60):")),
        2,
    ),
    **{
        f"rows gathered in an order: {how}": (
            changed(
                PER_SAMPLE,
                ("layer_0 = images[i:i+1]", f"layer_0 = {rows}"),
                ("(labels[i:i+1]", "(labels[order[i:i+1]]"),
                ("- labels[i:i+1]", "- labels[order[i:i+1]]"),
                ("    for i in range(len(images))", f"    order = {order}\n    for i in range(len(order))"),
            ),
            2,
        )
        for how, rows, order in (
            ("drawn anew", "images[order[i:i+1]]", "np.random.permutation(60)"),
            ("counted from the end", "images[order[i:i+1]]", "np.random.permutation(60) - 60"),
            ("some twice", "images[order[i:i+1]]", "np.random.randint(60, size=70)"),
            ("slices", "images[order[i]:order[i]+1]", "np.random.permutation(60)"),
            ("scaled", "images[order[i:i+1]] * 0.5", "np.random.permutation(60)"),
            ("of two axes", "images.reshape(60, 4, 5)[order[i:i+1]].reshape(1, -1)", "np.random.permutation(60)"),
            (
                "of two axes, one by one",
                "images.reshape(60, 4, 5)[order[i]].reshape(1, 20)",
                "np.random.permutation(60)",
            ),
            ("flat", "images.reshape(60, -1)[order[i:i+1]]", "np.random.permutation(60)"),
        )
    },
    "slices with two indices": (
        changed(
            PER_SAMPLE,
            ("for i in range(len(images)):", "for i in order:"),
            ("layer_0 = images[i:i+1]", "layer_0 = images[i : 1 + i, :]"),
            ("alpha,", "order = np.arange(60)[::-1]\nalpha,"),
        ),
        2,
    ),
    "two functions on a line": (
        changed(PER_SAMPLE, (RELU + DERIVATIVE, "relu, relu2deriv = (lambda x: (x > 0) * x), (lambda x: x >= 0)\n")),
        2,
    ),
    "updates of all of an array": (
        changed(
            PER_SAMPLE,
            (UPPER, UPPER.replace("weights_1_2 -=", "weights_1_2[...] -=")),
            (LOWER, LOWER.replace("weights_0_1 -=", "weights_0_1[:] -=")),
        ),
        2,
    ),
    "dropout at each layer, the gradient at the dropped value": (DROPPED, 2),
    "dropout at each layer, the gradient times the mask alone": (
        changed(DROPPED, ("a2 ** 2) * m2", "a2 ** 2) * (m2 > 0)"), ("a1 ** 2) * m1", "a1 ** 2) * (m1 > 0)")),
        2,
    ),
    "dropout at each layer, the true gradient": (
        changed(
            DROPPED,
            ("a1 *= m1", "h1 = a1; a1 = a1 * m1"),
            ("a2 *= m2", "h2 = a2; a2 = a2 * m2"),
            ("(1 - a2 ** 2)", "(1 - h2 ** 2)"),
            ("(1 - a1 ** 2)", "(1 - h1 ** 2)"),
        ),
        2,
    ),
    "dropout at the lower layer only": (
        changed(
            DROPPED,
            ("        m2 = (np.random.random(a2.shape) < 0.5) / 0.5\n        a2 *= m2\n", ""),
            ("a2 ** 2) * m2", "a2 ** 2)"),
        ),
        2,
    ),
    "dropout at the upper layer only, one sample at a time": (
        changed(
            DROPPED,
            ("        m1 = (np.random.random(a1.shape) < 0.75) / 0.75\n        a1 *= m1\n", ""),
            ("a1 ** 2) * m1", "a1 ** 2)"),
            ("range(0, len(images), 5)", "range(len(images))"),
            ("n:n + 5", "n:n + 1"),
            ("(p - t) / 5", "p - t"),
            ("0.5 *", "0.1 *"),
        ),
        2,
    ),
    "two masks of sigmoid layers, drawn as integers": (
        changed(
            DROPPED,
            ("np.tanh(", "sigmoid("),
            ("y =", "sigmoid = lambda x: 1 / (1 + np.exp(-x))\ny ="),
            ("(np.random.random(a1.shape) < 0.75) / 0.75", "np.random.randint(2, size=a1.shape) * 2"),
            ("(np.random.random(a2.shape) < 0.5) / 0.5", "np.random.randint(2, size=a2.shape) * 2"),
            ("(1 - a2 ** 2)", "(a2 * (1 - a2))"),
            ("(1 - a1 ** 2)", "(a1 * (1 - a1))"),
        ),
        2,
    ),
    "entropy as a mean": (
        changed(
            DROPPED,
            (ENTROPY, ENTROPY.replace("-np.sum(t * np.log(p))", "np.mean(-np.sum(t * np.log(p), axis=1))")),
            (TEST_ENTROPY, TEST_ENTROPY.replace("np.sum(", "float(np.sum(").rstrip() + ")\n"),
        ),
        2,
    ),
    "entropy by class numbers": (
        changed(
            DROPPED,
            TEST_LABELS,
            (ENTROPY, "        loss -= np.log(p[np.arange(5), y[n:n + 5]]).sum() / 5\n"),
            (TEST_ENTROPY, "        test_loss += -np.log(q[0, test_y[i]])\n"),
        ),
        2,
    ),
    "entropy row by row": (
        changed(
            DROPPED,
            TEST_LABELS,
            (ENTROPY, "        for k in range(5):\n            loss -= np.log(p[k][y[n + k]])\n"),
            (TEST_ENTROPY, "        test_loss -= np.log(q[0])[test_y[i]]\n"),
            ("        test_hits += int(np.argmax(q) == np.argmax(test_labels[i]))\n", ""),
        ),
        2,
    ),
    "entropy of the share of the class": (
        changed(
            DROPPED,
            (ENTROPY, "        loss += np.mean(-np.log(np.sum(p * t, axis=1)))\n"),
            (TEST_ENTROPY, "        test_loss -= np.log(q[0, np.argmax(test_labels[i])])\n"),
        ),
        2,
    ),
    "entropy of clipped shares": (
        changed(
            DROPPED,
            ("np.log(p)", "np.log(np.clip(p, 1e-12, 1 - 1e-12))"),
            ("np.log(q)", "np.log(np.clip(q, 0.2, 0.8))"),
        ),
        2,
    ),
    "entropy of shares to which a trace is added": (
        changed(DROPPED, ("np.log(p)", "np.log(p + 1e-2)"), ("np.log(q)", "np.log(1e-9 + q)")),
        2,
    ),
    "entropy of the share of the class and a trace": (
        changed(
            DROPPED,
            (ENTROPY, "        loss += np.mean(-np.log((p + 1e-9)[np.arange(5), y[n:n + 5]]))\n"),
            (TEST_ENTROPY, "        test_loss -= np.log(q[0, np.argmax(test_labels[i])] + 1e-3)\n"),
        ),
        2,
    ),
    "entropy of shares and a trace, picked last": (
        changed(DROPPED, (ENTROPY, "        loss += np.mean(-np.log(p + 1e-5)[np.arange(5), y[n:n + 5]])\n")),
        2,
    ),
    "entropy of shares clipped on one side": (
        changed(
            DROPPED,
            ("np.log(p)", "np.log(np.clip(p, 0.1, None))"),
            ("np.log(q)", "np.log(np.maximum(q, 0.2))"),
        ),
        2,
    ),
    "entropy of shares clipped, and a trace added": (
        changed(
            DROPPED,
            ("np.log(p)", "np.log(np.clip(p, 0.1, 1.0) + 1e-2)"),
            ("np.log(q)", "np.log(np.clip(q, None, 0.3) + 1e-2)"),
        ),
        2,
    ),
    "entropy with errors": (
        changed(DROPPED, (ENTROPY, ENTROPY + "        loss += 0.5 * np.sum((p - t) ** 2)\n")),
        2,
    ),
    "per sample": (PER_SAMPLE, 2),
    "dropout": (DROPOUT, 2),
    "mini-batch": (MINI_BATCH, 2),
    "an update for each row": (REPEATED, 2),
    "tanh and softmax": (TANH, 2),
    "biases": (BIASED, 1),
    "a class": (CLASS, 1),
    "three layers, a list of weights, a Generator": (DEEP, 1),
    "samples as columns": (COLUMNS, 1),
    "samples as columns, weight decay": (
        changed(
            COLUMNS,
            ("    w1 -= 0.05 * np.dot(d1, x.T)", "    w1 -= 0.05 * (np.dot(d1, x.T) + 0.2 * w1)"),
            ("    c1 -= 0.05 * d1", "    c1 -= 0.05 * (d1 + 0.1 * c1)"),
        ),
        1,
    ),
    "samples as columns, decay of all, sigmoid": (
        changed(
            COLUMNS,
            ("o = np.dot(w2, a) + c2", "o = 1 / (1 + np.exp(-(np.dot(w2, a) + c2)))"),
            ("    w2 -= 0.05 * np.dot(d2, a.T)", "    w2 -= 0.05 * (np.dot(d2, a.T) + 0.2 * w2)"),
            ("    c2 -= 0.05 * d2", "    c2 -= 0.05 * (d2 + 0.3 * c2)"),
        ),
        1,
    ),
    "maximum": (changed(PER_SAMPLE, ("(x > 0) * x", "np.maximum(0, x)")), 2),
    "where": (changed(PER_SAMPLE, ("(x > 0) * x", "np.where(x > 0, x, 0)")), 2),
    "x * (x > 0)": (changed(PER_SAMPLE, ("(x > 0) * x", "x * (0 < x)")), 2),
    "clip at zero, derivative there": (changed(PER_SAMPLE, ("(x > 0) * x", "(x >= 0) * x")), 2),
    "the true derivative": (changed(PER_SAMPLE, ("x >= 0", "x > 0")), 2),
    "the derivative as float": (changed(PER_SAMPLE, ("x >= 0", "(x > 0).astype(float)")), 2),
    "the other sign": (
        changed(
            PER_SAMPLE,
            ("layer_2_delta = layer_2 - labels[i:i+1]", "layer_2_delta = labels[i:i+1] - layer_2"),
            ("-= alpha", "+= alpha"),
        ),
        2,
    ),
    "matrix products as @": (
        changed(
            PER_SAMPLE, ("np.dot(layer_0, weights_0_1)", "layer_0 @ weights_0_1"), ("layer_1.T.dot(", "layer_1.T @ (")
        ),
        2,
    ),
    "new arrays of weights": (
        changed(PER_SAMPLE, ("weights_0_1 -= alpha", "weights_0_1 = weights_0_1 - alpha")),
        2,
    ),
    "one-dimensional samples": (
        changed(
            PER_SAMPLE,
            ("images[i:i+1]", "images[i]"),
            ("labels[i:i+1]", "labels[i]"),
            ("layer_1.T.dot(layer_2_delta)", "np.outer(layer_1, layer_2_delta)"),
            ("layer_0.T.dot(layer_1_delta)", "np.outer(layer_0, layer_1_delta)"),
        ),
        2,
    ),
    "counting by if": (
        changed(
            PER_SAMPLE,
            (COUNT, "        if np.argmax(layer_2) == np.argmax(labels[i:i+1]):\n            correct_cnt += 1\n"),
        ),
        2,
    ),
    "mean error, no count": (changed(PER_SAMPLE, (COUNT, ""), ("np.sum((layer_2 -", "np.mean((layer_2 -")), 2),
    "counting the wrong ones too": (
        changed(
            PER_SAMPLE,
            (
                COUNT,
                "        if np.argmax(layer_2) != np.argmax(labels[i]):\n            wrong += 1\n"
                "        else:\n            correct_cnt += 1\n",
            ),
            ("error, correct_cnt = (0.0, 0)", "error, correct_cnt, wrong = (0.0, 0, 0)"),
        ),
        2,
    ),
    "deltas set to zero": (
        changed(PER_SAMPLE, (DELTAS, DELTAS + "        layer_1_delta[layer_1 <= 0] = 0\n")),
        2,
    ),
    "binomial masks that keep most": (
        changed(
            DROPOUT,
            ("randint(2, size=layer_1.shape)", "binomial(1, 0.8, layer_1.shape)"),
            ("_mask * 2", "_mask / 0.8"),
            ("layer_1_delta *= dropout_mask", "layer_1_delta *= dropout_mask / 0.8"),
        ),
        2,
    ),
    "scaled in the loop": (changed(PER_SAMPLE, ("images[i:i+1]", "images[i:i+1] * 0.5")), 2),
    "labels as bytes": (
        changed(
            PER_SAMPLE,
            ("np.argmax(labels[i:i+1])", "int(digits[i])"),
            ("alpha,", "digits = np.argmax(labels, axis=1).astype(np.uint8)\nalpha,"),
        ),
        2,
    ),
    "no error either": (changed(PER_SAMPLE, (COUNT, ""), (ERROR, "")), 2),
    "a count of steps": (changed(PER_SAMPLE, (COUNT, COUNT + "        correct_cnt += 1\n")), 2),
    "a helper for the forward pass": (
        changed(
            PER_SAMPLE,
            (
                DERIVATIVE,
                DERIVATIVE
                + "def forward(x, w):\n    '''Doc.'''\n    h = relu(x.dot(w))\n    return h, h.dot(weights_1_2)\n",
            ),
            (
                "        layer_1 = relu(np.dot(layer_0, weights_0_1))\n        layer_2 = np.dot(layer_1, weights_1_2)\n        error",
                "        layer_1, layer_2 = forward(layer_0, weights_0_1)\n        error",
            ),
        ),
        2,
    ),
    "twice the gradient": (changed(PER_SAMPLE, ("layer_2_delta = layer_2 -", "layer_2_delta = 2 * layer_2 - 2 *")), 2),
    "random() below": (
        changed(DROPOUT, ("np.random.randint(2, size=layer_1.shape)", "np.random.random(layer_1.shape) < 0.5")),
        2,
    ),
    "random() above": (
        changed(
            DROPOUT,
            ("np.random.randint(2, size=layer_1.shape)", "(np.random.random(layer_1.shape) >= 0.25).astype(float)"),
            ("dropout_mask * 2", "dropout_mask / 0.75"),
        ),
        2,
    ),
    "the true gradient of dropout": (
        changed(DROPOUT, ("layer_1_delta *= dropout_mask", "layer_1_delta *= dropout_mask * 2")),
        2,
    ),
    "dropout that is not scaled": (changed(DROPOUT, ("dropout_mask * 2", "dropout_mask")), 2),
    "a RandomState of its own": (
        changed(
            DROPOUT,
            ("np.random.randint(2, size", "state.randint(0, 2, size"),
            ("alpha,", "state = np.random.RandomState(7)\nalpha,"),
        ),
        2,
    ),
    "Generator.integers": (
        changed(
            DROPOUT,
            ("np.random.randint(2, size", "rng.integers(0, 2, size"),
            ("alpha,", "rng = np.random.default_rng(7)\nalpha,"),
        ),
        2,
    ),
    "batches by range": (
        changed(
            MINI_BATCH,
            ("for i in range(int(len(images) / batch_size)):", "for i in range(0, len(images), batch_size):"),
            ("((i * batch_size), ((i + 1) * batch_size))", "i, min(i + batch_size, len(images))"),
        ),
        2,
    ),
    "counting a batch at once": (
        changed(
            MINI_BATCH,
            ("        for k in range(batch_size):\n", ""),
            (
                "            correct_cnt += int(np.argmax(layer_2[k:k+1]) == np.argmax(labels[batch_start+k:batch_start+k+1]))\n",
                "        correct_cnt += np.sum(np.argmax(layer_2, axis=1) == labels[batch_start:batch_end].argmax(axis=1))\n",
            ),
        ),
        2,
    ),
    "divided by the square of the batch size": (
        changed(MINI_BATCH, (") / batch_size\n", ") / (batch_size ** 2)\n")),
        2,
    ),
    **{
        f"some iterations as written: {how}": (changed(PER_SAMPLE, (COUNT, COUNT + f"        {text}\n")), 2)
        for how, text in {
            "a print": "if i % 20 == 0: print(i, error)",
            "a print of another": "if not (i + 1) % 20: print(i, error)",
            "a print on two conditions": "if j != 1 and i % 15 == 0: print(i, error)",
            "a print on one of two": "if i == 20 or i // 10 == 4: print(i, error)",
            "the others in a branch": "if i % 20 != 7: pass\n        else: print(i, error)",
            "numbers that are no integers": "if i / 2 % 10.5 == 0: print(i, error)",
            "a count set back": "if i % 20 == 19: print(error); error = 0.0",
            "labels shuffled": "if i == 30: np.random.shuffle(labels)",
            "images changed": "if i == 30: images *= 0.9",
            "images of another loop changed": "if i == 30: test_images *= 0.9",
            "another rate": "if i == 30: alpha *= 0.5",
            "another function": "if i == 30: relu = lambda x: np.tanh(x)",
            "weights changed": "if i % 20 == 5: weights_0_1 *= 0.9",
            "a list": "if i % 20 == 5: kept = [layer_2] + (kept if i > 20 else [])",
            "left": "if i == 40: break",
            "left by then": "if i >= 40: break",
            "left out": "if i % 20 == 10: continue",
            "an error": "if i == 50:\n            try: raise ValueError\n            except ValueError: print(layer_1)",
            "most take the branch": "if i > 8: correct_cnt += 1",
            "fewer take the branch": "if i > 40: correct_cnt += 1",
            "branches in branches": "if i > 8:\n            if i % 20 == 0: print(error)",
            "the last": "if i == len(images) - 1: print(error)",
            "the first two": "if i < 2: print(error)",
            "images changed at last, in each epoch": "if i == 59: images *= 0.9",
            "or another number": "k = i % 10 or 7\n        if k == 7: print(i)",
            "and another number": "k = i > 5 and i % 20\n        if k == 3: print(i)",
            "random numbers": "if i % 20 == 0: print(np.random.random(3))",
        }.items()
    },
    "some iterations as written: what the one before has left": (
        changed(
            PER_SAMPLE,
            (
                "        layer_0 = images[i:i+1]",
                "        if i > 0 and i % 15 == 0: print(layer_1, layer_2_delta)\n        layer_0 = images[i:i+1]",
            ),
        ),
        2,
    ),
    "some iterations as written: dropout": (
        changed(DROPOUT, (COUNT, COUNT + "        if i % 15 == 0: print(error, np.random.random())\n")),
        2,
    ),
    "some iterations as written: by a function": (
        changed(
            PER_SAMPLE,
            (COUNT, COUNT + "        show(i, error)\n"),
            (RELU, "def show(k, e):\n    if k % 20: return\n    print(k, e)\n" + RELU),
        ),
        2,
    ),
    "some iterations as written: of zip and enumerate": (
        changed(
            PER_SAMPLE,
            ("for i in range(len(images)):", "for i, (x, t) in enumerate(zip(images, labels), 3):"),
            ("layer_0 = images[i:i+1]", "layer_0 = x.reshape(1, -1)"),
            (ERROR, "        error += np.sum((layer_2 - t) ** 2)\n"),
            (
                COUNT,
                "        correct_cnt += int(np.argmax(layer_2) == np.argmax(t))\n        if i % 20 == 0: print(x)\n",
            ),
            ("layer_2_delta = layer_2 - labels[i:i+1]", "layer_2_delta = layer_2 - t"),
        ),
        2,
    ),
    "some iterations as written: new arrays in the variables of a function": (
        changed(
            HEAD + "def train(weights_0_1, weights_1_2):\n" + textwrap.indent("for j in" + LOOPS, "    "),
            (f"    {UPPER}", "    " + UPPER.replace("-=", "= weights_1_2 -")),
            (
                f"    {LOWER}",
                "    "
                + LOWER.replace("-=", "= weights_0_1 -")
                + "            if i % 20 == 11: print(weights_0_1.sum())\n",
            ),
        )
        + "    return weights_0_1, weights_1_2\nweights_0_1, weights_1_2 = train(weights_0_1, weights_1_2)\n",
        2,
    ),
    **{
        f"a list of what each batch gave: {what}": (
            changed(
                DROPPED,
                ("np.random.seed", "kept, also = [], {'k': []}\nnp.random.seed"),
                (ENTROPY, ENTROPY + f"        {text}\n"),
            ),
            2,
        )
        for what, text in {
            "losses": "kept.append(-np.sum(t * np.log(p)) / len(x))",
            "errors": "kept.append(np.mean((p - t) ** 2))",
            "hits": "kept.append(np.sum(np.argmax(p, axis=1) == np.argmax(t, axis=1)) / 5)",
            "hits as integers": "kept.append(int(np.sum(np.argmax(p, axis=1) == np.argmax(t, axis=1))))",
            "numbers and rates": "kept.append(n); also['k'].append(0.5)",
            "two at a time": "kept.append(float(np.sum((p - t) ** 2))); kept.append(n // 5 if False else 2 * n + 1)",
            "two lists": "kept.append(1.5 - np.sum((p - t) ** 2)); also['k'].append(-np.sum(t * np.log(p)))",
            "and prints": "kept.append(np.sum((p - t) ** 2))\n        if n % 45 == 40: print(kept[-2:])",
        }.items()
    },
    "a list of what each sample gave": (
        changed(
            PER_SAMPLE,
            (ERROR, ERROR + "        kept.append(np.sum((layer_2 - labels[i:i+1]) ** 2))\n"),
            (RELU, "kept = []\n" + RELU),
        ),
        2,
    ),
    "a list of whether each sample was a hit": (
        changed(
            PER_SAMPLE,
            (COUNT, COUNT + "        kept.append(np.argmax(layer_2) == np.argmax(labels[i]))\n"),
            (RELU, "kept = []\n" + RELU),
        ),
        2,
    ),
    **{f"scores after each update: {what}": (program, loops) for what, program, loops in SCORED_AFTER},
    **{f"momentum: {how}": (program, 1 + ("test_images[i" in program)) for how, program in MOMENTUM.items()},
    **{f"all samples at once: {how}": (program, 1) for how, program in OF_ALL_SAMPLES.items()},
    **{f"a generator of batches: {how}": (generated(*program), 1) for how, program in GENERATORS.items()},
    **{
        f"weight decay: {how}": (
            changed(
                PER_SAMPLE,
                *(
                    (line, line.replace("alpha * ", f"alpha * ({c} * {array} + ").replace("\n", ")\n"))
                    for line, array, c in decays
                ),
                *changes,
            ),
            2,
        )
        for how, decays, *changes in (
            ("of all weights", [(UPPER, "weights_1_2", 0.02), (LOWER, "weights_0_1", 0.02)]),
            ("of nothing", [(UPPER, "weights_1_2", 0.0), (LOWER, "weights_0_1", 0)]),
            ("of one layer", [(LOWER, "weights_0_1", 0.3)]),
            ("of the last layer", [(UPPER, "weights_1_2", 0.3)]),
            ("of different strength", [(UPPER, "weights_1_2", 0.01), (LOWER, "weights_0_1", 0.3)]),
            (
                "counted",
                [(UPPER, "weights_1_2", 0.02), (LOWER, "weights_0_1", 0.3)],
                (
                    ERROR,
                    ERROR
                    + "        error += 0.01 * np.sum(weights_1_2 ** 2) + 0.15 * np.sum(weights_0_1 * weights_0_1)\n",
                ),
            ),
            (
                "in a list of losses",
                [(UPPER, "weights_1_2", 0.02)],
                (
                    ERROR,
                    ERROR
                    + "        kept.append(np.sum((layer_2 - labels[i:i+1]) ** 2) + 0.5 * np.sum(np.square(weights_1_2)))\n",
                ),
                (RELU, "kept = []\n" + RELU),
            ),
        )
    },
    **{
        f"rows drawn at random: {draw}": (drawn(draw, *changes), 1)
        for draw, *changes in (
            ["np.random.choice(60, 5)"],
            ["np.random.choice(60, size=5, replace=False)"],
            ["np.random.randint(60, size=5)"],
            ["np.random.randint(-60, 0, 5)"],
            ["np.random.randint(3, size=4)"],
            ["old.choice(60, 5)"],
            ["old.randint(0, len(images), (5,))"],
            ["new.integers(60, size=5)"],
            ["new.choice(60, 5, replace=False)"],
            ["np.random.randint(60)", ("images[rows], labels[rows]", "images[rows:rows+1], labels[rows:rows+1]")],
            ["np.random.choice(60, 5)", ("#", "if n % 9 == 8: print(n, x.sum(), rows)")],
            ["np.random.choice(60, 5)", ("range(23)", "range(11)")],
            ["np.random.choice(60, 1)", ("range(23)", "range(11)")],
        )
    },
    "a list of samples": (changed(LISTED, ("LIST", "pairs")), 1),
    "a list of samples, which are columns": (
        changed(
            LISTED,
            ("LIST", "[(x.reshape(-1, 1), t) for x, t in pairs]"),
            ("np.dot(x, weights_0_1)", "np.dot(x.T, weights_0_1)[0]"),
            ("np.outer(x,", "np.outer(x[:, 0],"),
        ),
        1,
    ),
    "a list of samples and their number": (changed(LISTED, ("x, t in LIST", "k, (x, t) in enumerate(pairs)")), 1),
    "two lists of samples": (changed(LISTED, ("LIST", "zip([x for x, _ in pairs], [t for _, t in pairs])")), 1),
    "a list of samples and a list of classes": (
        changed(
            LISTED,
            ("x, t in LIST", "x, y in zip(list(images), [int(k) for k in np.argmax(labels, axis=1)])"),
            ("        layer_1 = relu", "        t = np.zeros(4); t[y] = 1\n        layer_1 = relu"),
        ),
        1,
    ),
    "a list of samples, another in each epoch": (
        changed(LISTED, ("LIST", "[pairs, pairs[::-1], pairs[1:] + pairs[:1], pairs][j]"), ("(0.05, 3,", "(0.05, 4,")),
        1,
    ),
    "a list of samples in random order": (
        changed(LISTED, ("    for x", "    random.shuffle(pairs)\n    for x"), ("LIST", "pairs")),
        1,
    ),
    **{
        f"a list of samples, some iterations as written: {how}": (
            changed(LISTED, ("x, t in LIST", "i, (x, t) in enumerate(pairs)"), ("#", text)),
            1,
        )
        for how, text in {
            "a print": "if i % 20 == 10: print(i, error)",
            "turned round": "if i == 30: pairs.reverse()",
            "longer": "if i == 40: pairs.append(pairs[0])",
            "longer at last": "if i == 59: pairs.append(pairs[0])",
            "shorter": "if i == 40: del pairs[45:]",
            "another shape": "if i == 40: pairs[-3] = (pairs[-3][0][None], pairs[-3][1])",
        }.items()
    },
    "an iterator from which others take": (
        changed(
            PER_SAMPLE,
            ("for i in range(len(images)):", "steps = enumerate(iter(range(60)))\n    for _, i in steps:"),
            (COUNT, COUNT + "        if _ == 30: next(steps)\n"),
        ),
        2,
    ),
    "two lists that become one": (
        changed(
            PER_SAMPLE,
            (ERROR, ERROR + "        kept.append(i); also.append(-i)\n"),
            (RELU, "kept, also = [], []\n" + RELU),
            ("    error, correct_cnt", "    if j == 2: kept = also\n    error, correct_cnt"),
        ),
        2,
    ),
    "a list of row numbers": (
        changed(
            PER_SAMPLE,
            ("for i in range(len(images)):", "for i in random.sample(range(len(images)), len(images)):"),
            (RELU, "import random\n" + RELU),
        ),
        2,
    ),
    "a list of batches": (
        changed(LISTED, ("LIST", "[(images[k:k + 7], labels[k:k + 7]) for k in range(0, 60, 7)]"), *BY_BATCH),
        1,
    ),
    "a list of batches with their classes": (
        changed(
            LISTED,
            ("x, t in LIST", "x, y in [(images[k:k + 7], classes[k:k + 7]) for k in range(0, 60, 7)]"),
            (RELU, "classes = np.argmax(labels, axis=1)\n" + RELU),
            ("        layer_1 = relu", "        t = np.eye(4)[y]\n        layer_1 = relu"),
            ("np.argmax(t))", "y)"),
            *BY_BATCH[:2],
            ("int(np.argmax(layer_2) == y)", "int(np.sum(np.argmax(layer_2, axis=1) == y))"),
        ),
        1,
    ),
    "a list of batches, and one of their classes": (
        changed(
            LISTED,
            ("x, t in LIST", "x, y in zip(np.array_split(images, 10), np.array_split(classes, 10))"),
            (RELU, "classes = np.argmax(labels, axis=1)\n" + RELU),
            ("        layer_1 = relu", "        t = np.eye(4)[y]\n        layer_1 = relu"),
            *BY_BATCH,
        ),
        1,
    ),
    "a list of batches, and one of their labels": (
        changed(
            LISTED,
            ("LIST", "zip([images[k:k + 7] for k in range(0, 60, 7)], [labels[k:k + 7] for k in range(0, 60, 7)])"),
            *BY_BATCH,
        ),
        1,
    ),
    "a list of lists of samples": (
        changed(
            LISTED,
            ("x, t in LIST:\n", "batch in [pairs[k:k + 7] for k in range(0, 60, 7)]:\n"),
            (
                "        layer_1 = relu(",
                "      g1, g2 = np.zeros(weights_0_1.shape), np.zeros(weights_1_2.shape)\n"
                "      for x, t in batch:\n        layer_1 = relu(",
            ),
            ("weights_1_2 -= alpha *", "g2 +="),
            ("weights_0_1 -= alpha *", "g1 = g1 +"),
            ("        #\n", "      weights_0_1 -= alpha * g1\n      weights_1_2 -= alpha * g2\n"),
        ),
        1,
    ),
    "some iterations as written: with a loop in them": (
        changed(
            PER_SAMPLE,
            (
                COUNT,
                COUNT
                + "        if i % 25 == 20:\n            hits = 0\n            for k in range(len(test_images)):\n"
                "                hits += int(np.argmax(relu(test_images[k:k+1] @ weights_0_1) @ weights_1_2) == k % 4)\n"
                "            print(i, hits)\n",
            ),
        ),
        2,
    ),
    "evaluation every second epoch": (
        changed(PER_SAMPLE, ("    test_error = 0.0", "    if j % 2: continue\n    test_error = 0.0")),
        2,
    ),
}


@pytest.mark.parametrize("style", STYLES)
def test_styles_that_are_replaced(style, monkeypatch):
    monkeypatch.setattr(Replacement, "seconds_each", 0.0)  # too small to be worth it
    program, loops = STYLES[style]
    replaced, records = run_both(program)
    assert len(replaced) == loops, [(r.loop.line, r.refusal, r.refusal_line) for r in records if r.refusal]
    assert all(r.verified == 2 and "Error" not in r.refusal for r in replaced)


@pytest.mark.parametrize(
    ("style", "as_written"),
    [
        ("a list of samples, some iterations as written: a print", 3 * (3 + 1)),
        ("a list of what each sample gave", 3 * 1),
    ],
)
def test_no_more_iterations_than_need_be_run_as_written(style, as_written):
    """Of 3 times 60, the last of each pass, those that print, and two that are verified, once."""
    record = run_both(STYLES[style][0])[0][0]
    assert record.iterations == 180 - as_written - 2


@pytest.mark.parametrize(("seconds", "iterations"), [(0.0, 120 - 2 - 3), (1e9, 50 - 2 - 1)])
def test_all_samples_at_once_only_where_that_is_quicker(monkeypatch, seconds, iterations):
    """All but two that are verified, each 50th, and the last; or only the first 50, after which it is looked at."""
    monkeypatch.setattr(Replacement, "seconds_each", seconds)
    (record,), _ = run_both(WHOLE_SET.replace("range(30)", "range(120)"))
    assert record.iterations == iterations
    assert ("take longer" in record.refusal) == (seconds > 0)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no signals")
def test_what_a_signal_handler_raises_reaches_the_program(monkeypatch):
    run_kernels = Replacement.execute

    def interrupted(*args):
        signal.raise_signal(signal.SIGTERM)
        return run_kernels(*args)

    monkeypatch.setattr(Replacement, "execute", interrupted)
    before = signal.getsignal(signal.SIGTERM)
    program = changed(
        WHOLE_SET,
        ("for i in", "try:\n  for i in"),
        ("\n    ", "\n      "),
        ("print(i", "except TimeoutError:\n    out = np.array([i])\nprint(i"),
    )
    program = "import signal\ndef late(*args):\n    raise TimeoutError\nsignal.signal(signal.SIGTERM, late)\n" + program
    try:
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            _, names, _, _ = execute(program, replaced=True)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert names["out"] == 1


NEAR_MISSES = {
    "shares of which some have a trace more": (
        changed(DROPPED, ("np.log(p)", "np.log(p + 1e-9 * t)")),
        "not one of a dense network",
    ),
    "a trace added to shares twice as large": (
        changed(DROPPED, ("np.log(p)", "np.log(2 * p + 1e-9)")),
        "counts something",
    ),
    "an entropy of other labels": (
        changed(
            DROPPED,
            ("-np.sum(t * np.log(p))", "np.sum(-np.log(p[np.arange(5), z[n:n + 5]]))"),
            ("y =", "z = 3 - np.argmax(labels, axis=1)\ny ="),
        ),
        "two arrays of labels",
    ),
    "an entropy of targets that are not one-hot": (
        changed(
            DROPPED,
            ("-np.sum(t * np.log(p))", "-np.sum(np.log(np.sum(t * p, axis=1)))"),
            ("y =", "labels = 0.9 * labels + 0.025\ny ="),
        ),
        "one-hot",
    ),
    "an entropy of overlapping labels": (
        changed(DROPPED, ("-np.sum(t * np.log(p))", "-np.sum(np.log(p[np.arange(5), y[n // 5:n // 5 + 5]]))")),
        None,
    ),
    "a count of overlapping labels": (
        changed(
            DROPPED,
            ("range(0, len(images), 5)", "range(12)"),
            ("images[n:n + 5], labels[n:n + 5]", "images[5 * n:5 * n + 5], labels[5 * n:5 * n + 5]"),
        ),
        "counts something",
    ),
    "a mask that a batch shares": (
        changed(DROPPED, ("np.random.random(a1.shape)", "np.random.random((1, 7))")),
        "several samples share",
    ),
    "masks drawn from above": (
        changed(
            DROPPED,
            ("        m1 = (np.random.random(a1.shape) < 0.75) / 0.75\n", "        m1 = (r1 < 0.75) / 0.75\n"),
            ("        m2 = (np.random.random(a2.shape) < 0.5) / 0.5\n", "        m2 = (r2 < 0.5) / 0.5\n"),
            (
                "        a1 = np.tanh(x @ w1)\n",
                "        r2, r1 = np.random.random((5, 6)), np.random.random((5, 7))\n        a1 = np.tanh(x @ w1)\n",
            ),
        ),
        "another order",
    ),
    "one mask for two layers": (
        changed(
            DROPPED,
            ("np.random.random((7, 6))", "np.random.random((7, 7))"),
            ("np.random.random((6, 4))", "np.random.random((7, 4))"),
            ("(np.random.random(a2.shape) < 0.5) / 0.5", "m1"),
        ),
        "random draws",
    ),
    "masks of two streams": (
        changed(
            DROPPED,
            ("np.random.random(a2.shape)", "other.random_sample(a2.shape)"),
            ("y =", "other = np.random.RandomState(3)\ny ="),
        ),
        "from layer to layer",
    ),
    "softmax that overflows": (
        changed(DROPPED, ("np.exp(z - z.max(axis=1, keepdims=True))", "np.exp(z)"), ("0.5 *", "100 *")),
        "range",
    ),
    "a slice that is one too long": (
        changed(PER_SAMPLE, ("layer_0 = images[i:i+1]", "layer_0 = images[i:i+2].mean(axis=0, keepdims=True)")),
        None,
    ),
    "rows that overlap": (
        changed(
            MINI_BATCH,
            ("((i + 1) * batch_size)", "((i + 1) * batch_size + 1)"),
            ("range(int(len(images) / batch_size))", "range(10)"),
            ("/ batch_size\n", "/ (batch_size + 1)\n"),
        ),
        "do not follow",
    ),
    "the label of another sample": (
        changed(
            PER_SAMPLE,
            ("layer_2_delta = layer_2 - labels[i:i+1]", "layer_2_delta = layer_2 - labels[i-1:i] if i else layer_2"),
        ),
        None,
    ),
    "labels one to the left": (
        changed(PER_SAMPLE, ("layer_2 - labels[i:i+1]\n", "layer_2 - labels[59-i:60-i]\n")),
        None,
    ),
    **{
        f"a list that is appended to: {what}": (
            changed(
                PER_SAMPLE,
                (ERROR, ERROR + "        e = np.sum((layer_2 - labels[i:i+1]) ** 2)\n" + f"        {text}\n"),
                (RELU, "kept = [0.0]\nalso = kept\ndef keep(k, x):\n    k.append(x)\n" + RELU),
            ),
            reason,
        )
        for what, text, reason in (
            ("and read", "kept.append(e + kept[0])", "looked at"),
            ("and counted", "kept.append(e * len(kept))", "looked at"),
            ("and counted later", "kept.append(e)\n        error += len(kept)", "looked at"),
            ("and chosen by", "kept.append(e)\n        if kept: error += 1.0", "looked at"),
            ("and counted under another name", "kept.append(e); error += len(also)", "looked at"),
            ("by a function", "keep(kept, e)", "looked at"),
            ("arrays", "kept.append(layer_2)", "other than a number"),
            ("running sums", "kept.append(error)", "not understood"),
            ("numbers of what is not known", "kept.append(np.sum(layer_1))", "not understood"),
        )
    },
    "a list of batches of different sizes": (
        changed(
            LISTED,
            ("LIST", "[(images[a:b], labels[a:b]) for a, b in zip([0, 5, 10, 15, 25, 40], [5, 10, 15, 25, 40, 60])]"),
            *BY_BATCH,
        ),
        "not alike",
    ),
    "a list of lists that grow": (
        changed(
            STYLES["a list of lists of samples"][0],
            ("      weights_0_1 -=", "      batch.append(0)\n      weights_0_1 -="),
        ),
        "append()",
    ),
    "a list with a tuple of three": (
        changed(
            LISTED,
            ("LIST", "pairs"),
            ("    error, correct_cnt", "    pairs[30] += (0,)\n    error, correct_cnt"),
            ("for j in", "try:\n  for j in"),
        ).replace("\n    ", "\n      ")
        + "except ValueError as error:\n    error, j, correct_cnt = 0.5, 0, 7\n",
        "not alike",
    ),
    "a list of samples that are changed": (
        changed(LISTED, ("LIST", "pairs"), ("#", "x *= 0.9")),
        "a view of another array",
    ),
    "a list of samples in the memory of weights": (
        changed(LISTED, ("LIST", "[(x, t) for x, t in zip(weights_0_1.T, labels)]")),
        "shares its memory",
    ),
    "every second sample": (changed(PER_SAMPLE, ("range(len(images))", "range(0, len(images), 2)")), "do not follow"),
    "scores after an update with dropout": (changed(DROPPED, (_LAST, _LAST + _SCORES), _KEPT), "not understood"),
    "scores after an update with the same dropout": (
        changed(
            DROPPED,
            (_LAST, _LAST + _SCORES.replace("x @ w1)", "x @ w1) * m1").replace("@ w2)", "@ w2) * m2")),
            _KEPT,
        ),
        "with dropout",
    ),
    "scores after an update with momentum": (
        changed(with_velocities(UNDROPPED, _VELOCITY), ("w1 += v1\n", "w1 += v1\n" + _SCORES)),
        "dropout, momentum",
    ),
    "a count that begins with the second iteration": (
        changed(
            PER_SAMPLE,
            (
                COUNT,
                COUNT + "        if previous is not None: same += int(np.argmax(layer_2) == previous)\n" + _PREVIOUS,
            ),
            ("    error, correct_cnt =", "    previous, same = None, 0\n    error, correct_cnt ="),
        ),
        "'previous' is a NoneType",
    ),
    "the same, of an attribute": (
        changed(
            PER_SAMPLE,
            (COUNT, COUNT + "        if s.last is not None: same += 1\n        s.last = layer_1\n"),
            ("    error, correct_cnt =", "    class S: last = None\n    s, same = S(), 0\n    error, correct_cnt ="),
        ),
        "is a NoneType",
    ),
    **{
        f"the same, of a dictionary: {how}": (
            changed(
                PER_SAMPLE,
                (COUNT, COUNT + f"        if {asked}: same += 1\n        seen['last'] = layer_1\n"),
                ("    error, correct_cnt =", "    seen, same = {}, 0\n    error, correct_cnt ="),
            ),
            "asks whether there is",
        )
        for how, asked in {
            "a key": "'last' in seen",
            "no key": "not ('last' not in seen)",
            "its length": "len(seen) > 0",
            "its truth": "seen and j >= 0",
            "its emptiness": "not seen",
        }.items()
    },
    "velocities that the first iteration makes": (
        changed(
            PER_SAMPLE,
            (
                UPPER,
                "        g = layer_1.T.dot(layer_2_delta)\n        s['v'] = 0.9 * s['v'] + g if 'v' in s else g\n"
                "        weights_1_2 -= 1e-11 * s['v']\n",
            ),
            (LOWER, "        weights_0_1 -= 1e-11 * layer_0.T.dot(layer_1_delta)\n"),
            ("    error, correct_cnt =", "    s = {}\n    error, correct_cnt ="),
        ),
        "asks whether there is",
    ),
    "momentum of some weights": (with_velocities(UNDROPPED, _VELOCITY, w2="w -= 0.5 * g"), "'w2' has no momentum"),
    "momentum of several shares": (
        with_velocities(UNDROPPED, _VELOCITY, w2="v = 0.8 * v - 0.5 * g; w += v"),
        "velocities that",
    ),
    "velocities that do not fade": (with_velocities(UNDROPPED, "v -= 0.5 * g; w += v"), "velocities that"),
    "decay besides momentum": (with_velocities(UNDROPPED, _VELOCITY + " - 0.01 * w"), "velocities that"),
    "momentum at a rate for each layer": (
        with_velocities(UNDROPPED, _VELOCITY, w2="v = 0.9 * v - 0.4 * g; w += v"),
        "not the gradient",
    ),
    "an optimizer with squares of gradients": (
        with_velocities(UNDROPPED, "v = 0.9 * v + 0.1 * g ** 2; w -= 0.01 * g / (np.sqrt(v) + 1e-8)"),
        "is updated, but is not a weight",
    ),
    "scores between two updates": (changed(UNDROPPED, (_LAST, _SCORES + _LAST)), "not understood"),
    "scores after an update, but the penalty before it": (
        changed(
            UNDROPPED,
            (_LAST, "        old = np.sum(w1 ** 2)\n" + _DECAYED + _SCORES.replace("/ len(x)", "/ len(x) + old")),
        ),
        "counts something",
    ),
    "scores of the next batch after an update": (
        changed(
            UNDROPPED, (_LAST, _LAST + _SCORES.replace("x @ w1", "images[n - 5:n] @ w1")), ("range(0,", "range(5,")
        ),
        "not understood",
    ),
    "two steps in an iteration": (
        changed(UNDROPPED, (_LAST, _LAST + "        w1 -= 0.01 * x.T @ np.tanh(x @ w1)\n")),
        "more than one step",
    ),
    "weights used for something else": (
        changed(PER_SAMPLE, (COUNT, COUNT + "        correct_cnt += weights_0_1[0, 0] > 0.1\n")),
        None,
    ),
    "a break": (changed(PER_SAMPLE, (COUNT, COUNT + "        if correct_cnt > 12: break\n")), "break"),
    "an update of a part": (changed(PER_SAMPLE, (LOWER, LOWER.replace("weights_0_1 -=", "weights_0_1[:20] -="))), None),
    "slices counted from the end": (
        changed(PER_SAMPLE, ("for i in range(len(images)):", "for i in np.arange(60) - 3:"), (COUNT, "")),
        "counted from the end",
    ),
    "slices of two rows": (
        changed(PER_SAMPLE, ("for i in range(len(images)):", "for i in np.arange(58):"), ("i:i+1", "i:i+2")),
        "an index",
    ),
    "a decorated function": (
        changed(
            PER_SAMPLE,
            (
                RELU,
                "def more(f):\n    return lambda x: 1.5 * f(x)\n@more\ndef relu(x):\n    return (x > 0) * x\n",
            ),
        ),
        "decorated",
    ),
    "a while loop": (
        changed(
            PER_SAMPLE,
            ("for i in range(len(images)):\n", "i = -1\n    while i + 1 < len(images):\n        i += 1\n"),
        ),
        "a while loop",
    ),
    "errors that are raised": (
        changed(PER_SAMPLE, ("alpha,", "np.seterr(over='raise')\nalpha,")),
        "raise on floating-point errors",
    ),
    "warnings that are errors": (
        changed(PER_SAMPLE, ("alpha,", "import warnings\nwarnings.simplefilter('error')\nalpha,")),
        "raise on floating-point errors",
    ),
    "two functions on a line and the next": (
        changed(
            PER_SAMPLE,
            (
                RELU,
                # what is done first stands below the other one's body
                "on = True\nrelu, clipped = (lambda x: (x > 0) * x), (lambda x: np.clip(x, 0, 0.05)\n"
                "                          if on else x)\n",
            ),
            ("layer_1 = relu(", "layer_1 = clipped("),
        ),
        "a layer is not a matrix product",
    ),
    "a print in each iteration": (changed(PER_SAMPLE, (COUNT, COUNT + "        print(error)\n")), "print"),
    "a print in all but a few iterations": (
        changed(PER_SAMPLE, (COUNT, COUNT + "        if i % 20: print(error)\n")),
        "the same branches",
    ),
    "a print every fourth iteration": (
        changed(PER_SAMPLE, (COUNT, COUNT + "        if i % 4 == 0: print(error)\n")),
        "the same branches",
    ),
    "the number of the iteration, as a number": (
        changed(PER_SAMPLE, (COUNT, COUNT + "        error += i % 10\n")),
        "number of the iteration",
    ),
    "a rate by the number of the iteration": (
        changed(PER_SAMPLE, (UPPER, UPPER.replace("alpha", "(alpha if i % 10 else 0.1)"))),
        "a choice that depends",
    ),
    "rows by the number of the iteration": (
        changed(PER_SAMPLE, ("layer_0 = images[i:i+1]", "layer_0 = images[i % 50:i % 50 + 1]")),
        "index",
    ),
    "a choice of the number of the iteration": (
        changed(PER_SAMPLE, ("layer_0 = images[i:i+1]", "k = i % 50 or 7\n        layer_0 = images[k:k + 1]")),
        "index",
    ),
    "a branch in a list of iterations": (
        changed(PER_SAMPLE, (COUNT, COUNT + "        if i in [5, 30]: print(error)\n")),
        "print",
    ),
    "write in the loop": (changed(PER_SAMPLE, (COUNT, COUNT + "        sys.stdout.write(str(i))\n")), None),
    "a mask used for ever": (
        changed(
            DROPOUT,
            ("        dropout_mask = np.random.randint(2, size=layer_1.shape)\n", ""),
            ("alpha,", "dropout_mask = np.random.randint(2, size=(1, 7))\nalpha,"),
        ),
        None,
    ),
    "a mask for the deltas alone": (changed(DROPOUT, ("        layer_1 *= dropout_mask * 2\n", "")), None),
    "a mask for the values alone, of tanh": (changed(TANH, ("        layer_1_delta *= dropout_mask\n", "")), None),
    "another draw in between": (
        changed(DROPOUT, (COUNT, COUNT + "        noise = np.random.random((1, 7))\n")),
        "random draws",
    ),
    "a learning rate that falls": (changed(PER_SAMPLE, (COUNT, COUNT + "        alpha *= 0.99\n")), None),
    "two learning rates": (changed(PER_SAMPLE, (LOWER, LOWER.replace("alpha", "0.5 * alpha"))), "not the gradient"),
    "deltas from updated weights": (changed(PER_SAMPLE, (DELTAS, ""), (UPPER, UPPER + DELTAS)), "not the gradient"),
    "a transpose too many": (
        changed(
            PER_SAMPLE,
            ("hidden = (0.05, 3, 7)", "hidden = (0.05, 3, 4)"),
            ("layer_2_delta.dot(weights_1_2.T)", "layer_2_delta.dot(weights_1_2)"),
        ),
        "not the gradient",
    ),
    "one layer only": (changed(PER_SAMPLE, (LOWER, "")), "not updated"),
    "a penalty that the update does not know": (
        changed(PER_SAMPLE, (ERROR, ERROR + "        error += 0.01 * np.sum(weights_1_2 ** 2)\n")),
        "counts something",
    ),
    "a penalty of other proportions than the update's": (
        changed(
            PER_SAMPLE,
            (UPPER, UPPER.replace("alpha * ", "alpha * (0.1 * weights_1_2 + ").replace("\n", ")\n")),
            (LOWER, LOWER.replace("alpha * ", "alpha * (0.1 * weights_0_1 + ").replace("\n", ")\n")),
            (ERROR, ERROR + "        error += 0.01 * np.sum(weights_1_2 ** 2) + 0.02 * np.sum(weights_0_1 ** 2)\n"),
        ),
        "counts something",
    ),
    "weights that grow": (
        changed(PER_SAMPLE, (LOWER, LOWER.replace("alpha * ", "alpha * (-0.1 * weights_0_1 + ").replace("\n", ")\n"))),
        "not the gradient",
    ),
    "decay of what the update has made": (
        changed(PER_SAMPLE, (LOWER, LOWER + "        weights_0_1 *= 0.999\n")),
        "not the gradient",
    ),
    "the wrong sign": (changed(PER_SAMPLE, ("weights_0_1 -=", "weights_0_1 +=")), None),
    "absolute errors": (
        changed(PER_SAMPLE, ("np.sum((layer_2 - labels[i:i+1]) ** 2)", "np.sum(np.abs(layer_2 - labels[i:i+1]))")),
        "counts something",
    ),
    "a hinge": (changed(PER_SAMPLE, ("(x > 0) * x", "(x > 0.1) * x")), None),
    "a leaky slope": (changed(PER_SAMPLE, ("(x > 0) * x", "np.where(x > 0, x, 0.1 * x)")), None),
    "the slope at exactly zero": (
        changed(PER_SAMPLE, ("relu2deriv(layer_1)", "relu2deriv(np.dot(layer_0, weights_0_1))")),
        "not the gradient",
    ),
    "float32": (
        changed(PER_SAMPLE, (RELU, "weights_1_2 = weights_1_2.astype(np.float32)\n" + RELU)),
        "float32",
    ),
    "weights that share their memory": (
        changed(
            PER_SAMPLE, ("weights_1_2 = 0.2 * np.random.random((hidden, 4)) - 0.1", "weights_1_2 = weights_0_1[:7, :4]")
        ),
        "shares its memory",
    ),
    "a history of weights": (
        changed(
            PER_SAMPLE,
            (UPPER, UPPER + "        history.append(weights_1_2.sum())\n"),
            ("alpha,", "history = []\nalpha,"),
        ),
        None,
    ),
    "the number of the sample": (changed(PER_SAMPLE, ("error +=", "error += i *")), None),
    "a softmax over the whole batch": (changed(TANH, ("np.sum(temp, axis=1, keepdims=True)", "np.sum(temp)")), None),
    "one iterator used twice": (
        changed(
            PER_SAMPLE,
            (
                "for i in range(len(images)):\n        layer_0 = images[i:i+1]",
                "rows = iter(images)\n    for i, (layer_0, _) in enumerate(zip(rows, rows)):\n        layer_0 = layer_0[None]",
            ),
        ),
        "used twice",
    ),
    "an iterator that has begun": (
        changed(
            PER_SAMPLE,
            (
                "for i in range(len(images)):\n        layer_0 = images[i:i+1]",
                "rows = iter(images)\n    next(rows)\n    for i, layer_0 in enumerate(rows):\n        layer_0 = layer_0[None]",
            ),
        ),
        "iterator",
    ),
    "batches drawn at random": (
        changed(PER_SAMPLE, ("layer_0 = images[i:i+1]", "layer_0 = images[np.random.randint(0, 60, 1)]")),
        "comes twice",
    ),
    **{
        f"batches drawn at random: {how}": (drawn(draw, *changes), reason)
        for how, reason, draw, *changes in (
            (
                "labels drawn on their own",
                "neither a dropout mask nor the rows",
                "np.random.choice(60, 5)",
                ("t = images[rows], labels[rows]", "t = images[rows], labels[np.random.choice(60, 5)]"),
            ),
            (
                "and dropout",
                "drawn by turns",
                "np.random.choice(60, 5)",
                (
                    "        layer_2 =",
                    "        layer_1 = layer_1 * (np.random.random(layer_1.shape) < 0.5) * 2\n        layer_2 =",
                ),
                ("* (layer_1 > 0)", "* (layer_1 > 0) * 2"),
            ),
            (
                "with probabilities",
                "",
                "np.random.choice(60, 5, p=np.full(60, 1 / 60))",
            ),
            ("of an array", "", "np.random.choice(np.arange(60), 5)"),
            ("of 32 bits", "neither a dropout mask nor the rows", "np.random.randint(0, 60, 5, dtype=np.int32)"),
            (
                "no rows",
                "",
                "np.random.choice(60, 5) * 0.5",
                ("images[rows], labels[rows]", "images[:5] * rows[0], labels[:5]"),
            ),
            (
                "not trained",
                "without training",
                "np.random.choice(60, 5)",
                (
                    "        weights_1_2 -= alpha * layer_1.T @ layer_2_delta\n        weights_0_1 -= alpha * x.T @ layer_1_delta\n",
                    "",
                ),
            ),
        )
    },
    "an order that is shuffled midway": (
        changed(
            PER_SAMPLE,
            ("images[i:i+1]", "images[order[i:i+1]]"),
            (LOWER, LOWER + "        order[:] = order[::-1]\n"),
            ("alpha,", "order = np.arange(60)\nalpha,"),
        ),
        None,
    ),
    "rows that come twice, with different labels": (
        changed(
            PER_SAMPLE,
            ("layer_0 = images[i:i+1]", "layer_0 = images[order[i:i+1]]"),
            ("    for i in range(len(images))", "    for i in range(60)"),
            (
                "alpha,",
                "order = np.arange(60)\norder[50] = np.flatnonzero(labels.argmax(axis=1) != labels[50].argmax())[9]\nalpha,",
            ),
        ),
        "comes twice",
    ),
    "rows that are not there": (
        changed(
            PER_SAMPLE,
            ("layer_0 = images[i:i+1]", "layer_0 = images[order[i:i+1] % 60]"),
            ("alpha,", "order = np.arange(60)\norder[50] = 60\nalpha,"),
        ),
        None,
    ),
    **{
        f"a generator: {how}": (generated(*program), reason)
        for how, reason, *program in (
            ("prints", "print", "for k in range(0, 60, size):\n    print(k)\n    " + SLICES),
            ("draws", "", "for k in range(9):\n    r = np.random.randint(60, size=7)\n    yield X[r], Y[r]"),
            ("changes", "", "for k in range(0, 60, size):\n    X[k] = 0.1\n    " + SLICES),
            ("grows", "a loop over a generator", "for k in range(0, 60, size):\n    X *= 0.9\n    " + SLICES),
            (
                "counts what it shows",
                "a loop over a generator",
                "shown = 0\nfor k in range(0, 60, size):\n    if k % 20 == 0:\n        shown += 1\n        print(k, shown)\n    "
                + SLICES,
                "batches(images, labels, 1)",
            ),
            (
                "shows what was last",
                "a loop over a generator",
                "for k in range(0, 60, size):\n    if k % 20 == 19: print(last)\n    last = k\n    " + SLICES,
                "batches(images, labels, 1)",
            ),
            (
                "sets in some branches",
                "a loop over a generator",
                "for k in range(0, 60, size):\n    if k % 20 == 0: last = k\n    if k % 20 == 19: print(last)\n    "
                + SLICES,
                "batches(images, labels, 1)",
            ),
            (
                "loops over an array that is bound anew",
                "an array of its own",
                "for k in order:\n    yield X[k:k + 1], Y[k:k + 1]",
                "batches(images, labels, 1)",
                ("x, t in batches(images, labels, 1)", "n, (x, t) in enumerate(batches(images, labels, 1))"),
                ("#", "if n == 30: order = np.random.permutation(60)"),
                ("alpha,", "order = np.arange(60)\nalpha,"),
            ),
            ("counts", "", "global n\nfor k in range(0, 60, size):\n    n = k\n    " + SLICES),
            (
                "remembers",
                "a loop over a generator",
                "rows = 3\nfor k in range(0, 60, size):\n    Y[:rows]\n    rows = k\n    " + SLICES,
            ),
            (
                "has what is around it",
                "a loop over a generator",
                "class Nothing: pass\ndef around(size):\n    def batches(X, Y):\n        for k in range(0, 60, size):\n            "
                + SLICES
                + "\n    return batches\nbatches = around(7)",
                "batches(images, labels)",
            ),
            (
                "notes",
                "does more",
                "for k in range(0, 60, size):\n    noted.n = k\n    " + SLICES,
                "batches(images, labels, 7)",
                ("alpha,", "class Noted: pass\nnoted = Noted()\nalpha,"),
            ),
            (
                "cleans up",
                "a loop over a generator",
                f"try:\n    for k in range(0, 60, size):\n        {SLICES}\nfinally:\n    print('done')",
            ),
            ("stops", "a loop over a generator", "for k in range(0, 60, size):\n    if k == 49: return\n    " + SLICES),
            (
                "skips",
                "a loop over a generator",
                "for k in range(0, 60, size):\n    if k == 42: continue\n    " + SLICES,
            ),
            ("goes on", "a loop over a generator", f"for k in range(0, 60, size):\n    {SLICES}\n    print(k)"),
            (
                "yields twice",
                "a loop over a generator",
                "yield X[:7], Y[:7]\nfor k in range(0, 60, size):\n    " + SLICES,
            ),
            ("loops over a set", "a call of set()", "for k in set(range(0, 60, size)):\n    " + SLICES),
            (
                "has a name",
                "a loop over a generator",
                "for k in range(0, 60, size):\n    " + SLICES,
                "made",
                ("    for x", "    made = batches(images, labels, 7)\n    for x"),
            ),
            (
                "is kept",
                "a loop over a generator",
                "for k in range(0, 60, size):\n    " + SLICES,
                "keep(batches(images, labels, 7))",
                ("alpha,", "kept = []\ndef keep(made):\n    kept.append(made)\n    return made\nalpha,"),
            ),
            (
                "images that the loop changes",
                "",
                "for k in range(0, 60, size):\n    " + SLICES,
                "batches(images, labels, 7)",
                ("#", "images *= 0.99"),
            ),
        )
    },
    "labels of another order": (
        changed(
            PER_SAMPLE,
            ("layer_0 = images[i:i+1]", "layer_0 = images[order[i:i+1]]"),
            ("alpha,", "order = np.random.permutation(60)\nalpha,"),
            ("labels[i:i+1]))\n        layer_2_delta", "labels[order[i:i+1]]))\n        layer_2_delta"),
        ),
        "not",
    ),
    "a vector with a two in it": (
        changed(
            PER_SAMPLE,
            (
                "layer_0 = images[i:i+1]\n",
                "layer_0 = images[i:i+1]\n        hot = np.zeros((1, 4))\n        hot[0, digits[i]] = 2\n",
            ),
            ("layer_2 - labels[i:i+1]\n", "layer_2 - hot\n"),
            ("alpha,", "digits = np.argmax(labels, axis=1)\nalpha,"),
        ),
        "a part of an array",
    ),
    "bytes that wrap": (
        changed(
            PER_SAMPLE,
            ("layer_0 = images[i:i+1]", "layer_0 = (images[i:i+1] + 100) / 1000"),
            ("alpha,", "images = (images * 250).astype(np.uint8)\nalpha,"),
        ),
        "uint8",
    ),
    "truths that do not add up": (
        changed(
            PER_SAMPLE,
            (COUNT, COUNT + "        correct_cnt += int((np.argmax(layer_2) == 1) + (np.argmax(layer_2) == 1))\n"),
        ),
        None,
    ),
    "every pixel of a square image": (
        changed(
            PER_SAMPLE,
            ("layer_0 = images[i:i+1]", "layer_0 = squares[i].T.reshape(1, 16)"),
            (
                "weights_0_1 = 0.2 * np.random.random((20,",
                "squares = images[:, :16].reshape(60, 4, 4)\nweights_0_1 = 0.2 * np.random.random((16,",
            ),
        ),
        None,
    ),
    "a dot of another kind": (
        changed(
            PER_SAMPLE,
            (RELU, "np_dot = np.dot\nclass np2:\n    dot = staticmethod(lambda a, b: np_dot(a, b) * 1.01)\n" + RELU),
            ("np.dot(layer_0", "np2.dot(layer_0"),
        ),
        None,
    ),
}


@pytest.mark.parametrize("miss", NEAR_MISSES)
def test_near_misses_run_as_written(miss):
    program, reason = NEAR_MISSES[miss]
    program = re.split(r"    test_(?:error|loss|correct)", program)[0]
    program += f"    print({'loss, hits' if 'hits' in program else 'j, correct_cnt'}, weights_0_1.sum())\n"
    replaced, records = run_both(program, exact=True)
    assert not replaced
    if reason is not None:
        assert any(reason in (r.loop.refused or r.refusal) for r in records), [r.refusal for r in records]


@pytest.mark.parametrize("author", AUTHORS)
def test_programs_of_other_authors(author):
    program, loops = AUTHORS[author]
    replaced, records = run_both(DIGITS + program)
    assert len(replaced) == loops, [(r.loop.line, r.refusal, r.refusal_line) for r in records if r.refusal]


@pytest.mark.parametrize("author", REFUSED)
def test_programs_of_other_authors_that_run_as_written(author):
    program, reason = REFUSED[author]
    replaced, records = run_both(DIGITS + program, exact=True)
    assert not replaced
    assert any(reason in (r.loop.refused or r.refusal) for r in records)


def test_what_was_saved_is_estimated_from_the_quickest_iteration(monkeypatch):
    """The first ones start BLAS's threads: a run of 3 seconds was said to have saved 42."""
    calls = itertools.count(1)
    clock = types.SimpleNamespace(perf_counter=lambda: -0.1 / next(calls))
    monkeypatch.setattr("fastmnist.accel.hooks.time", clock)
    replaced, _ = run_both(PER_SAMPLE)
    for record in replaced:
        assert 0 < record.per_iteration < 1e-3
        assert record.saved == max(0.0, record.iterations * record.per_iteration - record.seconds)


def test_a_changed_helper_is_noticed():
    program = changed(
        PER_SAMPLE, ("    error, correct_cnt", "    if j == 1: relu = lambda x: np.tanh(x)\n    error, correct_cnt")
    )
    replaced, _ = run_both(program)
    assert [r.entries for r in replaced] == [1, 3]


def test_a_patched_numpy_is_noticed():
    program = changed(
        PER_SAMPLE,
        (
            "    error, correct_cnt",
            "    if j == 1: images = images[:30]\n    if j == 2: alpha = 0.01\n    error, correct_cnt",
        ),
    )
    replaced, _ = run_both(program)
    assert [r.entries for r in replaced] == [3, 3]


def test_an_epoch_in_each_iteration_is_refused_before_its_expressions_grow():
    _, records = run_both(DIGITS + AUTHORS["tanh, softmax, square of the batch size, every epoch"][0])
    assert any("more than one step" in r.refusal for r in records)


BETWEEN = {
    "in place": "    images *= 0.9\n",
    "through a view": "    view[:] = view * 0.9\n",
    "by a function of the program": "    fade()\n",
    "by an argument": "    np.multiply(images, 0.9, images)\n",
    "by a keyword": "    np.multiply(images, 0.9, out=images)\n",
    "by what was print": "    print(j)\n",
    "by a method": "    images.sort(axis=1)\n",
    "by what is looped over": "",
    "by what is printed to": "    print(j)\n",
    "by how arrays are printed": "    print(weights_1_2[0])\n",
    "by a number of its own kind": "    number + 1\n",
    "by another thread": "    job = threading.Thread(target=fade); job.start(); job.join()\n",
}


SPECIAL = {
    "by what is printed to": "import io\nclass Out(io.StringIO):\n    def write(self, text):\n        fade()\n"
    "sys.stdout = Out()\n",
    "by how arrays are printed": "np.set_printoptions(formatter={'float': lambda x: fade() or 'x'})\n",
    "by a number of its own kind": "class Number(float):\n    def __add__(self, x): fade()\nnumber = Number()\n",
}


@pytest.mark.parametrize("how", BETWEEN)
def test_images_that_change_between_passes(how):
    program = changed(
        PER_SAMPLE,
        (
            "alpha,",
            "import threading\nview = images[:]\ndef fade(*_):\n    view[:] *= 0.9\nif "
            + repr(how == "by what was print")
            + ": print = fade\n"
            + SPECIAL.get(how, "")
            + "alpha,",
        ),
        ("    test_error = 0.0", BETWEEN[how] + "    test_error = 0.0"),
        ("(0.05, 3, 7)", "(0.05, 5, 7)"),
    )
    if how == "by what is looped over":
        program = changed(program, ("in range(len(images))", "in (fade(), range(len(images)))[1]"))
    replaced, _ = run_both(program)
    assert [r.entries for r in replaced] == [5, 5]


def note_packings(monkeypatch):
    """Return a list that gets the number of images each time that some are packed."""
    packed = []
    original = packing._pack
    monkeypatch.setattr(packing, "_pack", lambda x, *how: packed.append(len(x)) or original(x, *how))
    return packed


def test_images_stay_packed_where_nothing_changes_them(monkeypatch):
    packed = note_packings(monkeypatch)
    run_both(changed(PER_SAMPLE, ("(0.05, 3, 7)", "(0.05, 6, 7)")))
    assert packed == [2, 57, 2, 27, 59, 29]  # the first epoch begins with two samples that are verified


SHUFFLED = changed(
    PER_SAMPLE,
    ("layer_0 = images[i:i+1]", "layer_0 = images[order[i:i+1]]"),
    ("(labels[i:i+1]", "(labels[order[i:i+1]]"),
    ("- labels[i:i+1]", "- labels[order[i:i+1]]"),
    ("    for i in range(len(images))", "    DRAW\n    for i in range(len(order))"),
    ("(0.05, 3, 7)", "(0.05, 6, 7)"),
    ("alpha,", "order, rng, few = np.arange(60), np.random.RandomState(1), np.arange(9)\nalpha,"),
)


@pytest.mark.parametrize(
    ("draw", "times"),
    [
        ("order = np.random.permutation(len(images))", 1),
        ("order = rng.permutation(60)", 1),
        ("np.random.shuffle(order)", 1),
        ("rng.shuffle(order)", 1),
        ("order = np.arange(60); np.random.shuffle(order)", 1),
        ("shuffle = np.random.shuffle; shuffle(order)", 6),
        ("np.random.shuffle(images)", 6),
        ("rng.shuffle(images[:, 0])", 6),
        ("order = order[:]; np.random.shuffle(order)", 6),
        ("np.random.shuffle(few); order = few", 0),
    ],
)
def test_images_stay_packed_in_whatever_order_they_are_taken(draw, times, monkeypatch):
    packed = note_packings(monkeypatch)
    replaced, _ = run_both(SHUFFLED.replace("DRAW", draw))
    assert len(replaced) == 2
    assert packed.count(60) == times


def test_verification_catches_a_wrong_plan(monkeypatch):
    from fastmnist import scripts as functions

    prepare = functions.prepare
    monkeypatch.setattr(functions, "prepare", lambda *a, **k: prepare(*a, **{**k, "learning_rate": 0.0501}))
    replaced, records = run_both(PER_SAMPLE.split("    test_error")[0], exact=True)
    assert not replaced
    assert any("differs by" in r.refusal for r in records)


def test_a_repeated_update_is_collapsed_in_the_last_iteration():
    _, records = run_both(REPEATED.replace("batch_size = (0.01, 3, 7, 5)", "batch_size = (0.01, 3, 7, 10)"))
    assert [bool(r.entries) for r in records if r.loop.multiplies and not r.loop.refused] == [True, True, True]


# The command line


def run(*arguments, code=None, **options):
    options = {"capture_output": True, "text": True, "timeout": 300, **options}
    return subprocess.run([sys.executable, *arguments], check=False, **options)


@pytest.fixture
def script(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(text, name="script.py"):
        Path(name).write_text(text, encoding="utf-8")
        return name

    return write


def test_run_reports_on_stderr(script):
    path = script(PER_SAMPLE)
    plain, quiet = run(path), run("-m", "fastmnist", "run", path)
    assert_same_numbers(quiet.stdout, plain.stdout)
    assert re.fullmatch(r"\[fastmnist\] 2 loops accelerated \(lines 14, 26\), about \S+ s saved\n", quiet.stderr)
    assert Path(path).read_text(encoding="utf-8") == PER_SAMPLE

    loud = run("-m", "fastmnist", "run", "-v", "--explain", "--verify", "--profile", "--strict", path)
    assert loud.returncode == 0
    assert loud.stderr.startswith("[fastmnist] script.py:12: runs as written: a call of print()")
    assert "script.py:14: will be replaced if" in loud.stderr
    assert "script.py:14: accelerated: SGD, one sample at a time, 2 layers (relu, linear)" in loud.stderr
    assert "script.py:14: 20 iterations both ways: largest difference" in loud.stderr
    assert "as written  what" in loud.stderr


def test_run_says_why_not_and_strict_is_an_error(script):
    path = script(changed(PER_SAMPLE.split("    test_error")[0], (LOWER, LOWER.replace("alpha", "0.5 * alpha"))))
    reason = (
        "script.py:14: runs as written: the weights' update is not the gradient of this network's loss times one rate "
        "for all layers and steps (line 23)"
    )
    result = run("-m", "fastmnist", "run", "-v", path)
    assert result.returncode == 0
    assert reason in result.stderr
    result = run("-m", "fastmnist", "run", "--strict", path)
    assert result.returncode == 3
    assert f"--strict: {reason}" in result.stderr


@pytest.mark.parametrize(
    "text",
    [
        "import sys; print(sys.argv, __name__, __file__, sys.path[0], __doc__)",
        "'''Doc.'''\nimport sys\nprint(sorted(globals()), __doc__); sys.exit(7)",
        "raise SystemExit('a message')",
        "import sys\nprint(sys.stdin.read())\nsys.exit()",
        "def f(x):\n    return 1 / x\n\nfor i in range(9, -1, -1):\n    y = f(i)\n",
        "import numpy as np\nw = np.ones((2, 2))\nfor i in range(10):\n    w = w.dot(np.ones((2, 2 + i)))\n",
        "x = = 1\n",
        "import warnings\nwarnings.warn('careful', DeprecationWarning)\n",
    ],
)
def test_run_is_like_python(script, text):
    path = script(text)
    theirs = run(path, "-v", "--x", "1", input="typed")
    ours = run("-m", "fastmnist", "run", path, "-v", "--x", "1", input="typed")
    assert ours.returncode == theirs.returncode
    assert ours.stdout == theirs.stdout
    assert ours.stderr.replace("[fastmnist] no loop was accelerated; -v says why\n", "") == theirs.stderr


def test_run_leaves_the_same_files_and_exit_code(script):
    path = Path(script(PER_SAMPLE + WRITING)).absolute()
    for folder, command in ("ours", ["-m", "fastmnist", "run"]), ("theirs", []):
        Path(folder).mkdir()
        assert run(*command, str(path), cwd=folder).returncode == 3
    assert_same_files(Path("ours"), Path("theirs"), exact=False)


def test_run_module_and_code(script):
    script("import sys\nprint(sys.argv[1:], __name__, __spec__.name, sys.path[0])\n", "some_module.py")
    for arguments in (["-m", "some_module", "-a"], ["-c", "import sys; print(sys.argv, sys.path[0])", "-b", "c"]):
        assert run("-m", "fastmnist", "run", *arguments).stdout == run(*arguments).stdout


def test_run_without_a_script(script):
    result = run("-m", "fastmnist", "run")
    assert result.returncode == 2
    assert "a script is wanted" in result.stderr
    result = run("-m", "fastmnist", "run", "missing.py")
    assert result.returncode == 2
    assert "can't open file 'missing.py': [Errno 2]" in result.stderr


def test_run_stops_on_ctrl_c(script):
    path = script("import time\nprint('ready', flush=True)\ntime.sleep(60)\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "fastmnist", "run", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f'{path}", line ' in err
    assert err.endswith("KeyboardInterrupt\n")
    assert "fastmnist/accel" not in err


def test_run_loads_nothing_heavy_where_nothing_is_accelerated():
    code = (
        "import sys\nfor i in range(9):\n    str(i)\nfor c in 'abcdefghi':\n    str(c)\n"
        "print('numba' in sys.modules, 'numpy' in sys.modules)"
    )
    loaded = run("-m", "fastmnist", "run", "-c", code)
    assert loaded.stdout == "False False\n"


@pytest.mark.parametrize("name", ["keras", "tensorflow.keras"])
def test_run_serves_mnist_without_keras(script, tmp_path, name):
    from fastmnist import data

    (x_train, y_train), (x_test, y_test) = data.load_data("synthetic", n_train=30, n_test=20)
    np.savez(tmp_path / "digits.npz", x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    path = script(f"from {name}.datasets import mnist\n(x, y), _ = mnist.load_data()\nprint(x.shape, x.sum(), y[:5])\n")
    environment = os.environ | {"FASTMNIST_MNIST": str(tmp_path / "digits.npz")}
    result = run("-m", "fastmnist", "run", path, env=environment)
    assert result.stdout == f"{x_train.shape} {x_train.sum()} {y_train[:5]}\n", result.stderr


KERAS = """\
print("loading")
class Model:
    name = "model"
    def compile(self, optimizer):
        self.optimizer = optimizer
class Sequential(Model):
    pass
"""
SEQUENTIAL = """\
import fastmnist
from keras.datasets import mnist
print("not yet")
from keras.models import Sequential
import keras
print(keras.datasets.mnist.load_data is mnist.load_data)
class Accelerate:
    def __call__(self, model, strict, verbose):
        print("accelerated", type(model).__name__, strict, verbose)
    def report(self, model):
        return ["fit: here"]
fastmnist.accelerate = Accelerate()
model = Sequential()
model.compile(optimizer="sgd")
print(model.optimizer)
"""


def test_run_accelerates_models_of_keras(script):
    Path("keras/datasets").mkdir(parents=True)
    script(KERAS, "keras/__init__.py")
    script("from keras import Sequential\n", "keras/models.py")
    script("def load_data():\n    raise OSError('no network')\n", "keras/datasets/mnist.py")
    result = run("-m", "fastmnist", "run", "-v", script(SEQUENTIAL))
    assert result.stdout == "not yet\nloading\nTrue\naccelerated Sequential False 1\nsgd\n", result.stderr
    assert result.stderr == "[fastmnist] model: fit: here\n"


def test_run_puts_fastmnist_in_the_place_of_keras(script):
    script("raise ModuleNotFoundError('no backend')\n", "keras.py")
    text = (
        "from keras.datasets import mnist\nimport fastmnist.keras\nfrom keras.models import Sequential\nimport keras\n"
    )
    text += "print(keras is fastmnist.keras, Sequential is keras.Sequential)\n"
    pytest.importorskip("fastmnist.keras")
    result = run("-m", "fastmnist", "run", script(text))
    assert result.stdout == "True True\n", result.stderr
    assert result.stderr == "[fastmnist] Keras cannot be imported here (no backend): fastmnist.keras takes its place\n"
    result = run("-m", "fastmnist", "run", script("from keras.applications import VGG16\n"))
    assert result.returncode == 1
    assert "keras.applications needs Keras, which cannot be imported here" in result.stderr


@pytest.mark.slow
def test_the_original_program(mnist, script):
    (x_train, y_train), (x_test, y_test) = mnist
    np.savez("mnist.npz", x_train=x_train[:2000], y_train=y_train[:2000], x_test=x_test[:500], y_test=y_test[:500])
    names = "(x_train, y_train), (x_test, y_test) = mnist.load_data()\n"
    head = "from keras.datasets import mnist\n" + names
    body = head + (
        "images = x_train.reshape(len(x_train), 784) / 255\nlabels = np.eye(10)[y_train]\n"
        "test_images, test_labels = x_test.reshape(len(x_test), 784) / 255, np.eye(10)[y_test]\n"
        "alpha, iterations, hidden = 0.005, 5, 40\n"
        "weights_0_1 = 0.2 * np.random.random((784, hidden)) - 0.1\n"
        "weights_1_2 = 0.2 * np.random.random((hidden, 10)) - 0.1\n"
    )
    text = "import sys, numpy as np\nnp.random.seed(1)\n" + body + PER_SAMPLE[len(DATA) :]
    direct = text.replace(
        head,
        "_f = np.load('mnist.npz')\nx_train, y_train, x_test, y_test = (_f[n] for n in ('x_train', 'y_train', 'x_test', 'y_test'))\n",
    )
    plain = run(script(direct, "direct.py"))
    ours = run("-m", "fastmnist", "run", script(text), env=os.environ | {"FASTMNIST_MNIST": "mnist.npz"})
    assert "2 loops accelerated" in ours.stderr
    assert_same_numbers(ours.stdout, plain.stdout)


TRAINING = HEAD + "def train(weights_0_1, weights_1_2):\n" + textwrap.indent("for j in" + LOOPS, "    ")


def test_loops_of_imported_modules_are_replaced(script):
    script(TRAINING, "training.py")
    main = "import training\ntraining.train(training.weights_0_1, training.weights_1_2)\n"
    plain, ours = run(script(main)), run("-m", "fastmnist", "run", "-v", "script.py")
    assert plain.returncode == 0, plain.stderr
    assert_same_numbers(ours.stdout, plain.stdout)
    assert "2 loops accelerated" in ours.stderr
    installed = "from fastmnist.accel.install import install, uninstall\ninstall(verbose=1)\n" + main
    result = run(script(installed + "uninstall()\n" + main.splitlines()[1] + "\n"))
    twice = run(script(main + main.splitlines()[1] + "\n"))
    assert_same_numbers(result.stdout, twice.stdout)
    assert result.stderr.count("accelerated: SGD") == 1
    assert "training.py:" in result.stderr


def test_a_module_that_does_not_compile_is_reported_as_by_python(script):
    script("import numpy\nx = = 1\n", "training.py")
    path = script("import training\n")
    assert run("-m", "fastmnist", "run", path).stderr == run(path).stderr


class Shell:
    """As much of IPython's shell as runs cells."""

    def __init__(self):
        self.ast_transformers, self.names, self.n = [], {"__name__": "__main__"}, 0

    def run_cell(self, cell):
        self.n += 1
        name = f"<cell {self.n}>"
        linecache.cache[name] = (len(cell), None, cell.splitlines(keepends=True), name)
        tree = ast.parse(cell)
        for transformer in self.ast_transformers:
            tree = transformer.visit(tree)
        with np.errstate(all="ignore"):
            exec(compile(tree, name, "exec"), self.names)


@pytest.mark.filterwarnings("default")  # where they are errors nothing is replaced
def test_cells_of_a_notebook(capsys, monkeypatch):
    monkeypatch.setattr("builtins." + HOOKS, None, raising=False)
    cells = re.split(r"(?=^relu = )|(?=^for j)", PER_SAMPLE, flags=re.MULTILINE)
    outputs = []
    for loaded in (False, True):
        shell = Shell()
        if loaded:
            install.load_ipython_extension(shell)
        for cell in cells:
            shell.run_cell(cell)
        outputs.append(capsys.readouterr())
    install.unload_ipython_extension(shell)
    assert not shell.ast_transformers
    assert_same_numbers(outputs[1].out, outputs[0].out)
    assert outputs[1].err.count("accelerated: ") == 2
    shell.run_cell(cells[-1])
    assert not capsys.readouterr().err
