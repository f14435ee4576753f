"""The command line: ``lncompile demo | explain | build | tune | bench | cache | doctor``.

Exit codes: 0 done, 1 the work failed (one line ``error: ...`` says why), 2 wrong usage.
"""

from __future__ import annotations

import click

from lncompile import __version__
from lncompile.cli.bench import bench
from lncompile.cli.build import build
from lncompile.cli.cache import cache
from lncompile.cli.demo import demo
from lncompile.cli.doctor import doctor
from lncompile.cli.explain import explain
from lncompile.cli.loader import place_in_norms
from lncompile.cli.output import Failure
from lncompile.cli.tune import tune
from lncompile.errors import LncError


class _Commands(click.Group):
    """Turns the failures that users can do something about into one line instead of a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # Whoever read the output has seen enough; click ends quietly.
            raise
        except OSError as error:
            what = error.strerror or str(error)
            raise Failure(f"{error.filename}: {what}" if error.filename else what) from error
        except LncError as error:
            raise Failure(str(error)) from error
        except MemoryError as error:
            raise Failure(str(error) or "out of memory") from error
        except Exception as error:
            place = place_in_norms(error)
            if place is None:
                raise
            raise Failure(f"{place}: {type(error).__name__}: {error}") from error


@click.group("lncompile", cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
def main() -> None:
    """Normalization kernels, compiled from their equations."""


for _command in (demo, explain, build, tune, bench, cache, doctor):
    main.add_command(_command)
