"""Arithmetic lane by lane, on numbers of one type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.ir as lir
from numba.cuda.extending import intrinsic

from lncompile.backends.cpu import instructions, vecmath
from lncompile.backends.cuda.vectors import (
    F32,
    adapted,
    assembly,
    call,
    gathered,
    joined,
    magnitude,
    scattered,
)


def _lane_by_lane(builder: Any, body: Callable[..., Any], vectors: list[Any]) -> Any:
    columns = zip(*(scattered(builder, vector) for vector in vectors), strict=True)
    return gathered(builder, [body(builder, *lanes) for lanes in columns])


_elementwise = instructions.elementwise(intrinsic, joined, adapted, _lane_by_lane)


@_elementwise
def fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    return call(builder, "llvm.fma", (a, b, c))


@_elementwise
def sqrt(builder: Any, v: Any) -> Any:
    return call(builder, "llvm.sqrt", (v,))


@_elementwise
def rsqrt(builder: Any, v: Any) -> Any:
    if v.type != F32:
        return builder.fdiv(lir.Constant(v.type, 1.0), call(builder, "llvm.sqrt", (v,)))
    # The instruction is off by 1.1 ulp; a step of Newton's method makes it half an ulp, and NaN of 0 and inf.
    near = assembly(builder, "rsqrt.approx.f32 $0, $1;", F32, "=f,f", [v])
    negative = builder.fmul(builder.fsub(lir.Constant(F32, -0.0), v), near)
    error = call(builder, "llvm.fma", (negative, near, lir.Constant(F32, 1.0)))
    half = builder.fmul(near, lir.Constant(F32, 0.5))
    better = call(builder, "llvm.fma", (half, error, near))
    return builder.select(builder.fcmp_ordered("ord", better, better), better, near)


@_elementwise
def absolute(builder: Any, v: Any) -> Any:
    return magnitude(builder, v)


square = _elementwise(instructions.square)
maximum = _elementwise(instructions.maximum)
minimum = _elementwise(instructions.minimum)
exp = _elementwise(vecmath.exp)
log = _elementwise(vecmath.log)
tanh = _elementwise(vecmath.tanh)
sigmoid = _elementwise(vecmath.sigmoid)
erf = _elementwise(vecmath.erf)


@_elementwise
def rounding_error(builder: Any, a: Any, b: Any) -> Any:
    """What rounding a + b loses, exactly (Knuth, The Art of Computer Programming 2, 4.2.2, theorem B)."""
    near = builder.fadd(a, b)
    of_b = builder.fsub(near, a)
    of_a = builder.fsub(near, of_b)
    return builder.fadd(builder.fsub(a, of_a), builder.fsub(b, of_b))
