"""What the project set out to reach (README, "Measured"), line by line, with what was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from ..contenders import LIMIT, OURS
from ..grid import MODE_TEXT, in_grid
from ..rounds.stats import Spread, geometric_mean
from ..rounds.store import Cell, Results
from .table import number

_KIB, _MIB = 1 << 10, 1 << 20
#: Cells of so many bytes and more do not fit caches.
LARGE = 16 * _MIB

#: Bounds of the time over the copy's: phase, least bytes, bytes below, geometric mean, any cell.
_BOUNDS = (
    ("forward", LARGE, None, 1.10, 1.25),
    ("forward", 64 * _KIB, LARGE, 1.4, 1.6),
    ("backward", LARGE, None, 1.25, 1.42),
    ("backward", 64 * _KIB, LARGE, 1.6, 1.8),
)

PEERS = ("torch", "torch.compile", "jax", "onnxruntime")
_EAGER = "torch"
_EAGER_FACTOR = 3.0

#: Microseconds for one call of layer norm on 1×64, by mode.
_CALLS = {"mapped": 0.3, "called": 1.2}

#: What a process pays once: name in the results, in words, bound and unit.
STARTUP = (
    ("import_ms", "import lncompile after NumPy", 15.0, "ms"),
    ("first_call_ms", "first call, kernel in the cache", 5.0, "ms"),
    ("compile_s", "compile a forward and backward pair", 1.0, "s"),
)


@dataclass(frozen=True)
class Line:
    """One bound: ``value`` is to be at most, or at least, ``bound``; ``where`` names the cell it is from."""

    what: str
    setting: str
    value: float
    bound: float
    at_least: bool = False
    where: str = ""
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether the bound holds."""
        return self.value >= self.bound if self.at_least else self.value <= self.bound


def lines(results: Results) -> list[Line]:
    """Every line for which there are figures, over the cells of the grid."""
    found: list[Line] = []
    grid = [cell for cell in results.cells if in_grid(cell.case)]
    groups = dict.fromkeys((cell.mode, cell.threads) for cell in grid)
    for mode, threads in groups:
        setting = f"{mode}, {threads} thread{'s' * (threads > 1)}"
        cells = [cell for cell in grid if (cell.mode, cell.threads) == (mode, threads)]
        single = [cell for cell in cells if cell.case.dtype == "float32"]
        found += _against_copy(single, setting)
        found += _against_peers(single, setting)
        found += _calls(single, setting)
        found += _halves(cells, setting)
    for name, what, bound, unit in STARTUP:
        if name in results.startup:
            found.append(Line(what, "", results.startup[name]["median"], bound, unit=unit))
    return found


def _against_copy(cells: Sequence[Cell], setting: str) -> Iterator[Line]:
    for phase, least, below, mean_bound, cell_bound in _BOUNDS:
        size = "from 16 MiB" if below is None else "64 KiB to 16 MiB"
        chosen = [
            cell
            for cell in cells
            if cell.case.phase == phase and least <= cell.case.bytes < (below or cell.case.bytes + 1)
        ]
        what = f"{phase} over the copy, {size}"
        yield from _mean_and_worst(
            chosen, lambda cell: cell.ratio(OURS, LIMIT), what, setting, mean_bound, cell_bound
        )


def _mean_and_worst(
    cells: Sequence[Cell],
    ratio: Callable[[Cell], Spread | None],
    what: str,
    setting: str,
    mean_bound: float,
    cell_bound: float,
) -> Iterator[Line]:
    ratios = {cell: found.median for cell in cells if (found := ratio(cell)) is not None}
    mean = geometric_mean(ratios.values())
    if mean is None:
        return
    worst = max(ratios, key=lambda cell: ratios[cell])
    yield Line(f"{what}, mean", setting, mean, mean_bound, where=f"{len(ratios)} cells")
    yield Line(f"{what}, worst cell", setting, ratios[worst], cell_bound, where=_place(worst))


def _against_peers(cells: Sequence[Cell], setting: str) -> Iterator[Line]:
    for peer in PEERS:
        for phase in ("forward", "backward"):
            ratios = {
                cell: found.median
                for cell in cells
                if cell.case.phase == phase and (found := cell.ratio(peer, OURS)) is not None
            }
            mean = geometric_mean(ratios.values())
            if mean is None:
                continue
            worst = min(ratios, key=lambda cell: ratios[cell])
            behind = sum(value <= 1 for value in ratios.values())
            where = f"{_place(worst)}; behind in {behind} of {len(ratios)} cells"
            what = f"{phase}, times as fast as {peer}"
            bound = _EAGER_FACTOR if peer == _EAGER else 1.0
            yield Line(f"{what}, mean", setting, mean, bound, True, f"{len(ratios)} cells")
            yield Line(f"{what}, worst cell", setting, ratios[worst], 1.0, True, where)


def _calls(cells: Sequence[Cell], setting: str) -> Iterator[Line]:
    for cell in cells:
        case = cell.case
        if (case.norm, case.shape, case.phase) != ("layer_norm", (1, 64), "forward"):
            continue
        ours = cell.time(OURS)
        if ours is not None:
            bound = _CALLS[cell.mode]
            yield Line("one call, layer_norm 1×64", setting, ours.median, bound, unit="µs")


def _halves(cells: Sequence[Cell], setting: str) -> Iterator[Line]:
    """16-bit types over float32 on the same number of elements."""
    for dtype in ("float16", "bfloat16"):
        ratios = {}
        for cell in cells:
            if cell.case.dtype != dtype or (ours := cell.time(OURS)) is None:
                continue
            same = (cell.case.norm, cell.case.shape, cell.case.layout, cell.case.phase)
            for other in cells:
                case = other.case
                if case.dtype == "float32" and (case.norm, case.shape, case.layout, case.phase) == same:
                    single = other.time(OURS)
                    if single is not None:
                        ratios[cell] = ours.median / single.median
        if ratios:
            worst = max(ratios, key=lambda cell: ratios[cell])
            yield Line(f"{dtype} over float32, worst cell", setting, ratios[worst], 1.0, where=_place(worst))


def _place(cell: Cell) -> str:
    return f"{cell.case.label} {cell.case.phase}"


def show(console: Console, found: Sequence[Line]) -> None:
    """The lines as a table, and how many are met."""
    if not found:
        return
    table = Table(title="reach", title_justify="left", title_style="bold", box=None, pad_edge=False)
    for heading in ("", "line", "setting", "is", "bound", "where"):
        table.add_column(heading, justify="right" if heading in ("is", "bound") else "left")
    for line in found:
        unit = f" {line.unit}" if line.unit else ""
        table.add_row(
            "[green]met[/]" if line.met else "[bold red]not met[/]",
            line.what,
            line.setting,
            number(line.value) + unit,
            f"{'≥' if line.at_least else '≤'} {line.bound:g}{unit}",
            line.where,
        )
    console.print(table)
    for mode in dict.fromkeys(line.setting.partition(",")[0] for line in found if line.setting):
        console.print(f"{mode}: {MODE_TEXT[mode]}")
    console.print(f"{sum(line.met for line in found)} of {len(found)} lines are met")
