"""16-bit floats as LLVM instructions: between the bits that lie in memory and float32 or float64.

Values are scalars or vectors of i16, float or double; every conversion is exact or rounds once, to nearest
even, keeps infinities and makes NaN quiet. No instruction becomes a call into a library: where the CPU has
none for float16, its conversions are made of integer instructions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import llvmlite.ir as lir

I16, I32 = lir.IntType(16), lir.IntType(32)
HALF, FLOAT, DOUBLE = lir.HalfType(), lir.FloatType(), lir.DoubleType()

#: What a float32 adds to the exponent of a float16, in the place of the exponent.
_BIAS = (127 - 15) << 23


def widened(builder: Any, value: Any, name: str, target: Any, *, in_hardware: bool) -> Any:
    """The i16 ``value`` of dtype ``name`` as float or double, exactly; ``target`` is the element type."""
    if name == "bfloat16":
        bits = builder.shl(builder.zext(value, _like(value, I32)), _constant(value, I32, 16))
        single = builder.bitcast(bits, _like(value, FLOAT))
    elif in_hardware:
        single = builder.fpext(builder.bitcast(value, _like(value, HALF)), _like(value, FLOAT))
    else:
        single = _float16_in_integers(builder, value)
    return single if target == FLOAT else builder.fpext(single, _like(value, target))


def narrowed(builder: Any, value: Any, name: str, *, in_hardware: bool) -> Any:
    """The float or double ``value`` as the i16 of dtype ``name``, rounded once."""
    if _element(value) == DOUBLE:
        value = _to_odd(builder, value)
    if name == "bfloat16":
        return _to_bfloat16(builder, value)
    if in_hardware:
        return builder.bitcast(builder.fptrunc(value, _like(value, HALF)), _like(value, I16))
    return _to_float16_in_integers(builder, value)


def _to_odd(builder: Any, value: Any) -> Any:
    """double as float, what lies between two numbers as the odd one: it rounds on as the double would."""
    near = builder.fptrunc(value, _like(value, FLOAT))
    back = builder.fpext(near, value.type)
    bits = builder.bitcast(near, _like(value, I32))
    beyond = builder.fcmp_ordered(">", _size(builder, back), _size(builder, value))
    towards_zero = builder.add(bits, builder.sext(beyond, bits.type))
    inexact = builder.zext(builder.fcmp_ordered("!=", back, value), bits.type)
    return builder.bitcast(builder.or_(towards_zero, inexact), near.type)


def _to_bfloat16(builder: Any, value: Any) -> Any:
    bits = builder.bitcast(value, _like(value, I32))
    above = builder.lshr(bits, _constant(value, I32, 16))
    odd = builder.and_(above, _constant(value, I32, 1))
    rounded = builder.add(bits, builder.add(odd, _constant(value, I32, 0x7FFF)))
    # All ones are a quiet NaN, too, and spare a blend.
    nan = builder.sext(builder.fcmp_unordered("uno", value, value), bits.type)
    shifted = builder.lshr(builder.or_(rounded, nan), _constant(value, I32, 16))
    return builder.trunc(shifted, _like(value, I16))


def _float16_in_integers(builder: Any, value: Any) -> Any:
    """float16 as float: the fraction moves to its place, the exponent changes its bias.

    Subnormal numbers are those of the least exponent less its hidden bit, which a subtraction takes away.
    """

    def constant(number: int) -> Any:
        return _constant(value, I32, number)

    wide = builder.zext(value, _like(value, I32))
    moved = builder.shl(builder.and_(wide, constant(0x7FFF)), constant(13))
    normal = builder.add(moved, constant(_BIAS))
    least = constant(_BIAS + (1 << 23))
    single = _like(value, FLOAT)
    with_bit = builder.bitcast(builder.add(normal, constant(1 << 23)), single)
    subnormal = builder.bitcast(builder.fsub(with_bit, builder.bitcast(least, single)), _like(value, I32))
    special = builder.add(normal, constant(_BIAS))
    bits = builder.select(builder.icmp_unsigned("<", normal, least), subnormal, normal)
    infinite = builder.icmp_unsigned(">=", moved, constant(0x1F << 23))
    bits = builder.select(infinite, special, bits)
    sign = builder.shl(builder.and_(wide, constant(0x8000)), constant(16))
    return builder.bitcast(builder.or_(bits, sign), single)


def _to_float16_in_integers(builder: Any, value: Any) -> Any:
    """float as float16: as in integers for bfloat16, with subnormal numbers rounded by an addition.

    0.5 is so large that its last bit is the least float16.
    """

    def constant(number: int) -> Any:
        return _constant(value, I32, number)

    bits = builder.bitcast(value, _like(value, I32))
    size = builder.and_(bits, constant(0x7FFFFFFF))
    single = _like(value, FLOAT)
    half = builder.bitcast(constant(126 << 23), single)
    aligned = builder.bitcast(builder.fadd(builder.bitcast(size, single), half), _like(value, I32))
    subnormal = builder.sub(aligned, constant(126 << 23))
    odd = builder.and_(builder.lshr(size, constant(13)), constant(1))
    rebiased = builder.add(size, constant(0xFFF - _BIAS))
    normal = builder.lshr(builder.add(rebiased, odd), constant(13))
    chosen = builder.select(builder.icmp_unsigned("<", size, constant(_BIAS + (1 << 23))), subnormal, normal)
    # From 65536 on; what rounds up to that has become infinity by its carry.
    large = builder.icmp_unsigned(">=", size, constant((127 + 16) << 23))
    chosen = builder.select(large, constant(0x7C00), chosen)
    chosen = builder.select(builder.fcmp_unordered("uno", value, value), constant(0x7E00), chosen)
    sign = builder.and_(builder.lshr(bits, constant(16)), constant(0x8000))
    return builder.trunc(builder.or_(chosen, sign), _like(value, I16))


def _size(builder: Any, value: Any) -> Any:
    mangled = "f64" if _element(value) == DOUBLE else "f32"
    if isinstance(value.type, lir.VectorType):
        mangled = f"v{value.type.count}{mangled}"
    function_type = lir.FunctionType(value.type, [value.type])
    name = f"llvm.fabs.{mangled}"
    function = builder.module.globals.get(name) or lir.Function(builder.module, function_type, name)
    return builder.call(function, [value])


def _element(value: Any) -> Any:
    return value.type.element if isinstance(value.type, lir.VectorType) else value.type


def _like(value: Any, element: Any) -> Any:
    """The type of ``value`` with other elements."""
    return lir.VectorType(element, value.type.count) if isinstance(value.type, lir.VectorType) else element


def _constant(value: Any, element: Any, number: int) -> Any:
    kind = _like(value, element)
    numbers: int | Sequence[int] = number
    if isinstance(kind, lir.VectorType):
        numbers = [number] * kind.count
    return lir.Constant(kind, numbers)
