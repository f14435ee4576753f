"""Where the row after the current one lies, beside it: for rows that overlap."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from lncompile.emit.nest import Array, Nest


class NextNest(Nest):
    """Where the row after the current one lies: its indices and pointers have names of their own."""

    unit_index: ClassVar[str] = "unit_next"

    def index(self, name: str) -> str:
        """The index variable of an axis."""
        index = super().index(name)
        return f"{index}_next" if name in self.loops.units else index

    def row_pointer(self, array: Array) -> str:
        """The name of the pointer to an array's part that belongs to the row."""
        return f"{array.name}_next"

    def step_pointer(self, array: Array) -> str:
        """The name of the pointer to what a step of the loops around the vectors goes over."""
        return f"{array.name}_next_at" if self.step_axes(array) else self.row_pointer(array)

    def row_pointers(self, arrays: Iterable[Array]) -> list[str]:
        """Lines that make the pointers to the row, also to what it has in common with others."""
        lines = []
        for array in arrays:
            offset = self.offset(array, self.unit_axes(array))
            start = array.name if offset == "0" else f"advance({array.name}, {offset})"
            lines.append(f"{self.row_pointer(array)} = {start}")
        return lines
