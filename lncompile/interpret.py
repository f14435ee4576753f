"""Programs executed by NumPy in float64: the meaning of the IR, and the oracle of the test suite."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lncompile.dtypes import rounded
from lncompile.errors import CompilerBug
from lncompile.ir import (
    Binary,
    Cast,
    Const,
    Input,
    Node,
    Output,
    Part,
    Program,
    Reduce,
    Select,
    Stack,
    Take,
    Unary,
)

Array = np.ndarray[Any, np.dtype[Any]]

_erf = np.vectorize(math.erf, otypes=[float])

#: What each operation means, on arrays and on NumPy scalars.
UNARY: dict[str, Callable[[Any], Any]] = {
    "neg": np.negative,
    "square": np.square,
    "sqrt": np.sqrt,
    "rsqrt": lambda v: 1.0 / np.sqrt(v),
    "exp": np.exp,
    "log": np.log,
    "tanh": np.tanh,
    "sigmoid": lambda v: np.exp(-np.logaddexp(0.0, -v)),
    "erf": _erf,
    "abs": np.abs,
}
BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
    "ne": np.not_equal,
}


def interpret(program: Program, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Run ``program`` on ``arrays`` (by name, one dimension for each axis) in float64.

    Returns the outputs by name, each with one dimension for each of its ``dims``, in float64: not rounded
    to the output's dtype. Parts of an array are taken from it, and put together to it.
    """
    order = {axis.name: position for position, axis in enumerate(program.axes)}
    sizes = {axis.name: axis.size for axis in program.axes if axis.size is not None}
    given = {node.name: _part_of(np.asarray(arrays[node.array]), node.part) for node in program.inputs}
    for array in program.inputs:
        sizes.update(zip(array.dims, given[array.name].shape, strict=True))
    values: dict[Node, Array] = {}
    with np.errstate(all="ignore"):
        for node in program.nodes:
            values[node] = _value(node, values, given, order)
    results: dict[str, Array] = {}
    for output in program.outputs:
        stored = _stored(output, values[output.value], sizes, order)
        if output.part is None:
            results[output.name] = stored
            continue
        shape = [size if isinstance(size, int) else sizes[size] for size in output.layout]
        _part_of(results.setdefault(output.array, np.full(shape, np.nan)), output.part)[...] = stored
    return results


def _part_of(array: Array, part: Part | None) -> Array:
    """A view of the elements of ``array`` that belong to a part of it."""
    if part is None:
        return array
    at = iter(part.at)
    index = (next(at) if isinstance(dim, int) else slice(None) for dim in part.layout)
    # With the ellipsis it is a view also where it is one element.
    return array[(*index, ...)]


def _value(
    node: Node, values: dict[Node, Array], arrays: Mapping[str, Array], order: dict[str, int]
) -> Array:
    match node:
        case Input():
            return _expanded(np.asarray(arrays[node.name], dtype=np.float64), node.dims, order)
        case Const():
            return np.asarray(node.value)
        case Unary(op, operand):
            return np.asarray(UNARY[op](values[operand]))
        case Binary(op, left, right):
            return np.asarray(BINARY[op](values[left], values[right]))
        case Select(condition, chosen, other):
            return np.where(values[condition], values[chosen], values[other])
        case Reduce(op, operand, over):
            return _reduce(op, values[operand], tuple(order[name] for name in over))
        case Cast(operand, dtype):
            return rounded(values[operand], dtype).astype(np.float64)
        case Take(operand, axis, position):
            return np.take(values[operand], [position], order[axis])
        case Stack(parts, axis):
            return np.concatenate(np.broadcast_arrays(*(values[part] for part in parts)), order[axis])


def _expanded(array: Array, dims: tuple[str, ...], order: Mapping[str, int]) -> Array:
    # Every value has one dimension for each axis of the program, of size 1 where it does not vary.
    by_position = sorted(range(len(dims)), key=lambda at: order[dims[at]])
    shape = [1] * len(order)
    for at in by_position:
        shape[order[dims[at]]] = array.shape[at]
    return array.transpose(by_position).reshape(shape)


def _stored(output: Output, value: Array, sizes: Mapping[str, int], order: Mapping[str, int]) -> Array:
    # The inverse of _expanded; repeated along axes of the output that the value does not vary over.
    present = sorted(output.dims, key=order.__getitem__)
    full = np.broadcast_to(value, [sizes[name] if name in present else 1 for name in order])
    dense = full.reshape([sizes[name] for name in present])
    return dense.transpose([present.index(name) for name in output.dims]).copy()


def _reduce(op: str, value: Array, over: tuple[int, ...]) -> Array:
    def mean(of: Array) -> Array:
        return np.asarray(of.mean(axis=over, keepdims=True))

    match op:
        case "sum":
            return np.asarray(value.sum(axis=over, keepdims=True))
        case "max":
            # Of no elements the smallest value there is, as a sum of none is zero.
            return np.asarray(value.max(axis=over, keepdims=True, initial=-np.inf))
        case "mean" | "mean_high":
            return mean(value)
        case "mean_low":
            return mean(value - mean(value))
        case "variance":
            return mean(np.square(value - mean(value)))
        case _:
            raise CompilerBug(f"unknown reduction {op}")
