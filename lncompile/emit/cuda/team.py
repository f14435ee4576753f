"""How many threads compute a row, and what each of them has of it.

x [n d], d = 1024 of bfloat16, 8 elements an access:

    threads 32, lanes 8, vectors 4: thread t of a row's team has elements 8 t + 256 k + 0 ... 7, k = 0 ... 3
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod

from lncompile.dtypes import TABLE
from lncompile.emit.cuda.nest import TeamNest
from lncompile.ir import Input, Output, Reduce
from lncompile.schedule.cuda import Schedule

#: The threads of a warp, which run together and read one another's registers.
WARP = 32


@dataclass(frozen=True)
class Team:
    """What computes one unit of work.

    Attributes:
        threads: of one unit.
        teams: that share a block.
        lanes: elements of an access.
        per_step: threads that share a step of the loops around the vectors; the others have other steps.
        vectors: that a thread has of a row, all written out; None where it loops over them.
        blocks: that a unit has, a cluster if there are several; its threads are numbered block by block.
        strided: whether neighbouring threads belong to different teams: they have neighbouring columns.
    """

    threads: int
    teams: int
    lanes: int
    per_step: int
    vectors: int | None
    strided: bool = False
    blocks: int = 1

    @property
    def block(self) -> int:
        """The threads of a block."""
        return self.in_block * self.teams

    @property
    def in_block(self) -> int:
        """The threads of one unit that are in one block."""
        return self.threads // self.blocks

    @property
    def place(self) -> str:
        """The expression of a thread's place among those."""
        return "member" if self.blocks == 1 else "thread_index()"

    @property
    def barrier(self) -> str:
        """The line with which all threads wait for one another that have a unit together."""
        return "barrier()" if self.blocks == 1 else "cluster_barrier()"

    @property
    def elements(self) -> int:
        """How many of a row's elements a thread has, where they are written out."""
        return (self.vectors or 0) * self.lanes

    @property
    def groups(self) -> int:
        """How many steps of the loops around the vectors are done at a time."""
        return self.threads // self.per_step


@dataclass(frozen=True)
class Teaming:
    """Chooses the team of a stage."""

    nest: TeamNest
    schedule: Schedule

    def team(self) -> Team:
        """The team that computes a unit of the stage."""
        loops = self.nest.loops
        if loops.vector is None:
            return Team(1, 1, 1, 1, 1)
        if loops.across:
            members = 1 if self._lane_sums or self._step_sums else self.schedule.column_members
            return Team(members, WARP, 1, 1, None, strided=True)
        if self.nest.steps:
            return self._with_steps()
        if self._length is None:
            return Team(256, 1, self._lanes, 256, None)
        return self._written_out(self._length)

    def _written_out(self, length: int) -> Team:
        lanes, most = self._lanes, self.schedule.most_threads
        if length > self.schedule.block_elements:
            most *= self.schedule.cluster_blocks
        accesses = max(1, length // lanes)
        wanted = max(
            _power(-(-length // self.schedule.thread_elements)),
            _power(-(-accesses // self.schedule.most_vectors)),
            # A whole warp, which reads whole lines, has the fewest registers a thread.
            min(_power(accesses), WARP),
        )
        threads = min(wanted, most, _power(accesses))
        vectors = -(-accesses // threads)
        written = vectors <= self.schedule.most_vectors
        return Team(
            threads,
            self._teams(threads),
            lanes,
            threads,
            vectors if written else None,
            blocks=max(1, threads // self.schedule.most_threads),
        )

    def _with_steps(self) -> Team:
        """Steps are done side by side, unless their elements add up lane by lane."""
        lanes, length = self._lanes, self._length
        accesses = WARP if length is None else max(1, length // lanes)
        alone = any(set(self.nest.steps) - set(out.dims) for out in self._lane_sums)
        if alone:
            per_step = min(_power(accesses), WARP if self._step_sums else 256)
            return Team(per_step, self._teams(per_step), lanes, per_step, None)
        per_step = min(_power(accesses), WARP)
        sizes = [self.nest.axes[name].size for name in self.nest.steps]
        steps = prod(size for size in sizes if size) if None not in sizes else WARP
        threads = min(_power(steps) * per_step, max(per_step, _power(-(-steps * accesses // 4))), 512)
        return Team(threads, self._teams(threads), lanes, per_step, None)

    def _teams(self, threads: int) -> int:
        # A team of several warps waits for all threads of its block.
        return max(1, self.schedule.block_threads // threads) if threads <= WARP else 1

    @cached_property
    def _length(self) -> int | None:
        """The elements of a step of the loops around the vectors, where all steps have as many."""
        vector = self.nest.loops.vector or ""
        stretch, size = self.nest.stretch_of(vector), self.nest.axes[vector].size
        if stretch is None or size is None:
            return size if stretch is None else None
        return stretch.per if size % stretch.per == 0 else None

    @cached_property
    def _arrays(self) -> list[Input | Output]:
        """The arrays that are accessed as vectors."""
        vector = self.nest.loops.vector
        arrays = self.nest.stage.program.arrays
        # As they are read: an input may stand for its first position along the vector's axis.
        inputs = [node for node in self.nest.stage.program.nodes if isinstance(node, Input)]
        outputs = [array for array in arrays if isinstance(array, Output) and vector in array.dims]
        return [*(node for node in inputs if vector in node.axes), *outputs]

    @cached_property
    def _itemsize(self) -> int:
        return min((TABLE[array.dtype].itemsize for array in self._arrays), default=4)

    @cached_property
    def _lanes(self) -> int:
        """The widest vectors of which every row has a whole number, and begins aligned to them."""
        vector = self.nest.loops.vector or ""
        if any(self.nest.stride(array, vector) != "1" for array in self._arrays):
            return 1
        stretch, size = self.nest.stretch_of(vector), self.nest.axes[vector].size
        if size is None:
            return 1
        lanes = self.schedule.vector_bytes // self._itemsize
        while size % lanes or (stretch is not None and stretch.per % lanes):
            lanes //= 2
        return lanes

    @cached_property
    def _lane_sums(self) -> list[Output]:
        """Sums that later stages finish, with a number for each lane."""
        return [out for out in self._sums if self.nest.loops.vector in out.dims]

    @cached_property
    def _step_sums(self) -> list[Output]:
        """Sums that later stages finish, with a number for each step of the loops around the vectors."""
        return [out for out in self._sums if self.nest.loops.vector not in out.dims]

    @cached_property
    def _sums(self) -> list[Output]:
        inside = self.nest.loops.inside
        return [
            out
            for out in self.nest.stage.program.outputs
            if isinstance(out.value, Reduce) and out.value.over != inside and out.value.operand.axes & inside
        ]


def _power(number: int) -> int:
    """The power of two that is as large or the next larger one."""
    return 1 << max(number - 1, 0).bit_length()
