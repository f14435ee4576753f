"""Short rows side by side in the lanes: a tile of rows as columns in scratch memory, and back.

    memory, 4 rows of 3:  a0 a1 a2 b0 b1 b2 c0 c1 c2 d0 d1 d2
    scratch, 4 lanes:     a0 b0 c0 d0   a1 b1 c1 d1   a2 b2 c2 d2

Blocks of rows and columns are transposed in registers, by log2(columns) shuffles a vector, each of which is
one instruction. Hardware gathers take one load an element: rows of 8 features took twice as long with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import llvmlite.ir as lir
from numba.core import cgutils, types
from numba.extending import intrinsic

from lncompile.backends.cpu.lanes import joined, shuffled
from lncompile.backends.cpu.scratch import scratch_memory
from lncompile.backends.cpu.vectors import I64, store_past_caches

#: Instructions that take elements of two registers in turns do so in each part of so many bytes.
_PART_BYTES = 16


@intrinsic(prefer_literal=True)
def columns(typing_context: Any, pointer: Any, start: Any, count: Any, length: Any, lanes: Any) -> Any:
    tile = _Tile(pointer, length, lanes)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        source = builder.gep(args[0], [args[1]])
        scratch = tile.scratch(context, builder)
        with builder.if_else(builder.icmp_signed("==", args[2], I64(tile.lanes))) as (whole, partial):
            with whole:
                for rows, first_row, width, first_column in tile.blocks(context):
                    vectors = tile.load_rows(builder, source, rows, first_row, width, first_column)
                    for at, vector in enumerate(tile.transposed(builder, vectors, width)):
                        tile.store_lanes(builder, scratch, first_column + at, first_row, vector)
            with partial:
                # Lanes past the last row hold that row again.
                last = builder.sub(args[2], I64(1))
                with cgutils.for_range(builder, I64(tile.lanes)) as rows_loop:
                    lane = rows_loop.index
                    row = builder.select(builder.icmp_signed("<", lane, last), lane, last)
                    with cgutils.for_range(builder, I64(tile.length)) as loop:
                        value = builder.load(tile.element(builder, source, row, loop.index))
                        builder.store(value, tile.lane(builder, scratch, loop.index, lane))
        return scratch

    return pointer(pointer, types.int64, types.int64, length, lanes), generate


@intrinsic(prefer_literal=True)
def columns_for(typing_context: Any, pointer: Any, length: Any, lanes: Any) -> Any:
    tile = _Tile(pointer, length, lanes)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return tile.scratch(context, builder)

    return pointer(pointer, length, lanes), generate


@intrinsic(prefer_literal=True)
def store_rows(
    typing_context: Any,
    pointer: Any,
    start: Any,
    count: Any,
    length: Any,
    lanes: Any,
    scratch: Any,
) -> Any:
    tile = _Tile(pointer, length, lanes)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        target = builder.gep(args[0], [args[1]])
        scratch = args[5]
        with builder.if_else(builder.icmp_signed("==", args[2], I64(tile.lanes))) as (whole, partial):
            with whole:
                tile.store_all_rows(context, builder, scratch, target)
            with partial, cgutils.for_range(builder, args[2]) as rows_loop:
                row = rows_loop.index
                with cgutils.for_range(builder, I64(tile.length)) as loop:
                    value = builder.load(tile.lane(builder, scratch, loop.index, row))
                    builder.store(value, tile.element(builder, target, row, loop.index))
        return context.get_dummy_value()

    signature = types.void(pointer, types.int64, types.int64, length, lanes, scratch)
    return signature, generate


@intrinsic(prefer_literal=True)
def stream_rows(
    typing_context: Any, pointer: Any, start: Any, length: Any, lanes: Any, scratch: Any, boundary: Any
) -> Any:
    tile = _Tile(pointer, length, lanes)
    line = int(boundary.literal_value) // tile.itemsize

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        target = builder.gep(args[0], [args[1]])
        rows = tile.scratch(context, builder)
        if tile.length % line:  # else what is written in parts is written in order
            rows = _opaque(builder, rows)
        tile.store_all_rows(context, builder, args[4], rows)
        with cgutils.for_range(builder, I64(tile.lanes * tile.length // line)) as loop:
            offset = builder.mul(loop.index, I64(line))
            vector = builder.load(tile.at(builder, rows, offset, line), align=boundary.literal_value)
            store_past_caches(builder, vector, tile.at(builder, target, offset, line), boundary.literal_value)
        return context.get_dummy_value()

    return types.void(pointer, types.int64, length, lanes, scratch, boundary), generate


class _Tile:
    """``lanes`` rows of ``length`` elements, one behind the other in memory."""

    def __init__(self, pointer: Any, length: Any, lanes: Any) -> None:
        self.kind = pointer.dtype
        self.itemsize = self.kind.bitwidth // 8
        self.length = int(length.literal_value)
        self.lanes = int(lanes.literal_value)

    def scratch(self, context: Any, builder: Any) -> Any:
        """Memory of the function for a tile, column after column."""
        return scratch_memory(builder, context.get_value_type(self.kind), self.length * self.lanes)

    def blocks(self, context: Any) -> Iterator[tuple[int, int, int, int]]:
        """Rows, first row, columns and first column of blocks that cover the tile; columns a power of two."""
        # As many as a register holds; elements of 16 bits are transposed like those of 32.
        rows = min(context.lnc_target.vector_bytes // max(self.itemsize, 4), self.lanes)
        widest = rows
        if context.lnc_target.vector_bytes == 2 * _PART_BYTES:
            # Loads and stores of a part each take less than parts that change places.
            widest = min(rows, _PART_BYTES // self.itemsize)
        column = 0
        while column < self.length:
            width = min(widest, 1 << (self.length - column).bit_length() - 1)
            for row in range(0, self.lanes, rows):
                yield rows, row, width, column
            column += width

    def element(self, builder: Any, start: Any, row: Any, column: Any) -> Any:
        """The address of an element in memory."""
        return builder.gep(start, [builder.add(builder.mul(row, I64(self.length)), column)])

    def lane(self, builder: Any, scratch: Any, column: Any, lane: Any) -> Any:
        """The address of an element in the scratch memory."""
        return builder.gep(scratch, [builder.add(builder.mul(column, I64(self.lanes)), lane)])

    def load_rows(
        self, builder: Any, start: Any, rows: int, first_row: int, width: int, column: int
    ) -> list[Any]:
        """``width`` vectors: the rows ``k``, ``k + width``, ``k + 2 * width``, ... one behind the other."""
        vectors = []
        for k in range(first_row, first_row + width):
            parts = [
                builder.load(self._row(builder, start, row, width, column), align=self.itemsize)
                for row in range(k, k + rows, width)
            ]
            vectors.append(joined(builder, parts))
        return vectors

    def store_all_rows(self, context: Any, builder: Any, scratch: Any, target: Any) -> None:
        """All columns of ``scratch``, written as rows."""
        for rows, first_row, width, first_column in self.blocks(context):
            vectors = [
                self.load_lanes(builder, scratch, first_column + at, first_row, rows) for at in range(width)
            ]
            self.store_rows(
                builder, target, self.transposed(builder, vectors, width), first_row, width, first_column
            )

    def store_rows(
        self, builder: Any, start: Any, vectors: list[Any], first_row: int, width: int, column: int
    ) -> None:
        """What :meth:`load_rows` gives, written."""
        for k, vector in enumerate(vectors):
            for part in range(vector.type.count // width):
                lanes = list(range(part * width, (part + 1) * width))
                address = self._row(builder, start, first_row + part * width + k, width, column)
                builder.store(shuffled(builder, vector, vector, lanes), address, align=self.itemsize)

    def load_lanes(self, builder: Any, scratch: Any, column: int, lane: int, count: int) -> Any:
        """``count`` lanes of a column, by a load of all of them.

        That is how columns are stored, so LLVM keeps them in registers. Loads of a part of what was stored
        became shifts of an integer of 1024 bits, lane by lane.
        """
        whole = builder.load(
            self._vector(builder, scratch, column * self.lanes, self.lanes), align=self.itemsize
        )
        return shuffled(builder, whole, whole, list(range(lane, lane + count)))

    def store_lanes(self, builder: Any, scratch: Any, column: int, lane: int, vector: Any) -> None:
        """Write a vector into a column."""
        address = self._vector(builder, scratch, column * self.lanes + lane, vector.type.count)
        builder.store(vector, address, align=self.itemsize)

    def transposed(self, builder: Any, vectors: list[Any], width: int) -> list[Any]:
        """Each square of ``width`` vectors and ``width`` lanes with its rows as columns.

        First squares as large as a part of a register change places, then those inside are transposed:

            a0 a1 a2 a3        a0 a1 b0 b1
            b0 b1 b2 b3   ->   c0 c1 d0 d1   ->   ...
        """
        vectors = list(vectors)
        lanes = vectors[0].type.count
        square = min(width, _PART_BYTES // self.itemsize)
        half = width // 2
        while half >= square:
            lower = [lane if not lane & half else lanes + lane - half for lane in range(lanes)]
            upper = [lane + half if not lane & half else lanes + lane for lane in range(lanes)]
            for k in range(width):
                if not k & half:
                    a, b = vectors[k], vectors[k + half]
                    vectors[k] = shuffled(builder, a, b, lower)
                    vectors[k + half] = shuffled(builder, a, b, upper)
            half //= 2
        for first in range(0, width, square):
            vectors[first : first + square] = _squares_transposed(builder, vectors[first : first + square])
        return vectors

    def _row(self, builder: Any, start: Any, row: int, width: int, column: int) -> Any:
        return self._vector(builder, start, row * self.length + column, width)

    def _vector(self, builder: Any, start: Any, offset: int, count: int) -> Any:
        return self.at(builder, start, I64(offset), count)

    def at(self, builder: Any, start: Any, offset: Any, count: int) -> Any:
        """The address of ``count`` elements from ``offset`` on, as a vector."""
        address = builder.gep(start, [offset])
        return builder.bitcast(address, lir.VectorType(start.type.pointee, count).as_pointer())


def _squares_transposed(builder: Any, vectors: list[Any]) -> list[Any]:
    """The same by perfect shuffles: the halves of two squares' rows, element by element.

    a0 a1 a2 a3        a0 c0 a1 c1        a0 b0 c0 d0
    b0 b1 b2 b3        a2 c2 a3 c3        a1 b1 c1 d1
    c0 c1 c2 c3   ->   b0 d0 b1 d1   ->   a2 b2 c2 d2
    d0 d1 d2 d3        b2 d2 b3 d3        a3 b3 c3 d3
    """
    lanes, square = vectors[0].type.count, len(vectors)
    half = square // 2
    low = [
        part + lane // 2 + (lanes if lane % 2 else 0)
        for part in range(0, lanes, square)
        for lane in range(square)
    ]
    high = [lane + half for lane in low]
    for _ in range(square.bit_length() - 1):
        pairs = zip(vectors[:half], vectors[half:], strict=True)
        vectors = [shuffled(builder, a, b, taken) for a, b in pairs for taken in (low, high)]
    return vectors


def _opaque(builder: Any, pointer: Any) -> Any:
    """The same pointer, of which LLVM does not know where it comes from.

    LLVM 22.1 makes wrong code of small arrays that are written in parts, not in their order, and read as a
    whole (llvm/llvm-project#189680).
    """
    kind = lir.FunctionType(pointer.type, [pointer.type])
    return builder.asm(kind, "", "=r,0", [pointer], False)
