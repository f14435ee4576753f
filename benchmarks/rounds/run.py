"""Rounds: every contender prepares the case, then all are measured in turn, again and again."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..contenders import LIMIT, OURS
from ..grid import Case
from .load import Watch
from .processes import Contender, Gone, Process, start
from .store import Cell, Results

#: A contender whose process ended so often has had its chances.
_STARTS = 4

#: A result is right if it is within this times the largest value of the median of all contenders, by the
#: significant bits of the dtype; sums over a million rows in float32 differ by 1e-5 of themselves.
_AGREEMENT = {"float64": 1e-5, "float32": 1e-3, "float16": 2e-2, "bfloat16": 1e-1}


@dataclass
class Pool:
    """The processes of all contenders for one number of threads and one mode."""

    contenders: Sequence[Contender]
    threads: int
    mode: str
    running: dict[str, Process] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    starts: dict[str, int] = field(default_factory=dict)

    def get(self, contender: Contender) -> Process | None:
        """Its process, started if there is none; None if it cannot be, for the reason in ``absent``."""
        name = contender.name
        if name in self.absent:
            return None
        if name not in self.running:
            if self.starts.get(name, 0) >= _STARTS:
                self.absent[name] = f"failed: its process ended {_STARTS} times"
                return None
            self.starts[name] = self.starts.get(name, 0) + 1
            started = start(contender, self.threads, self.mode)
            if isinstance(started, str):
                self.absent[name] = started
                return None
            self.running[name] = started
        return self.running[name]

    def drop(self, name: str) -> None:
        """End a process; the next case gets a new one."""
        self.running.pop(name).close()

    def close(self) -> None:
        """End all processes."""
        for name in list(self.running):
            self.drop(name)


@dataclass(frozen=True)
class Settings:
    """How much to measure: rounds of so many seconds for each contender; none only prepares.

    With ``resume``, cells that have as many rounds already are left as they are.
    """

    rounds: int
    seconds: float
    resume: bool = False


def run(
    results: Results,
    cases: Sequence[Case],
    contenders: Sequence[Contender],
    threads: int,
    mode: str,
    settings: Settings,
    advance: Callable[[str], None],
    where: str,
    keep: Callable[[], None],
    deadline: float | None = None,
) -> int:
    """Measure the cases with one number of threads in one mode, calling ``keep`` after each.

    ``advance`` is told what comes next, ``where`` in front, once for each case. No case is begun after
    ``deadline`` (of the monotonic clock). Returns the number of cases that were measured; interrupted, it
    leaves what is complete.
    """
    pool = Pool(contenders, threads, mode)
    done = 0
    try:
        if cases and settings.rounds:
            _measure_peak(results, pool)
        for case in cases:
            if deadline is not None and time.monotonic() > deadline:
                break
            advance(f"{where}: {case.label} {case.phase}")
            cell = results.cell(case, threads, mode)
            if settings.resume and _is_complete(cell, pool, settings.rounds):
                done += 1
                continue
            try:
                _measure(cell, pool, settings)
            finally:
                keep()
            done += 1
    finally:
        pool.close()
    return done


def _is_complete(cell: Cell, pool: Pool, rounds: int) -> bool:
    """Whether everybody has so many rounds or a reason for none, lncompile of the sources as they are now."""
    for contender in pool.contenders:
        found = cell.time(contender.name)
        if contender.name in cell.absent:
            continue
        if found is None or found.rounds < rounds:
            return False
        if contender.kind == OURS:
            process = pool.get(contender)
            if process is None or process.versions != cell.versions[contender.name]:
                return False
    return True


def _measure_peak(results: Results, pool: Pool) -> None:
    """What the cores compute at most, once for each number of threads; nothing if the copy cannot run."""
    key = str(pool.threads)
    for contender in pool.contenders:
        if contender.kind == LIMIT and key not in results.peaks and pool.get(contender) is not None:
            try:
                answer = pool.running[contender.name].ask("peak")
            except Gone:
                pool.drop(contender.name)
                continue
            if "ok" in answer:
                results.peaks[key] = answer["ok"]


def _measure(cell: Cell, pool: Pool, settings: Settings) -> None:
    ready = _prepare(cell, pool)
    watch = Watch(pool.running[name].pid for name in ready)
    for _ in range(settings.rounds):
        times: dict[str, dict[str, float]] = {}
        # Nobody always follows the same neighbour.
        shift = cell.rounds % max(1, len(ready))
        for name in [*ready[shift:], *ready[:shift]]:
            try:
                answer = pool.running[name].ask("measure", seconds=settings.seconds)
            except Gone as gone:
                answer = {"failed": str(gone)}
                pool.drop(name)
            if "ok" in answer:
                times[name] = answer["ok"]
            else:
                cell.refuse(name, f"failed: {answer['failed']}")
                ready = [other for other in ready if other != name]
        cell.add_round({name: times[name] for name in sorted(times, key=list(cell.versions).index)})
    others = watch.others()
    if settings.rounds and others is not None:
        cell.others = max(cell.others, round(others, 3))
    for name in ready:
        try:
            pool.running[name].ask("release")
        except Gone:
            pool.drop(name)


def _prepare(cell: Cell, pool: Pool) -> list[str]:
    """The contenders that are ready for the case, and whose results are those of most."""
    answers: dict[str, dict[str, Any]] = {}
    for contender in pool.contenders:
        name = contender.name
        process = pool.get(contender)
        if process is None:
            cell.refuse(name, pool.absent[name])
            continue
        try:
            answer = process.ask("prepare", case=cell.case.as_json(), mode=cell.mode)
        except Gone as gone:
            answer = {"failed": str(gone)}
            pool.drop(name)
        if "ok" in answer:
            answers[name] = answer["ok"]
        else:
            [(what, reason)] = answer.items()
            cell.refuse(name, f"{what}: {reason}")
    wrong = _wrong({name: answer["samples"] for name, answer in answers.items()}, cell.case.dtype)
    for name, which in wrong.items():
        cell.refuse(name, f"failed: its {which} is not that of the others")
    ready = [name for name in answers if name not in wrong]
    for name in ready:
        cell.admit(name, pool.running[name].versions, answers[name]["statements"])
    return ready


def _wrong(samples: Mapping[str, Sequence[Sequence[float]]], dtype: str) -> dict[str, str]:
    """Who has another result than the median of all, and which it is; the copy has none."""
    found: dict[str, str] = {}
    for at, result in enumerate(("result", "gradient of the weight", "gradient of the bias")):
        given = {name: arrays[at] for name, arrays in samples.items() if at < len(arrays)}
        medians = [statistics.median(values) for values in zip(*given.values(), strict=True)]
        near = _AGREEMENT[dtype] * max(map(abs, medians), default=0.0)
        for name, values in given.items():
            # Written so that NaN is far from everything.
            if not all(abs(value - median) <= near for value, median in zip(values, medians, strict=True)):
                found.setdefault(name, result)
    return found
