"""Named tuples that kernels hand on as one address.

Numba passes a tuple as all that it consists of: seven values for each array of one axis, 72 for `sparse.Blocks`.
Putting those together and taking them apart was a quarter of the code that LLVM got, though most functions use few of
them. With addresses, what `train` needs compiles in 18.8 s on one thread instead of 22.7 s.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.core.imputils import impl_ret_borrowed
from numba.core.typing.templates import AttributeTemplate
from numba.extending import infer_getattr, intrinsic, lower_getattr_generic, models, register_model


class Held(types.Type):
    """Address of a named tuple."""

    def __init__(self, fields: types.BaseNamedTuple) -> None:
        self.fields = fields
        super().__init__(name=f"Held({fields})")


@register_model(Held)
class HeldModel(models.OpaqueModel):
    """A pointer to bytes: one to the tuple's type would spell that type out wherever it is mentioned."""


def _pointer(context, builder, held, value):
    """Address of the tuple, as what it is."""
    return builder.bitcast(value, context.get_value_type(held.fields).as_pointer())


@infer_getattr
class HeldFields(AttributeTemplate):
    """Types of the fields of a held tuple."""

    key = Held

    def generic_resolve(self, held, name):
        """Type of one field; None where the tuple has none of that name."""
        names = held.fields.fields
        return held.fields.types[names.index(name)] if name in names else None


@lower_getattr_generic(Held)
def _load_field(context, builder, held, value, name):
    """Load one field."""
    place = held.fields.fields.index(name)
    field = builder.load(cgutils.gep_inbounds(builder, _pointer(context, builder, held, value), 0, place))
    return impl_ret_borrowed(context, builder, held.fields.types[place], field)


@intrinsic
def held(typingctx, fields):
    """Hold a named tuple, whose fields then are read as before; for no longer than the calling function runs."""

    def generate(context, builder, signature, arguments):
        address = cgutils.alloca_once_value(builder, arguments[0])
        return builder.bitcast(address, ir.IntType(8).as_pointer())

    return Held(fields)(fields), generate


@intrinsic
def opened(typingctx, held):
    """Read all fields of a held tuple, before a loop: what that writes could change the tuple, for all LLVM knows.

    With fields read where they are used, training took 15 to 25 % longer. A tuple that is not held stays what it is.
    """
    fields = held.fields if isinstance(held, Held) else held

    def generate(context, builder, signature, arguments):
        value = arguments[0]
        if fields is not held:
            value = builder.load(_pointer(context, builder, held, value))
        return impl_ret_borrowed(context, builder, fields, value)

    return fields(held), generate


if config.DISABLE_JIT:

    def held(fields):
        return fields

    opened = held
