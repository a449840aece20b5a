"""Every compiled entry point at work, with what it must compute: the tests check it, the benchmarks time it.

A case is prepared for a float type and a share of non-zero inputs, at the sizes of the original programs. Each runs the
engine as users' calls do, on one thread, so that its time is that of the kernels it names and of little else.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

import fastmnist
from fastmnist import engine, reference

# Largest difference allowed, as a share of the largest number in an array. Updates add up over a run.
TOLERANCE = {"float64": 1e-9, "float32": 3e-4}
SAMPLES = 1_000
BLOCK = 40  # samples


class Prepared(NamedTuple):
    """`run` may be called again and again; `result` is what the first call led to, `expected` what it should have."""

    run: Callable[[], Any]
    result: Callable[[], list[Any]]
    expected: Callable[[], list[Any]]


@dataclass(frozen=True)
class Case:
    """`kernels` are the entry points at work; `prepare` takes a float type and one of the densities."""

    kernels: tuple[str, ...]
    prepare: Callable[[str, float], Prepared]
    dtypes: tuple[str, ...] = tuple(TOLERANCE)
    densities: tuple[float, ...] = (0.19, 1.0)


def check(dtype: str, result: list[Any], expected: list[Any]) -> None:
    """Raise an AssertionError unless the arrays are equal to within the tolerance."""
    assert len(result) == len(expected)
    for got, wanted in zip(result, expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=0, atol=TOLERANCE[dtype] * np.max(np.abs(wanted)))


def _pixels(density: float) -> Any:
    """Grey values, in which that share is not zero."""
    random = np.random.default_rng(1)
    pixels = random.integers(1, 256, size=(SAMPLES, 784))
    return (pixels * (random.random(pixels.shape) < density)).astype(np.uint8)


def _labels() -> Any:
    return np.random.default_rng(2).integers(10, size=SAMPLES)


def _network(sizes: tuple[int, ...], dtype: str) -> tuple[list[Any], list[Any]]:
    random = np.random.default_rng(3)
    shapes = pairwise(sizes)
    return (
        [random.uniform(-0.1, 0.1, shape).astype(dtype) for shape in shapes],
        [random.uniform(-0.1, 0.1, n).astype(dtype) for n in sizes[1:]],
    )


def _pack(of_floats: bool, dtype: str, density: float) -> Prepared:
    pixels = _pixels(density)
    images = pixels / np.dtype(dtype).type(255)
    source = images * np.dtype(dtype).type(0.75) if of_floats else pixels  # 0.75 of 1/255 is none of the 255ths
    return Prepared(
        lambda: engine.pack(source),
        lambda: [_unpacked(engine.pack(source), dtype)],
        lambda: [source if of_floats else images],
    )


def _unpacked(packed: Any, dtype: str) -> Any:
    """Read packed images back, through a network that does nothing."""
    return fastmnist.predict(packed, [np.eye(784, dtype=dtype)], threads=1)


def _fingerprint(dtype: str, density: float) -> Prepared:
    """Plain arrays whose packing is remembered: only read, to see whether they have changed."""
    images = _pixels(density) / np.dtype(dtype).type(255)
    engine.as_packed(images, 1)
    return Prepared(
        lambda: engine.as_packed(images, 1),
        lambda: [_unpacked(engine.as_packed(images, 1), dtype)],
        lambda: [images],
    )


def _blocks(dtype: str, density: float) -> Prepared:
    packed, order = engine.pack(_pixels(density)), np.arange(SAMPLES)[::-1].copy()
    run = partial(packed.blocks, np.dtype(dtype), BLOCK, 1, order)
    return Prepared(
        run, lambda: [packed.gram(np.dtype(dtype), run(), 1, False)[..., :BLOCK]], lambda: [_inner(density, order)]
    )


def _gram(dtype: str, density: float) -> Prepared:
    packed, order = engine.pack(_pixels(density)), np.arange(SAMPLES)
    blocks = packed.blocks(np.dtype(dtype), BLOCK, 1, order)
    run = partial(packed.gram, np.dtype(dtype), blocks, 1, False)
    return Prepared(run, lambda: [run()[..., :BLOCK]], lambda: [_inner(density, order)])


def _inner(density: float, order: Any) -> Any:
    """Products of the rows of each block with those of the block before, and with its own."""
    rows = (_pixels(density) / 255)[order].reshape(-1, BLOCK, 784)
    before = np.concatenate([np.zeros_like(rows[:1]), rows[:-1]])
    return np.stack([rows @ others.transpose(0, 2, 1) for others in (before, rows)], axis=2)


def _draw(draws: engine.Draws, rate: float) -> Any:
    kept = np.empty(SAMPLES * 100, np.uint8)
    draws.take(0, SAMPLES, SAMPLES, [100], [rate], 1, kept)
    return kept


def _legacy_draws(draw: str, rate: float, dtype: str, density: float) -> Prepared:
    first = _draw(engine.Draws(np.random.RandomState(1), draw), rate)
    draws = engine.Draws(np.random.RandomState(1), draw)
    return Prepared(
        lambda: _draw(draws, rate),
        lambda: [first],
        lambda: [reference.dropout_mask(np.random.RandomState(1), (SAMPLES * 100,), rate, draw)],
    )


def _counter_draws(dtype: str, density: float) -> Prepared:
    run = partial(_draw, engine.Draws(7), 0.3)
    return Prepared(
        run,
        lambda: [run()],
        lambda: [reference.philox_mask(7, 0, 0, np.arange(SAMPLES), 100, 0.3).ravel()],
    )


def _train(sizes: tuple[int, ...], options: dict[str, Any], dtype: str, density: float) -> Prepared:
    pixels, labels = _pixels(density), _labels()
    packed = engine.pack(pixels)
    weights, biases = _network(sizes, dtype)
    settings = {"learning_rate": 1e-4, "output": "softmax", **options}

    def run() -> Any:
        return fastmnist.sgd_epoch(packed, labels, weights, biases, rng=1, threads=1, **settings)

    def result() -> list[Any]:
        nonlocal weights, biases
        weights, biases = _network(sizes, dtype)
        error, correct = run()
        return [[error], [correct], *weights, *biases]

    def expected() -> list[Any]:
        w, b = _network(sizes, dtype)
        images = pixels / np.dtype(dtype).type(255)
        collapsed = settings.get("updates_per_batch", 1) > 1
        error, correct = reference.sgd_epoch(images, labels, w, b, rng=1, collapsed=collapsed, **settings)
        return [[error], [correct], *w, *b]

    return Prepared(run, result, expected)


def _train_many(dtype: str, density: float) -> Prepared:
    """Three networks, each at a rate of its own."""
    pixels, labels, rates = _pixels(density), _labels(), [1e-4, 2e-4, 3e-4]
    packed = engine.pack(pixels)
    number = np.dtype(dtype).type

    def start() -> list[list[Any]]:
        return [[w * number(scale) for w in _network((784, 40, 10), dtype)[0]] for scale in (1.0, 0.5, 0.25)]

    networks = start()

    def run() -> Any:
        return fastmnist.sgd_many(packed, labels, networks, learning_rate=rates, threads=1)

    def result() -> list[Any]:
        nonlocal networks
        networks = start()
        return [*np.reshape(run(), (-1, 1)), *(w for weights in networks for w in weights)]

    def expected() -> list[Any]:
        images, trained = pixels / number(255), start()
        scores = [
            reference.sgd_epoch(images, labels, weights, None, learning_rate=rate)
            for weights, rate in zip(trained, rates, strict=True)
        ]
        return [*np.reshape(scores, (-1, 1)), *(w for weights in trained for w in weights)]

    return Prepared(run, result, expected)


def _evaluate(sizes: tuple[int, ...], dtype: str, density: float) -> Prepared:
    pixels, labels = _pixels(density), _labels()
    packed, network = engine.pack(pixels), _network(sizes, dtype)
    run = partial(fastmnist.evaluate, packed, labels, *network, output="softmax", threads=1)
    images = pixels / np.dtype(dtype).type(255)
    return Prepared(
        run, lambda: list(run()), lambda: list(reference.evaluate(images, labels, *network, output="softmax"))
    )


_DROPOUT = {"dropout": 0.5}
_REPEATED = {"batch_size": 100, "updates_per_batch": 100, "dropout": 0.5, "learning_rate": 1e-5}

CASES = {
    "pack_bytes": Case(("count_entries", "pack_entries", "infer"), partial(_pack, False), ("float32",)),
    "pack_floats": Case(("count_entries", "pack_entries", "infer"), partial(_pack, True)),
    "fingerprint": Case(("fingerprint",), _fingerprint),
    "blocks": Case(("transpose",), _blocks),
    "gram": Case(("gram_products",), _gram),
    "randint_draws": Case(("mt19937_draws",), partial(_legacy_draws, "integers", 0.5), ("float32",), (1.0,)),
    "random_draws": Case(("mt19937_draws",), partial(_legacy_draws, "drop-below", 0.3), ("float32",), (1.0,)),
    "philox_draws": Case(("philox_draws",), _counter_draws, ("float32",), (1.0,)),
    "per_sample": Case(("train_per_sample",), partial(_train, (784, 40, 10), {})),
    "per_sample_dropout": Case(("train_per_sample", "philox_draws"), partial(_train, (784, 100, 10), _DROPOUT)),
    "many_trainings": Case(("train_per_sample",), _train_many),
    "repeated_batches": Case(("train_batches", "philox_draws"), partial(_train, (784, 100, 10), _REPEATED)),
    "batches": Case(("train_batches",), partial(_train, (784, 400, 20, 10), {"batch_size": 200})),
    "evaluate": Case(("infer",), partial(_evaluate, (784, 400, 20, 10))),
}
