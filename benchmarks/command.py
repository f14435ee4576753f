"""The command line: ``lncompile bench [grid] | ...``, or ``python -m benchmarks`` in a checkout."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from . import grid as grid_
from . import machine, store, table
from .contenders import MODULES
from .processes import Contender, all_threads
from .run import Settings, run

#: Rounds, and seconds that a contender is measured in each.
_USUAL = Settings(rounds=7, seconds=0.04)
_QUICK = Settings(rounds=3, seconds=0.01)
#: Columns of a table that goes to a file.
_WIDE = 200
_QUICK_SHAPES = ((1, 64), (128, 1000), (4096, 1024))


class _GridByDefault(click.Group):
    """Without the name of a command, the grid is run."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in ("-h", "--help")):
            args = ["grid", *args]
        return super().parse_args(ctx, args)


@click.group("bench", cls=_GridByDefault, context_settings={"help_option_names": ["-h", "--help"]})
def bench() -> None:
    """Measure lncompile beside a copy of the same bytes and other libraries.

    Without a command: grid; its options are shown by `lncompile bench grid --help`.
    """


def _shapes(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> Any:
    found = []
    for value in values:
        if not re.fullmatch(r"[1-9][0-9]*(x[1-9][0-9]*)+", value):
            raise click.BadParameter(f"expected sizes joined by x, such as 4096x1024; got {value!r}")
        found.append(tuple(int(size) for size in value.split("x")))
    return tuple(found)


def _pairs(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for value in values:
        name, equals, path = value.partition("=")
        if not (name and equals and path):
            raise click.BadParameter(f"expected NAME=PATH; got {value!r}")
        found[name] = path
    return found


def _names(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> list[str]:
    return [name for value in values for name in value.split(",") if name]


def _threads(ctx: click.Context, param: click.Parameter, value: str) -> list[int]:
    most = all_threads()
    counts = [most if text == "all" else int(text) if text.isdigit() else 0 for text in value.split(",")]
    if not all(1 <= count <= most for count in counts):
        raise click.BadParameter(
            f"expected numbers from 1 to {most}, or all, joined by commas; got {value!r}"
        )
    return list(dict.fromkeys(counts))


def _destination(out: Path | None, path: Path | None, described: dict[str, Any], name: str) -> Path:
    """The file of results: ``--json``, else a file in ``--out``, else one in the machine's directory."""
    if path is not None:
        return path
    if out is None:
        here = Path(__file__).parent
        base = here / "results" if (here.parent / "pyproject.toml").is_file() else Path("lncompile-bench")
        out = base / machine.slug(described)
    return out / name


_out = click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where JSON and plots go; else results/MACHINE of the checkout, or ./lncompile-bench/MACHINE.",
)
_json = click.option(
    "--json",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="PATH",
    help="The file of results; rounds are added to what it holds. Else bench.json in --out.",
)


@bench.command()
@click.option(
    "--norm", "norms", multiple=True, callback=_names, metavar="NAMES", help=f"Of {', '.join(grid_.NORMS)}."
)
@click.option(
    "--shape",
    "shapes",
    multiple=True,
    callback=_shapes,
    metavar="SHAPE",
    help="Such as 4096x1024 or, channels first, 32x64x56x56; instead of the grid's. Repeat for more.",
)
@click.option("--phase", "phases", type=click.Choice(grid_.PHASES), multiple=True)
@click.option("--dtype", type=click.Choice(grid_.DTYPES), default="float32", show_default=True)
@click.option(
    "--mode",
    "modes",
    type=click.Choice(grid_.MODES),
    multiple=True,
    help="mapped: into memory that the process has used before; called: y = norm(x), as users call it.",
)
@click.option("--threads", default="1,all", show_default=True, callback=_threads, metavar="NUMBERS")
@click.option(
    "--only",
    multiple=True,
    callback=_names,
    metavar="NAMES",
    help=f"These contenders, and the limit: of {', '.join(MODULES)}.",
)
@click.option(
    "--python",
    "pythons",
    multiple=True,
    callback=_pairs,
    metavar="NAME=PATH",
    help="The Python that has a contender, such as torch=/opt/torch/bin/python; repeat for more.",
)
@click.option(
    "--lncompile",
    "checkouts",
    multiple=True,
    callback=_pairs,
    metavar="NAME=DIR",
    help="One more contender: lncompile of another checkout. lncompile=DIR replaces this one.",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=0),
    metavar="N",
    help=f"{_USUAL.rounds} unless said; 0 only compiles everything, so that caches are warm.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.0001),
    metavar="S",
    help=f"How long a contender is measured in a round; {_USUAL.seconds} unless said.",
)
@click.option("--quick", is_flag=True, help="Three shapes and short rounds: what to expect, in a minute.")
@click.option("--fresh", is_flag=True, help="Start the file of results anew.")
@_json
@_out
@click.option(
    "--plots/--no-plots", default=True, show_default=True, help="Draw the plots (needs lncompile[bench])."
)
def grid(
    norms: list[str],
    shapes: tuple[tuple[int, ...], ...],
    phases: tuple[str, ...],
    dtype: str,
    modes: tuple[str, ...],
    threads: list[int],
    only: list[str],
    pythons: dict[str, str],
    checkouts: dict[str, str],
    rounds: int | None,
    seconds: float | None,
    quick: bool,
    fresh: bool,
    path: Path | None,
    out: Path | None,
    plots: bool,
) -> None:
    """Run the grid: norms and shapes, forward and backward, every contender in its own process.

    Results are medians over rounds that alternate between contenders. They are kept after every case, and
    a later run with the same file adds to them; Ctrl-C keeps what is complete.
    """
    _check_names("--norm", norms, grid_.NORMS)
    contenders = _contenders(only, pythons, checkouts)
    default = _QUICK if quick else _USUAL
    settings = Settings(
        default.rounds if rounds is None else rounds, default.seconds if seconds is None else seconds
    )
    if quick and not shapes:
        shapes, norms = _QUICK_SHAPES, norms or list(grid_.ROW_NORMS)
    cases = list(grid_.cases(norms or grid_.NORMS, shapes, dtype, phases or grid_.PHASES))
    if not cases:
        raise click.UsageError("no norm has such a shape: row norms have two sizes, the others two or more")
    destination, results = _results(out, path, fresh)
    groups = [(mode, count) for mode in modes or grid_.MODES for count in threads]
    keep = (lambda: store.save(results, destination)) if settings.rounds else (lambda: None)
    interrupted = False
    with _progress(len(groups) * len(cases)) as advance:
        try:
            for mode, count in groups:
                where = f"{mode}, {count} thread{'s' * (count > 1)}"
                say = lambda what, where=where: advance(f"{where}: {what}")  # noqa: E731
                run(results, cases, contenders, count, mode, settings, say, keep)
        except KeyboardInterrupt:
            interrupted = True
    _report(results, cases, groups, destination, settings)
    if interrupted:
        click.echo("error: interrupted; what was complete is kept", err=True)
        raise SystemExit(1)


def _check_names(option: str, names: list[str], known: Any) -> None:
    for name in names:
        if name not in known:
            raise click.UsageError(f"{option}: expected one of {', '.join(known)}; got {name!r}")


def _contenders(only: list[str], pythons: dict[str, str], checkouts: dict[str, str]) -> list[Contender]:
    """Who takes part, ours first; the limit always does."""
    kinds = {
        "lncompile": "lncompile",
        **dict.fromkeys(checkouts, "lncompile"),
        **{name: name for name in MODULES},
    }
    _check_names("--only", only, kinds)
    _check_names("--python", list(pythons), kinds)
    if "torch" in pythons:
        pythons.setdefault("torch.compile", pythons["torch"])
    ours = importlib.util.find_spec("lncompile")
    folders = {"lncompile": str(Path(ours.origin).parent.parent)} if ours and ours.origin else {}
    folders |= {name: str(Path(folder).resolve()) for name, folder in checkouts.items()}
    return [
        Contender(name, kind, pythons.get(name, sys.executable), folders.get(name))
        for name, kind in kinds.items()
        if not only or name in only or name == "limit"
    ]


def _results(out: Path | None, path: Path | None, fresh: bool) -> tuple[Path, store.Results]:
    described = machine.describe()
    destination = _destination(out, path, described, "bench.json")
    if fresh or not destination.exists():
        return destination, store.Results(described)
    try:
        results = store.load(destination)
    except store.NotResults as error:
        raise click.ClickException(str(error)) from error
    if machine.slug(results.machine) != machine.slug(described):
        raise click.ClickException(
            f"{destination}: holds results of another machine ({machine.sentence(results.machine)}); "
            "give another file, or --fresh"
        )
    return destination, results


@contextmanager
def _progress(steps: int) -> Iterator[Any]:
    """A bar on a terminal, redrawn between cases alone: while something is measured, nothing else runs."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True, highlight=False)
    with Progress(
        *columns, console=console, transient=True, auto_refresh=False, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("", total=steps)
        done = -1

        def advance(text: str) -> None:
            nonlocal done
            done += 1
            bar.update(task, completed=done, description=text, refresh=True)

        yield advance


def _report(
    results: store.Results,
    cases: list[grid_.Case],
    groups: list[tuple[str, int]],
    destination: Path,
    settings: Settings,
) -> None:
    cells = [cell for cell in results.cells if cell.case in cases and (cell.mode, cell.threads) in groups]
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDE)
    table.show(console, results, cells)
    if settings.rounds and destination.exists():
        click.echo(f"results: {destination}")


def main() -> None:
    """The entry point of ``python -m benchmarks``."""
    bench(prog_name="python -m benchmarks")
