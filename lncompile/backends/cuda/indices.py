"""Arithmetic on indices, none of which is negative."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba.cuda import types
from numba.cuda.extending import intrinsic

from lncompile.backends.cuda.vectors import I64, assembly


def _of_indices(operate: Callable[..., Any]) -> Any:
    @intrinsic
    def of_indices(typing_context: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return operate(builder, *args)

        return types.int64(types.int64, types.int64), generate

    return of_indices


@intrinsic
def unrolled_never(typing_context: Any, count: Any) -> Any:
    """``count``, which LLVM cannot know: a loop over so many rounds stays one."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return assembly(builder, "mov.u64 $0, $1;", I64, "=l,l", args, again=True)

    return types.int64(types.int64), generate


quotient = _of_indices(lambda builder, a, b: builder.udiv(a, b))
remainder = _of_indices(lambda builder, a, b: builder.urem(a, b))
at_most = _of_indices(lambda builder, a, b: builder.select(builder.icmp_signed("<", a, b), a, b))
