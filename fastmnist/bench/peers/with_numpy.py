"""Plain NumPy: the loops of the original scripts, and whole batches at a time."""

import numpy as np

from fastmnist import reference
from fastmnist.bench.rows import Side, Work, evaluation


def script(work: Work) -> Side:
    """Loop as the original scripts do, with an update inside the loop over a batch's rows where they have one."""
    row, images, labels = work.row, work.floats(), work.targets()
    (weights_0_1, weights_1_2), _ = work.parameters()
    size, alpha = row.batch_size, row.learning_rate

    def run() -> None:
        error, correct = 0.0, 0
        for i in range(len(images) // size):
            layer_0, target = images[i * size : (i + 1) * size], labels[i * size : (i + 1) * size]
            layer_1 = np.dot(layer_0, weights_0_1)
            layer_1 = (layer_1 > 0) * layer_1
            if row.dropout:
                mask = np.random.randint(2, size=layer_1.shape)
                layer_1 *= mask * 2
            layer_2 = np.dot(layer_1, weights_1_2)
            error += np.sum((layer_2 - target) ** 2)
            for k in range(row.updates_per_batch):
                correct += int(np.argmax(layer_2[k : k + 1]) == np.argmax(target[k : k + 1]))
                layer_2_delta = (layer_2 - target) / size
                layer_1_delta = layer_2_delta.dot(weights_1_2.T) * (layer_1 >= 0)
                if row.dropout:
                    layer_1_delta *= mask
                weights_1_2[...] -= alpha * layer_1.T.dot(layer_2_delta)
                weights_0_1[...] -= alpha * layer_0.T.dot(layer_1_delta)

    return Side(run, lambda: [weights_0_1, weights_1_2])


def batches(work: Work) -> Side:
    """Multiply whole batches; where a batch is applied many times, by the collapsed algorithm."""
    row, images = work.row, work.floats()
    weights, biases = work.parameters()
    if row.evaluates:
        return evaluation(
            work, lambda: reference.predict(images, weights, biases if row.has_biases else None, output=row.output)
        )

    def run() -> None:
        reference.sgd_epoch(
            images,
            work.labels,
            weights,
            biases if row.has_biases else None,
            **row.settings,
            collapsed=row.updates_per_batch > 1,
        )

    return Side(run, lambda: [*weights, *biases])
