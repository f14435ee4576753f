"""Numbers of rounds: medians, spreads, ratios, geometric means."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

#: One number a round; None where the contender had no part in it.
Series = Sequence[float | None]


@dataclass(frozen=True)
class Spread:
    """The median of rounds, with the least and the largest.

    ``paired`` is False for a ratio of medians of different rounds, which the machine's moods may distort.
    """

    median: float
    least: float
    largest: float
    rounds: int
    paired: bool = True


def spread(series: Series) -> Spread | None:
    """Of the rounds that there are; None if there are none."""
    values = [value for value in series if value is not None]
    if not values:
        return None
    return Spread(statistics.median(values), min(values), max(values), len(values))


def best(variants: Mapping[str, Series]) -> str | None:
    """The variant with the least median, the first of equals."""
    medians = {name: found.median for name, series in variants.items() if (found := spread(series))}
    return min(medians, key=lambda name: medians[name], default=None)


def ratio(above: Series, below: Series) -> Spread | None:
    """``above`` over ``below``, round by round; where they share no round, of their medians."""
    pairs = [a / b for a, b in zip(above, below, strict=False) if a is not None and b is not None and b > 0]
    if pairs:
        return spread(pairs)
    a, b = spread(above), spread(below)
    if a is None or b is None:
        return None
    return Spread(a.median / b.median, a.least / b.largest, a.largest / b.least, 0, paired=False)


def geometric_mean(values: Iterable[float]) -> float | None:
    """None of no values."""
    logarithms = [math.log(value) for value in values]
    return math.exp(statistics.fmean(logarithms)) if logarithms else None
