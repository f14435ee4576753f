"""Values that meet their own maximum where the last bit decides: to find where it is, as a gradient does.

    m = max[d](tanh(x) * w)         ties = sum[d](tanh(x) * w == m)        y = sqrt(m - tanh(x) * w)

The comparison holds for some element, and no root is taken of less than 0, only if both sides have seen the
same bits. A forward and a backward, or two loops of one of them, may compute a value in different digits or
in another order. So the backward takes such a maximum, and what is told by it, again (``residuals.py``), and
the value is computed once, to memory that all loops read (``schedule/plan.py``). What is read from an
argument is the same everywhere.
"""

from __future__ import annotations

from typing import NamedTuple

from lncompile.ir import (
    COMPARE,
    Binary,
    Cast,
    Node,
    Program,
    Reduce,
    Unary,
    depending_on,
    is_element,
    operands,
    up_to_reductions,
)


class Meeting(NamedTuple):
    """Where ``node`` turns on how ``value`` stands to the largest of it, or of its opposite."""

    node: Node
    value: Node
    largest: Reduce


def meetings(program: Program) -> list[Meeting]:
    """Where values meet their own maxima and loops could disagree."""
    found = []
    for node in program.nodes:
        if _decides(node):
            met = up_to_reductions(operands(node))
            for largest in met:
                if isinstance(largest, Reduce) and largest.op == "max":
                    value = _bare(largest.operand)
                    if value in met and not is_element(value):
                        found.append(Meeting(node, value, largest))
    return found


def told_by_meetings(program: Program) -> set[Node]:
    """The maxima that are met so, and all that follows from where they are."""
    found = meetings(program)
    maxima = {meeting.largest for meeting in found}
    told = {meeting.node for meeting in found}
    rounded = {node for node in program.nodes if isinstance(node, Cast) and _bare(node) in maxima}
    return maxima | rounded | depending_on(program.nodes, lambda node: node in told)


def _decides(node: Node) -> bool:
    """Whether one bit of an operand may change a result altogether."""
    match node:
        case Binary(op, _, _):
            return op in COMPARE
        case Unary(op, _):
            return op in ("sqrt", "rsqrt", "log")
    return False


def _bare(value: Node) -> Node:
    """``value`` without sign and rounding."""
    match value:
        case Cast(operand) | Unary("neg" | "abs", operand):
            return _bare(operand)
    return value
