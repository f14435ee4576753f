"""Data races: what orders two threads' accesses, and the last accesses to every location.

Ordered are accesses of one thread; across threads, those before and after a barrier that both take part in:
``bar.sync`` and ``barrier.sync`` for a block, ``bar.warp.sync`` for the lanes of its mask,
``barrier.cluster`` from its arrival to its wait, an mbarrier from an arrival to the wait for its phase.
Shuffles and votes order nothing (CUDA C++ programming guide, warp shuffle functions: "do not imply a memory
barrier"), and neither does lockstep within a warp. Blocks of one launch are ordered by nothing but
clusters. Atomic, ``volatile`` and ``relaxed`` accesses do not race with one another, only with ordinary
ones. Two threads that write the same value race too.

Of the reads of a location three are kept: the last, the last of another thread of that warp, and the last of
another warp. That finds every race where barriers are of whole blocks; where they are of fewer threads, an
older read may be missed. Nothing is reported that is ordered by the above.
"""

from __future__ import annotations

import numpy as np

from .faults import DataRace
from .scalars import Array

#: A record is ``time << 25 | thread << 1 | strong``; 0 where there was no access.
THREAD_BITS = 24
_THREADS = (1 << THREAD_BITS) - 1
_TIME_SHIFT = THREAD_BITS + 1
#: The thread of what asynchronous copies write.
_COPY = _THREADS


class Order:
    """What each lane of a wave knows to have happened before, as times on one clock that only counts up.

    Lanes are numbered in the wave; threads of records in the grid, ``first`` being the wave's first.
    """

    def __init__(self, lanes: int, block_lanes: int, cluster_lanes: int, first: int) -> None:
        if first + lanes >= _COPY:
            raise ValueError(f"grids of more than {_THREADS} threads")
        self.time = 1
        self.lanes = lanes
        self.block_lanes = block_lanes
        self.cluster_lanes = cluster_lanes
        self.first = first
        self.threads = np.arange(first, first + lanes, dtype=np.int64)
        #: All accesses of a lane's block before this are ordered before what the lane does now.
        self.block_floor = np.zeros(lanes, np.int64)
        #: The same for single lanes of the cluster, once anything finer than a block's barrier was used.
        self.known: Array | None = None
        #: When each lane arrived at each of the cluster's barriers, and the last one that it has waited for.
        self.arrivals: list[Array] = []
        self.waited = np.full(lanes, -1, np.int64)
        #: Until when a lane knows of completed asynchronous copies.
        self.copies_floor = np.zeros(lanes, np.int64)

    def tick(self) -> int:
        self.time += 1
        return self.time

    def record(self, lanes: Array | None, strong: bool) -> Array:
        """The records of an access now."""
        threads = self.threads if lanes is None else self.threads[lanes]
        return (threads << 1) + ((self.tick() << _TIME_SHIFT) | strong)

    def record_of_copy(self) -> int:
        """The record of an asynchronous copy that completes now."""
        return self.tick() << _TIME_SHIFT | _COPY << 1

    def block_barrier(self, lanes: Array) -> None:
        """Whole blocks met: ``lanes`` are all of theirs that are alive."""
        self.block_floor[lanes] = self.tick()
        blocks = lanes // self.block_lanes
        latest = np.zeros(self.lanes // self.block_lanes, np.int64)
        np.maximum.at(latest, blocks, self.copies_floor[lanes])
        self.copies_floor[lanes] = latest[blocks]
        if self.known is not None or self.arrivals:
            for block in np.unique(blocks):
                self._join(lanes[blocks == block])

    def meet(self, lanes: Array) -> None:
        """Some lanes of one cluster met."""
        known = self._known()
        now = self.tick()
        self._join(lanes)
        known[np.ix_(lanes, lanes % self.cluster_lanes)] = now
        self.copies_floor[lanes] = self.copies_floor[lanes].max()

    def meet_warps(self, lanes: Array) -> None:
        """Whole warps met, each for itself."""
        known = self._known()
        now = self.tick()
        for warp in np.unique(lanes // 32):
            self._join(lanes[lanes // 32 == warp])
        rows = lanes[:, None]
        columns = (lanes // 32 * 32)[:, None] % self.cluster_lanes + np.arange(32)
        known[rows, columns] = now

    def release(self, lane: int) -> Array:
        """What a lane passes on by an arrival: for each lane of its cluster, until when it knows of it."""
        knowledge = self._knowledge(lane)
        knowledge[lane % self.cluster_lanes] = self.tick()
        return knowledge

    def acquire(self, lane: int, knowledge: Array, copies: int) -> None:
        """A lane learns what others passed on, and of copies completed until a time."""
        row = self._known()[lane]
        np.maximum(row, knowledge, out=row)
        self.copies_floor[lane] = max(self.copies_floor[lane], copies)

    def arrive_at_cluster(self, lanes: Array, phase: Array) -> None:
        now = self.tick()
        while len(self.arrivals) <= phase.max(initial=-1):
            self.arrivals.append(np.zeros(self.lanes, np.int64))
        for number in np.unique(phase):
            self.arrivals[number][lanes[phase == number]] = now

    def wait_for_cluster(self, lanes: Array, phase: Array) -> None:
        self.waited[lanes] = phase

    def unordered(self, lanes: Array, records: Array) -> Array:
        """Which of the accesses recorded are by another thread and not ordered before the lanes' present."""
        number = (records >> 1) & _THREADS
        thread = number - self.first
        when = records >> _TIME_SHIFT
        block = lanes // self.block_lanes
        ordered = (number == _COPY) & (when <= self.copies_floor[lanes])
        ordered |= (thread // self.block_lanes == block) & (when < self.block_floor[lanes])
        found: Array = (records != 0) & (thread != lanes) & ~ordered
        if found.any() and (self.known is not None or self.arrivals):
            for place in zip(*np.nonzero(found), strict=True):
                lane, other = int(np.broadcast_to(lanes, found.shape)[place]), int(thread[place])
                found[place] = not self._finely_ordered(lane, other, int(when[place]))
        return found

    def _finely_ordered(self, lane: int, other: int, when: int) -> bool:
        if other < 0 or other // self.cluster_lanes != lane // self.cluster_lanes:
            return False
        if self.known is not None and when < self.known[lane, other % self.cluster_lanes]:
            return True
        waited = self.waited[lane]
        return bool(waited >= 0 and when < self.arrivals[waited][other])

    def _known(self) -> Array:
        if self.known is None:
            self.known = np.zeros((self.lanes, self.cluster_lanes), np.int64)
        return self.known

    def _knowledge(self, lane: int) -> Array:
        """Until when a lane knows of each lane of its cluster, by all that orders."""
        start = lane // self.cluster_lanes * self.cluster_lanes
        knowledge = self._known()[lane].copy()
        if self.waited[lane] >= 0:
            arrived = self.arrivals[self.waited[lane]][start : start + self.cluster_lanes]
            np.maximum(knowledge, arrived, out=knowledge)
        block = lane // self.block_lanes * self.block_lanes - start
        own = knowledge[block : block + self.block_lanes]
        np.maximum(own, self.block_floor[lane], out=own)
        return knowledge

    def _join(self, lanes: Array) -> None:
        """Every one of some lanes learns what any of them knows."""
        if self.known is not None:
            self.known[lanes] = self.known[lanes].max(axis=0)
        if self.arrivals:
            self.waited[lanes] = self.waited[lanes].max()
        self.copies_floor[lanes] = self.copies_floor[lanes].max()


class Accesses:
    """The last accesses to the granules of a memory; every access is one granule or several whole ones."""

    def __init__(self, size: int, granule: int) -> None:
        self.granule = granule
        self.count = size // granule
        self.writes = np.zeros(self.count, np.int64)
        self.reads: tuple[Array, Array, Array] | None = None
        self.any_written = False

    def read(self, order: Order, lanes: Array, offsets: Array, width: int, strong: bool) -> None:
        rows, per = offsets // width, width // self.granule
        if self.any_written:
            self._check(order, lanes, self.writes.reshape(-1, per)[rows], strong, "reads what", "wrote")
        if self.reads is None:
            self.reads = (
                np.zeros(self.count, np.int64),
                np.zeros(self.count, np.int64),
                np.zeros(self.count, np.int64),
            )
        last, same_warp, other_warp = (table.reshape(-1, per) for table in self.reads)
        records = np.broadcast_to(order.record(lanes, strong)[:, None], (len(lanes), per))
        before = last[rows]
        last[rows] = records
        winner = last[rows]
        for others in (before, records):
            moved = (others != winner) & (others != 0)
            if moved.any():
                warps = (_warp(others) == _warp(winner)) & (_thread(others) != _thread(winner))
                where = (
                    np.broadcast_to(rows[:, None], moved.shape),
                    np.broadcast_to(np.arange(per), moved.shape),
                )
                for chosen, table in (
                    (moved & warps, same_warp),
                    (moved & (_warp(others) != _warp(winner)), other_warp),
                ):
                    table[where[0][chosen], where[1][chosen]] = others[chosen]

    def write(self, order: Order, lanes: Array, offsets: Array, width: int, strong: bool) -> None:
        rows, per = offsets // width, width // self.granule
        writes = self.writes.reshape(-1, per)
        if self.any_written:
            self._check(order, lanes, writes[rows], strong, "writes what", "wrote")
        if self.reads is not None:
            for table in self.reads:
                self._check(order, lanes, table.reshape(-1, per)[rows], strong, "writes what", "read")
        self.any_written = True
        records = order.record(lanes, strong)[:, None]
        writes[rows] = records
        if not strong:
            lost = (writes[rows] != records).any(axis=1)
            if lost.any():
                other = _thread(writes[rows][lost][0])[0] - order.first
                raise DataRace(
                    f"data race: {_lane(order, other)} writes there in the same instruction", lanes[lost]
                )

    def record(self, record: int, offset: int, size: int) -> None:
        """Let a record be that of the last write."""
        first = offset // self.granule
        self.writes[first : first + size // self.granule] = record
        self.any_written = True

    @staticmethod
    def _check(order: Order, lanes: Array, records: Array, strong: bool, does: str, did: str) -> None:
        if not records.any():
            return
        found = order.unordered(lanes[:, None], records)
        if strong:
            found &= (records & 1) == 0
        if found.any():
            which = found.any(axis=1)
            other = _thread(records[found][0]) - order.first
            raise DataRace(
                f"data race: {does} {_lane(order, int(other))} {did} with nothing to order the two",
                lanes[which],
            )


def _thread(records: Array) -> Array:
    return (records >> 1) & _THREADS


def _warp(records: Array) -> Array:
    return _thread(records) >> 5


def _lane(order: Order, lane: int) -> str:
    if lane + order.first == _COPY:
        return "an asynchronous copy"
    block, thread = divmod(lane + order.first, order.block_lanes)
    return f"thread {thread} of block {block}"
