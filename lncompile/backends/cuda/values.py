"""Vectors of a few lanes: made, converted, moved and chosen from."""

from __future__ import annotations

from typing import Any

from numba.cuda import types
from numba.cuda.extending import intrinsic

from lncompile.backends.cuda.conversions import converted
from lncompile.backends.cuda.vectors import (
    Vector,
    adapted,
    bfloat16,
    float16,
    gathered,
    joined,
    lane,
    literal,
    literal_intrinsic,
    scattered,
)


def _filled(element: Any) -> Any:
    @literal_intrinsic
    def filled(typing_context: Any, value: Any, lanes: Any) -> Any:
        kind = Vector(element, literal(lanes))

        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return adapted(context, builder, args[0], sig.args[0], kind)

        source = value if isinstance(value, Vector) else types.float64
        return kind(source, lanes), generate

    return filled


f32x = _filled(types.float32)
f64x = _filled(types.float64)


def _conversion(element: Any) -> Any:
    @intrinsic
    def convert(typing_context: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return converted(builder, args[0], value, element)

        return Vector(element, value.lanes)(value), generate

    return convert


as_float32 = _conversion(types.float32)
as_float64 = _conversion(types.float64)
as_float16 = _conversion(float16)
as_bfloat16 = _conversion(bfloat16)


@intrinsic
def first(typing_context: Any, value: Any) -> Any:
    """The first lane."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return gathered(builder, [lane(builder, args[0], 0)])

    return Vector(value.element, 1)(value), generate


@intrinsic
def pushed(typing_context: Any, value: Any, last: Any) -> Any:
    """A vector moved by one lane: its first lane is gone, ``last`` behind the others."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return gathered(builder, [*scattered(builder, args[0])[1:], lane(builder, args[1], 0)])

    return value(value, last), generate


@intrinsic
def where(typing_context: Any, condition: Any, chosen: Any, other: Any) -> Any:
    """``chosen`` in lanes where ``condition`` holds, ``other`` in those where it does not."""
    if _is_truth(chosen) and _is_truth(other):
        lanes = [t.lanes for t in (chosen, other, condition) if isinstance(t, Vector)]
        kind = Vector(types.boolean, max(lanes))
    else:
        joint = joined(chosen, other)
        element = joint.element if joint else None
        if element is None:
            return None
        kind = Vector(element, max(joint.lanes, condition.lanes))

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        mask = adapted(context, builder, args[0], condition, Vector(types.boolean, kind.lanes))
        picked = [
            scattered(builder, adapted(context, builder, v, t, kind))
            for v, t in zip(args[1:], (chosen, other), strict=True)
        ]
        columns = zip(scattered(builder, mask), *picked, strict=True)
        return gathered(builder, [builder.select(*lanes) for lanes in columns])

    return kind(condition, chosen, other), generate


def _is_truth(kind: Any) -> bool:
    return isinstance(kind, types.Boolean | types.BooleanLiteral) or (
        isinstance(kind, Vector) and kind.element == types.boolean
    )


@intrinsic
def keep(typing_context: Any, value: Any, condition: Any, fill: Any) -> Any:
    """``value`` if the condition holds, else ``fill`` in all lanes."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        filled = adapted(context, builder, args[2], types.float64, value)
        lanes = zip(scattered(builder, args[0]), scattered(builder, filled), strict=True)
        return gathered(builder, [builder.select(args[1], kept, other) for kept, other in lanes])

    return value(value, types.boolean, types.float64), generate
