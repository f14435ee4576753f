"""Arithmetic of integers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..decode import Decoder, opcode
from ..machine import Step
from ..scalars import Array, Kind, kind_of
from ..syntax import Instruction
from . import floating
from .elementwise import elementwise, only


def clamped(kind: Kind, function: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    """With the result clamped to the type's range (``.sat`` of s32)."""
    bounds = np.iinfo(kind.dtype)

    def clamp(a: Array, b: Array) -> Array:
        exact = function(a.astype(np.int64), b.astype(np.int64))
        return np.clip(exact, bounds.min, bounds.max).astype(kind.dtype)

    return clamp


@opcode("add", "sub", "mul", "mad", "div", "min", "max", "neg", "abs", "fma")
def arithmetic(instruction: Instruction, decoder: Decoder) -> Step:
    kind = kind_of(instruction.modifiers[-1])
    return (floating.arithmetic if kind.is_float else _integer)(instruction, decoder, kind)


def _integer(instruction: Instruction, decoder: Decoder, kind: Kind) -> Step:
    if instruction.opcode in ("mul", "mad"):
        return _multiply(instruction, decoder, kind)
    modifiers = only(instruction, *(("sat",) if instruction.opcode in ("add", "sub") else ()))
    function = {
        "add": np.add,
        "sub": np.subtract,
        "div": _quotient,
        "min": np.minimum,
        "max": np.maximum,
        "neg": np.negative,
        "abs": np.abs,
    }[instruction.opcode]
    if "sat" in modifiers:
        function = clamped(kind, function)
    count = 1 if instruction.opcode in ("neg", "abs") else 2
    return elementwise(instruction, decoder, function, kind, *[kind] * count)


def _quotient(a: Array, b: Array) -> Array:
    """Rounded toward zero; by zero all ones, as the hardware gives."""
    if a.dtype.kind == "u":
        return np.where(b == 0, ~a.dtype.type(0), a // np.where(b == 0, b.dtype.type(1), b))
    safe = np.where(b == 0, b.dtype.type(1), b)
    floor = a // safe
    inexact = (floor * safe != a) & ((a < 0) != (b < 0))
    return np.where(b == 0, a.dtype.type(-1), floor + inexact.astype(a.dtype))


@opcode("rem")
def remainder(instruction: Instruction, decoder: Decoder) -> Step:
    kind = kind_of(instruction.modifiers[-1])
    only(instruction)
    return elementwise(
        instruction, decoder, lambda a, b: np.where(b == 0, a, a - _quotient(a, b) * b), kind, kind, kind
    )


def _high(a: Array, b: Array) -> Array:
    """The upper half of a product."""
    bits = 8 * a.dtype.itemsize
    if bits < 64:
        product = _wide_product(a, b)
        return (product >> product.dtype.type(bits)).astype(a.dtype)
    u, v, half, low = a.view(np.uint64), b.view(np.uint64), np.uint64(32), np.uint64(0xFFFFFFFF)
    u0, u1, v0, v1 = u & low, u >> half, v & low, v >> half
    middle = u1 * v0 + ((u0 * v0) >> half)
    other = u0 * v1 + (middle & low)
    high = u1 * v1 + (middle >> half) + (other >> half)
    if a.dtype.kind == "i":
        high = high - np.where(a < 0, v, np.uint64(0)) - np.where(b < 0, u, np.uint64(0))
    return high.view(a.dtype)


def _wide_product(a: Array, b: Array) -> Array:
    wide = np.dtype(f"{a.dtype.kind}{2 * a.dtype.itemsize}")
    return a.astype(wide) * b.astype(wide)


def _multiply(instruction: Instruction, decoder: Decoder, kind: Kind) -> Step:
    modifiers = only(instruction, "lo", "hi", "wide")
    adds = instruction.opcode == "mad"
    result, product = kind, _high if "hi" in modifiers else np.multiply
    if "wide" in modifiers:
        result, product = kind_of(f"{kind.name[0]}{2 * kind.bits}"), _wide_product
    if not adds:
        return elementwise(instruction, decoder, product, result, kind, kind)
    return elementwise(instruction, decoder, lambda a, b, c: product(a, b) + c, result, kind, kind, result)


@opcode("mul24", "mad24")
def multiply24(instruction: Instruction, decoder: Decoder) -> Step:
    kind = kind_of(instruction.modifiers[-1])
    only(instruction, "lo")
    unused = kind.dtype.type(8)

    def product(a: Array, b: Array) -> Array:
        return ((a << unused) >> unused) * ((b << unused) >> unused)

    if instruction.opcode == "mul24":
        return elementwise(instruction, decoder, product, kind, kind, kind)
    return elementwise(instruction, decoder, lambda a, b, c: product(a, b) + c, kind, kind, kind, kind)


@opcode("sad")
def sum_of_difference(instruction: Instruction, decoder: Decoder) -> Step:
    kind = kind_of(instruction.modifiers[-1])
    only(instruction)
    return elementwise(
        instruction, decoder, lambda a, b, c: c + np.where(a < b, b - a, a - b), kind, kind, kind, kind
    )
