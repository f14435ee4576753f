"""From the two programs of a norm to the text of its CUDA kernels and what is launched."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lncompile.emit.cuda.context import Context
from lncompile.emit.cuda.launches import Blocks, Kernel, Launches
from lncompile.emit.cuda.nest import LaunchNames, TeamNest
from lncompile.emit.cuda.scope import starts_in
from lncompile.emit.cuda.stage import TeamKernel
from lncompile.emit.cuda.words import RESERVED, WORDS, suffixes
from lncompile.emit.lower import Request, arrays_of, function_text, module_text, sizes_of, stem_of
from lncompile.emit.names import SUFFIXES, legal, sources
from lncompile.emit.nest import product
from lncompile.interface import Buffer, Call, Interface, Phase
from lncompile.ir import Output, Program
from lncompile.passes import Pair
from lncompile.schedule.cuda import Schedule
from lncompile.schedule.plan import plan


@dataclass(frozen=True)
class Function:
    """One kernel function: its name, the element type behind each pointer, its numbers, threads and blocks.

    ``threads`` are those of a block, ``cluster`` the blocks of a cluster, 1 where there is none.
    """

    name: str
    pointers: tuple[str, ...]
    numbers: int
    threads: int
    cluster: int = 1


@dataclass(frozen=True)
class LoweredCuda:
    """The emitted source, its functions, what it offers and launches, and the programs under these names."""

    source: str
    functions: tuple[Function, ...]
    interface: Interface
    forward: Launches
    backward: Launches
    pair: Pair


def lower_cuda(
    pair: Pair,
    request: Request,
    schedules: tuple[Schedule, Schedule],
    unheld: frozenset[str] = frozenset(),
) -> LoweredCuda:
    """Emit the kernels of both programs, one a stage, by the schedules of the forward and the backward.

    Those whose names are in ``unheld`` read rows again that the schedule would hold in registers.
    """
    taken, appended = _taken(pair, schedules)
    pair = legal(pair, taken, appended)
    taken = sources(taken, appended)
    bodies: list[str] = []
    functions: list[Function] = []
    phases: list[Phase] = []
    launches: list[Launches] = []
    for name, program, schedule in zip(
        ("forward", "backward"), (pair.forward, pair.backward), schedules, strict=True
    ):
        emitter = _PhaseEmitter(program, schedule, f"{stem_of(request)}_{name}", taken)
        launches.append(emitter.emit(bodies, functions, unheld))
        buffers = (*arrays_of(program, request), *emitter.workspaces)
        # A kernel's buffers are told by name, those of both phases together.
        taken |= {buffer.name for buffer in emitter.workspaces}
        phases.append(Phase("", buffers, sizes_of(emitter.names, request), tuple(emitter.calls)))
    return LoweredCuda(
        source=module_text(request, bodies, "lncompile.backends.cuda.intrinsics", WORDS),
        functions=tuple(functions),
        interface=Interface(request.norm, *phases),
        forward=launches[0],
        backward=launches[1],
        pair=pair,
    )


class _PhaseEmitter:
    """Emits the kernels of one phase."""

    def __init__(self, program: Program, schedule: Schedule, stem: str, taken: frozenset[str]) -> None:
        self.names = LaunchNames(program)
        self.workspaces: list[Buffer] = []
        self.calls: list[Call] = []
        self._stem = stem
        self._schedule = schedule
        self._stages = plan(program, self._schedule, taken)
        self._blocks: dict[str, Blocks] = {}

    def emit(self, bodies: list[str], functions: list[Function], unheld: frozenset[str]) -> Launches:
        """Add the kernels' texts and functions; what is launched."""
        names = [self._stem, *(f"{self._stem}_{number}" for number in range(2, len(self._stages) + 1))]
        leaner = replace(self._schedule, held_elements=0)
        contexts = [
            Context(stage, self.names, leaner if name in unheld else self._schedule)
            for name, stage in zip(names, self._stages, strict=True)
        ]
        for context in contexts:
            self._count_blocks(context)
            self.workspaces += [
                self._workspace(context.nest, out)
                for out in context.program.outputs
                if out.role == "workspace"
            ]
        numbers = (*self.names.sizes, *(n for b in self._blocks.values() for n in (b.name, b.per)))
        launched = []
        for name, context in zip(names, contexts, strict=True):
            arrays = {array.array: array.dtype for array in context.program.arrays}
            kernel = TeamKernel(context)
            bodies.append(function_text(name, arrays, numbers, kernel.lines()))
            nest, team = context.nest, context.team
            self.calls.append(Call(name, tuple(arrays), nest.units, "1", shared=nest.shared))
            functions.append(Function(name, tuple(arrays.values()), len(numbers), team.block, team.blocks))
            launched.append(
                Kernel(
                    name,
                    tuple(arrays),
                    numbers,
                    nest.units,
                    team.in_block,
                    team.teams,
                    context.shared,
                    team.blocks,
                    kernel.exchange.size,
                )
            )
        return Launches(tuple(launched), tuple(self._blocks.values()))

    def _workspace(self, nest: TeamNest, out: Output) -> Buffer:
        size = nest.positions(out.dims)
        return Buffer(out.name, "workspace", out.dtype, (size,))

    def _count_blocks(self, context: Context) -> None:
        """Note the number of blocks that a launch of this stage chooses, if no earlier one does."""
        block = context.stage.block_axis
        if block is None:
            return
        axis, nest, team = context.nest.axes[block], context.nest, context.team
        name = self.names.count(axis)
        beside = [size for index, size in nest.counts if index != nest.block_index]
        resident, group = max(1, self._schedule.threads_resident // team.threads), 1
        if team.blocks > 1:
            # The registers of a multiprocessor are those of one block with 512 threads. One cluster more than
            # there is room for would double the time, and what is left of a GPC, whose 16 or 18
            # multiprocessors are an H100's largest group, has room for none.
            beside, resident, group = [str(team.blocks), *beside], 1, self._schedule.cluster_blocks
        others = product(["1", *beside])
        self._blocks.setdefault(
            name,
            Blocks(
                name,
                self.names.per(axis),
                nest.size(block),
                others,
                resident,
                self._schedule.least_rows,
                group,
            ),
        )


def _taken(pair: Pair, schedules: tuple[Schedule, Schedule]) -> tuple[frozenset[str], tuple[str, ...]]:
    """What arrays cannot be called since kernels use it, and what kernels append to their names."""
    words, starts = set(RESERVED), 0
    for program, schedule in zip((pair.forward, pair.backward), schedules, strict=True):
        names = LaunchNames(program)
        words |= set(names.sizes)
        for stage in plan(program, schedule):
            words |= TeamNest(stage, names).words
            starts = max(starts, starts_in(stage.program))
    return frozenset(words), (*SUFFIXES, *suffixes(starts))
