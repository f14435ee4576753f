"""Between element types: what lies in memory as 16 bits is computed on as float32 or float64.

Every conversion rounds once, to nearest even: bfloat16 is cut out of a float32, and a float64 on its way
there is first rounded to odd, which keeps what the second rounding needs to know.
"""

from __future__ import annotations

from typing import Any

import llvmlite.ir as lir
from numba.cuda import types

from lncompile.backends.cuda.vectors import (
    I32,
    Half,
    Vector,
    assembly,
    bfloat16,
    float16,
    gathered,
    scattered,
)

I16, F32, F64 = lir.IntType(16), lir.FloatType(), lir.DoubleType()


def converted(builder: Any, value: Any, source: Vector, element: Any) -> Any:
    """The lanes of ``value`` as ``element``."""
    if source.element == element:
        return value
    lanes = scattered(builder, value)
    if isinstance(source.element, Half):
        lanes = [_widened(builder, bits, source.element) for bits in lanes]
    if isinstance(element, Half):
        return gathered(builder, _narrowed(builder, lanes, element))
    return gathered(builder, [_resized(builder, number, element) for number in lanes])


def words(builder: Any, value: Any, source: Vector, element: Any) -> list[Any]:
    """``value`` as it lies in memory as ``element``: 32 bits at a time, 16 where there is one half alone."""
    if isinstance(element, Half) and source.lanes > 1:
        if source.element == types.float32:
            lanes = scattered(builder, value)
            operation = f"cvt.rn.{_name(element)}x2.f32 $0, $2, $1;"
            return [
                assembly(builder, operation, I32, "=r,f,f", lanes[at : at + 2])
                for at in range(0, len(lanes), 2)
            ]
        halves = converted(builder, value, source, element)
        pairs = builder.bitcast(halves, lir.VectorType(I32, source.lanes // 2))
        return scattered(builder, pairs)
    value = converted(builder, value, source, element)
    if isinstance(element, Half):
        return scattered(builder, value)
    count = source.lanes * int(element.bitwidth) // 32
    return scattered(builder, builder.bitcast(value, lir.VectorType(I32, count)))


def from_words(builder: Any, found: list[Any], kind: Vector) -> Any:
    """The vector that lies in memory as these words."""
    if found[0].type == I16:
        return gathered(builder, found)
    element: Any = {float16: I16, bfloat16: I16, types.float32: F32, types.float64: F64}[kind.element]
    return builder.bitcast(gathered(builder, found), lir.VectorType(element, kind.lanes))


def _widened(builder: Any, bits: Any, half: Half) -> Any:
    """The float32 that 16 bits stand for."""
    if half == bfloat16:
        return builder.bitcast(builder.shl(builder.zext(bits, I32), I32(16)), F32)
    return assembly(builder, "cvt.f32.f16 $0, $1;", F32, "=f,h", [bits])


def _narrowed(builder: Any, lanes: list[Any], half: Half) -> list[Any]:
    if lanes[0].type == F64 and half == bfloat16:
        lanes = [_to_odd(builder, number) for number in lanes]
    constraint = "d" if lanes[0].type == F64 else "f"
    source = "f64" if lanes[0].type == F64 else "f32"
    operation = f"cvt.rn.{_name(half)}.{source} $0, $1;"
    return [assembly(builder, operation, I16, f"=h,{constraint}", [number]) for number in lanes]


def _to_odd(builder: Any, number: Any) -> Any:
    """A float64 as float32; one between two of them becomes the one whose last bit is set."""
    near = assembly(builder, "cvt.rz.f32.f64 $0, $1;", F32, "=f,d", [number])
    inexact = builder.fcmp_unordered("!=", builder.fpext(near, F64), number)
    bits = builder.or_(builder.bitcast(near, I32), builder.zext(inexact, I32))
    return builder.bitcast(bits, F32)


def _resized(builder: Any, number: Any, element: Any) -> Any:
    target = F32 if element == types.float32 else F64
    if number.type == target:
        return number
    if target == F32:
        return builder.fptrunc(number, target)
    # Twice as many registers: converted anew in each pass over a row, they are free between the passes.
    return assembly(builder, "cvt.f64.f32 $0, $1;", F64, "=d,f", [number], again=True)


def _name(half: Half) -> str:
    return "f16" if half == float16 else "bf16"
