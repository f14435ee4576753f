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
from lncompile.emit.narrow import Narrow
from lncompile.emit.nest import as_python
from lncompile.emit.outputs import if_given
from lncompile.emit.overlapped import Overlapped
from lncompile.emit.remembered import MOST_BYTES, remembered
from lncompile.emit.scope import Width
from lncompile.emit.statistics import levels_of, statistics
from lncompile.emit.streaming import Streaming
from lncompile.emit.sums import Sums
from lncompile.emit.templates import fill
from lncompile.emit.together import Together
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

    @cached_property
    def narrow(self) -> Narrow | None:
        """The elements in float32, where others are float64."""
        row = self.context.row_of(self.context.element_lanes)
        return Narrow(self.context, row) if self.context.stage.narrow else None

    def lines(self) -> list[str]:
        """The body of the kernel."""
        nodes = [node for node in self.context.program.nodes if not self.context.is_partial(node)]
        rows = set(self.context.loops.row_axes)
        reduced = depending_on(nodes, lambda node: isinstance(node, Reduce))
        once = [node for node in nodes if not node.axes & rows and node not in reduced]
        each = [node for node in nodes if node.axes & rows or node in reduced]
        fast = self.context.row_of(self.context.schedule.statistics_lanes)
        elements = self.context.row_of(self.context.element_lanes)
        before = [*self._reads(once, fast), *statistics(fast, once)]
        numbers, fast.remembered = self._remembered(each, fast, elements.width.lanes)
        memory = {self.context.scope.memory_name(node): numbers for node in fast.remembered}
        if self.context.loops.together > 1:
            fast.together = self._together(each, numbers)
        candidate = Overlapped(self.elements, fast, each)
        overlapped = candidate if candidate.applies else None
        row = self._row(fast, each, overlapped)
        made = fast.together.memory if fast.together else {}
        made |= {name: fast.width.memory(numbers * self.context.loops.together) for name in memory}
        before[:0] = [
            *self.context.nest.part_pointers(),
            *(f"{name} = {made[name]}" for name in sorted(made)),
            *self.context.nest.counted(),
        ]
        if self.streaming.tiles_ahead or self.streaming.tiles:
            before += [self.streaming.large(), *self.streaming.decided_of_tiles()]
        if overlapped:
            before += overlapped.before()
        last: list[str] = []
        if self.narrow and not self.narrow.of_each_unit:
            before += self.narrow.decided()
        if self.streaming.outputs:
            before += self.streaming.decided()
        if self.streaming.outputs or self.streaming.tiles:
            last = ["if streamed:", "    fence()"]
        unit, indices = self.context.nest.indices()
        if fast.together and not self.context.stage.block_axis:
            return [*before, *self._grouped(row), *last]
        start = [*indices, *self._tile(), *self.context.nest.lengths(of_rows=False)]
        holes = {"once": before, "unit": [*start, *self._rows_of_unit(row)], "last": last}
        if not self.context.nest.counts:
            return fill("cpu/units.py", "only_unit", holes)
        return fill("cpu/units.py", "units", holes, UNIT=unit)

    def _together(self, nodes: list[Node], numbers: int) -> Together:
        """Where the row-sized values of several rows are computed at once."""
        nest = self.context.nest
        return Together(
            rows=self.context.loops.together,
            index=nest.row_counter,
            opening=[] if self.context.stage.block_axis else nest.indices()[1],
            beside=frozenset(node for node in nodes if not self.context.scope.is_vector(node)),
            remembers=numbers,
        )

    def _grouped(self, row: list[str]) -> list[str]:
        """``row``, lines for the rows together, for all rows that one loop goes over."""
        first, last = self.context.nest.rows_in_common
        group = self.context.loops.together
        return fill("cpu/units.py", "groups_of_rows", {"body": row}, FIRST=first, LAST=last, GROUP=group)

    def _remembered(self, nodes: list[Node], row: Row, element_lanes: int) -> tuple[int, frozenset[Node]]:
        """What a row remembers from one loop over it to the next, and how many numbers a value takes."""
        loops, length = self.context.loops, row.length
        alone = (
            loops.vector is not None and not loops.across and loops.group == 1 and not self.context.nest.steps
        )
        if not alone or not isinstance(length, int):
            return 0, frozenset()
        levels = levels_of(nodes)
        passes: dict[int, list[Node]] = {}
        for node in nodes:
            if isinstance(node, Reduce):
                passes.setdefault(levels[node], []).append(node.operand)
        written = self.context.written
        # Vectors are stored and loaded whole.
        numbers = length + max(row.width.lanes, element_lanes)
        most = MOST_BYTES // (numbers * loops.together * TABLE[row.width.dtype].itemsize)
        found = remembered(self.context.scope, [*(passes[level] for level in sorted(passes)), written], most)
        return numbers, found

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
        if any(map(self.context.nest.is_windowed, self.context.program.arrays)):
            row = as_python(self.context.nest.size(vector.name))
            lines += [f"packed = {self.context.nest.packed_if}", f"apart = {lanes} if packed else {row}"]
        return lines

    def _rows_of_unit(self, row: list[str]) -> list[str]:
        """The rows of a block, one after another, or the one row that a unit is."""
        block = self.context.stage.block_axis
        if block is None:
            return row
        within = self.context.nest.within
        together = self.context.loops.together > 1
        if together:
            row, within = self._grouped(row), within[:-1]
        row = looped(row, [(self.context.nest.index(name), self.context.nest.size(name)) for name in within])
        opened = [
            line
            for out in self.context.kept_in_blocks
            if self.context.in_blocks(out)
            for line in self.sums.zeroed(out)
        ]
        if self.context.loops.group > 1 or (together and not self.context.nest.within):
            return [*opened, *row]
        first, last = self.context.nest.rows_of_block
        index = self.context.nest.index(block)
        return fill(
            "cpu/units.py", "rows_of_block", {"open": opened, "row": row}, ROW=index, FIRST=first, LAST=last
        )

    def _row(self, fast: Row, nodes: list[Node], overlapped: Overlapped | None) -> list[str]:
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
        pointers = self.context.nest.lengths(of_rows=True) + self.streaming.tiles_ahead
        pointers += self.context.nest.row_pointers(fixed)
        for out in self.context.kept_in_blocks:
            if not self.context.in_blocks(out):
                pointers += self.sums.zeroed(out)
        lines = self._reads(nodes, fast)
        lines += overlapped.statistics() if overlapped else statistics(fast, nodes)
        lanes = self.context.row_of(self.context.element_lanes).width.lanes
        elements = replace(fast, width=replace(fast.width, lanes=lanes))
        if self.narrow:
            lines += self.narrow.decided() if self.narrow.of_each_unit else []
            both = {
                "elements": self.elements.lines(self.narrow.row),
                "careful": self.elements.through_caches(self.narrow.mixed),
            }
            holes = {"pointers": pointers, "statistics": lines, **both, "results": []}
            template = "row_with_fallback"
            return fill(f"cpu/{template}.py", template, holes, ORDINARY="ordinary_everywhere")
        values = self.context.written
        lines += elements.narrow(values)
        written = [] if overlapped else self.elements.lines(elements)
        holes = {"elements": written, "results": self._results(fast)}
        more: list[tuple[str, str]] = []
        if fast.conditions:
            lines.append(f"ordinary = {fast.ordinary}")
            more.append(("ordinary", "bool"))
            holes |= {"elements": written or ["pass"], "careful": self._careful(fast, elements, nodes)}
        template = "row_with_fallback" if fast.conditions else "row"
        if overlapped:
            parts = {"pointers": pointers, "statistics": lines, **holes}
            return overlapped.row(elements, parts)
        if fast.together is None:
            ordinary = "everywhere(ordinary)" if self.context.loops.across else "ordinary"
            holes |= {"pointers": pointers, "statistics": lines}
            return fill(f"cpu/{template}.py", template, holes, ORDINARY=ordinary)
        holes |= {"pointers": [], "statistics": []}
        body = fill(f"cpu/{template}.py", template, holes, ORDINARY="ordinary")
        results = [self.context.contribution(out) for out in self.context.row_outputs]
        read = [node for node in nodes if isinstance(node, Input)] if fast.conditions else []
        return [*lines, *elements.for_each(values, body, pointers, [*results, *read], more)]

    def _careful(self, fast: Row, elements: Row, nodes: list[Node]) -> list[str]:
        """The second path of a row, where the first one does not do."""
        careful_lanes = fitting(
            self.context.schedule.careful_lanes,
            self.context.nest.vector.size if self.context.nest.vector else 1,
        )
        across = self.context.loops.across
        wide = Width("float64", self.context.loops.lanes if across else careful_lanes, "_wide")
        careful = replace(
            fast,
            width=wide,
            careful=True,
            conditions=[],
            narrowed=set(),
            remembered=frozenset(),
            known=set(),
            together=None,
        )
        mixed = replace(careful, ordinary_row=elements) if across else careful
        values = {self.context.contribution(out) for out in self.context.row_outputs}
        if elements.width.dtype == "float64":
            # Elements in float32 read copies of the first values; these read the values themselves.
            scope = self.context.scope
            values.update(node for node in nodes if scope.is_wide(node) and not scope.is_vector(node))
        again = self._of_all_lanes(fast, values, statistics(careful, nodes))
        return [*again, *self.elements.through_caches(mixed)]

    def _of_all_lanes(self, fast: Row, values: set[Node], again: list[str]) -> list[str]:
        """``again``, after which those of rows side by side that are ordinary have their ``values`` back.

        What all of them share follows what they share, so that no row's results depend on its neighbours.
        """
        if not self.context.loops.across:
            return again
        computed = [
            node
            for node in self.context.program.nodes
            if node in values and not isinstance(node, Input | Const)
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
        return [*lines, *again, *last]

    def _reads(self, nodes: list[Node], row: Row) -> list[str]:
        inputs = [
            node for node in nodes if isinstance(node, Input) and not self.context.scope.is_vector(node)
        ]
        read = [f"{self.context.scope.names[node]} = {row.row_value(node)}" for node in inputs]
        if row.together is None or not inputs:
            return read
        lines, one_by_one, names = [], [], []
        for node, line in zip(inputs, read, strict=True):
            start, name = self.context.nest.start_of_rows(node), self.context.scope.names[node]
            if start is not None:
                lines.append(f"{name} = {row.together.loaded(node.name, start, node.dtype)}")
            else:
                names.append(name)
                one_by_one += [line, row.together.kept(name)]
        each = row.together.each(one_by_one) if names else []
        return [*lines, *each, *map(row.together.side_by_side, names)]

    def _results(self, row: Row) -> list[str]:
        """Row-sized outputs, and what a row contributes to sums over rows."""
        lines: list[str] = []
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
            lines += if_given(out, line)
        return lines
