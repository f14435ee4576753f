"""Lanes of LLVM's vectors, taken and joined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import llvmlite.ir as lir


def shuffled(builder: Any, a: Any, b: Any, lanes: Sequence[int]) -> Any:
    """The vector of these lanes; those of ``b`` follow those of ``a``."""
    return builder.shuffle_vector(
        a, b, lir.Constant(lir.VectorType(lir.IntType(32), len(lanes)), list(lanes))
    )


def joined(builder: Any, parts: list[Any]) -> Any:
    """Vectors one behind the other as one."""
    while len(parts) > 1:
        count = parts[0].type.count
        parts = [
            shuffled(builder, low, high, range(2 * count))
            for low, high in zip(parts[::2], parts[1::2], strict=True)
        ]
    return parts[0]
