"""A network that keeps its weights and its optimiser's state from epoch to epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmnist import spec
from fastmnist.engine.draws import Draws
from fastmnist.engine.flat import FlatNetwork, truth_of
from fastmnist.engine.memory import Floats
from fastmnist.engine.packing import Packed, as_packed

# Keras 3's defaults.
_OPTIMIZERS = {
    "sgd": spec.Optimizer("sgd"),
    "momentum": spec.Optimizer("momentum", decay_1=0.9),
    "nesterov": spec.Optimizer("nesterov", decay_1=0.9),
    "rmsprop": spec.Optimizer("rmsprop", decay_2=0.9),
    "adam": spec.Optimizer("adam", decay_1=0.9, decay_2=0.999),
}


class Network:
    """A dense network and its optimiser, trained with shuffled mini-batches.

    Parameters
    ----------
    sizes : sequence of int
        Units per layer, inputs first: ``(784, 256, 10)``.
    activation : str, default "relu"
        "linear", "relu", "sigmoid" or "tanh", for the hidden layers.
    output : str, default "softmax"
        One of these, or "softmax".
    loss : {"cross_entropy", "squared_error"}, default "cross_entropy"
        Cross-entropy needs a softmax or sigmoid output. The squared error's gradient is taken as ``(o - t) * f'(o)``.
    dropout : float, default 0
        Share of hidden units dropped in training, in [0, 1).
    optimizer : {"adam", "sgd", "momentum", "nesterov", "rmsprop"}, default "adam"
        Update rule, with Keras 3's constants (momentum 0.9; Adam 0.9, 0.999; rho 0.9; epsilon 1e-7).
    dtype : {"float32", "float64"}, default "float32"
        What weights are stored and computed in.
    seed : int, default 0
        Seeds the initial weights (He's normal distribution for ReLU, Glorot's uniform one otherwise; zero biases), the
        order of the samples and the dropout draws.
    threads : int, optional
        Threads to use; results do not depend on it. Default: all of Numba's.

    Attributes
    ----------
    sizes : tuple of int
    weights : list of ndarray, shape (I, O)
        Copies; assign a list to replace them.
    biases : list of ndarray, shape (O,)
        Likewise.
    epochs : int
        Epochs trained so far.

    Examples
    --------
    >>> import numpy as np, fastmnist as fm
    >>> net = fm.Network([4, 8, 2], seed=1)
    >>> x, y = np.eye(4), np.array([0, 1, 0, 1])
    >>> for _ in range(100):
    ...     loss, correct = net.train_epoch(x, y, batch_size=2, learning_rate=0.01)
    >>> correct
    4
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        activation: str = "relu",
        output: str = "softmax",
        loss: str = "cross_entropy",
        dropout: float = 0.0,
        optimizer: str = "adam",
        dtype: str = "float32",
        seed: int = 0,
        threads: int | None = None,
    ) -> None:
        if len(sizes) < 2 or any(isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1 for n in sizes):
            raise ValueError(f"sizes is {tuple(sizes)}; whole numbers from 1 are wanted, inputs and outputs at least.")
        spec.require_one_of("activation", activation, spec.HIDDEN_ACTIVATIONS)
        spec.require_one_of("output", output, spec.ACTIVATIONS)
        spec.require_one_of("loss", loss, spec.LOSSES)
        spec.require_one_of("optimizer", optimizer, spec.OPTIMIZERS)
        spec.require_one_of("dtype", dtype, ("float32", "float64"))
        if loss == "cross_entropy" and output not in ("softmax", "sigmoid"):
            raise ValueError(f'loss "cross_entropy" needs output "softmax" or "sigmoid", not {output!r}.')
        self.sizes = tuple(int(n) for n in sizes)
        self.epochs = 0
        self._steps = 0
        self._seed = seed
        self._loss = loss
        self._optimizer = _OPTIMIZERS[optimizer]
        self._threads = threads
        layers = [spec.Layer(n, activation, dropout=dropout) for n in self.sizes[1:-1]]
        layers.append(spec.Layer(self.sizes[-1], output))
        self._flat = FlatNetwork(self.sizes[0], layers, np.dtype(dtype))
        self._random = np.random.default_rng(seed)
        self.weights = [
            _initial(self._random, i, o, activation) for i, o in zip(self.sizes, self.sizes[1:], strict=False)
        ]

    @property
    def weights(self) -> list[Floats]:
        """Weights of each layer, (I, O)."""
        return self._parameters()[0]

    @weights.setter
    def weights(self, weights: Sequence[ArrayLike]) -> None:
        self._replace(weights, self.biases)

    @property
    def biases(self) -> list[Floats]:
        """Biases of each layer, (O,)."""
        return self._parameters()[1]

    @biases.setter
    def biases(self, biases: Sequence[ArrayLike]) -> None:
        self._replace(self.weights, biases)

    def _parameters(self) -> tuple[list[Floats], list[Floats]]:
        dtype = self._flat.dtype
        weights = [np.empty((i, o), dtype) for i, o in zip(self.sizes, self.sizes[1:], strict=False)]
        biases = [np.empty(o, dtype) for o in self.sizes[1:]]
        self._flat.get(weights, biases)
        return weights, biases

    def _replace(self, weights: Sequence[ArrayLike], biases: Sequence[ArrayLike]) -> None:
        new_weights = [np.asarray(w, self._flat.dtype) for w in weights]
        new_biases = [np.asarray(b, self._flat.dtype) for b in biases]
        got = [w.shape for w in new_weights], [b.shape for b in new_biases]
        wanted = list(zip(self.sizes, self.sizes[1:], strict=False)), [(o,) for o in self.sizes[1:]]
        if got != wanted:
            raise ValueError(f"weights and biases have shapes {got}; this network has {wanted}.")
        self._flat.set(new_weights, new_biases)

    def train_epoch(
        self,
        images: ArrayLike | Packed,
        labels: ArrayLike,
        *,
        batch_size: int = 100,
        learning_rate: float | ArrayLike = 0.001,
        shuffle: bool = True,
        progress: Callable[[int], None] | None = None,
    ) -> tuple[float, int]:
        """Train for one epoch.

        Parameters
        ----------
        images, labels
            As for `fastmnist.sgd_epoch`.
        batch_size : int, default 100
            Samples per step, at most N; a last batch that is not full is trained too.
        learning_rate : float or ndarray, shape (steps,), default 0.001
            One rate, or one for each step of the epoch.
        shuffle : bool, default True
            Draw a new order of the samples.
        progress : callable, optional
            Called with the number of samples done, several times a second. May raise to stop.

        Returns
        -------
        loss : float
            Mean loss of the outputs before each update.
        correct : int
            Correct outputs before each update.
        """
        packed = self._images(images)
        n = len(packed)
        if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or not 1 <= batch_size <= n:
            raise ValueError(
                f"batch_size is {batch_size!r}; a whole number from 1 to {n}, the number of images, is wanted."
            )
        truth = truth_of(labels, n, self.sizes[-1], self._flat.dtype)
        steps = -(-n // batch_size)
        rates = np.asarray(learning_rate)
        if rates.dtype.kind not in "iuf" or rates.shape not in ((), (steps,)):
            raise ValueError(
                f"learning_rate is {learning_rate!r}; a number is wanted, or one for each of {steps} steps."
            )
        if not (rates >= 0).all() or not np.isfinite(rates).all():
            raise ValueError(f"learning_rate is {learning_rate!r}; finite numbers from 0 are wanted.")
        totals = self._flat.train(
            packed,
            truth,
            batch_size=int(batch_size),
            rates=np.broadcast_to(rates, steps).astype(np.float64),
            optimizer=self._optimizer,
            loss=self._loss,
            order=self._random.permutation(n) if shuffle else None,
            steps_before=self._steps,
            draws=Draws(self._seed, epoch=self.epochs),
            threads=self._threads,
            progress=progress,
        )
        self.epochs += 1
        self._steps += steps
        return self._mean_loss(totals.squared, totals.entropy, n), totals.correct

    def _mean_loss(self, squared: float, entropy: float, n: int) -> float:
        return (entropy if self._loss == "cross_entropy" else squared) / n

    def evaluate(self, images: ArrayLike | Packed, labels: ArrayLike) -> tuple[float, int]:
        """Mean loss and number of correct outputs, without dropout."""
        packed = self._images(images)
        truth = truth_of(labels, len(packed), self.sizes[-1], self._flat.dtype)
        scores, _ = self._flat.infer(packed, truth, self._threads)
        squared, entropy, correct, _ = scores.sum(axis=0).tolist()
        return self._mean_loss(squared, entropy, len(packed)), int(correct)

    def predict(self, images: ArrayLike | Packed) -> Floats:
        """Return the outputs, shape (N, O)."""
        return self._flat.infer(self._images(images), None, self._threads, want_outputs=True)[1]

    def save(self, path: str | Path) -> None:
        """Write the weights to an npz file: ``weights_0``, ``biases_0``, ``weights_1``, ..."""
        weights, biases = self._parameters()
        arrays = {f"weights_{k}": w for k, w in enumerate(weights)}
        arrays |= {f"biases_{k}": b for k, b in enumerate(biases)}
        np.savez(path, allow_pickle=False, **arrays)

    def _images(self, images: ArrayLike | Packed) -> Packed:
        packed = as_packed(images, self._threads)
        if packed.shape[1] != self.sizes[0]:
            raise ValueError(f"images have {packed.shape[1]} inputs each; this network takes {self.sizes[0]}.")
        return packed


def _initial(random: np.random.Generator, n_in: int, n_out: int, activation: str) -> NDArray[np.float64]:
    if activation == "relu":
        return random.normal(0, np.sqrt(2 / n_in), (n_in, n_out))  # He et al., 2015
    limit = np.sqrt(6 / (n_in + n_out))
    return random.uniform(-limit, limit, (n_in, n_out))  # Glorot and Bengio, 2010
