"""Logic, shifts, bit fields and permutations of bytes."""

from __future__ import annotations

import numpy as np

from ..decode import Decoder, opcode
from ..machine import Step
from ..scalars import KINDS, Array, kind_of
from ..syntax import Instruction, UnknownPtx
from .elementwise import elementwise, only

U32, B32 = KINDS["u32"], KINDS["b32"]


@opcode("and", "or", "xor", "not", "cnot")
def logic(instruction: Instruction, decoder: Decoder) -> Step:
    kind = kind_of(instruction.modifiers[-1])
    only(instruction)
    if instruction.opcode == "cnot":
        return elementwise(instruction, decoder, lambda a: (a == 0).astype(a.dtype), kind, kind)
    function = {
        "and": np.bitwise_and,
        "or": np.bitwise_or,
        "xor": np.bitwise_xor,
        "not": np.invert,
    }[instruction.opcode]
    return elementwise(instruction, decoder, function, kind, *[kind] * (len(instruction.operands) - 1))


@opcode("lop3")
def logic3(instruction: Instruction, decoder: Decoder) -> Step:
    only(instruction)
    *operands, table = instruction.operands
    code = table.bits  # type: ignore[union-attr]

    def function(a: Array, b: Array, c: Array) -> Array:
        result = np.zeros(1, np.uint32)
        for case in range(8):
            if code >> case & 1:
                picks = [value if case >> bit & 1 else ~value for value, bit in ((a, 2), (b, 1), (c, 0))]
                result = result | (picks[0] & picks[1] & picks[2])
        return result

    shorter = Instruction("lop3", ("b32",), tuple(operands), None, instruction.line, instruction.text)
    return elementwise(shorter, decoder, function, B32, B32, B32, B32)


@opcode("shl", "shr")
def shift(instruction: Instruction, decoder: Decoder) -> Step:
    """By the width and more: zero, or the sign everywhere."""
    kind = kind_of(instruction.modifiers[-1])
    only(instruction)
    left, bits = instruction.opcode == "shl", kind.bits

    def function(a: Array, count: Array) -> Array:
        amount = np.minimum(count, np.uint32(bits - 1)).astype(a.dtype)
        if left:
            return np.where(count >= bits, a.dtype.type(0), a << amount)
        shifted = a >> amount
        return shifted if a.dtype.kind == "i" else np.where(count >= bits, a.dtype.type(0), shifted)

    return elementwise(instruction, decoder, function, kind, kind, U32)


@opcode("shf")
def funnel_shift(instruction: Instruction, decoder: Decoder) -> Step:
    modifiers = only(instruction, "l", "r", "wrap", "clamp")

    def function(low: Array, high: Array, count: Array) -> Array:
        amount = count & np.uint32(31) if "wrap" in modifiers else np.minimum(count, np.uint32(32))
        both = high.astype(np.uint64) << np.uint64(32) | low
        if "l" in modifiers:
            return ((both << amount.astype(np.uint64)) >> np.uint64(32)).astype(np.uint32)
        return (both >> amount.astype(np.uint64)).astype(np.uint32)

    return elementwise(instruction, decoder, function, B32, B32, B32, U32)


@opcode("popc", "clz", "bfind", "brev")
def count_bits(instruction: Instruction, decoder: Decoder) -> Step:
    kind = kind_of(instruction.modifiers[-1])
    modifiers = only(instruction, *(("shiftamt",) if instruction.opcode == "bfind" else ()))
    width = kind.bits

    def highest(a: Array) -> Array:
        """The place of the highest bit set; 0xFFFFFFFF if there is none."""
        if a.dtype.kind == "i":
            a = np.where(a < 0, ~a, a).view(kind.storage)
        found = np.full(a.shape, 0xFFFFFFFF, np.uint32)
        for bit in range(width):
            found = np.where(a >> a.dtype.type(bit) & a.dtype.type(1), np.uint32(bit), found)
        return found

    def function(a: Array) -> Array:
        if instruction.opcode == "popc":
            return np.bitwise_count(a).astype(np.uint32)
        if instruction.opcode == "clz":
            return np.uint32(width - 1) - highest(a)
        if instruction.opcode == "bfind":
            place = highest(a)
            return np.where(place == 0xFFFFFFFF, place, np.uint32(width - 1) - place) if modifiers else place
        reversed_bits = np.zeros_like(a)
        for bit in range(width):
            reversed_bits |= (a >> a.dtype.type(bit) & a.dtype.type(1)) << a.dtype.type(width - 1 - bit)
        return reversed_bits

    return elementwise(instruction, decoder, function, kind if instruction.opcode == "brev" else U32, kind)


@opcode("bfe")
def extract_field(instruction: Instruction, decoder: Decoder) -> Step:
    kind = kind_of(instruction.modifiers[-1])
    only(instruction)
    width, signed = kind.bits, kind.dtype.kind == "i"

    def function(a: Array, place: Array, length: Array) -> Array:
        start, count = (place & np.uint32(0xFF)).astype(np.int64), (length & np.uint32(0xFF)).astype(np.int64)
        bits = a.view(kind.storage).astype(np.uint64)
        field = np.where(start < width, bits >> np.minimum(start, 63).astype(np.uint64), np.uint64(0))
        mask = np.where(
            count >= 64,
            ~np.uint64(0),
            (np.uint64(1) << np.minimum(count, 63).astype(np.uint64)) - np.uint64(1),
        )
        field = field & mask
        if signed:
            top = np.minimum(start + count - 1, width - 1)
            negative = (count > 0) & ((bits >> np.maximum(top, 0).astype(np.uint64) & np.uint64(1)) == 1)
            # Bits beyond the field, and those beyond the value, are the sign.
            kept = np.minimum(count, np.maximum(width - start, 0)).astype(np.uint64)
            field = np.where(negative, field | (~np.uint64(0) << np.minimum(kept, 63)), field)
        return field.astype(kind.storage).view(kind.dtype)

    return elementwise(instruction, decoder, function, kind, kind, U32, U32)


@opcode("bfi")
def insert_field(instruction: Instruction, decoder: Decoder) -> Step:
    kind = kind_of(instruction.modifiers[-1])
    only(instruction)

    def function(field: Array, into: Array, place: Array, length: Array) -> Array:
        start = (place & np.uint32(0xFF)).astype(np.uint64)
        count = np.minimum(length & np.uint32(0xFF), np.uint32(64)).astype(np.uint64)
        ones = np.where(count >= 64, ~np.uint64(0), (np.uint64(1) << np.minimum(count, 63)) - np.uint64(1))
        mask = np.where(start < kind.bits, ones << np.minimum(start, 63), np.uint64(0))
        moved = field.astype(np.uint64) << np.minimum(start, 63)
        return ((into.astype(np.uint64) & ~mask) | (moved & mask)).astype(kind.storage)

    return elementwise(instruction, decoder, function, kind, kind, kind, U32, U32)


@opcode("bmsk")
def bit_mask(instruction: Instruction, decoder: Decoder) -> Step:
    modifiers = only(instruction, "clamp", "wrap")

    def function(place: Array, length: Array) -> Array:
        if "wrap" in modifiers:
            place, length = place & np.uint32(31), length & np.uint32(31)
        start, count = np.minimum(place, 32).astype(np.uint64), np.minimum(length, 32).astype(np.uint64)
        return (((np.uint64(1) << count) - np.uint64(1)) << start).astype(np.uint32)

    return elementwise(instruction, decoder, function, B32, U32, U32)


@opcode("prmt")
def permute_bytes(instruction: Instruction, decoder: Decoder) -> Step:
    mode = next((name for name in instruction.modifiers if name != "b32"), "")
    if mode not in ("", "f4e", "b4e", "rc8", "ecl", "ecr", "rc16"):
        raise UnknownPtx(f"no mode .{mode}")

    def selectors(control: Array) -> list[Array]:
        if not mode:
            return [control >> np.uint32(4 * place) & np.uint32(15) for place in range(4)]
        pick = control & np.uint32(3)
        tables = {
            "f4e": [[case + place for place in range(4)] for case in range(4)],
            "b4e": [[(case - place) % 8 for place in range(4)] for case in range(4)],
            "rc8": [[case] * 4 for case in range(4)],
            "ecl": [[max(case, place) for place in range(4)] for case in range(4)],
            "ecr": [[min(case, place) for place in range(4)] for case in range(4)],
            "rc16": [[case % 2 * 2 + place % 2 for place in range(4)] for case in range(4)],
        }
        return [np.array(tables[mode], np.uint32)[pick, place] for place in range(4)]

    def function(a: Array, b: Array, control: Array) -> Array:
        both = b.astype(np.uint64) << np.uint64(32) | a
        result = np.zeros(1, np.uint32)
        for place, selector in enumerate(selectors(control)):
            byte = (both >> ((selector & np.uint32(7)).astype(np.uint64) * np.uint64(8))).astype(
                np.uint32
            ) & np.uint32(255)
            sign = np.where(byte & np.uint32(128), np.uint32(255), np.uint32(0))
            result = result | np.where(selector & np.uint32(8), sign, byte) << np.uint32(8 * place)
        return result

    return elementwise(instruction, decoder, function, B32, B32, B32, B32)
