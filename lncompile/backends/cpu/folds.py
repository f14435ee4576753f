"""What the lanes of vectors add up to, or the largest: of one row, or of several rows at once.

Halves are combined until one lane a row is left: the same order on every CPU, and for a row alone or not.

    a0 a1 a2 a3      a0+a2 a1+a3  b0+b2 b1+b3      (a0+a2)+(a1+a3)  (b0+b2)+(b1+b3)
    b0 b1 b2 b3 -->                           -->

Of several rows, vectors hold two rows, then four: as many additions as there are lanes in a row, not rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.ir as lir
from numba.core import types
from numba.extending import intrinsic

from lncompile.backends.cpu import instructions
from lncompile.backends.cpu.lanes import shuffled
from lncompile.backends.cpu.vectors import I32, I64, Vector

_Combine = Callable[[Any, Any, Any], Any]


def _add(builder: Any, a: Any, b: Any) -> Any:
    return builder.fadd(a, b)


def _of_vector(combine: _Combine) -> Any:
    """All lanes of a vector as one number."""

    @intrinsic
    def fold(typing_context: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            (vector,) = _folded(builder, combine, [args[0]], value.lanes, 1)
            scalar = builder.extract_element(vector, I32(0))
            return context.cast(builder, scalar, value.element, types.float64)

        return types.float64(value), generate

    return fold


def _in_part(combine: _Combine) -> Any:
    """All lanes of a vector as so many; a vector that has fewer is left as it is."""

    @intrinsic(prefer_literal=True)
    def fold(typing_context: Any, value: Any, lanes: Any) -> Any:
        left = min(int(lanes.literal_value), value.lanes)

        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            (vector,) = _folded(builder, combine, [args[0]], value.lanes, left)
            return vector

        return Vector(value.element, left)(value, lanes), generate

    return fold


def _of_rows(combine: _Combine) -> Any:
    """Vectors in memory, one a row, as one number a row, side by side."""

    @intrinsic(prefer_literal=True)
    def fold(typing_context: Any, pointer: Any, rows: Any, lanes: Any) -> Any:
        count, width = int(rows.literal_value), int(lanes.literal_value)
        element = pointer.dtype

        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            kind = lir.VectorType(context.get_value_type(element), width)
            addresses = [builder.gep(args[0], [I64(row * width)]) for row in range(count)]
            vectors = [
                builder.load(builder.bitcast(address, kind.as_pointer()), align=element.bitwidth // 8)
                for address in addresses
            ]
            vectors = _folded(builder, combine, vectors, width, 1)
            while len(vectors) > 1:
                lanes_of_two = list(range(2 * vectors[0].type.count))
                vectors = [shuffled(builder, a, b, lanes_of_two) for a, b in _pairs(vectors)]
            if element == types.float64:
                return vectors[0]
            return builder.fpext(vectors[0], lir.VectorType(lir.DoubleType(), count))

        return Vector(types.float64, count)(pointer, rows, lanes), generate

    return fold


def _folded(builder: Any, combine: _Combine, vectors: list[Any], width: int, left: int) -> list[Any]:
    """``vectors`` that hold rows of ``width`` lanes with ``left`` a row: fewer vectors, or shorter ones."""
    while width > left:
        pairs = _pairs(vectors)
        lanes = vectors[0].type.count * len(vectors) // len(pairs)
        low = [row + lane for row in range(0, lanes, width) for lane in range(width // 2)]
        high = [lane + width // 2 for lane in low]
        vectors = [
            combine(builder, shuffled(builder, a, b, low), shuffled(builder, a, b, high)) for a, b in pairs
        ]
        width //= 2
    return vectors


def _pairs(vectors: list[Any]) -> list[tuple[Any, Any]]:
    """Two and two, or one beside itself."""
    return list(zip(vectors[::2], vectors[1::2], strict=True)) if len(vectors) > 1 else [(vectors[0],) * 2]


total, partial_total, totals = _of_vector(_add), _in_part(_add), _of_rows(_add)
largest, partial_largest, largests = (
    _of_vector(instructions.maximum),
    _in_part(instructions.maximum),
    _of_rows(instructions.maximum),
)
