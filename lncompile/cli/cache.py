"""``lncompile cache``: what the store of kernels holds, whether it is sound, and removing entries."""

from __future__ import annotations

from dataclasses import asdict

import click

from lncompile import cache_tools
from lncompile.cli import options
from lncompile.cli.output import human_bytes, json_option, print_json


@click.group()
def cache() -> None:
    """Look after the store of compiled kernels."""


@cache.command()
@json_option
def info(as_json: bool) -> None:
    """Show where the store is and what it holds."""
    found = cache_tools.info()
    if as_json:
        print_json(asdict(found))
        return
    click.echo(f"directory  {found.path}")
    click.echo(f"entries    {found.entries}")
    for norm, count in found.norms.items():
        click.echo(f"           {norm} ({count})")
    if found.tunings:
        click.echo(f"tuned      {found.tunings} (`lncompile tune --show` lists them)")
    click.echo(f"size       {human_bytes(found.bytes)}")
    if found.leftovers:
        click.echo(f"leftovers  {found.leftovers} (harmless; `lncompile cache prune` removes old ones)")
    if found.problem:
        click.echo(f"not used:  {found.problem}")


@cache.command()
@json_option
def verify(as_json: bool) -> None:
    """Check every byte of every entry and record of tuning; exit code 1 if one is damaged.

    What interrupted builds left is harmless and only listed. The next use of a damaged entry rebuilds it.
    """
    found = cache_tools.verify()
    if as_json:
        print_json({"sound": not found.damaged, **asdict(found)})
    else:
        for path in found.leftovers:
            click.echo(f"leftover: {path}")
        for damage in found.damaged:
            click.echo(f"damaged: {damage.path}: {damage.reason}")
        what = _count(found.entries, "entry")
        if found.tunings:
            what += f" and {_count(found.tunings, 'record')} of tuning"
        click.echo(f"{what}, {len(found.damaged) or 'none'} damaged")
    if found.damaged:
        raise SystemExit(1)


@cache.command()
@click.option(
    "--max-size", callback=options.size_in_bytes, metavar="SIZE", help="Keep at most so much, such as 500MB."
)
@click.option("--max-age", type=options.FiniteRange(min=0), metavar="DAYS", help="Keep what was used since.")
@json_option
def prune(max_size: int | None, max_age: float | None, as_json: bool) -> None:
    """Remove what interrupted builds left, and the least recently used entries over the limits."""
    _report(cache_tools.prune(max_size, max_age), as_json)


@cache.command()
@json_option
def clear(as_json: bool) -> None:
    """Remove everything but what is being built at this moment."""
    _report(cache_tools.clear(), as_json)


def _report(removal: cache_tools.Removal, as_json: bool) -> None:
    if as_json:
        print_json(asdict(removal))
    else:
        what = f"{_count(removal.entries, 'entry')} and {_count(removal.leftovers, 'leftover')}"
        if removal.tunings:
            what = f"{_count(removal.tunings, 'record')} of tuning, {what}"
        click.echo(f"removed {what}, {human_bytes(removal.bytes)}")
    if removal.kept:
        click.echo(f"error: kept {removal.kept} that are being built or cannot be removed", err=True)
        raise SystemExit(1)


def _count(number: int, noun: str) -> str:
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{number} {noun if number == 1 else plural}"
