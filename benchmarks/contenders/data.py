"""The arrays that all contenders get: the same values, whatever the library."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from ..grid import Case

Array = np.ndarray[Any, Any]

#: Random values repeat after so many, which nobody sees and which saves seconds.
_PERIOD = 1 << 18

#: What vector loads and stores like best, and what the allocators of all peers give.
ALIGNMENT = 64


@dataclass(frozen=True)
class Arrays:
    """x and dy in the order of memory; weight and bias [channels], bias None where the norm has none."""

    x: Array
    dy: Array | None
    weight: Array
    bias: Array | None

    @property
    def parameters(self) -> tuple[Array, ...]:
        """The weight, and the bias if there is one."""
        return (self.weight,) if self.bias is None else (self.weight, self.bias)


def arrays(case: Case, mode: str) -> Arrays:
    """The inputs: aligned to 64 bytes in mode ``mapped``, as NumPy gives them in mode ``called``."""
    rng = np.random.default_rng(0)
    new = aligned if mode == "mapped" else np.empty
    dtype = numpy_dtype(case.dtype)

    def normal(shape: tuple[int, ...]) -> Array:
        values = rng.standard_normal(min(prod(shape), _PERIOD), np.float32)
        made = new(shape, dtype)
        flat = made.reshape(-1)
        for begin in range(0, flat.size, values.size):
            flat[begin : begin + values.size] = values[: flat.size - begin]
        return made

    x = normal(case.physical)
    weight, bias = normal((case.channels,)), normal((case.channels,))
    dy = normal(case.physical) if case.phase == "backward" else None
    return Arrays(x, dy, weight, bias if case.has_bias else None)


def aligned(shape: tuple[int, ...], dtype: Any) -> Array:
    """An uninitialised array whose data begin at a multiple of 64 bytes."""
    dtype = np.dtype(dtype)
    size = prod(shape) * dtype.itemsize
    raw = np.empty(size + ALIGNMENT, np.uint8)
    begin = -raw.ctypes.data % ALIGNMENT
    made: Array = raw[begin : begin + size].view(dtype).reshape(shape)
    return made


def numpy_dtype(name: str) -> Any:
    """The dtype of that name; bfloat16 is of the package ml_dtypes."""
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)
