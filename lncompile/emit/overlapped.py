"""Rows that overlap: while the elements of one are written, the sums of the next one are taken.

    row 0: its sums                      first, outside of the loop over rows
    row 0: elements   row 1: its sums    one loop
    row 1: elements   row 2: its sums    one loop
    row 2: elements                      the last one, alone

Memory is read as evenly as a copy does, while otherwise it waits during sums, which read nothing new, or
what was prefetched has to lie in a cache for as long as a row takes. Layer norm on a Xeon with AVX-512, ns an
element, one row after another and overlapped: 4096x1024 forward 0.41 and 0.32 (a copy takes 0.34), backward
0.82 and 0.62 (0.65); 4096x4096 0.69 and 0.64, 0.97 and 0.86; 64x65536 0.44 and 0.39, 1.61 and 1.22; in the
caches 128x1024 the same, forward and backward.

A row's sums are the same to the bit, as they are taken in the same order; where results begin on a boundary
of cache lines and its row does not, the pointers to the next row are moved, so that the loop still goes by
whole vectors of both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from lncompile.dtypes import TABLE
from lncompile.emit.elements import Elements
from lncompile.emit.loops import Left, Row, Streak, loop_of_vectors, prefetched
from lncompile.emit.nest import as_python
from lncompile.emit.next_nest import NextNest
from lncompile.emit.statistics import Sweep, levels_of, statistics
from lncompile.emit.templates import fill
from lncompile.ir import Const, Input, Node, Reduce, operands, topological
from lncompile.passes.stages import takes_long

#: Longer loops wait for their arithmetic, not for memory, and have no registers left for two rows.
_MOST_VALUES = 24


@dataclass(frozen=True)
class Overlapped:
    """The lines of rows that overlap.

    ``fast`` is how rows are computed first, ``nodes`` what each has of its own.
    """

    elements: Elements
    fast: Row
    nodes: list[Node]

    @property
    def applies(self) -> bool:
        """Whether rows can: all of one size, of streaks of known length, with one loop of sums."""
        context, fast = self.elements.context, self.fast
        loops = context.loops
        block = context.stage.block_axis
        if loops.across or loops.together > 1 or loops.group > 1 or not loops.vector:
            return False
        if not loops.units or (block and loops.units != (block,)) or not isinstance(fast.length, int):
            return False
        if any(context.nest.stretch_of(name) for name in loops.inside):
            return False
        if fast.length < context.schedule.overlap_from or fast.remembered:
            return False
        if max(levels_of(self.nodes).values(), default=0) != 1 or not context.element_outputs:
            return False
        vectors = [*fast.vectors_for(self._sweep.values), *fast.vectors_for(context.written)]
        return len(vectors) <= _MOST_VALUES and not any(map(takes_long, vectors))

    @cached_property
    def _coming(self) -> Row:
        """How the sums of the next row are taken."""
        nest = NextNest(self.fast.nest.stage, self.fast.nest.names)
        scope = self.fast.scope.of_next_row()
        return replace(self.fast, nest=nest, scope=scope, conditions=[], narrowed=set(), known=set())

    @cached_property
    def _sweep(self) -> Sweep:
        return Sweep(self._coming, [node for node in self.nodes if isinstance(node, Reduce)])

    @property
    def _unit(self) -> str:
        """The variable that counts rows."""
        nest = self.fast.nest
        return nest.row_counter if nest.stage.block_axis else nest.indices()[0]

    def before(self) -> list[str]:
        """Lines ahead of the loop over rows: the sums of the first one."""
        nest = self.fast.nest
        first, last = "begin", "end - 1"
        if nest.stage.block_axis:
            length = nest.block_length
            rows = as_python(nest.size(nest.stage.block_axis))
            first, last = f"begin * {length}", f"min(end * {length}, {rows}) - 1"
        holes = {"opening": self._opening, "sums": self._sums}
        names = {"ROW": f"{self._unit}_next", "FIRST": first, "LAST": last}
        none = ["if begin >= end:", "    return 0"]
        return [*none, *fill("cpu/row_overlapped.py", "first_row", holes, **names)]

    def row(self, written: Row, parts: dict[str, list[str]]) -> list[str]:
        """The lines of a row, whose elements are computed as ``written`` says.

        ``parts`` are those that it has in any case: pointers, statistics, and results; and the careful path,
        where it has one, which it takes unless it is ordinary.
        """
        holes = {"opening": self._opening}
        coming = fill("cpu/row_overlapped.py", "next_row", holes, ROW=self._unit, NEXT=f"{self._unit}_next")
        parts = {**parts, "next": coming, "elements": self._both(written)}
        parts["alone"] = self.elements.through_caches(written)
        template = "overlapped"
        if "careful" in parts:
            template, parts["sums"] = "overlapped_with_fallback", self._sums
        return fill("cpu/row_overlapped.py", template, parts, this_row=self._unit)

    def statistics(self) -> list[str]:
        """Row-sized values, from the sums that were taken while the row before was written."""

        def found(sweep: Sweep) -> list[str]:
            names = zip(sweep.found, self._sweep.found, strict=True)
            return [*sweep.row.narrow(sweep.values), *(f"{name} = {there}" for name, there in names)]

        return statistics(self.fast, self.nodes, found)

    @cached_property
    def _opening(self) -> list[str]:
        """Pointers to the next row, its row-sized values that its sums need, and its pivots."""
        coming, values = self._coming, self._sweep.values
        _, indices = coming.nest.indices() if not coming.nest.stage.block_axis else ("", [])
        read = [node for node in coming.vectors_for(values) if isinstance(node, Input)]
        needed = {
            below
            for vector in coming.vectors_for(values)
            for operand in operands(vector)
            if not coming.scope.is_vector(operand)
            for below in topological([operand])
        }
        lines = [*indices, *coming.nest.row_pointers(node for node in read if not node.at_start)]
        for node in self.nodes:
            if node in needed and not isinstance(node, Const):
                name = coming.scope.names[node]
                if isinstance(node, Input):
                    lines.append(f"{name} = {coming.row_value(node)}")
                else:
                    text = coming.scope.row_sized_text(node, coming.row_sized, coming.is_wide)
                    lines += [coming.scope.comment(node), f"{name} = {text}"]
        return [*lines, *coming.narrow(values), *self._sweep.opening()]

    @cached_property
    def _sums(self) -> list[str]:
        """The loop over the next row alone."""
        return self._coming.summing_loop(self._sweep.values, self._sweep.sums, self._sweep.step)

    def _both(self, written: Row) -> list[str]:
        """The loop over two rows, past the caches and through them where results may be large."""
        context, sweep = self.elements.context, self._sweep
        wide = replace(written, width=replace(written.width, lanes=self.fast.width.lanes))
        streaks = [out for out in context.element_outputs if context.is_streak(out)]
        start = [
            *wide.step_start(context.written, streaks),
            *self.elements.sums.opened(wide),
            *self._coming.step_start(sweep.values),
        ]

        def loop(streak: Streak) -> list[str]:
            return self._coming.summing_streaks(sweep.sums, start, streak)

        def both(left: Left) -> list[str]:
            return [*self._written(wide, left, stream=False), *sweep.step(left)]

        plain = loop(_Both(self._coming, both, self.elements.sums.step_totals(wide, None)))
        if not self.elements.streaming.outputs:
            return plain
        streamed = loop(_Streamed(self._coming, sweep.step, self, written, wide))
        return fill("cpu/features.py", "streamed_or_not", {"streamed": streamed, "plain": plain})

    def streamed(self, narrow: Row, wide: Row, zero: list[str] | None, close: list[str]) -> list[str]:
        """The vectors of a streak, past the caches from the first boundary of what is written.

        With ``zero`` and ``close``, in blocks that begin and end so.
        """
        coming, sweep = self._coming, self._sweep
        length, lanes = self.fast.length, wide.width.lanes
        assert isinstance(length, int)
        left = length % lanes
        read = [node for node in coming.vectors_for(sweep.values) if isinstance(node, Input)]
        wide_ones = [node for node in read if not node.at_start and coming.scope.is_wide(node)]
        pointers = sorted({coming.nest.step_pointer(node) for node in wide_ones})
        rest = [f"i = start + {length - left}", *sweep.step(left)] if left else []
        both = [*self._fetched(wide), *self._written(wide, None, stream=True), *sweep.step(None)]
        if zero is None:
            whole = loop_of_vectors("start", "stop", lanes, both)
            rest = [*loop_of_vectors("stop", f"start + {length - left}", lanes, sweep.step(None)), *rest]
        else:
            holes = {"open": zero, "both": both, "sums": sweep.step(None), "close": close}
            names = {"FULL": length - left, "LANES": lanes, "BLOCK": coming.block_steps * lanes}
            whole = fill("cpu/row_overlapped.py", "streamed_in_blocks", holes, **names)
            rest = [*zero, *rest, *close] if rest else []
        holes = {
            "shifted": [f"{pointer} = advance({pointer}, -start)" for pointer in pointers],
            "head": self._written(narrow, "start", stream=False),
            "whole": whole,
            "partial": self._written(wide, "left", stream=False),
        }
        return [*self.elements.from_boundary(wide, holes), *rest, *self.elements.sums.step_totals(wide, None)]

    def _written(self, row: Row, left: Left, *, stream: bool) -> list[str]:
        """A vector of every result; inputs are held if those of the next row have registers, too."""
        first = self.elements.loaded_first(row) if left is None else []
        if len(first) * row.width.lanes > self.elements.context.schedule.held_lanes // 2:
            first = []
        return self.elements.step(row, left, stream=stream, first=first)

    def _fetched(self, written: Row) -> list[str]:
        """Lines that bring what comes soon into a cache: of the next row, what lies a few steps ahead."""
        schedule, coming = self.elements.context.schedule, self._coming
        length = self.fast.length
        assert isinstance(length, int)
        if length * TABLE[written.width.dtype].itemsize < schedule.prefetch_from:
            return []
        summed = [node for node in coming.vectors_for(self._sweep.values) if isinstance(node, Input)]
        apart = [node for node in summed if set(node.dims) == set(coming.nest.loops.domain)]
        others = [
            node
            for node in written.vectors_for(self.elements.context.written)
            if isinstance(node, Input) and node.name not in {other.name for other in summed}
        ]
        lines = self.elements.streaming.coming_row(written, others, stream=True)
        return lines + [prefetched(coming, node, str(schedule.ahead_elements), 1) for node in apart]


@dataclass(frozen=True)
class _Both(Streak):
    """The vectors of two rows, and what a step of the loops around them adds up to."""

    totals: list[str]

    def whole(self) -> list[str]:
        return [*super().whole(), *self.totals]

    def in_blocks(self, zero: list[str], close: list[str]) -> list[str]:
        return [*super().in_blocks(zero, close), *self.totals]


@dataclass(frozen=True)
class _Streamed(Streak):
    """The same where one row is written past the caches."""

    rows: Overlapped
    narrow: Row
    wide: Row

    def whole(self) -> list[str]:
        return self.rows.streamed(self.narrow, self.wide, None, [])

    def in_blocks(self, zero: list[str], close: list[str]) -> list[str]:
        return self.rows.streamed(self.narrow, self.wide, zero, close)
