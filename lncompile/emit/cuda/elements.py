"""The loops that write elements: by whole vectors, or lane by lane in the careful path."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lncompile.emit.cuda.context import Context
from lncompile.emit.cuda.row import Part, TeamRow, Work
from lncompile.emit.cuda.sums import Sums, added
from lncompile.emit.outputs import if_given
from lncompile.emit.scope import Width
from lncompile.emit.sums import neutral
from lncompile.ir import Input, Node, Output


@dataclass(frozen=True)
class Elements:
    """What a stage does with each element after the statistics."""

    context: Context
    sums: Sums

    def lines(self, row: TeamRow) -> list[str]:
        """What writes element-sized outputs and adds to sums."""
        outputs = self.context.element_outputs
        if not outputs:
            return []
        roots = [self.context.contribution(out) for out in outputs]

        work = self._careful_work(row, roots) if row.careful else self._work(row, roots)
        if self.context.team.vectors is not None:
            return row.over(roots, work)
        inputs = [n for n in self.context.scope.vectors_for(roots) if isinstance(n, Input) and not n.at_start]
        start = self.context.nest.step_pointers(
            [*inputs, *(out for out in outputs if self.context.loops.vector in out.dims)]
        )
        start += [
            f"{self.sums.lanes(out, row)} = {row.row_width.filled(neutral(out))}"
            for out in self.context.step_sums
        ]
        return row.over_steps(start, roots, work, self.sums.step_totals(row))

    def _work(self, row: TeamRow, roots: list[Node]) -> Work:
        """What is done with a part of a row: whole vectors are stored and added up."""

        def body(part: Part) -> list[str]:
            width = part.width(row.width)
            lines = row.vectors(roots, part)
            for out in self.context.element_outputs:
                value = self.context.contribution(out)
                if out in self.context.step_sums:
                    lines.append(self.sums.step_summed(out, row, part))
                elif out in self.context.in_registers:
                    name = f"{out.name}_i{part.at}"
                    lines.append(f"{name} = {added(out, name, self.context.scope.filled(value, width))}")
                else:
                    text = self._repeated(value, width)
                    if out in (*self.context.in_memory, *self.context.in_shared):
                        text = added(
                            out, row.width.converted(self.sums.before(out, row, part), out.dtype), text
                        )
                    lines += self._store(out, row, part, text)
            return lines

        return Work(body, apart=True)

    def _careful_work(self, row: TeamRow, roots: list[Node]) -> Work:
        """The same lane by lane: what is stored collects in vectors of the arrays' own types."""
        stored = [
            out
            for out in self.context.element_outputs
            if out not in (*self.context.step_sums, *self.context.in_registers)
        ]
        compute = replace(row.width, dtype=self.context.program.compute, lanes=self.context.team.lanes)

        def before(part: Part) -> list[str]:
            return [
                f"{out.name}_out = {self.sums.before(out, row, part)}"
                if out in (*self.context.in_memory, *self.context.in_shared)
                else f"{out.name}_out = {_rounded(compute.filled('0.0'), out.dtype, compute.dtype)}"
                for out in stored
            ]

        def body(part: Part) -> list[str]:
            lines = row.vectors(roots, part)
            for out in self.context.element_outputs:
                if out in self.context.step_sums:
                    lines.append(self.sums.step_summed(out, row, part))
                    continue
                text = self.context.scope.vector_operand(
                    self.context.contribution(out), part.width(row.width)
                )
                text = f"as_{out.dtype}({row.row_width.filled(text)})"
                name = f"{out.name}_out" if out in stored else f"{out.name}_i{part.at}"
                if self.context.is_partial(out.value):
                    text = added(out, f"first({name})", text)
                lines.append(f"{name} = pushed({name}, {text})")
            return lines

        def after(part: Part) -> list[str]:
            return [line for out in stored for line in self._store(out, row, part, f"{out.name}_out")]

        return Work(body, before, after, apart=True)

    def _store(self, out: Output, row: TeamRow, part: Part, text: str) -> list[str]:
        if out in self.context.in_shared:
            return [f"put_vector({self.sums.place(out, part)}, {text})"]
        line = f"store({self.context.nest.step_pointer(out)}, {row.place(out, part.index)}, {text})"
        return if_given(out, line)

    def _repeated(self, node: Node, width: Width) -> str:
        """A value in every lane, also where it is the same in all of them."""
        scope = self.context.scope
        text = scope.vector_operand(node, width)
        differs = scope.is_vector(node) and self.context.loops.vector in node.axes
        return text if differs else width.filled(text)


def _rounded(text: str, dtype: str, source: str) -> str:
    return text if dtype == source else f"as_{dtype}({text})"
