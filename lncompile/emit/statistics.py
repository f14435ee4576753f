"""Every row-sized value of a program, in as few passes over the row as its dependencies allow.

A phase is one loop over the features with all reductions that depend on earlier phases alone, followed by the
row-sized values that are known then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from lncompile.emit import moments
from lncompile.emit.loops import Condition, Left, Row
from lncompile.ir import MOMENTS, Const, Input, Node, Reduce, operands

_NEUTRAL = {"sum": "0.0", "mean": "0.0", "max": "-INFINITY"}


def statistics(
    row: Row, nodes: list[Node], looped: Callable[[Sweep], list[str]] = lambda sweep: sweep.looped()
) -> list[str]:
    """Lines that compute the reductions over features and the row-sized values among ``nodes``, in order.

    ``looped`` are the lines of a loop, as long as those have not been elsewhere.
    """
    levels = levels_of(nodes)
    lines: list[str] = []
    for level in range(max(levels.values(), default=0) + 1):
        now = [node for node in nodes if levels[node] == level]
        reductions = [node for node in now if isinstance(node, Reduce)]
        if reductions:
            sweep = Sweep(row, reductions)
            lines += [*looped(sweep), *sweep.results()]
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


@dataclass(frozen=True)
class Sweep:
    """The reductions of one loop over a row."""

    row: Row
    reductions: list[Reduce]

    @cached_property
    def values(self) -> list[Node]:
        """What is reduced."""
        return [reduction.operand for reduction in self.reductions]

    @cached_property
    def _groups(self) -> list[moments.Moments]:
        return moments.grouped(self.reductions)

    @cached_property
    def _plain(self) -> list[Reduce]:
        return [reduction for reduction in self.reductions if reduction.op not in MOMENTS]

    @cached_property
    def sums(self) -> list[str]:
        """The names of its sums over lanes."""
        sums = [name for group in self._groups for name in moments.sums(self.row, group)]
        return sums + [_lanes(self.row, reduction) for reduction in self._plain if reduction.op != "max"]

    @cached_property
    def _largest(self) -> list[str]:
        return [_lanes(self.row, reduction) for reduction in self._plain if reduction.op == "max"]

    def opening(self) -> list[str]:
        """Lines before the loop: pivots, and the lanes of maxima."""
        pivots = [line for group in self._groups for line in moments.pivot(self.row, group)]
        filled = self.row.width.filled(_NEUTRAL["max"])
        return [*pivots, *(f"{lanes} = {filled}" for lanes in self._largest)]

    def step(self, left: Left) -> list[str]:
        """What the loop does with a vector."""
        row = self.row
        lines = row.vectors(self.values, row.width, left)
        for reduction in self._plain:
            lines.append(_accumulated(row, reduction, left))
        for group in self._groups:
            lines += moments.step(row, group, left)
        for node in self._stored:
            # Whole vectors: the memory has room past the end of the row.
            name = row.scope.vector_name(node, row.width)
            lines.append(f"store({row.memory_of(node)}, i, {name})")
        return lines

    @cached_property
    def _stored(self) -> list[Node]:
        row = self.row
        return [node for node in row.vectors_for(self.values) if node in row.remembered - row.known]

    @property
    def found(self) -> list[str]:
        """The names of what the loop leaves, and of the pivots that it began with."""
        ends = "_total" if self.row.in_blocks else ""
        pivots = [f"{group.base(self.row)}_pivot" for group in self._groups]
        return [*pivots, *(f"{name}{ends}" for name in self.sums), *self._largest]

    def looped(self) -> list[str]:
        """The loop, over one row or over each of those together, and what it begins with."""
        row = self.row
        kept = [line for group in self._groups for line in moments.kept(row, group)]
        loop = row.summing_loop(self.values, self.sums, self.step)
        body = [*self.opening(), *loop, *kept, *row.kept_lanes(self.sums, self._largest)]
        lines = [*row.narrow(self.values), *row.for_each(self.values, body), *row.after_each(self.values)]
        row.known.update(self._stored)
        return lines

    def results(self) -> list[str]:
        """The reductions, from what the loop leaves."""
        row, lines = self.row, []
        for group in self._groups:
            lines += moments.results(row, group)
        for reduction in self._plain:
            name = row.scope.names[reduction]
            lines += [row.scope.comment(reduction), f"{name} = {_finished(row, reduction)}"]
            if row.width.dtype == "float32":
                row.conditions.append(Condition(f"is_finite({name})", row.scope.is_wide(reduction)))
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
