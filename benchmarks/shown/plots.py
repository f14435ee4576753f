"""Plots of results, as PNG."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot

from ..contenders import LIMIT, OURS
from ..grid import MODE_TEXT, PHASES, operations
from ..rounds import machine
from ..rounds.store import Cell, Results
from . import growth

#: Colours of Okabe and Ito, which people with any vision tell apart; ours is the strongest.
_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7F7F7F")
_MARKERS = {"layer_norm": "o", "rms_norm": "s", "batch_norm": "^", "group_norm": "v", "instance_norm": "D"}
_DPI = 110

_Axes = Any
_Draw = Callable[[_Axes, Sequence[Cell]], None]


def draw(results: Results, folder: Path) -> Iterator[Path]:
    """Write ``ratio-MODE.png``, ``rate-MODE.png`` and ``roofline-MODE.png``; yields their paths."""
    folder.mkdir(parents=True, exist_ok=True)

    def roofline(axes: _Axes, cells: Sequence[Cell]) -> None:
        _roofline(axes, cells, results.peaks)

    for mode in dict.fromkeys(cell.mode for cell in results.cells):
        cells = [cell for cell in results.cells if cell.mode == mode and cell.case.dtype == "float32"]
        for name, title, panel in (
            ("ratio", "time over that of a copy of the same bytes", _ratio),
            ("rate", "bytes that must move, a second; the line is the copy", _rate),
            ("roofline", "operations a second over operations a byte that must move", roofline),
        ):
            path = folder / f"{name}-{mode}.png"
            heading = f"{title}\nfloat32, {MODE_TEXT[mode]}; {machine.sentence(results.machine)}"
            if _figure(cells, heading, panel, path):
                yield path


def _figure(cells: Sequence[Cell], heading: str, panel: _Draw, path: Path) -> bool:
    """A panel for each phase and number of threads; False if there is nothing to draw."""
    threads = list(dict.fromkeys(cell.threads for cell in cells if cell.times))
    if not threads:
        return False
    figure, grid = pyplot.subplots(
        len(PHASES), len(threads), figsize=(6.2 * len(threads), 8.5), squeeze=False, sharex=True, sharey=True
    )
    for row, phase in enumerate(PHASES):
        for column, count in enumerate(threads):
            axes = grid[row][column]
            panel(axes, [cell for cell in cells if (cell.case.phase, cell.threads) == (phase, count)])
            axes.set_title(f"{phase}, {count} thread{'s' * (count > 1)}", loc="left", fontsize=10)
            axes.set_yscale("log")
            axes.grid(True, which="both", alpha=0.25, linewidth=0.5)
    # Not every panel need have every contender.
    entries = {
        label: handle
        for axes in grid.flat
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.suptitle(heading, fontsize=10, x=0.01, ha="left")
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.legend(entries.values(), entries.keys(), loc="lower left", ncols=6, fontsize=8, frameon=False)
    figure.savefig(path, dpi=_DPI)
    pyplot.close(figure)
    return True


def _bytes(value: float, position: object = None) -> str:
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:g} {unit}"
        value /= 1024
    return f"{value:g} GiB"


def _contenders(cells: Sequence[Cell]) -> list[str]:
    """Those with times, ours last, so that its marks lie on top."""
    names = dict.fromkeys(name for cell in cells for name in cell.times if name != LIMIT)
    return sorted(names, key=lambda name: name == OURS)


def _style(name: str, cells: Sequence[Cell]) -> dict[str, Any]:
    if name == OURS:
        return {"color": _COLOURS[0], "s": 34, "zorder": 3}
    others = [other for other in _contenders(cells) if other != OURS]
    colour = _COLOURS[1 + others.index(name) % (len(_COLOURS) - 1)]
    return {"color": colour, "s": 14, "alpha": 0.7, "zorder": 2}


def _scatter(axes: _Axes, cells: Sequence[Cell], value: Callable[[Cell, str], float | None]) -> None:
    for name in _contenders(cells):
        for norm, marker in _MARKERS.items():
            points = [
                (cell.case.bytes, found)
                for cell in cells
                if cell.case.norm == norm and (found := value(cell, name)) is not None
            ]
            if points:
                label = name if norm == "layer_norm" else None
                axes.scatter(*zip(*points, strict=True), marker=marker, label=label, **_style(name, cells))


def _ratio(axes: _Axes, cells: Sequence[Cell]) -> None:
    def value(cell: Cell, name: str) -> float | None:
        found = cell.ratio(name, LIMIT)
        # Below this a call costs more than the work, and the ratio says nothing.
        return None if found is None or cell.case.bytes < 1 << 14 else found.median

    _scatter(axes, cells, value)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_ylabel("times the copy")
    _against_bytes(axes)


def _rate(axes: _Axes, cells: Sequence[Cell]) -> None:
    def value(cell: Cell, name: str) -> float | None:
        found = cell.time(name)
        return None if found is None else cell.case.bytes / found.median / 1e3

    _scatter(axes, cells, value)
    roof: dict[int, float] = {}
    for cell in cells:
        rate = value(cell, LIMIT)
        if rate is not None:
            roof[cell.case.bytes] = max(rate, roof.get(cell.case.bytes, 0.0))
    axes.plot(*zip(*sorted(roof.items()), strict=True), color="black", linewidth=1, label="copy")
    axes.set_ylabel("GB/s")
    _against_bytes(axes)


def _against_bytes(axes: _Axes) -> None:
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(_bytes)
    axes.set_xlabel("bytes that must move")


def _roofline(axes: _Axes, cells: Sequence[Cell], peaks: Mapping[str, float]) -> None:
    """Points lie under the rate of the copy, from memory or from cache, and under the peak of the cores."""

    def intensity(cell: Cell) -> float:
        return operations(cell.case.norm, cell.case.phase) * cell.case.size / cell.case.bytes

    for norm, marker in _MARKERS.items():
        for where, colour in (("memory", _COLOURS[0]), ("cache", _COLOURS[1])):
            points = [
                (intensity(cell), intensity(cell) * cell.case.bytes / time.median / 1e3)
                for cell in cells
                if cell.case.norm == norm and (time := cell.time(OURS)) is not None and where == _place(cell)
            ]
            if points:
                style = {"marker": marker, "color": colour, "s": 24, "zorder": 3}
                axes.scatter(*zip(*points, strict=True), label=f"{norm}, from {where}", **style)
    ends = [0.25, 16.0]
    for where, dashes in (("memory", "-"), ("cache", "--")):
        rates = [
            cell.case.bytes / time.median / 1e3
            for cell in cells
            if where == _place(cell) and (time := cell.time(LIMIT)) is not None
        ]
        if rates:
            roof = [end * max(rates) for end in ends]
            axes.plot(ends, roof, dashes, color="black", linewidth=1, label=f"copy, best from {where}")
    for peak in [peaks[str(cell.threads)] for cell in cells[:1] if str(cell.threads) in peaks]:
        axes.axhline(peak, color="black", linestyle=":", linewidth=1, label="multiply-adds in registers")
    axes.set_xscale("log", base=2)
    axes.set_xlabel("operations a byte")
    axes.set_ylabel("GFLOP/s")


def _place(cell: Cell) -> str | None:
    """Where a cell's arrays are, roughly; calls alone are left out."""
    if cell.case.bytes >= 16 << 20:
        return "memory"
    return "cache" if cell.case.bytes >= 64 << 10 else None


def draw_growth(results: Results, folder: Path) -> Path:
    """Write ``growth.png``: time against rows and features on double logarithmic axes."""
    folder.mkdir(parents=True, exist_ok=True)
    figure, grid = pyplot.subplots(1, len(growth.AXES), figsize=(12.4, 6), sharey=True, squeeze=False)
    for at, axis in enumerate(growth.AXES):
        axes = grid[0][at]
        fixed = f"{growth.FEATURES} features" if axis == "rows" else f"{growth.ROWS} rows"
        axes.set_title(f"against {axis}, {fixed}", loc="left", fontsize=10)
        for index, (phase, threads) in enumerate(
            dict.fromkeys((cell.case.phase, cell.threads) for cell in results.cells)
        ):
            chosen = [c for c in results.cells if (c.case.phase, c.threads) == (phase, threads)]
            for name, line in ((OURS, "-"), (LIMIT, ":")):
                found = [
                    (cell.case.shape[at], time)
                    for cell in growth.line_of(chosen, axis)
                    if (time := cell.time(name)) is not None
                ]
                if not found:
                    continue
                label = f"{phase}, {threads} thread{'s' * (threads > 1)}" + (
                    ", copy" if name == LIMIT else ""
                )
                sizes = [size for size, _ in found]
                colour = _COLOURS[index % len(_COLOURS)]
                axes.plot(sizes, [time.median for _, time in found], line, color=colour, lw=1, label=label)
                axes.fill_between(
                    sizes,
                    [time.least for _, time in found],
                    [time.largest for _, time in found],
                    color=colour,
                    alpha=0.15,
                    linewidth=0,
                )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel(axis)
        axes.grid(True, which="both", alpha=0.25, linewidth=0.5)
    grid[0][0].set_ylabel("µs")
    grid[0][0].legend(fontsize=8, frameon=False)
    figure.suptitle(f"float32; {machine.sentence(results.machine)}", fontsize=10, x=0.01, ha="left")
    figure.tight_layout()
    path = folder / "growth.png"
    figure.savefig(path, dpi=_DPI)
    pyplot.close(figure)
    return path
