"""Where things lie, with blocks of rows whose number a launch tells.

sum[n](dy) [d], n in blocks    -->    dbias_sum [n_blocks d], a block being n_per rows
"""

from __future__ import annotations

from dataclasses import dataclass, field

from lncompile.emit.cuda.words import RESERVED
from lncompile.emit.nest import Array, AxisNames, Nest, identifier
from lncompile.ir import Axis, Input, Output, Program, Reduce


class LaunchNames(AxisNames):
    """The variables of one phase's kernels; ``blocks`` are the axes that a launch cuts into blocks."""

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        #: The axis that each number of blocks is of, by the name of that number.
        self.blocks: dict[str, Axis] = {}

    def index(self, axis: Axis) -> str:
        """The index variable of an axis."""
        name = super().index(axis)
        return f"{name}_" if name in RESERVED else name

    def size(self, axis: Axis) -> str:
        """The number of positions, as a C expression."""
        if axis.of is not None and not axis.per:
            return self.count(axis.of)
        return super().size(axis)

    def count(self, axis: Axis) -> str:
        """The variable for the number of blocks of an axis."""
        name = f"{self.index(axis)}_blocks"
        self.blocks[name] = axis
        return name

    def per(self, axis: Axis) -> str:
        """The variable for the number of positions in a block."""
        return f"{self.index(axis)}_per"


@dataclass(frozen=True)
class TeamNest(Nest):
    """The loops of one stage, in which axes inside the one in blocks are units where that is possible."""

    names: LaunchNames = field()

    def length(self, name: str) -> str:
        """The number of positions along an axis that a unit runs over: a number or a variable."""
        stretch, size = self.stretch_of(name), self.axes[name].size
        if stretch is not None and size is not None and size % stretch.per == 0:
            return str(stretch.per)
        return super().length(name)

    def lengths(self, *, of_rows: bool) -> list[str]:
        """Lines that give the lengths of stretches that a unit has one of, or that each of its rows has."""
        lines = super().lengths(of_rows=of_rows)
        return [line.replace(" = min(", " = at_most(") for line in lines if not line[0].isdigit()]

    def is_tiled(self, array: Array) -> bool:
        """Never: threads read columns as they lie."""
        return False

    def is_shared(self, node: Input) -> bool:
        """Whether several threads read the same elements of an input, as those of a row do what is row-sized.

        Of other arrays a thread reads what it writes to itself, and the first elements of a row before all
        threads of the row have met.
        """
        return not (node.axes & self.loops.inside and node.axes >= set(self.loops.domain))

    @property
    def shared(self) -> tuple[str, ...]:
        """The arrays with such inputs."""
        inputs = [node for node in self.stage.program.nodes if isinstance(node, Input)]
        return tuple(dict.fromkeys(node.array for node in inputs if self.is_shared(node)))

    @property
    def words(self) -> set[str]:
        """The variables for indices, sizes and lengths."""
        return super().words | {name for axis in self.axes.values() for name in _of_blocks(self.names, axis)}

    @property
    def within(self) -> tuple[str, ...]:
        """The axes inside the one in blocks that a team loops over, outer to inner: a sum is over them."""
        sums = [out for out in self.stage.program.outputs if self.in_blocks(out)]
        return tuple(name for name in super().within if any(name not in out.dims for out in sums))

    def in_blocks(self, out: Output) -> bool:
        """Whether an output is a sum over the rows of a block."""
        return isinstance(out.value, Reduce) and any(self._is_block(name) for name in out.dims)

    @property
    def counts(self) -> list[tuple[str, str]]:
        """Index variable and number of positions of each axis of units, outer to inner, as C expressions."""
        block = self.stage.block_axis
        counted = []
        for name in self.loops.units:
            if name == block:
                counted.append((self.block_index, self.names.count(self.axes[name])))
            elif name not in self.within:
                counted.append((self.index(name), self.size(name)))
        if self.loops.across and self.loops.vector:
            counted.append(("i", self.size(self.loops.vector)))
        return counted

    def index(self, name: str) -> str:
        """The index variable of an axis."""
        return "i" if self._is_tile(name) else super().index(name)


def _of_blocks(names: LaunchNames, axis: Axis) -> set[str]:
    whole = axis.of or axis
    return {f"{names.index(whole)}_blocks", f"{names.index(whole)}_per", identifier(whole.name)}
