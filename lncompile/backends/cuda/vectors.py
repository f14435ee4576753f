"""Vectors as a type of Numba's for CUDA: values of one scalar type, as one LLVM vector.

A value that is the same for a whole row is a vector of one lane; in an operation with a wider one it is
repeated in every lane, and numbers of Python's become what the vector holds.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.ir as lir
from numba.cuda import cgutils, types
from numba.cuda.core.imputils import lower_builtin
from numba.cuda.datamodel import models
from numba.cuda.extending import _intrinsic, register_model
from numba.cuda.typing.templates import AbstractTemplate, infer_global, signature

from lncompile.backends.cpu import instructions

I32, I64 = lir.IntType(32), lir.IntType(64)
F32 = lir.FloatType()

#: Like ``numba.cuda.extending.intrinsic``, which has no way to ask for the values of literal arguments.
literal_intrinsic = _intrinsic(target="cuda", prefer_literal=True)


class Vector(types.Type):
    """``lanes`` values of one scalar type."""

    def __init__(self, element: Any, lanes: int) -> None:
        self.element = element
        self.lanes = lanes
        super().__init__(name=f"vector({element}, {lanes})")


@register_model(Vector)
class VectorModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Vector) -> None:
        super().__init__(dmm, fe_type, lir.VectorType(scalar(fe_type.element), fe_type.lanes))


class Half(types.Type):
    """A float of 16 bits as it lies in memory: there is no arithmetic on it, it is converted first."""

    bitwidth = 16


@register_model(Half)
class HalfModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Half) -> None:
        super().__init__(dmm, fe_type, lir.IntType(16))


float16 = Half("float16")
bfloat16 = Half("bfloat16")

#: The types behind pointers, by the names of dtypes.
ELEMENTS = {"float16": float16, "bfloat16": bfloat16, "float32": types.float32, "float64": types.float64}


def literal(t: Any) -> int:
    """The number that a literal type stands for."""
    return int(t.literal_value)


def scalar(element: Any) -> Any:
    """LLVM's type of one lane."""
    if element == types.boolean:
        return lir.IntType(1)
    if isinstance(element, Half):
        return lir.IntType(16)
    return lir.FloatType() if element == types.float32 else lir.DoubleType()


def joined(*operands: Any) -> Any:
    """The type of an elementwise operation: the widest vector's; None if they do not fit together."""
    vectors = [t for t in operands if isinstance(t, Vector) and t.element != types.boolean]
    if not vectors:
        return None
    widest = max(vectors, key=lambda t: t.lanes)
    fits = all(t.element == widest.element and t.lanes in (1, widest.lanes) for t in vectors)
    numbers = all(isinstance(t, Vector | types.Float | types.Integer) for t in operands)
    return widest if fits and numbers else None


def adapted(context: Any, builder: Any, value: Any, source: Any, target: Vector) -> Any:
    """``value`` as ``target``: numbers are converted, what is the same in all lanes is repeated."""
    if source == target:
        return value
    if isinstance(source, Vector):
        value = lane(builder, value, 0)
    else:
        value = context.cast(builder, value, source, target.element)
    return splat(builder, value, target.lanes)


def splat(builder: Any, value: Any, lanes: int) -> Any:
    """A vector of equal lanes."""
    return gathered(builder, [value] * lanes)


def lane(builder: Any, vector: Any, index: int) -> Any:
    """One lane of a vector."""
    return builder.extract_element(vector, I32(index))


def scattered(builder: Any, vector: Any) -> list[Any]:
    """All lanes of a vector."""
    return [lane(builder, vector, index) for index in range(vector.type.count)]


def gathered(builder: Any, lanes: Sequence[Any]) -> Any:
    """The vector of these lanes."""
    vector = lir.Constant(lir.VectorType(lanes[0].type, len(lanes)), lir.Undefined)
    for index, value in enumerate(lanes):
        vector = builder.insert_element(vector, value, I32(index))
    return vector


def call(builder: Any, name: str, arguments: Sequence[Any], result: Any = None) -> Any:
    """Call an LLVM intrinsic on scalars."""
    kind = arguments[0].type
    suffix = {"float": "f32", "double": "f64"}[str(kind)]
    function_type = lir.FunctionType(result or kind, [argument.type for argument in arguments])
    function = cgutils.get_or_insert_function(builder.module, function_type, f"{name}.{suffix}")
    return builder.call(function, arguments)


def magnitude(builder: Any, number: Any) -> Any:
    """The absolute value: NVVM has no ``llvm.fabs``."""
    word = I32 if number.type == lir.FloatType() else I64
    bits = builder.and_(builder.bitcast(number, word), word((1 << word.width - 1) - 1))
    return builder.bitcast(bits, number.type)


def assembly(
    builder: Any, text: str, result: Any, constraints: str, arguments: Sequence[Any], *, again: bool = False
) -> Any:
    """Inline PTX that depends on its arguments alone; ``again`` keeps LLVM from reusing an earlier result."""
    function_type = lir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(lir.InlineAsm(function_type, text, constraints, side_effect=again), arguments)


def _install(function: Any, instruction: Callable[..., Any], compares: bool) -> None:
    @infer_global(function)
    class VectorOperator(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            kind = joined(*args) if len(args) == 2 and not kws else None
            if kind is None:
                return None
            return signature(Vector(types.boolean, kind.lanes) if compares else kind, *args)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = joined(*sig.args)
        left, right = (adapted(context, builder, v, t, kind) for v, t in zip(args, sig.args, strict=True))
        return instruction(builder, left, right)

    for number in (types.Float, types.Integer):
        lower_builtin(function, Vector, number)(lower)
        lower_builtin(function, number, Vector)(lower)
    lower_builtin(function, Vector, Vector)(lower)


for _function, _instruction in instructions.OPERATORS.items():
    _install(_function, *_instruction)


@infer_global(operator.neg)
class VectorNegation(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        return signature(args[0], *args) if len(args) == 1 and isinstance(args[0], Vector) else None


@lower_builtin(operator.neg, Vector)
def _negate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    # Not fneg, which NVVM's older dialect does not have.
    zero = lir.Constant(args[0].type, [-0.0] * args[0].type.count)
    return builder.fsub(zero, args[0])
