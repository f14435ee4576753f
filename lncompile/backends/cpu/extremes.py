"""The larger and the smaller of two numbers, or of two vectors lane by lane, as LLVM IR.

NaN in either operand stays NaN, as in ``np.maximum``.
"""

from __future__ import annotations

from typing import Any


def maximum(builder: Any, a: Any, b: Any) -> Any:
    """The larger of two."""
    return _extreme(builder, a, b, ">")


def minimum(builder: Any, a: Any, b: Any) -> Any:
    """The smaller of two."""
    return _extreme(builder, a, b, "<")


def _extreme(builder: Any, a: Any, b: Any, comparison: str) -> Any:
    chosen = builder.select(builder.fcmp_ordered(comparison, a, b), a, b)
    return builder.select(builder.fcmp_unordered("uno", a, a), a, chosen)
