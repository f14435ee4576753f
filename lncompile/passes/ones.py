"""Axes of one position are dropped: nothing varies along them, and nothing is to be gained from a loop.

    x [n c dots], dots of size 1, mean[n dots](x)    -->    x [n c], mean[n](x)

A statistic over such axes alone is the value itself, its variance zero.
"""

from __future__ import annotations

from dataclasses import replace

from lncompile.ir import Const, Input, Node, Program, Reduce, operands, with_operands


def without_ones(program: Program) -> Program:
    """``program`` over the axes that have more than one position, or whose sizes are not known."""
    ones = {axis.name for axis in program.axes if axis.size == 1}
    if not ones:
        return program

    def dims(old: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name for name in old if name not in ones)

    inputs = {node: replace(node, dims=dims(node.dims)) for node in program.inputs}
    mapped: dict[Node, Node] = {}
    for node in program.nodes:
        if isinstance(node, Input):
            mapped[node] = inputs[node]
            continue
        new = with_operands(node, tuple(mapped[operand] for operand in operands(node)))
        mapped[node] = _narrowed(new, ones) if isinstance(new, Reduce) else new
    outputs = tuple(replace(out, value=mapped[out.value], dims=dims(out.dims)) for out in program.outputs)
    axes = tuple(axis for axis in program.axes if axis.name not in ones)
    return replace(program, axes=axes, inputs=tuple(inputs.values()), outputs=outputs)


def _narrowed(node: Reduce, ones: set[str]) -> Node:
    over = node.over - ones
    if over:
        return replace(node, over=over)
    return Const(0.0) if node.op in ("mean_low", "variance") else node.operand
