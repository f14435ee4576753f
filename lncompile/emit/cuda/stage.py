"""The kernel of one stage: a team of threads a unit of work, one row or a block of rows.

A row is read at least twice where its team does not hold it in registers: for its statistics, and where
elements are written. Sums that later stages finish go to workspaces: one number a row, one a step of the
loops, or, for a block of rows, one a lane, kept in registers until the block is done.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from lncompile.emit.cuda.exchange import Exchange
from lncompile.emit.cuda.nest import LaunchNames, TeamNest
from lncompile.emit.cuda.row import Part, TeamRow, Work
from lncompile.emit.cuda.scope import TeamScope
from lncompile.emit.cuda.statistics import statistics
from lncompile.emit.cuda.team import WARP, Team, Teaming
from lncompile.emit.nest import as_python
from lncompile.emit.scope import Width
from lncompile.emit.templates import fill
from lncompile.ir import Input, Node, Output, Program, Reduce
from lncompile.passes.loops import Loops
from lncompile.passes.stages import Stage
from lncompile.schedule.cuda import Schedule


@dataclass(frozen=True)
class TeamKernel:
    """A stage of a phase, the phase's size variables, and the schedule."""

    stage: Stage
    axis_names: LaunchNames
    schedule: Schedule

    @property
    def program(self) -> Program:
        """What the kernel computes."""
        return self.stage.program

    @property
    def loops(self) -> Loops:
        """How it goes over its axes."""
        return self.stage.loops

    @cached_property
    def nest(self) -> TeamNest:
        """Its loops, and where its arrays lie."""
        return TeamNest(self.stage, self.axis_names)

    @cached_property
    def team(self) -> Team:
        """What computes a unit of work."""
        return Teaming(self.nest, self.schedule).team()

    @cached_property
    def _scope(self) -> TeamScope:
        return TeamScope(self.program, self.loops, frozenset(self.nest.words))

    def lines(self) -> list[str]:
        """The body of the kernel."""
        exchange = Exchange()
        width = Width(self.program.compute, self.team.lanes)
        row = TeamRow(self._scope, self.nest, self.team, width, exchange, self._holds)
        nodes = [node for node in self.program.nodes if not self._is_partial(node)]
        body = self._unit(row, self._row(row, nodes))
        counts = [(index, as_python(size)) for index, size in self.nest.counts]
        names = {"UNITS": as_python(self.nest.units), "THREADS": self.team.threads, "TEAMS": self.team.teams}
        start = [*self.nest.part_pointers(), *exchange.lines(), *self._thread(), *self._keeps()]
        unit = [*_indices(counts), *body]
        if not counts:
            unit = body
        template = "units_of_warps" if self._leaves_together else "units_within_warps"
        return fill("cuda/units.py", template, {"start": start, "unit": unit}, **names)

    @property
    def _holds(self) -> bool:
        """Whether registers hold what a thread has of the row's inputs; else caches do."""
        inputs = [node for node in self.program.inputs if set(node.dims) >= set(self.loops.domain)]
        return (
            self.team.vectors is not None and len(inputs) * self.team.elements <= self.schedule.held_elements
        )

    @property
    def _leaves_together(self) -> bool:
        """Whether a team that has no unit can leave without others of its warp or block waiting for it."""
        team = self.team
        if team.threads == 1:
            return True
        return team.threads % WARP == 0 and not team.strided

    @property
    def _there(self) -> list[str]:
        """The condition under which what a thread writes is wanted."""
        return [] if self._leaves_together else ["there"]

    def _thread(self) -> list[str]:
        team = self.team
        if team.strided:
            return [
                f"team = remainder(thread_index(), {team.teams})",
                f"member = quotient(thread_index(), {team.teams})",
            ]
        if team.teams == 1:
            return ["team = 0", "member = thread_index()"]
        return [
            f"team = quotient(thread_index(), {team.threads})",
            f"member = remainder(thread_index(), {team.threads})",
        ]

    def _keeps(self) -> list[str]:
        saved = [out for out in self.program.outputs if out.role == "saved"]
        return [f"keep_saved = is_given({saved[0].name})"] if saved else []

    # The rows of a unit

    def _unit(self, row: TeamRow, lines: list[str]) -> list[str]:
        """The rows of a block, one after another, or the one row that a unit is."""
        block, nest = self.stage.block_axis, self.nest
        start = [*row.positions(), *nest.lengths(of_rows=False)]
        if block is None:
            return [*start, *lines]
        for name in reversed(nest.within):
            stop = as_python(nest.size(name))
            lines = fill("cuda/units.py", "steps", {"body": lines}, INDEX=nest.index(name), STOP=stop)
        if 0 < row.exchange.meetings < 2:
            # Nobody may leave something for the next row while others still read what belongs to this one.
            lines = [*lines, "barrier()"]
        axis = nest.axes[block]
        names = {
            "BLOCK": nest.block_index,
            "PER": self.axis_names.per(axis),
            "ROW": nest.index(block),
            "ROWS": as_python(nest.size(block)),
        }
        template = "rows_of_block" if self._leaves_together else "rows_side_by_side"
        opened = [line for out in self._in_registers for line in self._opened(row, out)]
        opened += [line for out in self._in_shared for line in self._opened_shared(row, out)]
        zeroed = [line for out in self._in_memory if self._blocks(out) for line in self._zeroed(row, out)]
        opened += _only_if(self._there, zeroed)
        kept = [*self._in_registers, *self._in_shared]
        closed = [line for out in kept for line in self._closed(row, out)]
        closed = closed if self._leaves_together else _only_if(["has_unit"], closed)
        return [
            *start,
            *fill("cuda/units.py", template, {"open": opened, "row": lines, "close": closed}, **names),
        ]

    # One row

    def _row(self, row: TeamRow, nodes: list[Node]) -> list[str]:
        inputs = [node for node in nodes if isinstance(node, Input)]
        vectors = [node for node in inputs if self._scope.is_vector(node)]
        pointers = self.nest.lengths(of_rows=True) + self.nest.row_pointers(
            [
                *(n for n in vectors if not n.at_start),
                *(o for o in self._element_outputs if o not in (*self._in_registers, *self._in_shared)),
            ]
        )
        for out in self._in_memory:
            if not self._blocks(out):
                pointers += _only_if(self._there, self._zeroed(row, out))
        lines = [*pointers, *row.hold(vectors)]
        lines += [
            f"{self._scope.row_name(node, row.width)} = {row.row_value(node)}"
            for node in inputs
            if not self._scope.is_vector(node)
        ]
        lines += statistics(row, nodes)
        row.check([self._contribution(out) for out in self.program.outputs if out in self._element_outputs])
        there = self._there
        if not row.conditions:
            return [*lines, *_only_if(there, self._written(row))]
        lines.append(f"ordinary = {' and '.join(row.conditions)}")
        lines += _only_if(["ordinary", *there], self._written(row))
        careful = replace(row, width=Width("float64", 1, "_wide"), careful=True, conditions=[])
        wide = [
            f"{self._scope.row_name(node, careful.width)} = {careful.row_value(node)}"
            for node in inputs
            if not self._scope.is_vector(node)
        ]
        meetings = row.exchange.meetings
        wide += statistics(careful, nodes)
        row.exchange.meetings = meetings
        written = self._written(careful)
        if self.team.threads % WARP == 0 and not self.team.strided:
            return [*lines, *_only_if(["not ordinary"], [*wide, *written])]
        # Teams of a warp exchange what they have together, so all of them go along with one that has to.
        return [
            *lines,
            *_only_if(["not all_of_warp(ordinary)"], [*wide, *_only_if(["not ordinary", *there], written)]),
        ]

    def _written(self, row: TeamRow) -> list[str]:
        return [*self._elements(row), *self._results(row)]

    # Elements

    @cached_property
    def _element_outputs(self) -> list[Output]:
        """Outputs that the loop over elements writes or adds to."""
        inside = self.loops.inside
        return [
            out
            for out in self.program.outputs
            if set(out.dims) & inside
            or (self._contribution(out).axes & inside and self._is_partial(out.value))
        ]

    @cached_property
    def _lane_sums(self) -> list[Output]:
        """Sums that later stages finish, with a number for each lane."""
        return [o for o in self._element_outputs if self._is_partial(o.value) and self.loops.vector in o.dims]

    @cached_property
    def _step_sums(self) -> list[Output]:
        """Sums that later stages finish, with a number for each step of the loops around the vectors."""
        return [o for o in self._element_outputs if self._is_partial(o.value) and o not in self._lane_sums]

    @cached_property
    def _in_registers(self) -> list[Output]:
        """Sums over the rows of a block whose places a thread keeps in registers."""
        if self.team.vectors is None:
            return []
        return [out for out in self._steady if self.team.elements <= self.schedule.thread_elements]

    @cached_property
    def _in_shared(self) -> list[Output]:
        """The same in shared memory, where a thread has too much of a row for its registers."""
        fits = self.team.threads * self.team.elements * 4 * len(self._steady) <= self.schedule.shared_bytes
        return [
            out for out in self._steady if fits and out.dtype == "float32" and out not in self._in_registers
        ]

    @cached_property
    def _steady(self) -> list[Output]:
        """Sums over the rows of a block that have one place for each of a thread's elements."""
        if self.team.vectors is None:
            return []
        looped = set(self.nest.within)
        return [out for out in self._lane_sums if self._blocks(out) and not looped & set(out.dims)]

    @property
    def shared(self) -> int:
        """Bytes of dynamic shared memory."""
        return self.team.threads * self.team.elements * 4 * len(self._in_shared)

    @cached_property
    def _in_memory(self) -> list[Output]:
        """Sums for each lane that a thread adds to where they lie: it is the only one that does."""
        return [out for out in self._lane_sums if out not in (*self._in_registers, *self._in_shared)]

    def _blocks(self, out: Output) -> bool:
        """Whether a sum is kept over a block of rows, not over one row."""
        return self.nest.in_blocks(out)

    def _is_partial(self, node: Node) -> bool:
        """Whether a node is a reduction that later stages finish."""
        return isinstance(node, Reduce) and node.over != self.loops.inside

    def _contribution(self, out: Output) -> Node:
        """What an element or a row contributes to an output."""
        value = out.value
        return value.operand if isinstance(value, Reduce) and self._is_partial(value) else value

    def _elements(self, row: TeamRow) -> list[str]:
        """What writes element-sized outputs and adds to sums."""
        outputs = self._element_outputs
        if not outputs:
            return []
        roots = [self._contribution(out) for out in outputs]

        work = self._careful_work(row, roots) if row.careful else self._work(row, roots)
        if self.team.vectors is not None:
            return row.over(roots, work)
        inputs = [n for n in self._scope.vectors_for(roots) if isinstance(n, Input) and not n.at_start]
        start = self.nest.step_pointers([*inputs, *(out for out in outputs if self.loops.vector in out.dims)])
        start += [f"{self._sum(out, row)} = {row.row_width.filled(_neutral(out))}" for out in self._step_sums]
        return row.over_steps(start, roots, work, self._step_totals(row))

    def _work(self, row: TeamRow, roots: list[Node]) -> Work:
        """What is done with a part of a row: whole vectors are stored and added up."""

        def body(part: Part) -> list[str]:
            width = part.width(row.width)
            lines = row.vectors(roots, part)
            for out in self._element_outputs:
                value = self._contribution(out)
                if out in self._step_sums:
                    lines.append(self._step_summed(out, row, part))
                elif out in self._in_registers:
                    name = f"{out.name}_i{part.at}"
                    lines.append(f"{name} = {_added(out, name, self._scope.filled(value, width))}")
                else:
                    text = self._repeated(value, width)
                    if out in (*self._in_memory, *self._in_shared):
                        text = _added(out, row.width.converted(self._before(out, row, part), out.dtype), text)
                    lines += self._store(out, row, part, text)
            return lines

        return Work(body, apart=True)

    def _careful_work(self, row: TeamRow, roots: list[Node]) -> Work:
        """The same lane by lane: what is stored collects in vectors of the arrays' own types."""
        stored = [out for out in self._element_outputs if out not in (*self._step_sums, *self._in_registers)]
        compute = replace(row.width, dtype=self.program.compute, lanes=self.team.lanes)

        def before(part: Part) -> list[str]:
            return [
                f"{out.name}_out = {self._before(out, row, part)}"
                if out in (*self._in_memory, *self._in_shared)
                else f"{out.name}_out = {_rounded(compute.filled('0.0'), out.dtype, compute.dtype)}"
                for out in stored
            ]

        def body(part: Part) -> list[str]:
            lines = row.vectors(roots, part)
            for out in self._element_outputs:
                if out in self._step_sums:
                    lines.append(self._step_summed(out, row, part))
                    continue
                text = self._scope.vector_operand(self._contribution(out), part.width(row.width))
                text = f"as_{out.dtype}({row.row_width.filled(text)})"
                name = f"{out.name}_out" if out in stored else f"{out.name}_i{part.at}"
                if self._is_partial(out.value):
                    text = _added(out, f"first({name})", text)
                lines.append(f"{name} = pushed({name}, {text})")
            return lines

        def after(part: Part) -> list[str]:
            return [line for out in stored for line in self._store(out, row, part, f"{out.name}_out")]

        return Work(body, before, after, apart=True)

    def _step_summed(self, out: Output, row: TeamRow, part: Part) -> str:
        value, name = self._contribution(out), self._sum(out, row)
        text = self._scope.filled(value, part.width(row.width))
        if self._scope.is_vector(value) and self.loops.vector in value.axes:
            text = f"largest({text})" if _operation(out) == "max" else f"total({text})"
        return f"{name} = {_added(out, name, text)}"

    def _before(self, out: Output, row: TeamRow, part: Part) -> str:
        """What a sum in memory is so far."""
        if out in self._in_shared:
            return f"get_vector({self._place(out, part)}, {self.team.lanes})"
        return f"load({self.nest.step_pointer(out)}, {row.place(out, part.index)}, {self.team.lanes})"

    def _store(self, out: Output, row: TeamRow, part: Part, text: str) -> list[str]:
        if out in self._in_shared:
            return [f"put_vector({self._place(out, part)}, {text})"]
        line = f"store({self.nest.step_pointer(out)}, {row.place(out, part.index)}, {text})"
        return _only_if(["keep_saved"], [line]) if out.role == "saved" else [line]

    def _repeated(self, node: Node, width: Width) -> str:
        """A value in every lane, also where it is the same in all of them."""
        text = self._scope.vector_operand(node, width)
        return text if self._scope.is_vector(node) and self.loops.vector in node.axes else width.filled(text)

    # Sums that later stages finish

    def _sum(self, out: Output, row: TeamRow) -> str:
        return f"{out.name}{row.width.suffix}_lanes"

    def _step_totals(self, row: TeamRow) -> list[str]:
        """What a step of the loops around the vectors adds up to, written by its first thread."""
        lines: list[str] = []
        write: list[str] = []
        for out in self._step_sums:
            name = self._sum(out, row)
            value = self._contribution(out)
            assert isinstance(out.value, Reduce)
            if self.loops.vector in value.axes and not self.loops.across:
                lines += row.together([(name, _operation(out))], self.team.per_step)
            axes = {*self.nest.unit_axes(out), *self.nest.steps}
            write.append(f"store({out.name}, {self.nest.offset(out, axes)}, {name})")
        first = f"remainder(member, {self.team.per_step}) == 0"
        return [*lines, *_only_if([first], write)] if write else []

    def _opened(self, row: TeamRow, out: Output) -> list[str]:
        filled = replace(row.width, dtype=self.program.compute).filled(_neutral(out))
        return [f"{out.name}_i{part.at} = {filled}" for part in row.parts()]

    def _closed(self, row: TeamRow, out: Output) -> list[str]:
        offset = self.nest.offset(out, self.nest.unit_axes(out))
        pointer = out.name if offset == "0" else f"advance({out.name}, {offset})"
        lines = [f"sums = {pointer}"]
        for part in row.parts():
            text = self._before(out, row, part) if out in self._in_shared else f"{out.name}_i{part.at}"
            line = f"store(sums, {row.place(out, part.index)}, {text})"
            lines += _only_if([part.condition], [line]) if part.condition else [line]
        return lines

    def _place(self, out: Output, part: Part) -> str:
        """Where a part of a sum lies in shared memory, and how far apart its pieces of 16 bytes lie.

        Neighbouring threads have neighbouring pieces, so that all banks are busy.
        """
        threads = self.team.threads
        start = (self._in_shared.index(out) * self.team.elements + (part.at or 0) * self.team.lanes) * threads
        per_piece = min(4, self.team.lanes)
        return f"{start} + member * {per_piece}, {threads * per_piece}"

    def _opened_shared(self, row: TeamRow, out: Output) -> list[str]:
        filled = row.width.filled(_neutral(out))
        return [f"put_vector({self._place(out, part)}, {filled})" for part in row.parts()]

    def _zeroed(self, row: TeamRow, out: Output) -> list[str]:
        """Lines that set sums in memory to what nothing adds up to, each by the thread that adds to it."""
        nest = self.nest
        outer = [name for name in nest.unit_axes(out) if name not in nest.within or not self._blocks(out)]
        within = [name for name in nest.within if name in out.dims and name not in outer]
        start = nest.row_pointers([out]) + nest.step_pointers([out])

        def body(part: Part) -> list[str]:
            place = row.place(out, part.index)
            return [f"store({nest.step_pointer(out)}, {place}, {row.width.filled(_neutral(out))})"]

        if self.team.vectors is None:
            lines = row.over_steps(start, [], Work(body))
        else:
            lines = [*start, *row.over([], Work(body, apart=True))]
        for name in reversed(within):
            stop = as_python(nest.size(name))
            lines = fill("cuda/units.py", "steps", {"body": lines}, INDEX=nest.index(name), STOP=stop)
        return lines

    # Row-sized results

    def _results(self, row: TeamRow) -> list[str]:
        """Row-sized outputs, and what a row contributes to sums over rows, written by the team's first."""
        lines: list[str] = []
        kept: list[str] = []
        for out in self.program.outputs:
            if out in self._element_outputs:
                continue
            offset = self.nest.offset(out, self.nest.unit_axes(out))
            if self.loops.vector in out.dims:
                place = row.place(out, "i")
                offset = place if offset == "0" else f"{offset} + {place}"
            value = self._contribution(out)
            text = row.row_width.filled(self._scope.row_name(value, row.width))
            line = f"store({out.name}, {offset}, {text})"
            (kept if out.role == "saved" else lines).append(line)
        lines += _only_if(["keep_saved"], kept) if kept else []
        return _only_if(["member == 0"], lines) if lines else []


def _indices(counts: list[tuple[str, str]]) -> list[str]:
    """Lines that give the indices of a unit."""
    lines = []
    for at, (index, size) in enumerate(counts):
        inner = " * ".join(f"({other})" for _, other in counts[at + 1 :])
        text = f"quotient(unit, {inner})" if inner else "unit"
        lines.append(f"{index} = {text}" if at == 0 else f"{index} = remainder({text}, {size})")
    return lines


def _only_if(conditions: list[str], lines: list[str]) -> list[str]:
    """``lines`` where all of the conditions hold."""
    if not conditions or not lines:
        return lines
    return fill("cuda/rows.py", "only_if", {"then": lines}, CONDITION=" and ".join(conditions))


def _rounded(text: str, dtype: str, source: str) -> str:
    return text if dtype == source else f"as_{dtype}({text})"


def _operation(out: Output) -> str:
    assert isinstance(out.value, Reduce)
    return out.value.op


def _neutral(out: Output) -> str:
    return "0.0" if _operation(out) == "sum" else "-INFINITY"


def _added(out: Output, before: str, text: str) -> str:
    return f"{before} + {text}" if _operation(out) == "sum" else f"maximum({before}, {text})"
