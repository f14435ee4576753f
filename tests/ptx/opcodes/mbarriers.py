"""Mbarriers: phases that complete once all arrivals and all bytes of copies are there.

What arrives passes on what it knows to have happened; who waits for the phase learns that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ..decode import Decoder, Reader, opcode
from ..faults import Divergence
from ..machine import Outcome, Step, Wave
from ..memory import WRITTEN, Memory
from ..scalars import KINDS, Array
from ..syntax import Address, Instruction, Operand
from .access import address_reader, memory_of

U32, B64, PRED = KINDS["u32"], KINDS["b64"], KINDS["pred"]


@dataclass
class Copy:
    """A copy under way: what to write where, in the shared memories of the wave."""

    lane: int
    group: int
    offset: int
    data: Array
    to_global: bool = False


@dataclass
class Mbarrier:
    """An mbarrier object; ``knowledge`` is what its arrivals pass on in the present phase."""

    count: int
    pending: int
    phase: int = 0
    bytes_due: int = 0
    knowledge: Array | None = None
    copies: list[Copy] = field(default_factory=list)
    #: What completed phases pass on, and when they completed.
    passed: list[tuple[Array | None, int]] = field(default_factory=list)


def place_of(
    wave: Wave, lanes: Array, addresses: Reader, space: str, in_cluster: bool = False
) -> tuple[Memory, Array]:
    return memory_of(wave, space, in_cluster, lanes, wave.per_lane(addresses(wave), lanes))


def put_copy(wave: Wave, each: Copy) -> None:
    part = slice(each.offset, each.offset + len(each.data))
    wave.shared.data[part] = each.data
    wave.shared.shadow[part] |= WRITTEN


def mbarrier_at(wave: Wave, lanes: Array, offset: int) -> Mbarrier:
    found = wave.barriers.mbarriers.get(offset)
    if found is None:
        raise Divergence("an mbarrier that was not initialised", lanes)
    assert isinstance(found, Mbarrier)
    return found


def try_phase(wave: Wave, offset: int, barrier: Mbarrier) -> None:
    """Complete the phase once every arrival and every byte is there."""
    if barrier.pending or barrier.bytes_due:
        return
    for each in barrier.copies:
        put_copy(wave, each)
        wave.shared.note_copy(wave.order, each.offset, len(each.data))
    barrier.passed.append((barrier.knowledge, wave.order.tick()))
    barrier.copies, barrier.knowledge = [], None
    barrier.phase, barrier.pending = barrier.phase + 1, barrier.count


def arrive(wave: Wave, lane: int, offset: int, count: int, due: int) -> int:
    """One lane's arrival; returns the phase that it belongs to."""
    barrier = mbarrier_at(wave, np.array([lane]), offset)
    phase = barrier.phase
    if count > barrier.pending:
        raise Divergence(f"{count} arrivals at an mbarrier that awaits {barrier.pending}", np.array([lane]))
    released = wave.order.release(lane)
    barrier.knowledge = released if barrier.knowledge is None else np.maximum(barrier.knowledge, released)
    barrier.pending -= count
    barrier.bytes_due += due
    try_phase(wave, offset, barrier)
    return phase


@opcode("mbarrier")
def mbarrier(instruction: Instruction, decoder: Decoder) -> Step:
    spaces = [name for name in instruction.modifiers if name.partition("::")[0] == "shared"]
    space, in_cluster = ("shared", spaces[0].endswith("cluster")) if spaces else ("generic", True)
    kept = ("relaxed", "release", "acquire", "cta", "cluster", "b64", *spaces)
    names = tuple(name for name in instruction.modifiers if name not in kept)
    operands = list(instruction.operands)
    result: Operand | None = None
    if names[0] not in ("init", "inval", "expect_tx", "complete_tx"):
        has_result = names[0] in ("test_wait", "try_wait") or not isinstance(operands[0], Address)
        result = operands.pop(0) if has_result else None
    where = address_reader(operands.pop(0), decoder)
    values = [decoder.bits(operand, B64 if _is_state(names) else U32) for operand in operands[:1]]

    def objects(wave: Wave) -> tuple[Array, list[int]]:
        lanes = wave.active_lanes()
        _, offsets = place_of(wave, lanes, where, space, in_cluster)
        if names[0] in ("init", "inval"):
            wave.shared.write(wave.order, lanes, offsets, np.zeros((len(lanes), 1), np.uint64))
        else:
            wave.shared.strong_access(wave.order, lanes, offsets, 8)
        return lanes, [int(offset) for offset in offsets]

    def numbers(wave: Wave, lanes: Array, default: int) -> list[int]:
        return [int(n) for n in wave.per_lane(values[0](wave), lanes)] if values else [default] * len(lanes)

    if names in (("test_wait",), ("test_wait", "parity"), ("try_wait",), ("try_wait", "parity")):
        assert result is not None
        blocks, parity = names[0] == "try_wait", "parity" in names
        return _wait(objects, numbers, decoder.write_bits(result, PRED), blocks, parity)
    actions: dict[tuple[str, ...], Callable[[Wave, int, int, int], int]] = {
        ("init",): _initialise,
        ("inval",): _invalidate,
        ("arrive",): lambda wave, lane, key, n: arrive(wave, lane, key, n, 0),
        ("arrive", "expect_tx"): lambda wave, lane, key, n: arrive(wave, lane, key, 1, n),
        ("expect_tx",): _expect,
        ("complete_tx",): lambda wave, lane, key, n: _expect(wave, lane, key, -n),
    }
    action = actions[names]
    write = decoder.write_bits(result, B64) if result is not None else None

    def step(wave: Wave) -> None:
        lanes, keys = objects(wave)
        states = np.zeros(wave.lanes, np.uint64)
        for lane, key, number in zip(lanes, keys, numbers(wave, lanes, 1), strict=True):
            states[lane] = action(wave, int(lane), key, number)
        if write is not None:
            write(wave, states)

    return step


def _is_state(names: tuple[str, ...]) -> bool:
    return names in (("test_wait",), ("try_wait",))


def _initialise(wave: Wave, lane: int, offset: int, count: int) -> int:
    wave.barriers.mbarriers[offset] = Mbarrier(count, count)
    return 0


def _invalidate(wave: Wave, lane: int, offset: int, count: int) -> int:
    mbarrier_at(wave, np.array([lane]), offset)
    del wave.barriers.mbarriers[offset]
    return 0


def _expect(wave: Wave, lane: int, offset: int, due: int) -> int:
    barrier = mbarrier_at(wave, np.array([lane]), offset)
    barrier.bytes_due += due
    try_phase(wave, offset, barrier)
    return barrier.phase


def _wait(
    objects: Callable[[Wave], tuple[Array, list[int]]],
    numbers: Callable[[Wave, Array, int], list[int]],
    write: Callable[[Wave, Array], None],
    blocks: bool,
    parity: bool,
) -> Step:
    """A test for a phase; ``try_wait`` keeps its threads until it holds, as PTX allows."""

    def step(wave: Wave) -> Outcome:
        lanes, keys = objects(wave)
        done = np.zeros(wave.lanes, np.bool_)
        for lane, key, number in zip(lanes, keys, numbers(wave, lanes, 0), strict=True):
            barrier = mbarrier_at(wave, np.array([lane]), key)
            done[lane] = (barrier.phase & 1) != (number & 1) if parity else barrier.phase > number
            if done[lane] and barrier.passed:
                knowledge, when = barrier.passed[-1 if parity else number]
                if knowledge is not None:
                    wave.order.acquire(int(lane), knowledge, when)
        if not blocks:
            write(wave, done)
            return None
        here = wave.active_mask()
        if not done.any():
            wave.park(here)
            return []
        before = wave.active, wave.written
        wave.active = wave.written = done
        write(wave, done)
        wave.active, wave.written = before
        waiting = here & ~done
        if not waiting.any():
            return None
        wave.park(waiting)
        return [(wave.pc + 1, done)]

    return step
