"""Cuts a program where sums over the batch end: what is done for each row, and what is done once afterwards.

    dweight = sum[n](dy * xhat) * scale      -->   rows:     dweight_sum = sum[n](dy * xhat)
                                                   combine:  dweight     = dweight_sum * scale

In the rows program every sum over batch axes is an output of role ``workspace``; the combine program takes
those as inputs, has feature axes alone, and computes in float64, since there a sum has its last rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from lncompile.ir import Input, Node, Output, Program, Reduce, depending_on, operands, rewrite, with_operands
from lncompile.printer import names_of


@dataclass(frozen=True, eq=False)
class Stages:
    """The program that runs for all rows (in parallel) and the one that runs once; either may be absent."""

    rows: Program | None
    combine: Program | None


def stages(program: Program) -> Stages:
    """Split ``program`` at its sums over batch axes."""
    program = rewrite(program, lambda node: _features_first(node, program.batch))
    sums = [node for node in program.nodes if isinstance(node, Reduce) and node.over & program.batch]
    names = names_of(program)
    workspaces: dict[Node, Input] = {
        node: Input(f"{names[node]}_sum", _dims(node, program), program.compute, "workspace") for node in sums
    }
    rows_outputs = tuple(out for out in program.outputs if set(out.dims) & program.batch)
    rows_outputs += tuple(
        Output(stand_in.name, node, stand_in.dims, program.compute, "workspace")
        for node, stand_in in workspaces.items()
    )
    once = tuple(out for out in program.outputs if not set(out.dims) & program.batch)
    rows = replace(program, outputs=rows_outputs) if rows_outputs else None
    return Stages(rows, _combine(program, once, workspaces) if once else None)


def _features_first(node: Node, batch: frozenset[str]) -> Node | None:
    """A sum over features and batch is a sum over the batch of sums over features."""
    match node:
        case Reduce("sum", value, over) if over & batch and over - batch:
            return Reduce("sum", Reduce("sum", value, over - batch), over & batch)
    return None


def _combine(program: Program, outputs: tuple[Output, ...], workspaces: Mapping[Node, Input]) -> Program:
    mapped: dict[Node, Node] = dict(workspaces)
    for node in program.nodes:
        if node not in mapped:
            mapped[node] = with_operands(node, tuple(mapped[operand] for operand in operands(node)))
    results = tuple(replace(out, value=mapped[out.value]) for out in outputs)
    combine = Program(
        program.name, tuple(axis for axis in program.axes if axis.feature), "float64", (), results
    )
    used = set(combine.nodes)
    inputs = tuple(node for node in (*program.inputs, *workspaces.values()) if node in used)
    assert not depending_on(inputs, lambda node: bool(node.axes & program.batch)), (
        "a row-sized value reached combine"
    )
    return replace(combine, inputs=inputs)


def _dims(node: Node, program: Program) -> tuple[str, ...]:
    return tuple(axis.name for axis in program.axes if axis.name in node.axes)
