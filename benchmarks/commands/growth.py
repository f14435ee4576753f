"""``lncompile bench growth``: time against rows and against features, and memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import click
from rich.console import Console

from .. import grid as grids
from ..rounds import memory, store
from ..rounds.run import Settings, run
from ..shown import growth as growths
from . import options
from .report import draw_growth

#: Few and many rows, few and many features.
MEMORY_SHAPES = [(1, 64), (64, 1024), (4096, 1024), (32768, 1024), (64, 65536), (1000000, 8)]


@click.command()
@click.option("--norm", type=click.Choice(grids.ROW_NORMS), default="layer_norm", show_default=True)
@click.option("--axis", "axes", type=click.Choice(growths.AXES), multiple=True)
@click.option("--phase", "phases", type=click.Choice(grids.PHASES), multiple=True)
@click.option("--dtype", type=click.Choice(grids.DTYPES), default="float32", show_default=True)
@click.option("--mode", type=click.Choice(grids.MODES), default="mapped", show_default=True)
@click.option("--largest", type=click.IntRange(1, 24), default=20, show_default=True, help="2 to this power.")
@options.threads_option
@options.checkout_option
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True, metavar="N")
@options.fresh_option
@options.json_option
@options.out_option
@options.plots_option
def growth(
    norm: str,
    axes: tuple[str, ...],
    phases: tuple[str, ...],
    dtype: str,
    mode: str,
    largest: int,
    threads: list[int],
    checkouts: dict[str, str],
    rounds: int,
    fresh: bool,
    path: Path | None,
    out: Path | None,
    plots: bool,
) -> None:
    """Measure how time grows with rows and with features, over six orders of magnitude, and list cliffs.

    Only lncompile and the copy take part. Memory beyond inputs and results is listed too.
    """
    contenders = options.contenders(["lncompile"], {}, checkouts)[:1]
    contenders += [c for c in options.contenders(["limit"], {}, {}) if c.name == "limit"]
    destination = options.destination(out, path, "growth.json")
    results = options.results_in(destination, fresh)
    cases = [
        case
        for axis in axes or growths.AXES
        for case in growths.cases(norm, axis, dtype, phases or grids.PHASES, largest)
    ]
    settings = Settings(rounds, seconds=0.02)

    def keep() -> None:
        store.save(results, destination)

    with options.progress(len(cases) * len(threads)) as advance:
        try:
            for count in threads:
                where = f"{count} thread{'s' * (count > 1)}"
                run(results, cases, contenders, count, mode, settings, advance, where, keep)
        except KeyboardInterrupt:
            raise options.Failure("interrupted; what is complete is kept") from None
    try:
        results.memory = memory.measure(contenders[0], _memory_cases(norm, dtype))
    except RuntimeError as error:
        raise options.Failure(f"lncompile: {error}") from error
    store.save(results, destination)
    console = options.console()
    show(console, results.cells)
    memory.show(console, results.memory)
    click.echo(f"results: {destination}")
    if plots:
        draw_growth(results, destination.parent)


def _memory_cases(norm: str, dtype: str) -> list[grids.Case]:
    return [
        grids.Case(norm, shape, "rows", dtype, phase) for shape in MEMORY_SHAPES for phase in grids.PHASES
    ]


def show(console: Console, cells: Sequence[store.Cell]) -> None:
    """The cliffs of every line, those of the machine apart."""
    found = list(all_cliffs(cells))
    ours = [cliff for cliff in found if not cliff.of_the_machine]
    for cliff in ours:
        console.print(
            f"cliff: {cliff.phase}, {cliff.threads} thread{'s' * (cliff.threads > 1)}, "
            f"{cliff.axis} {cliff.sizes[0]} to {cliff.sizes[1]}: {cliff.slow} takes {cliff.factor:.2f} times "
            f"too long (the copy {cliff.of_copy:.2f})"
        )
    console.print(
        f"cliffs beyond a factor of {growths.FACTOR}: {len(ours)}, "
        f"and {len(found) - len(ours)} that the copy has too"
    )


def all_cliffs(cells: Sequence[store.Cell]) -> Iterable[growths.Cliff]:
    """Of every norm, dtype, phase, number of threads and mode."""
    lines: dict[object, list[store.Cell]] = {}
    for cell in cells:
        key = (cell.case.norm, cell.case.dtype, cell.case.phase, cell.threads, cell.mode)
        lines.setdefault(key, []).append(cell)
    for line in lines.values():
        for axis in growths.AXES:
            yield from growths.cliffs(line, axis)
