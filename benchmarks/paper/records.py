"""Tables of measurements as CSV files; lines that begin with ``#`` say how they were made."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Row = dict[str, Any]


class NotRecords(ValueError):
    """A file that is no table of these experiments."""


@dataclass
class Table:
    """Rows with the same columns, whose values are numbers or text; ``about`` says how they were made."""

    name: str
    columns: tuple[str, ...]
    rows: list[Row] = field(default_factory=list)
    about: dict[str, str] = field(default_factory=dict)

    def add(self, *values: Any) -> None:
        """One row, its values in the order of the columns."""
        self.rows.append(dict(zip(self.columns, values, strict=True)))

    def where(self, **wanted: Any) -> list[Row]:
        """The rows that have these values, in their order."""
        return [row for row in self.rows if all(row[name] == value for name, value in wanted.items())]

    def different(self, column: str, **wanted: Any) -> list[Any]:
        """The values of a column among the rows that have ``wanted``, each once, in the order of the rows."""
        return list(dict.fromkeys(row[column] for row in self.where(**wanted)))

    def curves(self, *names: str) -> Iterator[tuple[tuple[Any, ...], list[Row]]]:
        """The rows by the values of some columns."""
        for key in dict.fromkeys(tuple(row[name] for name in names) for row in self.rows):
            yield key, self.where(**dict(zip(names, key, strict=True)))


def save(table: Table, folder: Path) -> Path:
    """Write ``NAME.csv`` in a folder, whole or not at all; floats to six digits."""
    text = io.StringIO()
    for key, value in table.about.items():
        text.write(f"# {key}: {' '.join(value.split())}\n")
    writer = csv.DictWriter(text, table.columns, lineterminator="\n")
    writer.writeheader()
    for row in table.rows:
        writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
    return replace(folder / f"{table.name}.csv", text.getvalue())


def replace(path: Path, text: str) -> Path:
    """Write a file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def load(path: Path, columns: Sequence[str]) -> Table:
    """The table in a file.

    Raises:
        OSError: it cannot be read.
        NotRecords: it is no such table, or has other columns.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        about = dict(line[2:].split(": ", 1) for line in lines if line.startswith("# "))
        reader = csv.DictReader((line for line in lines if not line.startswith("#")), strict=True)
        if tuple(reader.fieldnames or ()) != tuple(columns):
            found = ", ".join(reader.fieldnames or ())
            raise NotRecords(f"{path}: expected the columns {', '.join(columns)}; got {found or 'none'}")
        rows = [{name: _value(text) for name, text in row.items()} for row in reader]
    except NotRecords:
        raise
    except (ValueError, TypeError, AttributeError, csv.Error) as error:
        raise NotRecords(f"{path}: expected a table of the experiments ({error})") from error
    return Table(path.stem, tuple(columns), rows, about)


def _value(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
