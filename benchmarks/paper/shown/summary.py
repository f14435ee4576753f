"""Tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table as RichTable

from ...commands.options import console
from ..experiments.invariances import CHANGES, paper_says
from ..records import Table
from .claims import Claim
from .curves import KINDS, at_all_rates, curves

#: Heading and rows, all text.
Rows = tuple[list[str], list[list[str]]]


def of_curves(table: Table) -> Rows:
    """Where every contender ended, at its best rate."""
    kind = KINDS[table.name]
    heading = [*kind.names, "best rate", "of rates", kind.x, "last loss", kind.unseen]
    timed = "seconds" in kind.columns
    rates = at_all_rates(table)
    rows = [
        [
            *(str(name) for name in curve.names),
            f"{curve.rate:g}",
            ", ".join(f"{rate:g}" for rate in rates[curve.names]),
            str(curve.x[-1]),
            f"{curve.last('nll'):.3g}",
            f"{curve.last('error'):.2%}" if kind.unseen == "error" else f"{curve.last(kind.unseen):.4f}",
            *([f"{curve.last('seconds'):.1f}"] if timed else []),
        ]
        for curve in curves(table).values()
    ]
    return [*heading, *(["seconds"] if timed else [])], rows


def of_invariances(table: Table) -> Rows:
    """The largest deviation over the seeds, and in words beside the paper's."""
    rows = []
    for norm in table.different("norm"):
        row = [norm]
        for change in CHANGES:
            found = table.where(norm=norm, change=change)
            says = "invariant" if paper_says(norm, change) else "not"
            measured = "invariant" if all(entry["invariant"] == "yes" for entry in found) else "not"
            note = "" if measured == says else f" (paper: {says})"
            row.append(f"{measured}, {max(entry['deviation'] for entry in found):.1e}{note}")
        rows.append(row)
    return ["norm", *CHANGES], rows


def of_dynamics(table: Table) -> Rows:
    """How many steps a gradient reaches, by factor."""
    lags = [lag for lag in (10, 20, 50) if lag in table.different("lag")]
    factors = table.different("factor")
    rows = []
    for cell in table.different("cell"):
        first = table.where(cell=cell)[0]
        for lag in lags:
            values = []
            for factor in factors:
                back, last = (
                    table.where(cell=cell, rate=first["rate"], seed=first["seed"], factor=factor, lag=at)[0]
                    for at in (lag, 0)
                )
                values.append(f"{back['gradient'] / last['gradient']:.1e}" if last["gradient"] else "0")
            rows.append([cell, str(lag), *values])
    return ["cell", "steps back", *(f"× {factor:g}" for factor in factors)], rows


def of_table(table: Table) -> Rows:
    """What is worth showing of a table."""
    if table.name == "invariances":
        return of_invariances(table)
    if table.name == "dynamics":
        return of_dynamics(table)
    return of_curves(table)


def show(table: Table) -> None:
    """Print what a table says."""
    _show(table.name, *of_table(table))


def show_claims(found: Sequence[Claim]) -> None:
    """Print every claim with its verdict."""
    rows = [[c.claim, c.where, c.found, "agrees" if c.agrees else "DISAGREES"] for c in found]
    _show("what the paper claims", ["claim", "where", "measured", ""], rows)


def _show(title: str, heading: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    shown = RichTable(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for name in heading:
        shown.add_column(name)
    for row in rows:
        shown.add_row(*row)
    console().print(shown)
