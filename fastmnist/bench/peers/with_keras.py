"""Keras, on JAX unless another backend has been chosen."""

import os

import numpy as np

from fastmnist.bench.rows import Array, Side, Work, evaluation

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras


def sequential(work: Work) -> Side:
    """Train with `fit`, batches in the order given."""
    row, images, targets = work.row, work.floats(), work.targets()
    hidden = [keras.layers.Dense(n, activation="relu") for n in row.sizes[1:-1]]
    model = keras.Sequential(
        [keras.Input((row.sizes[0],)), *hidden, keras.layers.Dense(row.sizes[-1], activation="softmax")]
    )
    _, biases = work.parameters()
    model.set_weights([p for pair in zip(work.weights, biases, strict=True) for p in pair])
    if row.evaluates:
        return evaluation(work, lambda: np.asarray(model.predict(images, batch_size=len(images), verbose=0)))
    model.compile(
        loss="categorical_crossentropy",
        optimizer=keras.optimizers.SGD(row.learning_rate),
        metrics=["accuracy"],
    )

    def run() -> None:
        model.fit(images, targets, batch_size=row.batch_size, epochs=1, shuffle=False, verbose=0)

    def result() -> list[Array]:
        parameters = model.get_weights()
        return [*parameters[::2], *parameters[1::2]]

    return Side(run, result)
