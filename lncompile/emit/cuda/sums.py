"""Sums that later stages finish: what is added to them, where they are kept, how they begin and end."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lncompile.emit.cuda.conditional import only_if
from lncompile.emit.cuda.context import Context
from lncompile.emit.cuda.row import Part, TeamRow, Work
from lncompile.emit.nest import as_python
from lncompile.emit.sums import neutral, operation
from lncompile.emit.templates import fill
from lncompile.ir import Output, Reduce


@dataclass(frozen=True)
class Sums:
    """The partial sums of a stage."""

    context: Context

    def lanes(self, out: Output, row: TeamRow) -> str:
        """What holds a sum of the vectors of a step."""
        return f"{out.name}{row.width.suffix}_lanes"

    def step_summed(self, out: Output, row: TeamRow, part: Part) -> str:
        """The line that adds a part of a row to such a sum."""
        value, name = self.context.contribution(out), self.lanes(out, row)
        text = self.context.scope.filled(value, part.width(row.width))
        if self.context.scope.is_vector(value) and self.context.loops.vector in value.axes:
            text = f"largest({text})" if operation(out) == "max" else f"total({text})"
        return f"{name} = {added(out, name, text)}"

    def step_totals(self, row: TeamRow) -> list[str]:
        """What a step of the loops around the vectors adds up to, written by its first thread."""
        lines: list[str] = []
        write: list[str] = []
        for out in self.context.step_sums:
            name = self.lanes(out, row)
            value = self.context.contribution(out)
            assert isinstance(out.value, Reduce)
            if self.context.loops.vector in value.axes and not self.context.loops.across:
                lines += row.together([(name, operation(out))], of_steps=True)
            axes = {*self.context.nest.unit_axes(out), *self.context.nest.steps}
            write.append(f"store({out.name}, {self.context.nest.offset(out, axes)}, {name})")
        first = f"remainder(member, {self.context.team.per_step}) == 0"
        return [*lines, *only_if([first], write)] if write else []

    def opened(self, row: TeamRow, out: Output) -> list[str]:
        """Lines that begin a sum in registers."""
        filled = replace(row.width, dtype=self.context.program.compute).filled(neutral(out))
        return [f"{out.name}_i{part.at} = {filled}" for part in row.parts()]

    def closed(self, row: TeamRow, out: Output) -> list[str]:
        """Lines that write what a block of rows adds up to."""
        offset = self.context.nest.offset(out, self.context.nest.unit_axes(out))
        pointer = out.name if offset == "0" else f"advance({out.name}, {offset})"
        lines = [f"sums = {pointer}"]
        for part in row.parts():
            text = self.before(out, row, part) if out in self.context.in_shared else f"{out.name}_i{part.at}"
            line = f"store(sums, {row.place(out, part.index)}, {text})"
            lines += only_if([part.condition], [line]) if part.condition else [line]
        return lines

    def place(self, out: Output, part: Part) -> str:
        """Where a part of a sum lies in shared memory, and how far apart its pieces of 16 bytes lie.

        Neighbouring threads have neighbouring pieces, so that all banks are busy.
        """
        team = self.context.team
        threads = team.in_block
        before = self.context.in_shared.index(out) * team.elements + (part.at or 0) * team.lanes
        start, per_piece = before * threads, min(4, team.lanes)
        return f"{start} + {team.place} * {per_piece}, {threads * per_piece}"

    def opened_shared(self, row: TeamRow, out: Output) -> list[str]:
        """Lines that begin a sum in shared memory."""
        filled = row.width.filled(neutral(out))
        return [f"put_vector({self.place(out, part)}, {filled})" for part in row.parts()]

    def before(self, out: Output, row: TeamRow, part: Part) -> str:
        """What a sum in memory is so far."""
        if out in self.context.in_shared:
            return f"get_vector({self.place(out, part)}, {self.context.team.lanes})"
        pointer = self.context.nest.step_pointer(out)
        return f"load({pointer}, {row.place(out, part.index)}, {self.context.team.lanes})"

    def zeroed(self, row: TeamRow, out: Output) -> list[str]:
        """Lines that set sums in memory to what nothing adds up to, each by the thread that adds to it."""
        nest = self.context.nest
        outer = [
            name for name in nest.unit_axes(out) if name not in nest.within or not self.context.blocks(out)
        ]
        within = [name for name in nest.within if name in out.dims and name not in outer]
        start = nest.row_pointers([out]) + nest.step_pointers([out])

        def body(part: Part) -> list[str]:
            place = row.place(out, part.index)
            return [f"store({nest.step_pointer(out)}, {place}, {row.width.filled(neutral(out))})"]

        if self.context.team.vectors is None:
            lines = row.over_steps(start, [], Work(body))
        else:
            lines = [*start, *row.over([], Work(body, apart=True))]
        for name in reversed(within):
            stop = as_python(nest.size(name))
            lines = fill("cuda/units.py", "steps", {"body": lines}, INDEX=nest.index(name), STOP=stop)
        return lines


def added(out: Output, before: str, text: str) -> str:
    """The expression of a sum with one more part."""
    return f"{before} + {text}" if operation(out) == "sum" else f"maximum({before}, {text})"
