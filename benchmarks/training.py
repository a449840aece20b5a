"""One epoch of each row over 10,000 synthetic digits, evaluation, what threads add, and what the training leads to."""

from itertools import pairwise
from typing import Any

import numpy as np

import fastmnist

_SCRIPT = {"relu_gradient": "straight-through"}
_KERAS = {"learning_rate": 0.01, "batch_size": 200, "output": "softmax"}
# Row A is row B on a thousand images. E-dense has no input that is zero, E-whole but one batch.
ROWS = {
    "A": ((784, 40, 10), "float64", {"learning_rate": 0.005, **_SCRIPT}),
    "B": ((784, 40, 10), "float64", {"learning_rate": 0.005, **_SCRIPT}),
    "C": ((784, 100, 10), "float64", {"learning_rate": 0.005, "dropout": 0.5, **_SCRIPT}),
    "D": (
        (784, 100, 10),
        "float64",
        {"learning_rate": 0.001, "dropout": 0.5, "batch_size": 100, "updates_per_batch": 100, **_SCRIPT},
    ),
    "E": ((784, 400, 20, 10), "float32", _KERAS),
    "E-dense": ((784, 400, 20, 10), "float32", _KERAS),
    "E-whole": ((784, 400, 20, 10), "float32", {**_KERAS, "batch_size": 10_000}),
}


class _Row:
    version = "2"
    timeout = 180
    params: tuple[Any, ...] = tuple(ROWS)
    param_names: tuple[str, ...] = ("row",)
    # Training changes the weights, and setup has compiled: every sample is one call.
    number = 1
    warmup_time = 0.0
    rounds = 4
    repeat = (5, 20, 2.0)

    def setup_cache(self):
        return fastmnist.load_data("synthetic", seed=1, n_train=10_000, n_test=2_000)

    def setup(self, digits, row):
        sizes, dtype, self.options = ROWS[row]
        (x_train, self.y_train), (x_test, self.y_test) = digits
        if row == "A":
            x_train, self.y_train = x_train[:1_000], self.y_train[:1_000]
        if row == "E-dense":
            x_train, x_test = (((x / 255 - 0.13) / 0.31).astype(dtype) for x in (x_train, x_test))
        self.x_train, self.x_test = fastmnist.pack(x_train), fastmnist.pack(x_test)
        rng = np.random.default_rng(1)
        limits = [np.sqrt(6 / (i + o)) if dtype == "float32" else 0.1 for i, o in pairwise(sizes)]
        self.weights = [rng.uniform(-a, a, s).astype(dtype) for a, s in zip(limits, pairwise(sizes), strict=True)]
        self.biases = [np.zeros(n, dtype) for n in sizes[1:]] if dtype == "float32" else None
        self.epoch()
        self.evaluate()

    def epoch(self, threads=None):
        return fastmnist.sgd_epoch(
            self.x_train, self.y_train, self.weights, self.biases, rng=1, threads=threads, **self.options
        )

    def evaluate(self):
        output = self.options.get("output", "linear")
        return fastmnist.evaluate(self.x_test, self.y_test, self.weights, self.biases, output=output)


class Speed(_Row):
    def time_epoch(self, digits, row):
        self.epoch()

    def time_evaluate(self, digits, row):
        self.evaluate()


class Threads(_Row):
    """What a second thread is worth within one training."""

    params = (("B", "E"), (1, 2))
    param_names = ("row", "threads")

    def setup(self, digits, row, threads):
        super().setup(digits, row)

    def time_epoch(self, digits, row, threads):
        self.epoch(threads)


class Many(_Row):
    """What a second thread is worth for eight independent trainings of row B."""

    params = (1, 2)
    param_names = ("threads",)

    def setup(self, digits, threads):
        super().setup(digits, "B")
        self.networks = [[w.copy() for w in self.weights] for _ in range(8)]

    def time_epoch(self, digits, threads):
        fastmnist.sgd_many(self.x_train, self.y_train, self.networks, threads=threads, **self.options)


class Accuracy(_Row):
    """After three epochs: a change of speed that changes this is no change of speed alone."""

    params = ("B", "C", "D", "E")
    unit = "share"

    def track_test_accuracy(self, digits, row):
        self.epoch()
        self.epoch()
        return self.evaluate()[1] / len(self.y_test)


class Loss(_Row):
    """Of the second epoch."""

    params = ("B", "C", "D", "E")
    unit = "squared error"

    def track_final_loss(self, digits, row):
        return self.epoch()[0] / len(self.y_train)


class Network(_Row):
    """What ``fastmnist train`` calls, float32, by optimiser."""

    params = ("sgd", "momentum", "nesterov", "rmsprop", "adam")
    param_names = ("optimizer",)

    def setup(self, digits, optimizer):
        (self.x_train, self.y_train), _ = digits
        self.x_train = fastmnist.pack(self.x_train)
        self.network = fastmnist.Network((784, 512, 10), optimizer=optimizer, dropout=0.3)
        self.time_epoch(digits, optimizer)

    def time_epoch(self, digits, optimizer):
        self.network.train_epoch(self.x_train, self.y_train, batch_size=200, learning_rate=0.001)
