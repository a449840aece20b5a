"""How each library does the work: one module each, imported only when it is its turn.

A peer's function takes a `Work` and returns a `Side`. Its own preparation (tensors, compiled functions, models) is done
before the timing starts, and so is ours. Peers that train need not add up errors or count correct answers on the way,
as our side and the scripts do.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

from fastmnist.bench.rows import Row, Side, Work


def _is_script(row: Row) -> bool:
    return row.output == "linear"


def _trains_script(row: Row) -> bool:
    return _is_script(row) and not row.evaluates and row.trainings == 1


@dataclass(frozen=True)
class Peer:
    """A way to do the work: `module` and `function` are found in this package, `package` must be installed."""

    name: str
    module: str
    function: str
    package: str
    does: Callable[[Row], bool]

    @property
    def installed(self) -> bool:
        """Whether its package can be imported; packages that need another one have it as a dependency."""
        return importlib.util.find_spec({"scikit-learn": "sklearn"}.get(self.package, self.package)) is not None

    @property
    def version(self) -> str:
        """Version of its package."""
        return version(self.package)

    def prepare(self, work: Work) -> Side:
        """Get ready for the work."""
        module = importlib.import_module(f"{__name__}.{self.module}")
        side: Side = getattr(module, self.function)(work)
        return side


OURS = Peer("fastmnist", "ours", "kernels", "numba", lambda row: True)

ONE_THREAD = Peer("fastmnist, 1 thread", "ours", "one_thread", "numba", lambda row: True)

WARM_SCRIPT = Peer("NumPy script, warm heap", "with_numpy", "script", "numpy", _trains_script)

PEERS = (
    ONE_THREAD,
    Peer("fastmnist, plain arrays", "ours", "plain_arrays", "numba", lambda row: True),
    Peer("fastmnist, float64", "ours", "float64", "numba", lambda row: row.per_sample and row.dtype == "float32"),
    Peer("fastmnist, one by one", "ours", "one_by_one", "numba", lambda row: row.trainings > 1),
    Peer("NumPy script", "alone", "script", "numpy", _trains_script),
    WARM_SCRIPT,
    Peer("NumPy", "with_numpy", "batches", "numpy", lambda row: row.batch_size > 1 or row.evaluates),
    Peer("Numba loop", "with_numba", "every_pixel", "numba", _trains_script),
    Peer("Numba loop, no zeros", "with_numba", "non_zero_pixels", "numba", _trains_script),
    Peer("JAX", "with_jax", "compiled", "jax", lambda row: True),
    Peer("PyTorch", "with_torch", "eager", "torch", lambda row: row.trainings == 1),
    Peer("Keras", "with_keras", "sequential", "keras", lambda row: not _is_script(row)),
    Peer("scikit-learn", "with_sklearn", "mlp_classifier", "scikit-learn", lambda row: not _is_script(row)),
)
