"""What the CPU's kernels and CUDA's compute alike, on numbers and on vectors lane by lane, as LLVM IR."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import llvmlite.ir as lir

#: Python's operators of two numbers: the instruction, and whether it gives a truth value.
OPERATORS: dict[Any, tuple[Callable[[Any, Any, Any], Any], bool]] = {
    operator.add: (lambda builder, a, b: builder.fadd(a, b), False),
    operator.iadd: (lambda builder, a, b: builder.fadd(a, b), False),
    operator.sub: (lambda builder, a, b: builder.fsub(a, b), False),
    operator.mul: (lambda builder, a, b: builder.fmul(a, b), False),
    operator.truediv: (lambda builder, a, b: builder.fdiv(a, b), False),
    operator.lt: (lambda builder, a, b: builder.fcmp_ordered("<", a, b), True),
    operator.le: (lambda builder, a, b: builder.fcmp_ordered("<=", a, b), True),
    operator.gt: (lambda builder, a, b: builder.fcmp_ordered(">", a, b), True),
    operator.ge: (lambda builder, a, b: builder.fcmp_ordered(">=", a, b), True),
    operator.eq: (lambda builder, a, b: builder.fcmp_ordered("==", a, b), True),
    operator.ne: (lambda builder, a, b: builder.fcmp_unordered("!=", a, b), True),
}

#: Sizes from the least to the most that checks of row-sized values let pass, beside zero.
FLOAT32 = 2.0**-126, (2.0 - 2.0**-23) * 2.0**127
MODERATE = 2.0**-40, 2.0**40


def elementwise(intrinsic: Any, joined: Any, adapted: Any, applied: Any) -> Callable[[Any], Any]:
    """A decorator that makes an intrinsic of ``body(builder, *values)``, on values of one type.

    Args:
        intrinsic: Numba's decorator for the processor.
        joined: the type that operands of some types have in common, None if there is none.
        adapted: ``adapted(context, builder, value, source, target)`` is a value as one of that type.
        applied: ``applied(builder, body, values)`` is what the body gives.
    """

    def decorator(body: Callable[..., Any]) -> Any:
        def typed(*arguments: Any) -> Any:
            kind = joined(*arguments)
            if kind is None:
                return None

            def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
                pairs = zip(args, arguments, strict=True)
                values = [adapted(context, builder, value, source, kind) for value, source in pairs]
                return applied(builder, body, values)

            return kind(*arguments), generate

        arity = body.__code__.co_argcount - 1
        if arity == 1:
            return intrinsic(lambda typing_context, a: typed(a))
        if arity == 2:
            return intrinsic(lambda typing_context, a, b: typed(a, b))
        return intrinsic(lambda typing_context, a, b, c: typed(a, b, c))

    return decorator


def square(builder: Any, v: Any) -> Any:
    """A number times itself."""
    return builder.fmul(v, v)


def maximum(builder: Any, a: Any, b: Any) -> Any:
    """The larger of two; NaN in either stays NaN, as in ``np.maximum``."""
    return _extreme(builder, a, b, ">")


def minimum(builder: Any, a: Any, b: Any) -> Any:
    """The smaller of two; NaN in either stays NaN."""
    return _extreme(builder, a, b, "<")


def _extreme(builder: Any, a: Any, b: Any, comparison: str) -> Any:
    chosen = builder.select(builder.fcmp_ordered(comparison, a, b), a, b)
    return builder.select(builder.fcmp_unordered("uno", a, a), a, chosen)


def in_range(builder: Any, size: Any, bounds: tuple[float, float]) -> Any:
    """Whether a size, which is not negative, is zero or between two bounds."""
    least, most = (constant(size.type, bound) for bound in bounds)
    inside = builder.and_(builder.fcmp_ordered(">=", size, least), builder.fcmp_ordered("<=", size, most))
    return builder.or_(inside, builder.fcmp_ordered("==", size, constant(size.type, 0.0)))


def finite(builder: Any, size: Any) -> Any:
    """Whether a size, which is not negative, is neither infinite nor NaN."""
    return builder.fcmp_ordered("<", size, constant(size.type, float("inf")))


def constant(kind: Any, value: float) -> Any:
    """A number of an LLVM type, or a vector that has it in all lanes."""
    return lir.Constant(kind, [value] * kind.count if isinstance(kind, lir.VectorType) else value)
