"""What the paper claims, and whether the numbers agree: every verdict is computed from the tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..experiments.invariances import paper_says
from ..nets.words import PAIRS
from ..records import Table
from .curves import Curve, at_all_rates, curves, share_of_the_way

#: Steps back at which gradients are compared.
LAG = 20

_FASTER = "Layer norm trains faster than the baseline"
_WRONG_BY_GUESSING = 0.9


@dataclass(frozen=True)
class Claim:
    """The claim, where it was looked for, what was found there, and whether that agrees."""

    claim: str
    where: str
    found: str
    agrees: bool


def claims(tables: Mapping[str, Table]) -> list[Claim]:
    """All claims that the tables say something about."""
    of_tables: dict[str, Callable[[Table], Iterator[Claim]]] = {
        "digits": _digits,
        "sequence": _sequence,
        "dynamics": _dynamics,
        "skipthought": _skipthought,
        "convnet": _convnet,
        "invariances": _invariances,
    }
    return [
        claim
        for name, of_table in of_tables.items()
        if name in tables and tables[name].rows
        for claim in of_table(tables[name])
    ]


def _faster(
    table: Table, where: str, ours: tuple[object, ...], theirs: tuple[object, ...], *units: str
) -> Iterator[Claim]:
    """Best rate against best rate, and rate by rate; in points of x and in the other units."""
    rates = at_all_rates(table)
    if ours not in rates or theirs not in rates:
        return
    best = curves(table)
    for unit in units:
        over = "seconds" if unit == "seconds" else ""
        by_unit = f"{where}, by {unit.removesuffix('s')}" if len(units) > 1 else where
        share = share_of_the_way(best[ours], best[theirs], over)
        text = (
            f"the baseline ends at a loss of {best[theirs].last('nll'):.3g}; "
            f"layer norm {_reached(share, unit)} and ends at {best[ours].last('nll'):.3g}"
        )
        yield Claim(f"{_FASTER}, each at its best rate", by_unit, text, share < 1)
        shares = {
            rate: share_of_the_way(rates[ours][rate], rates[theirs][rate], over)
            for rate in rates[ours]
            if rate in rates[theirs]
        }
        if len(shares) > 1:
            text = ", ".join(
                f"{'never' if math.isinf(share) else f'{share:.0%}'} at rate {rate:g}"
                for rate, share in shares.items()
            )
            text = f"share of the {unit} until layer norm is where the baseline ends: {text}"
            sooner = sum(share < 1 for share in shares.values())
            yield Claim(f"{_FASTER}, at the same rate", by_unit, text, sooner > len(shares) / 2)


def _reached(share: float, unit: str) -> str:
    return "never reaches it" if math.isinf(share) else f"reaches it after {share:.0%} of its {unit}"


def _digits(table: Table) -> Iterator[Claim]:
    found = curves(table)
    for batch in table.different("batch"):
        yield from _faster(table, f"digits, batch {batch}", ("layer", batch), ("none", batch), "epochs")
    sizes = [size for size in table.different("batch") if {("layer", size), ("batch", size)} <= found.keys()]
    if len(sizes) > 1:
        yield _robust(found, max(sizes), min(sizes))
    if ("layer", 1) in found:
        yield _online(found["layer", 1])


def _robust(found: Mapping[tuple[object, ...], Curve], large: int, small: int) -> Claim:
    """Batch norm loses more than layer norm where batches become small, and is behind it there."""
    text, rise = [], {}
    for norm in ("layer", "batch"):
        before, after = found[norm, large], found[norm, small]
        rise[norm] = after.last("error") - before.last("error")
        text.append(
            f"{norm} norm: test error {before.last('error'):.2%} to {after.last('error'):.2%}, "
            f"loss {before.last('nll'):.2g} to {after.last('nll'):.2g}"
        )
    ours, theirs = found["layer", small], found["batch", small]
    agrees = (
        rise["batch"] > rise["layer"]
        and theirs.last("nll") > ours.last("nll")
        and theirs.last("error") > ours.last("error")
    )
    where = f"digits, batch {large} to {small}"
    return Claim(
        "Layer norm is robust in small batches, where batch norm degrades", where, "; ".join(text), agrees
    )


def _online(ours: Curve) -> Claim:
    """It learns: the loss falls, and the test error is less than a tenth of that of guessing."""
    first, last, error = float(ours.mean("nll")[0]), ours.last("nll"), ours.last("error")
    text = (
        f"loss {first:.2g} in the first epoch, {last:.2g} in the last; test error {error:.2%}; "
        "batch norm has no statistics of one sample"
    )
    agrees = last < first and error < _WRONG_BY_GUESSING / 10
    return Claim("Layer norm works at batch size 1", "digits, batch 1", text, agrees)


def _sequence(table: Table) -> Iterator[Claim]:
    for ours, theirs in PAIRS.items():
        where = f"language model, {ours} and {theirs}"
        yield from _faster(table, where, (ours,), (theirs,), "steps", "seconds")


def _skipthought(table: Table) -> Iterator[Claim]:
    for ours, theirs in PAIRS.items():
        yield from _faster(table, f"skip-thoughts, {ours} and {theirs}", (ours,), (theirs,), "steps")


def _dynamics(table: Table) -> Iterator[Claim]:
    """Gradients some steps back, relative to those of the last step: as trained, and over the factors."""
    factors = table.different("factor")
    for ours, theirs in PAIRS.items():
        if not (table.where(cell=ours) and table.where(cell=theirs)):
            continue
        reach = {cell: [_reach(table, cell, factor) for factor in factors] for cell in (ours, theirs)}
        before = f"gradient {_lag(table)} steps back over that of the last step:"
        spread = {cell: _over(max(values), min(values)) for cell, values in reach.items()}
        text = "; ".join(
            f"{cell} {min(values):.2g} to {max(values):.2g}, a factor of {spread[cell]:.2g}"
            for cell, values in reach.items()
        )
        yield Claim(
            "Hidden-to-hidden dynamics are more stable under changes of the recurrent weights",
            f"{ours} and {theirs}, recurrent weights times {factors[0]:g} to {factors[-1]:g}",
            f"{before} {text}",
            spread[ours] < spread[theirs],
        )
        if 1 in factors:
            far = {cell: _from_one(table, cell) for cell in (ours, theirs)}
            text = "; ".join(
                f"{cell} {', '.join(f'{ratio:.2g}' for ratio in _ratios(table, cell, 1))}, "
                f"on average a factor of {value:.2g} from one"
                for cell, value in far.items()
            )
            yield Claim(
                "Gradients vanish or explode less",
                f"{ours} and {theirs}, as trained at each rate",
                f"{before} {text}",
                far[ours] < far[theirs],
            )


def _over(large: float, small: float) -> float:
    return large / small if small > 0 else math.inf


def _lag(table: Table) -> int:
    return int(min(LAG, max(table.different("lag"))))


def _reach(table: Table, cell: str, factor: float) -> float:
    """The geometric mean over rates and seeds."""
    ratios = _ratios(table, cell, factor)
    return _mean(ratios) if min(ratios) > 0 else 0.0


def _from_one(table: Table, cell: str) -> float:
    """The geometric mean of how far each is, so that one that vanishes does not balance one that explodes."""
    ratios = _ratios(table, cell, 1)
    return _mean([max(ratio, 1 / ratio) for ratio in ratios]) if min(ratios) > 0 else math.inf


def _ratios(table: Table, cell: str, factor: float) -> list[float]:
    """Of every rate and seed."""
    back, last = (
        [row["gradient"] for row in table.where(cell=cell, factor=factor, lag=lag)]
        for lag in (_lag(table), 0)
    )
    return [far / near if near else 0.0 for far, near in zip(back, last, strict=True)]


def _mean(values: Sequence[float]) -> float:
    return math.exp(math.fsum(map(math.log, values)) / len(values))


def _convnet(table: Table) -> Iterator[Claim]:
    found = curves(table)
    for batch in table.different("batch"):
        where = f"convolutional network, batch {batch}"
        yield from _faster(table, where, ("layer", batch), ("none", batch), "epochs")
        layer, of_batch = found.get(("layer", batch)), found.get(("batch", batch))
        if layer and of_batch:
            reached = _reached(share := share_of_the_way(of_batch, layer), "epochs")
            text = (
                f"layer norm ends at a loss of {layer.last('nll'):.3g}; batch norm {reached} and ends at "
                f"{of_batch.last('nll'):.3g}; test error {of_batch.last('error'):.2%} against layer norm's "
                f"{layer.last('error'):.2%}"
            )
            yield Claim(
                "Batch norm is better than layer norm in convolutional networks", where, text, share < 1
            )


def _invariances(table: Table) -> Iterator[Claim]:
    wrong = [
        f"{row['norm']} under {row['change']}"
        for row in table.rows
        if (row["invariant"] == "yes") != paper_says(row["norm"], row["change"])
    ]
    text = f"{len(table.rows) - len(wrong)} of {len(table.rows)} entries as in the table"
    if wrong:
        text += f"; not {', '.join(wrong)}"
    yield Claim("Invariances under changes of weights and data, table 1", "one layer", text, not wrong)
