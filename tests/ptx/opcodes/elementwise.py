"""Steps that compute lane by lane: the first operand is a function of the others."""

from __future__ import annotations

from collections.abc import Callable

from ..decode import Decoder
from ..machine import Step, Wave
from ..scalars import Array, Kind
from ..syntax import Instruction, UnknownPtx


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
