"""``lncompile build``: libraries for C, cubins, and both for Python without a compiler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import click

from lncompile.aot import directory as directories
from lncompile.aot.build import PACKAGE, Built
from lncompile.aot.build import build as build_files
from lncompile.aot.part import Part
from lncompile.aot.wanted import Wanted
from lncompile.aot.workers import compiled, processors
from lncompile.cli import loader, options
from lncompile.cli.kernels_file import read_kernels
from lncompile.cli.output import Failure, human_bytes, json_option, print_json, progress_bar
from lncompile.cli.request import Request, wrong_usage
from lncompile.errors import CompilerBug

_TEXTS = ("library", "target", "phase")
#: Of what a report tells, in this order, each target has some.
_NUMBERS = (
    *("launches", "file_bytes", "code_bytes", "vector_bits", "registers", "shared_bytes"),
    *("flops_per_row", "bytes_per_row"),
)


@click.command()
@click.argument("norms", nargs=-1, required=True, metavar="NORM...")
@click.option(
    "--shape",
    "shapes",
    callback=options.shapes,
    multiple=True,
    metavar="NxD",
    help="Shape of the first argument, such as 4096x1024. Batch sizes do not matter.",
)
@click.option(
    "--dtype",
    "dtypes",
    callback=options.dtypes,
    multiple=True,
    metavar="DTYPE",
    help="float32,bfloat16 makes two kernels; x=bfloat16,weight=float32,bias=none one. [default: float32]",
)
@click.option(
    "--target",
    "targets",
    callback=options.targets,
    multiple=True,
    metavar="TARGET",
    help="Such as cpu:x86-64-v2,cpu:x86-64-v3,cuda:sm_90; levels of a CPU share a library. [default: cpu]",
)
@click.option(
    "-c",
    "--constant",
    "constants",
    callback=options.constants,
    multiple=True,
    metavar="NAME=VALUE",
    help="A constant of the equation or the size of a split axis, such as eps=1e-6.",
)
@click.option(
    "-o",
    "--output",
    "directory",
    required=True,
    type=options.Directory(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where to write; files of an earlier build there are replaced.",
)
@click.option("--static", is_flag=True, help="Write libraries to link in (.a), too.")
@click.option(
    "--package",
    default=PACKAGE,
    show_default=True,
    callback=options.identifier,
    metavar="NAME",
    help="The name for find_package and pkg-config.",
)
@click.option(
    "-j", "--jobs", type=click.IntRange(1), metavar="N", help="Processes to compile in. [default: processors]"
)
@click.option("--report", is_flag=True, help="Show what was built: sizes, vectors or registers, work a row.")
@json_option
def build(
    norms: tuple[str, ...],
    shapes: tuple[tuple[int, ...], ...],
    dtypes: tuple[Any, ...],
    targets: tuple[str, ...],
    constants: dict[str, Any],
    directory: Path,
    static: bool,
    package: str,
    jobs: int | None,
    report: bool,
    as_json: bool,
) -> None:
    """Compile each NORM to libraries or cubins that need neither Python nor a compiler.

    NORM is a norm of lncompile (layer_norm), package.module:name or file.py:name, or a file ending in .toml
    with a table for each kernel: norm, shape, dtype, target, constants.
    """
    start = perf_counter()
    with wrong_usage(constants):
        wanted = _wanted(
            norms, Request(None, "", shapes, dtypes or ("float32",), targets or ("cpu",), constants)
        )
        built = _built(wanted, package, static, jobs or processors())
        directories.write(directory, built.files)
    seconds = perf_counter() - start
    if as_json:
        files = {name: len(data) for name, data in built.files.items()}
        print_json({"directory": str(directory), "seconds": seconds, "files": files, "report": built.report})
        return
    if report:
        _show(built.report)
    size = human_bytes(sum(len(data) for data in built.files.values()))
    click.echo(f"{directory}: {len(built.files)} files, {size}, in {seconds:.1f} s")


def _wanted(norms: Sequence[str], defaults: Request) -> list[Wanted]:
    requests = []
    for text in norms:
        if text.endswith(".toml"):
            requests += read_kernels(Path(text), defaults)
        else:
            try:
                norm = loader.find_norm(text)
            except LookupError as error:
                raise click.BadParameter(str(error.args[0]), param_hint="NORM") from error
            requests.append(replace(defaults, norm=norm, name=norm.__name__))
    return [one for request in requests for one in request.wanted()]


def _built(wanted: Sequence[Wanted], package: str, static: bool, jobs: int) -> Built:
    def compile_all(parts: Sequence[Part]) -> list[bytes]:
        return compiled(parts, jobs, progress_bar("compiling", len(parts)))

    try:
        return build_files(wanted, compile_all, package=package, static=static)
    except CompilerBug as error:
        raise Failure(str(error)) from error


def _show(report: Sequence[Mapping[str, Any]]) -> None:
    """The report as a table for each kind of targets, which tell different things."""
    tables: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in report:
        tables.setdefault((*_TEXTS, *(name for name in _NUMBERS if name in row)), []).append(row)
    for headings, rows in tables.items():
        cells = [[heading.replace("_", " ") for heading in headings]]
        cells += [[_cell(row[heading]) for heading in headings] for row in rows]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for line in cells:
            padded = [
                cell.ljust(width) if heading in _TEXTS else cell.rjust(width)
                for cell, width, heading in zip(line, widths, headings, strict=True)
            ]
            click.echo("  ".join(padded).rstrip())
        click.echo()


def _cell(value: object) -> str:
    return (
        f"{value:,.6g}"
        if isinstance(value, float)
        else f"{value:,}"
        if isinstance(value, int)
        else str(value)
    )
