"""From vectors to the one lane that a row-sized value has, and what is checked of such values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba.cuda import types
from numba.cuda.extending import intrinsic

from lncompile.backends.cpu import instructions
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
largest = _folding(instructions.maximum)


def _of_size(holds: Callable[[Any, Any], Any]) -> Any:
    """A check of the size of a row-sized value."""

    @intrinsic
    def check(typing_context: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return holds(builder, magnitude(builder, lane(builder, args[0], 0)))

        return types.boolean(value), generate

    return check


fits_float32 = _of_size(lambda builder, size: instructions.in_range(builder, size, instructions.FLOAT32))
is_moderate = _of_size(lambda builder, size: instructions.in_range(builder, size, instructions.MODERATE))
is_finite = _of_size(instructions.finite)
