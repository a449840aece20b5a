"""Our side: the public functions."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from fastmnist import engine, scripts
from fastmnist.bench.rows import Array, Dataset, Side, Work
from fastmnist.bench.setting import Course, Recipe


def kernels(work: Work) -> Side:
    """Train with `sgd_epoch` or `sgd_many`, evaluate with `evaluate`, on packed images."""
    return _side(work, engine.pack(work.images))


def one_thread(work: Work) -> Side:
    """Do the same on one thread."""
    return kernels(work._replace(threads=1))


def float64(work: Work) -> Side:
    """Do the same in float64."""
    weights, biases = ([a.astype("float64") for a in arrays] for arrays in work.parameters())
    return kernels(work._replace(row=replace(work.row, dtype="float64"), weights=weights, biases=biases or None))


def one_by_one(work: Work) -> Side:
    """Train one network after the other, each on all threads."""
    images = engine.pack(work.images)
    one = replace(work.row, trainings=1)
    sides = [_side(work._replace(row=one, weights=weights), images) for weights in work.networks()]

    def run() -> None:
        for side in sides:
            side.run()

    return Side(run, lambda: [w for side in sides for w in side.result()])


def plain_arrays(work: Work) -> Side:
    """Do the same on an array of floats, which every call reads in full, to see whether it has changed."""
    return _side(work, work.floats())


def _side(work: Work, images: engine.Packed | Array) -> Side:
    row = work.row
    weights, biases = work.parameters()
    network = (images, work.labels, weights, biases if row.has_biases else None)

    if row.evaluates:
        last = list[Array]()

        def evaluate() -> None:
            error, correct = scripts.evaluate(*network, output=row.output, threads=work.threads)
            last[:] = [np.array([error]), np.array([correct])]

        return Side(evaluate, lambda: last)

    if row.trainings > 1:
        networks = work._replace(weights=weights).networks()
        return Side(
            lambda: scripts.sgd_many(images, work.labels, networks, **row.settings, threads=work.threads),
            lambda: weights,
        )
    return Side(lambda: scripts.sgd_epoch(*network, **row.settings, threads=work.threads), lambda: [*weights, *biases])


def follow(recipe: Recipe, dataset: Dataset, threads: int) -> Callable[[int], Course]:
    """Prepare the images; return what starts a training for a seed."""
    (x_train, y_train), (x_test, y_test) = dataset
    images, test_images = engine.pack(x_train), engine.pack(x_test)

    def start(seed: int) -> Course:
        network = engine.Network(recipe.sizes, dropout=recipe.dropout, seed=seed, threads=threads)

        def train(rates: Array) -> None:
            network.train_epoch(images, y_train, batch_size=recipe.batch_size, learning_rate=rates)

        return Course(train, lambda: network.evaluate(test_images, y_test)[1] / len(y_test))

    return start
