"""The element types that arrays may have, as a table: everything that depends on a dtype asks here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from lncompile.errors import LncTypeError


class DType(NamedTuple):
    """One element type: its name, NumPy type, size in bytes and the type that arithmetic on it is done in."""

    name: str
    numpy: np.dtype[np.generic]
    itemsize: int
    compute: str
    ctype: str


TABLE: dict[str, DType] = {
    "float32": DType("float32", np.dtype(np.float32), 4, "float32", "float"),
    "float64": DType("float64", np.dtype(np.float64), 8, "float64", "double"),
}

BY_NUMPY: dict[np.dtype[np.generic], str] = {entry.numpy: name for name, entry in TABLE.items()}


def named(name: object, culprit: str) -> str:
    """Check that ``name`` is a supported dtype (a name or what NumPy takes as one) and return its name."""
    if isinstance(name, str) and name in TABLE:
        return name
    try:
        if name is None:  # which NumPy takes as float64
            raise TypeError
        return BY_NUMPY[np.dtype(name)]  # type: ignore[call-overload]
    except (TypeError, KeyError):
        raise LncTypeError(f"{culprit}: expected one of {', '.join(TABLE)}; got {name!r}") from None


def compute_dtype(names: Iterable[str]) -> str:
    """The type of arithmetic and saved statistics: float64 once any argument is, float32 otherwise."""
    return "float64" if any(TABLE[name].compute == "float64" for name in names) else "float32"
