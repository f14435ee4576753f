"""The command line: ``lncompile bench``, or ``python -m benchmarks`` in a checkout."""

from __future__ import annotations

import click

from .grid import grid
from .growth import growth
from .readme import readme
from .report import report
from .startup import startup


class _GridByDefault(click.Group):
    """Without the name of a command, the grid is run."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in ("-h", "--help")):
            args = ["grid", *args]
        return super().parse_args(ctx, args)


@click.group("bench", cls=_GridByDefault, context_settings={"help_option_names": ["-h", "--help"]})
def bench() -> None:
    """Measure lncompile beside a copy of the same bytes and other libraries.

    Without a command, the grid is run; `grid --help` shows its options.
    """


for _command in (grid, growth, startup, report, readme):
    bench.add_command(_command)


def main() -> None:
    """The entry point of ``python -m benchmarks``."""
    bench(prog_name="python -m benchmarks")
