"""scikit-learn's `MLPClassifier`."""

import numpy as np
from sklearn.neural_network import MLPClassifier

from fastmnist.bench.rows import Side, Work, evaluation


def mlp_classifier(work: Work) -> Side:
    """Train with `partial_fit`, which makes one pass over the data."""
    row, images = work.row, work.floats()
    model = MLPClassifier(
        row.sizes[1:-1],
        solver="sgd",
        batch_size=row.batch_size,
        learning_rate_init=row.learning_rate,
        alpha=0,
        momentum=0,
        nesterovs_momentum=False,
        shuffle=False,
    )
    # A first call makes the arrays, which then get the weights to start from.
    model.partial_fit(images[: row.batch_size], work.labels[: row.batch_size], classes=np.arange(row.sizes[-1]))
    weights, biases = work.parameters()
    for to, start in zip([*model.coefs_, *model.intercepts_], [*weights, *biases], strict=True):
        to[...] = start
    if row.evaluates:
        return evaluation(work, lambda: np.asarray(model.predict_proba(images)))
    return Side(lambda: model.partial_fit(images, work.labels), lambda: [*model.coefs_, *model.intercepts_])
