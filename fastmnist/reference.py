"""Every operation in plain NumPy: the definition that the kernels are tested against.

Conventions, everywhere below:

- A network is a list of weight matrices, weights[k] of shape (I, O) with the I of one layer the O of the
  layer before it, and optionally a list of as many bias vectors (O,): all float32 or all float64.
- Rows are samples: images (N, I), labels (N,) integers or (N, O) targets; of one batch (B, I) and (B, O).
- `activation` is the function of every hidden layer: "linear", "relu", "sigmoid" or "tanh". `output` is that
  of the last layer: one of these or "softmax".
- `loss` is "squared_error", or "cross_entropy" over "softmax" or "sigmoid" outputs.
- `masks` is a list of one (B, H) array of 0 and 1 per hidden layer, 1 where a unit is kept. `dropout` is the
  rate at which units are dropped, one for all layers or one for each; those kept are divided by 1 - dropout.

Arguments are never changed, but for what training moves: weights, biases and the slots of an optimiser.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "activate",
    "activation_gradient",
    "adam_step",
    "backward",
    "dropout_mask",
    "evaluate",
    "forward",
    "loss_value",
    "momentum_step",
    "one_hot",
    "output_delta",
    "philox4x32",
    "philox_mask",
    "predict",
    "rmsprop_step",
    "sgd_epoch",
]

Array = NDArray[np.floating[Any]]
Arrays = Sequence[Array]
Mask = NDArray[np.uint8]
Positions = NDArray[np.integer[Any]]
Stream = np.random.RandomState | np.random.Generator | None


def activate(z: Array, kind: str) -> Array:
    """Return f(z), of z's shape and type.

    "linear" z; "relu" max(z, 0); "sigmoid" 1 / (1 + exp(-z)); "tanh"; "softmax" exp(z) / sum exp(z) of each
    row. Nothing overflows: sigmoid takes exp of -|z| only, softmax subtracts the row's maximum first.

    Raises
    ------
    ValueError
        If `kind` is none of these.
    """
    match kind:
        case "linear":
            return z
        case "relu":
            return np.maximum(z, 0)
        case "sigmoid":
            e: Array = np.exp(-np.abs(z))
            return np.where(z >= 0, 1, e) / (1 + e)
        case "tanh":
            return np.tanh(z)
        case "softmax":
            e = np.exp(z - z.max(axis=1, keepdims=True))
            total: Array = e.sum(axis=1, keepdims=True)
            return e / total
    raise _not_one_of("activation", kind, "linear", "relu", "sigmoid", "tanh", "softmax")


def activation_gradient(a: Array, kind: str, relu_gradient: str = "relu") -> Array:
    """Return f'(z) as a function of the value a = f(z), of a's shape and type.

    "linear" 1; "relu" 1 where a > 0, else 0; "sigmoid" a (1 - a); "tanh" 1 - a². With `relu_gradient`
    "straight-through" ReLU's is 1 everywhere: the NumPy scripts test `a >= 0` after ReLU has clipped a.

    Raises
    ------
    ValueError
        If `kind` or `relu_gradient` is none of these; softmax has no elementwise derivative.
    """
    if relu_gradient not in ("relu", "straight-through"):
        raise _not_one_of("relu_gradient", relu_gradient, "relu", "straight-through")
    match kind:
        case "linear":
            return np.ones_like(a)
        case "relu":
            return np.ones_like(a) if relu_gradient == "straight-through" else (a > 0).astype(a.dtype)
        case "sigmoid":
            return a * (1 - a)
        case "tanh":
            return 1 - a * a
    raise _not_one_of("activation", kind, "linear", "relu", "sigmoid", "tanh")


def loss_value(outputs: Array, targets: Array, output: str, loss: str) -> float:
    """Return the loss of outputs o for targets t, both (B, O), summed over rows.

    "squared_error" sum (o - t)²; "cross_entropy" -sum t log o for softmax outputs, and for sigmoid outputs
    -sum (t log o + (1 - t) log (1 - o)). The argument of log is never below the smallest normal number.

    Raises
    ------
    ValueError
        If `loss` is neither, or is cross-entropy over another output.
    """
    _check_loss(output, loss)
    if loss == "squared_error":
        return float(np.sum((outputs - targets) ** 2))
    tiny = np.finfo(outputs.dtype).tiny
    log_likelihood = targets * np.log(np.maximum(outputs, tiny))
    if output == "sigmoid":
        log_likelihood += (1 - targets) * np.log(np.maximum(1 - outputs, tiny))
    return -float(np.sum(log_likelihood))


def output_delta(outputs: Array, targets: Array, output: str, loss: str) -> Array:
    """Return the (B, O) gradient of each row's loss by the last layer's pre-activations.

    "cross_entropy" o - t, where softmax supposes that a row of t sums to 1. "squared_error" *half* its
    gradient, as the NumPy scripts have it: (o - t) f', for softmax o ((o - t) - sum (o - t) o). ReLU outputs
    have their true gradient here: `relu_gradient` is a matter of hidden layers.

    Raises
    ------
    ValueError
        If `loss` is neither, or is cross-entropy over another output.
    """
    _check_loss(output, loss)
    difference = outputs - targets
    if loss == "cross_entropy":
        return difference
    if output == "softmax":
        mean: Array = np.sum(difference * outputs, axis=1, keepdims=True)
        return outputs * (difference - mean)
    return difference * activation_gradient(outputs, output)


def dropout_mask(rng: Stream, shape: tuple[int, ...], rate: float, draw: str) -> Mask:
    """Return a mask of `shape`, 1 = kept, from exactly one call of NumPy's.

    Parameters
    ----------
    rng : RandomState, Generator or None
        None is NumPy's global legacy stream.
    rate : float
        The share of units to drop.
    draw : {"integers", "keep-below", "drop-below"}
        A unit is kept where `randint(2, size=shape)` (`integers` of a Generator) is 1; where `random(shape)`
        is less than 1 - rate; or unless `random(shape)` is less than rate.

    Raises
    ------
    ValueError
        If `draw` is none of these, or is "integers" with another rate than 0.5.
    """
    source: Any = np.random if rng is None else rng
    match draw:
        case "integers":
            if rate != 0.5:
                raise ValueError(f"draw='integers' drops half of the units, not {rate}; use 'drop-below'")
            draw_integers = source.integers if isinstance(source, np.random.Generator) else source.randint
            kept = draw_integers(2, size=shape)
        case "keep-below":
            kept = source.random(shape) < 1 - rate
        case "drop-below":
            kept = source.random(shape) >= rate
        case _:
            raise _not_one_of("draw", draw, "integers", "keep-below", "drop-below")
    return np.asarray(kept, dtype=np.uint8)


def philox4x32(counter: Sequence[ArrayLike], key: Sequence[ArrayLike]) -> NDArray[np.uint32]:
    """Return Philox4x32-10's block for a counter of four 32-bit words and a key of two.

    The words are integers or arrays of them, broadcast to a shape S; the result is (*S, 4). Source: Salmon,
    Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011, and their Random123.
    """
    low = np.uint64(0xFFFFFFFF)
    high = np.uint64(32)
    c0, c1, c2, c3 = (np.asarray(word, dtype=np.uint64) for word in counter)
    k0, k1 = (np.asarray(word, dtype=np.uint64) for word in key)
    for _ in range(10):
        p0 = np.uint64(0xD2511F53) * c0
        p1 = np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (p1 >> high) ^ c1 ^ k0, p1 & low, (p0 >> high) ^ c3 ^ k1, p0 & low
        k0 = (k0 + np.uint64(0x9E3779B9)) & low
        k1 = (k1 + np.uint64(0xBB67AE85)) & low
    return np.stack(np.broadcast_arrays(c0, c1, c2, c3), axis=-1).astype(np.uint32)


def philox_mask(seed: int, epoch: int, layer: int, rows: Positions, n_units: int, rate: float) -> Mask:
    """Return the (len(rows), n_units) mask of an integer seed: each entry depends on its position alone.

    Unit u of a row draws word u % 4 of the block with key (low, high 32 bits of seed) and counter (u // 4,
    row, layer, epoch), and is kept where that is at least floor(rate 2³²). Rows are positions in the epoch,
    not in the batch; the first hidden layer is layer 0.
    """
    n_blocks = -(-n_units // 4)
    key = seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF
    words = philox4x32((np.arange(n_blocks), rows[:, np.newaxis], layer, epoch), key)
    kept = words.reshape(len(rows), 4 * n_blocks)[:, :n_units] >= int(rate * 2**32)
    return kept.astype(np.uint8)


def forward(
    images: Array,
    weights: Arrays,
    biases: Arrays | None = None,
    *,
    activation: str = "relu",
    output: str = "linear",
    masks: Sequence[Mask] | None = None,
    dropout: float | Sequence[float] = 0.0,
) -> list[Array]:
    """Return [images, hidden values ..., outputs]: values[k] is what weights[k] multiplies.

    values[k + 1] = f(values[k] @ weights[k] + biases[k]), in hidden layers times masks[k] / (1 - dropout).
    """
    values = [images]
    last = len(weights) - 1
    rates = _layer_rates(dropout, last)
    for k, w in enumerate(weights):
        z = values[k] @ w
        if biases is not None:
            z = z + biases[k]
        value = activate(z, output if k == last else activation)
        if masks is not None and k < last:
            value = value * masks[k] / (1 - rates[k])
        values.append(value)
    return values


def backward(
    values: Arrays,
    targets: Array,
    weights: Arrays,
    *,
    activation: str,
    output: str,
    loss: str,
    relu_gradient: str = "relu",
    masks: Sequence[Mask] | None = None,
    dropout: float | Sequence[float] = 0.0,
    dropout_gradient: str = "scaled",
) -> tuple[list[Array], list[Array]]:
    """Return (weight gradients, bias gradients), each the mean over the rows of the batch.

    delta of the last layer = output_delta / B, of layer k - 1 = (delta of k @ weights[k].T) f' times the
    factor of dropout; the gradients of layer k are values[k].T @ delta and delta summed over rows. weights[0]
    is never read.

    Parameters
    ----------
    values : list of ndarray
        What `forward` returned.
    dropout_gradient : {"scaled", "mask", "value"}
        "scaled" is the true gradient: f' before dropout, times mask / (1 - dropout). "mask" is what the NumPy
        scripts do: f' after dropout, times the mask alone. "value": f' after dropout, times mask / (1 - dropout).

    Raises
    ------
    ValueError
        If a name is unknown, or the loss does not go with the output.
    """
    if dropout_gradient not in ("scaled", "mask", "value"):
        raise _not_one_of("dropout_gradient", dropout_gradient, "scaled", "mask", "value")
    rates = _layer_rates(dropout, len(weights) - 1)
    delta = output_delta(values[-1], targets, output, loss) / len(targets)
    deltas = [delta]
    for k in range(len(weights) - 1, 0, -1):
        delta = delta @ weights[k].T
        if masks is None:
            delta = delta * activation_gradient(values[k], activation, relu_gradient)
        else:
            kept = 1 - rates[k - 1]
            # Times `kept` is the value before dropout only where the unit was kept: the mask covers the rest.
            value = values[k] * (kept if dropout_gradient == "scaled" else 1)
            delta = delta * activation_gradient(value, activation, relu_gradient)
            delta = delta * masks[k - 1] / (1 if dropout_gradient == "mask" else kept)
        deltas.insert(0, delta)
    weight_gradients: list[Array] = [value.T @ delta for value, delta in zip(values[:-1], deltas, strict=True)]
    return weight_gradients, [delta.sum(axis=0) for delta in deltas]


def one_hot(labels: NDArray[Any], n_outputs: int, dtype: np.dtype[Any]) -> Array:
    """Return (N, O) targets of `dtype`: labels (N,) as rows of 0 and one 1, targets (N, O) as they are."""
    return np.eye(n_outputs, dtype=dtype)[labels] if labels.ndim == 1 else labels.astype(dtype, copy=False)


def sgd_epoch(
    images: Array,
    labels: NDArray[Any],
    weights: Arrays,
    biases: Arrays | None = None,
    *,
    learning_rate: float,
    batch_size: int = 1,
    activation: str = "relu",
    output: str = "linear",
    loss: str | None = None,
    relu_gradient: str = "relu",
    dropout: float | Sequence[float] = 0.0,
    dropout_gradient: str | None = None,
    dropout_draw: str = "auto",
    rng: Stream | int = None,
    updates_per_batch: int = 1,
    drop_last: bool = False,
    collapsed: bool = False,
) -> tuple[float, int]:
    """Train one epoch in place, batch by batch in the order given: w -= learning_rate * mean gradient.

    Parameters
    ----------
    loss : str, optional
        By default "cross_entropy" for softmax outputs, else "squared_error".
    dropout_gradient : str, optional
        By default "mask" if `relu_gradient` is "straight-through" (the NumPy scripts have both), else
        "scaled".
    dropout_draw : str
        Of `dropout_mask`; "auto" is "integers" at rates of 0.5 and 0, else "drop-below". A batch draws the (B, H) mask
        of the first hidden layer, then that of the second, and so on.
    rng : RandomState, Generator, int or None
        None is NumPy's global legacy stream; an int is a seed for `philox_mask`, with epoch 0 and no
        `dropout_draw`.
    updates_per_batch : int
        Updates from each forward pass. The layers' values stay as they were; the weights that the backward
        pass reads move from update to update.
    drop_last : bool
        Leave out a last batch of fewer than `batch_size` rows.
    collapsed : bool
        Make the r updates of a two-layer network one. The upper layer's gradient G is the same in all of them
        and the lower layer's is linear in the upper weights w: so they add up to one update at r times the
        rate, with the lower gradient taken at the mean of w on its way, w - learning_rate (r - 1) / 2 G.

    Returns
    -------
    error : float
        The sum of *squared* errors, whatever the loss, seen before each batch's updates.
    correct : int
        The number of rows, seen then, whose argmax is the target's; the first of equals counts.

    Raises
    ------
    ValueError
        If `collapsed` is asked of another depth than two, a name is unknown, or the loss does not go with the
        output.
    """
    if collapsed and len(weights) != 2:
        raise ValueError(f"collapsed=True takes two layers, got {len(weights)}; use collapsed=False")
    loss = loss or ("cross_entropy" if output == "softmax" else "squared_error")
    dropout_gradient = dropout_gradient or ("mask" if relu_gradient == "straight-through" else "scaled")
    targets = one_hot(labels, weights[-1].shape[1], weights[-1].dtype)
    widths = [w.shape[1] for w in weights[:-1]]
    n_samples = len(images) - (len(images) % batch_size if drop_last else 0)
    back = partial(backward, activation=activation, output=output, loss=loss, relu_gradient=relu_gradient)
    error, correct = 0.0, 0
    for start in range(0, n_samples, batch_size):
        rows = np.arange(start, min(start + batch_size, n_samples))
        t = targets[rows]
        masks = _batch_masks(rng, rows, widths, dropout, dropout_draw)
        values = forward(
            images[rows], weights, biases, activation=activation, output=output, masks=masks, dropout=dropout
        )
        error += loss_value(values[-1], t, output, "squared_error")
        correct += _count_correct(values[-1], t)
        gradients = partial(back, values, t, masks=masks, dropout=dropout, dropout_gradient=dropout_gradient)
        if collapsed:
            upper_gradient = gradients(weights)[0][1]
            mean_upper = weights[1] - learning_rate * (updates_per_batch - 1) / 2 * upper_gradient
            _descend(weights, biases, gradients([weights[0], mean_upper]), updates_per_batch * learning_rate)
        else:
            for _ in range(updates_per_batch):
                _descend(weights, biases, gradients(weights), learning_rate)
    return error, correct


def evaluate(
    images: Array,
    labels: NDArray[Any],
    weights: Arrays,
    biases: Arrays | None = None,
    *,
    activation: str = "relu",
    output: str = "linear",
) -> tuple[float, int]:
    """Return (error, correct) as `sgd_epoch` does, of the weights as they are and without dropout."""
    outputs = predict(images, weights, biases, activation=activation, output=output)
    targets = one_hot(labels, outputs.shape[1], outputs.dtype)
    return loss_value(outputs, targets, output, "squared_error"), _count_correct(outputs, targets)


def predict(
    images: Array,
    weights: Arrays,
    biases: Arrays | None = None,
    *,
    activation: str = "relu",
    output: str = "linear",
) -> Array:
    """Return the (N, O) outputs, without dropout."""
    return forward(images, weights, biases, activation=activation, output=output)[-1]


def momentum_step(w: Array, g: Array, m: Array, *, learning_rate: float, momentum: float, nesterov: bool) -> None:
    """Momentum: m = momentum m - learning_rate g; w += m.

    With `nesterov` w += momentum m - learning_rate g, of the new m.

    w weights, g gradient, m velocity (zeros at first), all of one shape; changes w and m. Source: Keras's
    `SGD`, keras/src/optimizers/sgd.py.
    """
    m *= momentum
    m -= learning_rate * g
    w += momentum * m - learning_rate * g if nesterov else m


def rmsprop_step(w: Array, g: Array, v: Array, *, learning_rate: float, rho: float, epsilon: float) -> None:
    """RMSprop: v = rho v + (1 - rho) g²; w -= learning_rate g / sqrt(v + epsilon).

    w weights, g gradient, v mean square (zeros at first), all of one shape; changes w and v. Source: Keras's
    `RMSprop`, keras/src/optimizers/rmsprop.py.
    """
    v *= rho
    v += (1 - rho) * g**2
    w -= learning_rate * g / np.sqrt(v + epsilon)


def adam_step(
    w: Array,
    g: Array,
    m: Array,
    v: Array,
    step: int,
    *,
    learning_rate: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
) -> None:
    """Adam: m += (1 - beta_1) (g - m); v += (1 - beta_2) (g² - v); w -= rate m / (sqrt(v) + epsilon).

    rate = learning_rate sqrt(1 - beta_2^step) / (1 - beta_1^step), where step counts the updates from 1.

    w weights, g gradient, m and v moments (zeros at first), all of one shape; changes w, m and v. Source:
    Keras's `Adam`, keras/src/optimizers/adam.py: the form at the end of section 2 of Kingma and Ba, "Adam: a
    method for stochastic optimization", ICLR 2015.
    """
    m += (1 - beta_1) * (g - m)
    v += (1 - beta_2) * (g**2 - v)
    rate = learning_rate * (1 - beta_2**step) ** 0.5 / (1 - beta_1**step)
    w -= rate * m / (np.sqrt(v) + epsilon)


def _batch_masks(
    rng: Stream | int, rows: Positions, widths: Sequence[int], dropout: float | Sequence[float], draw: str
) -> list[Mask] | None:
    rates = _layer_rates(dropout, len(widths))
    if not any(rates):
        return None
    if draw == "auto":
        draw = "integers" if set(rates) <= {0, 0.5} else "drop-below"
    masks = []
    for k, (width, rate) in enumerate(zip(widths, rates, strict=True)):
        if rate == 0:
            masks.append(np.ones((len(rows), width), np.uint8))
        elif isinstance(rng, int | np.integer):
            masks.append(philox_mask(int(rng), 0, k, rows, width, rate))
        else:
            masks.append(dropout_mask(rng, (len(rows), width), rate, draw))
    return masks


def _layer_rates(dropout: float | Sequence[float], n_hidden: int) -> Sequence[float]:
    return dropout if isinstance(dropout, Sequence) else [dropout] * n_hidden


def _count_correct(outputs: Array, targets: Array) -> int:
    return int(np.count_nonzero(outputs.argmax(axis=1) == targets.argmax(axis=1)))


def _descend(
    weights: Arrays, biases: Arrays | None, gradients: tuple[list[Array], list[Array]], learning_rate: float
) -> None:
    weight_gradients, bias_gradients = gradients
    for w, g in zip(weights, weight_gradients, strict=True):
        w -= learning_rate * g
    if biases is not None:
        for b, g in zip(biases, bias_gradients, strict=True):
            b -= learning_rate * g


def _check_loss(output: str, loss: str) -> None:
    if loss not in ("squared_error", "cross_entropy"):
        raise _not_one_of("loss", loss, "squared_error", "cross_entropy")
    if loss == "cross_entropy" and output not in ("softmax", "sigmoid"):
        raise ValueError(f"cross_entropy takes 'softmax' or 'sigmoid' outputs, not {output!r}; try 'squared_error'")


def _not_one_of(name: str, got: str, *accepted: str) -> ValueError:
    return ValueError(f"{name} is {got!r}; use one of {', '.join(map(repr, accepted))}")
