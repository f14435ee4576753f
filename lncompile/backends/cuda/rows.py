"""From vectors to the one lane that a row-sized value has, and what is checked of such values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.ir as lir
from numba.cuda import types
from numba.cuda.extending import intrinsic

from lncompile.backends.cpu import extremes
from lncompile.backends.cuda.vectors import Vector, gathered, lane, magnitude, scattered


def _folded(builder: Any, lanes: list[Any], combine: Callable[..., Any]) -> Any:
    while len(lanes) > 1:
        half = len(lanes) // 2
        lanes = [combine(builder, lanes[at], lanes[at + half]) for at in range(half)]
    return lanes[0]


def _folding(combine: Callable[..., Any]) -> Any:
    @intrinsic
    def fold(typing_context: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return gathered(builder, [_folded(builder, scattered(builder, args[0]), combine)])

        return Vector(value.element, 1)(value), generate

    return fold


def sum_of_two(builder: Any, a: Any, b: Any) -> Any:
    """How lanes are added."""
    return builder.fadd(a, b)


total = _folding(sum_of_two)
largest = _folding(extremes.maximum)


def _in_range(least: float, most: float) -> Any:
    """Whether a row-sized value is zero or of a size between two bounds."""

    @intrinsic
    def check(typing_context: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            size = magnitude(builder, lane(builder, args[0], 0))
            inside = builder.and_(
                builder.fcmp_ordered(">=", size, lir.Constant(size.type, least)),
                builder.fcmp_ordered("<=", size, lir.Constant(size.type, most)),
            )
            return builder.or_(inside, builder.fcmp_ordered("==", size, lir.Constant(size.type, 0.0)))

        return types.boolean(value), generate

    return check


fits_float32 = _in_range(2.0**-126, (2.0 - 2.0**-23) * 2.0**127)
is_moderate = _in_range(2.0**-40, 2.0**40)


@intrinsic
def is_finite(typing_context: Any, value: Any) -> Any:
    """Neither infinite nor NaN."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        size = magnitude(builder, lane(builder, args[0], 0))
        return builder.fcmp_ordered("<", size, lir.Constant(size.type, float("inf")))

    return types.boolean(value), generate
