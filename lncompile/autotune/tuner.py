"""One tuning from end to end."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache as memoized
from math import prod
from typing import Any

from lncompile import cache, tunings
from lncompile.autotune.places import Candidate, place_of
from lncompile.autotune.record import Trial, Tuning, from_json
from lncompile.autotune.search import Report, Search, Standing
from lncompile.autotune.workers import compiled
from lncompile.autotune.workload import Workload
from lncompile.builders import traced
from lncompile.dtypes import TABLE
from lncompile.errors import CompilerBug, LncValueError
from lncompile.norm import dispatcher_of
from lncompile.requested import requested

#: Verdicts that do not change when the search goes on after an interrupt.
_FINAL = ("slower", "other bits", "failed", "spills")


class Tuner:
    """The candidates for one specialization, what is known of each so far, and the decision."""

    def __init__(
        self,
        norm: Any,
        shape: Sequence[int],
        dtype: Any,
        target: str,
        out_dtype: Any,
        any_bits: bool,
        options: Mapping[str, Any],
    ) -> None:
        """Check the arguments and trace the norm; compiles nothing."""
        self.dispatcher = dispatcher_of(norm)
        self.special, _ = requested(self.dispatcher, shape, dtype, target, out_dtype, options)
        self.shape = tuple(int(size) for size in shape)
        self.any_bits = any_bits
        if 0 in self.shape:
            raise LncValueError(f"shape: expected an array with elements to measure; got {self.shape}")
        equation, special = self.dispatcher.equation, self.special
        self.place = place_of(equation, special, memoized(lambda: traced(equation, special)))
        self.candidates: list[Candidate] = []
        self.trials: list[Trial] = []

    def run(self, report: Report) -> Tuning:
        """Search, and keep what is found; an interrupt keeps what is known so far and is raised again."""
        earlier = self._earlier()
        chosen = 0
        try:
            self.candidates = self._distinct(report)
            self.trials = [
                Trial(dict(candidate.changes), "unfinished" if n else "heuristic")
                for n, candidate in enumerate(self.candidates)
            ]
            self._take_over(earlier)
            artifacts = self._artifacts(report)
            chosen = self._best(artifacts, report)
        except KeyboardInterrupt:
            if any(trial.verdict in _FINAL for trial in self.trials):
                self._keep(None if earlier is None else earlier.schedule, complete=False)
            raise
        schedule = self.candidates[chosen].kept
        cache.fetch(self._key(chosen), lambda: artifacts[chosen])
        tuning = self._keep(schedule, complete=True)
        # Calls on arrays may know the target by another name: that of an architecture, or of this machine.
        for target in {self.special.target, self.place.target}:
            self.dispatcher.forget(self.special._replace(target=target))
        return tuning

    def _distinct(self, report: Report) -> list[Candidate]:
        """A candidate for each schedule that makes another kernel, the heuristic's first."""
        dtype = self.special.out_dtype or dict(self.special.dtypes)[self.dispatcher.signature.arguments[0]]
        result_bytes = prod(self.shape) * TABLE[dtype].itemsize
        emitted = list(self.place.candidates(result_bytes, any_bits=self.any_bits))
        by_text: dict[str, Candidate] = {}
        for number, emit in enumerate(emitted):
            report("emitting", number, len(emitted))
            candidate = emit()
            by_text.setdefault(candidate.text, candidate)
        return list(by_text.values())

    def _key(self, number: int) -> dict[str, object]:
        """What a candidate's kernel has in the store as its key."""
        return {**self.place.spec, "schedule": self.candidates[number].kept}

    def _earlier(self) -> Tuning | None:
        found = tunings.find(self.place.spec)
        return None if found is None else from_json(found, "")

    def _take_over(self, earlier: Tuning | None) -> None:
        """What an interrupted search for the same found out for good."""
        if earlier is None or earlier.complete or not self._is_like(earlier):
            return
        known = {frozenset(t.changes.items()): t for t in earlier.trials if t.verdict in _FINAL}
        self.trials = [known.get(frozenset(t.changes.items()), t) for t in self.trials]

    def _is_like(self, earlier: Tuning) -> bool:
        mine = self.shape, self.place.threads, self.any_bits
        return (earlier.shape, earlier.threads, earlier.any_bits) == mine

    def _artifacts(self, report: Report) -> dict[int, cache.Artifact]:
        """The library of each candidate that compiles, by its number: from the store, else compiled."""
        found: dict[int, cache.Artifact] = {}
        wanted = []
        for number in self._open():
            entry = cache.lookup(cache.key_of(self._key(number)))
            if entry is None:
                wanted.append(number)
            else:
                found[number] = cache.Artifact(entry.library, entry.source, entry.meta)
        report("compiling", 0, len(wanted))
        jobs = [self.candidates[number].job for number in wanted]
        for done, (at, answer) in enumerate(compiled(jobs, len(os.sched_getaffinity(0))), 1):
            report("compiling", done, len(wanted))
            if isinstance(answer, str):
                self._judge(wanted[at], "failed")
                if wanted[at] == 0:
                    raise CompilerBug(f"{self.dispatcher.equation.name}: {answer}")
            else:
                found[wanted[at]] = answer
        for number in [n for n, artifact in found.items() if n and self.place.spills(artifact)]:
            self._judge(number, "spills")
            del found[number]
        return found

    def _best(self, artifacts: Mapping[int, cache.Artifact], report: Report) -> int:
        """The number of the candidate to use."""
        signature = self.dispatcher.signature
        kernels = {
            number: self.place.loaded(signature, artifact) for number, artifact in sorted(artifacts.items())
        }
        workload = Workload(kernels[0], self.shape, self.place.memory)
        # These are each one's first calls, too, which load its code.
        for number in [n for n in kernels if n and not workload.has_same_bits(kernels[n])]:
            if not self.any_bits:
                self._judge(number, "other bits")
        numbers = [n for n in self._open() if n in kernels]
        search = Search(len(numbers), lambda at: workload.seconds(kernels[numbers[at]]), report)
        try:
            return numbers[search.run()]
        finally:
            for number, standing in zip(numbers, search.standings, strict=True):
                self._judge(number, standing.verdict, standing)

    def _open(self) -> list[int]:
        return [n for n, trial in enumerate(self.trials) if trial.verdict in ("heuristic", "unfinished")]

    def _judge(self, number: int, verdict: str, standing: Standing | None = None) -> None:
        trial = replace(self.trials[number], verdict=verdict)
        if standing is not None and standing.seconds:
            forward, backward = (seconds * 1e6 for seconds in standing.medians)
            trial = replace(trial, forward_us=forward, backward_us=backward, ratio=standing.ratio)
        self.trials[number] = trial

    def _keep(self, schedule: Mapping[str, int] | None, complete: bool) -> Tuning:
        tuning = Tuning(
            norm=self.dispatcher.equation.name,
            shape=self.shape,
            dtypes=dict(sorted(self.special.dtypes)),
            target=self.place.target,
            threads=self.place.threads,
            any_bits=self.any_bits,
            complete=complete,
            schedule=None if schedule is None else dict(schedule),
            trials=tuple(self.trials),
        )
        return replace(tuning, path=tunings.keep(self.place.spec, tuning.to_json()))
