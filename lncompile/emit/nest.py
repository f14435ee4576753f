"""Where things lie: the indices of a unit of work, the sizes of axes, and the offsets of arrays, as text.

    domain n [c] hw, x [n c hw], weight [c]     -->     x_row = advance(x, n * (c_size * hw_size) + ...)

Unit axes have an index variable each, loops one inside the unit; the vector axis has ``i``.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, TypeVar

from lncompile.emit.names import RESERVED
from lncompile.ir import Axes, Axis, Input, Output, Part, Program, Reduce
from lncompile.passes.loops import Loops
from lncompile.passes.stages import Stage

Array = Input | Output
#: An axis, or the number of positions of one of which a part has a single position.
Dim = str | int
AnyDim = TypeVar("AnyDim", str, Dim)


class AxisNames:
    """The variables of one phase's kernels: one for each size that only a call tells."""

    def __init__(self, program: Program) -> None:
        unknown = [axis for axis in program.axes if axis.size is None]
        #: What a size variable stands for, in order.
        self.sizes: dict[str, Axis] = {}
        self._size_of: dict[str, str] = {}
        self._alone = unknown[0].name if len(unknown) == 1 else None
        for axis in unknown:
            variable = "rows" if self._alone else f"{identifier(axis.name)}_size"
            self.sizes[variable] = axis
            self._size_of[axis.name] = variable

    def index(self, axis: Axis) -> str:
        """The index variable of an axis."""
        if axis.name == self._alone:
            return "row"
        if axis.of is not None:
            return "block" if axis.of.name == self._alone else f"{identifier(axis.of.name)}_block"
        return identifier(axis.name)

    def size(self, axis: Axis) -> str:
        """The number of positions, as a C expression."""
        if axis.size is not None:
            return str(axis.size)
        if axis.name in self._size_of:
            return self._size_of[axis.name]
        if axis.parts:
            return product(self.size(part) for part in axis.parts)
        assert axis.of is not None, f"nothing tells the size of {axis.name}"
        return stretches(self.size(axis.of), self.stretch(axis.of, axis.per, axis.most))

    def stretch(self, of: Axis, per: int, most: int) -> str:
        """How many positions stretches of ``per`` to ``most`` have, as a C expression.

        They grow with the number of positions, in multiples of ``per``. From 8 to 64: 64 positions make 8
        stretches of 8, 256 make 16 of 16, 1024 make 26 of 40, 4096 make 74 of 56. So threads have work where
        positions are few, and there is little to add up where they are many.
        """
        if of.size is not None or most <= per:
            return str(per)
        size = self.size(of)
        return f"{per} * ({product([size, str(most // per)])} / ({size} + 1024) + 1)"


def stretches(size: str, per: str) -> str:
    """The number of stretches of ``per`` positions that cover ``size``, as a C expression."""
    if per.isdigit():
        return size if per == "1" else f"({size} + {int(per) - 1}) / {per}"
    return f"({size} + {per} - 1) / {_operand(per)}"


#: What variables of an axis end in, and the names of axes that are others' with this behind.
_ENDS = ("_size", "_length", "_block", "_blocks", "_rows", "_per", "_next", "_")


def identifier(name: str) -> str:
    """An axis' name as a Python name: ``n*h`` as ``n_h``, ``i``, which kernels use themselves, as ``i_``."""
    words = re.sub(r"\W+", "_", name.replace("...", "dots"))
    taken = words in RESERVED or keyword.iskeyword(words) or words.endswith(_ENDS)
    return f"{words}_" if taken else words


def product(factors: Iterable[str]) -> str:
    """The product of expressions, numbers multiplied out."""
    number, others = 1, []
    for factor in factors:
        if factor.isdigit():
            number *= int(factor)
        else:
            others.append(factor)
    if number != 1 or not others:
        others.append(str(number))
    return " * ".join(map(_operand, others)) if len(others) > 1 else others[0]


def _operand(expression: str) -> str:
    return expression if expression.isidentifier() or expression.isdigit() else f"({expression})"


def as_python(expression: str) -> str:
    """A C expression of sizes, none of which is negative, as Python."""
    return expression.replace("/", "//")


def _varying(array: Array) -> Axes:
    """The dimensions of an array along which its elements are looked at."""
    return array.axes if isinstance(array, Input) else frozenset(array.dims)


@dataclass(frozen=True)
class Nest:
    """The loops of one stage."""

    stage: Stage
    names: AxisNames

    @property
    def loops(self) -> Loops:
        """The stage's loops."""
        return self.stage.loops

    @cached_property
    def axes(self) -> Mapping[str, Axis]:
        """The stage's axes by name."""
        return {axis.name: axis for axis in self.stage.program.axes}

    @property
    def steps(self) -> tuple[str, ...]:
        """The axes that a unit loops over around its vectors, outer to inner."""
        return tuple(n for n in self.loops.domain if n in self.loops.inside and n != self.loops.vector)

    @property
    def vector(self) -> Axis | None:
        """The axis in the lanes."""
        return self.axes[self.loops.vector] if self.loops.vector else None

    @property
    def words(self) -> set[str]:
        """The variables for indices, sizes and lengths."""
        indices = {self.index(name) for name in self.loops.domain} | {index for index, _ in self.counts}
        indices |= {self.block_length} if self.stage.block_axis else set()
        indices |= {f"{self.index(name)}_rows" for name in self._counted}
        return indices | {self.length(name) for name in self.loops.inside} | set(self.names.sizes)

    def whole(self, dims: tuple[AnyDim, ...]) -> tuple[AnyDim, ...]:
        """``dims`` without the stretches of an axis that stands beside them."""
        after: tuple[Dim, ...] = (*dims[1:], "")
        return tuple(n for n, inner in zip(dims, after, strict=False) if not self._is_stretch(n, inner))

    def positions(self, dims: tuple[Dim, ...]) -> str:
        """The number of positions along all of ``dims``, as a C expression."""
        sizes = (str(dim) if isinstance(dim, int) else self.size(dim) for dim in self.whole(dims))
        return product(sizes)

    def size(self, name: str) -> str:
        """The number of positions of an axis, as a C expression."""
        return self.names.size(self.axes[name])

    def index(self, name: str) -> str:
        """The index variable of an axis."""
        if name == self.loops.vector:
            return "i"
        if self._is_tile(name):
            return "tile"
        if self._is_block(name):
            return self.block_index
        return self.names.index(self.axes[name])

    @property
    def block_index(self) -> str:
        """The index variable of blocks."""
        index = self.index(self.stage.block_axis or "")
        return "block" if index == "row" else f"{index}_block"

    def stretch_of(self, name: str) -> Axis | None:
        """The axis that counts the stretches of ``name`` that a unit takes one of."""
        found = (a for a in map(self.axes.get, self.loops.domain) if a and a.of and a.of.name == name)
        return next(found, None)

    def length(self, name: str) -> str:
        """The number of positions along an axis that a unit runs over: a number or a variable."""
        if self.stretch_of(name) is not None:
            return f"{identifier(name)}_length"
        return f"{self.index(name)}s" if name in self._counted else self.size(name)

    @cached_property
    def _counted(self) -> dict[str, tuple[str, str]]:
        """The axes that a unit runs over and that count stretches which grow: positions, and those of one."""
        counted = {
            name: (self.names.size(axis.of), self.names.stretch(axis.of, axis.per, axis.most))
            for name, axis in self.axes.items()
            if axis.of is not None and name in self.loops.inside
        }
        return {name: (size, length) for name, (size, length) in counted.items() if not length.isdigit()}

    def lengths(self, *, of_rows: bool) -> list[str]:
        """Lines that give the lengths of stretches that a unit has one of, or that each of its rows has."""
        lines = []
        for name in sorted(self.loops.inside):
            stretch = self.stretch_of(name)
            if stretch is not None and of_rows == (stretch.name in (*self.within, self.stage.block_axis)):
                start = f"{self.names.index(stretch)} * {stretch.per}"
                size = as_python(self.size(name))
                lines.append(f"{self.length(name)} = min({stretch.per}, {size} - {start})")
        return lines

    # Units of work

    unit_index: ClassVar[str] = "unit"

    @property
    def counts(self) -> list[tuple[str, str]]:
        """Index variable and number of positions of each axis of units, outer to inner, as C expressions."""
        block = self.stage.block_axis
        counted = []
        for name in self.loops.units:
            if name == block:
                counted.append((self.block_index, self._blocks))
                break
            counted.append((self.index(name), self.size(name)))
        if self.loops.across and self.loops.vector:
            counted.append(("tile", stretches(self.size(self.loops.vector), str(self.loops.lanes))))
        return counted

    @property
    def units(self) -> str:
        """The number of units, as a C expression."""
        return product(size for _, size in self.counts)

    @property
    def within(self) -> tuple[str, ...]:
        """The axes inside the axis whose blocks are units, outer to inner."""
        block = self.stage.block_axis
        return self.loops.units[self.loops.units.index(block) + 1 :] if block else ()

    @property
    def _blocks(self) -> str:
        """The number of blocks, as a C expression."""
        return stretches(self.size(self.stage.block_axis or ""), self._block_rows)

    @property
    def _block_rows(self) -> str:
        """The number of rows of a block, as a C expression."""
        block = self.axes[self.stage.block_axis or ""]
        return self.names.stretch(block, self.loops.block, self.loops.most_block)

    @property
    def block_length(self) -> str:
        """The number of rows of a block: a number or a variable."""
        return self._block_rows if self._block_rows.isdigit() else f"{self.block_index}_rows"

    def counted(self) -> list[str]:
        """Lines that give the numbers of blocks, and of rows of one, that a call tells."""
        lines = []
        if self.stage.block_axis and not self._block_rows.isdigit():
            lines.append(f"{self.block_length} = {as_python(self._block_rows)}")
        for name, (size, length) in self._counted.items():
            variable = f"{self.index(name)}_rows"
            lines.append(f"{variable} = {as_python(length)}")
            lines.append(f"{self.length(name)} = {as_python(stretches(size, variable))}")
        return lines

    @property
    def rows_of_block(self) -> tuple[str, str]:
        """The first of the rows of a block, and where they end."""
        first = f"{self.block_index} * {self.block_length}"
        rows = as_python(self.size(self.stage.block_axis or ""))
        return first, f"min({first} + {self.block_length}, {rows})"

    @property
    def rows_in_common(self) -> tuple[str, str]:
        """The first of the rows that one loop goes over, and where they end."""
        if not self.stage.block_axis:
            return "begin", "end"
        return ("0", as_python(self.size(self.within[-1]))) if self.within else self.rows_of_block

    @property
    def row_counter(self) -> str:
        """The variable that counts them."""
        if not self.stage.block_axis:
            return self.indices()[0]
        return self.index(self.within[-1] if self.within else self.stage.block_axis)

    def start_of_rows(self, array: Array) -> str | None:
        """The offset of row-sized values from the row ``from_row`` on, if they lie one behind the other."""
        if not self.stage.block_axis and len(self.loops.units) > 1:
            return "from_row" if array.layout == self.loops.units else None
        name = (self.within or (self.stage.block_axis,) if self.stage.block_axis else self.loops.units)[-1]
        if name not in self.unit_axes(array) or self.stride(array, name) != "1":
            return None
        return re.sub(rf"\b{self.index(name)}\b", "from_row", self.offset(array, self.unit_axes(array)))

    def indices(self) -> tuple[str, list[str]]:
        """The variable that counts units, and lines that give the indices of one."""
        counts = [(index, as_python(size)) for index, size in self.counts]
        unit = self.unit_index
        if not counts:
            return unit, []
        if len(counts) == 1:
            return counts[0][0], []
        lines = []
        for at, (index, size) in enumerate(counts):
            inner = product(size for _, size in counts[at + 1 :])
            quotient = unit if inner == "1" else f"{unit} // {_operand(inner)}"
            lines.append(f"{index} = {quotient}" if at == 0 else f"{index} = {quotient} % {_operand(size)}")
        return unit, lines

    @property
    def unit_work(self) -> str:
        """The number of elements that a unit goes over at most, as a C expression."""
        sizes = []
        for name in self.loops.inside:
            stretch = self.stretch_of(name)
            sizes.append(self.size(name) if stretch is None else str(stretch.per))
        if self.loops.across:
            sizes.append(str(self.loops.lanes))
        if self.stage.block_axis:
            sizes.append(self._block_rows)
            sizes += [self.size(name) for name in self.within]
        return product(sizes)

    # Arrays

    def stride(self, array: Array, name: str) -> str:
        """How many elements lie from one position along ``name`` to the next, as a C expression."""
        inner = array.layout[array.layout.index(name) + 1 :]
        axis = self.axes[name]
        if axis.of is not None and inner[:1] == (axis.of.name,):
            return product([str(axis.per), self.positions(inner[1:])])
        return self.positions(inner)

    def _is_stretch(self, dim: Dim, after: Dim) -> bool:
        of = self.axes[dim].of if isinstance(dim, str) else None
        return of is not None and of.name == after

    def part_pointers(self) -> list[str]:
        """Lines that make the pointers to parts of arrays."""
        lines = []
        for array in self.stage.program.arrays:
            if array.part is not None:
                offset = self._part_offset(array.part)
                start = array.array if offset == "0" else f"advance({array.array}, {offset})"
                lines.append(f"{array.name} = {start}")
        return lines

    def _part_offset(self, part: Part) -> str:
        """How many elements lie before a part."""
        places = [index for index, dim in enumerate(part.layout) if isinstance(dim, int)]
        terms = [
            product([str(at), self.positions(part.layout[place + 1 :])])
            for at, place in zip(part.at, places, strict=True)
            if at
        ]
        if all(term.isdigit() for term in terms):
            return str(sum(map(int, terms)))
        return as_python(" + ".join(terms))

    def offset(self, array: Array, names: Iterable[str]) -> str:
        """The offset of an array's element at the current indices of these axes."""
        terms = []
        names = _varying(array) & frozenset(names)
        for name in array.dims:
            if name not in names:
                continue
            stride = as_python(self.stride(array, name))
            index = self.index(name)
            terms.append(index if stride == "1" else f"{index} * {_operand(stride)}")
        return " + ".join(terms) or "0"

    def _is_block(self, name: str) -> bool:
        of = self.axes[name].of
        return of is not None and of.name == self.stage.block_axis and name not in self.loops.domain

    def unit_axes(self, array: Array) -> list[str]:
        """The axes of an array of which a row has one position."""
        tiles = [n for n in array.dims if self._is_tile(n)]
        known = {*self.loops.units, *tiles, *(n for n in array.dims if self._is_block(n))}
        return [name for name in array.dims if name in known & _varying(array)]

    def _is_tile(self, name: str) -> bool:
        of = self.axes[name].of
        return of is not None and self.loops.across and of.name == self.loops.vector

    def step_axes(self, array: Array) -> list[str]:
        """The axes of an array that a unit loops over around its vectors."""
        return [name for name in array.dims if name in self.steps and name in _varying(array)]

    def has_tile(self, array: Array) -> bool:
        """Whether a unit has vectors of an array that are whole, wherever they lie."""
        return self.is_tiled(array) or self.is_windowed(array)

    def is_tiled(self, array: Array) -> bool:
        """Whether an array's rows, side by side in the lanes, go through scratch memory as columns."""
        innermost = (self.loops.vector, *self.steps)
        return len(innermost) == 2 and array.layout[-2:] == innermost and self._in_tiles(array)

    def is_windowed(self, array: Array) -> bool:
        """Whether an array's columns, side by side in the lanes, go through scratch memory in some units."""
        innermost = (*self.steps, self.loops.vector)
        adjacent = len(innermost) == 2 and array.layout[-2:] == innermost
        return adjacent and self._in_tiles(array) and bool(self.packed_if)

    def _in_tiles(self, array: Array) -> bool:
        """Whether a unit has a tile of an array, rows side by side in the lanes."""
        if not self.loops.across:
            return False
        if isinstance(array, Output):
            return not (isinstance(array.value, Reduce) and array.value.over != self.loops.inside)
        # A tile holds the rows of the unit: not what lies at the start of an axis of units.
        return array.at_start <= self.loops.inside and array.name in self._read_whole

    @property
    def packed_if(self) -> str:
        """When columns of one loop go through scratch memory, as Python: if lanes are left over; else empty.

        Columns of rows a power of two apart, whose lines are in few sets of the caches, gain nothing by it:
        batch norm of 64x2048 in the caches (Zen 1), ns an element, where they lie and packed, forward 1.15
        and 0.97, backward 1.27 and 1.53; 64x512 0.67 and 0.92, 1.09 and 1.44.
        """
        if not self.length(self.steps[0]).isdigit() or self.vector is None:
            return ""
        lanes, size = self.loops.lanes, self.vector.size
        return f"count < {lanes}" if size is None or size % lanes else ""

    def window(self, array: Array) -> str:
        """The arguments that say where the columns of a unit lie."""
        assert self.vector is not None
        offset = self.offset(array, self.unit_axes(array))
        start = "i" if offset == "0" else f"{offset} + i"
        row, rows = as_python(self.size(self.vector.name)), self.length(self.steps[0])
        return f"{start}, count, {row}, {rows}, {self.loops.lanes}"

    @cached_property
    def _read_whole(self) -> set[str]:
        """The arrays of which a unit reads more than the first elements of rows."""
        inputs = [node for node in self.stage.program.nodes if isinstance(node, Input)]
        return {node.name for node in inputs if not node.at_start & self.loops.inside}

    def tile(self, array: Array) -> str:
        """The arguments that say where a tile of rows lies, and how large it is."""
        length, lanes = self.length(self.steps[0]), self.loops.lanes
        assert self.vector is not None
        whole = self.vector.size is not None and self.vector.size % lanes == 0
        return f"{self.start_of_tile(array)}, {lanes if whole else 'count'}, {length}, {lanes}"

    def start_of_tile(self, array: Array) -> str:
        """The offset of a tile of rows."""
        (step,) = self.steps
        length, offset = self.length(step), self.offset(array, self.unit_axes(array))
        return f"i * {length}" if offset == "0" else f"{offset} + i * {length}"

    def row_pointer(self, array: Array) -> str:
        """The name of the pointer to an array's part that belongs to a row."""
        if self.has_tile(array):
            return f"{array.name}_tile"
        return f"{array.name}_row" if self.unit_axes(array) else array.name

    def step_pointer(self, array: Array) -> str:
        """The name of the pointer to what a step of the loops around the vectors goes over."""
        return f"{array.name}_at" if self.step_axes(array) else self.row_pointer(array)

    def row_pointers(self, arrays: Iterable[Array]) -> list[str]:
        """Lines that make the pointers to a row."""
        lines = []
        for array in arrays:
            axes, pointer = self.unit_axes(array), self.row_pointer(array)
            if self.is_windowed(array):
                made = "window" if isinstance(array, Input) else "window_for"
                lines.append(f"{pointer} = {made}({array.name}, {self.window(array)}, packed)")
            elif self.is_tiled(array) and isinstance(array, Input):
                lines.append(f"{pointer} = columns({array.name}, {self.tile(array)})")
            elif self.is_tiled(array):
                lines.append(
                    f"{pointer} = columns_for({array.name}, {self.length(self.steps[0])}, {self.loops.lanes})"
                )
            elif axes:
                lines.append(f"{pointer} = advance({array.name}, {self.offset(array, axes)})")
        return lines

    def step_pointers(self, arrays: Iterable[Array]) -> list[str]:
        """Lines that make the pointers to a step."""
        lines = []
        for array in arrays:
            axes = self.step_axes(array)
            offset = self.offset(array, axes)
            if self.is_windowed(array):
                offset = f"{self.index(axes[0])} * apart"
            elif self.is_tiled(array):
                offset = f"{self.index(axes[0])} * {self.loops.lanes}"
            if axes:
                lines.append(f"{self.step_pointer(array)} = advance({self.row_pointer(array)}, {offset})")
        return lines
