"""Arrays as users give them, and as kernels take them: checks with clear errors, conversions, overlaps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lncompile.dtypes import BY_NUMPY, TABLE
from lncompile.errors import LncTypeError, LncValueError

Array = np.ndarray[Any, np.dtype[Any]]


def checked(name: str, value: object) -> Array:
    """``value`` as an array if it is one of a supported dtype (in any byte order); ``LncError`` naming it otherwise."""
    if isinstance(value, np.generic):
        value = np.asarray(value)
    if not isinstance(value, np.ndarray) or isinstance(value, np.matrix | np.ma.MaskedArray):
        raise LncTypeError(f"{name}: expected a NumPy array; got {_described(value)}")
    dtype_name(name, value)
    return value


def dtype_name(name: str, array: Array) -> str:
    """The name of an array's dtype; ``LncError`` if there are no kernels for it."""
    found = BY_NUMPY.get(array.dtype.newbyteorder("=") if not array.dtype.isnative else array.dtype)
    if found is None:
        raise LncTypeError(f"{name}: expected an array of {' or '.join(TABLE)}; got dtype {array.dtype}")
    return found


def canonical(array: Array) -> Array:
    """The array itself if a kernel can read it, else a copy: contiguous, aligned, in native byte order."""
    native = array.dtype.newbyteorder("=") if not array.dtype.isnative else array.dtype
    # np.require turns 0-d arrays into 1-d ones when it copies.
    return np.require(array, native, ["C", "A"]).reshape(array.shape).view(np.ndarray)


def check_output(name: str, array: object, shape: tuple[int, ...], dtype: str) -> Array:
    """``array`` if it can be written to as it is asked for; ``LncError`` naming it otherwise."""
    if not isinstance(array, np.ndarray) or isinstance(array, np.matrix | np.ma.MaskedArray):
        raise LncTypeError(f"{name}: expected a NumPy array to write to; got {_described(array)}")
    if BY_NUMPY.get(array.dtype if array.dtype.isnative else array.dtype.newbyteorder("=")) != dtype:
        raise LncTypeError(f"{name}: expected dtype {dtype}; got {array.dtype}")
    if array.shape != shape:
        raise LncValueError(f"{name}: expected shape {shape}; got {array.shape}")
    if not array.flags.writeable:
        raise LncValueError(f"{name}: the array is read-only")
    if overlaps_itself(array):
        raise LncValueError(f"{name}: elements of the array share memory (strides {array.strides})")
    return array


def overlaps_itself(array: Array) -> bool:
    """Whether two elements of the array may share memory: each stride must step over all that smaller ones reach."""
    reach = array.itemsize
    for stride, size in sorted((abs(stride), size) for stride, size in zip(array.strides, array.shape, strict=True)):
        if size > 1:
            if stride < reach:
                return True
            reach += stride * (size - 1)
    return False


def same_place(a: Array, b: Array) -> bool:
    """Whether two arrays are the same elements in the same order."""
    return (
        a.__array_interface__["data"][0] == b.__array_interface__["data"][0]
        and a.shape == b.shape
        and a.strides == b.strides
        and a.dtype == b.dtype
    )


def overlap(a: Array, b: Array) -> bool:
    """Whether two arrays share an element; where that is too hard to tell, whether their bounds do."""
    if not np.may_share_memory(a, b):
        return False
    try:
        return np.shares_memory(a, b, max_work=10_000)
    except np.exceptions.TooHardError:
        return True


def check_distinct(outputs: Sequence[tuple[str, Array]], inputs: Sequence[tuple[str, Array]]) -> None:
    """Refuse outputs that overlap one another, or an input otherwise than by being exactly it."""
    for at, (name, array) in enumerate(outputs):
        for other_name, other in outputs[:at]:
            if overlap(array, other):
                raise LncValueError(f"{name}: overlaps {other_name}; every output needs memory of its own")
        for other_name, other in inputs:
            if not same_place(array, other) and overlap(array, other):
                raise LncValueError(f"{name}: overlaps {other_name} partly; it may be exactly that array, or apart from it")


def _described(value: object) -> str:
    if value is None:
        return "None"
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
