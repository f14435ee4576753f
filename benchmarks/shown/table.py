"""The results on the terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from ..contenders import LIMIT, OURS
from ..grid import MODE_TEXT
from ..rounds.stats import Spread
from ..rounds.store import Cell

#: A part of the machine's time that is worth a warning; a kernel's own threads take 1%.
_DISTURBED = 0.03


def show(console: Console, cells: Iterable[Cell]) -> None:
    """A table for each mode and number of threads; who was absent, and why; what disturbed the run."""
    wanted = list(cells)
    groups = dict.fromkeys((cell.mode, cell.threads) for cell in wanted)
    for mode, threads in groups:
        chosen = [cell for cell in wanted if (cell.mode, cell.threads) == (mode, threads)]
        console.print(_table(chosen, f"{MODE_TEXT[mode]}, {threads} thread{'s' * (threads > 1)}"))
    _absences(console, wanted)
    _disturbances(console, wanted)


def _table(cells: list[Cell], title: str) -> Table:
    others = [
        name
        for name in dict.fromkeys(name for cell in cells for name in (*cell.times, *cell.absent))
        if name not in (OURS, LIMIT)
    ]
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("case", no_wrap=True)
    table.add_column("MiB", justify="right")
    for heading in ("copy µs", f"{OURS} µs", "over copy", *(f"{name} is slower" for name in others)):
        table.add_column(heading, justify="right", no_wrap="µs" in heading)
    for cell in cells:
        ours = cell.time(OURS)
        limit = cell.time(LIMIT)
        table.add_row(
            f"{cell.case.label} {cell.case.phase}",
            f"{cell.case.bytes / 2**20:.3g}",
            "" if limit is None else number(limit.median),
            _absent(cell, OURS) if ours is None else f"{number(ours.median)} {between(ours)}",
            _ratio(cell.ratio(OURS, LIMIT)),
            *(_ratio(cell.ratio(name, OURS)) or _absent(cell, name) for name in others),
        )
    return table


def number(value: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def between(spread: Spread) -> str:
    """The least and the largest, in brackets."""
    return f"({number(spread.least)}–{number(spread.largest)})"


def _ratio(ratio: Spread | None) -> str:
    if ratio is None:
        return ""
    return f"{'' if ratio.paired else '~'}{ratio.median:.2f}"


def _absent(cell: Cell, name: str) -> str:
    return cell.absent.get(name, "").partition(":")[0]


def _disturbances(console: Console, cells: list[Cell]) -> None:
    """A warning about cells during which other processes ran."""
    disturbed = [cell for cell in cells if cell.others > _DISTURBED]
    if disturbed:
        worst = max(disturbed, key=lambda cell: cell.others)
        console.print(
            f"other processes took more than {_DISTURBED:.0%} of the machine's time in {len(disturbed)} of "
            f"{len(cells)} cells, up to {worst.others:.0%} ({worst.case.label} {worst.case.phase}): "
            "measure again on a quiet machine",
            style="yellow",
        )


def _absences(console: Console, cells: list[Cell]) -> None:
    """Every reason once, with the number of cells that it concerns."""
    reasons: dict[tuple[str, str], int] = {}
    for cell in cells:
        for name, reason in cell.absent.items():
            reasons[name, reason] = reasons.get((name, reason), 0) + 1
    for (name, reason), count in reasons.items():
        cells_text = "all cells" if count == len(cells) else f"{count} cell{'s' * (count > 1)}"
        console.print(f"{name}, {cells_text}: {reason}", markup=False, soft_wrap=True)
