"""What the commands have in common: consoles, JSON, failures, and plain text where there is no terminal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.syntax import Syntax
from rich.text import Text

json_option = click.option("--json", "as_json", is_flag=True, help="Print machine-readable results.")

# The colours of the terminal's own palette: they are legible on dark and on light backgrounds.
_THEME = "ansi_dark"


class Failure(click.ClickException):
    """The work failed: one line on stderr, exit code 1."""

    exit_code = 1

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the line."""
        click.echo(f"error: {' '.join(self.message.split())}", file=file, err=file is None)


def console(stderr: bool = False, quiet: bool = False) -> Console:
    """A console on the stream as it is now; without escape codes unless it is a terminal."""
    return Console(stderr=stderr, quiet=quiet, highlight=False)


def print_json(value: object) -> None:
    """Print ``value`` as JSON."""
    click.echo(json.dumps(value, indent=2))


def print_code(text: str, lexer: str) -> None:
    """Print code: highlighted on a terminal, the very bytes of ``text`` anywhere else."""
    out = console()
    if not out.is_terminal:
        click.echo(text, nl=not text.endswith("\n"))
        return
    # As a text, since a Syntax crops lines that are wider than the terminal.
    out.print(highlighted(text, lexer), soft_wrap=True)


def highlighted(code: str, lexer: str) -> Text:
    """``code`` as a rich text."""
    text = Syntax(code, lexer, theme=_THEME, background_color="default").highlight(code)
    text.rstrip()
    return text


@contextmanager
def status(text: str) -> Iterator[None]:
    """Say on a terminal what takes a while."""
    out = console(stderr=True)
    if not out.is_terminal:
        yield
        return
    with out.status(text):
        yield


@contextmanager
def progress_bar(text: str, steps: int) -> Iterator[Any]:
    """A progress bar on a terminal; yields the function that advances it by one step."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    out = console(stderr=True)
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as progress:
        task = progress.add_task(text, total=steps)
        yield lambda: progress.advance(task)


@contextmanager
def report_bar() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar for work in parts; yields what takes a part's name, what is done and of how much."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    out = console(stderr=True)
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as progress:
        task = progress.add_task("", total=None)
        yield lambda what, done, of: progress.update(task, description=what, completed=done, total=of)


def human_bytes(count: float) -> str:
    """A number of bytes for people: ``1.5 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
