"""Sums over the threads of a team: by shuffles within a warp, through shared memory beyond it.

The blocks of a cluster read one another's shared memory. None may be gone then, so they leave together.

Every thread ends up with the same bits: halves are exchanged and added, and addition commutes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from lncompile.dtypes import TABLE
from lncompile.emit.cuda.conditional import only_if
from lncompile.emit.cuda.team import WARP, Team
from lncompile.emit.scope import Width
from lncompile.emit.templates import fill

_OF_WARP = {"sum": "warp_total", "max": "warp_largest"}
_OF_TWO = {"sum": "{} + {}", "max": "maximum({}, {})"}


@dataclass
class Exchange:
    """The block's shared memory: exchanges have places of their own, by element type, while there are any.

    Of ``most`` places of a type the first are used again when no more are left, once all threads have read
    them. ``meetings`` is how often all threads of the block wait for one another, and ``again`` whether some
    place is used twice.
    """

    most: int
    places: dict[str, int] = field(default_factory=dict)
    meetings: int = 0
    again: bool = False
    _next: dict[str, int] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """The bytes of all places."""
        return sum(places * TABLE[dtype].itemsize for dtype, places in self.places.items())

    def lines(self) -> list[str]:
        """Lines that set up the shared memory of all exchanges so far."""
        return [f"share_{dtype}({places})" for dtype, places in sorted(self.places.items())]

    def together(
        self, names: list[tuple[str, str]], width: Width, team: Team, *, of_steps: bool
    ) -> list[str]:
        """Lines that combine what neighbours have under each name, by its operation.

        The neighbours are a team's threads, or with ``of_steps`` those of a step of its loops.
        """
        threads = team.per_step if of_steps else team.threads
        if threads == 1 or not names:
            return []
        if team.strided:
            return self._in_rounds(names, width, team.block, team, self._of_columns)
        within = min(threads, WARP)
        # Groups need not take their steps together, and teams whose rows are computed in another way, or that
        # have none, take none; all teams of a warp do the rest together.
        call = "{}({}, {}, True)" if of_steps and within < WARP else "{}({}, {})"
        lines = [f"{name} = {call.format(_OF_WARP[op], name, within)}" for name, op in names]
        warps = threads // team.blocks // WARP
        if warps <= 1:
            return lines
        return lines + self._in_rounds(names, width, warps + (team.blocks > 1), team, self._of_warps)

    def _in_rounds(
        self,
        names: list[tuple[str, str]],
        width: Width,
        places: int,
        team: Team,
        lines_of: Callable[[list[tuple[str, str]], Width, Team], list[str]],
    ) -> list[str]:
        """``lines_of`` as many names at a time as there are places; each needs so many."""
        left = self.most - self._next.get(width.dtype, 0)
        at_once = len(names) if places * len(names) <= left else max(1, self.most // places)
        lines: list[str] = []
        for at in range(0, len(names), at_once):
            some = names[at : at + at_once]
            taken = self._next.get(width.dtype, 0)
            if taken and taken + places * len(some) > self.most:
                lines.append(team.barrier)
                self._next[width.dtype] = 0
                self.again = True
            self.meetings += 1
            lines += lines_of(some, width, team)
        return lines

    def _of_blocks(self, names: list[tuple[str, str]], width: Width, blocks: int) -> list[str]:
        put, get = [], []
        for name, op in names:
            start = self._reserve(width, 1)
            put.append(f"put({start}, {name})")
            get += [
                f"{name} = get_{width.dtype}_of_block({start}, remainder(thread_index(), {blocks}))",
                f"{name} = {_OF_WARP[op]}({name}, {blocks})",
            ]
        put = only_if(["thread_index() == 0"], put)
        return fill("cuda/rows.py", "meeting_of_cluster", {"put": put, "get": get})

    def _of_warps(self, names: list[tuple[str, str]], width: Width, team: Team) -> list[str]:
        warps, place = team.in_block // WARP, team.place
        put, get = [], []
        for name, op in names:
            start = self._reserve(width, warps)
            put.append(f"put({start} + quotient({place}, {WARP}), {name})")
            get += [
                f"{name} = get_{width.dtype}({start} + remainder({place}, {warps}))",
                f"{name} = {_OF_WARP[op]}({name}, {warps})",
            ]
        condition = f"remainder({place}, {WARP}) == 0"
        lines = fill("cuda/rows.py", "meeting", {"put": only_if([condition], put), "get": get})
        return lines if team.blocks == 1 else [*lines, *self._of_blocks(names, width, team.blocks)]

    def _of_columns(self, names: list[tuple[str, str]], width: Width, team: Team) -> list[str]:
        """Neighbouring threads have neighbouring columns; every member adds up all, in the same order."""
        put, get = [], []
        for name, op in names:
            start = self._reserve(width, team.block)
            put.append(f"put({start} + thread_index(), {name})")
            for member in range(team.threads):
                found = f"get_{width.dtype}({start + member * team.teams} + team)"
                get.append(f"{name} = {_OF_TWO[op].format(name, found) if member else found}")
        return fill("cuda/rows.py", "meeting", {"put": put, "get": get})

    def _reserve(self, width: Width, places: int) -> int:
        start = self._next.get(width.dtype, 0)
        self._next[width.dtype] = start + places
        self.places[width.dtype] = max(self.places.get(width.dtype, 0), start + places)
        return start
