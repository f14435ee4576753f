"""``python -m lncompile``: the command line, also where no script was installed."""

from __future__ import annotations

from lncompile.cli import main

main(prog_name="lncompile")
