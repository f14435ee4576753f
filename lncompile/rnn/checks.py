"""Whether arguments of cells are what they should be, and what to say where they are not."""

from __future__ import annotations

import sys
from typing import Any, TypeAlias

import numpy as np

from lncompile.arrays import is_array
from lncompile.errors import LncTypeError, LncValueError

#: An array of NumPy's or of CuPy's.
Array: TypeAlias = Any


def library_of(name: str, array: object) -> Any:
    """The module that ``array`` is one of: NumPy or CuPy."""
    cupy = sys.modules.get("cupy")
    for library in (np, cupy) if cupy else (np,):
        if _is_of(library, array):
            return library
    raise LncTypeError(f"{name}: expected an array of NumPy or CuPy; got {described(array)}")


def _is_of(library: Any, array: object) -> bool:
    """Whether ``array`` is one of the library's, with the library's own arithmetic."""
    return is_array(array) if library is np else isinstance(array, library.ndarray)


def checked(
    name: str, array: Array, shape: tuple[int | str, ...], dtype: np.dtype[Any], library: Any
) -> Array:
    """``array``, if it is one of ``library`` of this dtype and shape, in which a name stands for any size."""
    if not _is_of(library, array):
        kind = "NumPy" if library is np else "CuPy"
        raise LncTypeError(f"{name}: expected an array of {kind}, like xs; got {described(array)}")
    if array.dtype != dtype:
        raise LncTypeError(f"{name}: expected the cell's dtype, {dtype}; got {array.dtype}")
    fits = array.ndim == len(shape) and all(
        isinstance(size, str) or size == found for size, found in zip(shape, array.shape, strict=True)
    )
    if not fits:
        expected = ", ".join(str(size) for size in shape)
        raise LncValueError(f"{name}: expected the shape ({expected}); got {array.shape}")
    return array


def checked_integer(name: str, number: object, least: int) -> int:
    """``number``, if it is an integer and not below ``least``."""
    if isinstance(number, bool) or not isinstance(number, int | np.integer):
        raise LncTypeError(f"{name}: expected an integer from {least} on; got {described(number)}")
    if number < least:
        raise LncValueError(f"{name}: expected an integer from {least} on; got {number}")
    return int(number)


def described(value: object) -> str:
    """What a value is, in an error."""
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"an array {value.dtype}{list(value.shape)}"
    return repr(value) if isinstance(value, int | float | str | None) else type(value).__name__
