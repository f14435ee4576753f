"""Results as JSON: one cell for each case, number of threads and mode, with the number of every round.

A run adds its rounds to the cells that are there. All series of a cell count the same rounds, so that the
contenders of one round can be compared; a contender that had no part in a round has None there. Rounds of
another version of a contender (for lncompile: other sources) are dropped when a new one is measured.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..grid import Case, from_json
from . import stats

FORMAT = 1

Versions = dict[str, str]

#: Of a cell in the file, beside those of its case.
_CELL_FIELDS = ("threads", "mode", "rounds", "times", "absent", "others")


class NotResults(ValueError):
    """A file that is no results of this program."""


@dataclass(eq=False)
class Cell:
    """What is known about one case with so many threads in one mode.

    ``times`` are microseconds by contender and variant; ``absent`` says why a contender has none;
    ``versions`` and ``statements`` tell what was measured; ``others`` is the largest part of the machine's
    time that other processes took in a run.
    """

    case: Case
    threads: int
    mode: str
    rounds: int = 0
    times: dict[str, dict[str, list[float | None]]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    versions: dict[str, Versions] = field(default_factory=dict)
    statements: dict[str, dict[str, str]] = field(default_factory=dict)
    others: float = 0.0

    def admit(self, contender: str, versions: Versions, statements: dict[str, str]) -> None:
        """A contender is about to be measured."""
        if self.versions.get(contender) != versions:
            self.times.pop(contender, None)
        self.absent.pop(contender, None)
        self.versions[contender] = versions
        self.statements[contender] = statements

    def refuse(self, contender: str, reason: str) -> None:
        """A contender cannot be measured now; what was measured before stays where it is of use."""
        self.absent[contender] = reason

    def add_round(self, times: Mapping[str, Mapping[str, float]]) -> None:
        """The numbers of one round by contender and variant."""
        for contender, variants in times.items():
            known = self.times.setdefault(contender, {})
            for variant, value in variants.items():
                series = known.setdefault(variant, [])
                series += [None] * (self.rounds - len(series))
                series.append(float(f"{value:.5g}"))
        self.rounds += 1

    def series(self, contender: str) -> stats.Series:
        """The rounds of the contender's best variant; empty if there are none."""
        variants = self.times.get(contender, {})
        name = stats.best(variants)
        return [] if name is None else variants[name]

    def time(self, contender: str) -> stats.Spread | None:
        """Microseconds of the best variant."""
        return stats.spread(self.series(contender))

    def ratio(self, contender: str, to: str) -> stats.Spread | None:
        """The time of one contender over that of another."""
        return stats.ratio(self.series(contender), self.series(to))


@dataclass
class Results:
    """All cells of a machine, and what else was measured there.

    ``startup`` has the figures of new processes by name, ``memory`` bytes by case, ``peaks`` GFLOP/s in
    float32 by the number of threads.
    """

    machine: dict[str, Any]
    cells: list[Cell] = field(default_factory=list)
    startup: dict[str, Any] = field(default_factory=dict)
    memory: list[dict[str, Any]] = field(default_factory=list)
    peaks: dict[str, float] = field(default_factory=dict)

    def cell(self, case: Case, threads: int, mode: str) -> Cell:
        """The cell, new if there is none yet."""
        found = self.find(case, threads, mode)
        if found is None:
            found = Cell(case, threads, mode)
            self.cells.append(found)
        return found

    def find(self, case: Case, threads: int, mode: str) -> Cell | None:
        """The cell, None if there is none yet."""
        wanted = (case, threads, mode)
        return next((cell for cell in self.cells if (cell.case, cell.threads, cell.mode) == wanted), None)


def load(path: Path) -> Results:
    """The results in a file.

    Raises:
        OSError: it cannot be read.
        NotResults: it holds something else.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["format"] != FORMAT:
            raise NotResults(f"{path}: expected results of format {FORMAT}; got {data['format']!r}")
        cells = [
            Cell(
                case=from_json(cell),
                versions={name: data["versions"][at] for name, at in cell["versions"].items()},
                statements={name: data["statements"][at] for name, at in cell["statements"].items()},
                **{name: cell[name] for name in _CELL_FIELDS},
            )
            for cell in data["cells"]
        ]
        return Results(data["machine"], cells, data["startup"], data["memory"], data["peaks"])
    except NotResults:
        raise
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise NotResults(f"{path}: expected results of lncompile bench ({error!r})") from error


def dumps(results: Results) -> str:
    """The text of the file: a line for each cell, so that two files can be compared.

    Versions and statements, which most cells share, are in lists that cells have indices into.
    """
    versions: list[Versions] = []
    statements: list[dict[str, str]] = []
    cells = [
        {
            **cell.case.as_json(),
            **{name: getattr(cell, name) for name in _CELL_FIELDS},
            "versions": {name: _index(versions, found) for name, found in cell.versions.items()},
            "statements": {name: _index(statements, found) for name, found in cell.statements.items()},
        }
        for cell in results.cells
    ]
    head = {
        "format": FORMAT,
        "machine": results.machine,
        "startup": results.startup,
        "memory": results.memory,
        "peaks": results.peaks,
        "versions": versions,
        "statements": statements,
    }
    text = json.dumps(head, indent=1, ensure_ascii=False)
    lines = ",\n  ".join(json.dumps(cell, ensure_ascii=False) for cell in cells)
    return f'{text[:-2]},\n "cells": [\n  {lines}\n ]\n}}\n'


def _index(table: list[dict[str, str]], value: dict[str, str]) -> int:
    if value not in table:
        table.append(value)
    return table.index(value)


def save(results: Results, path: Path) -> None:
    """Write the file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(dumps(results), encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
