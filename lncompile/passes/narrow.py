"""Stages that read float64 of earlier ones, whose elements float32 holds as well as those of rows.

    y = t12 + (x - mu_high) * t10       x float32 [n c], the others float64 [c]

What rows share, a number for each lane, is what a row's own statistics would be to it: rounded to float32,
where it is neither too large nor too small for that, it computes elements as float32 rows are computed.
"""

from __future__ import annotations

from lncompile.dtypes import TABLE
from lncompile.ir import Axes, Binary, Const, Input, Node, Program, Unary, operands

#: Others may tell values apart that float32 does not, or turn small differences into large ones.
_ARITHMETIC = frozenset({"add", "sub", "mul", "neg", "square"})


def has_narrow_elements(program: Program, inside: Axes, rows: str) -> bool:
    """Whether a stage of float64 with loops ``inside`` may compute what differs along ``rows`` in float32."""
    if any(TABLE[array.dtype].compute == "float64" and rows in array.dims for array in program.arrays):
        return False
    if not all(rows in out.dims for out in program.outputs):
        return False
    return all(
        node.kind == "real" and (isinstance(node, Const) or (node.axes & inside and _is_plain(node)))
        for node in program.nodes
    )


def shared_values(program: Program, rows: str) -> list[Node]:
    """The values that are the same along ``rows``, of which those that differ are made, or outputs are."""
    used = {operand for node in program.nodes if rows in node.axes for operand in operands(node)}
    used |= {out.value for out in program.outputs}
    return [node for node in program.nodes if node in used and rows not in node.axes]


def _is_plain(node: Node) -> bool:
    match node:
        case Input():
            return not node.at_start
        case Unary(op, _) | Binary(op, _, _):
            return op in _ARITHMETIC
    return False
