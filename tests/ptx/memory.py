"""The memories of a launch: bytes, a shadow that tells what may be touched and what was written, addresses.

Every address space begins far from 0, and those of pointers above 2^32, so that no small number and no cut
pointer is an address of anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from .faults import MisalignedAccess, OutOfBounds, UninitialisedRead
from .races import Accesses, Order
from .scalars import Array

#: Where global memory begins; 4096 bytes of nothing lie between any two arrays.
GLOBAL_BASE = 0x7F00_0000_0000
GAP = 4096
#: Where a block's shared memory begins in the shared space, as on sm_90, and the space in generic addresses.
SHARED_BASE = 0x400
SHARED_WINDOW = 0x5500_0000_0000
#: Distance between the shared memories of the blocks of a cluster; rank r is at ``(r + 1) * CLUSTER_STRIDE``.
CLUSTER_STRIDE = 1 << 24
LOCAL_WINDOW = 0x5600_0000_0000

#: How many accesses there were, of all threads, by entry, array, "load" or "store", and bits.
Traffic: TypeAlias = "Counter[tuple[str, str, str, int]]"

#: Bits of the shadow of a byte.
READABLE, WRITABLE, WRITTEN = 1, 2, 4
_READ = READABLE | WRITTEN
#: The widest access, of `ld.global.v4.b64`.
WIDEST = 32


class Memory:
    """Bytes, each with its shadow; lanes name bytes by offsets."""

    def __init__(self, size: int, granule: int, tracked: bool = True) -> None:
        # To a multiple of the widest access, so that every one of them is a row of a two-dimensional view.
        size = -(-(size + WIDEST) // WIDEST) * WIDEST
        self.size = size
        self.data = np.full(size, 0xFF, np.uint8)
        self.shadow = np.zeros(size, np.uint8)
        self.accesses = Accesses(size, granule) if tracked else None
        #: Told of every access, as "load" or "store", the offsets and the width in bytes.
        self.observer: Callable[[str, Array, int], None] | None = None
        #: Below this nothing is written, so that reads there race with nothing.
        self.first_writable = 0

    def allow(self, start: int, size: int, bits: int) -> None:
        self.shadow[start : start + size] = bits

    def check(self, lanes: Array, offsets: Array, width: int, wanted: int) -> None:
        """Raise unless every lane's access is aligned and allowed."""
        misaligned = (offsets & (width - 1)) != 0
        if misaligned.any():
            raise MisalignedAccess(f"misaligned: no multiple of {width} bytes", lanes[misaligned])
        outside = (offsets < 0) | (offsets > self.size - width)
        if outside.any():
            raise OutOfBounds("outside of every array", lanes[outside])
        word = np.dtype(f"u{min(width, 8)}")
        rows = self.shadow.view(word).reshape(-1, max(1, width // 8))[offsets // width]
        wanted_word = word.type(int.from_bytes(bytes([wanted] * word.itemsize), "little"))
        missing = ((rows & wanted_word) != wanted_word).any(axis=1)
        if missing.any():
            self._explain(lanes[missing], rows[missing], wanted)

    def _explain(self, lanes: Array, rows: Array, wanted: int) -> None:
        seen = np.bitwise_and.reduce(rows.reshape(len(lanes), -1).view(np.uint8), axis=1)
        if not (seen & READABLE).all():
            raise OutOfBounds("outside of the arrays that the launch names", lanes[(seen & READABLE) == 0])
        if wanted & WRITABLE:
            raise OutOfBounds("a write to what may only be read", lanes)
        raise UninitialisedRead("a read of what nothing has written, or a copy not yet", lanes)

    def read(
        self, order: Order, lanes: Array, offsets: Array, kind: np.dtype, count: int, strong: bool = False
    ) -> Array:
        """``count`` elements for each lane, of shape (lanes, count)."""
        width = kind.itemsize * count
        self.check(lanes, offsets, width, _READ)
        if self.observer is not None:
            self.observer("load", offsets, width)
        if self.accesses is not None and offsets.size and offsets.max() >= self.first_writable:
            self.accesses.read(order, lanes, offsets, width, strong)
        rows: Array = self.data.view(kind).reshape(-1, count)[offsets // width]
        return rows

    def write(self, order: Order, lanes: Array, offsets: Array, values: Array, strong: bool = False) -> None:
        """``values`` of shape (lanes, count)."""
        count = values.shape[1]
        width = values.dtype.itemsize * count
        self.check(lanes, offsets, width, WRITABLE)
        if self.observer is not None:
            self.observer("store", offsets, width)
        if self.accesses is not None:
            self.accesses.write(order, lanes, offsets, width, strong)
        rows = offsets // width
        self.data.view(values.dtype).reshape(-1, count)[rows] = values
        word = np.dtype(f"u{min(width, 8)}")
        shadow = self.shadow.view(word).reshape(-1, max(1, width // 8))
        shadow[rows] |= word.type(int.from_bytes(bytes([WRITTEN] * word.itemsize), "little"))

    def begin_copy(self, order: Order, lanes: Array, offsets: Array, width: int) -> None:
        """Check and note a copy that the lanes begin; until it is complete, nothing is written there."""
        self.check(lanes, offsets, width, WRITABLE)
        if self.accesses is not None:
            self.accesses.write(order, lanes, offsets, width, strong=False)
        for offset in offsets:
            self.shadow[offset : offset + width] &= 0xFF ^ WRITTEN

    def note_write(self, order: Order, lane: int, offset: int, size: int) -> None:
        """A copy that a lane began and waited for: from now on it is the lane's write."""
        if self.accesses is not None:
            self.accesses.record(order.record(np.array([lane]), False)[0], offset, size)

    def note_copy(self, order: Order, offset: int, size: int) -> None:
        """A copy that is complete, which those know of that waited for its mbarrier."""
        if self.accesses is not None:
            self.accesses.record(order.record_of_copy(), offset, size)

    def strong_access(self, order: Order, lanes: Array, offsets: Array, width: int) -> None:
        """Check and note an atomic operation, whose values the caller moves."""
        self.check(lanes, offsets, width, _READ | WRITABLE)
        if self.accesses is not None:
            self.accesses.write(order, lanes, offsets, width, strong=True)


@dataclass(frozen=True)
class Placed:
    """An array in global memory."""

    name: str
    start: int
    size: int


class Arena:
    """Global memory: arrays in the order given, those that are only read first."""

    def __init__(self, arrays: Sequence[tuple[str, Array, bool, bool]], granule: int) -> None:
        """Of (name, array, writable, written)."""
        self.placed: dict[str, Placed] = {}
        self._bits: dict[str, int] = {}
        position, first_writable = GAP, None
        for name, array, writable, _ in sorted(arrays, key=lambda each: each[2]):
            if writable and first_writable is None:
                first_writable = position
            self.placed[name] = Placed(name, position, array.nbytes)
            self._bits[name] = READABLE | (WRITABLE if writable else 0)
            position = -(-(position + array.nbytes + GAP) // 256) * 256
        self._granule = granule
        self.memory = Memory(position, granule)
        self.memory.first_writable = position if first_writable is None else first_writable
        self._written = np.zeros(self.memory.size, np.uint8)
        for name, array, _, written in arrays:
            place = self.placed[name]
            if written:
                raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
                self.memory.data[place.start : place.start + place.size] = raw
                self._written[place.start : place.start + place.size] = WRITTEN

    def open(self, names: Sequence[str]) -> None:
        """Allow a launch its arrays, and forget who touched what before it: launches follow one another."""
        memory = self.memory
        self._written |= memory.shadow & WRITTEN
        memory.shadow[:] = 0
        for name in names:
            place = self.placed[name]
            part = slice(place.start, place.start + place.size)
            memory.shadow[part] = self._bits[name] | self._written[part]
        memory.accesses = Accesses(memory.size, self._granule)

    def address(self, name: str) -> int:
        return GLOBAL_BASE + self.placed[name].start

    def observe(self, entry: str, traffic: Traffic) -> None:
        """Count what the next launch moves."""
        places = sorted(self.placed.values(), key=lambda place: place.start)
        starts = np.array([place.start for place in places])

        def note(does: str, offsets: Array, width: int) -> None:
            found, counts = np.unique(np.searchsorted(starts, offsets, "right") - 1, return_counts=True)
            for place, count in zip(found, counts, strict=True):
                traffic[entry, places[place].name, does, 8 * width] += int(count)

        self.memory.observer = note

    def array(self, name: str, like: Array) -> Array:
        place = self.placed[name]
        return (
            self.memory.data[place.start : place.start + place.size]
            .view(like.dtype)
            .reshape(like.shape)
            .copy()
        )

    def unwritten(self, name: str) -> int:
        """How many bytes of an array nothing has written."""
        place = self.placed[name]
        part = slice(place.start, place.start + place.size)
        return int(((self._written[part] | self.memory.shadow[part]) & WRITTEN == 0).sum())
