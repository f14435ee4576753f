"""Arrays as users give them, and as kernels take them: checks with clear errors, conversions, overlaps."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeGuard

import numpy as np

from lncompile import memory
from lncompile.dtypes import TABLE, name_of
from lncompile.errors import LncTypeError, LncValueError

Array = np.ndarray[Any, np.dtype[Any]]


def checked(name: str, value: object) -> Array:
    """``value`` as an array of a supported dtype, in any byte order; ``LncError`` naming it if it is none."""
    if isinstance(value, np.generic):
        value = np.asarray(value)
    if not is_array(value):
        raise LncTypeError(f"{name}: expected a NumPy array; got {described(value)}")
    dtype_name(name, value)
    return value


def is_array(value: object) -> TypeGuard[Array]:
    """Whether ``value`` is an array whose elements are what its memory holds, with NumPy's own arithmetic."""
    # Nobody has a masked array while numpy.ma is not imported, which takes 10 ms.
    masked = sys.modules.get("numpy.ma")
    if masked is not None and isinstance(value, masked.MaskedArray):
        return False
    return isinstance(value, np.ndarray) and not isinstance(value, np.matrix)


def dtype_name(name: str, array: Array) -> str:
    """The name of an array's dtype; ``LncError`` if there are no kernels for it."""
    found = name_of(_native(array.dtype))
    if found is None:
        *names, last = TABLE
        raise LncTypeError(
            f"{name}: expected an array of {', '.join(names)} or {last}; got dtype {array.dtype}"
        )
    return found


def canonical(array: Array) -> Array:
    """The array itself if a kernel can read it, else a copy: contiguous, aligned, in native byte order."""
    plain = array if type(array) is np.ndarray else array.view(np.ndarray)
    if plain.flags.c_contiguous and plain.flags.aligned and plain.dtype.isnative:
        return plain
    copy = memory.empty(plain.shape, _native(plain.dtype))
    np.copyto(copy, plain)
    return copy


def check_output(name: str, array: object, shape: tuple[int, ...], dtype: str) -> Array:
    """``array`` if it can be written to as it is asked for; ``LncError`` naming it otherwise."""
    if not is_array(array):
        raise LncTypeError(f"{name}: expected a NumPy array to write to; got {described(array)}")
    check_like(name, array, shape, dtype)
    if not array.flags.writeable:
        raise LncValueError(f"{name}: expected an array to write to; got a read-only one")
    if overlaps_itself(array):
        raise LncValueError(
            f"{name}: expected every element in a place of its own; got elements that share memory, "
            f"shape {array.shape} with strides {array.strides}"
        )
    return array


def check_like(name: str, array: Array, shape: tuple[int, ...], dtype: str, why: str = "") -> None:
    """``LncError`` unless ``array`` has this dtype, in any byte order, and shape; ``why`` says whose."""
    why = why and f", {why}"
    if name_of(_native(array.dtype)) != dtype:
        raise LncTypeError(f"{name}: expected dtype {dtype}{why}; got {array.dtype}")
    if array.shape != shape:
        raise LncValueError(f"{name}: expected shape {shape}{why}; got {array.shape}")


def empty(shape: tuple[int, ...], like: Array) -> Array:
    """A new array of the dtype of another one, in native byte order."""
    return np.empty(shape, _native(like.dtype))


def device_of(array: Array) -> AbstractContextManager[object]:
    """Nothing has to be chosen for an array in this process' memory."""
    return nullcontext()


def overlaps_itself(array: Array) -> bool:
    """Whether two elements may share memory: each stride must step over all that smaller ones reach."""
    if not array.size:
        return False
    reach = array.itemsize
    for stride, size in sorted(
        (abs(stride), size) for stride, size in zip(array.strides, array.shape, strict=True)
    ):
        if size > 1:
            if stride < reach:
                return True
            reach += stride * (size - 1)
    return False


def same_place(a: Array, b: Array) -> bool:
    """Whether two arrays are the same elements in the same order."""
    return (
        a.ctypes.data == b.ctypes.data
        and a.shape == b.shape
        and a.dtype == b.dtype
        # The stride of a dimension of size 1 leads nowhere.
        and all(s == t or n == 1 for s, t, n in zip(a.strides, b.strides, a.shape, strict=True))
    )


def overlap(a: Array, b: Array) -> bool:
    """Whether two arrays share an element; where that is too hard to tell, whether their bounds do."""
    if not np.may_share_memory(a, b):
        return False
    try:
        return np.shares_memory(a, b, max_work=10_000)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True


def check_device(named: Iterable[tuple[str, Array]]) -> None:
    """Nothing to check: arrays of NumPy's are all in this process' memory."""


def check_distinct(outputs: Iterable[tuple[str, Array]], inputs: Sequence[tuple[str, Array]]) -> None:
    """Refuse outputs that overlap one another, or an input otherwise than by being exactly it."""
    before: list[tuple[str, Array]] = []
    for name, array in outputs:
        for other_name, other in before:
            if overlap(array, other):
                raise LncValueError(
                    f"{name}: expected memory of its own; got an array that overlaps {other_name}"
                )
        for other_name, other in inputs:
            if overlap(array, other) and not same_place(array, other):
                raise LncValueError(
                    f"{name}: expected exactly the array {other_name}, or one apart from it; "
                    f"got an array that overlaps {other_name} partly"
                )
        before.append((name, array))


def described(value: object) -> str:
    """``value`` for an error message: its type, and its text or what it has of dtype and shape."""
    if value is None:
        return "None"
    if isinstance(value, np.ndarray):
        return f"{type(value).__name__} of {value.dtype}, shape {value.shape}"
    if isinstance(value, tuple | list):
        text = f"({', '.join(described(element) for element in value[:5])})"
    elif isinstance(value, dict):
        text = f"({', '.join(f'{key!r}: {described(value[key])}' for key in list(value)[:5])})"
    else:
        text = " ".join(repr(value).split())
    return f"{type(value).__name__} {text if len(text) <= 100 else text[:97] + '...'}"


def _native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype if dtype.isnative else dtype.newbyteorder("=")
