"""JAX: ``lax.scan`` over single samples, ``vmap`` over networks; one compiled step per batch otherwise."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fastmnist.bench.rows import Array, Row, Side, Work, evaluation


def compiled(work: Work) -> Side:
    """Compile a step with ``jit``, its parameters donated; repeated updates collapse into one, as on our side."""
    with jax.enable_x64(work.row.dtype == "float64"):
        return _compiled(work)


def _compiled(work: Work) -> Side:
    row = work.row
    x64 = row.dtype == "float64"
    images, targets = jnp.asarray(work.floats()), jnp.asarray(work.targets())
    if row.trainings > 1:
        parameters: Any = ([jnp.stack(layer) for layer in zip(*work.networks(), strict=True)], [])
    else:
        parameters = tuple([jnp.asarray(a) for a in arrays] for arrays in work.parameters())

    if row.evaluates:
        outputs = jax.jit(lambda p, x: jax.nn.softmax(_logits(p, x)) if row.has_biases else _logits(p, x))

        def predict() -> Any:
            with jax.enable_x64(x64):
                return np.asarray(outputs(parameters, images))

        return evaluation(work, predict)

    step = partial(_keras_step if row.has_biases else _script_step, row)

    @partial(jax.jit, donate_argnums=0)
    def train_batch(p: Any, x: Any, t: Any, masks: Any, start: Any) -> Any:
        def cut(a: Any) -> Any:
            return None if a is None else jax.lax.dynamic_slice_in_dim(a, start, row.batch_size)

        return step(p, cut(x), cut(t), cut(masks))

    def train_samples(p: Any, x: Any, t: Any, masks: Any) -> Any:
        def body(p: Any, sample: Any) -> Any:
            return step(p, *(None if a is None else a[None] for a in sample)), None

        return jax.lax.scan(body, p, (x, t, masks))[0]

    if row.trainings > 1:
        train_samples = jax.vmap(train_samples, in_axes=(0, None, None, None))
    train_samples = jax.jit(train_samples, donate_argnums=0)

    def run() -> None:
        nonlocal parameters
        masks = work.draw_masks()
        with jax.enable_x64(x64):
            masks = None if masks is None else jnp.asarray(masks)
            if row.batch_size == 1:
                parameters = train_samples(parameters, images, targets, masks)
            else:
                for start in range(0, len(images), row.batch_size):
                    parameters = train_batch(parameters, images, targets, masks, start)
            jax.block_until_ready(parameters)

    def result() -> list[Array]:
        arrays = [np.asarray(p) for p in (*parameters[0], *parameters[1])]
        return [a[k] for k in range(row.trainings) for a in arrays] if row.trainings > 1 else arrays

    return Side(run, result)


def _logits(parameters: Any, x: Any) -> Any:
    weights, biases = parameters
    for k, w in enumerate(weights):
        x = x @ w
        if biases:
            x = x + biases[k]
        if k < len(weights) - 1:
            x = jax.nn.relu(x)
    return x


def _keras_step(row: Row, parameters: Any, x: Any, t: Any, masks: None) -> Any:
    """One step by automatic differentiation."""

    def loss(p: Any) -> Any:
        return -jnp.mean(jnp.sum(t * jax.nn.log_softmax(_logits(p, x)), axis=1))

    return jax.tree.map(lambda p, g: p - row.learning_rate * g, parameters, jax.grad(loss)(parameters))


def _script_step(row: Row, parameters: Any, x: Any, t: Any, mask: Any) -> Any:
    """One step as in the scripts, whose gradient is not the derivative of their network."""
    (w0, w1), biases = parameters
    repeats, rate = row.updates_per_batch, row.learning_rate
    h = jax.nn.relu(x @ w0)
    if mask is not None:
        h = h * mask * 2
    delta = (h @ w1 - t) / row.batch_size
    upper = h.T @ delta
    back = delta @ (w1 - rate * (repeats - 1) / 2 * upper).T
    if mask is not None:
        back = back * mask
    return [w0 - repeats * rate * (x.T @ back), w1 - repeats * rate * upper], biases
