"""MNIST."""

from fastmnist import data
from fastmnist.data import Split

__all__ = ["load_data"]


def load_data(path: str = "mnist.npz") -> tuple[Split, Split]:
    """Return ``(x_train, y_train), (x_test, y_test)``, see `fastmnist.load_data`.

    Parameters
    ----------
    path : {"mnist.npz"}
        Name of the file in Keras's cache. Others are not supported: `fastmnist.load_data` reads any file.
    """
    if path != "mnist.npz":
        raise NotImplementedError(f"path is {path!r}; 'mnist.npz' is supported. fastmnist.load_data reads any file.")
    return data.load_data("mnist")
