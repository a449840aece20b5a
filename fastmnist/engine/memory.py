"""Memory for vectors: tiles that begin on a cache line are read in one piece."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmnist import spec

Floats = NDArray[np.floating[Any]]


def scratch(n: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Memory on a tile boundary, whatever it holds."""
    octets = np.empty(n * dtype.itemsize + spec.TILE_BYTES, np.uint8)
    shift = -octets.__array_interface__["data"][0] % spec.TILE_BYTES
    return octets[shift : shift + n * dtype.itemsize].view(dtype)


def zeros(n: int, dtype: np.dtype[Any]) -> Floats:
    """Zeros on a tile boundary."""
    vector: Floats = scratch(n, dtype)
    vector[:] = 0
    return vector
