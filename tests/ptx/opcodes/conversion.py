"""``cvt``: between integers, floats, and pairs of 16-bit floats."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .. import floats
from ..decode import Decoder, opcode
from ..machine import Step, Wave
from ..scalars import KINDS, Array, Kind, kind_of, round_to_bfloat16, widen_bfloat16
from ..syntax import Instruction, UnknownPtx

TO_INTEGER: dict[str, Callable[[Array], Array]] = {
    "rni": np.rint,
    "rzi": np.trunc,
    "rmi": np.floor,
    "rpi": np.ceil,
}
ROUNDINGS = ("rn", "rz", "rm", "rp", *TO_INTEGER)
FLAGS = {"ftz", "sat", "relu", "satfinite", "pack"}


def round_to(values: Array, kind: Kind, mode: str) -> Array:
    """Floats as those of a narrower or the same type, one rounding; bfloat16 stays in float32."""
    if kind.is_bfloat16:
        wide = values.astype(np.float64)
        single = floats.to_odd_float32(wide)
        if mode not in ("rn", "rz"):
            raise UnknownPtx(f"no .{mode} to bfloat16")
        return widen_bfloat16(round_to_bfloat16(single, toward_zero=mode == "rz"))
    if kind.dtype.itemsize >= values.dtype.itemsize:
        return values.astype(kind.dtype)
    return floats.narrow(values.astype(np.float64), None, kind.dtype, mode)


def to_integer(values: Array, kind: Kind, mode: str) -> Array:
    """Clamped to the type's range, NaN as 0."""
    rounded = TO_INTEGER[mode](values.astype(np.float64))
    bounds = np.iinfo(kind.dtype)
    # 2^63 - 1 and 2^64 - 1 are no float64: what reaches them is clamped by hand.
    inside = (rounded > float(bounds.min)) & (rounded < float(bounds.max))
    result = np.where(inside, rounded, 0).astype(kind.dtype)
    result = np.where(rounded >= float(bounds.max), kind.dtype.type(bounds.max), result)
    return np.where(rounded <= float(bounds.min), kind.dtype.type(bounds.min), result)


def from_integer(values: Array, kind: Kind, mode: str) -> Array:
    if kind.name == "f64" and mode == "rn":
        return values.astype(np.float64)
    if values.dtype.itemsize < 8 and kind.name != "f64":
        return round_to(values.astype(np.float64), kind, mode)
    # Two halves, each exact in float64, so that one rounding is left to do.
    low = (values & values.dtype.type(0xFFFFFFFF)).astype(np.float64)
    high = (values >> values.dtype.type(32)).astype(np.float64) * 2.0**32
    total, rest = floats.two_sum(high, low)
    if kind.name == "f64":
        return floats.direct(total, rest, mode)
    odd = floats.to_odd(total, rest)
    return round_to(odd, kind, mode)


def converter(to: Kind, source: Kind, names: set[str]) -> Callable[[Array], Array]:
    """From values of one type to values of the other."""
    mode = next((name for name in ROUNDINGS if name in names), None)
    if source.is_float and not to.is_float:
        return lambda values: to_integer(values, to, mode or "rzi")
    if to.is_float and not source.is_float:
        return lambda values: from_integer(values, to, mode or "rn")
    if to.is_float:
        if mode in TO_INTEGER:
            return lambda values: round_to(TO_INTEGER[mode](values), to, "rn")
        return lambda values: round_to(values, to, mode or "rn")
    if "sat" in names:
        bounds = np.iinfo(to.dtype)
        low, high = max(bounds.min, np.iinfo(source.dtype).min), min(bounds.max, np.iinfo(source.dtype).max)
        return lambda values: np.clip(values, source.dtype.type(low), source.dtype.type(high)).astype(
            to.dtype
        )
    return lambda values: values.astype(to.dtype)


@opcode("cvt")
def convert(instruction: Instruction, decoder: Decoder) -> Step:
    *modifiers, to_name, source_name = instruction.modifiers
    names = set(modifiers)
    unknown = names - FLAGS - set(ROUNDINGS)
    if unknown:
        raise UnknownPtx(f"no modifier .{' .'.join(sorted(unknown))}")
    to, source = kind_of(to_name), kind_of(source_name)
    if to.count == 2:
        return _convert_pair(instruction, decoder, to, source, names)
    change = converter(to, source, names)
    destination, value = instruction.operands
    read, write = decoder.values(value, source), decoder.write_values(destination, to)

    def step(wave: Wave) -> None:
        values = read(wave)
        if "ftz" in names:
            values = floats.flush(values)
        result = change(values)
        if "ftz" in names:
            result = floats.flush(result)
        if "relu" in names:
            result = np.where(result > 0, result, np.where(np.isnan(result), result, 0)).astype(result.dtype)
        if "sat" in names and to.is_float:
            result = floats.saturate(result)
        write(wave, result)

    return step


def _convert_pair(
    instruction: Instruction, decoder: Decoder, to: Kind, source: Kind, names: set[str]
) -> Step:
    """Two float32 to a pair of 16-bit floats: the first operand into the upper half."""
    if source.name != "f32" or names - {"rn", "rz", "relu"}:
        raise UnknownPtx(f"no {instruction.name}")
    change = converter(to.element, KINDS["f32"], names)
    destination, upper, lower = instruction.operands
    high, low = decoder.values(upper, source), decoder.values(lower, source)
    write = decoder.write_values(destination, to)

    def step(wave: Wave) -> None:
        pair = np.stack(np.broadcast_arrays(change(low(wave)), change(high(wave))), axis=1)
        if "relu" in names:
            pair = np.where(pair > 0, pair, np.where(np.isnan(pair), pair, 0)).astype(pair.dtype)
        write(wave, pair)

    return step


@opcode("szext")
def extend(instruction: Instruction, decoder: Decoder) -> Step:
    """Keeps the low bits of a 32-bit value and extends them by zeros or the sign."""
    kind, mode = kind_of(instruction.modifiers[-1]), instruction.modifiers[0]
    destination, value, length = instruction.operands
    read, count = decoder.bits(value, kind), decoder.bits(length, KINDS["u32"])
    write = decoder.write_bits(destination, kind)

    def step(wave: Wave) -> None:
        bits, width = read(wave).astype(np.uint64), count(wave).astype(np.uint64)
        width = np.minimum(width & np.uint64(31), 32) if mode == "wrap" else np.minimum(width, 32)
        ones = (np.uint64(1) << width) - np.uint64(1)
        result = bits & ones
        if kind.name == "s32":
            top = (width > 0) & ((bits >> np.maximum(width, 1) - np.uint64(1) & np.uint64(1)) == 1)
            result = np.where(top, result | ~ones, result)
        write(wave, result.astype(np.uint32))

    return step
