"""Floating-point arithmetic; approximate functions give the float32 nearest to the exact result."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from .. import floats
from ..decode import Decoder, opcode
from ..machine import Step, Wave
from ..scalars import Array, Kind, kind_of, round_to_bfloat16, widen_bfloat16
from ..syntax import Instruction, UnknownPtx

ROUNDINGS = ("rn", "rz", "rm", "rp")
FLAGS = {"ftz", "sat", "approx", "full", "NaN", "xorsign", "abs", "relu"}


def _modifiers(instruction: Instruction) -> tuple[frozenset[str], str]:
    """The flags and the rounding."""
    names = frozenset(instruction.modifiers[:-1])
    rounding = next((name for name in ROUNDINGS if name in names), "rn")
    unknown = names - FLAGS - set(ROUNDINGS)
    if unknown:
        raise UnknownPtx(f"no modifier .{' .'.join(sorted(unknown))}")
    return names, rounding


def _fma(a: Array, b: Array, c: Array, mode: str) -> Array:
    return floats.fma(*np.broadcast_arrays(a, b, c), mode)


def _extreme(pick: Callable[[Array, Array], Array], flags: frozenset[str]) -> Callable[..., Array]:
    """The number where one is NaN (``.NaN``: NaN), and -0 less than +0."""

    def choose(a: Array, b: Array) -> Array:
        negative = np.signbit(a) ^ np.signbit(b)
        if "abs" in flags:
            a, b = np.abs(a), np.abs(b)
        smaller = pick is np.fmin
        first = np.where(a == b, np.signbit(a) == smaller, (a < b) == smaller)
        result = np.where(np.isnan(a), b, np.where(np.isnan(b) | first, a, b))
        if "NaN" in flags:
            result = np.where(np.isnan(a) | np.isnan(b), a.dtype.type(np.nan), result)
        if "xorsign" in flags:
            result = np.where(negative, -np.abs(result), np.abs(result))
        return result

    return choose


@cache
def _function(opcode_name: str, flags: frozenset[str], mode: str) -> tuple[Callable[..., Array], int]:
    """What an opcode computes and of how many arguments."""
    table: dict[str, tuple[Callable[..., Array], int]] = {
        "add": (lambda a, b: floats.add(a, b, mode), 2),
        "sub": (lambda a, b: floats.add(a, -b, mode), 2),
        "mul": (lambda a, b: floats.multiply(a, b, mode), 2),
        "div": (lambda a, b: floats.divide(a, b, mode), 2),
        "fma": (lambda a, b, c: _fma(a, b, c, mode), 3),
        "mad": (lambda a, b, c: _fma(a, b, c, mode), 3),
        "min": (_extreme(np.fmin, flags), 2),
        "max": (_extreme(np.fmax, flags), 2),
        "neg": (np.negative, 1),
        "abs": (np.abs, 1),
        "sqrt": (lambda a: floats.square_root(a, mode), 1),
        "rcp": (lambda a: floats.divide(np.ones_like(a), a, mode), 1),
        "rsqrt": (_wide(lambda a: 1 / np.sqrt(a)), 1),
        "ex2": (_wide(np.exp2), 1),
        "lg2": (_wide(np.log2), 1),
        "sin": (_wide(np.sin), 1),
        "cos": (_wide(np.cos), 1),
        "tanh": (_wide(np.tanh), 1),
    }
    return table[opcode_name]


def _wide(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    return lambda a: function(a.astype(np.float64)).astype(a.dtype)


def arithmetic(instruction: Instruction, decoder: Decoder, kind: Kind) -> Step:
    """Any of these opcodes on any float type, packed or not."""
    flags, mode = _modifiers(instruction)
    exact, count = _function(instruction.opcode, flags, mode)
    if kind.is_bfloat16:
        exact = _in_bfloat16(exact, instruction.opcode)
    elif kind.element.name == "f16" and instruction.opcode != "fma":
        exact = _in_half(exact)
    if "ftz" in flags and kind.element.name == "f32":
        plain = exact

        def exact(*values: Array) -> Array:
            return floats.flush(plain(*(floats.flush(value) for value in values)))

    if "sat" in flags:
        unsaturated = exact

        def exact(*values: Array) -> Array:
            return floats.saturate(unsaturated(*values))

    if "relu" in flags:
        unclamped = exact

        def exact(*values: Array) -> Array:
            return np.maximum(unclamped(*values), 0)

    write = decoder.write_values(instruction.operands[0], kind)
    if len(instruction.operands) != 1 + count:
        raise UnknownPtx(f"{len(instruction.operands)} operands, expected {1 + count}")
    readers = [decoder.values(operand, kind) for operand in instruction.operands[1:]]
    if count == 2:
        first, second = readers

        def step2(wave: Wave) -> None:
            write(wave, exact(first(wave), second(wave)))

        return step2

    def step(wave: Wave) -> None:
        write(wave, exact(*(reader(wave) for reader in readers)))

    return step


def _in_half(function: Callable[..., Array]) -> Callable[..., Array]:
    """float32 has more than twice float16's digits: the second rounding changes nothing (Figueroa 1995)."""
    return lambda *values: function(*(value.astype(np.float32) for value in values)).astype(np.float16)


def _in_bfloat16(function: Callable[..., Array], name: str) -> Callable[..., Array]:
    """On float32 values; rounded to bfloat16 once, as above or, for an fma, by way of odd roundings."""
    if name not in ("fma", "mad"):
        return lambda *values: widen_bfloat16(round_to_bfloat16(np.asarray(function(*values), np.float32)))

    def fma(a: Array, b: Array, c: Array) -> Array:
        product = a.astype(np.float64) * b.astype(np.float64)
        odd = floats.to_odd(*floats.two_sum(product, c.astype(np.float64)))
        return widen_bfloat16(round_to_bfloat16(floats.to_odd_float32(odd)))

    return fma


@opcode("sqrt", "rcp", "rsqrt", "ex2", "lg2", "sin", "cos", "tanh")
def functions(instruction: Instruction, decoder: Decoder) -> Step:
    kind = kind_of(instruction.modifiers[-1])
    if not kind.is_float:
        raise UnknownPtx(f"no such function of .{kind.name}")
    return arithmetic(instruction, decoder, kind)


@opcode("copysign")
def copy_sign(instruction: Instruction, decoder: Decoder) -> Step:
    """The first argument's sign on the second."""
    kind = kind_of(instruction.modifiers[-1])
    write = decoder.write_values(instruction.operands[0], kind)
    sign, size = (decoder.values(operand, kind) for operand in instruction.operands[1:])

    def step(wave: Wave) -> None:
        write(wave, np.copysign(size(wave), sign(wave)))

    return step


@opcode("testp")
def test_property(instruction: Instruction, decoder: Decoder) -> Step:
    name, kind = instruction.modifiers[0], kind_of(instruction.modifiers[-1])
    tiny = np.finfo(kind.dtype).tiny
    holds: Callable[[Array], Array] = {
        "finite": np.isfinite,
        "infinite": np.isinf,
        "number": lambda a: ~np.isnan(a),
        "notanumber": np.isnan,
        "normal": lambda a: np.isfinite(a) & (np.abs(a) >= tiny),
        "subnormal": lambda a: (np.abs(a) < tiny) & (a != 0),
    }[name]
    write = decoder.write_bits(instruction.operands[0], kind_of("pred"))
    value = decoder.values(instruction.operands[1], kind)

    def step(wave: Wave) -> None:
        write(wave, holds(value(wave)))

    return step
