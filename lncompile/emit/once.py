"""The kernel of a combine program: adds up the sums of all blocks, in order, and finishes.

Everything is in float64, so the sums of blocks round once, when the result is stored.
"""

from __future__ import annotations

from dataclasses import dataclass

from lncompile.emit.loops import Left, Row, loaded, repeated, stored
from lncompile.emit.scope import Scope, Width
from lncompile.emit.statistics import statistics
from lncompile.emit.templates import fill
from lncompile.ir import Input, Output, Program, Reduce
from lncompile.schedule.cpu import RowsSchedule


@dataclass(frozen=True)
class CombineKernel:
    """A combine program, the order of sums in the blocks' workspaces, and the schedule of the rows kernel."""

    program: Program
    sums: tuple[str, ...]
    scalar_sums: tuple[str, ...]
    schedule: RowsSchedule

    @property
    def features(self) -> int:
        """The number of features; 1 where the program has none."""
        return self.program.count(self.program.features)

    @property
    def in_tiles(self) -> bool:
        """Whether the features can be cut into independent tiles: no reduction runs over them."""
        return not any(isinstance(node, Reduce) for node in self.program.nodes)

    @property
    def tiles(self) -> int:
        """The number of units of work."""
        return -(-self.features // self.schedule.combine_lanes) if self.in_tiles else 1

    def lines(self) -> list[str]:
        """The body of the kernel."""
        program = self.program
        scope = Scope(program, next(iter(program.features), None))
        width = Width("float64", self.schedule.combine_lanes)
        row = Row(
            scope,
            self.features,
            width,
            min(self.schedule.pivot_lanes, width.lanes),
            self.schedule.steps_to_total,
            self._load,
            careful=True,
        )
        blocks = [f"blocks = (rows + {self.schedule.block_rows - 1}) // {self.schedule.block_rows}"]
        once = [
            *(blocks if self.sums or self.scalar_sums else []),
            *self._scalars(scope),
            *statistics(row, program.nodes),
        ]
        scalars = [
            f"write({out.name}, 0, {scope.vector_operand(out.value, width)})"
            for out in program.outputs
            if not out.dims
        ]
        elements = [out for out in program.outputs if out.dims]
        if not self.in_tiles or not elements:
            loop = row.loop(lambda left: self._step(row, elements, left)) if elements else []
            return fill("cpu/once.py", "once", {"everything": [*once, *scalars, *loop]})
        if scalars:
            # Whoever does the first tile writes what is not per feature.
            once += ["if begin == 0:", *("    " + line for line in scalars)]
        left: Left = None
        tile: list[str] = []
        if self.features % width.lanes:
            left = "count"
            tile.append(f"count = min({width.lanes}, {self.features} - i)")
        tile += self._step(row, elements, left)
        return fill("cpu/once.py", "once_in_tiles", {"once": once, "tile": tile}, LANES=width.lanes)

    def _step(self, row: Row, outputs: list[Output], left: Left) -> list[str]:
        lines = row.vectors([out.value for out in outputs], row.width, left)
        return lines + [stored(f"{out.name}, i", repeated(row, out.value), left) for out in outputs]

    def _scalars(self, scope: Scope) -> list[str]:
        lines = []
        for node in self.program.inputs:
            if scope.is_vector(node):
                continue
            name = scope.names[node]
            if node.role == "workspace":
                place = f"block * {len(self.scalar_sums)} + {self.scalar_sums.index(node.name)}"
                add = [f"{name} += read(partial_scalars, {place})"]
                lines += [f"{name} = 0.0", *fill("cpu/once.py", "over_blocks", {"add": add})]
            else:
                lines.append(f"{name} = read({node.name}, 0)")
        return lines

    def _load(self, node: Input, name: str, width: Width, left: Left) -> list[str]:
        if node.role != "workspace":
            return [f"{name} = {loaded(f'{node.name}, i', width, left, node.dtype)}"]
        stride, offset = len(self.sums) * self.features, self.sums.index(node.name) * self.features
        place = f"partial, block * {stride} + {offset} + i"
        add = [f"{name} += {loaded(place, width, left, node.dtype)}"]
        return [f"{name} = {width.filled('0.0')}", *fill("cpu/once.py", "over_blocks", {"add": add})]
