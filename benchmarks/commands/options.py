"""What the commands share: values of options, files of results, progress."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..contenders import MODULES
from ..rounds import machine, store
from ..rounds.processes import Contender, all_threads

_FOLDER = Path(__file__).parent.parent

#: Columns of a table that goes to a file.
_WIDE = 200


class Failure(click.ClickException):
    """The work failed: one line on stderr, exit code 1."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the line."""
        click.echo(f"error: {' '.join(self.message.split())}", file=file, err=file is None)


def _shapes(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> Any:
    found = []
    for value in values:
        if not re.fullmatch(r"[1-9][0-9]*(x[1-9][0-9]*)+", value):
            raise click.BadParameter(f"expected sizes joined by x, such as 4096x1024; got {value!r}")
        found.append(tuple(int(size) for size in value.split("x")))
    return tuple(found)


def _paths(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for value in values:
        name, _, path = value.partition("=")
        if not (name and path):
            raise click.BadParameter(f"expected NAME=PATH; got {value!r}")
        found[name] = path
    return found


def names_of(known: Sequence[str]) -> Callable[[click.Context, click.Parameter, tuple[str, ...]], list[str]]:
    """A callback that splits values at commas and knows these names."""

    def names(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> list[str]:
        found = [name for value in values for name in value.split(",") if name]
        for name in found:
            if name not in known:
                raise click.BadParameter(f"expected one of {', '.join(known)}; got {name!r}")
        return found

    return names


def split(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> list[str]:
    """A callback that splits values at commas."""
    return [name for value in values for name in value.split(",") if name]


def _threads(ctx: click.Context, param: click.Parameter, value: str) -> list[int]:
    most = all_threads()
    counts = [most if text == "all" else int(text) if text.isdigit() else 0 for text in value.split(",")]
    if not all(1 <= count <= most for count in counts):
        raise click.BadParameter(
            f"expected numbers from 1 to {most}, or all, joined by commas; got {value!r}"
        )
    return list(dict.fromkeys(counts))


shape_option = click.option(
    "--shape",
    "shapes",
    multiple=True,
    callback=_shapes,
    metavar="SHAPE",
    help="Such as 4096x1024 or, channels first, 32x64x56x56; instead of the grid's. Repeat for more.",
)
threads_option = click.option(
    "--threads", default="1,all", show_default=True, callback=_threads, metavar="NUMBERS"
)
python_option = click.option(
    "--python",
    "pythons",
    multiple=True,
    callback=_paths,
    metavar="NAME=PATH",
    help="The Python that has a contender, such as torch=/opt/torch/bin/python. Repeat for more.",
)
checkout_option = click.option(
    "--lncompile",
    "checkouts",
    multiple=True,
    callback=_paths,
    metavar="NAME=DIR",
    help="One more contender: the lncompile of another checkout. lncompile=DIR replaces this one.",
)
rounds_option = click.option("--rounds", type=click.IntRange(min=0), metavar="N")
json_option = click.option(
    "--json",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="PATH",
    help="The file of results, which this adds to; else one in --out.",
)
out_option = click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where JSON and plots go; else results/MACHINE of a checkout, or ./lncompile-bench/MACHINE.",
)
fresh_option = click.option("--fresh", is_flag=True, help="Start the file of results anew.")
plots_option = click.option(
    "--plots/--no-plots",
    default=True,
    show_default=True,
    help="Draw the plots, which needs lncompile[bench].",
)


def contenders(
    only: Sequence[str], pythons: Mapping[str, str], checkouts: Mapping[str, str]
) -> list[Contender]:
    """Who takes part, ours first; the limit always does.

    Raises:
        click.UsageError: a name is that of no contender.
    """
    kinds = {
        "lncompile": "lncompile",
        **dict.fromkeys(checkouts, "lncompile"),
        **{name: name for name in MODULES},
    }
    for option, names in (("--only", only), ("--python", list(pythons))):
        for name in names:
            if name not in kinds:
                raise click.UsageError(f"{option}: expected one of {', '.join(kinds)}; got {name!r}")
    pythons = dict(pythons)
    if "torch" in pythons:
        pythons.setdefault("torch.compile", pythons["torch"])
    ours = importlib.util.find_spec("lncompile")
    folders = {"lncompile": str(Path(ours.origin).parent.parent)} if ours and ours.origin else {}
    for name, folder in checkouts.items():
        if not (Path(folder) / "lncompile" / "__init__.py").is_file():
            raise click.UsageError(f"--lncompile: expected a directory that holds lncompile; got {folder!r}")
        folders[name] = str(Path(folder).resolve())
    return [
        Contender(name, kind, pythons.get(name, sys.executable), folders.get(name))
        for name, kind in kinds.items()
        if not only or name in only or name == "limit"
    ]


def destination(out: Path | None, path: Path | None, name: str) -> Path:
    """The file of results: ``--json``, else a file in ``--out``, else one in the machine's directory."""
    if path is not None:
        return path
    return (out or machine_folder()) / name


def machine_folder() -> Path:
    """The directory of this machine's results."""
    base = _FOLDER / "results" if in_checkout() else Path("lncompile-bench")
    return base / machine.slug(machine.describe())


def in_checkout() -> bool:
    """Whether this is run from a checkout and not from an installed package."""
    return (_FOLDER.parent / "pyproject.toml").is_file()


def results_in(path: Path, fresh: bool) -> store.Results:
    """What the file holds, to be added to; nothing if there is no such file."""
    described = machine.describe()
    if fresh or not path.exists():
        return store.Results(described)
    results = existing(path)
    if machine.slug(results.machine) != machine.slug(described):
        raise Failure(
            f"{path}: holds results of another machine ({machine.sentence(results.machine)}); "
            "give another file, or --fresh"
        )
    return results


def existing(path: Path) -> store.Results:
    """What the file holds, or a failure that says why nothing can be read from it."""
    try:
        return store.load(path)
    except store.NotResults as error:
        raise Failure(str(error)) from error
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}") from error


@contextmanager
def progress(steps: int) -> Iterator[Callable[[str], None]]:
    """A bar on a terminal, redrawn between cells alone: while something is measured, nothing else runs."""
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


def console() -> Console:
    """The terminal, or a page as wide as the tables need."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=_WIDE)
