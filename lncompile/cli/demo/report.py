"""The demo's results as a terminal shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from textwrap import indent
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from lncompile.cli.demo.data import Problem
from lncompile.cli.demo.kernel import Origin
from lncompile.cli.demo.measure import ROUNDS, Deviation, Timing
from lncompile.cli.demo.network import BATCH, LEARNING_RATE, SIZES, Run
from lncompile.cli.output import highlighted

_BLOCKS = "▁▂▃▄▅▆▇█"
_EIGHTHS = ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")
_BAR = 16


@dataclass(frozen=True)
class LayerStatistics:
    """A hidden layer before training: mean and standard deviation of its samples before and after the kernel.

    The means are root mean squares over the samples.
    """

    layer: int
    mean_before: float
    std_before: float
    mean_after: float
    std_after: float


@dataclass(frozen=True)
class Results:
    """All that the demo found."""

    problem: Problem
    target: str
    origin: Origin
    statistics: Sequence[LayerStatistics]
    normalized: Run
    plain: Run
    deviations: dict[int, list[Deviation]]
    timings: Sequence[Timing]


def as_json(results: Results) -> dict[str, Any]:
    """The results as plain values, without the data itself."""
    return {
        "input": results.problem.title,
        "samples": len(results.problem.labels),
        "target": results.target,
        "kernel": asdict(results.origin),
        "layers": [asdict(layer) for layer in results.statistics],
        "training": {"layer_norm": asdict(results.normalized), "plain": asdict(results.plain)},
        "deviations": {f"layer {n}": [asdict(d) for d in found] for n, found in results.deviations.items()},
        "timings": [asdict(timing) for timing in results.timings],
    }


def show_problem(out: Console, problem: Problem) -> None:
    """What is learned, and the network."""
    out.print(f"[bold]Input[/]    {len(problem.labels)} samples of 8x8: {problem.title}", soft_wrap=True)
    out.print(f"[bold]Task[/]     {problem.task}")
    sizes = "-".join(map(str, SIZES))
    out.print(f"[bold]Network[/]  {sizes} in NumPy, hidden layers normalized by lncompile")


def show_kernel(out: Console, equation: str, excerpt: str, target: str, origin: Origin) -> None:
    """From the equation to the library."""
    _heading(out, "The equation")
    _code(out, equation)
    _heading(out, f"Compiled for {target}, forward and backward")
    _code(out, excerpt)
    if origin.compiled:
        out.print(f"compiled in {origin.seconds:.2f} s, the import of Numba included")
    else:
        out.print(f"from the cache, in {origin.seconds * 1e3:.1f} ms")
    out.print(
        f"library: {origin.library or 'in memory alone, since the cache cannot be used'}", soft_wrap=True
    )
    out.print("all of it: lncompile explain layer_norm --shape 128x1000 --stage all")


def show_statistics(out: Console, layers: Sequence[LayerStatistics]) -> None:
    """What the kernel does to the activations."""
    _heading(out, "Activations, sample by sample, before training")
    table = _table("layer", "mean before", "std before", "mean after", "std after")
    for layer in layers:
        row = (layer.mean_before, layer.std_before, layer.mean_after, layer.std_after)
        table.add_row(
            str(layer.layer), *(f"{value:.2g}" if abs(value) < 1e-3 else f"{value:.4f}" for value in row)
        )
    out.print(table)


def show_training(out: Console, normalized: Run, plain: Run) -> None:
    """Losses by epoch, side by side."""
    _heading(out, "Training loss by epoch")
    out.print(f"cross entropy, Adam at {LEARNING_RATE:g}, batches of {BATCH}; same first weights, same order")
    table = _table("epoch", "layer norm", "", "plain", "")
    highest = max(normalized.losses + plain.losses)
    for epoch, pair in enumerate(zip(normalized.losses, plain.losses, strict=True), start=1):
        cells = [cell for loss in pair for cell in (f"{loss:.4f}", f"[cyan]{bar(loss / highest)}[/]")]
        table.add_row(str(epoch), *cells)
    out.print(table)
    for name, run in (("layer norm", normalized), ("plain", plain)):
        last = f"{name:<11} {run.accuracy:6.1%} of unseen samples right, {run.seconds:.1f} s"
        out.print(f"{last}  [cyan]{sparkline(run.losses)}[/]")


def show_deviations(out: Console, deviations: dict[int, list[Deviation]]) -> None:
    """Largest errors, on the activations and gradients of the trained network."""
    _heading(out, "Largest difference from float64, on the trained network")
    table = _table("layer", "array", "absolute", "in ulp", "NumPy float32, in ulp")
    for layer, found in deviations.items():
        for d in found:
            table.add_row(str(layer), d.what, f"{d.absolute:.1e}", f"{d.ulp:.2f}", f"{d.numpy_ulp:.2f}")
    out.print(table)
    out.print("1 ulp: the spacing of float32 at the row's largest value")


def show_timings(out: Console, shape: tuple[int, ...], timings: Sequence[Timing]) -> None:
    """Medians and quartiles."""
    _heading(out, f"Time for {shape[0]}x{shape[1]} float32, medians of {ROUNDS} interleaved rounds")
    table = _table("", "", "threads", "ms", "quartiles", "x copy")
    for t in timings:
        spread = f"{t.lower * 1e3:.2f} to {t.upper * 1e3:.2f}"
        table.add_row(t.phase, t.what, str(t.threads), f"{t.median * 1e3:.2f}", spread, f"{t.copies:.2f}")
    out.print(table)


def bar(share: float) -> str:
    """A horizontal bar of at most 16 characters."""
    whole, eighths = divmod(round(share * _BAR * 8), 8)
    return "█" * whole + _EIGHTHS[eighths]


def sparkline(values: Sequence[float]) -> str:
    """One character a value, on a logarithmic scale."""
    logs = np.log(np.maximum(values, 1e-12))
    low, high = float(logs.min()), float(logs.max())
    scale = (len(_BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BLOCKS[round((float(value) - low) * scale)] for value in logs)


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    for index, column in enumerate(columns):
        numeric = column and index
        table.add_column(column, justify="right" if numeric else "left", no_wrap=True)
    return table


def _heading(out: Console, text: str) -> None:
    out.print()
    out.print(f"[bold]{text}[/]")


def _code(out: Console, code: str) -> None:
    code = indent(code, "    ")
    text = highlighted(code, "python") if out.is_terminal else code
    out.print(text, markup=False, soft_wrap=True)
