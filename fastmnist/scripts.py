"""The functions that a NumPy training script calls: one epoch, an evaluation, a prediction.

They mirror what such scripts compute, number for number, including what is mathematically odd about them: see
`relu_gradient`, `dropout_gradient` and `updates_per_batch` of `sgd_epoch`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmnist import engine, spec
from fastmnist.engine import Packed, Rng

Arrays = Sequence[NDArray[np.floating[Any]]]

_FLOATS = {np.dtype(np.float32), np.dtype(np.float64)}
_PLAIN = spec.Optimizer("sgd")


def sgd_epoch(
    images: ArrayLike | Packed,
    labels: ArrayLike,
    weights: Arrays,
    biases: Arrays | None = None,
    *,
    learning_rate: float,
    batch_size: int = 1,
    activation: str | Sequence[str] = "relu",
    output: str = "linear",
    loss: Literal["squared_error", "cross_entropy"] | None = None,
    relu_gradient: Literal["relu", "straight-through"] = "relu",
    dropout: float | Sequence[float] = 0.0,
    dropout_gradient: Literal["scaled", "mask", "value"] | None = None,
    dropout_draw: Literal["auto", "integers", "keep-below", "drop-below"] = "auto",
    rng: Rng = None,
    updates_per_batch: int = 1,
    drop_last: bool = False,
    threads: int | None = None,
) -> tuple[float, int]:
    """Train for one epoch of plain SGD, in the order given, updating the weights in place.

    Parameters
    ----------
    images : ndarray or Packed
        Shape (N, I), float32 or float64; or uint8 of shape (N, I) or (N, 28, 28), read as value / 255. `pack` prepares
        them once for many epochs; the packing of a plain array is remembered, and made anew when a byte of it changes.
    labels : ndarray
        Shape (N,), integers; or (N, O), target vectors.
    weights : list of ndarray
        Shape (I, H1), (H1, H2), ..., (H, O), all float32 or all float64, which is also what is computed in. Updated in
        place.
    biases : list of ndarray, optional
        Shape (H1,), ..., (O,), of the same dtype. Updated in place. Default: none.
    learning_rate : float
        Step size, 0 or more.
    batch_size : int, default 1
        Samples whose mean gradient makes one step; 1 is per-sample SGD. At most N.
    activation : str or list of str, default "relu"
        "linear", "relu", "sigmoid" or "tanh", for all hidden layers or for each.
    output : str, default "linear"
        One of these, or "softmax".
    loss : {"squared_error", "cross_entropy"}, optional
        What is descended: half the squared error, as ``(o - t) * f'(o)`` in the scripts, or the cross-entropy of a
        softmax or sigmoid output, ``o - t``. Default: cross-entropy for softmax, else squared error.
    relu_gradient : {"relu", "straight-through"}, default "relu"
        "straight-through" is what scripts compute that ask ``x >= 0`` of a value that ReLU has clipped already: always
        true, so the gradient passes through dead units.
    dropout : float or list of float, default 0
        Share of hidden units dropped, in [0, 1), for all hidden layers or for each; what is kept is divided by
        ``1 - dropout``.
    dropout_gradient : {"scaled", "mask", "value"}, optional
        "scaled" is the gradient of that. Many scripts take the activation's derivative at the scaled value instead, and
        multiply the gradient by the mask alone ("mask") or by the scaled mask ("value"). Default: "mask" with
        straight-through ReLU, else "scaled".
    dropout_draw : {"auto", "integers", "keep-below", "drop-below"}, default "auto"
        ``randint(2)`` (1 keeps; rate 0.5 only), ``random() < 1 - dropout`` keeps, or ``random() < dropout`` drops.
        "auto" is "integers" if every rate is 0.5 or 0, else "drop-below". Draws are made batch by batch, then layer by
        layer.
    rng : None, int, numpy.random.RandomState or numpy.random.Generator
        Where draws come from, and are left where NumPy's own calls would have left it. None is NumPy's global legacy
        stream. An int seeds a counter-based stream of our own (`dropout_draw` has no say in it).
    updates_per_batch : int, default 1
        Updates from one batch's outputs: scripts that update inside a loop over the rows of the batch repeat the step
        with outputs and hidden values as they were, while the upper weights move.
    drop_last : bool, default False
        Leave out a last batch that is not full.
    threads : int, optional
        Threads to use; the result does not depend on it. Default: all of Numba's.

    Returns
    -------
    error : float
        Sum of squared errors, ``sum((o - t)**2)``, of the outputs before each update, whatever the loss.
    correct : int
        Outputs whose argmax is the target's, before each update; the first of equals counts.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; nothing has been changed then.

    Examples
    --------
    >>> import numpy as np, fastmnist as fm
    >>> images, labels = np.eye(4), np.arange(4) % 2
    >>> random = np.random.default_rng(0)
    >>> weights = [random.random((4, 8)) - 0.5, random.random((8, 2)) - 0.5]
    >>> for _ in range(100):
    ...     error, correct = fm.sgd_epoch(images, labels, weights, learning_rate=0.1)
    >>> error < 0.01, correct
    (True, 4)
    """
    totals = prepare(
        images, labels, weights, biases, threads,
        learning_rate=learning_rate, batch_size=batch_size, activation=activation, output=output, loss=loss,
        relu_gradient=relu_gradient, dropout=dropout, dropout_gradient=dropout_gradient, dropout_draw=dropout_draw,
        rng=rng, updates_per_batch=updates_per_batch, drop_last=drop_last,
    ).run(threads)  # fmt: skip
    return totals.squared, totals.correct


def sgd_many(
    images: ArrayLike | Packed,
    labels: ArrayLike,
    weights: Sequence[Arrays],
    biases: Sequence[Arrays] | None = None,
    *,
    learning_rate: float | Sequence[float],
    batch_size: int = 1,
    activation: str | Sequence[str] = "relu",
    output: str = "linear",
    loss: Literal["squared_error", "cross_entropy"] | None = None,
    relu_gradient: Literal["relu", "straight-through"] = "relu",
    dropout: float | Sequence[float] = 0.0,
    dropout_gradient: Literal["scaled", "mask", "value"] | None = None,
    dropout_draw: Literal["auto", "integers", "keep-below", "drop-below"] = "auto",
    rng: Sequence[Rng] | None = None,
    updates_per_batch: int = 1,
    drop_last: bool = False,
    threads: int | None = None,
) -> list[tuple[float, int]]:
    """Train many networks for one epoch on the same data: for seeds, sweeps and ensembles.

    Each network is trained by one thread, with the very bits that `sgd_epoch` gives it. That needs no thread to wait
    for another, which makes it the best use of many cores.

    Parameters
    ----------
    images, labels
        As for `sgd_epoch`; shared by all.
    weights : list of list of ndarray
        The weights of each network, of any sizes and dtypes. Updated in place.
    biases : list of list of ndarray, optional
        The biases of each. Default: none.
    learning_rate : float or list of float
        One for all, or one for each.
    rng : list, optional
        For dropout: a seed or a stream of its own for each network, see `sgd_epoch`.
    threads : int, optional
        Networks trained at a time. Default: all of Numba's threads.
    batch_size, activation, output, loss, relu_gradient, dropout, dropout_gradient, dropout_draw, updates_per_batch, \
drop_last
        As for `sgd_epoch`; the same for all.

    Returns
    -------
    list of tuple
        What `sgd_epoch` returns, for each network.

    Notes
    -----
    After Ctrl-C, networks whose training had begun hold what they had learnt by then.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; nothing has been changed then.

    Examples
    --------
    >>> import numpy as np, fastmnist as fm
    >>> images, labels = np.eye(4), np.arange(4) % 2
    >>> random = np.random.default_rng(0)
    >>> weights = [[random.random((4, 8)) - 0.5, random.random((8, 2)) - 0.5] for _ in range(3)]
    >>> for _ in range(100):
    ...     results = fm.sgd_many(images, labels, weights, learning_rate=[0.05, 0.1, 0.2])
    >>> [correct for error, correct in results]
    [4, 4, 4]
    """
    if not weights:
        raise ValueError("weights is empty; a list of weights for each network is wanted.")
    n = len(weights)
    rates: list[Any] = [learning_rate] * n if np.ndim(learning_rate) == 0 else list(cast(Any, learning_rate))
    if not isinstance(rng, Sequence | None):
        raise TypeError(f"rng is a {type(rng).__name__}; a list with a seed or a stream for each network is wanted.")
    streams = [None] * n if rng is None else list(rng)
    for name, given in ("biases", biases), ("learning_rate", rates), ("rng", streams):
        if given is not None and len(given) != n:
            raise ValueError(f"{name} has {len(given)} entries for {n} networks; one for each is wanted.")
    if np.any(dropout):
        _require_own_streams(streams)
    packed = engine.as_packed(images, threads)
    prepared: list[Prepared] = []
    for k in range(n):
        one = prepare(
            packed, labels, weights[k], None if biases is None else biases[k], threads,
            learning_rate=rates[k], batch_size=batch_size, activation=activation, output=output, loss=loss,
            relu_gradient=relu_gradient, dropout=dropout, dropout_gradient=dropout_gradient, dropout_draw=dropout_draw,
            rng=streams[k], updates_per_batch=updates_per_batch, drop_last=drop_last,
        )  # fmt: skip
        prepared.append(one)
    _require_own_memory(weights, biases or (), images)
    return [(totals.squared, totals.correct) for totals in engine.run_apart([one.run for one in prepared], threads)]


def evaluate(
    images: ArrayLike | Packed,
    labels: ArrayLike,
    weights: Arrays,
    biases: Arrays | None = None,
    *,
    activation: str | Sequence[str] = "relu",
    output: str = "linear",
    threads: int | None = None,
) -> tuple[float, int]:
    """Sum of squared errors and number of correct outputs, without dropout.

    Parameters and results are those of `sgd_epoch`; nothing is changed.
    """
    network = _network(weights, biases, activation, output)
    packed = _packed(images, network, threads)
    truth = engine.truth_of(labels, len(packed), network.layout.sizes[-1], network.dtype)
    network.set(weights, biases)
    scores, _ = network.infer(packed, truth, threads)
    engine.give_back(network)
    return float(scores[:, 0].sum()), int(scores[:, 2].sum())


def predict(
    images: ArrayLike | Packed,
    weights: Arrays,
    biases: Arrays | None = None,
    *,
    activation: str | Sequence[str] = "relu",
    output: str = "linear",
    threads: int | None = None,
) -> NDArray[np.floating[Any]]:
    """Return the outputs of the network, shape (N, O), in the dtype of the weights; parameters as for `sgd_epoch`."""
    network = _network(weights, biases, activation, output)
    packed = _packed(images, network, threads)
    network.set(weights, biases)
    _, outputs = network.infer(packed, None, threads, want_outputs=True)
    engine.give_back(network)
    return outputs


@dataclass(frozen=True)
class Prepared:
    """An epoch with all its arguments checked."""

    network: engine.FlatNetwork
    weights: Arrays
    biases: Arrays | None
    settings: dict[str, Any]
    velocities: tuple[Arrays, Arrays | None] | None = None  # what momentum has left for weights and biases

    def run(
        self, threads: int | None, progress: Callable[[int], None] | None = None, last: bool = True
    ) -> engine.Totals:
        """Train; what has been trained is written back even if that is interrupted.

        The `last` time, the network's memory is left to whoever comes next.
        """
        self.network.set(self.weights, self.biases)
        if self.velocities is not None:
            self.network.set_state(1, *self.velocities)
        try:
            totals = self.network.train(**self.settings, threads=threads, progress=progress)
        finally:
            self.network.get(self.weights, self.biases)
            if self.velocities is not None:
                self.network.state(1, *self.velocities)
        if last:
            engine.give_back(self.network)
        return totals


def prepare(
    images: ArrayLike | Packed,
    labels: ArrayLike,
    weights: Arrays,
    biases: Arrays | None,
    threads: int | None,
    *,
    learning_rate: float,
    batch_size: int,
    activation: str | Sequence[str],
    output: str,
    loss: str | None,
    relu_gradient: str,
    dropout: float | Sequence[float],
    dropout_gradient: str | None,
    dropout_draw: str,
    rng: Rng,
    updates_per_batch: int,
    drop_last: bool,
    order: NDArray[np.int64] | None = None,
    l2: Sequence[tuple[float, float]] | None = None,
    optimizer: spec.Optimizer = _PLAIN,
    velocities: tuple[Arrays, Arrays | None] | None = None,
) -> Prepared:
    """Check the arguments of `sgd_epoch`.

    `order` lists the images to train on, if not all as they come; `l2` penalizes the weights and biases of each layer;
    `velocities`, updated with the weights and biases, are what an optimizer with momentum starts from.
    """
    n_hidden = len(weights) - 1
    rates = [dropout] * n_hidden if isinstance(dropout, int | float | np.number) else list(dropout)
    dropped = [_real("dropout", rate, "a share in [0, 1)", lambda v: 0 <= v < 1) for rate in rates]
    network = _network(weights, biases, activation, output, relu_gradient, dropped, l2)
    _require_own_memory([weights], [biases or ()], images)
    rate = _real("learning_rate", learning_rate, "0 or more", lambda v: v >= 0)
    if dropout_gradient is None:
        dropout_gradient = "mask" if relu_gradient == "straight-through" else "scaled"
    spec.require_one_of("dropout_gradient", dropout_gradient, ("scaled", "mask", "value"))
    loss_name = _loss(loss, output)
    repeats = _whole("updates_per_batch", updates_per_batch, 1)
    draws = engine.Draws(rng, _draw(dropout_draw, dropped, rng))
    packed = _packed(images, network, threads)
    batch = _whole("batch_size", batch_size, 1, len(packed))
    n = len(packed if order is None else order)
    steps = n // batch if drop_last else -(-n // batch)
    settings = {
        "packed": packed,
        "truth": engine.truth_of(labels, len(packed), network.layout.sizes[-1], network.dtype),
        "batch_size": batch,
        "rates": np.full(steps, rate),
        "optimizer": optimizer,
        "loss": loss_name,
        "repeats": repeats,
        "draws": draws,
        "dropout_gradient": dropout_gradient,
        "order": order,
    }
    return Prepared(network, weights, biases, settings, velocities)


def _packed(images: ArrayLike | Packed, network: engine.FlatNetwork, threads: int | None) -> Packed:
    packed = engine.as_packed(images, threads)
    n_inputs = network.layout.sizes[0]
    if packed.shape[1] != n_inputs:
        raise ValueError(
            f"images have {packed.shape[1]} inputs each, but weights[0] has {n_inputs} rows: they must agree."
        )
    return packed


def _network(
    weights: Arrays,
    biases: Arrays | None,
    activation: str | Sequence[str],
    output: str,
    relu_gradient: str = "relu",
    dropout: Sequence[float] | None = None,
    l2: Sequence[tuple[float, float]] | None = None,
) -> engine.FlatNetwork:
    """Check weights and biases against one another, and make room for them."""
    hidden = _hidden_activations(activation, len(weights) - 1)
    spec.require_one_of("output", output, spec.ACTIVATIONS)
    spec.require_one_of("relu_gradient", relu_gradient, ("relu", "straight-through"))
    arrays = [*weights, *(biases or ())]
    for k, w in enumerate(weights):
        if not isinstance(w, np.ndarray) or w.ndim != 2 or 0 in w.shape:
            raise ValueError(f"weights[{k}] is {_describe(w)}; a two-dimensional array, not empty, is wanted.")
        if k and w.shape[0] != weights[k - 1].shape[1]:
            raise ValueError(
                f"weights[{k}] has shape {w.shape}, but weights[{k - 1}] has {weights[k - 1].shape[1]} columns: "
                "the rows of each must match the columns of the one before."
            )
    if biases is not None and len(biases) != len(weights):
        raise ValueError(f"there are {len(biases)} biases for {len(weights)} weights; one for each is wanted.")
    for k, b in enumerate(biases or ()):
        if not isinstance(b, np.ndarray) or b.shape != weights[k].shape[1:]:
            raise ValueError(f"biases[{k}] is {_describe(b)}; shape {weights[k].shape[1:]} is wanted.")
    dtypes = {a.dtype for a in arrays}
    if len(dtypes) > 1 or not dtypes <= _FLOATS:
        raise TypeError(
            f"weights and biases have dtypes {', '.join(sorted(map(str, dtypes)))}; all must be float32, or all "
            "float64. Try .astype('float64')."
        )
    with_biases = biases is not None
    rates = [0.0] * len(hidden) if dropout is None else dropout
    if len(rates) != len(hidden):
        raise ValueError(
            f"{len(rates)} shares of dropout are given for {len(hidden)} hidden layers; one for each is wanted."
        )
    penalties = [(0.0, 0.0)] * len(weights) if l2 is None else l2
    units = tuple(w.shape[1] for w in weights)
    layers = _layers(units, (*hidden, output), with_biases, (*rates, 0.0), tuple(penalties))
    return engine.borrow(weights[0].shape[0], layers, arrays[0].dtype, relu_gradient == "straight-through")


@lru_cache
def _layers(
    units: tuple[int, ...],
    activations: tuple[str, ...],
    biases: bool,
    rates: tuple[float, ...],
    l2: tuple[tuple[float, float], ...],
) -> tuple[spec.Layer, ...]:
    parts = zip(units, activations, rates, l2, strict=True)
    return tuple(spec.Layer(n, name, biases, rate, l2=w, bias_l2=b) for n, name, rate, (w, b) in parts)


def _describe(value: object) -> str:
    return f"an array of shape {value.shape}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"


def _require_own_memory(weights: Sequence[Arrays], biases: Sequence[Arrays], images: ArrayLike | Packed) -> None:
    """Refuse arrays that cannot be updated in place, or whose update would change another one."""
    networks = range(len(weights))
    named = [
        (f"{kind}[{layer}]" + (f" of network {network}" if len(networks) > 1 else ""), a)
        for kind, lists in (("weights", weights), ("biases", biases))
        for network, arrays in zip(networks, lists, strict=False)
        for layer, a in enumerate(arrays or ())
    ]
    for name, a in named:
        if not a.flags.writeable:
            raise ValueError(f"{name} is read-only, and training updates it in place; pass a copy.")
    if isinstance(images, np.ndarray):
        named.append(("images", images))
    # Only neighbours in memory can overlap, so that a thousand networks take no million comparisons.
    spans = sorted((*np.lib.array_utils.byte_bounds(a), k) for k, (_, a) in enumerate(named))
    reach: list[tuple[int, int]] = []
    for start, end, k in spans:
        reach = [(other_end, j) for other_end, j in reach if other_end > start]
        for _, j in reach:
            (one, a), (two, b) = named[min(j, k)], named[max(j, k)]
            if np.shares_memory(a, b):
                raise ValueError(f"{one} and {two} share memory, and training updates weights in place; pass a copy.")
        reach.append((end, k))


def _hidden_activations(activation: str | Sequence[str], n_hidden: int) -> list[str]:
    if n_hidden < 0:
        raise ValueError("weights is empty; a list of at least one array is wanted.")
    names = [activation] * n_hidden if isinstance(activation, str) else list(activation)
    if isinstance(activation, str):
        spec.require_one_of("activation", activation, spec.HIDDEN_ACTIVATIONS)
    if len(names) != n_hidden:
        raise ValueError(f"{len(names)} activations are given for {n_hidden} hidden layers; one for each is wanted.")
    for name in names:
        spec.require_one_of("activation", name, spec.HIDDEN_ACTIVATIONS)
    return names


def _loss(loss: str | None, output: str) -> str:
    if loss is None:
        loss = "cross_entropy" if output == "softmax" else "squared_error"
    spec.require_one_of("loss", loss, tuple(spec.LOSSES))
    if loss == "cross_entropy" and output not in ("softmax", "sigmoid"):
        raise ValueError(f'loss "cross_entropy" needs output "softmax" or "sigmoid", not {output!r}.')
    return loss


def _draw(draw: str, dropout: Sequence[float], rng: Rng) -> str:
    spec.require_one_of("dropout_draw", draw, ("auto", *spec.DROPOUT_DRAWS))
    accepted = int | np.integer | np.random.RandomState | np.random.Generator | None
    if not isinstance(rng, accepted) or isinstance(rng, bool):
        raise TypeError(
            f"rng is a {type(rng).__name__}; None, an int, a numpy.random.RandomState or a Generator is wanted."
        )
    if isinstance(rng, int | np.integer) and not 0 <= rng < 2**64:
        raise ValueError(f"rng is {rng}; an integer seed lies in [0, 2**64).")
    if draw == "auto":
        return "integers" if set(dropout) <= {0, 0.5} else "drop-below"
    if draw == "integers" and not set(dropout) <= {0, 0.5}:
        raise ValueError(
            f'dropout_draw "integers" drops half of the units, but dropout is {max(dropout)}; 0.5 is wanted.'
        )
    return draw


def _require_own_streams(streams: Sequence[Rng]) -> None:
    """Refuse streams that two networks would draw from at once; seeds are streams of their own."""
    sources = []
    for stream in streams:
        if isinstance(stream, np.random.Generator):
            sources.append(id(stream.bit_generator))
        elif isinstance(stream, np.random.RandomState):
            sources.append(id(stream._bit_generator))
        elif not isinstance(stream, int | np.integer):
            sources.append(0)
    if 0 in sources or len(set(sources)) < len(sources):
        raise ValueError("rng must hold a seed or a stream of its own for each network: they are trained at once.")


def _real(name: str, value: float, wanted: str, accept: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not np.isfinite(value):
        raise ValueError(f"{name} is {value!r}; {wanted} is wanted.")
    if not accept(value):
        raise ValueError(f"{name} is {value!r}; {wanted} is wanted.")
    return float(value)


def _whole(name: str, value: int, low: int, high: int | None = None) -> int:
    wanted = f"a whole number from {low}" + (f" to {high}, the number of images," if high else "")
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} is {value!r}; {wanted} is wanted.")
    if value < low or (high is not None and value > high):
        raise ValueError(f"{name} is {value}; {wanted} is wanted.")
    return int(value)
