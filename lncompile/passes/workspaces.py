"""What a stage leaves for later ones, and how it lies in memory.

t = rstd [n]                        one number a row:             t_kept     [n]
sum[n](dy) [d], loops d             one a lane and block:         dbias_sum  [n_blocks d]
sum[n hw](dy) [g c], loops c hw     one a step of the loops:      dbias_sum  [n g c]
"""

from __future__ import annotations

from dataclasses import replace

from lncompile.ir import Axis, Binary, Const, Input, Node, Output, Program, Reduce, Select
from lncompile.passes.loops import Loops
from lncompile.passes.stretches import counting
from lncompile.printer import names_of


def as_number(value: Node) -> Node:
    """What a workspace has of a value: of a truth value 1.0 or 0.0."""
    return value if value.kind == "real" else Select(value, Const(1.0), Const(0.0))


def as_it_was(value: Node, stored: Node) -> Node:
    """``value`` from what a workspace has of it."""
    return stored if value.kind == "real" else Binary("ne", stored, Const(0.0))


class Workspaces:
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
        self._taken = set(program.names | taken)
        self._block_axis = block_axis

    def row_sized(self, node: Node) -> Node:
        """Kept as it is, one number a row."""
        name = f"{self._names[node]}_kept"
        stored = self._workspace(as_number(node), name, node, self._loops.row_axes, "float64")
        return as_it_was(node, stored)

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
        blocks = self._count(self._block_axis, loops.block, loops.most_block)
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

    def _count(self, name: str, per: int, most: int = 0) -> str:
        """The name of the axis that counts stretches of ``per``, or of up to ``most``."""
        for axis in self.counted:
            if axis.of is not None and axis.of.name == name:
                return axis.name
        of = next(axis for axis in self._program.axes if axis.name == name)
        self.counted.append(counting(of, per, self._program, most))
        return self.counted[-1].name
