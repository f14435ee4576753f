"""The README's figures, made from the JSON of results."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from ..contenders import LIMIT, OURS
from ..grid import ROW_NORMS, Case, in_grid
from ..rounds import machine
from ..rounds.stats import Spread, geometric_mean
from ..rounds.store import Cell, Results
from . import reach
from .table import between, number

#: Where a README says which results its figures are of, relative to itself.
_SOURCE = re.compile(r"<!-- bench results: (\S+) -->")
_MARKED = re.compile(r"(<!-- bench: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

_PEERS = ("numpy", *reach.PEERS)


class Unknown(ValueError):
    """A README names no results, or asks for figures that there are not."""


def source(text: str) -> str:
    """The file of results that a README names, relative to the README.

    Raises:
        Unknown: it names none.
    """
    found = _SOURCE.search(text)
    if found is None:
        raise Unknown("expected a line `<!-- bench results: FILE -->`, which says what the figures are of")
    return found[1]


def fill(text: str, results: Results) -> str:
    """The text with everything between ``<!-- bench: NAME -->`` and ``<!-- end -->`` made anew.

    Raises:
        Unknown: there are no figures of that name.
    """

    def replace(found: re.Match[str]) -> str:
        if found[2] not in FIGURES:
            raise Unknown(f"expected one of {', '.join(FIGURES)} after `bench:`; got {found[2]!r}")
        return f"{found[1]}\n{FIGURES[found[2]](results)}\n\n{found[3]}"

    return _MARKED.sub(replace, text)


def _described(results: Results) -> str:
    names: dict[str, str] = {}
    for cell in results.cells:
        for contender, found in cell.versions.items():
            if contender not in (OURS, LIMIT) and contender in found:
                names[contender] = found[contender]
    rounds = [spread.rounds for cell in results.cells if (spread := cell.time(OURS)) is not None]
    versions = ", ".join(f"{name} {version}" for name, version in names.items())
    counted = f"{min(rounds)} to {max(rounds)}" if len(set(rounds)) > 1 else str(max(rounds, default=0))
    return f"{machine.sentence(results.machine)}; {versions}; medians of {counted} rounds, in turns."


def _small(results: Results) -> str:
    """Calls and what a process pays once."""
    rows = []
    case = Case("layer_norm", (1, 64), "rows", "float32", "forward")
    for mode, what in (("mapped", "one call, 1×64, `out=` given"), ("called", "one call, 1×64")):
        cell = results.find(case, 1, mode)
        if cell is not None:
            rows.append([what, *(_time(cell.time(name)) for name in (OURS, "torch"))])
    for name, what, _, unit in reach.STARTUP:
        found = results.startup.get(name)
        if found is not None:
            text = f"{number(found['median'])} ({number(found['least'])}–{number(found['largest'])}) {unit}"
            rows.append([what.replace("import lncompile", "`import lncompile`"), text, ""])
    return _markdown(["", OURS, "PyTorch"], rows)


def _summary(results: Results) -> str:
    """The grid by phase and threads: geometric means, and in brackets the worst cell."""
    grid = [
        cell
        for cell in results.cells
        if in_grid(cell.case) and (cell.mode, cell.case.dtype) == ("mapped", "float32")
    ]
    rows = []
    for threads, phase in dict.fromkeys((cell.threads, cell.case.phase) for cell in grid):
        cells = [cell for cell in grid if (cell.threads, cell.case.phase) == (threads, phase)]
        beside = [_mean([cell.ratio(name, OURS) for cell in cells], min) for name in _PEERS]
        large = [cell for cell in cells if cell.case.bytes >= reach.LARGE]
        setting = f"{phase}, {threads} thread{'s' * (threads > 1)}"
        rows.append([setting, _mean([cell.ratio(OURS, LIMIT) for cell in large], max), *beside])
    return _markdown(["", "over the copy, from 16 MiB", *_PEERS], sorted(rows))


def _mean(ratios: Iterable[Spread | None], worst: Callable[[Iterable[float]], float]) -> str:
    medians = [ratio.median for ratio in ratios if ratio is not None]
    mean = geometric_mean(medians)
    return "–" if mean is None else f"{mean:.2f} ({worst(medians):.2f})"


def _rows(results: Results) -> str:
    return _grid(results, [cell for cell in results.cells if cell.case.norm in ROW_NORMS])


def _images(results: Results) -> str:
    return _grid(results, [cell for cell in results.cells if cell.case.norm not in ROW_NORMS])


def _grid(results: Results, cells: Sequence[Cell]) -> str:
    """One line for each case and phase on all threads: microseconds, over the copy, and the peers."""
    threads = max((cell.threads for cell in cells), default=1)
    chosen = [
        cell for cell in cells if (cell.threads, cell.mode, cell.case.dtype) == (threads, "mapped", "float32")
    ]
    peers = [name for name in _PEERS if any(cell.time(name) for cell in chosen)]
    rows = [
        [
            f"{cell.case.label} {cell.case.phase}",
            _time(cell.time(OURS), bare=True),
            _ratio(cell.ratio(OURS, LIMIT)),
            *(_ratio(cell.ratio(name, OURS)) or "–" for name in peers),
        ]
        for cell in chosen
    ]
    return _markdown(["", "µs", "over the copy", *peers], rows)


def _reach(results: Results) -> str:
    rows = [
        [
            line.what,
            line.setting,
            f"{number(line.value)} {line.unit}".strip(),
            f"{'≥' if line.at_least else '≤'} {line.bound:g} {line.unit}".strip(),
            "yes" if line.met else "no",
        ]
        for line in reach.lines(results)
    ]
    return _markdown(["", "", "is", "bound", "met"], rows)


FIGURES: dict[str, Callable[[Results], str]] = {
    "described": _described,
    "small": _small,
    "summary": _summary,
    "rows": _rows,
    "images": _images,
    "reach": _reach,
}


def _time(spread: Spread | None, bare: bool = False) -> str:
    if spread is None:
        return ""
    return f"{number(spread.median)} {between(spread)}" + ("" if bare else " µs")


def _ratio(ratio: Spread | None) -> str:
    return "" if ratio is None else f"{ratio.median:.2f}"


def _markdown(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
