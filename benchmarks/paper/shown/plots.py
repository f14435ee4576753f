"""Plots in the paper's form, as PNG: one line a contender, its mean over the seeds and their range."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot
from matplotlib.ticker import MaxNLocator

from ..nets.words import PAIRS
from ..records import Table
from .curves import KINDS, Curve, curves

#: Colours of Okabe and Ito, which people with any vision tell apart.
_COLOURS = ("#D55E00", "#0072B2", "#7F7F7F", "#009E73", "#CC79A7", "#56B4E9")
_DPI = 110
_AXIS = {
    "nll": "negative log-likelihood",
    "error": "test error",
    "unseen": "negative log-likelihood, unseen text",
}

_Axes = Any
#: Title of a panel, label of x, label of y, and what draws it.
_Panel = tuple[str, str, str, Callable[[_Axes], None]]


def draw(table: Table, folder: Path) -> list[Path]:
    """Write ``NAME.png`` for a table that has a picture; returns its path."""
    made = {
        "digits": _by_batch,
        "convnet": _by_batch,
        "sequence": _by_step_and_second,
        "skipthought": _seen_and_unseen,
        "dynamics": _by_lag,
    }.get(table.name)
    if made is None or not table.rows:
        return []
    panels = made(table)
    width, height = max(len(row) for row in panels), len(panels)
    figure, grid = pyplot.subplots(
        height, width, figsize=(4.2 * width, 3.1 * height), squeeze=False, sharey="row"
    )
    for axes_row, row in zip(grid, panels, strict=True):
        for axes in axes_row[len(row) :]:
            axes.set_visible(False)
        for axes, (title, x, y, lines) in zip(axes_row, row, strict=False):
            lines(axes)
            axes.set_yscale("log")
            axes.set_title(title, loc="left", fontsize=10)
            axes.set_xlabel(x)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set_ylabel(y if axes is axes_row[0] else "")
            axes.grid(True, which="both", alpha=0.25, linewidth=0.5)
            axes.legend(fontsize=8, frameon=False)
    about = "\n".join(value for key, value in table.about.items() if key in ("data", "machine"))
    figure.suptitle(f"{table.name}: {about}", fontsize=8, x=0.01, ha="left")
    figure.tight_layout()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{table.name}.png"
    # Without the versions that matplotlib would write, the same numbers give the same file.
    figure.savefig(path, dpi=_DPI, metadata={"Software": None})
    pyplot.close(figure)
    return [path]


def _lines(shown: Sequence[Curve], y: str, order: Sequence[str], over: str = "") -> Callable[[_Axes], None]:
    def lines(axes: _Axes) -> None:
        for curve in shown:
            name = str(curve.names[0])
            x = curve.mean(over) if over else curve.x
            colour = _COLOURS[order.index(name) % len(_COLOURS)]
            axes.plot(x, curve.mean(y), color=colour, linewidth=1.3, label=f"{name}, rate {curve.rate:g}")
            low, high = curve.values[y].min(axis=0), curve.values[y].max(axis=0)
            axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)

    return lines


def _by_batch(table: Table) -> list[list[_Panel]]:
    """Loss above test error, a column for each batch size, as in the paper's figure 6."""
    kind, found = KINDS[table.name], curves(table)
    rows: list[list[_Panel]] = []
    for y in ("nll", "error"):
        row: list[_Panel] = []
        for batch in table.different("batch"):
            shown = [curve for names, curve in found.items() if names[1] == batch]
            row.append((f"batch size {batch}", "epoch", _AXIS[y], _lines(shown, y, kind.order)))
        rows.append(row)
    return rows


def _by_step_and_second(table: Table) -> list[list[_Panel]]:
    """A row for each pair of cells."""
    kind, found = KINDS[table.name], curves(table)
    rows: list[list[_Panel]] = []
    for pair in PAIRS.items():
        shown = [found[(cell,)] for cell in pair if (cell,) in found]
        if shown:
            title = " and ".join(str(curve.names[0]) for curve in shown)
            rows.append(
                [
                    (f"{title}, by step", "step", _AXIS["nll"], _lines(shown, "nll", kind.order)),
                    (
                        f"{title}, by second",
                        "seconds of the processor",
                        _AXIS["nll"],
                        _lines(shown, "nll", kind.order, "seconds"),
                    ),
                ]
            )
    return rows


def _seen_and_unseen(table: Table) -> list[list[_Panel]]:
    kind, found = KINDS[table.name], list(curves(table).values())
    return [
        [
            ("sentences of training", "step", _AXIS["nll"], _lines(found, "nll", kind.order)),
            ("unseen sentences", "step", _AXIS["nll"], _lines(found, "unseen", kind.order)),
        ]
    ]


def _by_lag(table: Table) -> list[list[_Panel]]:
    """A row for each pair of cells at their first rate and seed, a line for each factor."""
    known = table.different("cell")
    rows = [[cell for cell in pair if cell in known] for pair in PAIRS.items()]
    return [
        [(cell, "steps before the last", "norm of the gradient", _factors(table, cell)) for cell in row]
        for row in rows
        if row
    ]


def _factors(table: Table, cell: str) -> Callable[[_Axes], None]:
    def lines(axes: _Axes) -> None:
        first = table.where(cell=cell)[0]
        same = {name: first[name] for name in ("cell", "rate", "seed")}
        for place, factor in enumerate(table.different("factor")):
            rows = table.where(**same, factor=factor)
            axes.plot(
                [row["lag"] for row in rows],
                [row["gradient"] for row in rows],
                color=_COLOURS[place % len(_COLOURS)],
                linewidth=1.2,
                label=f"recurrent weights × {factor:g}",
            )

    return lines
