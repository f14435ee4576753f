"""The same program over other axes: what passes that merge, drop or cut axes have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from lncompile.ir import Axes, Input, Node, Program, Reduce, rebuilt, reduced


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
            return replace(node, dims=dims(node.dims), at_start=chosen(node.at_start))
        if isinstance(node, Reduce):
            over = chosen(node.over)
            return replace(node, over=over) if over else reduced(node.op, node.operand, over)
        return node

    inputs = tuple(replace(node, dims=dims(node.dims)) for node in program.inputs)
    mapped = rebuilt(program.nodes, dict(zip(program.inputs, inputs, strict=True)), moved)
    outputs = tuple(replace(out, value=mapped[out.value], dims=dims(out.dims)) for out in program.outputs)
    return replace(program, inputs=inputs, outputs=outputs)
