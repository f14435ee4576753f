"""Moves, packing and unpacking, and addresses of one space as those of another."""

from __future__ import annotations

import numpy as np

from ..decode import Decoder, opcode
from ..machine import Step, Wave
from ..memory import LOCAL_WINDOW, SHARED_WINDOW
from ..scalars import Array, kind_of
from ..syntax import Instruction, Symbol, UnknownPtx

#: What a generic address is above that of its space.
WINDOWS = {"global": 0, "const": 0, "shared": SHARED_WINDOW, "local": LOCAL_WINDOW, "param": 0}


@opcode("mov")
def move(instruction: Instruction, decoder: Decoder) -> Step:
    kind = kind_of(instruction.modifiers[-1])
    if len(instruction.modifiers) != 1:
        raise UnknownPtx(f"no mov.{'.'.join(instruction.modifiers)}")
    destination, source = instruction.operands
    read = decoder.bits(source, kind)
    write = decoder.write_bits(destination, kind)

    def step(wave: Wave) -> None:
        write(wave, read(wave))

    return step


@opcode("cvta")
def convert_address(instruction: Instruction, decoder: Decoder) -> Step:
    """To a generic address, or with ``.to`` from one."""
    modifiers = [name for name in instruction.modifiers if name != "to"]
    kind = kind_of(modifiers[-1])
    space = modifiers[0].partition("::")[0]
    offset = kind.dtype.type(WINDOWS[space])
    back = "to" in instruction.modifiers
    destination, source = instruction.operands
    if isinstance(source, Symbol) and decoder.places[source.name][0] != space:
        raise UnknownPtx(f"{source.name} does not lie in .{space}")
    read, write = decoder.bits(source, kind), decoder.write_bits(destination, kind)

    def step(wave: Wave) -> None:
        value = read(wave)
        write(wave, value - offset if back else value + offset)

    return step


@opcode("isspacep")
def is_in_space(instruction: Instruction, decoder: Decoder) -> Step:
    space = instruction.modifiers[0].partition("::")[0]
    low, high = {
        "shared": (SHARED_WINDOW, LOCAL_WINDOW),
        "local": (LOCAL_WINDOW, LOCAL_WINDOW + (1 << 40)),
        "global": (LOCAL_WINDOW + (1 << 40), 1 << 63),
    }[space]
    destination, source = instruction.operands
    read, write = decoder.bits(source, kind_of("u64")), decoder.write_bits(destination, kind_of("pred"))

    def step(wave: Wave) -> None:
        address: Array = read(wave)
        write(wave, (address >= np.uint64(low)) & (address < np.uint64(high)))

    return step
