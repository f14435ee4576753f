"""Branches, ends of threads, and what has no effect on results."""

from __future__ import annotations

import numpy as np

from ..decode import Decoder, opcode
from ..faults import Divergence, Fault
from ..geometry import WARP
from ..machine import Outcome, Step, Wave
from ..scalars import KINDS, Array
from ..syntax import Instruction, Target, UnknownPtx


@opcode("bra")
def branch(instruction: Instruction, decoder: Decoder) -> Step:
    (target,) = instruction.operands
    assert isinstance(target, Target)
    pc = target.pc
    uniform = "uni" in instruction.modifiers
    if set(instruction.modifiers) - {"uni"}:
        raise UnknownPtx(f"no {instruction.name}")
    if instruction.guard is None:
        return lambda wave: pc
    predicate = decoder.predicate(instruction.guard)

    def step(wave: Wave) -> Outcome:
        taken = predicate(wave)
        if len(taken) == 1:
            return pc if taken[0] else None
        if wave.active is None:
            if taken.all():
                return pc
            if not taken.any():
                return None
            goes, stays = taken, ~taken
        else:
            goes = taken & wave.active
            if not goes.any():
                return None
            stays = wave.active & ~taken
            if not stays.any():
                return pc
        if uniform:
            _check_uniform(wave, goes, stays)
        return [(pc, goes), (wave.pc + 1, stays)]

    return step


def _check_uniform(wave: Wave, goes: Array, stays: Array) -> None:
    split = goes.reshape(-1, WARP).any(axis=1) & stays.reshape(-1, WARP).any(axis=1)
    if split.any():
        raise Divergence(
            "a uniform branch that a warp takes in part", np.flatnonzero(goes & split.repeat(WARP))
        )


@opcode("brx")
def branch_indexed(instruction: Instruction, decoder: Decoder) -> Step:
    """To one label of a table."""
    index, *targets = instruction.operands
    places = np.array([target.pc for target in targets if isinstance(target, Target)])
    read = decoder.bits(index, KINDS["u32"])

    def step(wave: Wave) -> Outcome:
        number = np.broadcast_to(read(wave), (wave.lanes,))
        mask = wave.active_mask()
        outside = mask & (number >= len(places))
        if outside.any():
            raise Fault("an index behind the end of the table of labels", np.flatnonzero(outside))
        goal = places[np.where(mask, number, 0)]
        return [(int(pc), mask & (goal == pc)) for pc in np.unique(goal[mask])]

    return step


@opcode("ret", "exit")
def leave(instruction: Instruction, decoder: Decoder) -> Step:
    """The end of the thread; a function's return was made a branch when it was inlined."""

    def step(wave: Wave) -> Outcome:
        return len(wave.program.steps)

    return step


@opcode("trap", "brkpt")
def trap(instruction: Instruction, decoder: Decoder) -> Step:
    def step(wave: Wave) -> Outcome:
        raise Fault("the kernel stops itself", wave.active_lanes())

    return step


@opcode(
    "fence",
    "membar",
    "griddepcontrol",
    "nanosleep",
    "prefetch",
    "prefetchu",
    "setmaxnreg",
    "pmevent",
    "applypriority",
)
def nothing(instruction: Instruction, decoder: Decoder) -> Step:
    """Every access is seen at once here, so that fences change nothing."""
    return lambda wave: None


@opcode("createpolicy")
def create_policy(instruction: Instruction, decoder: Decoder) -> Step:
    """A cache policy says nothing about values."""
    write = decoder.write_bits(instruction.operands[0], KINDS["b64"])
    return lambda wave: write(wave, np.zeros(1, np.uint64))
