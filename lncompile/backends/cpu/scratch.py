"""Scratch memory of a kernel for the values of one row, on the stack."""

from __future__ import annotations

from typing import Any

import llvmlite.ir as lir
from numba.core import cgutils, types
from numba.core.types.misc import CPointer
from numba.extending import intrinsic

#: The widest vectors are aligned to it; they take a cycle more where they cross a cache line.
_ALIGNMENT = 64


def _memory(element: Any) -> Any:
    @intrinsic(prefer_literal=True)
    def memory(typing_context: Any, length: Any) -> Any:
        count = int(length.literal_value)

        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            kind = context.get_value_type(element)
            made = cgutils.alloca_once(builder, lir.ArrayType(kind, count))
            made.align = _ALIGNMENT
            return builder.bitcast(made, kind.as_pointer())

        return CPointer(element)(length), generate

    return memory


f32_memory = _memory(types.float32)
f64_memory = _memory(types.float64)
