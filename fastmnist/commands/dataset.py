"""The data that a command works on, under the name that its report gives them."""

import os
import sys
import zlib

import numpy as np
from numpy.typing import NDArray

from fastmnist import data
from fastmnist.commands import UserError

Split = tuple[NDArray[np.uint8], NDArray[np.uint8]]

# Of all images and labels, in the order in which `load_data` returns them.
_MNIST_CRC32 = 0x1939F699


def load(source: str | None, doing: str, *, at_most: int | None = None) -> tuple[str, Split, Split]:
    """Load what was asked for; where nothing was, MNIST, or else the synthetic digits and a warning.

    `doing` is for the warning; of the synthetic digits that stand in for MNIST, there are `at_most` in each part. The
    name is "mnist" for MNIST itself, wherever it was found, and otherwise says which file or folder it was.
    """
    try:
        train, test = data.load_data(source or "mnist")
    except data.DataUnavailableError as error:
        if source is not None:
            raise UserError(f"--data {source}: {error}") from None
        print(
            f"fastmnist: warning: {doing} on synthetic digits, NOT on MNIST, which cannot be had: {error}",
            file=sys.stderr,
        )
        return "synthetic", *data.load_data("synthetic", n_train=at_most, n_test=at_most)
    except (OSError, ValueError) as error:
        raise UserError(str(error)) from None
    if source not in (None, "mnist"):
        return source, train, test
    named = os.environ.get("FASTMNIST_MNIST")
    return named if named and not _is_mnist(*train, *test) else "mnist", train, test


def _is_mnist(*arrays: NDArray[np.uint8]) -> bool:
    checksum = 0
    for a in arrays:
        checksum = zlib.crc32(a.data, checksum)
    return checksum == _MNIST_CRC32
