"""The same program over other axes: what passes that merge, drop or cut axes have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import groupby
from typing import TypeVar

from lncompile.ir import Axes, Input, Node, Output, Part, Program, Reduce, rebuilt, reduced

Array = TypeVar("Array", Input, Output)


def with_dims(
    program: Program,
    dims: Callable[[tuple[str, ...]], tuple[str, ...]],
    chosen: Callable[[Axes], Axes],
) -> Program:
    """``program`` with other dimensions of its arrays, and other axes chosen by its reductions.

    The program's own axes stay: whoever calls this gives it those that fit.
    """

    def moved(node: Node) -> Node:
        if isinstance(node, Input):
            return replace(lying(node), at_start=chosen(node.at_start))
        if isinstance(node, Reduce):
            over = chosen(node.over)
            return replace(node, over=over) if over else reduced(node.op, node.operand, over)
        return node

    def lying(array: Array) -> Array:
        return replace(array, dims=dims(array.dims), part=_moved(array.part, dims))

    inputs = tuple(lying(node) for node in program.inputs)
    mapped = rebuilt(program.nodes, dict(zip(program.inputs, inputs, strict=True)), moved)
    outputs = tuple(replace(lying(out), value=mapped[out.value]) for out in program.outputs)
    return replace(program, inputs=inputs, outputs=outputs)


def _moved(part: Part | None, dims: Callable[[tuple[str, ...]], tuple[str, ...]]) -> Part | None:
    """``part`` with other dimensions between those that it has one position of."""
    if part is None:
        return None
    layout: list[str | int] = []
    for _, group in groupby(part.layout, key=lambda dim: isinstance(dim, int)):
        between = tuple(group)
        names = tuple(dim for dim in between if isinstance(dim, str))
        layout += dims(names) if names else between
    return replace(part, layout=tuple(layout))
