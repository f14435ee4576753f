"""Values that are compared with their own maximum, to find where it is: as a gradient does.

    m = max[d](tanh(x) * w)         ties = sum[d](tanh(x) * w == m)

The comparison holds for some element only if both sides have seen the same bits. A forward and a backward, or
two loops of one of them, may compute a value in different digits or in another order. So the backward takes
such a maximum, and what is told by the comparison, again (``residuals.py``), and the value is computed once,
to memory that all loops read (``schedule/plan.py``). What is read from an argument is the same everywhere.
"""

from __future__ import annotations

from typing import NamedTuple

from lncompile.ir import Binary, Cast, Input, Node, Program, Reduce, Unary, depending_on


class Comparison(NamedTuple):
    """A truth value: where ``value`` is the largest."""

    node: Node
    value: Node
    largest: Reduce


def comparisons(program: Program) -> list[Comparison]:
    """The comparisons of values with their own maxima on which loops could disagree."""
    found = []
    for node in program.nodes:
        if isinstance(node, Binary) and node.op in ("eq", "ne"):
            left, right = _unrounded(node.left), _unrounded(node.right)
            for value, largest in ((left, right), (right, left)):
                match largest:
                    case Reduce("max", operand) if operand is value and not _is_read(value):
                        found.append(Comparison(node, value, largest))
    return found


def told_by_comparisons(program: Program) -> set[Node]:
    """The maxima of these comparisons, and all that follows from where they hold."""
    found = comparisons(program)
    maxima = {comparison.largest for comparison in found}
    told = {comparison.node for comparison in found}
    rounded = {node for node in program.nodes if isinstance(node, Cast) and _unrounded(node) in maxima}
    return maxima | rounded | depending_on(program.nodes, lambda node: node in told)


def _unrounded(node: Node) -> Node:
    return _unrounded(node.operand) if isinstance(node, Cast) else node


def _is_read(value: Node) -> bool:
    """Whether a value is an argument's but for its sign and rounding."""
    match value:
        case Input():
            return True
        case Cast(operand) | Unary("neg" | "abs", operand):
            return _is_read(operand)
    return False
