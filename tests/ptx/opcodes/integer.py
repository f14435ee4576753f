"""Integer arithmetic, comparisons of any type, shifts and bit fields."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..decode import Decoder, opcode
from ..machine import Step, Wave
from ..scalars import KINDS, Array, Kind, kind_of
from ..syntax import Instruction, UnknownPtx
from . import floating

U32, B32 = KINDS["u32"], KINDS["b32"]


def elementwise(
    instruction: Instruction, decoder: Decoder, function: Callable[..., Array], result: Kind, *arguments: Kind
) -> Step:
    """The first operand is a function of the others, each of its own type."""
    if len(instruction.operands) != 1 + len(arguments):
        raise UnknownPtx(f"{len(instruction.operands)} operands, expected {1 + len(arguments)}")
    write = decoder.write_values(instruction.operands[0], result)
    readers = [
        decoder.values(operand, kind)
        for operand, kind in zip(instruction.operands[1:], arguments, strict=True)
    ]
    if len(readers) == 1:
        (one,) = readers

        def step1(wave: Wave) -> None:
            write(wave, function(one(wave)))

        return step1
    if len(readers) == 2:
        first, second = readers

        def step2(wave: Wave) -> None:
            write(wave, function(first(wave), second(wave)))

        return step2

    def step(wave: Wave) -> None:
        write(wave, function(*(reader(wave) for reader in readers)))

    return step


def only(instruction: Instruction, *allowed: str) -> frozenset[str]:
    """The modifiers but the type, which must be among those allowed."""
    modifiers = frozenset(instruction.modifiers[:-1])
    unknown = modifiers - set(allowed)
    if unknown:
        raise UnknownPtx(f"no modifier .{' .'.join(sorted(unknown))}")
    return modifiers


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


COMPARE: dict[str, Callable[[Array, Array], Array]] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}
UNSIGNED_NAMES = {"lo": "lt", "ls": "le", "hi": "gt", "hs": "ge"}


def comparison(name: str, kind: Kind) -> Callable[[Array, Array], Array]:
    """Of floats, those ending in ``u`` hold for NaN as well; ``ne`` does not."""
    if not kind.is_float:
        return COMPARE[UNSIGNED_NAMES.get(name, name)]
    if name in ("num", "nan"):
        return lambda a, b: (np.isnan(a) | np.isnan(b)) == (name == "nan")
    if name in COMPARE:
        plain = COMPARE[name]
        return plain if name != "ne" else lambda a, b: (a != b) & ~np.isnan(a) & ~np.isnan(b)
    ordered = COMPARE[name.removesuffix("u")]
    return lambda a, b: ordered(a, b) | np.isnan(a) | np.isnan(b)


COMBINE = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}


@opcode("setp", "set")
def compare(instruction: Instruction, decoder: Decoder) -> Step:
    """``setp`` sets predicates, ``set`` all ones or 1.0; either combined with a third predicate."""
    names = list(instruction.modifiers)
    kind = kind_of(names.pop())
    result = KINDS["pred"] if instruction.opcode == "setp" else kind_of(names.pop())
    flushes = "ftz" in names
    names = [name for name in names if name != "ftz"]
    holds = comparison(names[0], kind)
    combine = COMBINE[names[1]] if len(names) > 1 else None
    destination, left, right, *third = instruction.operands
    first, second = decoder.values(left, kind), decoder.values(right, kind)
    extra = decoder.predicate(third[0]) if third else None
    if kind.count == 2 and result.name == "pred":
        return _compare_pairs(instruction, decoder, kind, holds)
    write, write_other = decoder.both(destination, result, result)

    def as_result(truth: Array) -> Array:
        if result.name == "pred":
            return truth
        one = np.ones(1, result.dtype).view(result.storage)[0] if result.is_float else ~result.storage.type(0)
        return np.where(truth, one, result.storage.type(0))

    def step(wave: Wave) -> None:
        a, b = first(wave), second(wave)
        if flushes:
            a, b = floating.floats.flush(a), floating.floats.flush(b)
        truth = holds(a, b)
        other = ~truth
        if combine is not None and extra is not None:
            truth, other = combine(truth, extra(wave)), combine(other, extra(wave))
        write(wave, as_result(truth))
        write_other(wave, as_result(other))

    return step


def _compare_pairs(
    instruction: Instruction, decoder: Decoder, kind: Kind, holds: Callable[[Array, Array], Array]
) -> Step:
    """Both halves of packed values, into two predicates."""
    pred = KINDS["pred"]
    writers = decoder.both(instruction.operands[0], pred, pred)
    first, second = (decoder.values(operand, kind) for operand in instruction.operands[1:3])

    def step(wave: Wave) -> None:
        truth = holds(first(wave), second(wave))
        for half, write in enumerate(writers):
            write(wave, np.ascontiguousarray(truth[:, half]))

    return step


@opcode("selp")
def select(instruction: Instruction, decoder: Decoder) -> Step:
    kind = kind_of(instruction.modifiers[-1])
    only(instruction)
    destination, left, right, condition = instruction.operands
    write = decoder.write_bits(destination, kind)
    first, second, picks = decoder.bits(left, kind), decoder.bits(right, kind), decoder.predicate(condition)

    def step(wave: Wave) -> None:
        write(wave, np.where(picks(wave), first(wave), second(wave)))

    return step


@opcode("slct")
def select_by_sign(instruction: Instruction, decoder: Decoder) -> Step:
    kind, sign = kind_of(instruction.modifiers[-2]), kind_of(instruction.modifiers[-1])
    return elementwise(instruction, decoder, lambda a, b, c: np.where(c >= 0, a, b), kind, kind, kind, sign)
