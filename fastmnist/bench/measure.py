"""Check that two sides compute the same thing, then time them in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fastmnist import engine
from fastmnist.bench.peers import OURS, Peer
from fastmnist.bench.rows import Array, Row, Side, Work

# How far a peer's result may lie from ours, as a share of what the work has changed.
TOLERANCE = {"float64": 1e-9, "float32": 1e-3}

# Seconds between two sides: OpenMP's threads go on spinning for 0.2 s, and whoever came after PyTorch would pay.
REST = 0.3
# Seconds that a repetition lasts at least. Row A's epoch takes 1 ms, and twice as long with caches gone cold in a rest.
# Of 0.02 s, the first call after the rest was still enough to make 10,000 samples of row B look a fifth slower than a
# million.
_LEAST = 0.1


@dataclass(frozen=True)
class Cell:
    """What one peer took for one row: seconds per sample, median and quartiles over the repetitions.

    `samples` were timed in each repetition; where the row has more, its time is extrapolated. `first` is what the first
    call took in seconds, compilation included. `ratio` is the peer's median over ours. `deviation` is how far
    its result lay from ours in the check. Where `refused` says why, there are no times.
    """

    peer: str
    samples: int = 0
    median: float | None = None
    low: float | None = None
    high: float | None = None
    first: float | None = None
    ratio: float | None = None
    deviation: float | None = None
    refused: str | None = None


@dataclass(frozen=True)
class Measured:
    """All cells of a row, ours first, and what our preparations cost.

    `packing` is what `pack` took, `preparing` what the first call took more than later ones: blocks and Gram products.
    """

    cells: list[Cell]
    packing: float
    preparing: float


def check_samples(row: Row) -> int:
    """Return how many samples the check takes: two batches, or a hundred samples."""
    return max(100, 2 * row.batch_size)


def deviation(row: Row, start: Sequence[Array], ours: Sequence[Array], theirs: Sequence[Array]) -> float:
    """Return the largest distance between two results, array by array as a share of the largest change made to it."""
    if [a.shape for a in ours] != [a.shape for a in theirs]:
        return float("inf")
    shares = [float(np.max(np.abs(a - b)) / np.max(np.abs(a - s))) for s, a, b in zip(start, ours, theirs, strict=True)]
    return float("inf") if any(map(np.isnan, shares)) else max(shares)


def measure(
    work: Work, peers: Sequence[Peer], *, repetitions: int, budget: float, say: Callable[[str], None]
) -> Measured:
    """Check every peer against our side, and time those that agree, in turn.

    Ours does the whole work in every repetition; a peer that would need more than `budget` seconds for it gets a share.
    """
    row, small = work.row, work.first(check_samples(work.row))
    start = [np.zeros(1), np.zeros(1)] if row.evaluates else [*work.weights, *(work.biases or ())]
    say(f"  {OURS.name}")
    expected = _after_one_run(OURS.prepare(small))

    # Preparing again what the check has prepared, after its compilation: what `pack` and the first epoch take.
    packing = seconds(lambda: engine.pack(work.images))
    ours = OURS.prepare(work)
    compiled = engine.compile_seconds()
    first = seconds(ours.run) - (engine.compile_seconds() - compiled)

    sides, cells = [(OURS, ours, len(work.images), first, 0.0)], list[Cell]()
    for peer in peers:
        say(f"  {peer.name}")
        try:
            side = peer.prepare(small)
            theirs = _after_one_run(side)
        except Exception as error:  # whatever another library may raise, the others are still measured
            cells.append(Cell(peer.name, refused=f"failed: {type(error).__name__}: {error}"))
            continue
        apart = deviation(row, start, expected, theirs)
        if not apart <= TOLERANCE[row.dtype]:
            reason = f"computes something else: {apart:.1e} apart, {TOLERANCE[row.dtype]:.0e} allowed"
            cells.append(Cell(peer.name, deviation=apart if np.isfinite(apart) else None, refused=reason))
            continue
        n = _affordable(work, side, len(small.images), budget)
        side = peer.prepare(work.first(n))
        sides.append((peer, side, n, seconds(side.run), apart))

    rest = REST if repetitions > 1 else 0.0
    quartiles = in_turn([(side, n) for _, side, n, *_ in sides], repetitions, rest)
    (_, ours_median, _), *_ = quartiles
    timed = [
        Cell(peer.name, n, median, low, high, first, median / ours_median, apart)
        for (peer, _, n, first, apart), (low, median, high) in zip(sides, quartiles, strict=True)
    ]
    preparing = first - ours_median * len(work.images)
    return Measured([*timed, *cells], packing, max(0.0, preparing))


def in_turn(sides: Sequence[tuple[Side, int]], repetitions: int, rest: float) -> list[list[float]]:
    """Run all sides in turn, again and again; return for each the quartiles of its seconds by sample.

    The number beside each side is that of its samples. A run that is short is repeated. Before each there is a rest of
    so many seconds.
    """
    times = [[_seconds_rested(side.run, rest) / n for side, n in sides] for _ in range(repetitions)]
    quartiles: list[list[float]] = np.percentile(times, [25, 50, 75], axis=0).T.tolist()
    return quartiles


def _seconds_rested(run: Callable[[], object], rest: float) -> float:
    """Return the mean of as many runs as take `_LEAST` seconds, at least one."""
    time.sleep(rest)
    times = [seconds(run)]
    while sum(times) < _LEAST:
        times.append(seconds(run))
    return sum(times) / len(times)


def seconds(run: Callable[[], object]) -> float:
    """Return what a call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _after_one_run(side: Side) -> list[Array]:
    """Run once from NumPy's global stream at seed 1, which dropout draws from."""
    state = np.random.get_state()
    np.random.seed(1)
    try:
        side.run()
    finally:
        np.random.set_state(state)
    return [a.copy() for a in side.result()]


def _affordable(work: Work, side: Side, n: int, budget: float) -> int:
    """Return how many of the work's samples fit into the budget, in whole batches, by the time that n take.

    An evaluation is one batch.
    """
    if work.row.evaluates:
        return len(work.images)
    wanted = int(budget / seconds(side.run) * n)
    size = work.row.batch_size
    return min(len(work.images), max(size, wanted // size * size))
