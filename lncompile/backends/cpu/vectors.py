"""Vectors as a type of Numba's: lanes of one scalar type, as one LLVM vector.

Lane counts are literals in kernels, so a value such as ``load(x, i, 64)`` is one LLVM vector; LLVM cuts it
into registers, which makes wide vectors the way to say "four accumulators".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import llvmlite.ir as lir
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.core.datamodel.registry import register_default

I32, I64 = lir.IntType(32), lir.IntType(64)


class Vector(types.Type):
    """``lanes`` values of one scalar type."""

    def __init__(self, element: Any, lanes: int) -> None:
        self.element = element
        self.lanes = lanes
        super().__init__(name=f"vector({element}, {lanes})")


@register_default(Vector)
class VectorModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Vector) -> None:
        element = (
            lir.IntType(1)
            if fe_type.element == types.boolean
            else dmm.lookup(fe_type.element).get_value_type()
        )
        super().__init__(dmm, fe_type, lir.VectorType(element, fe_type.lanes))


class Half(types.Type):
    """A float of 16 bits as it lies in memory: there is no arithmetic on it, it is converted first."""

    bitwidth = 16


@register_default(Half)
class HalfModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Half) -> None:
        super().__init__(dmm, fe_type, lir.IntType(16))


float16 = Half("float16")
bfloat16 = Half("bfloat16")


def element_of(t: Any) -> Any:
    """The type of a vector's lanes, or of a number."""
    return t.element if isinstance(t, Vector) else t


def _is_number(t: Any) -> bool:
    return isinstance(t, types.Float | types.Integer)


def joined(*operands: Any) -> Any:
    """The type of an elementwise operation: the vector's, if there is one; scalars adapt to it."""
    vectors = [t for t in operands if isinstance(t, Vector) and t.element != types.boolean]
    if vectors:
        first = vectors[0]
        if all(t == first or _is_number(t) for t in operands):
            return first
        return None
    if all(_is_number(t) for t in operands):
        # Row-sized scalars are float64; float32 ones stay among themselves.
        return types.float32 if all(t == types.float32 for t in operands) else types.float64
    return None


def adapted(context: Any, builder: Any, value: Any, source: Any, target: Any) -> Any:
    """``value`` as ``target``: scalars are converted and repeated in every lane."""
    if source == target:
        return value
    element = element_of(target)
    value = context.cast(builder, value, source, element)
    return splat(builder, value, target.lanes) if isinstance(target, Vector) else value


def splat(builder: Any, value: Any, lanes: int) -> Any:
    """A vector of equal lanes."""
    kind = lir.VectorType(value.type, lanes)
    single = builder.insert_element(lir.Constant(kind, lir.Undefined), value, I32(0))
    return builder.shuffle_vector(
        single, lir.Constant(kind, lir.Undefined), lir.Constant(lir.VectorType(I32, lanes), [0] * lanes)
    )


def literal(t: Any) -> int:
    """The number that a literal type stands for."""
    return int(t.literal_value)


def call(
    builder: Any, name: str, arguments: Sequence[Any], result: Any = None, suffix: Sequence[Any] = ()
) -> Any:
    """Call an LLVM intrinsic."""
    result = result or arguments[0].type
    function_type = lir.FunctionType(result, [argument.type for argument in arguments])
    full = ".".join([name, *(_mangled(kind) for kind in (suffix or (arguments[0].type,)))])
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, full), arguments)


def _mangled(kind: Any) -> str:
    if isinstance(kind, lir.VectorType):
        return f"v{kind.count}{_mangled(kind.element)}"
    if isinstance(kind, lir.PointerType):
        return "p0"
    return {"float": "f32", "double": "f64"}.get(str(kind), str(kind))


def as_mask(context: Any, builder: Any, value: Any, kind: Any, like: Any) -> Any:
    """A truth value as wide as ``like``."""
    return (
        splat(builder, value, like.lanes)
        if isinstance(like, Vector) and not isinstance(kind, Vector)
        else value
    )


def first_lanes(builder: Any, count: Any, lanes: int) -> Any:
    """The mask of lanes below ``count``."""
    kind = lir.VectorType(I32, lanes)
    return builder.icmp_signed(
        "<", lir.Constant(kind, list(range(lanes))), splat(builder, builder.trunc(count, I32), lanes)
    )


def store_past_caches(builder: Any, vector: Any, address: Any, boundary: int) -> None:
    """Store ``vector`` to ``address``, a multiple of ``boundary`` bytes, where no cache keeps it."""
    stored = builder.store(vector, address, align=boundary)
    stored.set_metadata("nontemporal", builder.module.add_metadata([I32(1)]))
