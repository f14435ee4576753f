"""Elements in float32 where the numbers that groups of rows share are float64.

    ordinary_everywhere = True
    for i in range(0, 256, 16):
        t10_wide = load(t10, i, 16)
        ordinary_everywhere &= everywhere(is_moderate(t10_wide))
    if ordinary_everywhere:
        for i in range(0, 256, 16):
            t10_wide = load(t10, i, 16)
            t10_i = as_float32(t10_wide)
            for n in range(from_row, to_row):
                ...                                      float32
    else:
        ...                                              both, and each lane gets the one that is right for it

So a lane has the same bits whatever its neighbours hold. Vectors of float64 have half the lanes, and every
element is converted twice: batch norm with 64 channels innermost, on a CPU with registers of 32 bytes (Zen
1), in ns an element, in the caches forward 1.05 and 0.75, backward 1.54 and 1.00; on memory, which has to
bring x twice, the same 1.05 and 1.55.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from lncompile.emit.context import Context
from lncompile.emit.loops import Left, Row, over_features
from lncompile.emit.scope import Width
from lncompile.ir import Const, Input, Node, operands
from lncompile.passes.narrow import shared_values


@dataclass(frozen=True)
class Narrow:
    """How the elements of a stage of float64 are computed in float32; ``wide`` is a row in float64."""

    context: Context
    wide: Row

    @cached_property
    def row(self) -> Row:
        """A row in float32."""
        width = Width("float32", self.wide.width.lanes)
        return replace(self.wide, width=width, shared=self._narrowed)

    @cached_property
    def mixed(self) -> Row:
        """A row in both, of which ``ordinary`` chooses lane by lane."""
        return replace(self._careful, ordinary_row=self.row, shared=self._both)

    def decided(self) -> list[str]:
        """Lines that tell whether all lanes of all vectors are ordinary."""

        def step(left: Left) -> list[str]:
            return [*self._float64(left), f"ordinary_everywhere &= everywhere({self._ordinary})"]

        row = self.wide
        return ["ordinary_everywhere = True", *over_features(row.length, row.width.lanes, step)]

    @property
    def of_each_unit(self) -> bool:
        """Whether units of work share different numbers."""
        differing = set(self.context.loops.units) - {self.context.stage.block_axis}
        return any(node.axes & differing for node in self._rounded)

    @cached_property
    def _careful(self) -> Row:
        return replace(self.wide, width=replace(self.wide.width, suffix="_wide"), careful=True)

    @cached_property
    def _rounded(self) -> list[Node]:
        """What rows share and read in float32; factors of a multiply-add instead of their product."""
        found: dict[Node, None] = {}

        def add(node: Node) -> None:
            if self.wide.scope.is_fused(node):
                for operand in operands(node):
                    add(operand)
            elif not isinstance(node, Const):
                found[node] = None

        for node in shared_values(self.context.program, self.context.stage.block_axis or ""):
            add(node)
        return list(found)

    def _is_exact(self, node: Node) -> bool:
        return isinstance(node, Input) and node.dtype != "float64"

    def _checked(self) -> Iterator[Node]:
        return (node for node in self._rounded if not self._is_exact(node))

    def _float64(self, left: Left) -> list[str]:
        """What is to be rounded."""
        row = self._careful
        return row.vectors(list(self._checked()), row.width, left)

    def _float32(self, left: Left) -> list[str]:
        """What is rounded, and what is exact."""
        scope, width = self.row.scope, self.row.width
        lines = []
        for node in self._checked():
            wide = scope.vector_name(node, self._careful.width)
            lines.append(f"{scope.vector_name(node, width)} = as_float32({wide})")
        exact = [node for node in self._rounded if self._is_exact(node)]
        return [*lines, *self.row.vectors(exact, width, left)]

    def _narrowed(self, left: Left) -> list[str]:
        """What rows share, for elements in float32 alone."""
        return [*self._float64(left), *self._float32(left)]

    def _both(self, left: Left) -> list[str]:
        row, block = self._careful, self.context.stage.block_axis
        shared = row.vectors(self.context.written, row.width, left, lambda node: block not in node.axes)
        return [*shared, *self._float32(left), f"ordinary = {self._ordinary}"]

    @cached_property
    def _ordinary(self) -> str:
        """The expression of whether float32 holds what it is to, lane by lane."""
        vectors = self.row.vectors_for(self.context.written)
        texts = []
        for node in self._checked():
            check = "is_moderate" if self.row.scales(node, vectors) else "fits_float32"
            texts.append(f"{check}({self.row.scope.vector_name(node, self._careful.width)})")
        return " & ".join(texts)
