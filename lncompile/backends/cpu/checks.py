"""What is checked of row-sized values: of one row, or of rows side by side in the lanes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.ir as lir
from numba.core import types
from numba.extending import intrinsic

from lncompile.backends.cpu import instructions
from lncompile.backends.cpu.vectors import Vector, call


def _of_size(holds: Callable[[Any, Any], Any]) -> Any:
    @intrinsic
    def check(typing_context: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return holds(builder, call(builder, "llvm.fabs", (args[0],)))

        return _truth(value), generate

    return check


fits_float32 = _of_size(lambda builder, size: instructions.in_range(builder, size, instructions.FLOAT32))
is_moderate = _of_size(lambda builder, size: instructions.in_range(builder, size, instructions.MODERATE))
is_finite = _of_size(instructions.finite)


@intrinsic
def everywhere(typing_context: Any, condition: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if not isinstance(condition, Vector):
            return args[0]
        return call(builder, "llvm.vector.reduce.and", (args[0],), lir.IntType(1), (args[0].type,))

    return types.boolean(condition), generate


def _truth(value: Any) -> Any:
    """The signature of a check of row-sized values: of one row, or of those side by side in the lanes."""
    if isinstance(value, Vector):
        return Vector(types.boolean, value.lanes)(value)
    return types.boolean(types.float64)
