"""The functions that a NumPy training script calls: one epoch, an evaluation, a prediction.

They mirror what such scripts compute, number for number, including what is mathematically odd about them: see
`relu_gradient`, `dropout_gradient` and `updates_per_batch` of `sgd_epoch`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmnist import engine, spec
from fastmnist.engine import Packed, Rng

Arrays = Sequence[NDArray[np.floating[Any]]]


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
    dropout: float = 0.0,
    dropout_gradient: Literal["scaled", "mask"] | None = None,
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
    dropout : float, default 0
        Share of hidden units dropped, in [0, 1); what is kept is divided by ``1 - dropout``.
    dropout_gradient : {"scaled", "mask"}, optional
        "scaled" is the gradient of that. "mask" is what many scripts do: the activation's derivative is taken at the
        scaled value, and the gradient is multiplied by the mask alone. Default: "mask" with straight-through ReLU, else
        "scaled".
    dropout_draw : {"auto", "integers", "keep-below", "drop-below"}, default "auto"
        ``randint(2)`` (1 keeps; rate 0.5 only), ``random() < 1 - dropout`` keeps, or ``random() < dropout`` drops.
        "auto" is "integers" for a rate of 0.5, else "drop-below". Draws are made batch by batch, then layer by layer.
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
    hidden = _hidden_activations(activation, len(weights) - 1)
    network, n_inputs = _network(weights, biases, hidden, output, relu_gradient)
    _require_own_memory(
        {f"weights[{k}]": w for k, w in enumerate(weights)} | {f"biases[{k}]": b for k, b in enumerate(biases or ())},
        images,
    )
    loss_code = _loss(loss, output)
    rate = _real("learning_rate", learning_rate, "0 or more", lambda v: v >= 0)
    dropped = _real("dropout", dropout, "a share in [0, 1)", lambda v: 0 <= v < 1)
    repeats = _whole("updates_per_batch", updates_per_batch, 1)
    draw = _draw(dropout_draw, dropped, rng)
    if dropout_gradient is None:
        dropout_gradient = "mask" if relu_gradient == "straight-through" else "scaled"
    _one_of("dropout_gradient", dropout_gradient, ("scaled", "mask"))
    packed = _packed(images, n_inputs, threads)
    truth = engine.truth_of(labels, len(packed), network.layout.sizes[-1], network.dtype)
    batch = _whole("batch_size", batch_size, 1, len(packed))
    n_samples = len(packed) // batch * batch if drop_last else len(packed)
    updates = engine.Updates(
        loss=loss_code,
        optimizer=spec.SGD,
        rates=np.full(-(-n_samples // batch), rate),
        steps_before=0,
        decay_1=0.0,
        decay_2=0.0,
        epsilon=0.0,
        repeats=repeats,
    )
    network.set(weights, biases)
    try:
        error, _, correct = network.train(
            packed,
            truth,
            order=None,
            n_samples=n_samples,
            capacity=batch,
            updates=updates,
            draws=engine.Draws(dropped, rng, draw),
            mask_only=dropout_gradient == "mask",
            threads=threads,
        )
    finally:
        network.get(weights, biases)
    return error, correct


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
    network, n_inputs = _network(weights, biases, _hidden_activations(activation, len(weights) - 1), output)
    packed = _packed(images, n_inputs, threads)
    truth = engine.truth_of(labels, len(packed), network.layout.sizes[-1], network.dtype)
    network.set(weights, biases)
    scores, _ = network.infer(packed, truth, threads)
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
    network, n_inputs = _network(weights, biases, _hidden_activations(activation, len(weights) - 1), output)
    packed = _packed(images, n_inputs, threads)
    network.set(weights, biases)
    _, outputs = network.infer(packed, None, threads, want_outputs=True)
    return outputs


def _packed(images: ArrayLike | Packed, n_inputs: int, threads: int | None) -> Packed:
    packed = engine.as_packed(images, threads)
    if packed.shape[1] != n_inputs:
        raise ValueError(
            f"images have {packed.shape[1]} inputs each, but weights[0] has {n_inputs} rows: they must agree."
        )
    return packed


def _network(
    weights: Arrays, biases: Arrays | None, hidden: list[str], output: str, relu_gradient: str = "relu"
) -> tuple[engine.FlatNetwork, int]:
    """Check weights and biases against one another, and make room for them."""
    _one_of("output", output, tuple(spec.ACTIVATIONS))
    _one_of("relu_gradient", relu_gradient, ("relu", "straight-through"))
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
    dtypes = sorted({str(a.dtype) for a in arrays})
    if dtypes not in (["float32"], ["float64"]):
        raise TypeError(
            f"weights and biases have dtypes {', '.join(dtypes)}; all must be float32, or all float64. "
            "Try .astype('float64')."
        )
    codes = [_activation_code(name, relu_gradient) for name in hidden]
    sizes = [weights[0].shape[0], *(w.shape[1] for w in weights)]
    network = engine.FlatNetwork(sizes, arrays[0].dtype, biases is not None, codes, spec.ACTIVATIONS[output])
    return network, sizes[0]


def _activation_code(name: str, relu_gradient: str) -> int:
    if name == "relu" and relu_gradient == "straight-through":
        return spec.RELU_STRAIGHT_THROUGH
    return spec.ACTIVATIONS[name]


def _describe(value: object) -> str:
    return f"an array of shape {value.shape}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"


def _require_own_memory(updated: dict[str, NDArray[np.floating[Any]]], images: ArrayLike | Packed) -> None:
    """Refuse arrays that cannot be updated in place, or whose update would change another one."""
    for name, a in updated.items():
        if not a.flags.writeable:
            raise ValueError(f"{name} is read-only, and training updates it in place; pass a copy.")
    arrays = [*updated.items(), *([("images", images)] if isinstance(images, np.ndarray) else [])]
    for (one, a), (other, b) in itertools.combinations(arrays, 2):
        if np.may_share_memory(a, b) and np.shares_memory(a, b):
            raise ValueError(f"{one} and {other} share memory, and training updates weights in place; pass a copy.")


def _hidden_activations(activation: str | Sequence[str], n_hidden: int) -> list[str]:
    if n_hidden < 0:
        raise ValueError("weights is empty; a list of at least one array is wanted.")
    names = [activation] * n_hidden if isinstance(activation, str) else list(activation)
    if isinstance(activation, str):
        _one_of("activation", activation, spec.HIDDEN_ACTIVATIONS)
    if len(names) != n_hidden:
        raise ValueError(f"{len(names)} activations are given for {n_hidden} hidden layers; one for each is wanted.")
    for name in names:
        _one_of("activation", name, spec.HIDDEN_ACTIVATIONS)
    return names


def _loss(loss: str | None, output: str) -> int:
    if loss is None:
        loss = "cross_entropy" if output == "softmax" else "squared_error"
    _one_of("loss", loss, tuple(spec.LOSSES))
    if loss == "cross_entropy" and output not in ("softmax", "sigmoid"):
        raise ValueError(f'loss "cross_entropy" needs output "softmax" or "sigmoid", not {output!r}.')
    return spec.LOSSES[loss]


def _draw(draw: str, dropout: float, rng: Rng) -> str:
    _one_of("dropout_draw", draw, ("auto", *spec.DROPOUT_DRAWS))
    accepted = int | np.integer | np.random.RandomState | np.random.Generator | None
    if not isinstance(rng, accepted) or isinstance(rng, bool):
        raise TypeError(
            f"rng is a {type(rng).__name__}; None, an int, a numpy.random.RandomState or a Generator is wanted."
        )
    if isinstance(rng, int | np.integer) and not 0 <= rng < 2**64:
        raise ValueError(f"rng is {rng}; an integer seed lies in [0, 2**64).")
    if draw == "auto":
        return "integers" if dropout == 0.5 else "drop-below"
    if draw == "integers" and dropout not in (0, 0.5):
        raise ValueError(f'dropout_draw "integers" drops half of the units, but dropout is {dropout}; 0.5 is wanted.')
    return draw


def _one_of(name: str, value: object, accepted: Sequence[str]) -> None:
    if value not in accepted:
        raise ValueError(f"{name} is {value!r}; accepted are {', '.join(map(repr, accepted))}.")


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
