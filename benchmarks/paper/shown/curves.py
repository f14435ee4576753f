"""Curves of a table: every contender at its best rate, its seeds side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lncompile.cli.demo.data import Array

from ..experiments import classify, generate, sequence, skipthought
from ..nets.normalize import OF_FEATURES, OF_IMAGES
from ..records import Row, Table


@dataclass(frozen=True)
class Kind:
    """What the curves of an experiment are: whose, over what, which value beside ``nll``, in which order."""

    columns: tuple[str, ...]
    names: tuple[str, ...]
    x: str
    unseen: str
    order: tuple[str, ...]


KINDS = {
    "digits": Kind(classify.COLUMNS, ("norm", "batch"), "epoch", "error", OF_FEATURES),
    "convnet": Kind(classify.COLUMNS, ("norm", "batch"), "epoch", "error", OF_IMAGES),
    "sequence": Kind(generate.COLUMNS, ("cell",), "step", "unseen", sequence.CELLS),
    "skipthought": Kind(generate.COLUMNS, ("cell",), "step", "unseen", skipthought.CELLS),
}


@dataclass(frozen=True)
class Curve:
    """One contender at one rate; values are [seeds, points]."""

    names: tuple[object, ...]
    rate: float
    x: Array
    values: dict[str, Array]

    def mean(self, column: str) -> Array:
        """The mean over the seeds [points]."""
        found: Array = self.values[column].mean(axis=0)
        return found

    def last(self, column: str) -> float:
        """The mean over the seeds at the end."""
        return float(self.mean(column)[-1])


def curves(table: Table) -> dict[tuple[object, ...], Curve]:
    """By names, (norm, batch) or (cell,): each at its best rate."""
    return {
        names: min(by_rate.values(), key=lambda curve: _or_infinity(curve.last("nll")))
        for names, by_rate in at_all_rates(table).items()
    }


def at_all_rates(table: Table) -> dict[tuple[object, ...], dict[float, Curve]]:
    """By names and rate."""
    kind = KINDS[table.name]
    return {
        names: {
            rate: _curve(names, rate, [row for row in rows if row["rate"] == rate], kind)
            for rate in sorted({row["rate"] for row in rows})
        }
        for names, rows in table.curves(*kind.names)
    }


def _curve(names: tuple[object, ...], rate: float, rows: Sequence[Row], kind: Kind) -> Curve:
    seeds = dict.fromkeys(row["seed"] for row in rows)
    by_seed = [[row for row in rows if row["seed"] == seed] for seed in seeds]
    x = np.array([row[kind.x] for row in by_seed[0]])
    values = {
        column: np.array([[float(row[column]) for row in found] for found in by_seed])
        for column in ("nll", kind.unseen, "seconds")
        if column in kind.columns
    }
    return Curve(names, rate, x, values)


def _or_infinity(value: float) -> float:
    """A loss that is no number is worse than any."""
    return math.inf if math.isnan(value) else value


def share_of_the_way(ours: Curve, theirs: Curve, over: str = "") -> float:
    """How soon ``ours`` has the loss that ``theirs`` ends with, as a share of all that ``theirs`` took.

    Counted in x, or in the values of a column, such as seconds; linear between points, infinite if it never
    has.
    """
    level, losses = _or_infinity(theirs.last("nll")), ours.mean("nll")
    reached = np.flatnonzero(losses <= level)
    if not len(reached):
        return math.inf
    x, end = (ours.mean(over), theirs.mean(over)[-1]) if over else (ours.x, theirs.x[-1])
    at = int(reached[0])
    if at == 0 or not math.isfinite(losses[at - 1]):
        return float(x[at] / end)
    back = (level - losses[at]) / (losses[at - 1] - losses[at])
    return float((x[at] - back * (x[at] - x[at - 1])) / end)
