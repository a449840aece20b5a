"""Dropout streams: MT19937 against NumPy's own, Philox against published answers and the reference."""

import numba
import numpy as np
import pytest

from fastmnist import reference, spec
from fastmnist.kernels import rng

# Known answers of Random123's philox4x32-10: counter, key, words.
PHILOX = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


@numba.njit
def _philox(counter, key):
    return rng.philox4x32(counter[0], counter[1], counter[2], counter[3], key[0], key[1])


@pytest.mark.parametrize(("counter", "key", "words"), PHILOX)
def test_philox_known_answers(counter, key, words):
    arrays = [np.array([int(w, 16) for w in text.split()], np.uint64) for text in (counter, key)]
    assert [f"{int(w):08x}" for w in _philox(*arrays)] == words.split()


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="a million draws")
@pytest.mark.parametrize("draw", list(spec.DROPOUT_DRAWS))
@pytest.mark.parametrize("odd", [False, True], ids=["even", "odd"])
def test_a_million_draws_are_numpys_own(draw, odd):
    ours, numpys = np.random.RandomState(7), np.random.RandomState(7)
    for stream in (ours, numpys):
        stream.random(3)
        if odd:  # one word: from now on numbers of two words take them from either side of the 624
            stream.randint(2)
    rate = 0.5 if draw == "integers" else 0.3
    for n in (1, 3, 620, 623, 624, 625, 1247, 1_000_000):
        state = ours.get_state(legacy=False)
        key = state["state"]["key"].copy()
        out = np.empty(n, np.uint8)
        position = rng.mt19937_draws(
            key, state["state"]["pos"], spec.DROPOUT_DRAWS[draw], rate, np.empty(624, np.uint32), out
        )
        ours.set_state({**state, "state": {"key": key, "pos": position}})
        assert (out == reference.dropout_mask(numpys, (n,), rate, draw)).all()
    assert (ours.random(10) == numpys.random(10)).all()


@pytest.mark.parametrize("draw", ["keep-below", "drop-below"])
@pytest.mark.parametrize("position", [0, 1, 621, 622, 623, 624])
def test_numbers_are_compared_to_their_last_bit(draw, position):
    """Neither of a number's two words may be another one, wherever in the 624 they lie: a bound next to it tells."""
    stream = np.random.RandomState(7)
    state = stream.get_state(legacy=False)
    state["state"]["pos"] = position
    stream.set_state(state)
    number = stream.random()
    for below, bound in ((False, number), (True, number + 2**-53)):
        out = np.empty(1, np.uint8)
        key, rate = state["state"]["key"].copy(), 1 - bound if draw == "keep-below" else bound
        with np.errstate(over="ignore"):
            rng.mt19937_draws(key, position, spec.DROPOUT_DRAWS[draw], rate, np.empty(624, np.uint32), out)
        assert bool(out[0]) == (below == (draw == "keep-below"))


def test_the_first_draw_of_the_original_program():
    """After seed 1, ``randint(2, size=40)`` switches 21 of 40 units off."""
    np.random.seed(1)
    state = np.random.get_state(legacy=False)["state"]
    out = np.empty(40, np.uint8)
    with np.errstate(over="ignore"):
        rng.mt19937_draws(state["key"].copy(), state["pos"], spec.INTEGERS, 0.5, np.empty(624, np.uint32), out)
    assert 40 - out.sum() == 21
    assert (out == np.random.randint(2, size=40)).all()


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("capacity", [1, 5, 100])
def test_philox_draws_do_not_depend_on_the_order_of_work(workers, capacity):
    sizes, n, seed = np.array([7, 40, 4]), 23, 2**33 + 5
    out = np.full(n * sizes.sum(), 9, np.uint8)
    for w in reversed(range(workers)):
        rng.philox_draws(
            w, workers, np.uint32(seed & 0xFFFFFFFF), np.uint32(seed >> 32), 2, 100, n, capacity, sizes,
            np.full(3, 0.3 * 2**32, np.uint32), out,
        )  # fmt: skip
    expected = []
    for start in range(0, n, capacity):
        rows = 100 + np.arange(start, min(start + capacity, n))
        expected += [reference.philox_mask(seed, 2, k, rows, size, 0.3).ravel() for k, size in enumerate(sizes)]
    assert (out == np.concatenate(expected)).all()
