"""Whether anything else ran on the machine while something was measured."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")

#: Of shorter stretches, ticks of 10 ms say nothing.
_SHORTEST_S = 0.2


class Watch:
    """Counts from when it is made; ``own`` are the processes that are meant to run."""

    def __init__(self, own: Iterable[int]) -> None:
        self._own = [os.getpid(), *own]
        self._begin = self._reading()

    def others(self) -> float | None:
        """The part of all cores' time that others took, between 0 and 1; None if that cannot be told.

        On a virtual machine, what its host took counts too.
        """
        begin, end = self._begin, self._reading()
        if begin is None or end is None or end[0] - begin[0] < _SHORTEST_S:
            return None
        elapsed, busy, own = (after - before for before, after in zip(begin, end, strict=True))
        return min(1.0, max(0.0, (busy - own) / (elapsed * (os.cpu_count() or 1))))

    def _reading(self) -> tuple[float, float, float] | None:
        """Now, seconds that the cores were busy, and seconds of the own processes."""
        try:
            fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]
            user, nice, system, _idle, _waiting, interrupts, soft, stolen = map(int, fields)
            own = sum(map(_ticks, self._own))
        except (OSError, ValueError):
            return None
        busy = user + nice + system + interrupts + soft + stolen
        return time.monotonic(), busy * _TICK_S, own * _TICK_S


def _ticks(pid: int) -> int:
    """Of a process with all its threads; its name, which may hold anything, ends with the last bracket."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
