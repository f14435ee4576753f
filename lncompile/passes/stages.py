"""Cuts the first stage off a program: what one kernel computes, and what is left for the kernels after it.

A kernel loops over some axes inside a unit of work, its *loops*, and can finish the reductions over exactly
those. Any other reduction ends it: the kernel leaves partial sums in a workspace, a later one adds them up.

    dx      = f(dy, mean[d](dy * xhat))     -->   stage 1, loops d:         dx, dweight_sum
    dweight = sum[n](dy * xhat) * scale           stage 2, loops n_blocks:  dweight = sum(dweight_sum) * scale

What later kernels need of this one's statistics, and is no larger than they are, goes into a workspace, too;
larger values are computed again from the inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from lncompile.ir import (
    Axes,
    Axis,
    Input,
    Node,
    Output,
    Program,
    Reduce,
    depending_on,
    operands,
    rewrite,
    with_operands,
)
from lncompile.printer import names_of


@dataclass(frozen=True)
class Loops:
    """How a stage's kernel goes over its axes.

    ``domain`` are all of them in memory order, ``inside`` those that a unit of work runs over. ``vector`` is
    the axis in the lanes, ``lanes`` of it at a time; ``block`` rows make one partial sum.
    """

    domain: tuple[str, ...]
    inside: Axes
    vector: str | None
    lanes: int
    block: int

    @property
    def units(self) -> tuple[str, ...]:
        """The axes of which a unit has one position."""
        return tuple(name for name in self.domain if name not in self.inside and name != self.vector)

    @property
    def across(self) -> bool:
        """Whether the lanes hold different rows: the vector axis is none that a unit runs over."""
        return self.vector is not None and self.vector not in self.inside

    @property
    def row_axes(self) -> tuple[str, ...]:
        """The axes that a row-sized value may vary over."""
        return tuple(name for name in self.domain if name not in self.inside)


@dataclass(frozen=True, eq=False)
class Stage:
    """One kernel's program, its loops, and the axis of which it sums blocks, where it does."""

    program: Program
    loops: Loops
    block_axis: str | None


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
    layouts = _Layouts(program, loops, compute, block_axis, taken)
    replaced: dict[Node, Node] = {}
    for node in _frontier(program, later, done, partial, loops):
        replaced[node] = layouts.partial(node) if node in partial else layouts.row_sized(node)
    axes = tuple(
        new
        for axis in program.axes
        for new in (*(c for c in layouts.counted if c.of is not None and c.of.name == axis.name), axis)
    )
    stage = replace(
        program,
        axes=tuple(replace(axis, feature=axis.name in loops.inside) for axis in axes),
        compute=compute,
        outputs=(*now, *layouts.outputs),
    )
    stage = replace(stage, inputs=_used(stage, program.inputs))
    rest = replace(program, axes=axes, outputs=tuple(_with_values(program, later, replaced)))
    rest = replace(rest, inputs=_used(rest, (*program.inputs, *layouts.inputs)))
    return Stage(stage, loops, block_axis), _unchunked(rest)


def apart(
    program: Program, results: Mapping[Node, tuple[str, ...]], taken: frozenset[str]
) -> tuple[Program, Program]:
    """The program that leaves ``results`` in workspaces of these dimensions, and the one that reads them.

    A result is repeated along dimensions that it does not vary over, for the values that do vary over them.
    """
    names = names_of(program)
    taken |= {array.name for array in program.arrays}
    outputs: list[Output] = []
    for node, dims in results.items():
        name = f"{names[node]}_kept"
        while name in taken:
            name += "_"
        taken |= {name}
        outputs.append(Output(name, node, dims, "float64", "workspace"))
    inputs = [Input(out.name, out.dims, out.dtype, "workspace") for out in outputs]
    replaced = dict(zip(results, inputs, strict=True))
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


def chunked(program: Program, name: str, per: int) -> tuple[Program, str]:
    """``program`` with an axis before ``name`` that counts its stretches of ``per``, and that axis' name."""
    axis = next(axis for axis in program.axes if axis.name == name)
    chunk = _counting(axis, per, program)

    def dims(old: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(new for dim in old for new in ((chunk.name, dim) if dim == name else (dim,)))

    program = _with_dims(program, dims, lambda old: old | {chunk.name} if name in old else old)
    axes = (new for other in program.axes for new in ((chunk, other) if other is axis else (other,)))
    return replace(program, axes=tuple(axes)), chunk.name


def _unchunked(program: Program) -> Program:
    """``program`` with every axis whole again where an array has both its stretches and positions in them."""
    for chunk in program.axes:
        if chunk.of is not None:
            program = _whole(program, chunk.name, chunk.of.name)
    return program


def _whole(program: Program, chunk: str, name: str) -> Program:
    def joined(node: Node) -> Node | None:
        match node:
            case Reduce(op, Reduce(inner_op, value, inner), over) if (
                op == inner_op and chunk in over and name in inner
            ):
                return Reduce(op, value, inner | over)
        return None

    program = rewrite(program, joined)

    def dims(old: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dim for dim in old if dim != chunk or name not in old)

    return _with_dims(program, dims, lambda old: old - {chunk} if name in old else old)


def _with_dims(
    program: Program,
    dims: Callable[[tuple[str, ...]], tuple[str, ...]],
    chosen: Callable[[Axes], Axes],
) -> Program:
    """``program`` with other dimensions of its arrays, and other axes chosen by its reductions."""
    mapped: dict[Node, Node] = {}
    inputs = tuple(replace(node, dims=dims(node.dims)) for node in program.inputs)
    mapped.update(zip(program.inputs, inputs, strict=True))
    for node in program.nodes:
        if isinstance(node, Input):
            if node not in mapped:
                mapped[node] = replace(node, dims=dims(node.dims), at_start=chosen(node.at_start))
            continue
        new = with_operands(node, tuple(mapped[operand] for operand in operands(node)))
        mapped[node] = replace(new, over=chosen(new.over)) if isinstance(new, Reduce) else new
    outputs = tuple(replace(out, value=mapped[out.value], dims=dims(out.dims)) for out in program.outputs)
    return replace(program, inputs=inputs, outputs=outputs)


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
    return value.axes >= set(loops.units) and (not inside or inside == loops.inside)


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


def _frontier(
    program: Program, later: list[Output], done: set[Node], partial: list[Reduce], loops: Loops
) -> list[Node]:
    """What later stages need of this one: where the walk from their outputs to the inputs stops.

    A statistic that is the same for many units, or known where there are none, is left to a stage of its own.
    """
    nodes = program.nodes
    fused = depending_on(nodes, lambda node: isinstance(node, Reduce) and node in done)
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


class _Layouts:
    """The workspaces of a stage: what it writes to them, and what that is to later stages."""

    def __init__(
        self, program: Program, loops: Loops, compute: str, block_axis: str | None, taken: frozenset[str]
    ) -> None:
        self.outputs: list[Output] = []
        self.inputs: list[Input] = []
        self.counted: list[Axis] = []
        self._program = program
        self._loops = loops
        self._compute = compute
        self._names = names_of(program)
        self._taken = {array.name for array in program.arrays} | taken
        self._block_axis = block_axis

    def row_sized(self, node: Node) -> Node:
        """Kept as it is, one number a row."""
        return self._workspace(node, f"{self._names[node]}_kept", node, self._loops.row_axes, "float64")

    def partial(self, node: Reduce) -> Node:
        """The reduction as one of what units leave of it."""
        loops, kept = self._loops, node.axes
        name = f"{self._names[node]}_{node.op}"
        inside = tuple(axis for axis in loops.domain if axis in loops.inside)
        if node.operand.axes <= set(loops.row_axes):
            stored = self._workspace(node.operand, name, node.operand, loops.row_axes, "float64")
        elif loops.vector in kept:
            stored = self._in_blocks(node, name, inside)
        else:
            # One number a step of the loops around the vectors.
            steps = tuple(axis for axis in inside if axis != loops.vector)
            tiles = (self._count(loops.vector, loops.lanes),) if loops.across and loops.vector else ()
            dims = self._in_order((*loops.units, *tiles, *steps))
            stored = self._workspace(node, name, node.operand, dims, "float64", tiles)
        over = stored.axes - kept
        return Reduce(node.op, stored, over) if over else stored

    def _in_blocks(self, node: Reduce, name: str, inside: tuple[str, ...]) -> Input:
        """One number for each vector lane that a block of rows leaves."""
        loops, kept, units = self._loops, node.axes, self._loops.units
        across = (loops.vector,) if loops.across and loops.vector else ()
        if self._block_axis is None or self._block_axis not in node.over:
            dims = (*units, *(axis for axis in inside if axis in kept), *across)
            return self._workspace(node, name, node.operand, dims, self._compute)
        at = units.index(self._block_axis)
        blocks = self._count(self._block_axis, loops.block)
        within = (axis for axis in (*units[at + 1 :], *inside) if axis in kept)
        dims = (*units[:at], blocks, *within, *across)
        return self._workspace(node, name, node.operand, dims, self._compute, (blocks,))

    def _workspace(
        self,
        value: Node,
        name: str,
        varies: Node,
        dims: tuple[str, ...],
        dtype: str,
        counted: tuple[str, ...] = (),
    ) -> Input:
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        dims = self._arranged(dims)
        self.outputs.append(Output(name, value, dims, dtype, "workspace"))
        # Along axes that the value does not vary over, all positions are the same.
        same = frozenset(dims) - varies.axes - set(counted)
        whole = Input(name, dims, dtype, "workspace")
        self.inputs.append(whole)
        return replace(whole, at_start=same) if same else whole

    def _in_order(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Axes as they lie in memory, what counts stretches of one before it."""
        order = {axis.name: float(at) for at, axis in enumerate(self._program.axes)}
        order |= {axis.name: order[axis.of.name] - 0.5 for axis in self.counted if axis.of}
        return tuple(sorted(names, key=order.__getitem__))

    def _arranged(self, dims: tuple[str, ...]) -> tuple[str, ...]:
        """``dims`` with the axes that count stretches of others right before those."""
        axes = {axis.name: axis for axis in self._program.axes}
        counts = {axis.of.name: name for name in dims if (axis := axes.get(name)) and axis.of}
        moved = {counts[name] for name in dims if name in counts}
        arranged: list[str] = []
        for name in dims:
            if name not in moved:
                arranged += [counts[name], name] if name in counts else [name]
        return tuple(arranged)

    def _count(self, name: str, per: int) -> str:
        """The name of the axis that counts stretches of ``per``."""
        for axis in self.counted:
            if axis.of is not None and axis.of.name == name:
                return axis.name
        of = next(axis for axis in self._program.axes if axis.name == name)
        self.counted.append(_counting(of, per, self._program))
        return self.counted[-1].name


def _counting(axis: Axis, per: int, program: Program) -> Axis:
    taken = {other.name for other in program.axes}
    name = f"{axis.name.replace('*', '_')}_blocks"
    while name in taken:
        name += "_"
    return Axis(name, False, None if axis.size is None else -(-axis.size // per), of=axis, per=per)


def _used(program: Program, arrays: Iterable[Input]) -> tuple[Input, ...]:
    """Those of ``arrays`` that ``program`` reads."""
    names = {node.name for node in program.nodes if isinstance(node, Input)}
    return tuple(array for array in arrays if array.name in names)


def _with_values(program: Program, outputs: list[Output], replaced: dict[Node, Node]) -> list[Output]:
    mapped = dict(replaced)
    for node in program.nodes:
        if node not in mapped:
            mapped[node] = with_operands(node, tuple(mapped[operand] for operand in operands(node)))
    return [replace(out, value=mapped[out.value]) for out in outputs]
