"""The loops that write elements: row by row, rows side by side, or in groups of rows."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from lncompile.emit.context import Context
from lncompile.emit.loops import Ahead, Left, Row, loop_of_vectors, over_features, prefetched
from lncompile.emit.nest import as_python, product
from lncompile.emit.outputs import if_given
from lncompile.emit.streaming import Streaming
from lncompile.emit.sums import Sums
from lncompile.emit.templates import fill
from lncompile.ir import Input, Node, Output
from lncompile.passes.stages import takes_long

#: Of a loop that holds inputs until results are stored; each value more may need registers of its own.
_MOST_VALUES = 20


@dataclass(frozen=True)
class Elements:
    """What a stage does with each element after the statistics."""

    context: Context
    sums: Sums
    streaming: Streaming

    def through_caches(self, row: Row, *, stream: bool = False) -> list[str]:
        """The loop that writes element-sized outputs and adds to sums; what is whole may ``stream``."""
        outputs = self.context.element_outputs
        if not outputs:
            return []
        if self.context.loops.group > 1:
            return self._groups(row, stream=stream)
        roots = [self.context.contribution(out) for out in outputs]
        start = row.step_start(roots, [out for out in outputs if self.context.is_streak(out)])
        if self.context.loops.across or self.context.loops.vector is None:
            left = row.rest if self.context.loops.across else None
            body = [*self._fetched_step(row, left, stream=False), *self.sums.step_totals(row, left)]
            return [*row.over_steps(start, body), *self._tiles_written(stream=not row.careful)]
        start += self.sums.opened(row)

        def step(left: Left) -> list[str]:
            return self._fetched_step(row, left, stream=stream and left is None)

        body = over_features(row.length, row.width.lanes, step, self._ahead(row, stream=stream))
        return row.over_steps(start, [*body, *self.sums.step_totals(row, None)])

    def _ahead(self, row: Row, *, stream: bool) -> Ahead | None:
        """Steps as wide as their inputs can be held, which are loaded before any result is stored.

        A load whose address ends in the same 12 bits as that of a store before it waits for that on CPUs of
        Intel's. Where y lies 64 bytes behind x, up to whole pages, every vector waited for the one before.
        Layer norm, forward and backward, 128x1024 in the caches of a Xeon, y 64, 128, 256, 512 and 2048 bytes
        behind, in ns an element: with two registers of x at a time 0.50, 0.50, 0.31, 0.21 and 0.18, with
        eight 0.22, 0.22, 0.24, 0.27 and 0.18; 0.46, 0.49, 0.38, 0.37 and 0.38, with eight always 0.34.
        """
        if row.careful or self.context.step_sums:
            return None
        values = self.context.written
        vectors = row.vectors_for(values)
        first = self.loaded_first(row)
        if not first or len(vectors) > _MOST_VALUES or any(map(takes_long, vectors)):
            return None
        lanes = self.context.schedule.held_lanes // max(2, 1 << (len(first) - 1).bit_length())
        if isinstance(row.length, int):
            lanes = min(lanes, 1 << max(row.length, 1).bit_length() - 1)
        if lanes <= row.width.lanes:
            return None
        wide = replace(row, width=replace(row.width, lanes=lanes))

        def step(left: Left) -> list[str]:
            return self._fetched_step(wide, left, stream=stream, first=first)

        return Ahead(lanes, step)

    def loaded_first(self, row: Row) -> list[Node]:
        """The inputs that no two rows have in common; what they have lies in the first cache."""
        values = self.context.written
        domain = set(self.context.loops.domain)
        return [
            node
            for node in row.vectors_for(values)
            if isinstance(node, Input) and set(node.dims) == domain and not node.at_start
        ]

    def _tiles_written(self, *, stream: bool) -> list[str]:
        """Tiles as rows again, whole ones past the caches where results may be large."""
        lines = []
        nest = self.context.nest
        for out in self.context.element_outputs:
            if nest.is_windowed(out):
                line = f"store_window({out.name}, {nest.window(out)}, {nest.row_pointer(out)})"
                lines += ["if packed:", *(f"    {inner}" for inner in if_given(out, line))]
            if not nest.is_tiled(out):
                continue
            line = f"store_rows({out.name}, {nest.tile(out)}, {nest.row_pointer(out)})"
            if not stream or out not in self.streaming.tiles:
                lines += if_given(out, line)
                continue
            start, size = nest.start_of_tile(out), f"{nest.length(nest.steps[0])}, {nest.loops.lanes}"
            past = f"{size}, {nest.row_pointer(out)}, {self.context.schedule.stream_bytes}"
            lines += [
                f"if streamed and count == {nest.loops.lanes}:",
                f"    stream_rows({out.name}, {start}, {past})",
                "else:",
                f"    {line}",
            ]
        return lines

    def lines(self, row: Row) -> list[str]:
        """The loop twice where results may be large: past the caches, and through them."""
        plain = self.through_caches(row)
        if not self.streaming.outputs:
            return plain
        if self.context.loops.group > 1 or self.streaming.from_boundaries:
            streamed = self.through_caches(row, stream=True)
        else:
            streamed = self._from_first_boundary(row)
        return fill("cpu/features.py", "streamed_or_not", {"streamed": streamed, "plain": plain})

    def _from_first_boundary(self, row: Row) -> list[str]:
        """The loop past the caches: up to the first boundary, whole vectors, and what they leave."""
        ahead = self._ahead(row, stream=True)
        lines = ahead.fill("start", row.length) if ahead else []
        whole = self._fetched_step(row, None, stream=True)
        lines += loop_of_vectors("middle" if ahead else "start", "stop", row.width.lanes, whole)
        head = self._fetched_step(row, "start", stream=False)
        partial = self._fetched_step(row, "left", stream=False)
        body = self.from_boundary(row, {"head": head, "whole": lines, "partial": partial})
        return row.over_steps(row.step_start(self.context.written, self.context.element_outputs), body)

    def from_boundary(self, row: Row, holes: dict[str, list[str]]) -> list[str]:
        """What goes past the caches: lines up to the first boundary, for whole vectors, and for the rest."""
        names = {
            "TARGET": self.context.nest.step_pointer(self.streaming.outputs[0]),
            "FEATURES": row.length,
            "LANES": row.width.lanes,
            "BYTES": self.context.schedule.stream_bytes,
        }
        return fill("cpu/features.py", "features_streamed", {"shifted": [], **holes}, **names)

    def _fetched_step(self, row: Row, left: Left, *, stream: bool, first: Collection[Node] = ()) -> list[str]:
        """One vector of every result, after lines that bring what comes soon into a cache."""
        values = self.context.written
        read = [node for node in row.scope.vectors_for(values) if isinstance(node, Input)]
        lines: list[str] = []
        if stream or (self.context.nest.steps and left is None):
            lines += self.streaming.coming_row(row, read, stream=stream)
        if self.context.loops.across:
            lines += self.streaming.coming_columns(row, read)
        return [*lines, *self.step(row, left, stream=stream, first=first)]

    def step(self, row: Row, left: Left, *, stream: bool, first: Collection[Node] = ()) -> list[str]:
        """One vector of every result; those of ``first`` are loaded before anything is stored."""
        values = self.context.written
        lines: list[str] = []
        if first:
            lines += [*row.vectors(values, row.width, left, lambda node: node in first), "signal_fence()"]
        lines += row.vectors(values, row.width, left, lambda node: node not in first)
        for out in self.context.element_outputs:
            if out in self.context.step_sums:
                if not self.context.loops.across:
                    lines.append(self.sums.accumulated(row, out, left))
            elif out in self.context.kept_in_blocks:
                lines += self.sums.add(row, out, left)
            else:
                lines += self._written(row, out, left, stream=stream)
        return lines

    def _groups(self, row: Row, *, stream: bool) -> list[str]:
        """The rows of a block in groups: at each place, the vectors of all rows of a group."""
        nest, block = self.context.nest, self.context.stage.block_axis or ""
        head: list[str] = []
        if stream:
            # Rows lie alike: where a vector of the first begins on a boundary, those of the others do.
            head = [f"{nest.index(block)} = from_row", *nest.row_pointers(self.streaming.outputs[:1])]
            whole = self._group_step(row, None, stream=True)
            holes = {
                "head": self._group_step(row, "start", stream=False),
                "whole": loop_of_vectors("start", "stop", row.width.lanes, whole),
                "partial": self._group_step(row, "left", stream=False),
            }
            body = self.from_boundary(row, holes)
        else:
            body = over_features(
                row.length, row.width.lanes, lambda left: self._group_step(row, left, stream=False)
            )
        first, last = nest.rows_in_common
        return fill(
            "cpu/units.py",
            "groups_of_rows",
            {"body": [*head, *body]},
            FIRST=first,
            LAST=last,
            GROUP=self.context.loops.group,
        )

    def _group_step(self, row: Row, left: Left, *, stream: bool) -> list[str]:
        block = self.context.stage.block_axis or ""
        values = self.context.written
        inputs = [node for node in row.scope.vectors_for(values) if isinstance(node, Input)]
        differing = [array for array in inputs if block in array.axes]
        written = [out for out in self.context.element_outputs if self.context.differs_in_group(out)]
        each = self.context.nest.row_pointers([*differing, *written])
        # What is written through the caches is read first. Batch norm of 6272 rows of 256 on an EPYC (Zen 4),
        # from memory, in ns an element, without results and with them: forward 0.57 and 0.39, backward 0.97
        # and 0.75; in the caches the same.
        fetched: list[Input | Output] = [*differing, *([] if stream else written)]
        for array in fetched:
            ahead = product([str(self.context.loops.group), self.context.nest.stride(array, block)])
            each.append(prefetched(row, array, as_python(ahead), self.context.schedule.prefetch_level))
        each += row.vectors(values, row.width, left, lambda node: block in node.axes)
        if row.shared:
            lines = row.shared(left)
        else:
            lines = row.vectors(values, row.width, left, lambda node: block not in node.axes)
        for out in self.context.element_outputs:
            if out in self.context.kept_in_blocks:
                lines.append(f"{self.sums.name(row, out)} = {self.sums.so_far(row, out, left)}")
                each.append(f"{self.sums.name(row, out)} = {self.sums.added(row, out)}")
            else:
                each += self._written(row, out, left, stream=stream)
        lines += fill("cpu/units.py", "rows_of_group", {"row": each}, ROW=self.context.nest.index(block))
        return lines + [
            self.context.stored(row, out, self.sums.name(row, out), left)
            for out in self.context.kept_in_blocks
        ]

    def _written(self, row: Row, out: Output, left: Left, *, stream: bool) -> list[str]:
        text = row.repeated(out.value)
        if stream and out in self.streaming.outputs:
            pointer = self.context.nest.step_pointer(out)
            return [f"stream({pointer}, i, {text}, {self.context.schedule.stream_bytes})"]
        line = self.context.stored(row, out, text, left)
        return if_given(out, line)
