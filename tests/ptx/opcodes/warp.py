"""What the lanes of a warp do together: shuffles, votes, matches, reductions, and their barrier.

The lanes that a mask names wait for one another. A lane outside of its own mask, lanes that give different
masks and a value taken from a lane that does not take part are undefined in PTX, and faults here.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..decode import Decoder, Reader, opcode
from ..faults import Divergence
from ..geometry import WARP
from ..machine import Outcome, Step, Wave
from ..scalars import KINDS, Array, kind_of
from ..syntax import Instruction, Operand, UnknownPtx

U32, PRED = KINDS["u32"], KINDS["pred"]
LANES = np.arange(WARP, dtype=np.int64)
FULL = 0xFFFFFFFF


def ballots(mask: Array) -> Array:
    """For each lane the bits of those lanes of its warp that a mask holds."""
    bits = np.packbits(mask.reshape(-1, WARP), axis=1, bitorder="little").view(np.uint32)
    return bits.reshape(-1).repeat(WARP)


def together(membermask: Reader, act: Callable[[Wave, Array], None]) -> Step:
    """``act(wave, masks)`` for the lanes whose masks' lanes are all here; the others are parked.

    Masks are those of each lane, cut to the lanes that are alive.
    """

    def step(wave: Wave) -> Outcome:
        given = membermask(wave)
        if wave.active is None and len(given) == 1 and given[0] == FULL:
            act(wave, np.broadcast_to(given, (wave.lanes,)))
            return None
        given = np.broadcast_to(given, (wave.lanes,))
        here = wave.active_mask()
        lane_bit = np.uint32(1) << (wave.lane % WARP).astype(np.uint32)
        outside = here & ((given & lane_bit) == 0)
        if outside.any():
            raise Divergence("a lane that its own mask does not name", np.flatnonzero(outside))
        needed = given & ballots(wave.alive)
        complete = here & ((needed & ~ballots(here)) == 0)
        _check_masks_agree(complete, needed)
        if not complete.any():
            wave.park(here)
            return []
        rest = here & ~complete
        if not rest.any():
            act(wave, needed)
            return None
        before = wave.active, wave.written
        wave.active = wave.written = complete
        act(wave, needed)
        wave.active, wave.written = before
        wave.park(rest)
        return [(wave.pc + 1, complete)]

    return step


def _check_masks_agree(complete: Array, needed: Array) -> None:
    """Lanes that one mask names must give the same mask."""
    rows, here = needed.reshape(-1, WARP), complete.reshape(-1, WARP)
    smallest = np.where(here, rows, FULL).min(axis=1)
    uneven = (here & (rows != smallest[:, None])).any(axis=1)
    for warp in np.flatnonzero(uneven):
        for lane in np.flatnonzero(here[warp]):
            named = (rows[warp, lane] >> LANES & 1) == 1
            if (rows[warp][named] != rows[warp, lane]).any():
                raise Divergence(
                    "lanes of one mask that give different masks", np.array([warp * WARP + lane])
                )


def _member_mask(operand: Operand, decoder: Decoder) -> Reader:
    return decoder.bits(operand, U32)


@opcode("shfl")
def shuffle(instruction: Instruction, decoder: Decoder) -> Step:
    if instruction.modifiers[0] != "sync" or instruction.modifiers[2] != "b32":
        raise UnknownPtx(f"no {instruction.name}")
    mode = instruction.modifiers[1]
    destination, value, distance, clamp, mask = instruction.operands
    write, write_inside = decoder.both(destination, KINDS["b32"], PRED)
    read = decoder.bits(value, KINDS["b32"])
    by, bounds = decoder.bits(distance, U32), decoder.bits(clamp, U32)

    def act(wave: Wave, masks: Array) -> None:
        lane = wave.lane % WARP
        step = by(wave).astype(np.int64) & 31
        limits = bounds(wave).astype(np.int64)
        segment, last = limits >> 8 & 31, limits & 31
        low, high = lane & segment, (lane & segment) | (last & ~segment)
        if mode == "up":
            source = lane - step
            inside = source >= high
        else:
            source = {"down": lane + step, "bfly": lane ^ step, "idx": low | (step & ~segment)}[mode]
            inside = source <= high
        source = np.where(inside, source, lane)
        if wave.active is not None or (masks != FULL).any():
            missing = wave.active_mask() & ((masks >> source.astype(np.uint32) & np.uint32(1)) == 0)
            if missing.any():
                raise Divergence("a value from a lane that does not take part", np.flatnonzero(missing))
        bits = np.broadcast_to(read(wave), (wave.lanes,))
        write(wave, bits[wave.lane - lane + source])
        write_inside(wave, np.broadcast_to(inside, (wave.lanes,)))

    return together(_member_mask(mask, decoder), act)


@opcode("vote")
def vote(instruction: Instruction, decoder: Decoder) -> Step:
    mode = instruction.modifiers[1]
    if instruction.modifiers[0] != "sync" or mode not in ("all", "any", "uni", "ballot"):
        raise UnknownPtx(f"no {instruction.name}")
    destination, value, mask = instruction.operands
    read = decoder.predicate(value)
    write = decoder.write_bits(destination, KINDS["b32"] if mode == "ballot" else PRED)

    def act(wave: Wave, masks: Array) -> None:
        cast = ballots(np.broadcast_to(read(wave), (wave.lanes,)) & wave.active_mask()) & masks
        results = {
            "ballot": cast,
            "all": cast == masks,
            "any": cast != 0,
            "uni": (cast == masks) | (cast == 0),
        }
        write(wave, results[mode])

    return together(_member_mask(mask, decoder), act)


@opcode("activemask")
def active_mask(instruction: Instruction, decoder: Decoder) -> Step:
    write = decoder.write_bits(instruction.operands[0], KINDS["b32"])
    return lambda wave: write(wave, ballots(wave.active_mask()))


@opcode("match")
def match(instruction: Instruction, decoder: Decoder) -> Step:
    mode, sync, kind_name = instruction.modifiers
    if sync != "sync" or mode not in ("any", "all"):
        raise UnknownPtx(f"no {instruction.name}")
    destination, value, mask = instruction.operands
    read = decoder.bits(value, kind_of(kind_name))
    write, write_all = decoder.both(destination, KINDS["b32"], PRED)

    def act(wave: Wave, masks: Array) -> None:
        values = np.broadcast_to(read(wave), (wave.lanes,)).reshape(-1, WARP)
        equal = values[:, :, None] == values[:, None, :]
        found = (
            np.packbits(equal.reshape(-1, WARP), axis=1, bitorder="little").view(np.uint32).reshape(-1)
            & masks
        )
        if mode == "any":
            write(wave, found)
        else:
            write(wave, np.where(found == masks, masks, np.uint32(0)))
            write_all(wave, found == masks)

    return together(_member_mask(mask, decoder), act)


@opcode("redux")
def reduce(instruction: Instruction, decoder: Decoder) -> Step:
    sync, operation, *flags, kind_name = instruction.modifiers
    kind = kind_of(kind_name)
    if sync != "sync" or set(flags) - {"abs", "NaN"} or (kind.is_float and operation not in ("min", "max")):
        raise UnknownPtx(f"no {instruction.name}")
    combine = {
        "add": np.add,
        "min": np.fmin if kind.is_float and "NaN" not in flags else np.minimum,
        "max": np.fmax if kind.is_float and "NaN" not in flags else np.maximum,
        "and": np.bitwise_and,
        "or": np.bitwise_or,
        "xor": np.bitwise_xor,
    }[operation]
    destination, value, mask = instruction.operands
    read, write = decoder.values(value, kind), decoder.write_values(destination, kind)

    def act(wave: Wave, masks: Array) -> None:
        values = np.broadcast_to(read(wave), (wave.lanes,))
        if "abs" in flags:
            values = np.abs(values)
        result = np.array(values)
        here = wave.active_mask()
        for warp in np.unique(wave.lane[here] // WARP):
            lanes = slice(warp * WARP, warp * WARP + WARP)
            for bits in np.unique(masks[lanes][here[lanes]]):
                members = np.flatnonzero((bits >> LANES & 1) == 1) + warp * WARP
                result[members] = combine.reduce(values[members])
        write(wave, result)

    return together(_member_mask(mask, decoder), act)


@opcode("elect")
def elect(instruction: Instruction, decoder: Decoder) -> Step:
    """One lane of the mask, the lowest."""
    destination, mask = instruction.operands
    write, write_elected = decoder.both(destination, KINDS["b32"], PRED)

    def act(wave: Wave, masks: Array) -> None:
        lowest = np.bitwise_count((masks & (~masks + np.uint32(1))) - np.uint32(1)).astype(np.uint32)
        write(wave, lowest)
        write_elected(wave, wave.lane % WARP == lowest)

    return together(_member_mask(mask, decoder), act)


def warp_barrier(mask: Operand, decoder: Decoder) -> Step:
    """``bar.warp.sync``: accesses before it are ordered before those behind it."""

    def act(wave: Wave, masks: Array) -> None:
        lanes = wave.active_lanes()
        whole = masks == ballots(wave.alive)
        if whole[lanes].all():
            wave.order.meet_warps(lanes)
            return
        for warp in np.unique(lanes // WARP):
            own = lanes[lanes // WARP == warp]
            for bits in np.unique(masks[own]):
                wave.order.meet(own[masks[own] == bits])

    return together(_member_mask(mask, decoder), act)
