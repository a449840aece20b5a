"""One epoch over 10,000 synthetic digits, evaluation, and the accuracy that training leads to."""

import numpy as np

import fastmnist

# Layer sizes and settings of the original programs, by the names of their rows.
ROWS = {
    "B": (40, {"learning_rate": 0.005}),
    "C": (100, {"learning_rate": 0.005, "dropout": 0.5}),
    "D": (100, {"learning_rate": 0.001, "dropout": 0.5, "batch_size": 100, "updates_per_batch": 100}),
}


class _Digits:
    version = "1"
    timeout = 180
    # Training changes the weights, and setup has compiled: every sample is one call.
    number = 1
    warmup_time = 0.0

    def load(self):
        (x_train, self.y_train), (x_test, self.y_test) = fastmnist.load_data(
            "synthetic", seed=1, n_train=10_000, n_test=2_000
        )
        self.x_train, self.x_test = fastmnist.pack(x_train), fastmnist.pack(x_test)


class Scripts(_Digits):
    """What the original programs call, float64."""

    params = tuple(ROWS)
    param_names = ("row",)

    def setup(self, row):
        self.load()
        hidden, self.options = ROWS[row]
        rng = np.random.default_rng(1)
        self.weights = [0.2 * rng.random(shape) - 0.1 for shape in ((784, hidden), (hidden, 10))]
        self.time_epoch(row)
        self.time_evaluate(row)

    def time_epoch(self, row):
        fastmnist.sgd_epoch(
            self.x_train, self.y_train, self.weights, relu_gradient="straight-through", rng=1, **self.options
        )

    def time_evaluate(self, row):
        fastmnist.evaluate(self.x_test, self.y_test, self.weights)


class Network(_Digits):
    """What ``fastmnist train`` calls, float32."""

    def setup(self):
        self.load()
        self.network = fastmnist.Network((784, 400, 20, 10), optimizer="sgd")
        self.time_epoch()
        self.time_evaluate()

    def time_epoch(self):
        self.network.train_epoch(self.x_train, self.y_train, batch_size=200, learning_rate=0.01)

    def time_evaluate(self):
        self.network.evaluate(self.x_test, self.y_test)


class Accuracy(_Digits):
    """What the speed is worth: the share of test digits that three epochs of Adam get right."""

    unit = "share"

    def setup(self):
        self.load()

    def track_test_accuracy(self):
        network = fastmnist.Network((784, 100, 10), optimizer="adam", seed=1)
        for _ in range(3):
            network.train_epoch(self.x_train, self.y_train)
        _, correct = network.evaluate(self.x_test, self.y_test)
        return correct / len(self.y_test)
