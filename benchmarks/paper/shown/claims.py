"""What the paper claims, and whether the numbers agree: every verdict is computed from the tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..experiments.invariances import paper_says
from ..nets.words import PAIRS
from ..records import Table
from .curves import Curve, curves, share_of_the_way

#: Steps back at which gradients are compared.
LAG = 20


@dataclass(frozen=True)
class Claim:
    """The claim, where it was looked for, what was found there, and whether that agrees."""

    claim: str
    where: str
    found: str
    agrees: bool


def claims(tables: Mapping[str, Table]) -> list[Claim]:
    """All claims that the tables say something about."""
    found: list[Claim] = []
    for name, of_table in (
        ("digits", _digits),
        ("sequence", _sequence),
        ("skipthought", _skipthought),
        ("dynamics", _dynamics),
        ("convnet", _convnet),
        ("invariances", _invariances),
    ):
        if name in tables and tables[name].rows:
            found += of_table(tables[name])
    return found


def _faster(where: str, ours: Curve, theirs: Curve, unit: str, over: str = "") -> Claim:
    share = share_of_the_way(ours, theirs, over)
    reached = "never reaches it" if math.isinf(share) else f"reaches it after {share:.0%} of its {unit}"
    found = (
        f"the baseline ends at a loss of {theirs.last('nll'):.3g}; layer norm {reached} and ends at "
        f"{ours.last('nll'):.3g}"
    )
    return Claim("Layer norm trains faster than the baseline", where, found, share < 1)


def _digits(table: Table) -> Iterator[Claim]:
    found = curves(table)
    for batch in table.different("batch"):
        ours, plain = found.get(("layer", batch)), found.get(("none", batch))
        if ours and plain:
            yield _faster(f"digits, batch {batch}", ours, plain, "epochs")
    sizes = [batch for batch in table.different("batch") if ("batch", batch) in found]
    if len(sizes) > 1:
        large, small = max(sizes), min(sizes)
        if ("layer", large) in found and ("layer", small) in found:
            yield _robust(found, large, small)
    if ("layer", 1) in found:
        yield _online(found["layer", 1])


def _robust(found: Mapping[tuple[object, ...], Curve], large: int, small: int) -> Claim:
    """Batch norm loses more than layer norm where batches become small, and is behind it there."""
    text, rise = [], {}
    for norm in ("layer", "batch"):
        before, after = found[norm, large], found[norm, small]
        rise[norm] = after.last("error") - before.last("error")
        text.append(
            f"{norm} norm: test error {before.last('error'):.1%} to {after.last('error'):.1%}, "
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
    """It learns: the loss falls, and the test error is far below that of guessing, 90%."""
    first, last = float(ours.mean("nll")[0]), ours.last("nll")
    text = (
        f"loss {first:.2g} in the first epoch, {last:.2g} in the last; test error {ours.last('error'):.1%}; "
        "batch norm cannot be computed"
    )
    return Claim(
        "Layer norm works at batch size 1", "digits, batch 1", text, last < first and ours.last("error") < 0.1
    )


def _sequence(table: Table) -> Iterator[Claim]:
    found = curves(table)
    for ours, theirs in PAIRS.items():
        if (ours,) in found and (theirs,) in found:
            pair = found[(ours,)], found[(theirs,)]
            yield _faster(f"language model, {ours} and {theirs}, by step", *pair, "steps")
            yield _faster(f"language model, {ours} and {theirs}, by second", *pair, "seconds", "seconds")


def _skipthought(table: Table) -> Iterator[Claim]:
    found = curves(table)
    for ours, theirs in PAIRS.items():
        if (ours,) in found and (theirs,) in found:
            yield _faster(f"skip-thoughts, {ours} and {theirs}", found[(ours,)], found[(theirs,)], "steps")


def _dynamics(table: Table) -> Iterator[Claim]:
    """Gradients some steps back, relative to those of the last step: their range over the factors."""
    factors = table.different("factor")
    for ours, theirs in PAIRS.items():
        if not (table.where(cell=ours) and table.where(cell=theirs)):
            continue
        spread, text = {}, []
        for cell in (ours, theirs):
            ratios = [_reach(table, cell, factor) for factor in factors]
            spread[cell] = max(ratios) / min(ratios) if min(ratios) > 0 else math.inf
            text.append(f"{cell} {min(ratios):.2g} to {max(ratios):.2g}, a factor of {spread[cell]:.2g}")
        yield Claim(
            "Hidden-to-hidden dynamics are more stable",
            f"{ours} and {theirs}, recurrent weights times {factors[0]:g} to {factors[-1]:g}",
            f"gradient {_lag(table)} steps back over that of the last step: {'; '.join(text)}",
            spread[ours] < spread[theirs],
        )


def _lag(table: Table) -> int:
    return int(min(LAG, max(table.different("lag"))))


def _reach(table: Table, cell: str, factor: float) -> float:
    """The geometric mean over rates and seeds."""
    ends = [
        [row["gradient"] for row in table.where(cell=cell, factor=factor, lag=lag)]
        for lag in (_lag(table), 0)
    ]
    ratios = [back / last if last else 0.0 for back, last in zip(*ends, strict=True)]
    return math.exp(math.fsum(map(math.log, ratios)) / len(ratios)) if min(ratios) > 0 else 0.0


def _convnet(table: Table) -> Iterator[Claim]:
    found = curves(table)
    for batch in table.different("batch"):
        layer, of_batch, plain = (found.get((norm, batch)) for norm in ("layer", "batch", "none"))
        if layer and plain:
            yield _faster(f"convolutional network, batch {batch}", layer, plain, "epochs")
        if layer and of_batch:
            share = share_of_the_way(of_batch, layer)
            reached = "never reaches" if math.isinf(share) else f"after {share:.0%} of the epochs reaches"
            yield Claim(
                "Batch norm is better than layer norm in convolutional networks",
                f"convolutional network, batch {batch}",
                f"batch norm {reached} layer norm's last loss of {layer.last('nll'):.2g} and ends at "
                f"{of_batch.last('nll'):.2g}; test error {of_batch.last('error'):.2%} against "
                f"{layer.last('error'):.2%}",
                share < 1,
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
