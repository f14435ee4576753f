"""Memory beyond inputs and outputs, as the interface of the compiled kernel states it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from ..grid import Case
from .processes import Contender, Gone, start


def measure(contender: Contender, cases: Sequence[Case]) -> list[dict[str, Any]]:
    """For each case, bytes of x, of the gradient's or result's saved arrays, and of workspaces.

    Raises:
        RuntimeError: the contender cannot be asked.
    """
    process = start(contender, 1, "called")
    if isinstance(process, str):
        raise RuntimeError(process)
    try:
        found = []
        for case in cases:
            answer = process.ask("memory", case=case.as_json())
            if "ok" in answer:
                found.append({**case.as_json(), **answer["ok"]})
        return found
    except Gone as gone:
        raise RuntimeError(str(gone)) from gone
    finally:
        process.close()


def show(console: Console, found: Sequence[dict[str, Any]]) -> None:
    """A table of the bytes of a call."""
    table = Table(
        title="memory of one call beyond inputs and results, bytes",
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
    )
    for heading in ("case", "x", "saved for the backward", "workspace", "workspace over x"):
        table.add_column(heading, justify="left" if heading == "case" else "right")
    for row in found:
        case = f"{row['norm']} {'×'.join(map(str, row['shape']))} {row['phase']}"
        share = row["workspace"] / row["x"]
        table.add_row(case, *(f"{row[name]:,}" for name in ("x", "saved", "workspace")), f"{share:.4f}")
    console.print(table)
