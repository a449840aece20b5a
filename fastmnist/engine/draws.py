"""Dropout draws, from whichever stream the replaced program would have used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmnist import spec
from fastmnist.engine.threads import run_workers
from fastmnist.kernels import rng as rng_kernels

Rng = None | int | np.random.RandomState | np.random.Generator


@dataclass
class Draws:
    """Where an epoch's dropout draws come from.

    Parameters
    ----------
    rng : None, int, RandomState or Generator
        None is NumPy's global legacy stream; an int seeds the counter-based stream.
    draw : str
        "integers", "keep-below" or "drop-below"; has no say in the counter-based stream.
    epoch : int
        Only for integer seeds: epochs draw different numbers.
    """

    rng: Rng
    draw: str = "drop-below"
    epoch: int = 0

    @property
    def are_numbered(self) -> bool:
        """Whether each draw has its number: else it comes after those before it, batch by batch, layer by layer."""
        return isinstance(self.rng, int | np.integer)

    def take(
        self,
        row_0: int,
        n_rows: int,
        capacity: int,
        sizes: Sequence[int],
        rates: Sequence[float],
        workers: int,
        kept: NDArray[np.uint8],
    ) -> None:
        """Fill `kept` with draws for the next `n_rows` rows of hidden layers of `sizes`.

        They come in the order of the program replaced. `rates` are the shares dropped, one a layer; for layers of rate
        0 nothing is drawn.
        """
        if isinstance(self.rng, int | np.integer):
            seed = int(self.rng)
            key = np.uint32(seed & 0xFFFFFFFF), np.uint32(seed >> 32 & 0xFFFFFFFF)
            thresholds = np.array([max(1, int(rate * 2**32)) if rate > 0 else 0 for rate in rates], np.uint32)
            layers = np.asarray(sizes, np.int64)
            run_workers(
                rng_kernels.philox_draws, workers, *key, self.epoch, row_0, n_rows, capacity, layers, thresholds, kept
            )
        else:
            for rate, part in _parts(n_rows, capacity, sizes, rates, kept):
                self._from_numpy(rate, part)

    def _from_numpy(self, rate: float, kept: NDArray[np.uint8]) -> None:
        code = spec.DROPOUT_DRAWS[self.draw]
        rng: Any = np.random if self.rng is None else self.rng
        if not isinstance(rng, np.random.Generator):
            state = rng.get_state(legacy=False)
            if state["bit_generator"] == "MT19937":
                inner = state["state"]
                key = inner["key"].copy()
                position = rng_kernels.mt19937_draws(key, int(inner["pos"]), code, rate, np.empty_like(key), kept)
                rng.set_state({**state, "state": {"key": key, "pos": position}})
                return
        if code == spec.INTEGERS:
            integers = rng.integers if isinstance(rng, np.random.Generator) else rng.randint
            kept[:] = integers(2, size=kept.size)
        elif code == spec.KEEP_BELOW:
            kept[:] = rng.random(kept.size) < 1 - rate
        else:
            kept[:] = rng.random(kept.size) >= rate


def _parts(
    n_rows: int, capacity: int, sizes: Sequence[int], rates: Sequence[float], kept: NDArray[np.uint8]
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Split draws into runs of one rate: all where all layers have the same, else batch by batch, layer by layer."""
    if len(set(rates)) == 1:
        yield rates[0], kept
        return
    at = 0
    for row in range(0, n_rows, capacity):
        rows = min(capacity, n_rows - row)
        for size, rate in zip(sizes, rates, strict=True):
            if rate:
                yield rate, kept[at : at + rows * size]
            at += rows * size
