"""``lncompile bench``: a thin front of the benchmarks, beside the package or, installed, inside it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import click

from lncompile.cli.output import Failure

_PACKAGE = Path(__file__).parent.parent
_NAME = "lncompile.benchmarks"


@click.command(
    add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def bench(arguments: tuple[str, ...]) -> Any:
    """Measure beside a copy of the same bytes and other libraries: tables, plots, JSON."""
    commands = _commands()
    return commands.bench.main(list(arguments), "lncompile bench", standalone_mode=False)


def _commands() -> Any:
    """The command line of the benchmarks."""
    inside = _PACKAGE / "benchmarks"
    folder = inside if inside.is_dir() else _PACKAGE.parent / "benchmarks"
    if not (folder / "commands").is_dir():
        raise Failure(
            f"the benchmarks are neither in {inside} nor in {folder}: "
            "install lncompile from a wheel, or run this in a checkout of its repository"
        )
    if _NAME not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            _NAME, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        assert spec is not None
        assert spec.loader is not None
        package = importlib.util.module_from_spec(spec)
        sys.modules[_NAME] = package
        spec.loader.exec_module(package)
    return importlib.import_module(f"{_NAME}.commands")
