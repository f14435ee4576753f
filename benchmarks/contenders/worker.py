"""A contender's process: reads requests from stdin, one JSON a line, and answers on stdout.

``{"do": "start", "contender", "threads"}``   versions by name
``{"do": "prepare", "case", "mode"}``         the statements, and samples of the results
``{"do": "measure", "seconds"}``              microseconds by variant: the median of timings over so long
``{"do": "memory", "case"}``                  bytes beyond inputs and results; lncompile alone
``{"do": "peak"}``                            billions of operations a second; the limit alone
``{"do": "release"}``                         the arrays are given back

An answer is ``{"ok": ...}``, ``{"not offered": reason}`` or ``{"failed": reason}``.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import signal
import statistics
import sys
import timeit
from collections.abc import Callable
from typing import IO, Any

import numpy as np

from .. import grid
from . import MODULES, NotOffered, Prepared

#: A timing takes at least half of this, so that the clock (25 ns) and the statement around it do not matter.
_SHORTEST_S = 100e-6
#: Timings of a measurement, at most.
_MOST = 50
#: A call that takes so long is timed once.
_LONG_S = 0.1
#: Values of each result that are compared between contenders.
_SAMPLES = 64

_PR_SET_PDEATHSIG = 1


class Worker:
    """What the requests act on."""

    def __init__(self) -> None:
        self.module: Any = None
        self.timers: dict[str, tuple[timeit.Timer, int]] = {}
        self.prepared: Prepared | None = None

    def start(self, contender: str, threads: int) -> dict[str, str]:
        """Import the contender."""
        self.module = importlib.import_module(f".{MODULES[contender]}", __package__)
        versions: dict[str, str] = self.module.start(threads)
        return {"python": sys.version.split()[0], **versions}

    def prepare(self, case: dict[str, Any], mode: str) -> dict[str, Any]:
        """Make everything, run every variant, and see how long it takes."""
        self.release()
        self.prepared = prepared = self.module.prepare(grid.from_json(case), mode)
        for name, statement in prepared.variants.items():
            timer = timeit.Timer(statement, globals=dict(prepared.names))
            timer.timeit(1)
            number, seconds = 1, timer.timeit(1)
            # The first calls say little about calls of a microsecond.
            while seconds < _SHORTEST_S / 2:
                number *= max(2, int(_SHORTEST_S / max(seconds, 1e-7)))
                seconds = timer.timeit(number)
            self.timers[name] = (timer, number)
        return {"statements": dict(prepared.variants), "samples": [_samples(a) for a in prepared.results()]}

    def measure(self, seconds: float) -> dict[str, float]:
        """Microseconds of every variant: the median of timings after a first one, which warms caches up."""
        assert self.prepared is not None
        return {
            name: _median_us(timer, number, seconds / len(self.timers)) / self.prepared.repeats
            for name, (timer, number) in self.timers.items()
        }

    def memory(self, case: dict[str, Any]) -> dict[str, int]:
        """Bytes that a case takes beside its inputs and results."""
        found: dict[str, int] = self.module.memory(grid.from_json(case))
        return found

    def peak(self) -> float:
        """What the cores compute at most, in GFLOP/s."""
        return float(f"{self.module.peak():.4g}")

    def release(self) -> None:
        """Forget the arrays."""
        self.prepared, self.timers = None, {}
        gc.collect()


def _median_us(timer: timeit.Timer, number: int, seconds: float) -> float:
    spent = timer.timeit(number)
    # Where a call takes so long, nothing is left in any cache that the first could warm up.
    if spent > _LONG_S:
        return spent / number * 1e6
    times: list[float] = []
    while not times or (len(times) < _MOST and spent < seconds):
        times.append(timer.timeit(number))
        spent += times[-1]
    return statistics.median(times) / number * 1e6


def _samples(array: Any) -> list[float]:
    flat = np.asarray(array).reshape(-1)
    return [float(flat[at]) for at in np.linspace(0, flat.size - 1, min(flat.size, _SAMPLES)).astype(int)]


def main() -> None:
    """Answer until stdin ends."""
    # An interrupt is for the driver, which ends its workers; if it is killed, so are they.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # What libraries print belongs on stderr.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    worker = Worker()
    for line in sys.stdin:
        request: dict[str, Any] = json.loads(line)
        action: Callable[..., Any] = getattr(worker, request.pop("do"))
        _answer(answers, action, request)


def _answer(answers: IO[str], action: Callable[..., Any], arguments: dict[str, Any]) -> None:
    try:
        answer = {"ok": action(**arguments)}
    except NotOffered as reason:
        answer = {"not offered": str(reason)}
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        answer = {"failed": f"{type(error).__name__}: {lines[0]}"[:300]}
    answers.write(json.dumps(answer) + "\n")
