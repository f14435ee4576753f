"""``python -m benchmarks readme``: the README's figures, made from the results."""

from __future__ import annotations

from pathlib import Path

import click

from .. import figures
from . import options

_README = Path(__file__).parent.parent.parent / "README.md"


@click.command()
@click.option(
    "--file", "readme", type=click.Path(path_type=Path, dir_okay=False), help="Else that of the checkout."
)
@click.option("--check", is_flag=True, help="Change nothing; exit code 1 if figures differ.")
@options.json_option
@options.out_option
def readme(readme: Path | None, check: bool, path: Path | None, out: Path | None) -> None:
    """Make the README's figures anew, between `<!-- bench: NAME -->` and `<!-- end -->`."""
    file = readme or _README
    results = options.existing(options.destination(out, path, "bench.json"))
    try:
        before = file.read_text(encoding="utf-8")
        after = figures.fill(before, results)
    except figures.Unknown as error:
        raise click.ClickException(f"{file}: {error}") from error
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror}") from error
    if before == after:
        click.echo(f"{file}: figures are those of the results")
    elif check:
        raise click.ClickException(f"{file}: figures differ from the results; run without --check")
    else:
        file.write_text(after, encoding="utf-8")
        click.echo(f"{file}: figures made anew")
