"""Asynchronous copies and mbarriers.

A copy takes its data when it is issued and writes it when it is complete: `cp.async` when its thread waits
for it, a bulk copy when the phase of its mbarrier completes. In between its destination counts as never
written, so that whoever reads early faults. What a bulk copy to global memory reads cannot be written until
its group was waited for. Whether `fence.proxy.async` stands where it must is not checked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ..decode import Decoder, Reader, opcode
from ..faults import Divergence, MisalignedAccess
from ..machine import Outcome, Step, Wave
from ..memory import WRITABLE, WRITTEN, Memory
from ..scalars import KINDS, Array
from ..syntax import Address, Instruction, Operand, UnknownPtx
from .access import address_reader, memory_of

#: Groups that may stay under way where even the one that is not committed must be complete.
EVERYTHING = np.array([-1])
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


def _place(
    wave: Wave, lanes: Array, addresses: Reader, space: str, in_cluster: bool = False
) -> tuple[Memory, Array]:
    return memory_of(wave, space, in_cluster, lanes, wave.per_lane(addresses(wave), lanes))


@opcode("cp")
def copy(instruction: Instruction, decoder: Decoder) -> Step:
    names = [name.partition("::")[0] for name in instruction.modifiers]
    if names[0] != "async":
        raise UnknownPtx(f"no {instruction.name}")
    bulk = "bulk" in names
    names = [name for name in names[1:] if name not in ("bulk", "L2", "read", "ca", "cg")]
    if names == ["commit_group"]:
        return lambda wave: _commit(wave, bulk)
    if names == ["wait_all"]:
        return lambda wave: _complete(wave, EVERYTHING, bulk)
    if names == ["wait_group"]:
        allowed = decoder.bits(instruction.operands[0], U32)
        return lambda wave: _complete(wave, allowed(wave).astype(np.int64), bulk)
    if names == ["prefetch", "global"] and bulk:
        return lambda wave: None
    if names == ["shared", "global"] and not bulk:
        return _thread_copy(instruction, decoder)
    if names == ["shared", "global", "mbarrier"] and bulk:
        return _bulk_load(instruction, decoder)
    if names == ["global", "shared", "bulk_group"] and bulk:
        return _bulk_store(instruction, decoder)
    if names[:2] == ["mbarrier", "arrive"] and not bulk:
        return _arrive_with_copies(instruction, decoder)
    raise UnknownPtx(f"no {instruction.name}")


def _groups(wave: Wave, bulk: bool) -> Array:
    """How many groups each lane has committed."""
    groups: Array = wave.barriers.copies.setdefault(("groups", bulk), np.zeros(wave.lanes, np.int64))
    return groups


def _under_way(wave: Wave, bulk: bool) -> list[Copy]:
    found: list[Copy] = wave.barriers.copies.setdefault(("copies", bulk), [])
    return found


def _commit(wave: Wave, bulk: bool) -> Outcome:
    _groups(wave, bulk)[wave.active_lanes()] += 1
    return None


def _complete(wave: Wave, allowed: Array, bulk: bool) -> Outcome:
    """Finish the lanes' copies but those of so many groups, the latest, and of the one not committed."""
    limit = _groups(wave, bulk) - allowed
    here, remaining = wave.active_mask(), []
    for each in _under_way(wave, bulk):
        if not here[each.lane] or each.group >= limit[each.lane]:
            remaining.append(each)
        elif each.to_global:
            wave.shared.shadow[each.offset : each.offset + len(each.data)] |= WRITABLE
        else:
            _arrived(wave, each)
            wave.shared.note_write(wave.order, each.lane, each.offset, len(each.data))
    wave.barriers.copies["copies", bulk] = remaining
    return None


def _arrived(wave: Wave, each: Copy) -> None:
    part = slice(each.offset, each.offset + len(each.data))
    wave.shared.data[part] = each.data
    wave.shared.shadow[part] |= WRITTEN


def _thread_copy(instruction: Instruction, decoder: Decoder) -> Step:
    """4, 8 or 16 bytes by each thread; what the source lacks of them is zero."""
    target, source, size, *rest = instruction.operands
    to, origin = address_reader(target, decoder), address_reader(source, decoder)
    width = int(size.bits)  # type: ignore[union-attr]
    if width not in (4, 8, 16) or ("cg" in instruction.modifiers and width != 16):
        raise UnknownPtx(f"a copy of {width} bytes")
    given = decoder.bits(rest[0], U32) if rest else None

    def step(wave: Wave) -> None:
        lanes = wave.active_lanes()
        _, offsets = _place(wave, lanes, to, "shared")
        memory, places = memory_of(wave, "global", False, lanes, wave.per_lane(origin(wave), lanes))
        taken = np.full(len(lanes), width)
        if given is not None:
            taken = np.minimum(wave.per_lane(given(wave), lanes).astype(np.int64), width)
        data = np.zeros((len(lanes), width), np.uint8)
        whole = taken == width
        data[whole] = memory.read(
            wave.order, lanes[whole], places[whole], np.dtype(np.uint32), width // 4
        ).view(np.uint8)
        for row in np.flatnonzero(~whole & (taken > 0)):
            parts = places[row] + np.arange(0, taken[row], 4)
            each = np.full(len(parts), lanes[row])
            words = memory.read(wave.order, each, parts, np.dtype(np.uint32), 1)
            data[row, : taken[row]] = words.reshape(-1).view(np.uint8)[: taken[row]]
        wave.shared.begin_copy(wave.order, lanes, offsets, width)
        groups = _groups(wave, False)
        _under_way(wave, False).extend(
            Copy(int(lane), int(groups[lane]), int(offset), row)
            for lane, offset, row in zip(lanes, offsets, data, strict=True)
        )

    return step


def _chunks(lane: int, offset: int, size: int) -> tuple[Array, Array]:
    """16 bytes each of what a bulk copy touches, all for one lane."""
    if size % 16 or offset % 16 or size <= 0:
        raise MisalignedAccess(f"a bulk copy of {size} bytes at {offset % 16} modulo 16", np.array([lane]))
    places = np.arange(offset, offset + size, 16)
    return np.full(len(places), lane), places


def _bulk_load(instruction: Instruction, decoder: Decoder) -> Step:
    target, source, size, barrier = instruction.operands[:4]
    to, origin, where = (address_reader(operand, decoder) for operand in (target, source, barrier))
    count = decoder.bits(size, U32)

    def step(wave: Wave) -> None:
        lanes = wave.active_lanes()
        _, offsets = _place(wave, lanes, to, "shared", True)
        memory, places = memory_of(wave, "global", False, lanes, wave.per_lane(origin(wave), lanes))
        _, objects = _place(wave, lanes, where, "shared", True)
        sizes = wave.per_lane(count(wave), lanes)
        for lane, offset, place, key, length in zip(lanes, offsets, places, objects, sizes, strict=True):
            each, sources = _chunks(lane, int(place), int(length))
            data = memory.read(wave.order, each, sources, np.dtype(np.uint64), 2)
            each, targets = _chunks(lane, int(offset), int(length))
            wave.shared.begin_copy(wave.order, each, targets, 16)
            found = _mbarrier(wave, np.array([lane]), int(key))
            found.copies.append(Copy(int(lane), 0, int(offset), data.reshape(-1).view(np.uint8)))
            found.bytes_due -= int(length)
            _try_phase(wave, int(key), found)

    return step


def _bulk_store(instruction: Instruction, decoder: Decoder) -> Step:
    target, source, size = instruction.operands[:3]
    to, origin, count = (
        address_reader(target, decoder),
        address_reader(source, decoder),
        decoder.bits(size, U32),
    )

    def step(wave: Wave) -> None:
        lanes = wave.active_lanes()
        _, offsets = _place(wave, lanes, origin, "shared")
        memory, places = memory_of(wave, "global", False, lanes, wave.per_lane(to(wave), lanes))
        sizes = wave.per_lane(count(wave), lanes)
        for lane, offset, place, length in zip(lanes, offsets, places, sizes, strict=True):
            each, sources = _chunks(lane, int(offset), int(length))
            data = wave.shared.read(wave.order, each, sources, np.dtype(np.uint64), 2)
            each, targets = _chunks(lane, int(place), int(length))
            memory.write(wave.order, each, targets, data)
            wave.shared.shadow[int(offset) : int(offset) + int(length)] &= 0xFF ^ WRITABLE
            group = int(_groups(wave, True)[lane])
            raw = data.reshape(-1).view(np.uint8)
            _under_way(wave, True).append(Copy(int(lane), group, int(offset), raw, True))

    return step


# mbarriers


def _mbarrier(wave: Wave, lanes: Array, offset: int) -> Mbarrier:
    found = wave.barriers.mbarriers.get(offset)
    if found is None:
        raise Divergence("an mbarrier that was not initialised", lanes)
    assert isinstance(found, Mbarrier)
    return found


def _try_phase(wave: Wave, offset: int, barrier: Mbarrier) -> None:
    """Complete the phase once every arrival and every byte is there."""
    if barrier.pending or barrier.bytes_due:
        return
    for each in barrier.copies:
        _arrived(wave, each)
        wave.shared.note_copy(wave.order, each.offset, len(each.data))
    barrier.passed.append((barrier.knowledge, wave.order.tick()))
    barrier.copies, barrier.knowledge = [], None
    barrier.phase, barrier.pending = barrier.phase + 1, barrier.count


def _arrive(wave: Wave, lane: int, offset: int, count: int, due: int) -> int:
    """One lane's arrival; returns the phase that it belongs to."""
    barrier = _mbarrier(wave, np.array([lane]), offset)
    phase = barrier.phase
    if count > barrier.pending:
        raise Divergence(f"{count} arrivals at an mbarrier that awaits {barrier.pending}", np.array([lane]))
    released = wave.order.release(lane)
    barrier.knowledge = released if barrier.knowledge is None else np.maximum(barrier.knowledge, released)
    barrier.pending -= count
    barrier.bytes_due += due
    _try_phase(wave, offset, barrier)
    return phase


def _arrive_with_copies(instruction: Instruction, decoder: Decoder) -> Step:
    """An arrival once the thread's copies so far are complete."""
    if "noinc" not in instruction.modifiers:
        raise UnknownPtx(f"no {instruction.name}: the pending count would grow")
    where = address_reader(instruction.operands[0], decoder)

    def step(wave: Wave) -> None:
        lanes = wave.active_lanes()
        _, objects = _place(wave, lanes, where, "shared")
        _complete(wave, EVERYTHING, False)
        for lane, key in zip(lanes, objects, strict=True):
            _arrive(wave, int(lane), int(key), 1, 0)

    return step


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
        _, offsets = _place(wave, lanes, where, space, in_cluster)
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
        ("arrive",): lambda wave, lane, key, n: _arrive(wave, lane, key, n, 0),
        ("arrive", "expect_tx"): lambda wave, lane, key, n: _arrive(wave, lane, key, 1, n),
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
    _mbarrier(wave, np.array([lane]), offset)
    del wave.barriers.mbarriers[offset]
    return 0


def _expect(wave: Wave, lane: int, offset: int, due: int) -> int:
    barrier = _mbarrier(wave, np.array([lane]), offset)
    barrier.bytes_due += due
    _try_phase(wave, offset, barrier)
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
            barrier = _mbarrier(wave, np.array([lane]), key)
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
