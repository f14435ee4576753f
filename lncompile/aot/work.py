"""Arithmetic and traffic of a phase for each row, which do not depend on what it is compiled for."""

from __future__ import annotations

from math import prod

from lncompile import axes as ax
from lncompile.aot.wanted import Wanted
from lncompile.dtypes import TABLE
from lncompile.interface import Phase
from lncompile.ir import Binary, Node, Program, Reduce, Select, Unary

#: Operations on each element that a reduction goes over: a difference, its square and a sum for a variance.
_REDUCING = {"variance": 3}


def flops_per_row(program: Program) -> int:
    """Operations on numbers for one row; a function such as ``exp`` counts as one, a comparison as none."""
    return sum(_operations(node, program) for node in program.nodes)


def _operations(node: Node, program: Program) -> int:
    axes = node.operand.axes if isinstance(node, Reduce) else node.axes
    if not axes & program.batch and program.batch:
        return 0  # the same for all rows
    positions = program.count(axes & program.features)
    if isinstance(node, Reduce):
        return positions * _REDUCING.get(node.op, 1)
    counted = isinstance(node, Unary | Select) or (isinstance(node, Binary) and node.kind == "real")
    return positions if counted else 0


def bytes_per_row(phase: Phase, wanted: Wanted) -> float:
    """Bytes of arrays that a phase reads and writes for each row; what all rows share is not counted."""
    features = wanted.dispatcher.equation.pattern.features

    def size(name: str) -> int:
        return max(ax.count(name, wanted.sizes), 1)

    batch = [name for name in wanted.dispatcher.equation.pattern.axes if name not in features]
    rows = prod(size(name) for name in batch)
    total = sum(
        prod(size(name) for name in buffer.axes) * TABLE[buffer.dtype].itemsize
        for buffer in phase.buffers
        if buffer.role not in ("workspace", "absent") and set(buffer.axes) & set(batch)
    )
    return total / rows
