"""Our side: the public functions, on packed images."""

import numpy as np

from fastmnist import engine, scripts
from fastmnist.bench.rows import Array, Side, Work


def kernels(work: Work) -> Side:
    """Train with `sgd_epoch`, evaluate with `evaluate`."""
    row = work.row
    images = engine.pack(work.images)
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
