"""The element types that arrays may have, as a table: everything that depends on a dtype asks here."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from lncompile.errors import LncTypeError


class DType(NamedTuple):
    """One element type: its name, size in bytes and the type that arithmetic on it is done in.

    ``number`` is NumPy's of the type, None where that differs from process to process.
    """

    name: str
    itemsize: int
    compute: str
    ctype: str
    number: int | None

    @property
    def numpy(self) -> np.dtype[Any]:
        """NumPy's type; imports the package that brings it, and raises ``LncError`` if there is none."""
        return _from_package(self.name) if self.number is None else np.dtype(self.name)

    def holds(self, number: float) -> bool:
        """Whether the type has ``number`` to its precision: it neither overflows there nor loses digits."""
        limits = np.finfo(self.numpy)
        return number == 0 or float(limits.tiny) <= abs(number) <= float(limits.max)


TABLE: dict[str, DType] = {
    "float16": DType("float16", 2, "float32", "uint16_t", np.dtype(np.float16).num),
    "bfloat16": DType("bfloat16", 2, "float32", "uint16_t", None),
    "float32": DType("float32", 4, "float32", "float", np.dtype(np.float32).num),
    "float64": DType("float64", 8, "float64", "double", np.dtype(np.float64).num),
}

_BY_NUMPY: dict[np.dtype[Any], str] = {
    entry.numpy: name for name, entry in TABLE.items() if entry.number is not None
}

#: The package that brings the types that NumPy does not have. Nobody has such arrays who has not imported it.
_PACKAGE = "ml_dtypes"


def name_of(dtype: np.dtype[Any]) -> str | None:
    """The name of a dtype in native byte order; None if there are no kernels for it."""
    found = _BY_NUMPY.get(dtype)
    if found is None and sys.modules.get(_PACKAGE) is not None:
        return next((n for n, entry in TABLE.items() if entry.number is None and entry.numpy == dtype), None)
    return found


def named(name: object, culprit: str) -> str:
    """Check that ``name`` is a supported dtype (a name or what NumPy takes as one) and return its name.

    Raises ``LncError`` also where the package that brings the dtype is not installed.
    """
    if isinstance(name, str) and name in TABLE:
        try:
            _ = TABLE[name].numpy
        except LncTypeError as error:
            raise LncTypeError(f"{culprit}: {error}") from None
        return name
    try:
        # NumPy takes None as float64.
        found = None if name is None else name_of(np.dtype(name))  # type: ignore[call-overload]
    except TypeError:
        found = None
    if found is None:
        raise LncTypeError(f"{culprit}: expected one of {', '.join(TABLE)}; got {name!r}")
    return found


def compute_dtype(names: Iterable[str]) -> str:
    """The type of arithmetic and saved statistics: float64 once any argument is, float32 otherwise."""
    return "float64" if any(TABLE[name].compute == "float64" for name in names) else "float32"


def rounded(values: Any, name: str) -> np.ndarray[Any, np.dtype[Any]]:
    """``values`` (float32 or float64) as an array of dtype ``name``, rounded once, to nearest even.

    Arrays of CuPy's stay on their device.
    """
    values = values if hasattr(values, "__cuda_array_interface__") else np.asarray(values)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if name == "bfloat16" and values.dtype == np.float64:
            # The package rounds to float32 on the way, and then ties that were none.
            values = _to_odd(values)
        result: np.ndarray[Any, np.dtype[Any]] = values.astype(TABLE[name].numpy)
    return result


def _to_odd(values: Any) -> Any:
    """float64 as float32, what lies between two numbers as the odd one: it rounds on as it would have."""
    near = values.astype(np.float32)
    back = near.astype(np.float64)
    bits = near.view(np.uint32)
    bits -= (abs(back) > abs(values)).astype(np.uint32)
    bits |= ((back < values) | (back > values)).astype(np.uint32)
    return near


@cache
def _from_package(name: str) -> np.dtype[Any]:
    try:
        import ml_dtypes
    except ImportError:
        raise LncTypeError(f"{name} needs the package {_PACKAGE}, which is not installed") from None
    dtype: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
    return dtype
