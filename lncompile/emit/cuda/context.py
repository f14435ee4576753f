"""What the parts of an emitter share: the stage, its loops, names and team, and where its sums are kept."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from lncompile.emit.cuda.nest import LaunchNames, TeamNest
from lncompile.emit.cuda.scope import TeamScope
from lncompile.emit.cuda.team import WARP, Team, Teaming
from lncompile.emit.outputs import StageOutputs
from lncompile.ir import Output
from lncompile.schedule.cuda import Schedule


@dataclass(frozen=True)
class Context(StageOutputs):
    """A stage of a phase, the phase's size variables, and the schedule."""

    axis_names: LaunchNames
    schedule: Schedule

    @cached_property
    def nest(self) -> TeamNest:
        """Its loops, and where its arrays lie."""
        return TeamNest(self.stage, self.axis_names)

    @cached_property
    def team(self) -> Team:
        """What computes a unit of work."""
        return Teaming(self.nest, self.schedule).team()

    @cached_property
    def scope(self) -> TeamScope:
        """The names of its values."""
        return TeamScope(self.program, self.loops, frozenset(self.nest.words))

    @property
    def holds(self) -> bool:
        """Whether registers hold what a thread has of the row's inputs; else caches do."""
        inputs = [node for node in self.program.inputs if set(node.dims) >= set(self.loops.domain)]
        return (
            self.team.vectors is not None and len(inputs) * self.team.elements <= self.schedule.held_elements
        )

    @property
    def leaves_together(self) -> bool:
        """Whether a team that has no unit can leave without others of its warp or block waiting for it."""
        team = self.team
        if team.threads == 1:
            return True
        return team.threads % WARP == 0 and not team.strided

    @property
    def there(self) -> list[str]:
        """The condition under which what a thread writes is wanted."""
        return [] if self.leaves_together else ["there"]

    @cached_property
    def lane_sums(self) -> list[Output]:
        """Sums that later stages finish, with a number for each lane."""
        return [o for o in self.element_outputs if self.is_partial(o.value) and self.loops.vector in o.dims]

    @cached_property
    def step_sums(self) -> list[Output]:
        """Sums that later stages finish, with a number for each step of the loops around the vectors."""
        return [o for o in self.element_outputs if self.is_partial(o.value) and o not in self.lane_sums]

    @cached_property
    def in_registers(self) -> list[Output]:
        """Sums over the rows of a block whose places a thread keeps in registers."""
        if self.team.vectors is None:
            return []
        # A thread of a large block has 128 registers: with two sums there, backward spilled 30 to 840 bytes.
        large = self.team.in_block == self.schedule.most_threads
        summed = self.team.elements * (len(self.steady) if large else 1)
        return self.steady if summed <= self.schedule.thread_elements else []

    @cached_property
    def in_shared(self) -> list[Output]:
        """The same in shared memory, where a thread has too much of a row for its registers."""
        fits = self.team.in_block * self.team.elements * 4 * len(self.steady) <= self.schedule.shared_bytes
        return [
            out for out in self.steady if fits and out.dtype == "float32" and out not in self.in_registers
        ]

    @cached_property
    def steady(self) -> list[Output]:
        """Sums over the rows of a block that have one place for each of a thread's elements."""
        if self.team.vectors is None:
            return []
        looped = set(self.nest.within)
        return [out for out in self.lane_sums if self.blocks(out) and not looped & set(out.dims)]

    @property
    def shared(self) -> int:
        """Bytes of dynamic shared memory."""
        return self.team.in_block * self.team.elements * 4 * len(self.in_shared)

    @cached_property
    def in_memory(self) -> list[Output]:
        """Sums for each lane that a thread adds to where they lie: it is the only one that does."""
        return [out for out in self.lane_sums if out not in (*self.in_registers, *self.in_shared)]

    def blocks(self, out: Output) -> bool:
        """Whether a sum is kept over a block of rows, not over one row."""
        return self.nest.in_blocks(out)
