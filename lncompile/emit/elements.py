"""The loops that write elements: row by row, rows side by side, or in groups of rows."""

from __future__ import annotations

from dataclasses import dataclass

from lncompile.emit.context import Context
from lncompile.emit.loops import Left, Row, over_features, prefetched
from lncompile.emit.nest import as_python, product
from lncompile.emit.outputs import if_given
from lncompile.emit.streaming import Streaming
from lncompile.emit.sums import Sums, neutral
from lncompile.emit.templates import fill
from lncompile.ir import Input, Output


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
            body = [*self._element_step(row, left, stream=False), *self.sums.step_totals(row, left)]
            return [*row.over_steps(start, body), *self._tiles_written()]
        start += [
            f"{self.sums.lanes(out, row)} = {row.width.filled(neutral(out))}"
            for out in self.context.step_sums
        ]

        def step(left: Left) -> list[str]:
            return self._element_step(row, left, stream=stream and left is None)

        body = over_features(row.length, row.width.lanes, step)
        return row.over_steps(start, [*body, *self.sums.step_totals(row, None)])

    def _tiles_written(self) -> list[str]:
        lines = []
        nest = self.context.nest
        for out in self.context.element_outputs:
            if nest.is_tiled(out):
                line = f"store_rows({out.name}, {nest.tile(out)}, {nest.row_pointer(out)})"
                lines += if_given(out, line)
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
        holes = {
            "head": self._element_step(row, "start", stream=False),
            "whole": self._element_step(row, None, stream=True),
            "partial": self._element_step(row, "left", stream=False),
        }
        names = {
            "TARGET": self.context.nest.step_pointer(self.streaming.outputs[0]),
            "FEATURES": row.length,
            "LANES": row.width.lanes,
            "BYTES": self.context.schedule.stream_bytes,
        }
        body = fill("cpu/features.py", "features_streamed", holes, **names)
        roots = [self.context.contribution(out) for out in self.context.element_outputs]
        return row.over_steps(row.step_start(roots, self.context.element_outputs), body)

    def _element_step(self, row: Row, left: Left, stream: bool) -> list[str]:
        values = [self.context.contribution(out) for out in self.context.element_outputs]
        lines: list[str] = []
        read = [node for node in row.scope.vectors_for(values) if isinstance(node, Input)]
        if stream or (self.context.nest.steps and left is None):
            lines += self.streaming.coming_row(row, read, stream=stream)
        if self.context.loops.across:
            lines += self.streaming.coming_columns(row, read)
        lines += row.vectors(values, row.width, left)
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
            holes = {
                "head": self._group_step(row, "start", stream=False),
                "whole": self._group_step(row, None, stream=True),
                "partial": self._group_step(row, "left", stream=False),
            }
            names = {
                "FEATURES": row.length,
                "LANES": row.width.lanes,
                "BYTES": self.context.schedule.stream_bytes,
            }
            target = nest.row_pointer(self.streaming.outputs[0])
            body = fill("cpu/features.py", "features_streamed", holes, TARGET=target, **names)
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
        values = [self.context.contribution(out) for out in self.context.element_outputs]
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
