"""Explicit vectors for Numba: a registered vector type and the few operations that the kernels need.

A *tile* is 64 bytes of one float type: 16 float32 or 8 float64, one AVX-512 register. A vector value spans one, two or
four tiles, and LLVM splits it into the registers that the machine has (a tile is two AVX2 or four SSE registers), so
one source and one memory layout serve every width. Every operation acts lane by lane with one rounding (`vfma` is a
true fused multiply-add), so a lane's result depends neither on the number of tiles worked on together nor on the
thread.

The number of tiles travels in a type: `width` arguments are tuples whose *length* is the number of tiles (`W1`, `W2`,
`W4`), which lets one kernel source serve all three without recompiling for any network size.

With ``NUMBA_DISABLE_JIT=1`` the same names are NumPy functions, so that the kernels run as plain Python.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic, models, register_model

from fastmnist.spec import TILE_BYTES

W1 = (0,)
W2 = (0, 0)
W4 = (0, 0, 0, 0)


class Vector(types.Type):
    """`lanes` floats of type `dtype`, held in registers."""

    def __init__(self, dtype: types.Float, lanes: int) -> None:
        self.dtype = dtype
        self.lanes = lanes
        super().__init__(name=f"Vector({dtype}, {lanes})")

    @property
    def key(self):
        return self.dtype, self.lanes


@register_model(Vector)
class VectorModel(models.PrimitiveModel):
    """A vector is one LLVM vector value."""

    def __init__(self, dmm, fe_type):
        element = ir.DoubleType() if fe_type.dtype == types.float64 else ir.FloatType()
        super().__init__(dmm, fe_type, ir.VectorType(element, fe_type.lanes))


def _tile_lanes(dtype):
    return TILE_BYTES * 8 // dtype.bitwidth


def _suffix(vector: ir.VectorType) -> str:
    return f"v{vector.count}{'f64' if isinstance(vector.element, ir.DoubleType) else 'f32'}"


def _call(builder, name, result, *arguments):
    """Call an LLVM intrinsic by its mangled name."""
    function_type = ir.FunctionType(result, [a.type for a in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), arguments)


def _lane_order(lanes) -> ir.Constant:
    return ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), list(lanes))


def _concatenate(builder, parts):
    """Join vectors of equal length; a power of two of them."""
    while len(parts) > 1:
        order = _lane_order(range(2 * parts[0].type.count))
        parts = [builder.shuffle_vector(parts[k], parts[k + 1], order) for k in range(0, len(parts), 2)]
    return parts[0]


def _splat(builder, vector, scalar):
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, undefined, _lane_order([0] * vector.count))


def _pointer(context, builder, array_type, array_value, index, lanes):
    """Address of `lanes` elements from ``array[index]`` on; under NUMBA_BOUNDSCHECK all must lie inside the array."""
    array = context.make_array(array_type)(context, builder, array_value)
    if config.BOUNDSCHECK:
        size = builder.extract_value(array.shape, 0)
        cgutils.do_boundscheck(context, builder, index, size)
        last = builder.add(index, ir.Constant(index.type, lanes - 1))
        cgutils.do_boundscheck(context, builder, last, size)
    pointer = builder.gep(array.data, [index], inbounds=True)
    if lanes == 1:
        return pointer
    element = context.get_data_type(array_type.dtype)
    return builder.bitcast(pointer, ir.VectorType(element, lanes).as_pointer())


@intrinsic
def vload(typingctx, a, i, stride, width):
    """Tiles ``a[i:]``, ``a[i + stride:]``, ... side by side; as many as `width` is long."""
    lanes = _tile_lanes(a.dtype)
    signature = Vector(a.dtype, lanes * width.count)(a, types.intp, types.intp, width)

    def generate(context, builder, signature, arguments):
        array, index, step, _ = arguments
        parts = []
        for k in range(width.count):
            at = builder.add(index, builder.mul(step, ir.Constant(step.type, k)))
            pointer = _pointer(context, builder, signature.args[0], array, at, lanes)
            parts.append(builder.load(pointer, align=a.dtype.bitwidth // 8))
        return _concatenate(builder, parts)

    return signature, generate


@intrinsic
def vstore(typingctx, a, i, stride, v):
    """Write the tiles of `v` to ``a[i:]``, ``a[i + stride:]``, ..."""
    signature = types.void(a, types.intp, types.intp, v)
    lanes = _tile_lanes(a.dtype)

    def generate(context, builder, signature, arguments):
        array, index, step, value = arguments
        for k in range(v.lanes // lanes):
            at = builder.add(index, builder.mul(step, ir.Constant(step.type, k)))
            pointer = _pointer(context, builder, signature.args[0], array, at, lanes)
            order = _lane_order(range(k * lanes, (k + 1) * lanes))
            builder.store(builder.shuffle_vector(value, value, order), pointer, align=a.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def vsplat(typingctx, x, width):
    """Scalar `x` in every lane."""
    signature = Vector(x, _tile_lanes(x) * width.count)(x, width)

    def generate(context, builder, signature, arguments):
        return _splat(builder, context.get_value_type(signature.return_type), arguments[0])

    return signature, generate


@intrinsic
def vmask(typingctx, mask, i, stride, like):
    """Bytes ``mask[i:]``, ``mask[i + stride:]``, ..., a tile's worth of lanes each, as floats shaped like `like`."""
    signature = like(mask, types.intp, types.intp, like)
    lanes = _tile_lanes(like.dtype)

    def generate(context, builder, signature, arguments):
        array, index, step, _ = arguments
        parts = []
        for k in range(like.lanes // lanes):
            at = builder.add(index, builder.mul(step, ir.Constant(step.type, k)))
            pointer = _pointer(context, builder, signature.args[0], array, at, lanes)
            parts.append(builder.load(pointer, align=1))
        return builder.uitofp(_concatenate(builder, parts), context.get_value_type(like))

    return signature, generate


@intrinsic
def vfma(typingctx, a, b, c):
    """``a * b + c`` with one rounding."""

    def generate(context, builder, signature, arguments):
        vector = arguments[0].type
        return _call(builder, f"llvm.fma.{_suffix(vector)}", vector, *arguments)

    return a(a, a, a), generate


def _binary(operation, documentation):
    @intrinsic
    def vbinary(typingctx, a, b):
        def generate(context, builder, signature, arguments):
            return getattr(builder, operation)(*arguments)

        return a(a, a), generate

    vbinary.__doc__ = documentation
    return vbinary


vadd = _binary("fadd", "``a + b``.")
vsub = _binary("fsub", "``a - b``.")
vmul = _binary("fmul", "``a * b``.")
vdiv = _binary("fdiv", "``a / b``.")


@intrinsic
def vsqrt(typingctx, a):
    """Square root, correctly rounded."""

    def generate(context, builder, signature, arguments):
        vector = arguments[0].type
        return _call(builder, f"llvm.sqrt.{_suffix(vector)}", vector, *arguments)

    return a(a), generate


@intrinsic
def vround(typingctx, a):
    """Nearest integers, as floats."""

    def generate(context, builder, signature, arguments):
        vector = arguments[0].type
        return _call(builder, f"llvm.rint.{_suffix(vector)}", vector, *arguments)

    return a(a), generate


@intrinsic
def vpower_of_two(typingctx, n):
    """``2 ** n`` for integer-valued lanes whose result is a normal number: the exponent field, written directly."""
    bits, fraction, bias = (64, 52, 1023) if n.dtype == types.float64 else (32, 23, 127)

    def generate(context, builder, signature, arguments):
        integers = ir.VectorType(ir.IntType(bits), n.lanes)
        exponent = builder.fptosi(arguments[0], integers)
        exponent = builder.add(exponent, ir.Constant(integers, [bias] * n.lanes))
        shifted = builder.shl(exponent, ir.Constant(integers, [fraction] * n.lanes))
        return builder.bitcast(shifted, context.get_value_type(n))

    return n(n), generate


@intrinsic
def vwhere_positive(typingctx, a, x, y):
    """`x` where ``a > 0``, else `y`; a NaN in `a` is kept, as NumPy's arithmetic would keep it."""

    def generate(context, builder, signature, arguments):
        v, yes, no = arguments
        zero = ir.Constant(v.type, [0.0] * v.type.count)
        picked = builder.select(builder.fcmp_ordered(">", v, zero), yes, no)
        return builder.select(builder.fcmp_unordered("uno", v, v), v, picked)

    return a(a, a, a), generate


def _halving_sum(builder, v):
    """Sum of all lanes, halving: lane k with lane k + n/2, then k + n/4, ..."""
    half = v.type.count // 2
    while half:
        low = builder.shuffle_vector(v, v, _lane_order(range(half)))
        high = builder.shuffle_vector(v, v, _lane_order(range(half, 2 * half)))
        v = builder.fadd(low, high)
        half //= 2
    return builder.extract_element(v, ir.Constant(ir.IntType(32), 0))


@intrinsic
def vsum(typingctx, a):
    """Sum of all lanes, halving: lane k with lane k + n/2, then k + n/4, ..."""

    def generate(context, builder, signature, arguments):
        return _halving_sum(builder, arguments[0])

    return a.dtype(a), generate


@intrinsic
def vtile_sums(typingctx, a):
    """Sum of the lanes of each tile, as a tuple; the order of additions is `vsum`'s."""
    lanes = _tile_lanes(a.dtype)
    signature = types.UniTuple(a.dtype, a.lanes // lanes)(a)

    def generate(context, builder, signature, arguments):
        (v,) = arguments
        sums = []
        for k in range(0, a.lanes, lanes):
            tile = builder.shuffle_vector(v, v, _lane_order(range(k, k + lanes)))
            sums.append(_halving_sum(builder, tile))
        return cgutils.pack_array(builder, sums)

    return signature, generate


@intrinsic
def vrepeat(typingctx, tile, width):
    """One tile, repeated as often as `width` is long."""
    signature = Vector(tile.dtype, tile.lanes * width.count)(tile, width)

    def generate(context, builder, signature, arguments):
        order = _lane_order(list(range(tile.lanes)) * width.count)
        return builder.shuffle_vector(arguments[0], arguments[0], order)

    return signature, generate


@intrinsic
def decode(typingctx, values, table, t):
    """The number that entry `t` stands for: ``table[values[t]]`` for bytes, ``values[t]`` itself for floats."""
    signature = table.dtype(values, table, types.intp)

    def generate(context, builder, signature, arguments):
        array, codes, index = arguments
        pointer = _pointer(context, builder, signature.args[0], array, index, 1)
        value = builder.load(pointer)
        if isinstance(values.dtype, types.Float):
            return value
        code = builder.zext(value, ir.IntType(64))
        pointer = _pointer(context, builder, signature.args[1], codes, code, 1)
        return builder.load(pointer)

    return signature, generate


if config.DISABLE_JIT:

    def _lanes(a, width):
        return TILE_BYTES // a.dtype.itemsize, len(width)

    def vload(a, i, stride, width):
        lanes, count = _lanes(a, width)
        starts = [i + k * stride for k in range(count)]
        assert all(0 <= s and s + lanes <= a.size for s in starts)
        return np.concatenate([a[s : s + lanes] for s in starts])

    def vstore(a, i, stride, v):
        lanes = TILE_BYTES // a.dtype.itemsize
        for k in range(v.size // lanes):
            assert 0 <= i + k * stride <= a.size - lanes
            a[i + k * stride : i + k * stride + lanes] = v[k * lanes : (k + 1) * lanes]

    def vsplat(x, width):
        return np.full(TILE_BYTES // x.dtype.itemsize * len(width), x)

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

    def vsum(a):
        while a.size > 1:
            a = a[: a.size // 2] + a[a.size // 2 :]
        return a[0]

    def vtile_sums(a):
        return tuple(vsum(tile) for tile in a.reshape(-1, TILE_BYTES // a.dtype.itemsize))

    def vrepeat(tile, width):
        return np.tile(tile, len(width))

    def decode(values, table, t):
        return values[t] if values.dtype == table.dtype else table[values[t]]
