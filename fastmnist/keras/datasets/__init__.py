"""Data sets: `mnist` and `fashion_mnist`."""

from fastmnist.keras.datasets import fashion_mnist, mnist

__all__ = ["fashion_mnist", "mnist"]
