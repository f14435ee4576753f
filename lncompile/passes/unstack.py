"""Positions of an axis as values of their own: the axis is gone, and code is written once for each position.

    f, i = unstack(z, gate)                           z_0 [b h], z_1 [b h]: parts of z [b gate h]
    y    = sigmoid(f - mean[gate h](z)) * i    -->    t = (mean[h](z_0) + mean[h](z_1)) / 2
                                                      y = sigmoid(z_0 - t) * z_1

Only axes of which a position is taken, or that values are stacked along. An array over such an axis becomes
one for each position, which lies in memory as a part of it. A reduction over it is one of the values at all
positions, added up first.
"""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from itertools import product
from typing import TypeVar

from lncompile.ir import (
    Binary,
    Const,
    Input,
    Node,
    Output,
    Part,
    Program,
    Reduce,
    Stack,
    Take,
    operands,
    reduced,
    with_label,
    with_operands,
)

Array = TypeVar("Array", Input, Output)
#: One position of each of some axes.
Place = dict[str, int]

_COMBINED = {"sum": "add", "mean": "add", "max": "maximum"}


def unstack(program: Program) -> Program:
    """``program`` without the axes that it takes positions of or stacks values along."""
    nodes = program.nodes
    axes = frozenset(node.axis for node in nodes if isinstance(node, Take | Stack))
    return _Unstacked(program, axes).program if axes else program


class _Unstacked:
    """The values of a program at every place along some axes, each made once."""

    def __init__(self, program: Program, axes: frozenset[str]) -> None:
        self._axes = axes
        self._sizes = {axis.name: axis.size or 0 for axis in program.axes if axis.name in axes}
        self._taken = set(program.names)
        self._made: dict[tuple[Node, tuple[tuple[str, int], ...]], Node] = {}
        inputs = tuple(part for node in program.inputs for part in self._parts(node))
        for node in program.nodes:
            for place in self._places(node.axes):
                self._at(node, place)
        outputs = [
            replace(part, value=self._at(out.value, place))
            for out in program.outputs
            for place, part in zip(self._places(out.dims), self._parts(out), strict=True)
        ]
        kept = tuple(axis for axis in program.axes if axis.name not in axes)
        self.program = replace(program, axes=kept, inputs=inputs, outputs=tuple(outputs))

    def _places(self, axes: frozenset[str] | tuple[str, ...]) -> list[Place]:
        """Every place along those of ``axes`` that are unstacked."""
        names = [name for name in self._sizes if name in axes]
        return [dict(zip(names, at, strict=True)) for at in product(*(range(self._sizes[n]) for n in names))]

    def _parts(self, array: Array) -> list[Array]:
        """The parts of an array, in the order of :meth:`_places`; itself, where it has none of the axes."""
        return [self._part(array, place) for place in self._places(array.dims)]

    def _part(self, array: Array, place: Place) -> Array:
        part = array
        if place:
            name = "_".join([array.name, *map(str, place.values())])
            while name in self._taken:
                name += "_"
            self._taken.add(name)
            layout = tuple(self._sizes.get(dim, dim) for dim in array.dims)
            at = tuple(place[dim] for dim in array.dims if dim in place)
            dims = tuple(dim for dim in array.dims if dim not in place)
            part = replace(array, name=name, dims=dims, part=Part(array.name, array.dims, layout, at))
        if isinstance(array, Input) and isinstance(part, Input):
            self._made[array, tuple(place.items())] = part
        return part

    def _at(self, node: Node, place: Place) -> Node:
        """A value at a place, of which the axes that it does not vary over do not matter."""
        key = (node, tuple((name, at) for name, at in place.items() if name in node.axes))
        if key not in self._made:
            self._made[key] = self._value(node, dict(key[1]))
        return self._made[key]

    def _value(self, node: Node, place: Place) -> Node:
        match node:
            case Take(operand, axis, position):
                return with_label(self._at(operand, self._with(place, {axis: position})), node.label)
            case Stack(parts, axis):
                return self._at(parts[place[axis]], place)
            case Reduce(op, operand, over) if over & self._axes:
                values = [self._at(operand, self._with(place, at)) for at in self._places(over)]
                combined = reduce(lambda left, right: Binary(_COMBINED[op], left, right), values)
                result = reduced(op, combined, over - self._axes)
                return Binary("div", result, Const(float(len(values)))) if op == "mean" else result
        return with_operands(node, tuple(self._at(operand, place) for operand in operands(node)))

    def _with(self, place: Place, more: Place) -> Place:
        both = place | more
        return {name: both[name] for name in self._sizes if name in both}
