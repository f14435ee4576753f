"""Scratch memory of a kernel, on the stack."""

from __future__ import annotations

from typing import Any

import llvmlite.ir as lir
from numba.core import types
from numba.core.types.misc import CPointer
from numba.extending import intrinsic

#: The widest vectors are aligned to it; they take a cycle more where they cross a cache line.
_ALIGNMENT = 64


def scratch_memory(builder: Any, element: Any, count: int) -> Any:
    """Memory of the function for ``count`` elements, with whatever lies there.

    What Numba allocates is zero, by a store an element in each call; compiling 6144 of them took LLVM 10 s.
    """
    with builder.goto_entry_block():
        memory = builder.alloca(lir.ArrayType(element, count))
    memory.align = _ALIGNMENT
    return builder.bitcast(memory, element.as_pointer())


def _memory(element: Any) -> Any:
    @intrinsic(prefer_literal=True)
    def memory(typing_context: Any, length: Any) -> Any:
        count = int(length.literal_value)

        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return scratch_memory(builder, context.get_value_type(element), count)

        return CPointer(element)(length), generate

    return memory


f32_memory = _memory(types.float32)
f64_memory = _memory(types.float64)
