"""Vectors made, converted and chosen from."""

from __future__ import annotations

from typing import Any

from numba.core import types
from numba.extending import intrinsic

from lncompile.backends.cpu.conversions import converted
from lncompile.backends.cpu.vectors import (
    I32,
    Vector,
    adapted,
    as_mask,
    bfloat16,
    element_of,
    first_lanes,
    float16,
    joined,
    literal,
)


def _filled(element: Any) -> Any:
    @intrinsic(prefer_literal=True)
    def filled(typing_context: Any, value: Any, lanes: Any) -> Any:
        kind = Vector(element, literal(lanes))

        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return adapted(context, builder, args[0], sig.args[0], kind)

        return kind(types.float64, lanes), generate

    return filled


f32x = _filled(types.float32)
f64x = _filled(types.float64)


def _converted(element: Any) -> Any:
    @intrinsic
    def convert(typing_context: Any, value: Any) -> Any:
        target = Vector(element, value.lanes) if isinstance(value, Vector) else element

        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return converted(context, builder, args[0], value, element)

        return target(value), generate

    return convert


as_float32 = _converted(types.float32)
as_float64 = _converted(types.float64)
as_float16 = _converted(float16)
as_bfloat16 = _converted(bfloat16)


@intrinsic
def keep_first(typing_context: Any, value: Any, count: Any, fill: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        mask = first_lanes(builder, args[1], value.lanes)
        return builder.select(mask, args[0], adapted(context, builder, args[2], types.float64, value))

    return value(value, types.int64, types.float64), generate


@intrinsic
def where(typing_context: Any, condition: Any, chosen: Any, other: Any) -> Any:
    vectors = [t for t in (condition, chosen, other) if isinstance(t, Vector)]
    if element_of(chosen) == types.boolean:
        kind: Any = next((t for t in vectors if t.element == types.boolean), types.boolean)
    else:
        kind = joined(chosen, other)
        if isinstance(condition, Vector) and not isinstance(kind, Vector):
            return None
    if kind is None:
        return None

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        mask = args[0]
        if kind == types.boolean or isinstance(kind, Vector):
            mask = as_mask(context, builder, mask, condition, kind)
        picked = [
            as_mask(context, builder, v, t, kind)
            if element_of(kind) == types.boolean
            else adapted(context, builder, v, t, kind)
            for v, t in zip(args[1:], (chosen, other), strict=True)
        ]
        return builder.select(mask, *picked)

    return kind(condition, chosen, other), generate


@intrinsic
def first(typing_context: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return context.cast(builder, builder.extract_element(args[0], I32(0)), value.element, types.float64)

    return types.float64(value), generate
