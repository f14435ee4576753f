"""Executes decoded code over all threads of some blocks at once.

Threads at one instruction are a group and run it together, the group furthest back first, so that threads
that went apart meet again where their paths do. A group stops where others wait or stand. What waits for
other threads (barriers, shuffles, votes, mbarriers) parks its lanes; they are tried again when others
arrive at the same instruction and when nothing else can run. If nothing can, that is a deadlock: the fault
says who waits where.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from .faults import Deadlock, Fault
from .geometry import Geometry
from .memory import SHARED_BASE, Arena, Memory
from .races import Order
from .scalars import Array
from .specials import special_register
from .syntax import Entry

#: `None`: every lane goes on to the next instruction. A number: all go there. Else places with their lanes.
Outcome: TypeAlias = "int | list[tuple[int, Array]] | None"
Step: TypeAlias = "Callable[[Wave], Outcome]"

#: Turns after which others go first: threads that spin at a place further back must not keep them from it.
PATIENCE = 10_000
#: Turns after which a kernel counts as one that never ends.
MOST_TURNS = 2_000_000


@dataclass
class Program:
    """An entry ready to run: its steps, the bytes of its variables, the narrowest accesses by space."""

    entry: Entry
    steps: tuple[Step, ...]
    shared_size: int
    local_size: int
    granules: Mapping[str, int]


@dataclass
class Barriers:
    """What the blocks of a wave keep between barrier instructions."""

    cluster_arrived: Array
    cluster_waited: Array
    mbarriers: dict[int, Any] = field(default_factory=dict)
    copies: dict[int, Any] = field(default_factory=dict)


class Wave:
    """The state of some blocks that run at once."""

    def __init__(
        self,
        program: Program,
        geometry: Geometry,
        parameters: Mapping[str, Array],
        arena: Arena,
        blocks: range,
        dynamic_shared: int,
    ) -> None:
        self.program, self.geometry, self.parameters, self.arena = program, geometry, parameters, arena
        self.first_block, self.blocks = blocks.start, len(blocks)
        self.block_lanes = geometry.block_lanes
        self.lanes = self.blocks * self.block_lanes
        self.lane = np.arange(self.lanes)
        self.block = self.lane // self.block_lanes
        self.thread = self.lane % self.block_lanes
        self.registers: list[Array | None] = [None] * len(program.entry.registers)
        self.alive = self.thread < geometry.threads
        self.active: Array | None = None
        self.written: Array | None = None
        self.pc = 0
        self.groups: dict[int, Array] = {0: self.alive.copy()}
        self.waiting: dict[int, Array] = {}
        self.dynamic_shared = dynamic_shared
        self.shared_bytes = program.shared_size + dynamic_shared
        # Blocks lie apart by a multiple of what every access is aligned to.
        self.shared_stride = -(-(self.shared_bytes + 1) // 128) * 128
        self.shared = Memory(self.blocks * self.shared_stride, program.granules["shared"])
        for block in range(self.blocks):
            self.shared.allow(block * self.shared_stride, self.shared_bytes, 3)
        self.local_stride = -(-max(1, program.local_size) // 32) * 32
        self.local = Memory(self.lanes * self.local_stride if program.local_size else 0, 1, tracked=False)
        if program.local_size:
            self.local.allow(0, self.lanes * self.local_stride, 3)
        cluster_lanes = self.block_lanes * geometry.cluster_blocks
        self.order = Order(self.lanes, self.block_lanes, cluster_lanes, self.first_block * self.block_lanes)
        self.barriers = Barriers(np.zeros(self.lanes, np.int64), np.zeros(self.lanes, np.int64))
        self.specials: dict[str, Array] = {}

    # ---- lanes

    def active_lanes(self) -> Array:
        return self.lane if self.active is None else np.flatnonzero(self.active)

    def active_mask(self) -> Array:
        return np.ones(self.lanes, np.bool_) if self.active is None else self.active

    def per_lane(self, values: Array, lanes: Array) -> Array:
        """A value for each of some lanes, of one that may be the same for all."""
        if len(values) == 1 and self.lanes != 1:
            return np.broadcast_to(values, (len(lanes), *values.shape[1:]))
        return values if self.active is None else values[lanes]

    def store(self, index: int, value: Array) -> None:
        """Set a register of the lanes that execute."""
        if self.written is not None:
            old = self.registers[index]
            value = np.where(self.written, value, value.dtype.type(0) if old is None else old)
        self.registers[index] = value

    # ---- control

    def park(self, mask: Array) -> None:
        """Leave lanes at the present instruction until it is tried again."""
        self.waiting[self.pc] = mask

    def end(self, mask: Array) -> None:
        self.alive = self.alive & ~mask

    def put(self, pc: int, mask: Array) -> None:
        here = self.groups.get(pc)
        self.groups[pc] = mask if here is None else here | mask

    def run(self) -> None:
        """Until no thread is left."""
        turns, patience = 0, PATIENCE
        while self.groups or self.waiting:
            if not self.groups:
                self._try_waiting()
                continue
            turns += 1
            if turns > MOST_TURNS:
                raise self._located(Deadlock(f"no end after {MOST_TURNS} turns", self.active_lanes()))
            pc = min(self.groups)
            if turns >= patience:
                patience = turns + PATIENCE
                for place, mask in self.waiting.items():
                    self.put(place, mask)
                self.waiting.clear()
                pc = max(self.groups)
            mask = self.groups.pop(pc)
            if pc in self.waiting:
                mask = mask | self.waiting.pop(pc)
            self._select(mask)
            turns += self._run_group(pc, mask)

    def _select(self, mask: Array) -> None:
        self.active = None if mask.all() else mask
        self.written = None if (mask == self.alive).all() else mask

    def _run_group(self, pc: int, mask: Array) -> int:
        """Run a group until it ends, parts, or stands where others are; returns how often it jumped."""
        steps = self.program.steps
        end = len(steps)
        stop = min((place for place in (*self.groups, *self.waiting) if place > pc), default=end)
        jumps = 0
        while True:
            self.pc = pc
            try:
                outcome = steps[pc](self)
            except Fault as fault:
                raise self._located(fault) from None
            if outcome is None:
                pc += 1
                if pc < stop:
                    continue
                if pc == end:
                    self.end(mask)
                else:
                    self.put(pc, mask)
                return jumps
            jumps += 1
            if isinstance(outcome, int):
                if not self.groups and not self.waiting and jumps < MOST_TURNS:
                    pc = outcome
                    if pc < end:
                        continue
                if outcome == end:
                    self.end(mask)
                else:
                    self.put(outcome, mask)
                return jumps
            for place, lanes in outcome:
                if place == end:
                    self.end(lanes)
                else:
                    self.put(place, lanes)
            return jumps

    def _try_waiting(self) -> None:
        """Run what waits once more, now that other threads have arrived or ended."""
        for pc in sorted(self.waiting):
            mask = self.waiting.pop(pc)
            self._select(mask)
            self.pc = pc
            try:
                outcome = self.program.steps[pc](self)
            except Fault as fault:
                raise self._located(fault) from None
            if outcome is None:
                outcome = [(pc + 1, mask)]
            assert not isinstance(outcome, int)
            for place, lanes in outcome:
                self.put(place, lanes)
        if not self.groups:
            raise self._stuck()

    def _stuck(self) -> Fault:
        """Who waits where."""
        code = self.program.entry.code
        lines = []
        for pc, mask in sorted(self.waiting.items()):
            lanes = np.flatnonzero(mask)
            lines.append(
                f"{len(lanes)} threads, first {self.describe(lanes[0])}, "
                f"at line {code[pc].line}: {code[pc].text}"
            )
        return Deadlock("every thread left waits:\n  " + "\n  ".join(lines))

    def describe(self, lane: int) -> str:
        block, thread = divmod(int(lane), self.block_lanes)
        return f"thread {thread} of block {block + self.first_block}"

    def _located(self, fault: Fault) -> Fault:
        instruction = self.program.entry.code[self.pc]
        where = f"{self.program.entry.name}, line {instruction.line}: {instruction.text}"
        lanes = fault.lanes
        if lanes is not None and len(lanes):
            more = f" and {len(lanes) - 1} more threads" if len(lanes) > 1 else ""
            where += f"\n  {self.describe(lanes[0])}{more}"
        return type(fault)(f"{fault}\n  {where}", lanes)

    def special(self, name: str) -> Array:
        """A special register's values, one for each lane or one for all."""
        if name not in self.specials:
            self.specials[name] = special_register(self, name)
        return self.specials[name]


def shared_address(place: int) -> int:
    """The address in a block's shared space of a byte of it."""
    return SHARED_BASE + place
