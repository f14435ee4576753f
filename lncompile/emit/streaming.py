"""Results past the caches: which outputs, from which size on, and how far ahead inputs are fetched."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from lncompile.dtypes import TABLE
from lncompile.emit.context import Context
from lncompile.emit.loops import Row, prefetched
from lncompile.emit.nest import as_python, product
from lncompile.ir import Input, Output

#: Longer loops wait for their arithmetic, not for memory, and every copy of one takes time to compile: the
#: step of an LSTM has 4354 lines with streamed loops and 3112 without, which compile in 18 and 13 s.
_MOST_VALUES = 48
#: Bytes of the inputs of a row and of those ahead, of parameters and of sums over rows, that a second cache
#: of 2 MiB holds beside results on their way to memory. Without and with the next row, in ns an element:
#: layer norm of 64x65536 forward, 1 MiB, 0.50 and 0.37, backward, 1.75 MiB, 0.70 and 0.78; batch norm of
#: 32x64x56x56 backward, 1.5 MiB, 0.82 and 0.71 on one thread, 0.29 and 0.34 on two.
_MOST_AHEAD = 1 << 20


@dataclass(frozen=True)
class Streaming:
    """The outputs of a stage that may be written past the caches."""

    context: Context

    @cached_property
    def outputs(self) -> list[Output]:
        """Outputs that may be written past the caches: whole aligned vectors of long streaks."""
        schedule, vector = self.context.schedule, self.context.nest.vector
        if vector is None or self.context.loops.across or not schedule.stream_from:
            return []
        row = self.context.row_of(self.context.element_lanes)
        written = self.context.written
        if len(row.scope.vectors_for(written)) > _MOST_VALUES:
            return []
        if self.of_short_rows and (row.length % row.width.lanes or self.context.nest.steps):
            return []
        if self.context.step_sums and not isinstance(row.length, int):
            return []
        if isinstance(row.length, int) and row.length % self.alike:
            return []
        return [
            out
            for out in self.context.element_outputs
            if not self.context.is_partial(out.value)
            and out.role != "saved"
            and row.width.lanes * TABLE[out.dtype].itemsize % schedule.stream_bytes == 0
            and self.context.nest.stride(out, vector.name) == "1"
        ]

    @property
    def of_short_rows(self) -> bool:
        """Whether rows are so short that it pays only where they are whole vectors."""
        length = self.context.row_of(self.context.element_lanes).length
        if self.context.loops.group > 1 or not isinstance(length, int):
            return False
        return length * TABLE[self.context.program.compute].itemsize < self.context.schedule.prefetch_from

    @property
    def from_boundaries(self) -> bool:
        """Whether only results whose every row begins on a boundary are written past the caches.

        Sums of what a row's vectors hold would have other bits if these began elsewhere.
        """
        return self.of_short_rows or bool(self.context.step_sums)

    @property
    def alike(self) -> int:
        """What a row's number of elements must be a multiple of, so that all begin alike."""
        if self.context.loops.group == 1 and not self.from_boundaries:
            return 1
        return self.context.schedule.stream_bytes // min(
            TABLE[out.dtype].itemsize for out in self.context.program.outputs
        )

    @property
    def row_size(self) -> int | None:
        """The number of elements of a row, where that is known when compiling."""
        size = product(self.context.nest.size(name) for name in self.context.loops.inside)
        return int(size) if size.isdigit() else None

    def coming_row(self, row: Row, read: list[Input], *, stream: bool) -> list[str]:
        """Lines that bring a coming row of what is ``read`` into a cache, while results ``stream`` past them.

        Group norm with groups of 6272 on a Xeon, not, into the first cache and into the second, in ns an
        element: 0.39, 0.37 and 0.35 forward, 0.77, 0.58 and 0.54 backward.

        Where results do not, only rows of several streaks, which lie so far apart that no CPU looks for the
        next ones; and results, too, as a line of them is read before it is written. Batch norm on an EPYC
        (Zen 4), without, what is read alone, and both, in ns an element: from memory 8x256x28x28 forward
        0.68, 0.66 and 0.53, backward 1.00, 0.90 and 0.77; 8x64x14x14 0.69, 0.53 and 0.45, 1.06, 0.85 and
        0.78; in the caches, without and both, 0.17 and 0.17, 0.24 and 0.26.
        """
        schedule, nest = self.context.schedule, self.context.nest
        bytes_ = (self.row_size or 0) * TABLE[self.context.program.compute].itemsize
        if bytes_ < schedule.prefetch_from or not self.context.loops.units:
            return []
        domain = set(self.context.loops.domain)
        differing: list[Input | Output] = [node for node in read if set(node.dims) == domain]
        in_common = [
            node for node in read if set(node.dims) != domain and self.context.loops.vector in node.dims
        ]
        if not stream:
            differing += [out for out in self.context.element_outputs if set(out.dims) == domain]
        once = len(differing) + len(in_common) + len(self.context.kept_in_blocks)
        fitting = (
            rows
            for rows in (schedule.rows_ahead, 1)
            if bytes_ * (once + rows * len(differing)) <= _MOST_AHEAD
        )
        rows, innermost = next(fitting, 0), self.context.loops.units[-1]
        ahead = {array: product([str(rows), nest.stride(array, innermost)]) for array in differing if rows}
        return [
            prefetched(row, array, as_python(distance), schedule.prefetch_level)
            for array, distance in ahead.items()
        ]

    def coming_columns(self, row: Row, read: list[Input]) -> list[str]:
        """Lines that bring the next columns of what is ``read``, and of results, into a cache.

        Each row has a few lines of a unit, too far apart for a CPU to look for the next ones. Without, what
        is read alone, and both, from the memory of an EPYC (Zen 4), in ns an element: batch norm 64x2048
        forward 0.72, 0.70 and 0.58, backward 1.17, 1.04 and 0.97; instance norm 32x7x7x512 with channels last
        0.80, 0.77 and 0.64, 1.20, 1.09 and 0.99; two units ahead the same or slower; cached no difference.
        """
        if row.careful:
            return []
        nest, vector, domain = self.context.nest, self.context.loops.vector or "", self.context.loops.domain
        whole = (node for node in read if not node.at_start)
        arrays: list[Input | Output] = [*whole, *self.context.element_outputs]
        lanes, level = row.width.lanes, self.context.schedule.prefetch_level
        return [
            f"prefetch({array.name}, {nest.offset(array, domain)} + {lanes}, {lanes}, {level})"
            for array in arrays
            if set(array.dims) == set(domain) and nest.stride(array, vector) == "1" and nest.step_axes(array)
        ]

    @cached_property
    def tiles_ahead(self) -> list[str]:
        """Lines that bring the next tiles of rows side by side into the second cache, where arrays are large.

        Layer norm on memory, a Xeon, without and into the first cache, in ns an element, forward and
        backward: 8 features 0.58 and 0.49, 1.01 and 0.88; 16 features 0.83 and 0.52, 1.35 and 1.12; 33 the
        same. In the caches it is up to a tenth slower. An EPYC (Zen 4), into the first cache and into the
        second: 8 features 0.48 and 0.47, 1.05 and 0.70; 33 features forward 0.80 and 0.60; 36 0.96 and 0.69,
        and 0.66 without.
        """
        nest, lines = self.context.nest, []
        if not self.context.schedule.stream_from:
            return []
        for node in self.context.program.inputs:
            if nest.is_tiled(node):
                elements = self.context.loops.lanes * int(nest.length(nest.steps[0]))
                start = f"{nest.start_of_tile(node)} + {elements}"
                lines.append(f"    prefetch({node.name}, {start}, {elements}, 2)")
        return ["if large:", *lines] if lines else []

    @cached_property
    def tiles(self) -> list[Output]:
        """The tiles of rows side by side that may be written past the caches: all that begin alike.

        They become rows in the first cache, and go on from there. Layer norm on memory, a Xeon, through the
        caches and past them, in ns an element: 8 features 1.25 and 1.20, 16 features 1.08 and 0.95, 33
        features 1.52 and 1.03; RMS norm, 8 features 0.83 and 0.75, 24 features 1.12 and 0.92.
        """
        schedule, nest, lanes = self.context.schedule, self.context.nest, self.context.loops.lanes
        if nest.vector is None or not self.context.loops.across or not schedule.stream_from:
            return []
        if nest.vector.size is not None:
            return []

        def streams(out: Output) -> bool:
            if not nest.is_tiled(out) or out.role == "saved" or nest.unit_axes(out):
                return False
            row = int(nest.length(nest.steps[0])) * TABLE[out.dtype].itemsize
            return lanes * row % schedule.stream_bytes == 0

        return [out for out in self.context.element_outputs if streams(out)]

    def decided_of_tiles(self) -> list[str]:
        """The line that tells whether a call's tiles are written past the caches."""
        bytes_ = self.context.schedule.stream_bytes
        aligned = (f"elements_to_boundary({out.name}, {bytes_}) == 0" for out in self.tiles)
        return [f"streamed = {' and '.join(('large', *aligned))}"] if self.tiles else []

    def large(self) -> str:
        """The line that tells whether a call's arrays are."""
        size = self.row_size or 1
        least = self.context.schedule.stream_from // (size * TABLE[self.context.program.compute].itemsize)
        loops = self.context.loops
        counted = [*loops.units, *([loops.vector] if loops.vector else [])]
        sizes = as_python(product(self.context.nest.size(name) for name in counted))
        return f"large = {sizes} >= {max(1, least)}"

    def decided(self) -> list[str]:
        """The line that tells whether a call's results are large enough, and lie alike."""
        bytes_ = self.context.schedule.stream_bytes
        first, *others = self.outputs
        alike = "".join(f" and same_alignment({first.name}, {out.name}, {bytes_})" for out in others)
        if self.from_boundaries:
            # Rows of 64 that began 16 bytes behind a boundary: 1.1 ns an element past the caches, 0.8 not.
            alike += f" and elements_to_boundary({first.name}, {bytes_}) == 0"
        size = self.row_size or 1
        counted = self.context.loops.units
        if self.row_size is None:
            # Rows of a length that only a call tells: as many elements, and no row shorter than some vectors.
            counted = self.context.nest.whole(self.context.loops.domain)
            length = as_python(self.context.nest.size(self.context.loops.vector or ""))
            shortest = self.context.schedule.prefetch_from // TABLE[self.context.program.compute].itemsize
            if self.context.loops.group > 1:
                alike += f" and {length} % {self.alike} == 0"
            else:
                alike += f" and {length} >= {shortest}"
        least = max(1, self.context.schedule.stream_from // (size * TABLE[first.dtype].itemsize))
        sizes = as_python(product(self.context.nest.size(name) for name in counted))
        return [f"streamed = {sizes} >= {least}{alike}"]
