"""Explicit vectors for Numba: a tile type, and the few operations on groups of tiles that the kernels need.

A *tile* is 64 bytes of one float type: 16 float32 or 8 float64, one AVX-512 register. LLVM splits it into the registers
that the machine has (two of AVX2, four of SSE), so one source and one memory layout serve every width. A *group* is a
tuple of one to five tiles, or of halves of tiles. Every operation acts lane by lane with one rounding (`vfma` is a true
fused multiply-add), so a lane's result depends neither on the number of tiles worked on together nor on the thread.

The number of tiles travels in a type: `width` arguments are tuples whose *length* is the number of tiles (`W1`, `W4`,
...), or of halves of tiles (`HALVES_3`), which lets one kernel source serve all without recompiling for any network
size.

With ``NUMBA_DISABLE_JIT=1`` the same names are NumPy functions, so that the kernels run as plain Python.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic, models, register_model

from fastmnist._jit import inlined, vector_bits
from fastmnist.spec import TILE_BYTES

W1 = (0,)
W2 = (0, 0)
W3 = (0, 0, 0)
W4 = (0, 0, 0, 0)
W5 = (0, 0, 0, 0, 0)
# Booleans are halves of tiles: registers of AVX2.
HALVES_3 = (False, False, False)


class Tile(types.Type):
    """64 bytes of floats of type `dtype`, or half as many, held in registers."""

    def __init__(self, dtype: types.Float, half: bool = False) -> None:
        self.dtype = dtype
        self.lanes = TILE_BYTES * 8 // dtype.bitwidth // (2 if half else 1)
        super().__init__(name=f"Tile({dtype}, {self.lanes})")


@register_model(Tile)
class TileModel(models.PrimitiveModel):
    """A tile is one LLVM vector value."""

    def __init__(self, dmm, fe_type):
        element = ir.DoubleType() if fe_type.dtype == types.float64 else ir.FloatType()
        super().__init__(dmm, fe_type, ir.VectorType(element, fe_type.lanes))


def _group(dtype, width):
    return types.UniTuple(Tile(dtype, half=width.dtype == types.boolean), width.count)


def _suffix(vector: ir.VectorType) -> str:
    return f"v{vector.count}{'f64' if isinstance(vector.element, ir.DoubleType) else 'f32'}"


def _call(builder, name, result, *arguments):
    """Call an LLVM intrinsic by its mangled name."""
    function_type = ir.FunctionType(result, [a.type for a in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), arguments)


def _lane_order(lanes) -> ir.Constant:
    lanes = list(lanes)
    return ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)


def _pointer(context, builder, array_type, array_value, index, lanes):
    """Address of `lanes` elements from ``array[index]`` on; under NUMBA_BOUNDSCHECK all must lie inside the array."""
    # taken out of the value: Numba's own way, by way of a copy in memory, makes compiling 2 % slower
    fields = context.data_model_manager.lookup(array_type)
    if config.BOUNDSCHECK:
        size = builder.extract_value(array_value, [fields.get_field_position("shape"), 0])
        cgutils.do_boundscheck(context, builder, index, size)
        last = builder.add(index, ir.Constant(index.type, lanes - 1))
        cgutils.do_boundscheck(context, builder, last, size)
    data = builder.extract_value(array_value, fields.get_field_position("data"))
    pointer = builder.gep(data, [index], inbounds=True)
    if lanes == 1:
        return pointer
    element = context.get_data_type(array_type.dtype)
    return builder.bitcast(pointer, ir.VectorType(element, lanes).as_pointer())


def _tile_pointers(context, builder, array_type, array, index, stride, count, lanes):
    """Addresses of `count` tiles, `stride` elements apart; for a tuple, as far after `index` as it says for each."""
    for k in range(count):
        if isinstance(stride.type, ir.ArrayType):
            at = builder.add(index, builder.extract_value(stride, k))
        else:
            at = builder.add(index, builder.mul(stride, ir.Constant(stride.type, k)))
        yield _pointer(context, builder, array_type, array, at, lanes)


def _splat(context, builder, group, value):
    """Groups of tiles with `value` in every lane."""
    vector = context.get_value_type(group.dtype)
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
    tile = builder.shuffle_vector(first, undefined, _lane_order([0] * vector.count))
    return cgutils.pack_array(builder, [tile] * group.count)


@intrinsic
def lanes_of(typingctx, a):
    """Numbers in a tile like those of array `a`: a constant, by which Numba's ``a.itemsize`` would have to divide."""

    def generate(context, builder, signature, arguments):
        return ir.Constant(ir.IntType(64), TILE_BYTES * 8 // a.dtype.bitwidth)

    return types.int64(a), generate


@intrinsic
def vload(typingctx, a, i, stride, width):
    """Tiles ``a[i:]``, ``a[i + stride:]``, ...; as many as `width` is long. For a tuple, ``a[i + stride[k]:]``."""
    step = stride if isinstance(stride, types.UniTuple) else types.intp
    signature = _group(a.dtype, width)(a, types.intp, step, width)

    def generate(context, builder, signature, arguments):
        array, index, step, _ = arguments
        lanes = signature.return_type.dtype.lanes
        pointers = _tile_pointers(context, builder, signature.args[0], array, index, step, width.count, lanes)
        tiles = [builder.load(pointer, align=a.dtype.bitwidth // 8) for pointer in pointers]
        return cgutils.pack_array(builder, tiles)

    return signature, generate


def _writing(a, v, add):
    """Signature and code of writing the tiles of `v` to an array, or of adding them to what is there."""
    alignment = a.dtype.bitwidth // 8

    def generate(context, builder, signature, arguments):
        array, index, step, value = arguments
        pointers = _tile_pointers(context, builder, signature.args[0], array, index, step, v.count, v.dtype.lanes)
        for k, pointer in enumerate(pointers):
            tile = builder.extract_value(value, k)
            if add:
                tile = builder.fadd(builder.load(pointer, align=alignment), tile)
            builder.store(tile, pointer, align=alignment)
        return context.get_dummy_value()

    return types.void(a, types.intp, types.intp, v), generate


@intrinsic
def vstore(typingctx, a, i, stride, v):
    """Write the tiles of `v` to ``a[i:]``, ``a[i + stride:]``, ..."""
    return _writing(a, v, add=False)


@intrinsic
def vaccumulate(typingctx, a, i, stride, v):
    """Add the tiles of `v` to ``a[i:]``, ``a[i + stride:]``, ..."""
    return _writing(a, v, add=True)


@intrinsic
def vsplat(typingctx, x, width):
    """Scalar `x` in every lane."""
    signature = _group(x, width)(x, width)

    def generate(context, builder, signature, arguments):
        return _splat(context, builder, signature.return_type, arguments[0])

    return signature, generate


@intrinsic
def vrepeat(typingctx, tile, width):
    """Repeat one tile as often as `width` is long."""
    signature = types.UniTuple(tile.dtype, width.count)(tile, width)

    def generate(context, builder, signature, arguments):
        return cgutils.pack_array(builder, [builder.extract_value(arguments[0], 0)] * width.count)

    return signature, generate


@intrinsic
def vmask(typingctx, mask, i, stride, like):
    """Bytes ``mask[i:]``, ``mask[i + stride:]``, ..., a tile's worth of lanes each, as floats shaped like `like`."""
    signature = like(mask, types.intp, types.intp, like)

    def generate(context, builder, signature, arguments):
        array, index, step, _ = arguments
        pointers = _tile_pointers(context, builder, signature.args[0], array, index, step, like.count, like.dtype.lanes)
        vector = context.get_value_type(like.dtype)
        return cgutils.pack_array(
            builder, [builder.uitofp(builder.load(pointer, align=1), vector) for pointer in pointers]
        )

    return signature, generate


def _lane_by_lane(n_arguments, generate_tile, documentation):
    """Make an operation on groups from one on tiles, ``generate_tile(builder, *tiles)``."""

    def generate(context, builder, signature, arguments):
        tiles = [
            generate_tile(builder, *(builder.extract_value(group, k) for group in arguments))
            for k in range(signature.return_type.count)
        ]
        return cgutils.pack_array(builder, tiles)

    def unary(typingctx, a):
        return a(a), generate

    def binary(typingctx, a, b):
        return a(a, a), generate

    def ternary(typingctx, a, b, c):
        return a(a, a, a), generate

    operation = (unary, binary, ternary)[n_arguments - 1]
    operation.__doc__ = documentation
    return intrinsic(operation)


def _llvm(name):
    """An LLVM intrinsic of this name as a tile operation."""
    return lambda builder, *tiles: _call(builder, f"llvm.{name}.{_suffix(tiles[0].type)}", tiles[0].type, *tiles)


def _power_of_two(builder, n):
    bits, fraction, bias = (64, 52, 1023) if isinstance(n.type.element, ir.DoubleType) else (32, 23, 127)
    integers = ir.VectorType(ir.IntType(bits), n.type.count)
    exponent = builder.fptosi(n, integers)
    exponent = builder.add(exponent, ir.Constant(integers, [bias] * n.type.count))
    shifted = builder.shl(exponent, ir.Constant(integers, [fraction] * n.type.count))
    return builder.bitcast(shifted, n.type)


def _where_positive(builder, v, yes, no):
    zero = ir.Constant(v.type, [0.0] * v.type.count)
    picked = builder.select(builder.fcmp_ordered(">", v, zero), yes, no)
    return builder.select(builder.fcmp_unordered("uno", v, v), v, picked)


def _normal(builder, v):
    # A comparison of integers: with a subnormal number as floats it would be as slow as what it is to prevent.
    bits, exponent = (64, 0x7FF << 52) if isinstance(v.type.element, ir.DoubleType) else (32, 0xFF << 23)
    integers = ir.VectorType(ir.IntType(bits), v.type.count)
    exponents = builder.and_(builder.bitcast(v, integers), ir.Constant(integers, [exponent] * v.type.count))
    has_one = builder.icmp_unsigned("!=", exponents, ir.Constant(integers, [0] * v.type.count))
    return builder.select(has_one, v, ir.Constant(v.type, [0.0] * v.type.count))


vfma = _lane_by_lane(3, _llvm("fma"), "``a * b + c`` with one rounding.")
vadd = _lane_by_lane(2, lambda builder, a, b: builder.fadd(a, b), "``a + b``.")
vsub = _lane_by_lane(2, lambda builder, a, b: builder.fsub(a, b), "``a - b``.")
vmul = _lane_by_lane(2, lambda builder, a, b: builder.fmul(a, b), "``a * b``.")
vdiv = _lane_by_lane(2, lambda builder, a, b: builder.fdiv(a, b), "``a / b``.")
vsqrt = _lane_by_lane(1, _llvm("sqrt"), "Square root, correctly rounded.")
vround = _lane_by_lane(1, _llvm("rint"), "Nearest integers, as floats.")
vpower_of_two = _lane_by_lane(
    1, _power_of_two, "``2 ** n`` for integer-valued n, if a normal number: the exponent field, written directly."
)
vwhere_positive = _lane_by_lane(
    3, _where_positive, "`b` where ``a > 0``, else `c`; a NaN in `a` is kept, as NumPy's arithmetic would keep it."
)

vnormal = _lane_by_lane(1, _normal, "`a`, or 0 where that is subnormal.")


def _halving_sum(builder, v):
    """Sum of all lanes, halving: lane k with lane k + n/2, then k + n/4, ..."""
    half = v.type.count // 2
    while half:
        low = builder.shuffle_vector(v, v, _lane_order(range(half)))
        high = builder.shuffle_vector(v, v, _lane_order(range(half, 2 * half)))
        v = builder.fadd(low, high)
        half //= 2
    return builder.extract_element(v, ir.Constant(ir.IntType(32), 0))


def _lane_numbers(count) -> ir.Constant:
    return ir.Constant(ir.VectorType(ir.IntType(64), count), list(range(count)))


def _splat_integer(builder, number, count):
    vector = ir.VectorType(ir.IntType(64), count)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, first, _lane_order([0] * count))


@intrinsic
def vone_hot(typingctx, lane, like):
    """One tile like `like`: 1 in lane number `lane`, which may lie outside the tile, else 0."""

    def generate(context, builder, signature, arguments):
        number, group = arguments
        vector = builder.extract_value(group, 0).type
        hot = builder.icmp_signed("==", _lane_numbers(vector.count), _splat_integer(builder, number, vector.count))
        return cgutils.pack_array(builder, [builder.uitofp(hot, vector)])

    return like(types.int64, like), generate


@intrinsic
def vkeep(typingctx, a, n):
    """One tile: the first n lanes of `a`, zeros after them."""

    def generate(context, builder, signature, arguments):
        tile = builder.extract_value(arguments[0], 0)
        count = tile.type.count
        first = builder.icmp_signed("<", _lane_numbers(count), _splat_integer(builder, arguments[1], count))
        return cgutils.pack_array(builder, [builder.select(first, tile, ir.Constant(tile.type, [0.0] * count))])

    return a(a, types.int64), generate


def _sums(builder, tiles):
    """Vectors of the sums of the lanes of each of 1, 2, 4, ... tiles, in order; each is added up as in `_halving_sum`.

    As long as there are two vectors each step makes one of them: 16 tiles of 16 lanes take 15 additions and not 64.
    """
    lanes = tiles[0].type.count
    while lanes > 1:
        lanes //= 2
        merged = []
        for pair in (tiles[k : k + 2] for k in range(0, len(tiles), 2)):
            starts = range(0, len(pair) * pair[0].type.count, 2 * lanes)
            low = builder.shuffle_vector(pair[0], pair[-1], _lane_order(s + k for s in starts for k in range(lanes)))
            high = builder.shuffle_vector(
                pair[0], pair[-1], _lane_order(s + lanes + k for s in starts for k in range(lanes))
            )
            merged.append(builder.fadd(low, high))
        tiles = merged
    return tiles


@intrinsic
def vaccumulate_sums(typingctx, a, i, stride, groups):
    """Add the sum of the lanes of tile r of ``groups[u]`` to ``a[i + r * stride + u]``, as `vsum` would add them up.

    As many groups, and tiles in each, as a power of two.
    """
    n_units, n_rows = groups.count, groups.dtype.count
    alignment = a.dtype.bitwidth // 8

    def generate(context, builder, signature, arguments):
        array, index, step, value = arguments
        sums = _sums(builder, [builder.extract_value(value, (u, r)) for r in range(n_rows) for u in range(n_units)])
        per_vector = sums[0].type.count
        for r in range(n_rows):
            vector, lane = divmod(r * n_units, per_vector)
            row = builder.shuffle_vector(sums[vector], sums[vector], _lane_order(range(lane, lane + n_units)))
            at = builder.add(index, builder.mul(step, ir.Constant(step.type, r)))
            pointer = _pointer(context, builder, signature.args[0], array, at, n_units)
            pointer = builder.bitcast(pointer, row.type.as_pointer())
            row = builder.fadd(builder.load(pointer, align=alignment), row)
            builder.store(row, pointer, align=alignment)
        return context.get_dummy_value()

    return types.void(a, types.intp, types.intp, groups), generate


@intrinsic
def vsum(typingctx, a):
    """Sum of all lanes: the tiles first, one after the other, then lane k with k + V/2, and k + V/4, ..."""
    signature = a.dtype.dtype(a)

    def generate(context, builder, signature, arguments):
        total = builder.extract_value(arguments[0], 0)
        for k in range(1, a.count):
            total = builder.fadd(total, builder.extract_value(arguments[0], k))
        return _halving_sum(builder, total)

    return signature, generate


def _decoded(context, builder, types_of, array, codes, index):
    """What number `index` of `array` stands for."""
    value = builder.load(_pointer(context, builder, types_of[0], array, index, 1))
    if isinstance(types_of[0].dtype, types.Float):
        return value
    code = builder.zext(value, ir.IntType(64))
    return builder.load(_pointer(context, builder, types_of[1], codes, code, 1))


@intrinsic
def decode(typingctx, values, table, t):
    """The number that value `t` stands for: ``table[values[t]]`` for bytes, ``values[t]`` itself for floats."""

    def generate(context, builder, signature, arguments):
        return _decoded(context, builder, signature.args, *arguments)

    return table.dtype(values, table, types.intp), generate


@intrinsic
def vdecode(typingctx, values, table, t, width):
    """`decode` in every lane."""
    signature = _group(table.dtype, width)(values, table, types.intp, width)

    def generate(context, builder, signature, arguments):
        value = _decoded(context, builder, signature.args, *arguments[:3])
        return _splat(context, builder, signature.return_type, value)

    return signature, generate


def _prefetch(builder, pointer):
    address = builder.bitcast(pointer, ir.IntType(8).as_pointer())
    # to read, soon to be used again, data
    flags = [ir.Constant(ir.IntType(32), flag) for flag in (0, 3, 1)]
    _call(builder, "llvm.prefetch.p0i8", ir.VoidType(), address, *flags)


@intrinsic
def prefetch(typingctx, a, i):
    """Have the cache line of ``a[i]`` fetched, wherever that is; nothing waits for it."""

    def generate(context, builder, signature, arguments):
        _prefetch(builder, _pointer(context, builder, signature.args[0], *arguments, 1))
        return context.get_dummy_value()

    return types.void(a, types.intp), generate


@intrinsic
def vprefetch(typingctx, a, i, row_length, rows, width):
    """`prefetch` of neighbouring tiles from ``a[i]`` on, and in the rows after; `rows` is as long as there are rows."""

    def generate(context, builder, signature, arguments):
        array, index, length = arguments[:3]
        apart = ir.Constant(length.type, _group(a.dtype, width).dtype.lanes)
        for row in range(rows.count):
            at = builder.add(index, builder.mul(length, ir.Constant(length.type, row)))
            for pointer in _tile_pointers(context, builder, signature.args[0], array, at, apart, width.count, 1):
                _prefetch(builder, pointer)
        return context.get_dummy_value()

    return types.void(a, types.intp, types.intp, rows, width), generate


# Numba's own indexing takes four instructions more, for negative indices.


@intrinsic
def fetch(typingctx, a, i):
    """``a[i]`` of integers, as an int64, for i >= 0."""

    def generate(context, builder, signature, arguments):
        pointer = _pointer(context, builder, signature.args[0], arguments[0], arguments[1], 1)
        return context.cast(builder, builder.load(pointer), a.dtype, types.int64)

    return types.int64(a, types.intp), generate


@intrinsic
def vbroadcast(typingctx, a, i, width):
    """``a[i]`` in every lane, for i >= 0."""
    signature = _group(a.dtype, width)(a, types.intp, width)

    def generate(context, builder, signature, arguments):
        pointer = _pointer(context, builder, signature.args[0], arguments[0], arguments[1], 1)
        return _splat(context, builder, signature.return_type, builder.load(pointer))

    return signature, generate


@intrinsic
def nonzeros_at(typingctx, a, i):
    """Bit k of a uint64: whether ``a[i + k]`` is not 0, for as many numbers as a tile has; i >= 0."""

    def generate(context, builder, signature, arguments):
        lanes = TILE_BYTES * 8 // a.dtype.bitwidth
        pointer = _pointer(context, builder, signature.args[0], *arguments, lanes)
        v = builder.load(pointer, align=a.dtype.bitwidth // 8)
        zero = ir.Constant(v.type, [0] * lanes)
        # unordered: NaN is not 0
        differs = builder.icmp_unsigned if isinstance(v.type.element, ir.IntType) else builder.fcmp_unordered
        bits = builder.bitcast(differs("!=", v, zero), ir.IntType(lanes))
        return builder.zext(bits, ir.IntType(64)) if lanes < 64 else bits

    return types.uint64(a, types.intp), generate


@intrinsic
def put(typingctx, a, i, number):
    """``a[i] = number`` of integers, for i >= 0."""

    def generate(context, builder, signature, arguments):
        pointer = _pointer(context, builder, signature.args[0], arguments[0], arguments[1], 1)
        builder.store(context.cast(builder, arguments[2], types.int64, a.dtype), pointer)
        return context.get_dummy_value()

    return types.void(a, types.intp, types.int64), generate


@intrinsic
def vcopy(typingctx, source, i, target, j, width):
    """``target[j : j + n] = source[i : i + n]`` for i, j >= 0, where `width` is n long: at once."""

    def generate(context, builder, signature, arguments):
        pointers = [
            _pointer(context, builder, signature.args[k], arguments[k], arguments[k + 1], width.count) for k in (0, 2)
        ]
        alignment = source.dtype.bitwidth // 8
        builder.store(builder.load(pointers[0], align=alignment), pointers[1], align=alignment)
        return context.get_dummy_value()

    return types.void(source, types.intp, target, types.intp, width), generate


def _of_bits(name, documentation):
    """Make a number of a uint64's bits from the LLVM intrinsic of this name."""

    def operation(typingctx, bits):
        def generate(context, builder, signature, arguments):
            # zero in, 64 out, where the intrinsic asks
            flags = [ir.Constant(ir.IntType(1), 0)] if name == "cttz" else []
            return _call(builder, f"llvm.{name}.i64", ir.IntType(64), arguments[0], *flags)

        return types.int64(types.uint64), generate

    operation.__doc__ = documentation
    return intrinsic(operation)


trailing_zeros = _of_bits("cttz", "Zeros below the lowest 1 of a uint64.")
count_ones = _of_bits("ctpop", "Ones in a uint64.")


# Whether a tile is one of 32 registers, as in AVX-512. Narrower machines have 16 for halves of tiles, or quarters: four
# sums of two tiles fill those of AVX2.
WIDE = vector_bits() == 512


@inlined
def group_size(n):
    """How many of n remaining tiles to work on together, one sum for each: 4, or the last 5, 3, 2 or 1."""
    return 4 if n > 5 else n


@inlined
def small_group_size(n):
    """`group_size` where registers hold weights, or more sums, beside one for each tile: 2 or 1 on narrow machines."""
    return group_size(n) if WIDE else min(n, 2)


if config.DISABLE_JIT:

    def _lanes(a, width):
        return TILE_BYTES // a.dtype.itemsize // (2 if isinstance(width[0], bool) else 1)

    def lanes_of(a):
        return TILE_BYTES // a.dtype.itemsize

    def vload(a, i, stride, width):
        lanes = _lanes(a, width)
        offsets = stride if isinstance(stride, tuple) else [k * stride for k in range(len(width))]
        starts = [i + offset for offset in offsets]
        assert all(0 <= s and s + lanes <= a.size for s in starts)
        return np.concatenate([a[s : s + lanes] for s in starts])

    def _places(a, i, stride, v):
        # what is less than a tile apart are halves
        lanes = min(TILE_BYTES // a.dtype.itemsize, stride or v.size)
        for k in range(v.size // lanes):
            assert 0 <= i + k * stride <= a.size - lanes
            yield slice(i + k * stride, i + k * stride + lanes), slice(k * lanes, (k + 1) * lanes)

    def vstore(a, i, stride, v):
        for place, part in _places(a, i, stride, v):
            a[place] = v[part]

    def vaccumulate(a, i, stride, v):
        for place, part in _places(a, i, stride, v):
            a[place] += v[part]

    def vsplat(x, width):
        return np.full(_lanes(x, width) * len(width), x)

    def vmask(mask, i, stride, like):
        lanes = TILE_BYTES // like.dtype.itemsize
        parts = [mask[i + k * stride : i + k * stride + lanes] for k in range(like.size // lanes)]
        assert all(part.size == lanes for part in parts)
        return np.concatenate(parts).astype(like.dtype)

    def vfma(a, b, c):
        return a * b + c

    vadd, vsub, vmul, vdiv, vsqrt = np.add, np.subtract, np.multiply, np.divide, np.sqrt
    vround, vpower_of_two = np.rint, np.exp2

    def vwhere_positive(a, x, y):
        return np.where(np.isnan(a), a, np.where(a > 0, x, y))

    def vnormal(a):
        return np.where(np.abs(a) < np.finfo(a.dtype).tiny, a.dtype.type(0), a)

    def vone_hot(lane, like):
        return (np.arange(like.size) == lane).astype(like.dtype)

    def vkeep(a, n):
        return np.where(np.arange(a.size) < n, a, a.dtype.type(0))

    def _halve(v):
        while v.size > 1:
            v = v[: v.size // 2] + v[v.size // 2 :]
        return v[0]

    def vaccumulate_sums(a, i, stride, groups):
        lanes = TILE_BYTES // a.dtype.itemsize
        for u, group in enumerate(groups):
            for r, tile in enumerate(group.reshape(-1, lanes)):
                a[i + r * stride + u] += _halve(tile)

    def vsum(a):
        total, *others = a.reshape(-1, TILE_BYTES // a.dtype.itemsize)
        for tile in others:
            total = total + tile
        return _halve(total)

    def vrepeat(tile, width):
        return np.tile(tile, len(width))

    def prefetch(a, i):
        pass

    def vprefetch(a, i, row_length, rows, width):
        pass

    def fetch(a, i):
        return int(a[i])

    def vbroadcast(a, i, width):
        return vsplat(a[i], width)

    def nonzeros_at(a, i):
        tile = vload(a, i, 0, W1)
        return np.uint64(sum(1 << int(k) for k in np.flatnonzero(tile)))

    def put(a, i, number):
        a[i] = number

    def vcopy(source, i, target, j, width):
        target[j : j + len(width)] = source[i : i + len(width)]

    def trailing_zeros(bits):
        return (int(bits) & -int(bits)).bit_length() - 1

    def count_ones(bits):
        return int(bits).bit_count()

    def decode(values, table, t):
        return values[t] if values.dtype == table.dtype else table[values[t]]

    def vdecode(values, table, t, width):
        return vsplat(decode(values, table, t), width)
