"""Between element types: what lies in memory as 16 bits is computed on as float32 or float64."""

from __future__ import annotations

from typing import Any

import llvmlite.ir as lir
from numba.core import types

from lncompile.backends.cpu import halves
from lncompile.backends.cpu.vectors import Half, Vector, element_of


def converted(context: Any, builder: Any, value: Any, source: Any, element: Any) -> Any:
    """A number, or the lanes of a vector, as ``element``."""
    before = element_of(source)
    if before == element:
        return value
    if isinstance(before, Half) or isinstance(element, Half):
        return _with_halves(context, builder, value, before, element)
    if isinstance(source, Vector):
        return _resized(
            builder,
            value,
            lir.VectorType(context.get_value_type(element), source.lanes),
            source.element,
            element,
        )
    return context.cast(builder, value, source, element)


def _with_halves(context: Any, builder: Any, value: Any, source: Any, element: Any) -> Any:
    if isinstance(source, Half):
        target = context.get_value_type(types.float64 if isinstance(element, Half) else element)
        in_hardware = context.lnc_target.converts_float16
        value = halves.widened(builder, value, source.name, target, in_hardware=in_hardware)
    if isinstance(element, Half):
        in_hardware = context.lnc_target.converts_float16
        value = halves.narrowed(builder, value, element.name, in_hardware=in_hardware)
    return value


def _resized(builder: Any, value: Any, target: Any, source: Any, element: Any) -> Any:
    convert = builder.fpext if element.bitwidth > source.bitwidth else builder.fptrunc
    return convert(value, target)
