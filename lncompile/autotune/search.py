"""Which of several contenders to keep, decided by times that are measured in turns.

    rounds: 0 1 2 3   1 2 3 0   2 3 0 .   ...   -->  the best few  --> 0 2 0   0 2 0   ...   --> 2, or else 0
                                      3 lost

Contender 0 is the heuristic. All ratios are to its time in the same round, so what slows the machine for
longer than a round cancels. The best ones must win once more, in pairs enough to tell the gain from noise,
since the best of many is the luckiest of many too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import exp, log, sqrt
from statistics import fmean, median
from typing import Literal

#: Seconds of each phase of one contender.
Measure = Callable[[int], tuple[float, ...]]
#: What is being done, how much of it is done, and of how much.
Report = Callable[[str, int, int], None]
Verdict = Literal["unfinished", "slower", "no faster", "fastest", "heuristic"]

_ROUNDS = 15
#: A contender that was behind in as many rounds as this, and in all of them, is not measured again: one that
#: is as fast as the heuristic is sent off so once in eight, one that is 5% faster hardly ever.
_ROUNDS_TO_LOSE = 3
#: Nor is one whose median is so far behind by then.
_FAR_BEHIND = log(1.15)
#: Less is not worth another kernel in the cache, and near what two copies of one library differ by.
_LEAST_GAIN = log(1.02)
#: What each phase may lose where both together gain: within that, medians of equal kernels differ.
_MOST_LOSS = log(1.01)
_FINALISTS = 3
_PAIRS = 21
#: Standard errors that the gain must exceed the least gain by, and pairs that must be won, since the error
#: is itself an estimate. Of searches among equals, on machines whose times scatter by a hundredth to a half,
#: one of 300 ended with another one than the heuristic with 3 errors alone, one of 3300 with 4, four of 12000
#: with 17 pairs beside, and none of 12000 so. A gain of a tenth is found on machines that scatter by a
#: twentieth, one of a fifth where they scatter by a tenth.
_CERTAINTY = 4.0
_PAIRS_WON = 19
#: From the median deviation to the standard error of a median of normally distributed values, but for the
#: root of their number.
_ERROR_OF_MEDIAN = 1.4826 * 1.2533


@dataclass
class Standing:
    """How a contender does: the seconds of each phase in each round, and logarithms of ratios to number 0."""

    verdict: Verdict = "unfinished"
    seconds: list[tuple[float, ...]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    @property
    def medians(self) -> tuple[float, ...]:
        """The median seconds of each phase; nothing before the first round."""
        return tuple(median(times) for times in zip(*self.seconds, strict=True))

    @property
    def ratio(self) -> float | None:
        """Time over that of the heuristic, the geometric mean over phases."""
        return exp(median(self.losses)) if self.losses else None


class Search:
    """A search among ``count`` contenders. What is known so far stands in ``standings`` at any time."""

    def __init__(self, count: int, measure: Measure, report: Report) -> None:
        self.standings = [Standing() for _ in range(count)]
        self.standings[0].verdict = "heuristic"
        self._measure = measure
        self._report = report

    def run(self) -> int:
        """The number of the contender to keep: 0 unless another one is faster beyond doubt."""
        for number in range(_ROUNDS):
            contenders = self._contenders()
            if not contenders:
                return 0
            self._report("measuring", number, _ROUNDS)
            self._round(number, contenders)
        finalists = [n for n in self._contenders() if median(self.standings[n].losses) < -_LEAST_GAIN]
        finalists.sort(key=lambda n: median(self.standings[n].losses))
        chosen = next((n for n in finalists[:_FINALISTS] if self._wins(n)), 0)
        for number in self._contenders():
            self.standings[number].verdict = "fastest" if number == chosen else "no faster"
        return chosen

    def _contenders(self) -> list[int]:
        return [n for n, standing in enumerate(self.standings) if standing.verdict == "unfinished"]

    def _round(self, number: int, contenders: list[int]) -> None:
        """Measure all once, each round beginning with another one, and send off who has lost."""
        order = [0, *contenders]
        first = number % len(order)
        times = {n: self._measure(n) for n in order[first:] + order[:first]}
        self.standings[0].seconds.append(times[0])
        for n in contenders:
            standing = self.standings[n]
            standing.seconds.append(times[n])
            standing.losses.append(fmean(_losses(times[n], times[0])))
            behind = min(standing.losses) > 0 or median(standing.losses) > _FAR_BEHIND
            if behind and len(standing.losses) >= _ROUNDS_TO_LOSE:
                standing.verdict = "slower"

    def _wins(self, number: int) -> bool:
        """Whether a contender is faster than the heuristic in pairs that are measured for this alone."""
        losses = []
        for pair in range(_PAIRS):
            self._report("confirming", pair, _PAIRS)
            before, times, after = self._measure(0), self._measure(number), self._measure(0)
            base = tuple(sqrt(a * b) for a, b in zip(before, after, strict=True))
            losses.append(_losses(times, base))
        together = [fmean(phases) for phases in losses]
        middle = median(together)
        deviation = median(abs(loss - middle) for loss in together)
        error = _ERROR_OF_MEDIAN * deviation / sqrt(_PAIRS)
        each = [median(phase) for phase in zip(*losses, strict=True)]
        won = sum(loss < 0 for loss in together)
        certain = middle + _CERTAINTY * error < -_LEAST_GAIN and won >= _PAIRS_WON
        return certain and max(each) <= _MOST_LOSS


def _losses(times: tuple[float, ...], base: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(log(time / other) for time, other in zip(times, base, strict=True))
