"""The kernel of one stage: a team of threads a unit of work, one row or a block of rows.

A row is read at least twice where its team does not hold it in registers: for its statistics, and where
elements are written. Sums that later stages finish go to workspaces: one number a row, one a step of the
loops, or, for a block of rows, one a lane, kept in registers until the block is done.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from lncompile.emit.cuda.conditional import only_if
from lncompile.emit.cuda.context import Context
from lncompile.emit.cuda.elements import Elements
from lncompile.emit.cuda.exchange import Exchange
from lncompile.emit.cuda.row import TeamRow
from lncompile.emit.cuda.statistics import statistics
from lncompile.emit.cuda.sums import Sums
from lncompile.emit.cuda.team import WARP
from lncompile.emit.nest import as_python
from lncompile.emit.outputs import if_given
from lncompile.emit.scope import Width
from lncompile.emit.templates import fill
from lncompile.ir import Input, Node

#: Places of each type for exchanges, 24 KiB in all: a block can have 48 KiB in this way. Of sums of columns,
#: which need the most, 8 fit; more take turns, and leave room for another block on the multiprocessor.
_PLACES = 2048
#: The same in what a schedule leaves beside sums in shared memory: 3 KiB.
_PLACES_BESIDE = 256


@dataclass(frozen=True)
class TeamKernel:
    """The emitter of one stage's kernel."""

    context: Context

    @cached_property
    def exchange(self) -> Exchange:
        """The shared memory for sums over threads, which lines are known to need when they are emitted."""
        return Exchange(_PLACES_BESIDE if self.context.shared else _PLACES)

    @cached_property
    def sums(self) -> Sums:
        """The sums that later stages finish."""
        return Sums(self.context)

    @cached_property
    def elements(self) -> Elements:
        """The loops that write elements."""
        return Elements(self.context, self.sums)

    def lines(self) -> list[str]:
        """The body of the kernel."""
        width = Width(self.context.program.compute, self.context.team.lanes)
        row = TeamRow(
            self.context.scope, self.context.nest, self.context.team, width, self.exchange, self.context.holds
        )
        nodes = [node for node in self.context.program.nodes if not self.context.is_partial(node)]
        body = self._unit(row, self._row(row, nodes))
        counts = [(index, as_python(size)) for index, size in self.context.nest.counts]
        names = {
            "UNITS": as_python(self.context.nest.units),
            "THREADS": self.context.team.threads,
            "TEAMS": self.context.team.teams,
            "BLOCKS": self.context.team.blocks,
        }
        start = [*self.context.nest.part_pointers(), *self.exchange.lines(), *self._thread()]
        unit = [*_indices(counts), *body]
        if not counts:
            unit = body
        template = "units_of_warps" if self.context.leaves_together else "units_within_warps"
        if self.context.team.blocks > 1:
            template = "unit_of_cluster"
        return fill("cuda/units.py", template, {"start": start, "unit": unit}, **names)

    def _thread(self) -> list[str]:
        team = self.context.team
        if team.strided:
            return [
                f"team = remainder(thread_index(), {team.teams})",
                f"member = quotient(thread_index(), {team.teams})",
            ]
        if team.blocks > 1:
            rank = f"remainder(block_index(), {team.blocks})"
            return [f"member = {rank} * {team.in_block} + thread_index()"]
        if team.teams == 1:
            return ["team = 0", "member = thread_index()"]
        return [
            f"team = quotient(thread_index(), {team.threads})",
            f"member = remainder(thread_index(), {team.threads})",
        ]

    def _unit(self, row: TeamRow, lines: list[str]) -> list[str]:
        """The rows of a block, one after another, or the one row that a unit is."""
        block, nest = self.context.stage.block_axis, self.context.nest
        start = [*row.positions(), *nest.lengths(of_rows=False)]
        if block is None:
            return [*start, *lines]
        for name in reversed(nest.within):
            stop = as_python(nest.size(name))
            lines = fill("cuda/units.py", "steps", {"body": lines}, INDEX=nest.index(name), STOP=stop)
        if row.exchange.meetings == 1 or row.exchange.again:
            # Nobody may leave something for the next row while others still read what belongs to this one.
            lines = [*lines, self.context.team.barrier]
        axis = nest.axes[block]
        names = {
            "BLOCK": nest.block_index,
            "PER": self.context.axis_names.per(axis),
            "ROW": nest.index(block),
            "ROWS": as_python(nest.size(block)),
        }
        template = "rows_of_block" if self.context.leaves_together else "rows_side_by_side"
        opened = [line for out in self.context.in_registers for line in self.sums.opened(row, out)]
        opened += [line for out in self.context.in_shared for line in self.sums.opened_shared(row, out)]
        zeroed = [
            line
            for out in self.context.in_memory
            if self.context.blocks(out)
            for line in self.sums.zeroed(row, out)
        ]
        opened += only_if(self.context.there, zeroed)
        kept = [*self.context.in_registers, *self.context.in_shared]
        closed = [line for out in kept for line in self.sums.closed(row, out)]
        closed = closed if self.context.leaves_together else only_if(["has_unit"], closed)
        return [
            *start,
            *fill("cuda/units.py", template, {"open": opened, "row": lines, "close": closed}, **names),
        ]

    def _row(self, row: TeamRow, nodes: list[Node]) -> list[str]:
        inputs = [node for node in nodes if isinstance(node, Input)]
        vectors = [node for node in inputs if self.context.scope.is_vector(node)]
        pointers = self.context.nest.lengths(of_rows=True) + self.context.nest.row_pointers(
            [
                *(n for n in vectors if not n.at_start),
                *(
                    o
                    for o in self.context.element_outputs
                    if o not in (*self.context.in_registers, *self.context.in_shared)
                ),
            ]
        )
        for out in self.context.in_memory:
            if not self.context.blocks(out):
                pointers += only_if(self.context.there, self.sums.zeroed(row, out))
        lines = [*pointers, *row.hold(vectors)]
        lines += [
            f"{self.context.scope.row_name(node, row.width)} = {row.row_value(node)}"
            for node in inputs
            if not self.context.scope.is_vector(node)
        ]
        lines += statistics(row, nodes)
        row.check(
            [
                self.context.contribution(out)
                for out in self.context.program.outputs
                if out in self.context.element_outputs
            ]
        )
        row.check_others(nodes)
        there = self.context.there
        if not row.conditions:
            return [*lines, *only_if(there, self._written(row))]
        lines.append(f"ordinary = {' and '.join(row.conditions)}")
        lines += only_if(["ordinary", *there], self._written(row))
        careful = replace(row, width=Width("float64", 1, "_wide"), careful=True, conditions=[])
        wide = [
            f"{self.context.scope.row_name(node, careful.width)} = {careful.row_value(node)}"
            for node in inputs
            if not self.context.scope.is_vector(node)
        ]
        meetings = row.exchange.meetings
        wide += statistics(careful, nodes)
        row.exchange.meetings = meetings
        written = self._written(careful)
        if self.context.team.threads % WARP == 0 and not self.context.team.strided:
            return [*lines, *only_if(["not ordinary"], [*wide, *written])]
        # Teams of a warp exchange what they have together, so all of them go along with one that has to.
        return [
            *lines,
            *only_if(["not all_of_warp(ordinary)"], [*wide, *only_if(["not ordinary", *there], written)]),
        ]

    def _written(self, row: TeamRow) -> list[str]:
        return [*self.elements.lines(row), *self._results(row)]

    def _results(self, row: TeamRow) -> list[str]:
        """Row-sized outputs, and what a row contributes to sums over rows, written by the team's first."""
        lines: list[str] = []
        for out in self.context.program.outputs:
            if out in self.context.element_outputs:
                continue
            offset = self.context.nest.offset(out, self.context.nest.unit_axes(out))
            if self.context.loops.vector in out.dims:
                place = row.place(out, "i")
                offset = place if offset == "0" else f"{offset} + {place}"
            value = self.context.contribution(out)
            text = row.row_width.filled(self.context.scope.row_name(value, row.width))
            line = f"store({out.name}, {offset}, {text})"
            lines += if_given(out, line)
        return only_if(["member == 0"], lines) if lines else []


def _indices(counts: list[tuple[str, str]]) -> list[str]:
    """Lines that give the indices of a unit."""
    lines = []
    for at, (index, size) in enumerate(counts):
        inner = " * ".join(f"({other})" for _, other in counts[at + 1 :])
        text = f"quotient(unit, {inner})" if inner else "unit"
        lines.append(f"{index} = {text}" if at == 0 else f"{index} = remainder({text}, {size})")
    return lines
