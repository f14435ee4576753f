"""From a program to the stages that kernels are made of, in the order in which they run.

    program --collapse--> choose a domain, its loops and lanes --cut--> stage, rest --> ... until all is done

The choice depends on the program's axes and sizes alone, so results do not depend on the machine's load or
number of threads.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf, prod
from typing import Protocol

from lncompile.errors import CompilerBug
from lncompile.ir import (
    Axes,
    Axis,
    Input,
    Node,
    Program,
    Reduce,
    depending_on,
    operands,
    rewrite,
    topological,
)
from lncompile.passes.collapse import collapse
from lncompile.passes.loops import Loops
from lncompile.passes.maxima import meetings
from lncompile.passes.offsets import offsets
from lncompile.passes.ones import without_ones
from lncompile.passes.scalars import without_constant_operations
from lncompile.passes.stages import Stage, apart, cut, ready, takes_long, with_origins
from lncompile.passes.stretches import chunked
from lncompile.schedule.cpu import fitting
from lncompile.schedule.groups import channels_first, for_each_channel, glued


class Limits(Protocol):
    """What a schedule says about stages; ``schedule/cpu.py`` explains the numbers.

    A block of 0 rows is one whose size a launch tells.
    """

    @property
    def shortest_vector(self) -> int: ...
    @property
    def short_row(self) -> int: ...
    @property
    def short_summing_row(self) -> int: ...
    @property
    def short_lanes(self) -> int: ...
    @property
    def column_lanes(self) -> int: ...
    @property
    def column_rows(self) -> int: ...
    @property
    def column_block_rows(self) -> int: ...
    @property
    def column_group(self) -> int: ...
    @property
    def row_lanes(self) -> int: ...
    @property
    def together_elements(self) -> int: ...
    @property
    def block_rows(self) -> int: ...
    @property
    def most_block_rows(self) -> int: ...
    @property
    def unit_elements(self) -> int: ...
    @property
    def chunk_elements(self) -> int: ...


def plan(program: Program, schedule: Limits, taken: frozenset[str] = frozenset()) -> tuple[Stage, ...]:
    """The stages of ``program``; no workspace has one of the names that are ``taken``."""
    return with_origins(_stages(program, schedule, taken))


def _stages(program: Program, schedule: Limits, taken: frozenset[str]) -> list[Stage]:
    stages: list[Stage] = []
    # Names of all arrays of the phase, and of the workspaces of the stages so far.
    taken |= program.names
    # Which axes are features is told by the reductions; as loops, all axes are alike.
    axes = tuple(replace(axis, feature=False) for axis in program.axes)
    # Of one position the variance is a constant.
    program = _of_narrower_sums(without_constant_operations(without_ones(replace(program, axes=axes))))
    together = glued(program, schedule.shortest_vector)
    while program.outputs:
        program = collapse(_pruned(program))
        # First, as the others change what is compared: computed once, it is read by both sides.
        results = {value: program.ordered(value.axes) for _, value, _ in meetings(program)}
        if not results and together:
            program = channels_first(program, *together)
            results = for_each_channel(program, *together)
        if not results and not ready(program):
            results = _slow(program)
        if results:
            first, program = apart(program, results, taken)
            stages += _stages(first, schedule, taken)
            taken |= {array.name for stage in stages for array in stage.program.outputs}
            continue
        choice = _reducing(program, schedule) if ready(program) else _elementwise(program, schedule)
        stage, program = cut(*choice, taken)
        if not stage.program.outputs:
            raise CompilerBug(f"{program.name}: a stage without results")
        taken |= {array.name for array in stage.program.outputs}
        stages.append(stage)
    return stages


def _of_narrower_sums(program: Program) -> Program:
    """sum[n h w](x) = sum[n](sum[h w](x)) where sum[h w](x) is needed anyway: x is not added up twice.

    Instance norm backward with channels last, 8x28x28x256, in the caches of an EPYC (Zen 4): 0.46 ns an
    element before, 0.43 now.
    """
    found = [node for node in program.nodes if isinstance(node, Reduce) and node.op == "sum"]

    def rule(node: Node) -> Node | None:
        match node:
            case Reduce("sum", value, over):
                narrower = [other.over for other in found if other.operand is value and other.over < over]
                if narrower:
                    most = max(narrower, key=lambda axes: (len(axes), sorted(axes)))
                    return Reduce("sum", Reduce("sum", value, most), over - most)
        return None

    return rewrite(program, rule)


def _reducing(program: Program, schedule: Limits) -> tuple[Program, Loops, bool]:
    """A stage that loops over the axes of a reduction, or over stretches of them."""
    first = ready(program)
    widest = max(first, key=lambda node: len(node.operand.axes)).operand.axes
    domain = program.ordered(widest)
    over = _best([node.over for node in first if node.operand.axes == widest], program)
    vector = _lanes_axis(domain, over, program, schedule)
    across = vector not in over
    lanes = fitting(schedule.short_lanes, _size(vector, program)) if across else 0
    inside, chunk, per = _stretch(domain, over, lanes, program, schedule)
    block_rows, most, group = schedule.block_rows, schedule.most_block_rows, 1
    if across and not _counts(over, program) and _count(over, program) > schedule.column_rows:
        inside, chunk, lanes, block_rows = frozenset({vector}), None, 0, schedule.column_block_rows
        most, group = 0, schedule.column_group
    whole = inside == over and chunk is None
    # Float32 needs a pivot near the mean, and so to see the same elements again before the next ones. Offsets
    # from what an earlier stage kept have another.
    few = whole and (vector != domain[-1] or _count(over, program) <= schedule.column_rows)
    few = few and not any(_is_workspace(below) for node in first for below in _below(node))
    short = whole and set(domain) > over and _count(over, program) <= schedule.together_elements
    wide = (across and not few) or inside != over or chunk is not None or _reads_workspace(program, over)
    if across and not wide and vector == domain[-1]:
        lanes = fitting(schedule.column_lanes, _size(vector, program))

    def is_summed(node: Reduce) -> bool:
        return (wide or node.over != over) and not any(
            isinstance(below, Reduce) and below.axes & node.over for below in _below(node)
        )

    program = offsets(program, is_summed)
    if chunk is not None:
        program, domain = _in_stretches(program, domain, chunk, per)
    together = schedule.row_lanes if short and not across else 1
    return program, Loops(domain, inside, vector, lanes, block_rows, group, together, most), wide


def _lanes_axis(domain: tuple[str, ...], over: Axes, program: Program, schedule: Limits) -> str:
    """The axis that lies in the lanes: the innermost, but rows side by side where these are short."""
    *outer, inner = domain
    size = _size(inner, program)
    sums = any(isinstance(node, Reduce) and inner in node.operand.axes - node.over for node in program.nodes)
    shortest = schedule.short_summing_row if sums else schedule.short_row
    short = over == {inner} and size is not None and size <= shortest
    return outer[-1] if outer and short else inner


def _elementwise(program: Program, schedule: Limits) -> tuple[Program, Loops, bool]:
    """A stage without reductions, for the outputs with the most axes."""
    dims = set(max(program.outputs, key=lambda out: len(out.dims)).dims)
    domain = program.ordered(frozenset(dims))
    if not domain:
        return program, Loops((), frozenset(), None, 1, 1), False
    vector = domain[-1]
    program_now = replace(program, outputs=tuple(out for out in program.outputs if set(out.dims) == dims))
    wide = _reads_workspace(program_now, frozenset({vector}))
    wide = wide or any(out.role == "workspace" for out in program_now.outputs)
    chunk = None
    size = _size(vector, program)
    if (len(domain) == 1 and size is None) or (size or 0) > schedule.unit_elements:
        chunk = vector
        program, domain = _in_stretches(program, domain, vector, schedule.chunk_elements)
    group = schedule.column_group if wide and chunk is None else 1
    loops = Loops(domain, frozenset({vector}), vector, 0, 4 * group, group)
    return program, loops, wide


def _stretch(
    domain: tuple[str, ...], over: Axes, lanes: int, program: Program, schedule: Limits
) -> tuple[Axes, str | None, int]:
    """The axes that a unit loops over, and the one it takes a stretch of, ``per`` positions at a time."""
    axes = {axis.name: axis for axis in program.axes}
    if _counts(over, program):
        return over, None, 1
    elements, inside = max(lanes, 1), []
    whole = elements
    for name in over:
        whole *= axes[name].size or schedule.unit_elements * 2
    if whole <= schedule.unit_elements:
        return over, None, 1
    for name in reversed([name for name in domain if name in over]):
        inside.append(name)
        size = axes[name].size
        if size is None or elements * size > schedule.chunk_elements:
            return frozenset(inside), name, max(1, schedule.chunk_elements // elements)
        elements *= size
    return over, None, 1


def _in_stretches(
    program: Program, domain: tuple[str, ...], name: str, per: int
) -> tuple[Program, tuple[str, ...]]:
    """The program and its domain with an axis before ``name`` that counts its stretches of ``per``."""
    program, counting = chunked(program, name, per)
    at = domain.index(name)
    return program, (*domain[:at], counting, *domain[at:])


def _counts(over: Axes, program: Program) -> bool:
    """Whether one of these axes counts stretches or blocks that an earlier stage made."""

    def counts(axis: Axis) -> bool:
        return axis.of is not None or any(counts(part) for part in axis.parts)

    return any(axis.name in over and counts(axis) for axis in program.axes)


def _count(over: Axes, program: Program) -> float:
    """The number of positions along these axes, infinity where it is not known."""
    return prod(axis.size or inf for axis in program.axes if axis.name in over)


def _best(candidates: list[Axes], program: Program) -> Axes:
    """Of the reductions' axes those that are looped over: known sizes first, then the most elements."""
    sizes = {axis.name: axis.size for axis in program.axes}
    known = [over for over in candidates if all(sizes[name] is not None for name in over)]
    if known:
        return max(known, key=lambda over: (program.count(over), sorted(over)))
    return min(candidates, key=lambda over: (len(over), sorted(over)))


def _slow(program: Program) -> dict[Node, tuple[str, ...]]:
    """What takes long to compute and is the same for many vectors, with its dimensions."""
    domain = frozenset(max(program.outputs, key=lambda out: len(out.dims)).dims)
    vector = frozenset(program.ordered(domain)[-1:])
    whole = [node for node in program.nodes if node.axes == domain]
    slow = depending_on(program.nodes, takes_long)
    return {
        value: program.ordered(value.axes)
        for node in whole
        for value in operands(node)
        if value in slow and value.kind == "real" and vector <= value.axes < domain
    }


def _reads_workspace(program: Program, along: Axes) -> bool:
    """Whether something that an earlier stage left varies over one of these axes."""
    return any(_is_workspace(node) and node.axes & along for node in program.nodes)


def _is_workspace(node: Node) -> bool:
    """Whether a value is what an earlier stage left."""
    return isinstance(node, Input) and node.role == "workspace"


def _below(node: Node) -> list[Node]:
    """What a value is computed from."""
    return [other for other in topological([node]) if other is not node]


def _size(name: str, program: Program) -> int | None:
    return next(axis.size for axis in program.axes if axis.name == name)


def _pruned(program: Program) -> Program:
    """``program`` without the axes that nothing varies over."""
    used = {name for array in program.arrays for name in array.dims}
    return replace(program, axes=tuple(axis for axis in program.axes if axis.name in used))
