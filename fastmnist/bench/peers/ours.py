"""Our side: the public functions."""

import numpy as np

from fastmnist import engine, scripts
from fastmnist.bench.rows import Array, Side, Work


def kernels(work: Work) -> Side:
    """Train with `sgd_epoch`, evaluate with `evaluate`, on packed images."""
    return _side(work, engine.pack(work.images))


def one_thread(work: Work) -> Side:
    """Do the same on one thread."""
    return kernels(work._replace(threads=1))


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

    def train() -> None:
        scripts.sgd_epoch(
            *network,
            learning_rate=row.learning_rate,
            batch_size=row.batch_size,
            output=row.output,
            relu_gradient="relu" if row.has_biases else "straight-through",
            dropout=row.dropout,
            updates_per_batch=row.updates_per_batch,
            threads=work.threads,
        )

    return Side(train, lambda: [*weights, *biases])
