"""Arithmetic lane by lane, on vectors and row-sized numbers alike."""

from __future__ import annotations

from typing import Any

from numba.core import types
from numba.extending import intrinsic

from lncompile.backends.cpu import estimates, instructions, vecmath
from lncompile.backends.cpu.vectors import adapted, call, element_of, joined

_elementwise = instructions.elementwise(
    intrinsic, joined, adapted, lambda builder, body, values: body(builder, *values)
)


@_elementwise
def fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    # fmuladd, not fma: on a CPU without the instruction the latter is a call into libm.
    return call(builder, "llvm.fmuladd", (a, b, c))


@_elementwise
def sqrt(builder: Any, v: Any) -> Any:
    return call(builder, "llvm.sqrt", (v,))


@intrinsic
def rsqrt(typing_context: Any, v: Any) -> Any:
    kind = joined(v)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value = adapted(context, builder, args[0], v, kind)
        if element_of(kind) == types.float64 and context.lnc_target.estimates_rsqrt:
            return estimates.rsqrt(builder, value)
        return builder.fdiv(instructions.constant(value.type, 1.0), call(builder, "llvm.sqrt", (value,)))

    return None if kind is None else (kind(v), generate)


@_elementwise
def absolute(builder: Any, v: Any) -> Any:
    return call(builder, "llvm.fabs", (v,))


square = _elementwise(instructions.square)
maximum = _elementwise(instructions.maximum)
minimum = _elementwise(instructions.minimum)
exp = _elementwise(vecmath.exp)
log = _elementwise(vecmath.log)
tanh = _elementwise(vecmath.tanh)
sigmoid = _elementwise(vecmath.sigmoid)
erf = _elementwise(vecmath.erf)
