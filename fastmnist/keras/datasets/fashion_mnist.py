"""Fashion-MNIST: clothes in the form of MNIST."""

import os
from pathlib import Path

from fastmnist import data
from fastmnist.data import DataUnavailableError, Split, keras_cache_file

__all__ = ["load_data"]


def load_data() -> tuple[Split, Split]:
    """Return ``(x_train, y_train), (x_test, y_test)`` of files on this machine.

    They are read from what the environment variable ``FASTMNIST_FASHION_MNIST`` names, an npz file or a folder with the
    four IDX files, or from the folder in which Keras keeps them. Nothing is downloaded.

    Raises
    ------
    DataUnavailableError
        If there are none.
    """
    given = os.environ.get("FASTMNIST_FASHION_MNIST")
    path = Path(given).expanduser() if given else keras_cache_file().parent / "fashion-mnist"
    if not path.exists():
        raise DataUnavailableError(
            f"Fashion-MNIST is not available: {path} does not exist. Set FASTMNIST_FASHION_MNIST to an npz file or to "
            "a folder with the four IDX files."
        )
    return data.load_data(path)
