"""Every row-sized value of a program, in as few passes over the row as its dependencies allow.

A phase is one loop over the features with all reductions that depend on earlier phases alone, followed by the
row-sized values that are known then.
"""

from __future__ import annotations

from lncompile.emit import moments
from lncompile.emit.loops import Condition, Left, Row
from lncompile.ir import MOMENTS, Const, Input, Node, Reduce, operands

_NEUTRAL = {"sum": "0.0", "mean": "0.0", "max": "-INFINITY"}


def statistics(row: Row, nodes: list[Node]) -> list[str]:
    """Lines that compute the reductions over features and the row-sized values among ``nodes``, in order."""
    levels = levels_of(nodes)
    lines: list[str] = []
    for level in range(max(levels.values(), default=0) + 1):
        now = [node for node in nodes if levels[node] == level]
        reductions = [node for node in now if isinstance(node, Reduce)]
        if reductions:
            lines += _phase(row, reductions)
        for node in now:
            if not row.scope.is_vector(node) and not isinstance(node, Const | Input | Reduce):
                text = row.scope.row_sized_text(node, row.row_sized, row.is_wide)
                lines += [row.scope.comment(node), f"{row.scope.names[node]} = {text}"]
    return lines


def levels_of(nodes: list[Node]) -> dict[Node, int]:
    """How many passes over the row come before a value; what is not in ``nodes`` is known from the start."""
    levels: dict[Node, int] = {}
    for node in nodes:
        below = max((levels.get(operand, 0) for operand in operands(node)), default=0)
        levels[node] = below + 1 if isinstance(node, Reduce) else below
    return levels


def _phase(row: Row, reductions: list[Reduce]) -> list[str]:
    groups = moments.grouped(reductions)
    plain = [reduction for reduction in reductions if reduction.op not in MOMENTS]
    values = [reduction.operand for reduction in reductions]
    stored = [node for node in row.vectors_for(values) if node in row.remembered - row.known]

    def step(left: Left) -> list[str]:
        lines = row.vectors(values, row.width, left)
        for reduction in plain:
            lines.append(_accumulated(row, reduction, left))
        for group in groups:
            lines += moments.step(row, group, left)
        for node in stored:
            # Whole vectors: the memory has room past the end of the row.
            name = row.scope.vector_name(node, row.width)
            lines.append(f"store({row.memory_of(node)}, i, {name})")
        return lines

    body: list[str] = []
    kept: list[str] = []
    sums = []
    for group in groups:
        body += moments.pivot(row, group)
        kept += moments.kept(row, group)
        sums += moments.sums(row, group)
    largest = [_lanes(row, reduction) for reduction in plain if reduction.op == "max"]
    body += [f"{lanes} = {row.width.filled(_NEUTRAL['max'])}" for lanes in largest]
    sums += [_lanes(row, reduction) for reduction in plain if reduction.op != "max"]
    body += [*row.summing_loop(values, sums, step), *kept, *row.kept_lanes(sums, largest)]
    lines = [*row.narrow(values), *row.for_each(values, body), *row.after_each(values)]
    row.known.update(stored)
    for group in groups:
        lines += moments.results(row, group)
    for reduction in plain:
        lines += [row.scope.comment(reduction), f"{row.scope.names[reduction]} = {_finished(row, reduction)}"]
        if row.width.dtype == "float32":
            text = f"is_finite({row.scope.names[reduction]})"
            row.conditions.append(Condition(text, row.scope.is_wide(reduction)))
    return lines


def _lanes(row: Row, reduction: Reduce) -> str:
    return f"{row.scope.names[reduction]}{row.width.suffix}_lanes"


def _accumulated(row: Row, reduction: Reduce, left: Left) -> str:
    lanes = _lanes(row, reduction)
    if reduction.op != "max" and (left is None or row.nest.loops.across):
        return f"{lanes} = {row.scope.added(reduction.operand, lanes, row.width)}"
    value = row.kept(row.repeated(reduction.operand), left, _NEUTRAL[reduction.op])
    return f"{lanes} = maximum({lanes}, {value})" if reduction.op == "max" else f"{lanes} += {value}"


def _finished(row: Row, reduction: Reduce) -> str:
    lanes = _lanes(row, reduction)
    finish = row.largest if reduction.op == "max" else row.total
    finished = finish(lanes, reduction)
    return f"{finished} / {float(row.count)!r}" if reduction.op == "mean" else finished
