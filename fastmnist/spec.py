"""Names and their integer codes, and the flat parameter layout of a dense network. Standard library only.

Kernels see integers where users write words. `Layout` says where each weight lives in the one flat parameter vector, so
that every architecture shares the same compiled kernels.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

# Activations. ReLU's gradient mask and the scripts' "straight-through" gradient are two activations with one value.
LINEAR, RELU, RELU_STRAIGHT_THROUGH, SIGMOID, TANH, SOFTMAX = range(6)
ACTIVATIONS = {"linear": LINEAR, "relu": RELU, "sigmoid": SIGMOID, "tanh": TANH, "softmax": SOFTMAX}
HIDDEN_ACTIVATIONS = ("linear", "relu", "sigmoid", "tanh")

SQUARED_ERROR, CROSS_ENTROPY = range(2)
LOSSES = {"squared_error": SQUARED_ERROR, "cross_entropy": CROSS_ENTROPY}

SGD, MOMENTUM, NESTEROV, RMSPROP, ADAM = range(5)
OPTIMIZERS = {"sgd": SGD, "momentum": MOMENTUM, "nesterov": NESTEROV, "rmsprop": RMSPROP, "adam": ADAM}
# State vectors that each keeps: 1 is momentum or Adam's m, 2 is RMSprop's or Adam's v.
SLOTS = {"sgd": (), "momentum": (1,), "nesterov": (1,), "rmsprop": (2,), "adam": (1, 2)}

# Dropout draws: the lowest bit of an integer (1 keeps), or a uniform number compared with the rate.
INTEGERS, KEEP_BELOW, DROP_BELOW = range(3)
DROPOUT_DRAWS = {"integers": INTEGERS, "keep-below": KEEP_BELOW, "drop-below": DROP_BELOW}

TILE_BYTES = 64  # one AVX-512 register, one cache line: the unit in which units and inputs of a layer are padded

# Tiles of one panel of the first layer's weights, see `Layout`; as many as the kernels hold in registers.
PANEL_TILES = 4
PANEL_MOST = 5  # of the last panel

# Columns of the layer table that the kernels read, one row per layer of weights.
(
    N_IN,
    N_OUT,
    IN_TILES,
    OUT_TILES,
    WEIGHTS,  # offset of the weights in the parameter vector
    BIASES,  # offset of the biases, -1 without
    ACTIVATION,
    VALUES,  # offset of this layer's outputs in a scratch vector of activations, in rows (multiply by the row capacity)
    ROWS,  # rows of the weights as they are stored
    MASK,  # offset of this layer's units among all hidden units: where its dropout draws start
    LAYER_FIELDS,
) = range(11)


def padded(n: int, itemsize: int) -> int:
    """`n` numbers of `itemsize` bytes, rounded up to whole tiles."""
    lanes = TILE_BYTES // itemsize
    return -(-n // lanes) * lanes


def panel_of(tile: int, n_tiles: int) -> tuple[int, int]:
    """First tile of the panel that holds this tile of a layer, and the tiles of that panel.

    The last panel has the rest, two to five: a single tile joins the panel before it.
    """
    last = max((n_tiles + 2) // PANEL_TILES, 1) - 1
    panel = min(tile // PANEL_TILES, last)
    first = panel * PANEL_TILES
    return first, n_tiles - first if panel == last else PANEL_TILES


def whole_quads(n_inputs: int) -> int:
    """Round inputs up to whole quads."""
    return -(-n_inputs // 4) * 4


class Logarithm(NamedTuple):
    """How the probabilities p of a reported cross-entropy are taken: log(min(max(p, floor), ceiling) + offset)."""

    floor: float = -math.inf
    ceiling: float = math.inf
    offset: float = 0.0


@dataclass(frozen=True)
class Layer:
    """A dense layer.

    Parameters
    ----------
    units : int
        Outputs.
    activation : str, default "linear"
        A key of `ACTIVATIONS`; "softmax" for the last layer of a network only.
    biases : bool, default True
        Whether it has a bias vector.
    dropout : float, default 0
        Share of its outputs dropped in training, in [0, 1); those kept are divided by ``1 - dropout``.
    l1, l2, bias_l1, bias_l2 : float, default 0
        Penalties: ``l1 * sum(abs(w)) + l2 * sum(w**2)`` on the weights and on the biases.
    """

    units: int
    activation: str = "linear"
    biases: bool = True
    dropout: float = 0.0
    l1: float = 0.0
    l2: float = 0.0
    bias_l1: float = 0.0
    bias_l2: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what no kernel computes."""
        if isinstance(self.units, bool) or not isinstance(self.units, int) or self.units < 1:
            raise ValueError(f"units is {self.units!r}; a whole number from 1 is wanted.")
        require_one_of("activation", self.activation, ACTIVATIONS)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout!r}; a share in [0, 1) is wanted.")
        require_not_negative(self, "l1", "l2", "bias_l1", "bias_l2")

    @property
    def penalties(self) -> tuple[float, float, float, float]:
        """L1 and L2 of the weights, L1 and L2 of the biases."""
        return self.l1, self.l2, self.bias_l1, self.bias_l2


@dataclass(frozen=True)
class Optimizer:
    """An update rule and its constants, in Keras's terms.

    Parameters
    ----------
    name : str, default "sgd"
        A key of `OPTIMIZERS`.
    decay_1 : float, default 0
        Momentum, or Adam's beta_1.
    decay_2 : float, default 0
        RMSprop's rho, or Adam's beta_2.
    epsilon : float, default 1e-7
        RMSprop's, inside the root, or Adam's, outside.
    weight_decay : float, default 0
        Decoupled: before a step each parameter w becomes ``w - rate * weight_decay * w``.
    clip_value, clip_norm, global_clip_norm : float, default 0
        Bound on each element of the gradient, on the norm of that of each weight matrix and bias vector, or on the norm
        of the whole; 0 is no bound.
    """

    name: str = "sgd"
    decay_1: float = 0.0
    decay_2: float = 0.0
    epsilon: float = 1e-7
    weight_decay: float = 0.0
    clip_value: float = 0.0
    clip_norm: float = 0.0
    global_clip_norm: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what no kernel computes."""
        require_one_of("optimizer", self.name, OPTIMIZERS)
        for field in ("decay_1", "decay_2"):
            if not 0 <= getattr(self, field) < 1:
                raise ValueError(f"{field} is {getattr(self, field)!r}; a number in [0, 1) is wanted.")
        clips = ("clip_value", "clip_norm", "global_clip_norm")
        require_not_negative(self, "epsilon", "weight_decay", *clips)
        if sum(getattr(self, clip) > 0 for clip in clips) > 1:
            raise ValueError(f"{', '.join(clips)} are {', '.join(str(getattr(self, c)) for c in clips)}; one at most.")


def require_one_of(name: str, value: object, accepted: Collection[str]) -> None:
    """Raise ValueError unless `value` is among the names accepted."""
    if value not in accepted:
        raise ValueError(f"{name} is {value!r}; accepted are {', '.join(map(repr, accepted))}.")


def require_not_negative(settings: object, *fields: str) -> None:
    """Raise ValueError unless these fields are finite numbers, 0 or more."""
    for field in fields:
        value = getattr(settings, field)
        if not 0 <= value < float("inf"):
            raise ValueError(f"{field} is {value!r}; 0 or more is wanted.")


@dataclass(frozen=True)
class Layout:
    """Where the parameters of a dense network live in one flat, tile-aligned vector.

    The first layer is stored in panels of four tiles of outputs, a row per input in each: a product works on one panel
    at a time, and where threads own different panels, what the processor fetches ahead for one is not taken from the
    other (two threads' updates took 0.82 us a sample in rows of all 20 tiles, 0.51 us in panels). Later layers are
    stored transposed, a row of padded inputs per unit, so that forward, backward and update all run along the inputs.
    Padding is zero and stays zero.

    Parameters
    ----------
    sizes : tuple of int
        Units per layer, inputs first: ``(784, 40, 10)``.
    biases : tuple of bool
        Whether each layer after the inputs has a bias vector.
    itemsize : int
        Bytes per number: 4 or 8.
    """

    sizes: tuple[int, ...]
    biases: tuple[bool, ...]
    itemsize: int

    @property
    def lanes(self) -> int:
        """Numbers in a tile."""
        return TILE_BYTES // self.itemsize

    def tiles(self, n: int) -> int:
        """Tiles that `n` numbers occupy."""
        return -(-n // self.lanes)

    @property
    def n_rows(self) -> int:
        """Rows of each panel of the first layer: inputs, rounded up to whole quads."""
        return whole_quads(self.sizes[0])

    @cached_property
    def panels(self) -> tuple[tuple[int, int], ...]:
        """First tile and number of tiles of each panel of the first layer."""
        n_tiles = self.tiles(self.sizes[1])
        return tuple(dict.fromkeys(panel_of(t, n_tiles) for t in range(n_tiles)))

    @cached_property
    def n_values(self) -> int:
        """Padded units of all layers but the input: the activations of one sample."""
        return sum(self.tiles(n) for n in self.sizes[1:]) * self.lanes

    @cached_property
    def offsets(self) -> tuple[tuple[int, int], ...]:
        """Offset of each layer's weights and biases (-1 without); the last pair is the vector's length."""
        pairs = []
        at = 0
        for k, (n_in, n_out) in enumerate(zip(self.sizes, self.sizes[1:], strict=False)):
            weights = at
            padded_out = self.tiles(n_out) * self.lanes
            at += padded_out * self.n_rows if k == 0 else n_out * self.tiles(n_in) * self.lanes
            pairs.append((weights, at if self.biases[k] else -1))
            at += padded_out if self.biases[k] else 0
        pairs.append((at, at))
        return tuple(pairs)

    @property
    def n_parameters(self) -> int:
        """Length of the padded parameter vector."""
        return self.offsets[-1][0]

    def table(self, activations: Sequence[int]) -> list[list[int]]:
        """Rows of the kernels' layer table for the activation code of each layer."""
        rows = []
        values = mask = 0
        for k, (n_in, n_out) in enumerate(zip(self.sizes, self.sizes[1:], strict=False)):
            weights, biases = self.offsets[k]
            tiles = self.tiles(n_out)
            stored = self.n_rows if k == 0 else n_out
            rows.append([n_in, n_out, self.tiles(n_in), tiles, weights, biases, activations[k], values, stored, mask])
            values += tiles * self.lanes
            mask += n_out
        return rows
