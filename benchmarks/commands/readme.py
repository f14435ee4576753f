"""``python -m benchmarks readme``: the README's figures, made from the results that it names."""

from __future__ import annotations

from pathlib import Path

import click

from ..shown import figures
from . import options

_README = Path(__file__).parent.parent.parent / "README.md"


@click.command()
@click.option("--check", is_flag=True, help="Change nothing; exit code 1 if figures differ.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), default=_README)
def readme(check: bool, file: Path) -> None:
    """Make the figures of FILE (the README of the checkout) anew.

    They stand between `<!-- bench: NAME -->` and `<!-- end -->`; `<!-- bench results: PATH -->` says what
    they are made from.
    """
    try:
        before = file.read_text(encoding="utf-8")
        results = options.existing(file.parent / figures.source(before))
        after = figures.fill(before, results)
    except figures.Unknown as error:
        raise options.Failure(f"{file}: {error}") from error
    except OSError as error:
        raise options.Failure(f"{file}: {error.strerror}") from error
    if before == after:
        click.echo(f"{file}: figures are those of the results")
    elif check:
        raise options.Failure(f"{file}: figures differ from the results; run without --check")
    else:
        file.write_text(after, encoding="utf-8")
        click.echo(f"{file}: figures made anew")
