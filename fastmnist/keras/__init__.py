"""Keras's words over the engine: scripts that train a `Sequential` stack need only their imports changed.

Neither Keras nor a backend has to be installed. What Keras has and this package has not raises NotImplementedError.
"""

from fastmnist.keras import (
    activations,
    backend,
    callbacks,
    datasets,
    initializers,
    layers,
    losses,
    metrics,
    models,
    optimizers,
    regularizers,
    saving,
    utils,
)
from fastmnist.keras.layers import Input
from fastmnist.keras.models import Model, Sequential

__all__ = [
    "Input",
    "Model",
    "Sequential",
    "activations",
    "backend",
    "callbacks",
    "datasets",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "models",
    "optimizers",
    "regularizers",
    "saving",
    "utils",
]
