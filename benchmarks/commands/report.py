"""``lncompile bench report``: tables, the table of reach, and plots, of what was measured before."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from ..rounds import store
from ..shown import reach, table
from . import options


@click.command()
@options.json_option
@options.out_option
@options.plots_option
@click.option("--summary", is_flag=True, help="The table of reach alone.")
def report(path: Path | None, out: Path | None, plots: bool, summary: bool) -> None:
    """Show what was measured, without measuring."""
    source = options.destination(out, path, "bench.json")
    results = options.existing(source)
    console = options.console()
    if not summary:
        table.show(console, results.cells)
    reach.show(console, reach.lines(results))
    if plots and not summary:
        draw(results, out or source.parent)


def draw(results: store.Results, folder: Path) -> None:
    """Write the plots of the grid, and say where; without matplotlib, say that."""
    _draw(lambda plots: plots.draw(results, folder))


def draw_growth(results: store.Results, folder: Path) -> None:
    """Write the plot of growth, and say where; without matplotlib, say that."""
    _draw(lambda plots: [plots.draw_growth(results, folder)])


def _draw(made_by: Callable[[Any], Iterable[Path]]) -> None:
    try:
        from ..shown import plots
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        click.echo("no plots: matplotlib is not installed (pip install 'lncompile[bench]')", err=True)
        return
    for made in made_by(plots):
        click.echo(f"plot: {made}")
