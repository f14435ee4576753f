"""The kernel of one stage: unit after unit, in each one row or a block of rows.

A row is read at least twice: for its statistics, and where elements are written. Sums that later stages
finish go to workspaces: one number a row, one a step of the loops, or, for a block of rows, one a lane.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from lncompile.dtypes import TABLE
from lncompile.emit.context import Context
from lncompile.emit.elements import Elements
from lncompile.emit.loops import Row, looped, stored
from lncompile.emit.nest import as_python
from lncompile.emit.remembered import MOST_BYTES, remembered
from lncompile.emit.scope import Width
from lncompile.emit.statistics import levels_of, statistics
from lncompile.emit.streaming import Streaming
from lncompile.emit.sums import Sums
from lncompile.emit.templates import fill
from lncompile.ir import Const, Input, Node, Output, Reduce, depending_on
from lncompile.schedule.cpu import fitting


@dataclass(frozen=True)
class StageKernel:
    """The emitter of one stage's kernel."""

    context: Context

    @cached_property
    def sums(self) -> Sums:
        """The sums that later stages finish."""
        return Sums(self.context)

    @cached_property
    def streaming(self) -> Streaming:
        """The results that may be written past the caches."""
        return Streaming(self.context)

    @cached_property
    def elements(self) -> Elements:
        """The loops that write elements."""
        return Elements(self.context, self.sums, self.streaming)

    def lines(self) -> list[str]:
        """The body of the kernel."""
        nodes = [node for node in self.context.program.nodes if not self.context.is_partial(node)]
        rows = set(self.context.loops.row_axes)
        reduced = depending_on(nodes, lambda node: isinstance(node, Reduce))
        once = [node for node in nodes if not node.axes & rows and node not in reduced]
        each = [node for node in nodes if node.axes & rows or node in reduced]
        fast = self.context.row_of(self.context.schedule.statistics_lanes)
        elements = self.context.row_of(self.context.schedule.element_lanes)
        memory, fast.remembered = self._remembered(each, fast, elements.width.lanes)
        before = [*self.context.nest.part_pointers(), *memory]
        before += [*self._reads(once, fast), *statistics(fast, once)]
        saved = [out for out in self.context.program.outputs if out.role == "saved"]
        if saved:
            before.append(f"keep = is_given({saved[0].name})")
        row = self._row(fast, each)
        last: list[str] = []
        if self.streaming.outputs:
            before += self.streaming.decided()
            last = ["if streamed:", "    fence()"]
        unit, indices = self.context.nest.indices()
        start = [*indices, *self._tile(), *self.context.nest.lengths(of_rows=False)]
        holes = {"once": before, "unit": [*start, *self._rows_of_unit(row)], "last": last}
        if not self.context.nest.counts:
            return fill("cpu/units.py", "only_unit", holes)
        return fill("cpu/units.py", "units", holes, UNIT=unit)

    def _remembered(
        self, nodes: list[Node], row: Row, element_lanes: int
    ) -> tuple[list[str], frozenset[Node]]:
        """What a row remembers from one loop over it to the next, and the lines that make memory for it."""
        loops, length = self.context.loops, row.length
        alone = (
            loops.vector is not None and not loops.across and loops.group == 1 and not self.context.nest.steps
        )
        if not alone or not isinstance(length, int):
            return [], frozenset()
        levels = levels_of(nodes)
        passes: dict[int, list[Node]] = {}
        for node in nodes:
            if isinstance(node, Reduce):
                passes.setdefault(levels[node], []).append(node.operand)
        written = [self.context.contribution(out) for out in self.context.element_outputs]
        # Vectors are stored and loaded whole.
        numbers = length + max(row.width.lanes, element_lanes)
        most = MOST_BYTES // (numbers * TABLE[row.width.dtype].itemsize)
        found = remembered(self.context.scope, [*(passes[level] for level in sorted(passes)), written], most)
        names = sorted(map(self.context.scope.memory_name, found))
        return [f"{name} = {row.width.memory(numbers)}" for name in names], found

    def _tile(self) -> list[str]:
        vector = self.context.nest.vector
        if vector is None:
            return ["i = 0"]
        if not self.context.loops.across:
            return []
        lanes = self.context.loops.lanes
        lines = [f"i = tile * {lanes}"]
        if vector.size is None or vector.size % lanes:
            lines.append(f"count = min({lanes}, {as_python(self.context.nest.size(vector.name))} - i)")
        return lines

    def _rows_of_unit(self, row: list[str]) -> list[str]:
        """The rows of a block, one after another, or the one row that a unit is."""
        block = self.context.stage.block_axis
        if block is None:
            return row
        row = looped(
            row,
            [
                (self.context.nest.index(name), self.context.nest.size(name))
                for name in self.context.nest.within
            ],
        )
        opened = [
            line
            for out in self.context.kept_in_blocks
            if self.context.in_blocks(out)
            for line in self.sums.zeroed(out)
        ]
        if self.context.loops.group > 1:
            return [*opened, *row]
        return fill(
            "cpu/units.py",
            "rows_of_block",
            {"open": opened, "row": row},
            BLOCK=self.context.nest.block_index,
            PER=self.context.loops.block,
            ROW=self.context.nest.index(block),
            ROWS=as_python(self.context.nest.size(block)),
        )

    def _row(self, fast: Row, nodes: list[Node]) -> list[str]:
        used = [
            n
            for n in nodes
            if isinstance(n, Input) and self.context.scope.is_vector(n) and self.context.scope.is_wide(n)
        ]
        arrays: list[Input | Output] = [
            *(n for n in used if not n.at_start),
            *filter(self.context.is_streak, self.context.element_outputs),
        ]
        fixed = [array for array in arrays if not self.context.differs_in_group(array)]
        pointers = self.context.nest.lengths(of_rows=True) + self.context.nest.row_pointers(fixed)
        for out in self.context.kept_in_blocks:
            if not self.context.in_blocks(out):
                pointers += self.sums.zeroed(out)
        lines = [*self._reads(nodes, fast), *statistics(fast, nodes)]
        lanes = self.context.row_of(self.context.schedule.element_lanes).width.lanes
        elements = replace(fast, width=replace(fast.width, lanes=lanes))
        lines += elements.narrow([self.context.contribution(out) for out in self.context.element_outputs])
        written = self.elements.lines(elements)
        holes = {"pointers": pointers, "results": self._results(fast)}
        if not fast.conditions:
            return fill("cpu/row.py", "row", holes | {"statistics": lines, "elements": written})
        careful_lanes = fitting(
            self.context.schedule.careful_lanes,
            self.context.nest.vector.size if self.context.nest.vector else 1,
        )
        across = self.context.loops.across
        wide = Width("float64", self.context.loops.lanes if across else careful_lanes, "_wide")
        careful = replace(
            fast, width=wide, careful=True, conditions=[], narrowed=set(), remembered=frozenset(), known=set()
        )
        mixed = replace(careful, ordinary_row=elements) if across else careful
        holes |= {
            "statistics": [*lines, f"ordinary = {fast.ordinary}"],
            "elements": written or ["pass"],
            "careful": self._of_all_lanes(
                fast, [*statistics(careful, nodes), *self.elements.through_caches(mixed)]
            ),
        }
        ordinary = "everywhere(ordinary)" if across else "ordinary"
        return fill("cpu/row_with_fallback.py", "row_with_fallback", holes, ORDINARY=ordinary)

    def _of_all_lanes(self, fast: Row, careful: list[str]) -> list[str]:
        """``careful``, after which those of rows side by side that are ordinary have their results back.

        What all of them share follows what they share, so that no row's results depend on its neighbours.
        """
        if not self.context.loops.across:
            return careful
        results = {self.context.contribution(out) for out in self.context.row_outputs}
        computed = [
            node
            for node in self.context.program.nodes
            if node in results and not isinstance(node, Input | Const)
        ]
        scope, common = self.context.scope, fast.ordinary_in_common
        lines: list[str] = []
        last: list[str] = []
        if common and not all(map(scope.is_wide, computed)):
            lines.append(f"ordinary_in_common = {common}")
        for node in computed:
            name = scope.names[node]
            lines.append(f"{name}_first = {name}")
            if scope.is_wide(node):
                last.append(f"{name} = where(ordinary, {name}_first, {name})")
            elif common:
                last.append(f"{name} = {name}_first if ordinary_in_common else {name}")
            else:
                last.append(f"{name} = {name}_first")
        return [*lines, *careful, *last]

    def _reads(self, nodes: list[Node], row: Row) -> list[str]:
        inputs = [
            node for node in nodes if isinstance(node, Input) and not self.context.scope.is_vector(node)
        ]
        return [f"{self.context.scope.names[node]} = {row.row_value(node)}" for node in inputs]

    def _results(self, row: Row) -> list[str]:
        """Row-sized outputs, and what a row contributes to sums over rows."""
        lines: list[str] = []
        kept: list[str] = []
        row = replace(row, width=Width("float64", row.width.lanes))
        for out in self.context.row_outputs:
            offset = self.context.nest.offset(out, self.context.nest.unit_axes(out))
            value = self.context.contribution(out)
            if self.context.loops.across:
                pointer = out.name if offset == "0" else f"advance({out.name}, {offset})"
                stride = self.context.nest.stride(out, self.context.loops.vector or "")
                line = stored(pointer, stride, row.repeated(value), row.rest, row.width.lanes)
            else:
                line = f"write({out.name}, {offset}, {row.scope.row_operand(value)})"
            (kept if out.role == "saved" else lines).append(line)
        if kept:
            lines += ["if keep:", *("    " + line for line in kept)]
        return lines
