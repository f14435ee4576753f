"""What the parts of an emitter share: the stage, its loops and names, and the kinds of its outputs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from lncompile.emit.loops import Left, Row, stored
from lncompile.emit.nest import AxisNames, Nest
from lncompile.emit.outputs import StageOutputs
from lncompile.emit.scope import Scope, Width
from lncompile.ir import Input, Output
from lncompile.schedule.cpu import Schedule, fitting


@dataclass(frozen=True)
class Context(StageOutputs):
    """A stage of a phase, the phase's size variables, and the schedule."""

    axis_names: AxisNames
    schedule: Schedule

    @cached_property
    def nest(self) -> Nest:
        """Its loops, and where its arrays lie."""
        return Nest(self.stage, self.axis_names)

    @cached_property
    def scope(self) -> Scope:
        """The names of its values."""
        return Scope(self.program, self.loops, frozenset(self.nest.words))

    @property
    def element_lanes(self) -> int:
        """The width of the loops that write elements. Where these add to sums, tuning leaves it as it is."""
        return self.schedule.statistics_lanes if self.step_sums else self.schedule.element_lanes

    def row_of(self, lanes: int) -> Row:
        """How rows are computed first."""
        loops, size = self.loops, self.nest.vector.size if self.nest.vector else 1
        lanes = loops.lanes if loops.across else fitting(lanes, size)
        if loops.together > 1:
            # One register: the next row's additions wait for nothing, so more sums hide no latency.
            lanes = min(lanes, max(1, self.schedule.statistics_lanes // 4))
        pivot = self.schedule.pivot_lanes
        if not loops.across:
            pivot = min(pivot, 1 << max(size or 1, 1).bit_length() - 1)
        width = Width(self.program.compute, lanes)
        return Row(self.scope, self.nest, width, pivot, self.schedule.steps_to_total)

    @property
    def row_outputs(self) -> list[Output]:
        """Outputs that the results of rows are written or added to."""
        return [out for out in self.program.outputs if out not in self.element_outputs]

    @cached_property
    def kept_in_blocks(self) -> list[Output]:
        """Partial sums with a number for each lane."""
        return [out for out in self.element_outputs if self.is_partial(out.value) and self.is_streak(out)]

    @cached_property
    def step_sums(self) -> list[Output]:
        """Partial sums with a number for each step of the loops around the vectors."""
        return [out for out in self.element_outputs if self.is_partial(out.value) and not self.is_streak(out)]

    def is_streak(self, out: Output) -> bool:
        """Whether an array has the axis that lies in the lanes."""
        return self.loops.vector in out.dims

    def in_blocks(self, out: Output) -> bool:
        """Whether a sum is kept over a block of rows, not over one row."""
        return any(name not in self.loops.domain for name in out.dims)

    def differs_in_group(self, array: Input | Output) -> bool:
        """Whether rows of a group have different parts of an array."""
        return self.loops.group > 1 and self.stage.block_axis in array.dims

    def stored(self, row: Row, out: Output, text: str, left: Left) -> str:
        """The line that stores a vector of an output."""
        if self.nest.has_tile(out):
            return f"store({self.nest.step_pointer(out)}, 0, {text})"
        stride = self.nest.stride(out, self.loops.vector or "")
        return stored(self.nest.step_pointer(out), stride, text, left, row.width.lanes)
