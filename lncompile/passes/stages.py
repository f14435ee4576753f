"""Cuts the first stage off a program: what one kernel computes, and what is left for the kernels after it.

A kernel loops over some axes inside a unit of work, its *loops*, and can finish the reductions over exactly
those. Any other reduction ends it: the kernel leaves partial sums in a workspace, a later one adds them up.

    dx      = f(dy, mean[d](dy * xhat))     -->   stage 1, loops d:         dx, dweight_sum
    dweight = sum[n](dy * xhat) * scale           stage 2, loops n_blocks:  dweight = sum(dweight_sum) * scale

What later kernels need of this one's statistics, or takes long to compute, and is no larger than they are
goes into a workspace, too; larger values are computed again from the inputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from lncompile.ir import (
    Axes,
    Binary,
    Input,
    Node,
    Output,
    Program,
    Reduce,
    Unary,
    depending_on,
    operands,
    rebuilt,
    rewrite,
    with_operands,
)
from lncompile.passes.loops import Loops
from lncompile.passes.narrow import has_narrow_elements
from lncompile.passes.shared import shared_first
from lncompile.passes.stretches import unchunked
from lncompile.passes.workspaces import Workspaces, as_it_was, as_number
from lncompile.printer import names_of


@dataclass(frozen=True, eq=False)
class Stage:
    """One kernel's program, its loops, and the axis of which it sums blocks, where it does.

    The elements of a ``narrow`` one may be computed in float32, though it reads float64. Arrays whose names
    are in ``linear`` come from those that come in backward.
    """

    program: Program
    loops: Loops
    block_axis: str | None
    narrow: bool = False
    linear: frozenset[str] = frozenset()


#: Functions that take longer than a load from the cache.
_SLOW = frozenset({"sqrt", "rsqrt", "exp", "log", "tanh", "sigmoid", "erf"})


def takes_long(node: Node) -> bool:
    """Whether loading a value is faster than computing it by this operation."""
    return (isinstance(node, Unary) and node.op in _SLOW) or (isinstance(node, Binary) and node.op == "div")


def ready(program: Program) -> list[Reduce]:
    """The reductions of values without reductions."""
    reduced = depending_on(program.nodes, lambda node: isinstance(node, Reduce))
    return [node for node in program.nodes if isinstance(node, Reduce) and node.operand not in reduced]


def cut(program: Program, loops: Loops, wide: bool, taken: frozenset[str]) -> tuple[Stage, Program]:
    """The stage that computes what ``loops`` allow, and the program of the rest.

    A ``wide`` stage computes in float64. Earlier stages have ``taken`` these names for their workspaces.
    """
    program = rewrite(program, lambda node: _inside_first(node, loops.inside))
    done, partial = _computable(program, loops)
    now = [out for out in program.outputs if out.value in done and _fits(out, loops)]
    later = [out for out in program.outputs if out not in now]
    block_axis, partial = _blocked(partial, loops)
    compute = "float64" if wide else program.compute
    workspaces = Workspaces(program, loops, compute, block_axis, taken)
    replaced: dict[Node, Node] = {}
    for node in _frontier(program, later, done, partial, loops):
        replaced[node] = workspaces.partial(node) if node in partial else workspaces.row_sized(node)
    axes = tuple(
        new
        for axis in program.axes
        for new in (*(c for c in workspaces.counted if c.of is not None and c.of.name == axis.name), axis)
    )
    stage = replace(
        program,
        axes=tuple(replace(axis, feature=axis.name in loops.inside) for axis in axes),
        compute=compute,
        outputs=(*now, *workspaces.outputs),
    )
    stage = replace(stage, inputs=_used(stage, program.inputs))
    mapped = rebuilt(program.nodes, replaced)
    rest = replace(program, axes=axes, outputs=tuple(replace(out, value=mapped[out.value]) for out in later))
    rest = replace(rest, inputs=_used(rest, (*program.inputs, *workspaces.inputs)))
    narrow = stage.compute != program.compute
    return _in_groups(Stage(stage, loops, block_axis, narrow)), unchunked(rest)


def with_origins(stages: Iterable[Stage]) -> tuple[Stage, ...]:
    """``stages`` in their order, each with the arrays that come from those that come in backward."""
    linear: frozenset[str] = frozenset()
    found = []
    for stage in stages:
        inputs, outputs = stage.program.inputs, stage.program.outputs
        linear |= {array.name for array in inputs if array.role == "cotangent"}
        sources = {array for array in inputs if array.name in linear}
        reached = depending_on(stage.program.nodes, sources.__contains__)
        linear |= {out.name for out in outputs if out.value in reached}
        found.append(replace(stage, linear=linear))
    return tuple(found)


def apart(
    program: Program, results: Mapping[Node, tuple[str, ...]], taken: frozenset[str]
) -> tuple[Program, Program]:
    """The program that leaves ``results`` in workspaces of these dimensions, and the one that reads them.

    A result is repeated along dimensions that it does not vary over, for the values that do vary over them.
    """
    names = names_of(program)
    taken |= program.names
    outputs: list[Output] = []
    for node, dims in results.items():
        name = f"{names[node]}_kept"
        while name in taken:
            name += "_"
        taken |= {name}
        outputs.append(Output(name, as_number(node), dims, "float64", "workspace"))
    inputs = [Input(out.name, out.dims, out.dtype, "workspace") for out in outputs]
    replaced = {node: as_it_was(node, stored) for node, stored in zip(results, inputs, strict=True)}
    mapped: dict[Node, Node] = {}

    def for_axes(value: Node, axes: Axes) -> Node:
        return replaced[value] if value in replaced and replaced[value].axes <= axes else mapped[value]

    for node in program.nodes:
        axes = node.axes | node.over if isinstance(node, Reduce) else node.axes
        mapped[node] = with_operands(node, tuple(for_axes(operand, axes) for operand in operands(node)))
    first = replace(program, outputs=tuple(outputs))
    rest = replace(
        program,
        outputs=tuple(replace(o, value=for_axes(o.value, frozenset(o.dims))) for o in program.outputs),
    )
    return (
        replace(first, inputs=_used(first, program.inputs)),
        replace(rest, inputs=_used(rest, (*program.inputs, *inputs))),
    )


def _inside_first(node: Node, inside: Axes) -> Node | None:
    """A sum over a unit's loops and more is a sum over units of sums over the loops."""
    match node:
        case Reduce("sum" | "max" as op, value, over) if inside and over > inside:
            return Reduce(op, Reduce(op, value, inside), over - inside)
    return None


def _computable(program: Program, loops: Loops) -> tuple[set[Node], list[Reduce]]:
    """The values that a unit knows, and the reductions that it can contribute to."""
    domain = frozenset(loops.domain)
    done: set[Node] = set()
    partial: list[Reduce] = []
    for node in program.nodes:
        if not all(operand in done for operand in operands(node)) or not node.axes <= domain:
            continue
        if not isinstance(node, Reduce) or node.over == loops.inside:
            done.add(node)
        elif node.op in ("sum", "max") and _is_contributed_once(node.operand, loops):
            partial.append(node)
    return done, partial


def _is_contributed_once(value: Node, loops: Loops) -> bool:
    """Whether no two units, and no two steps of a unit's loops, have the same part of a value."""
    inside = value.axes & loops.inside
    return value.axes >= set(loops.row_axes) and (not inside or inside == loops.inside)


def _fits(out: Output, loops: Loops) -> bool:
    return set(out.dims) in (set(loops.domain), set(loops.row_axes))


def _blocked(partial: list[Reduce], loops: Loops) -> tuple[str | None, list[Reduce]]:
    """The axis of which sums with a value for each vector are kept in blocks; reductions that fit with it."""
    vectors = [
        node for node in partial if loops.vector in node.axes and node.operand.axes - set(loops.row_axes)
    ]
    summed = [set(node.over) & set(loops.units) for node in vectors]
    summed = [over for over in summed if over]
    if not summed:
        return None, partial
    common = set.intersection(*summed) or summed[0]
    axis = next(name for name in reversed(loops.units) if name in common)
    return axis, [
        node
        for node in partial
        if node not in vectors or axis in node.over or not node.over & set(loops.units)
    ]


def _in_groups(stage: Stage) -> Stage:
    """``stage`` with blocks of rows that are computed in groups; row by row where that does not do."""
    loops, inner = stage.loops, stage.loops.units[-1:]
    row_by_row = replace(stage, loops=replace(loops, group=1), narrow=False)
    of_rows = any(loops.vector not in out.dims for out in stage.program.outputs)
    if loops.group == 1 or not inner or loops.inside != {loops.vector} or of_rows:
        return row_by_row
    nodes = stage.program.nodes
    differing = [node for node in nodes if set(inner) & node.axes]
    shared = any(loops.vector in node.axes and node not in differing for node in nodes)
    if not shared or not all(loops.vector in node.axes for node in differing):
        return row_by_row
    reductions = [node for node in nodes if isinstance(node, Reduce)]
    if any(loops.vector in node.over or not node.over & set(inner) for node in reductions):
        return row_by_row
    narrow = stage.narrow and has_narrow_elements(stage.program, loops.inside, inner[0])
    program = shared_first(stage.program, inner[0], differences=not narrow)
    return replace(stage, program=program, block_axis=inner[0], narrow=narrow)


def _frontier(
    program: Program, later: list[Output], done: set[Node], partial: list[Reduce], loops: Loops
) -> list[Node]:
    """What later stages need of this one: where the walk from their outputs to the inputs stops.

    A statistic that is the same for many units, or known where there are none, is left to a stage of its own.
    """
    nodes = program.nodes
    fused = depending_on(nodes, lambda node: (isinstance(node, Reduce) and node in done) or takes_long(node))
    rows = set(loops.row_axes)
    found: set[Node] = set()
    seen: set[Node] = set()
    stack = [output.value for output in later]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if node in partial or (node in done and node in fused and node.axes == rows and node.kind == "real"):
            found.add(node)
        else:
            stack.extend(operands(node))
    return [node for node in nodes if node in found]


def _used(program: Program, arrays: Iterable[Input]) -> tuple[Input, ...]:
    """Those of ``arrays`` that ``program`` reads."""
    names = {node.name for node in program.nodes if isinstance(node, Input)}
    return tuple(array for array in arrays if array.name in names)
