"""What the commands share: options, running jobs, keeping and showing what they found."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import click
import numpy as np

import lncompile
from lncompile.cli.options import FiniteRange
from lncompile.cli.output import Failure, progress_bar

from ...commands.options import names_of
from ...rounds import machine
from .. import records
from ..jobs import run_all
from ..shown import summary

_FOLDER = Path(__file__).parent.parent.parent / "results" / "paper"
_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Usual:
    """What every experiment is asked; seeds and rates are empty unless given."""

    seeds: tuple[int, ...]
    rates: tuple[float, ...]
    quick: bool
    processes: int
    out: Path
    plots: bool

    def seeds_or(self, usual: tuple[int, ...]) -> tuple[int, ...]:
        """Those given, else the experiment's own."""
        return self.seeds or self._fewer(usual)

    def rates_or(self, usual: tuple[float, ...]) -> tuple[float, ...]:
        """Those given, else the experiment's own."""
        return self.rates or self._fewer(usual)

    def _fewer(self, usual: tuple[Any, ...]) -> tuple[Any, ...]:
        return usual[:1] if self.quick else usual


seed_option = click.option(
    "--seed",
    "seeds",
    type=click.IntRange(min=0),
    multiple=True,
    metavar="N",
    help="Repeat for more: what is shown is their mean.",
)
out_option = click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=_FOLDER,
    metavar="DIR",
    help="Where tables, plots and the report go; else benchmarks/results/paper.",
)
plots_option = click.option("--plots/--no-plots", default=True, show_default=True, help="Draw the plots.")
epochs_option = click.option("--epochs", type=click.IntRange(min=1), metavar="N")
steps_option = click.option("--steps", type=click.IntRange(min=2), metavar="N", help="Updates of a curve.")

_USUAL = (
    seed_option,
    click.option(
        "--rate",
        "rates",
        type=FiniteRange(min=0, min_open=True),
        multiple=True,
        metavar="R",
        help="Adam's. Repeat for more: every curve is shown at the one with the least last training loss.",
    ),
    click.option("--quick", is_flag=True, help="Hardly any data: whether it runs, not what it shows."),
    click.option(
        "--jobs",
        "processes",
        type=click.IntRange(min=1),
        default=_CORES,
        show_default=True,
        metavar="N",
        help="Curves at the same time, each in a process of its own.",
    ),
    out_option,
    plots_option,
)


def usual_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options of every experiment, which the command takes as one ``Usual``."""

    @wraps(command)
    def gathered(
        *,
        seeds: tuple[int, ...],
        rates: tuple[float, ...],
        quick: bool,
        processes: int,
        out: Path,
        plots: bool,
        **own: Any,
    ) -> None:
        command(Usual(seeds, rates, quick, processes, out, plots), **own)

    decorated: Callable[..., None] = gathered
    for option in reversed(_USUAL):
        decorated = option(decorated)
    return decorated


def names_option(flag: str, target: str, known: Sequence[str]) -> Callable[[Any], Any]:
    """Some of these names, all unless given."""
    return click.option(
        flag,
        target,
        multiple=True,
        callback=names_of(known),
        metavar="NAMES",
        help=f"Of {', '.join(known)}; joined by commas. All unless given.",
    )


def run_jobs(run: Callable[[Any], Any], jobs: Sequence[Any], processes: int, name: str) -> list[Any]:
    """What every job found, in their order, behind a progress bar."""
    with progress_bar(name, len(jobs)) as advance:
        return run_all(run, jobs, processes, advance)


def table(
    name: str, columns: tuple[str, ...], curves: Iterable[Iterable[Any]], **about: str
) -> records.Table:
    """A table of the rows of all curves, with the machine and versions."""
    about |= {
        "machine": machine.sentence(machine.describe()),
        "versions": f"lncompile {lncompile.__version__}, numpy {np.__version__}",
    }
    made = records.Table(name, columns, about=about)
    for rows in curves:
        for row in rows:
            made.add(*row)
    return made


def finish(tables: Sequence[records.Table], out: Path, plots: bool) -> None:
    """Keep, draw and show what an experiment found."""
    try:
        paths = [records.save(found, out) for found in tables]
    except OSError as error:
        raise Failure(f"{out}: {error.strerror}") from error
    if plots:
        paths += draw(tables, out)
    for found in tables:
        summary.show(found)
    for path in paths:
        click.echo(f"written: {path}")


def draw(tables: Iterable[records.Table], out: Path) -> list[Path]:
    """The plots; without matplotlib, none, and a line that says so."""
    try:
        from ..shown import plots
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        click.echo("no plots: matplotlib is not installed (pip install 'lncompile[paper]')", err=True)
        return []
    return [path for found in tables for path in plots.draw(found, out)]
