"""Rows together: the row-sized values of several rows are computed at once, between loops over these rows.

    for row in range(from_row, to_row):                        for each: its sums
        x_row = advance(x, row * 64)
        ...
        store(t3_lanes_memory, (row - from_row) * 8, folded(t3_lanes, 8))
    t3 = totals(t3_lanes_memory, 8, 8)                         for all, side by side
    rstd = rsqrt(t3 / 64.0 + 1e-05)
    rstd_f32 = as_float32(rstd)
    store(rstd_f32_memory, 0, rstd_f32)
    for row in range(from_row, to_row):                        for each: its elements
        rstd_f32 = as_float32(read(rstd_f32_memory, row - from_row))
        ...

A name is a vector between the loops, and inside them the lane of the loop's row. What a row's lanes hold does
not depend on the others, so the last rows may be fewer: their lanes are computed from what the memory held.
Layer norm of rows of 64 took 0.66 ns an element row by row, of which most was latency, and 0.25 so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from lncompile.emit.scope import Width
from lncompile.emit.templates import fill
from lncompile.ir import Const, Node

#: Numbers in memory as values of a type.
_TYPED = {"float32": "as_float32({})", "float64": "{}", "bool": "{} > 0.0"}


@dataclass
class Together:
    """Rows whose row-sized values are computed at once, and the memory between them and single rows.

    ``index`` is the variable that counts rows, ``opening`` what a loop over them begins with, ``beside`` the
    row-sized values that differ from row to row. A row remembers each of its values in memory of
    ``remembers`` elements. ``memory`` gives, by name, the expressions of all memory.
    """

    rows: int
    index: str
    opening: list[str]
    beside: frozenset[Node]
    remembers: int
    memory: dict[str, str] = field(default_factory=dict)
    _stored: set[str] = field(default_factory=set)

    @property
    def place(self) -> str:
        """The place of a row among those of its group."""
        return f"({self.index} - from_row)"

    def each(self, body: list[str]) -> list[str]:
        """``body`` for every row."""
        return fill("cpu/units.py", "rows_of_group", {"row": [*self.opening, *body]}, ROW=self.index)

    def kept_lanes(self, name: str, width: Width, fold: str, key: str) -> str:
        """The line of a row that keeps the lanes of ``name``, to be added up with those of other rows."""
        lanes = min(width.lanes, self.rows)
        self.memory[f"{key}_memory"] = width.memory(self.rows * lanes)
        return f"store({key}_memory, {self.place} * {lanes}, {fold}({name}, {lanes}))"

    def reduced(self, finish: str, key: str, width: Width) -> str:
        """The expression of what the lanes that rows kept add up to."""
        return f"{finish}({key}_memory, {self.rows}, {min(width.lanes, self.rows)})"

    def kept(self, name: str) -> str:
        """The line of a row that keeps a number, and from then on is the memory of all."""
        self._stored.add(name)
        self.memory[f"{name}_memory"] = Width("float64", self.rows).memory(self.rows)
        return f"write({name}_memory, {self.place.strip('()')}, {name})"

    def loaded(self, pointer: str, start: str, dtype: str) -> str:
        """The expression of numbers of all rows that lie one behind the other in an array."""
        text = f"load_partial({pointer}, {start}, to_row - from_row, {self.rows})"
        return Width("float64", self.rows).converted(text, dtype)

    def side_by_side(self, name: str, dtype: str = "float64") -> str:
        """The line that gives what is in the memory of all rows, side by side."""
        text = f"load({name}_memory, 0, {self.rows})"
        return f"{name} = {_TYPED[dtype].format(text)}"

    def stored(self, nodes: Iterable[tuple[str, str]]) -> list[str]:
        """Lines that put names, each with its type, where rows read them."""
        lines = []
        for name, dtype in nodes:
            if name in self._stored:
                continue
            self._stored.add(name)
            text = name
            if dtype == "bool":
                text = f"where({name}, f64x(1.0, {self.rows}), f64x(0.0, {self.rows}))"
            kind = "float32" if dtype == "float32" else "float64"
            self.memory[f"{name}_memory"] = Width(kind, self.rows).memory(self.rows)
            lines.append(f"store({name}_memory, 0, {text})")
        return lines

    def of_row(self, nodes: Iterable[tuple[str, str]]) -> list[str]:
        """Lines that give these names in a row."""
        place = self.place.strip("()")
        return [f"{name} = {_TYPED[dtype].format(f'read({name}_memory, {place})')}" for name, dtype in nodes]

    def differing(self, nodes: Iterable[Node]) -> list[Node]:
        """Those of ``nodes`` that differ from row to row, once each."""
        return [node for node in dict.fromkeys(nodes) if node in self.beside and not isinstance(node, Const)]
