"""What every test file shares: hypothesis profiles, and real MNIST."""

import os

import numpy as np
import pytest
from hypothesis import settings

# Before anything imports JAX. Keras on JAX compiles the steps of each small model anew, which took most of its tests'
# time: `test_keras_parity.py` 75 s, not 98 s.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

# No deadline: the first example of a kernel test compiles.
settings.register_profile("fastmnist", deadline=None)
settings.register_profile("fastmnist-ci", deadline=None, derandomize=True)
settings.load_profile("fastmnist-ci" if os.environ.get("CI") else "fastmnist")


@pytest.fixture(autouse=os.environ.get("NUMBA_DISABLE_JIT") == "1")
def _machine_arithmetic():
    """Where kernels run as plain Python, NumPy warns of the wrap-around and infinities that they mean."""
    with np.errstate(all="ignore"):
        yield


@pytest.fixture(scope="session")
def mnist():
    """Real MNIST as ``load_data`` returns it; never downloaded here."""
    from fastmnist.data import keras_cache_file, load_data

    if "FASTMNIST_MNIST" not in os.environ and not keras_cache_file().is_file():
        reason = "needs MNIST: set FASTMNIST_MNIST to an mnist.npz or to a folder with the four IDX files"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return load_data("mnist")
