"""Columns side by side in the lanes: where they lie, or packed in scratch memory, row right behind row.

    memory, rows of 5:             a0 a1 a2 a3 a4   b0 b1 b2 b3 b4
    4 columns from the first on:   a0 a1 a2 a3      b0 b1 b2 b3         5 elements apart
    the last one, packed:          a4 0  0  0       b4 0  0  0          4 elements apart

So loops over rows have whole vectors alone, wherever columns lie. Below AVX-512 a vector that is stored in
part takes many cycles, or is stored element by element.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba.core import cgutils, types
from numba.extending import intrinsic

from lncompile.backends.cpu.memory import load_first, store_first
from lncompile.backends.cpu.scratch import scratch_memory
from lncompile.backends.cpu.vectors import I64, Vector, literal


def _window(*, filled: bool) -> Any:
    @intrinsic(prefer_literal=True)
    def window(
        typing_context: Any,
        pointer: Any,
        start: Any,
        count: Any,
        row: Any,
        rows: Any,
        lanes: Any,
        packed: Any,
    ) -> Any:
        made = _Window(pointer, rows, lanes)

        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            scratch, source = made.scratch(context, builder), builder.gep(args[0], [args[1]])

            def pack(index: Any, *, part: bool) -> None:
                given = source, builder.mul(index, args[3]), args[2]
                target = made.address(context, builder, scratch, builder.mul(index, I64(made.lanes)))
                if part:
                    vector = load_first(context, builder, pointer, types.int64, given, made.kind)
                else:
                    vector = builder.load(made.address(context, builder, *given[:2]), align=made.itemsize)
                builder.store(vector, target, align=made.itemsize)

            if filled:
                with builder.if_then(args[6]):
                    made.each_row(builder, args[2], pack)
            return builder.select(args[6], scratch, source)

        return made.signature(pointer, types.boolean), generate

    return window


@intrinsic(prefer_literal=True)
def store_window(
    typing_context: Any, pointer: Any, start: Any, count: Any, row: Any, rows: Any, lanes: Any, scratch: Any
) -> Any:
    made = _Window(pointer, rows, lanes)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        target = builder.gep(args[0], [args[1]])

        def unpack(index: Any, *, part: bool) -> None:
            given = target, builder.mul(index, args[3]), args[2]
            source = made.address(context, builder, args[6], builder.mul(index, I64(made.lanes)))
            vector = builder.load(source, align=made.itemsize)
            if part:
                store_first(context, builder, pointer, types.int64, given, vector)
            else:
                builder.store(vector, made.address(context, builder, *given[:2]), align=made.itemsize)

        made.each_row(builder, args[2], unpack)
        return context.get_dummy_value()

    return made.signature(types.void, scratch), generate


window = _window(filled=True)
window_for = _window(filled=False)


class _Window:
    """``lanes`` columns of ``rows`` rows, of elements that ``pointer`` is the type of pointers to."""

    def __init__(self, pointer: Any, rows: Any, lanes: Any) -> None:
        self.pointer, self.sizes = pointer, (rows, lanes)
        self.rows, self.lanes = literal(rows), literal(lanes)
        self.kind = Vector(pointer.dtype, self.lanes)
        self.itemsize = pointer.dtype.bitwidth // 8

    def signature(self, result: Any, last: Any) -> Any:
        """Of a function of where the columns lie and one argument more."""
        return result(self.pointer, types.int64, types.int64, types.int64, *self.sizes, last)

    def scratch(self, context: Any, builder: Any) -> Any:
        """Memory of the function for one window."""
        return scratch_memory(builder, context.get_value_type(self.pointer.dtype), self.rows * self.lanes)

    def address(self, context: Any, builder: Any, start: Any, offset: Any) -> Any:
        """The address of the vector that begins so many elements behind ``start``."""
        vector = context.get_value_type(self.kind)
        return builder.bitcast(builder.gep(start, [offset]), vector.as_pointer())

    def each_row(self, builder: Any, count: Any, copied: Callable[..., None]) -> None:
        """``copied`` for every row, of whole vectors or, where ``count`` says so, of their first lanes."""
        whole = builder.icmp_signed("==", count, I64(self.lanes))
        with builder.if_else(whole) as (all_lanes, first_lanes):
            for branch, part in ((all_lanes, False), (first_lanes, True)):
                with branch, cgutils.for_range(builder, I64(self.rows)) as loop:
                    copied(loop.index, part=part)
