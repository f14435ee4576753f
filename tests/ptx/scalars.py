"""PTX types as NumPy arrays: registers hold bits, as unsigned integers; instructions view them as a type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .syntax import UnknownPtx

Array: TypeAlias = npt.NDArray[Any]

#: The dtype that a register of a width is kept in.
STORAGE = {1: np.dtype(np.bool_)} | {bits: np.dtype(f"u{bits // 8}") for bits in (8, 16, 32, 64)}


@dataclass(frozen=True)
class Kind:
    """A PTX type: ``dtype`` of one element's bits, ``count`` elements in one value (2 in ``f16x2``).

    bfloat16 has no NumPy dtype: its bits are unsigned integers, widened to float32 for arithmetic.
    """

    name: str
    dtype: np.dtype[Any]
    is_float: bool = False
    count: int = 1

    @property
    def bits(self) -> int:
        """Of the whole value; a predicate has one."""
        return 1 if self.name == "pred" else 8 * self.dtype.itemsize * self.count

    @property
    def storage(self) -> np.dtype[Any]:
        return STORAGE[self.bits]

    @property
    def is_bfloat16(self) -> bool:
        return self.name.startswith("bf16")

    @property
    def element(self) -> Kind:
        return self if self.count == 1 else KINDS[self.name.partition("x")[0]]


def _kinds() -> dict[str, Kind]:
    table = {"pred": Kind("pred", np.dtype(np.bool_))}
    for bits in (8, 16, 32, 64):
        for letter, code in (("u", "u"), ("b", "u"), ("s", "i")):
            table[f"{letter}{bits}"] = Kind(f"{letter}{bits}", np.dtype(f"{code}{bits // 8}"))
    for bits in (16, 32, 64):
        table[f"f{bits}"] = Kind(f"f{bits}", np.dtype(f"f{bits // 8}"), is_float=True)
    table["bf16"] = Kind("bf16", np.dtype(np.uint16), is_float=True)
    for name in ("f16", "bf16", "f32", "u16", "s16"):
        table[f"{name}x2"] = Kind(f"{name}x2", table[name].dtype, table[name].is_float, count=2)
    return table


KINDS = _kinds()


def kind_of(name: str) -> Kind:
    if name not in KINDS:
        raise UnknownPtx(f"no type .{name}")
    return KINDS[name]


def widen_bfloat16(bits: Array) -> Array:
    """bfloat16 bits as float32."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def round_to_bfloat16(values: Array, *, toward_zero: bool = False) -> Array:
    """float32 to bits of bfloat16: to nearest, ties to even, and one NaN for all."""
    bits = values.view(np.uint32)
    if not toward_zero:
        bits = bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))
    return np.where(np.isnan(values), np.uint16(0x7FFF), (bits >> np.uint32(16)).astype(np.uint16))


def elements(bits: Array, kind: Kind) -> Array:
    """A value's elements in the type that arithmetic is done in; a packed one's along a second axis."""
    values = bits.view(kind.dtype)
    if kind.count > 1:
        values = values.reshape(-1, kind.count)
    return widen_bfloat16(values) if kind.is_bfloat16 else values


def packed(values: Array, kind: Kind) -> Array:
    """The reverse of `elements`, for values that the type holds already (bfloat16: rounded here)."""
    if kind.is_bfloat16:
        values = round_to_bfloat16(values)
    elif kind.is_float and values.dtype != kind.dtype:
        values = values.astype(kind.dtype)
    if kind.count > 1:
        return np.ascontiguousarray(values).view(kind.storage).reshape(-1)
    return values.view(kind.storage)
