"""``sequence`` and ``skipthought``: recurrent networks on text."""

from __future__ import annotations

import platform

import click

from ..experiments import dynamics, generate, sequence, skipthought
from .options import Usual, finish, names_option, run_jobs, steps_option, table, usual_options


@click.command("sequence")
@names_option("--cell", "cells", sequence.CELLS)
@steps_option
@usual_options
def sequence_command(usual: Usual, cells: list[str], steps: int | None) -> None:
    """A language model of characters: LNGRU and LNLSTM beside the plain cells, and their dynamics."""
    rates, seeds = usual.rates_or(sequence.RATES), usual.seeds_or(sequence.SEEDS)
    jobs = sequence.jobs(cells or sequence.CELLS, rates, seeds, steps, usual.quick)
    found = run_jobs(sequence.run, jobs, usual.processes, "sequence")
    curves = table("sequence", generate.COLUMNS, (rows for rows, _ in found), data=_title())
    reached = table("dynamics", dynamics.COLUMNS, (rows for _, rows in found), data=_title())
    finish([curves, reached], usual.out, usual.plots)


@click.command("skipthought")
@names_option("--cell", "cells", skipthought.CELLS)
@steps_option
@usual_options
def skipthought_command(usual: Usual, cells: list[str], steps: int | None) -> None:
    """A sentence tells its neighbours: LNGRU beside GRU."""
    rates, seeds = usual.rates_or(skipthought.RATES), usual.seeds_or(skipthought.SEEDS)
    jobs = skipthought.jobs(cells or skipthought.CELLS, rates, seeds, steps, usual.quick)
    curves = run_jobs(skipthought.run, jobs, usual.processes, "skipthought")
    finish([table("skipthought", generate.COLUMNS, curves, data=_title())], usual.out, usual.plots)


def _title() -> str:
    return f"pydoc_data.topics of Python {platform.python_version()}"
