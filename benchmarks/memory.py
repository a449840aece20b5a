"""Peak memory of processes that hold 60,000 synthetic digits: what training adds is the difference to `Loaded`."""

import numpy as np

import fastmnist


class _Digits:
    version = "1"
    timeout = 180

    def setup_cache(self):
        (images, labels), _ = fastmnist.load_data("synthetic", seed=1, n_test=10)
        np.savez("digits.npz", images=images, labels=labels)

    def setup(self):
        with np.load("digits.npz") as digits:
            self.images, self.labels = digits["images"], digits["labels"]


class Loaded(_Digits):
    """The baseline: the package imported in full, the digits loaded."""

    def peakmem_digits(self):
        fastmnist.pack(self.images[:100])


class Training(_Digits):
    """One epoch of row E."""

    def peakmem_epoch(self):
        network = fastmnist.Network((784, 400, 20, 10), optimizer="sgd")
        network.train_epoch(self.images, self.labels, batch_size=200, learning_rate=0.01)
