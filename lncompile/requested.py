"""From a shape and dtypes to what code is specialised on, for compiling before any array is there."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from lncompile import axes as ax
from lncompile.dtypes import named
from lncompile.errors import LncTypeError, LncValueError
from lncompile.integers import integer
from lncompile.norm import Dispatcher
from lncompile.specialization import Specialization

#: Elements of an array at most, whatever their type: offsets in bytes are 64-bit numbers.
_MOST = (2**63 - 1) // 8


def requested(
    dispatcher: Dispatcher,
    shape: object,
    dtype: object,
    target: str,
    out_dtype: object,
    options: Mapping[str, Any],
) -> tuple[Specialization, ax.Sizes]:
    """The specialization of a norm for a first argument of ``shape``, and the sizes of all axes in it.

    Raises ``LncError`` naming what does not fit; the arguments are those of ``lnc.compile``.
    """
    sizes = _sizes(dispatcher, _checked_shape(shape), options)
    given = {**options} if out_dtype is None else {**options, "out_dtype": out_dtype}
    return dispatcher.specialization(_dtypes(dispatcher, dtype), sizes, given, target), sizes


def _checked_shape(shape: object) -> tuple[int, ...]:
    try:
        sizes = tuple(integer(size) for size in shape)  # type: ignore[attr-defined]
    except TypeError:
        raise LncTypeError(
            f"shape: expected a sequence of ints, the shape of the first argument; got {shape!r}"
        ) from None
    if any(size < 0 for size in sizes):
        raise LncValueError(f"shape: sizes cannot be negative; got {sizes}")
    return sizes


def _sizes(dispatcher: Dispatcher, shape: tuple[int, ...], options: Mapping[str, Any]) -> ax.Sizes:
    equation = dispatcher.equation
    first = equation.arguments[0]
    given = dispatcher.given_sizes(options)
    for name in given:
        if name not in equation.pattern.axes or name == ax.ELLIPSIS:
            raise LncTypeError(f"{equation.name}: no parameter and no axis is called {name!r}")
    try:
        sizes = ax.solve({first.name: (first.dims, shape)}, given, equation.pattern.axes)
    except LncValueError as error:
        raise LncValueError(f"shape: {error}") from None
    counts = {name: ax.count(name, sizes) for name in equation.pattern.axes}
    # As in NumPy, a size of zero beside it does not make a size fit.
    if prod(count or 1 for count in counts.values()) > _MOST:
        got = ", ".join(f"{name}={count}" for name, count in counts.items())
        raise LncValueError(f"shape: expected that of an array below 2**63 bytes; got {got}")
    return sizes


def _dtypes(dispatcher: Dispatcher, dtype: object) -> dict[str, str]:
    arguments = dispatcher.equation.arguments
    if not isinstance(dtype, Mapping):
        name = named(dtype, "dtype")
        return {argument.name: name for argument in arguments}
    for key in dtype:
        if key not in dispatcher.signature.arguments:
            raise LncTypeError(f"dtype: {dispatcher.equation.name} has no array argument {key!r}")
    first = arguments[0].name
    if dtype.get(first) is None:
        raise LncTypeError(f"dtype: the mapping must give the dtype of {first!r}")
    chosen: dict[str, str] = {}
    for argument in arguments:
        value = dtype.get(argument.name, dtype[first])
        if value is None and argument.required:
            raise LncTypeError(f"dtype: {argument.name!r} cannot be left out")
        if value is not None:
            chosen[argument.name] = named(value, f"dtype[{argument.name!r}]")
    return chosen
