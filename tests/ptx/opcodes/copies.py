"""Asynchronous copies.

A copy takes its data when it is issued and writes it when it is complete: `cp.async` when its thread waits
for it, a bulk copy when the phase of its mbarrier completes. In between its destination counts as never
written, so that whoever reads early faults. What a bulk copy to global memory reads cannot be written until
its group was waited for. Whether `fence.proxy.async` stands where it must is not checked.
"""

from __future__ import annotations

import numpy as np

from ..decode import Decoder, opcode
from ..faults import MisalignedAccess
from ..machine import Outcome, Step, Wave
from ..memory import WRITABLE
from ..scalars import KINDS, Array
from ..syntax import Instruction, UnknownPtx, Vector
from .access import Form, address_reader, memory_of
from .mbarriers import Copy, arrive, mbarrier_at, place_of, put_copy, try_phase

U32 = KINDS["u32"]

#: Groups that may stay under way where even the one that is not committed must be complete.
EVERYTHING = np.array([-1])


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
            put_copy(wave, each)
            wave.shared.note_write(wave.order, each.lane, each.offset, len(each.data))
    wave.barriers.copies["copies", bulk] = remaining
    return None


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
        _, offsets = place_of(wave, lanes, to, "shared")
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
        _, offsets = place_of(wave, lanes, to, "shared", True)
        memory, places = memory_of(wave, "global", False, lanes, wave.per_lane(origin(wave), lanes))
        _, objects = place_of(wave, lanes, where, "shared", True)
        sizes = wave.per_lane(count(wave), lanes)
        for lane, offset, place, key, length in zip(lanes, offsets, places, objects, sizes, strict=True):
            each, sources = _chunks(lane, int(place), int(length))
            data = memory.read(wave.order, each, sources, np.dtype(np.uint64), 2)
            each, targets = _chunks(lane, int(offset), int(length))
            wave.shared.begin_copy(wave.order, each, targets, 16)
            found = mbarrier_at(wave, np.array([lane]), int(key))
            found.copies.append(Copy(int(lane), 0, int(offset), data.reshape(-1).view(np.uint8)))
            found.bytes_due -= int(length)
            try_phase(wave, int(key), found)

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
        _, offsets = place_of(wave, lanes, origin, "shared")
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


def asynchronous_store(instruction: Instruction, decoder: Decoder, form: Form) -> Step:
    """``st.async``: a store to a block of the cluster, complete with the phase of the mbarrier there."""
    target, source, barrier = instruction.operands
    items = source.items if isinstance(source, Vector) else (source,)
    readers = [decoder.bits(item, form.kind) for item in items]
    to, where = address_reader(target, decoder), address_reader(barrier, decoder)
    width = form.count * form.kind.bits // 8

    def step(wave: Wave) -> None:
        lanes = wave.active_lanes()
        _, offsets = place_of(wave, lanes, to, "shared", True)
        _, objects = place_of(wave, lanes, where, "shared", True)
        rows = np.stack(
            [np.broadcast_to(wave.per_lane(read(wave), lanes), lanes.shape) for read in readers], 1
        )
        wave.shared.begin_copy(wave.order, lanes, offsets, width)
        raw = np.ascontiguousarray(rows).view(np.uint8)
        for lane, offset, data, key in zip(lanes, offsets, raw, objects, strict=True):
            found = mbarrier_at(wave, np.array([lane]), int(key))
            found.copies.append(Copy(int(lane), 0, int(offset), data))
            found.bytes_due -= width
            try_phase(wave, int(key), found)

    return step


def _arrive_with_copies(instruction: Instruction, decoder: Decoder) -> Step:
    """An arrival once the thread's copies so far are complete."""
    if "noinc" not in instruction.modifiers:
        raise UnknownPtx(f"no {instruction.name}: the pending count would grow")
    where = address_reader(instruction.operands[0], decoder)

    def step(wave: Wave) -> None:
        lanes = wave.active_lanes()
        _, objects = place_of(wave, lanes, where, "shared")
        _complete(wave, EVERYTHING, False)
        for lane, key in zip(lanes, objects, strict=True):
            arrive(wave, int(lane), int(key), 1, 0)

    return step
