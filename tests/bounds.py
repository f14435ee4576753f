"""How far rounding may take a program's results from the interpreter's, derived value by value.

Each value v of the program, computed in float64, carries two more arrays:

- its *magnitude* m, the sum of the magnitudes of the terms that v is the sum of: what the program gives
  with every minus a plus. Rounding is counted against m, not v, since the compiler may sum terms in another
  order or split a reduction of a difference into a difference of reductions;
- its *error* e, a bound on what rounding makes of it, to first order: what an operation makes of the errors
  of its operands, by its derivative, plus its own roundings of m.

A sum of n terms in arithmetic of unit u is off by (4 + n/2) u of its magnitude: partial sums are half of it
on average, and equal terms, as of arrays that are broadcast, all round alike. No more than a block of terms
is added in the compute type before float64 takes over. Where a comparison is closer than its operands'
errors, either outcome is right: a value chosen by it may be off by the difference of the two. So
ill-conditioned programs get wide bounds, infinite where a denominator may vanish, and raise no false alarm.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any, NamedTuple

import numpy as np

from lncompile import interpret
from lncompile.ir import Binary, Cast, Const, Input, Node, Output, Program, Reduce, Select, Unary

Array = np.ndarray[Any, np.dtype[Any]]


class Format(NamedTuple):
    """An element type: half the distance of 1 to the next number, the largest, the smallest subnormal."""

    unit: float
    largest: float
    smallest: float


FORMATS = {
    "float64": Format(2.0**-53, 1.7e308, 2.0**-1074),
    "float32": Format(2.0**-24, 3.4e38, 2.0**-149),
    "bfloat16": Format(2.0**-8, 3.3e38, 2.0**-133),
    "float16": Format(2.0**-11, 65504.0, 2.0**-24),
}

#: Roundings of one operation: arithmetic may become a product with a reciprocal; functions are polynomials
#: in a few steps (``test_vecmath`` holds each to its ulps).
ARITHMETIC, FUNCTION = 2, 6
#: Terms that are added in the compute type before float64 takes over, at most.
BLOCK = 1024
#: What stays of first order: errors of errors, and shared factors.
SLACK = 2


class Bounded(NamedTuple):
    """A result and how far from it another way of computing it may be; infinite where nothing is known."""

    value: Array
    error: Array


class _Carried(NamedTuple):
    """For a truth value, ``error`` says where it is undecided."""

    value: Array
    magnitude: Array
    error: Array


def bounded(program: Program, arrays: Mapping[str, Array], compute: str, rounded: bool) -> dict[str, Bounded]:
    """The outputs of ``program`` and their bounds, for arithmetic in ``compute``.

    ``rounded``: whether outputs are rounded to their dtypes. ``arrays`` has one dimension for each axis.
    """
    order = {axis.name: place for place, axis in enumerate(program.axes)}
    sizes = {axis.name: axis.size for axis in program.axes if axis.size is not None}
    for array in program.inputs:
        sizes.update(zip(array.dims, arrays[array.name].shape, strict=True))
    carried: dict[Node, _Carried] = {}
    values: dict[Node, Array] = {}
    with np.errstate(all="ignore"):
        for node in program.nodes:
            values[node] = value = interpret._value(node, values, arrays, order)
            carried[node] = _carry(node, value, carried, order, FORMATS[compute])
        return {
            output.name: Bounded(
                *(
                    interpret._stored(output, part, sizes, order)
                    for part in _stored(output, carried[output.value], rounded)
                )
            )
            for output in program.outputs
        }


def _stored(output: Output, carried: _Carried, rounded: bool) -> tuple[Array, Array]:
    error = np.where(np.isnan(carried.error), np.inf, SLACK * carried.error)
    if rounded:
        error = error + _rounding(carried.value, error, output.dtype)
    return carried.value, np.broadcast_to(error, np.shape(carried.value))


def _rounding(value: Array, error: Array, dtype: str) -> Array:
    unit, largest, smallest = FORMATS[dtype]
    reach = np.abs(value) + error
    return np.where(reach > largest / 2, np.inf, unit * reach + smallest)


def _carry(
    node: Node, value: Array, carried: Mapping[Node, _Carried], order: Mapping[str, int], format: Format
) -> _Carried:
    unit = format.unit
    # Numbers below the normal ones have fewer digits, or are taken for zero.
    floor = format.smallest / unit
    match node:
        case Input():
            return _Carried(value, np.abs(value), np.zeros_like(value))
        case Const():
            size = np.abs(np.asarray(value, float))
            return _Carried(value, size, unit * size if node.kind == "real" else np.asarray(False))
        case Unary("neg", operand):
            return carried[operand]._replace(value=value)
        case Unary(op, operand):
            of = carried[operand]
            error = _through(op, of, value) + FUNCTION * unit * np.abs(value) + floor
            return _Carried(value, np.square(of.magnitude) if op == "square" else np.abs(value), error)
        case Binary() if node.kind == "bool":
            return _compared(node, value, carried, order)
        case Binary(op, left, right):
            return _combined(op, value, carried[left], carried[right], unit, floor)
        case Select(condition, chosen, other):
            return _selected(node, value, carried[condition], carried[chosen], carried[other])
        case Reduce(op, operand, over):
            of, axes = carried[operand], tuple(order[name] for name in over)
            if op == "max":
                return _Carried(value, _over(np.max, of.magnitude, axes), _over(np.max, of.error, axes))
            magnitude, error = _over(np.sum, of.magnitude, axes), _over(np.sum, of.error, axes)
            count = prod(of.value.shape[axis] for axis in axes)
            error = error + (4 + min(count, BLOCK) / 2) * unit * magnitude + floor
            return (
                _Carried(value, magnitude, error)
                if op == "sum"
                else _Carried(value, magnitude / count, error / count)
            )
        case Cast(operand, dtype):
            of = carried[operand]
            # Two values as near as their error may be rounded apart.
            return of._replace(value=value, error=of.error + 2 * _rounding(of.value, of.error, dtype))
    raise AssertionError(node)


def _over(function: Any, array: Array, axes: tuple[int, ...]) -> Array:
    return np.asarray(function(array, axis=axes, keepdims=True))


def _through(op: str, of: _Carried, value: Array) -> Array:
    """What a function makes of its operand's error."""
    v, e = of.value, of.error
    match op:
        case "square":
            return (2 * np.abs(v) + e) * e
        case "sqrt":
            return np.where(e < v / 2, e / value, np.sqrt(np.abs(v) + e))
        case "rsqrt":
            return np.where(e < v / 2, 2 * e * value / v, np.inf)
        case "exp":
            return np.asarray(value * np.expm1(e))
        case "log":
            return np.where(e < v / 2, 2 * e / v, np.inf)
        case "tanh":
            return np.minimum(e * (1 - np.square(value)) + e * e, 2.0)
        case "sigmoid":
            return np.minimum(e * value * (1 - value) + e * e, 1.0)
        case "erf":
            return np.minimum(1.13 * e * np.exp(-np.square(v)) + e * e, 2.0)
        case _:
            return e


def _combined(op: str, value: Array, left: _Carried, right: _Carried, unit: float, floor: float) -> _Carried:
    a, m, e = left
    b, n, f = right
    match op:
        case "add" | "sub":
            magnitude, error = m + n, e + f
        case "mul":
            magnitude, error = m * n, np.abs(a) * f + np.abs(b) * e + e * f
        case "div":
            near = np.abs(b) - f
            magnitude = m / np.abs(b)
            error = np.where(near > 0, (e + np.abs(value) * f) / near, np.inf)
        case _:
            return _Carried(value, np.maximum(m, n), np.maximum(e, f))
    return _Carried(value, magnitude, error + ARITHMETIC * unit * magnitude + floor)


def _compared(
    node: Binary, value: Array, carried: Mapping[Node, _Carried], order: Mapping[str, int]
) -> _Carried:
    left, right = carried[node.left], carried[node.right]
    doubt = left.error + right.error
    undecided = (np.abs(left.value - right.value) <= doubt) & (doubt > 0)
    if node.left is node.right:
        undecided = np.zeros_like(undecided)
    elif isinstance(node.right, Reduce) and node.right.op == "max" and node.right.operand is node.left:
        # The largest is equal to itself, however it is computed, unless another may be the largest.
        axes = tuple(order[name] for name in node.right.over)
        undecided &= _over(np.sum, undecided, axes) > 1
    return _Carried(value, np.asarray(1.0), undecided)


def _selected(node: Select, value: Array, condition: _Carried, chosen: _Carried, other: _Carried) -> _Carried:
    picked = condition.value.astype(bool)
    undecided = condition.error.astype(bool)
    if node.kind == "bool":
        either = np.where(picked, chosen.error, other.error).astype(bool)
        return _Carried(value, np.asarray(1.0), either | (undecided & (chosen.value != other.value)))
    error = np.where(picked, chosen.error, other.error)
    apart = np.abs(chosen.value - other.value) + np.maximum(chosen.error, other.error)
    magnitude = np.where(picked, chosen.magnitude, other.magnitude)
    largest = np.maximum(chosen.magnitude, other.magnitude)
    return _Carried(value, np.where(undecided, largest, magnitude), np.where(undecided, apart, error))
