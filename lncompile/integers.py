"""Counts and sizes as users give them."""

from __future__ import annotations

import operator
from typing import Any


def integer(value: Any) -> int:
    """``value`` as an int; ``TypeError`` where it is none, as True and False are no count and no size."""
    if isinstance(value, bool):
        raise TypeError(f"expected an integer; got {value}")
    return operator.index(value)
