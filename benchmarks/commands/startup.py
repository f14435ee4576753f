"""``lncompile bench startup``: what a process pays once."""

from __future__ import annotations

from pathlib import Path

import click

from ..rounds import startup as startups
from ..rounds import store
from ..shown import reach
from . import options


@click.command()
@click.option("--rounds", type=click.IntRange(min=1), default=7, show_default=True, metavar="N")
@options.python_option
@options.checkout_option
@options.fresh_option
@options.json_option
@options.out_option
def startup(
    rounds: int,
    pythons: dict[str, str],
    checkouts: dict[str, str],
    fresh: bool,
    path: Path | None,
    out: Path | None,
) -> None:
    """Measure the import, the first call from a warm cache, and compiling one pair, in new processes."""
    contender = options.contenders(["lncompile"], pythons, checkouts)[0]
    destination = options.destination(out, path, "bench.json")
    results = options.results_in(destination, fresh)
    with options.progress(2 * rounds) as advance:
        try:
            results.startup = startups.measure(contender, rounds, advance)
        except startups.CannotRun as error:
            raise options.Failure(str(error)) from error
    store.save(results, destination)
    only = store.Results(results.machine, startup=results.startup)
    reach.show(options.console(), reach.lines(only))
    click.echo(f"results: {destination}")
