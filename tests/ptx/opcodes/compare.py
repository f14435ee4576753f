"""Comparisons and selections, of any type."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .. import floats
from ..decode import Decoder, opcode
from ..machine import Step, Wave
from ..scalars import KINDS, Array, Kind, kind_of
from ..syntax import Instruction
from .elementwise import elementwise, only

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
            a, b = floats.flush(a), floats.flush(b)
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
