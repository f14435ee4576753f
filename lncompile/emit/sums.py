"""Sums that later stages finish: what a step adds to them, where they are kept, and how they begin."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lncompile.emit.context import Context
from lncompile.emit.loops import Left, Row, loaded, looped, over_features, stored
from lncompile.emit.nest import as_python, product
from lncompile.ir import Output, Reduce
from lncompile.schedule.cpu import fitting


@dataclass(frozen=True)
class Sums:
    """The partial sums of a stage."""

    context: Context

    def lanes(self, out: Output, row: Row) -> str:
        """What holds a sum of the vectors of a step, lane by lane."""
        return f"{out.name}{row.width.suffix}_lanes"

    def accumulated(self, row: Row, out: Output, left: Left) -> str:
        """The line that adds a vector to such a sum."""
        lanes, value = self.lanes(out, row), self.context.contribution(out)
        if operation(out) == "sum" and left is None:
            return f"{lanes} = {row.scope.added(value, lanes, row.width)}"
        text = row.kept(row.repeated(value), left, neutral(out))
        return f"{lanes} += {text}" if operation(out) == "sum" else f"{lanes} = maximum({lanes}, {text})"

    def opened(self, row: Row) -> list[str]:
        """Lines that a step of the loops around the vectors begins its sums with."""
        return [
            f"{self.lanes(out, row)} = {row.width.filled(neutral(out))}" for out in self.context.step_sums
        ]

    def step_totals(self, row: Row, left: Left) -> list[str]:
        """What a step of the loops around the vectors adds up to, written."""
        lines = []
        for out in self.context.step_sums:
            value = self.context.contribution(out)
            finish = "total" if operation(out) == "sum" else "largest"
            if self.context.loops.across:
                kept = row.repeated(value)
                if left is not None:
                    kept = f"keep_first({kept}, {left}, {neutral(out)})"
                text = f"{finish}({kept})"
            else:
                text = f"{finish}({self.lanes(out, row)})"
            axes = {*self.context.nest.unit_axes(out), *self.context.nest.steps}
            lines.append(f"write({out.name}, {self.context.nest.offset(out, axes)}, {text})")
        return lines

    def add(self, row: Row, out: Output, left: Left) -> list[str]:
        """Lines that add a vector to a sum in memory."""
        return [
            f"{self.name(row, out)} = {self.so_far(row, out, left)}",
            self.context.stored(row, out, self.added(row, out), left),
        ]

    def name(self, row: Row, out: Output) -> str:
        """What a sum in memory is called while it is in a register."""
        return f"{out.name}{row.width.suffix}_i"

    def so_far(self, row: Row, out: Output, left: Left) -> str:
        """The expression that loads it."""
        stride = self.context.nest.stride(out, self.context.loops.vector or "")
        return loaded(self.context.nest.step_pointer(out), stride, row.width, left, out.dtype)

    def added(self, row: Row, out: Output) -> str:
        """The expression of it with one more vector."""
        name, value = self.name(row, out), self.context.contribution(out)
        if operation(out) == "sum":
            fused = row.scope.added(value, name, row.width)
            return f"{name} + {row.repeated(value)}" if row.ordinary_row else fused
        return f"maximum({name}, {row.repeated(value)})"

    def zeroed(self, out: Output) -> list[str]:
        """Lines that set the sums of a block, or of a row, to what nothing adds up to."""
        nest, loops = self.context.nest, self.context.loops
        outer = [
            name for name in nest.unit_axes(out) if name not in nest.within or not self.context.in_blocks(out)
        ]
        inner = [name for name in out.dims if name not in outer and name != loops.vector]
        row = self.context.row_of(self.context.element_lanes)
        filled = row.width.filled(neutral(out))
        if loops.across:
            stride = nest.stride(out, loops.vector or "")
            terms = nest.offset(out, {*outer, *inner})
            lines = [
                f"sums = advance({out.name}, {terms})",
                stored("sums", stride, filled, row.rest, row.width.lanes),
            ]
            return looped(lines, [(nest.index(name), self._extent(name, outer)) for name in inner])
        sizes = product(self._extent(name, outer) for name in nest.whole(out.dims) if name not in outer)
        length = int(sizes) if sizes.isdigit() else as_python(f"({sizes})")
        lanes = fitting(self.context.element_lanes, length if isinstance(length, int) else None)
        filled = replace(row.width, lanes=lanes).filled(neutral(out))
        lines = [f"sums = advance({out.name}, {nest.offset(out, outer)})"]
        return lines + over_features(length, lanes, lambda left: [stored("sums", "1", filled, left, lanes)])

    def _extent(self, name: str, outer: list[str]) -> str:
        """The positions along an axis that a unit has where those along ``outer`` are fixed."""
        stretch = self.context.nest.stretch_of(name)
        return (
            self.context.nest.size(name)
            if stretch is None or stretch.name not in outer
            else self.context.nest.length(name)
        )


def operation(out: Output) -> str:
    """How the parts of a sum are put together: ``sum`` or ``max``."""
    assert isinstance(out.value, Reduce)
    return out.value.op


def neutral(out: Output) -> str:
    """What nothing adds up to."""
    return "0.0" if operation(out) == "sum" else "-INFINITY"
