"""``lncompile bench [grid]``: every norm on every shape, forward and backward, beside every contender."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import click

from .. import grid as grids
from ..contenders import MODULES
from ..rounds import store
from ..rounds.run import Settings, run
from ..shown import reach, table
from . import options
from .report import draw

_USUAL = Settings(rounds=7, seconds=0.04)
_QUICK = Settings(rounds=3, seconds=0.01)
_QUICK_SHAPES = ((1, 64), (128, 1000), (4096, 1024))


@click.command()
@click.option(
    "--norm",
    "norms",
    multiple=True,
    callback=options.names_of(grids.NORMS),
    metavar="NAMES",
    help=f"Of {', '.join(grids.NORMS)}; joined by commas.",
)
@options.shape_option
@click.option("--phase", "phases", type=click.Choice(grids.PHASES), multiple=True)
@click.option("--dtype", type=click.Choice(grids.DTYPES), default="float32", show_default=True)
@click.option(
    "--mode",
    "modes",
    type=click.Choice(grids.MODES),
    multiple=True,
    help="mapped: into memory that the process has used before; called: y = norm(x), as users call it.",
)
@options.threads_option
@click.option(
    "--only",
    multiple=True,
    callback=options.split,
    metavar="NAMES",
    help=f"These contenders and the limit; of {', '.join(MODULES)}; joined by commas.",
)
@options.python_option
@options.checkout_option
@options.rounds_option
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.0001),
    metavar="S",
    help=f"How long a contender is measured in a round; {_USUAL.seconds} unless said.",
)
@click.option("--quick", is_flag=True, help="Three shapes and short rounds: what to expect, in two minutes.")
@click.option("--resume", is_flag=True, help="Skip cells that have as many rounds already, of these sources.")
@click.option("--time", "limit_s", type=click.FloatRange(min=0), metavar="S", help="Stop after so long.")
@options.fresh_option
@options.json_option
@options.out_option
@options.plots_option
def grid(
    norms: list[str],
    shapes: tuple[tuple[int, ...], ...],
    phases: tuple[str, ...],
    dtype: str,
    modes: tuple[str, ...],
    threads: list[int],
    only: list[str],
    pythons: dict[str, str],
    checkouts: dict[str, str],
    rounds: int | None,
    seconds: float | None,
    quick: bool,
    resume: bool,
    limit_s: float | None,
    fresh: bool,
    path: Path | None,
    out: Path | None,
    plots: bool,
) -> None:
    """Run the grid of norms and shapes, every contender in a process of its own.

    Figures are medians over rounds (7 unless --rounds says otherwise; with 0, everything is only compiled)
    that alternate between contenders. They are kept after every cell, and a later run with the same file
    adds rounds to them. Ctrl-C keeps what is complete.
    """
    contenders = options.contenders(only, pythons, checkouts)
    default = _QUICK if quick else _USUAL
    settings = Settings(
        default.rounds if rounds is None else rounds,
        default.seconds if seconds is None else seconds,
        resume,
    )
    if quick and not shapes:
        shapes, norms = _QUICK_SHAPES, norms or list(grids.ROW_NORMS)
    cases = list(grids.cases(norms or grids.NORMS, shapes, dtype, phases or grids.PHASES))
    if not cases:
        raise click.UsageError("no norm has such a shape: row norms have two sizes, the others two or four")
    destination = options.destination(out, path, "bench.json")
    results = options.results_in(destination, fresh)
    groups = [(mode, count) for mode in modes or grids.MODES for count in threads]
    deadline = None if limit_s is None else time.monotonic() + limit_s

    def keep() -> None:
        if settings.rounds:
            store.save(results, destination)

    left = len(groups) * len(cases)
    interrupted = False
    with options.progress(left) as advance:
        try:
            for mode, count in groups:
                where = f"{mode}, {count} thread{'s' * (count > 1)}"
                left -= run(results, cases, contenders, count, mode, settings, advance, where, keep, deadline)
        except KeyboardInterrupt:
            interrupted = True
    if settings.rounds:
        _show(results, cases, groups, destination, plots)
    if interrupted:
        raise options.Failure("interrupted; what is complete is kept")
    if left:
        raise options.Failure(f"stopped after {limit_s:.0f} s; what is complete is kept, cells left: {left}")


def _show(
    results: store.Results,
    cases: Sequence[grids.Case],
    groups: Sequence[tuple[str, int]],
    destination: Path,
    plots: bool,
) -> None:
    cells = [cell for cell in results.cells if cell.case in cases and (cell.mode, cell.threads) in groups]
    console = options.console()
    table.show(console, cells)
    reach.show(console, reach.lines(results))
    click.echo(f"results: {destination}")
    if plots:
        draw(results, destination.parent)
