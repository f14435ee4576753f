"""Arrays on a device: which values are such, checks with clear errors, conversions, overlaps.

The counterpart of ``arrays.py`` for CuPy's arrays, and for what lets CuPy look at its memory.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from lncompile.arrays import described
from lncompile.dtypes import TABLE, name_of
from lncompile.errors import LncTypeError, LncValueError

#: What DLPack calls memory of CUDA's: of a device, and managed.
_DLPACK_CUDA = (2, 13)
#: Bytes that arrays are aligned to as kernels access them.
ALIGNMENT = 16


def is_on_device(value: object) -> bool:
    """Whether a value is an array whose elements are on a device."""
    if value is None or isinstance(value, np.ndarray | np.generic):
        return False
    cupy = sys.modules.get("cupy")
    # Not by the interface, which CuPy asks the driver for the current stream to make.
    if cupy is not None and isinstance(value, cupy.ndarray):
        return True
    if hasattr(value, "__cuda_array_interface__"):
        return True
    where = getattr(value, "__dlpack_device__", None)
    return where is not None and not isinstance(value, type) and where()[0] in _DLPACK_CUDA


def checked(name: str, value: Any) -> Any:
    """``value`` as an array of CuPy's of a supported dtype; ``LncError`` naming it if it is none."""
    if not is_on_device(value):
        raise LncTypeError(
            f"{name}: expected an array on the device, like the other arguments; got {described(value)}"
        )
    cupy = _cupy()
    if not isinstance(value, cupy.ndarray):
        try:
            # DLPack tells bfloat16, which the other interface has no name for.
            value = cupy.from_dlpack(value) if hasattr(value, "__dlpack__") else cupy.asarray(value)
        except Exception as error:
            raise LncTypeError(f"{name}: expected an array that CuPy takes; {error}") from error
    if dtype_name(value) is None:
        *names, last = TABLE
        raise LncTypeError(f"{name}: expected an array of {', '.join(names)} or {last}; got {value.dtype}")
    return value


def target_of(array: Any) -> str:
    """The target whose code runs on the device of an array of CuPy's."""
    from lncompile.backends.cuda import device
    from lncompile.backends.cuda.target import serving

    return serving(device.info(array.device.id).capability).name


def dtype_name(array: Any) -> str | None:
    """The name of an array's dtype, None if there are no kernels for it."""
    return name_of(np.dtype(array.dtype))


def is_canonical(array: Any) -> bool:
    """Whether a kernel can access the array: it is contiguous and aligned."""
    return bool(array.flags.c_contiguous and array.data.ptr % ALIGNMENT == 0)


def canonical(array: Any) -> Any:
    """The array itself if a kernel can read it, else a copy."""
    return array if is_canonical(array) else array.copy(order="C")


def check_output(name: str, array: object, shape: tuple[int, ...], dtype: str) -> Any:
    """``array`` if it is one of CuPy's and as asked for; ``LncError`` naming it otherwise."""
    cupy = sys.modules.get("cupy")
    if cupy is None or not isinstance(array, cupy.ndarray):
        raise LncTypeError(f"{name}: expected a CuPy array to write to; got {described(array)}")
    check_like(name, array, shape, dtype)
    return array


def check_like(name: str, array: Any, shape: tuple[int, ...], dtype: str, why: str = "") -> None:
    """``LncError`` unless ``array`` has this dtype and shape; ``why`` says whose."""
    why = why and f", {why}"
    if dtype_name(array) != dtype:
        raise LncTypeError(f"{name}: expected dtype {dtype}{why}; got {array.dtype}")
    if array.shape != shape:
        raise LncValueError(f"{name}: expected shape {shape}{why}; got {array.shape}")


def check_device(named: Iterable[tuple[str, Any]]) -> int:
    """The number of the device that all arrays are on; ``LncError`` naming one that is on another."""
    first: tuple[str, int] | None = None
    for name, array in named:
        if first is None:
            first = name, array.device.id
        elif array.device.id != first[1]:
            raise LncValueError(
                f"{name}: expected an array on device {first[1]}, like {first[0]}; "
                f"got one on device {array.device.id}"
            )
    assert first is not None, "a norm has an array argument"
    return first[1]


def check_distinct(outputs: Sequence[tuple[str, Any]], inputs: Sequence[tuple[str, Any]]) -> None:
    """Refuse outputs that overlap one another, or an input otherwise than by being exactly it."""
    for at, (name, array) in enumerate(outputs):
        for other_name, other in outputs[:at]:
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


def overlap(a: Any, b: Any) -> bool:
    """Whether the bounds of two arrays overlap."""
    (a_first, a_last), (b_first, b_last) = _bounds(a), _bounds(b)
    return bool(a.size and b.size and a_first < b_last and b_first < a_last)


def same_place(a: Any, b: Any) -> bool:
    """Whether two arrays are the same elements in the same order."""
    return bool(
        a.data.ptr == b.data.ptr and a.shape == b.shape and a.dtype == b.dtype and a.strides == b.strides
    )


def _bounds(array: Any) -> tuple[int, int]:
    """The addresses of an array's first byte and of that behind its last."""
    reach = [(size - 1) * stride for size, stride in zip(array.shape, array.strides, strict=True)]
    start: int = array.data.ptr
    low, high = sum(r for r in reach if r < 0), sum(r for r in reach if r > 0)
    return start + low, start + high + int(array.dtype.itemsize)


def empty(shape: tuple[int, ...], like: Any) -> Any:
    """A new array of the dtype, and on the device, of another one."""
    with device_of(like):
        return _cupy().empty(shape, like.dtype)


def device_of(array: Any) -> Any:
    """A context in which the device of an array is the current one."""
    return _cupy().cuda.Device(array.device.id)


def _cupy() -> Any:
    from lncompile.backends.cuda.device import cupy

    return cupy()
