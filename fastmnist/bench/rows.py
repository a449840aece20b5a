"""The pieces of work that are timed, and the data for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastmnist import reference

Array = NDArray[Any]
Dataset = tuple[tuple[NDArray[np.uint8], NDArray[np.uint8]], tuple[NDArray[np.uint8], NDArray[np.uint8]]]


@dataclass(frozen=True)
class Row:
    """One epoch of training, of one network or of several independent ones, or one evaluation.

    Networks with a linear output are those of the NumPy scripts: no biases, squared error, a ReLU whose gradient passes
    straight through. Networks with a softmax output have biases, cross-entropy and the true gradient.
    """

    title: str
    sizes: tuple[int, ...]
    images: int
    dtype: str
    batch_size: int = 1
    learning_rate: float = 0.0
    dropout: float = 0.0
    updates_per_batch: int = 1
    output: str = "linear"
    dense: bool = False
    """Whether the pixels are standardised (mean 0, standard deviation 1), which leaves no zeros."""
    evaluates: bool = False
    """Whether test images are evaluated; otherwise one epoch is trained."""
    trainings: int = 1
    """Networks trained on the same images, each from weights of its own."""

    @property
    def has_biases(self) -> bool:
        """Whether the network has biases."""
        return self.output == "softmax"

    @property
    def per_sample(self) -> bool:
        """Whether times are told per sample, not for the whole epoch."""
        return self.batch_size == 1 and self.trainings == 1 and not self.evaluates

    @property
    def settings(self) -> dict[str, Any]:
        """What `sgd_epoch` and its definition in NumPy are told."""
        return {
            "learning_rate": self.learning_rate,
            "batch_size": self.batch_size,
            "output": self.output,
            "relu_gradient": "relu" if self.has_biases else "straight-through",
            "dropout": self.dropout,
            "updates_per_batch": self.updates_per_batch,
        }

    def flops(self, density: float) -> float:
        """Operations per sample, counting only those that inputs other than zero need.

        Two for each weight and product: forward, and in training also the gradient, and above the first layer the
        errors of the layer below. Repeated updates count once, as they collapse into one. The update of the weights
        itself is left out.
        """
        first, *above = (i * o for i, o in pairwise(self.sizes))
        if self.evaluates:
            return 2 * density * first + 2 * sum(above)
        return self.trainings * (4 * density * first + 6 * sum(above))


_SCRIPT_B = Row("per sample, 784-40-10", (784, 40, 10), 10_000, "float64", learning_rate=0.005)
_SCRIPT_C = Row("per sample, dropout, 784-100-10", (784, 100, 10), 10_000, "float64", learning_rate=0.005, dropout=0.5)
_KERAS_E = Row(
    "batches of 200, 784-400-20-10",
    (784, 400, 20, 10),
    60_000,
    "float32",
    batch_size=200,
    learning_rate=0.01,
    output="softmax",
)

ROWS = {
    "A": replace(_SCRIPT_B, title="per sample, 784-40-10, 1,000 images", images=1_000),
    "B": _SCRIPT_B,
    "B32": replace(_SCRIPT_B, dtype="float32"),
    "B-MANY": replace(_SCRIPT_B, title="8 trainings at once, 784-40-10", trainings=8),
    "C": _SCRIPT_C,
    "C32": replace(_SCRIPT_C, dtype="float32"),
    "D": Row(
        "batches of 100, dropout, 100 updates each, 784-100-10",
        (784, 100, 10),
        10_000,
        "float64",
        batch_size=100,
        learning_rate=0.001,
        dropout=0.5,
        updates_per_batch=100,
    ),
    "E": _KERAS_E,
    "E-DENSE": replace(_KERAS_E, title="the same, no input zero", dense=True),
    "B-TEST": replace(_SCRIPT_B, title="evaluation, 784-40-10", evaluates=True),
    "E-TEST": replace(_KERAS_E, title="evaluation, 784-400-20-10", images=10_000, evaluates=True),
}


class Work(NamedTuple):
    """A row's network and the first images of its data: what a peer is given.

    `images` are uint8 or, where the row is dense, of the row's dtype; shape (N, I). The weights of several networks
    follow one another. Nothing in here may be changed.
    """

    row: Row
    images: Array
    labels: NDArray[np.uint8]
    weights: list[Array]
    biases: list[Array] | None
    threads: int

    def first(self, n: int) -> Work:
        """Return the work on the first n images alone."""
        return self._replace(images=self.images[:n], labels=self.labels[:n])

    def floats(self) -> Array:
        """Images as numbers of the row's dtype."""
        return self.images if self.row.dense else self.images / np.dtype(self.row.dtype).type(255)

    def targets(self) -> Array:
        """One-hot rows."""
        return reference.one_hot(self.labels, self.row.sizes[-1], np.dtype(self.row.dtype))

    def parameters(self) -> tuple[list[Array], list[Array]]:
        """Return copies of the weights and of the biases, if any."""
        return [w.copy() for w in self.weights], [b.copy() for b in self.biases or ()]

    def networks(self) -> list[list[Array]]:
        """Return the weights network by network; not copies."""
        layers = len(self.row.sizes) - 1
        return [self.weights[k : k + layers] for k in range(0, len(self.weights), layers)]

    def draw_masks(self) -> Array | None:
        """Draw an epoch's dropout masks from NumPy's global stream, all at once: the scripts draw the same ones."""
        if not self.row.dropout:
            return None
        kept: Array = np.random.randint(2, size=(len(self.images), self.row.sizes[1]))
        return kept.astype(self.row.dtype)


class Side(NamedTuple):
    """A peer at a piece of work: `run` does it once more, `result` is what has come of it.

    The result of training is the weights, then the biases; that of evaluation the squared error and the correct count.
    """

    run: Callable[[], object]
    result: Callable[[], list[Array]]


def evaluation(work: Work, outputs: Callable[[], Array]) -> Side:
    """Evaluate with a function that computes the outputs of all images."""
    targets, last = work.targets(), list[Array]()

    def run() -> None:
        o = outputs()
        correct = np.count_nonzero(o.argmax(axis=1) == work.labels)
        last[:] = [np.array([np.sum((o - targets) ** 2)]), np.array([correct])]

    return Side(run, lambda: last)


def work_for(row: Row, dataset: Dataset, limit: int | None, threads: int) -> Work:
    """Take a row's images, at most `limit`, and draw the weights that training starts from."""
    images, labels = dataset[row.evaluates]
    n = min(row.images, limit or row.images, len(images))
    x: Array = images[:n].reshape(n, -1)
    if row.dense:
        mean, deviation = x.mean() / 255, x.std() / 255
        x = ((x / 255 - mean) / deviation).astype(row.dtype)
    rng = np.random.default_rng(1)
    # The scripts' small uniform weights; and Glorot's, Keras's default, where there are biases.
    limits = [np.sqrt(6 / (i + o)) if row.has_biases else 0.1 for i, o in pairwise(row.sizes)]
    weights = [
        rng.uniform(-a, a, shape).astype(row.dtype)
        for _ in range(row.trainings)
        for a, shape in zip(limits, pairwise(row.sizes), strict=True)
    ]
    biases = [np.zeros(o, row.dtype) for o in row.sizes[1:]] if row.has_biases else None
    return Work(row, x, labels[:n], weights, biases, threads)
