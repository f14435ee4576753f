"""The command line: ``python -m benchmarks.paper`` in a checkout."""

from __future__ import annotations

import click

from .images import convnet_command, digits_command
from .report import invariances_command, report_command
from .text import sequence_command, skipthought_command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def paper() -> None:
    """Run the experiments of the layer norm paper (arXiv 1607.06450) on lncompile's kernels.

    Each writes a CSV file and a plot; `report` sets what was measured beside what the paper claims.
    """


for _command in (
    digits_command,
    convnet_command,
    sequence_command,
    skipthought_command,
    invariances_command,
    report_command,
):
    paper.add_command(_command)


def main() -> None:
    """The entry point of ``python -m benchmarks.paper``."""
    paper(prog_name="python -m benchmarks.paper")
