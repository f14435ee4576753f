"""``invariances``, which is quickly computed, and ``report``, which computes nothing anew."""

from __future__ import annotations

from pathlib import Path

import click

from lncompile.cli.output import Failure

from .. import records
from ..experiments import invariances
from ..shown import report as page
from ..shown import summary
from ..shown.claims import claims
from .options import draw, finish, out_option, plots_option, seed_option, table


@click.command("invariances")
@seed_option
@out_option
def invariances_command(seeds: tuple[int, ...], out: Path) -> None:
    """What a normalized layer's output does when weights or data change: the paper's Table 1 in numbers."""
    rows = map(invariances.run, seeds or invariances.SEEDS)
    finish([table("invariances", invariances.COLUMNS, rows)], out, plots=False)


@click.command("report")
@out_option
@plots_option
def report_command(out: Path, plots: bool) -> None:
    """Set what was measured beside what the paper claims, and draw the plots."""
    try:
        tables = page.load(out)
        if not tables:
            raise Failure(f"{out}: holds no tables; run the experiments first")
        drawn = draw(tables.values(), out) if plots else []
        path = records.replace(out / "REPORT.md", page.page(tables, out))
    except (records.NotRecords, OSError) as error:
        raise Failure(str(error)) from error
    summary.show_claims(claims(tables))
    for made in [*drawn, path]:
        click.echo(f"written: {made}")
