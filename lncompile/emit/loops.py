"""Loops over the features of one row: the vectors that a step needs, and the row-sized values it uses.

for i in range(0, 1024, 64):
    x_i = load(x_row, i, 64)
    # t1 = x - mean_high - mean_low
    ...
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from lncompile.emit.scope import Scope, Width
from lncompile.emit.templates import fill
from lncompile.ir import Const, Input, Node, operands

#: How many elements the last vector holds: a number, the name of one, or None for a whole vector.
Left = int | str | None
#: The lines that load a vector of an input under a name.
Load = Callable[[Input, str, Width, Left], list[str]]


@dataclass
class Row:
    """How one row is computed: element type and lanes of its loops, and what its lines have settled so far.

    ``careful`` is the second path, in float64 and with every moment about the mean of the whole row.
    ``conditions`` are the checks under which the first path can be trusted.
    """

    scope: Scope
    features: int
    width: Width
    pivot_lanes: int
    load: Load
    careful: bool = False
    conditions: list[str] = field(default_factory=list)
    narrowed: set[Node] = field(default_factory=set)

    def narrow(self, roots: list[Node]) -> list[str]:
        """Row-sized operands of the vectors that ``roots`` need, rounded to the loops' type, once each."""
        lines: list[str] = []
        if self.width.dtype == "float64":
            return lines
        vectors = self.scope.vectors_for(roots)
        used = [operand for vector in vectors for operand in operands(vector)]
        for scalar in [*used, *(root for root in roots if not self.scope.is_vector(root))]:
            if self.scope.is_vector(scalar) or isinstance(scalar, Const) or scalar in self.narrowed:
                continue
            self.narrowed.add(scalar)
            name = self.scope.names[scalar]
            if scalar.kind == "bool":
                lines.append(f"{name}_f32 = {name}")
            else:
                lines.append(f"{name}_f32 = as_float32({name})")
                self.conditions.append(f"fits_float32({name})")
        return lines

    def vectors(self, roots: list[Node], width: Width, left: Left) -> list[str]:
        """One step's vectors, inputs loaded, each value under the IR value that it is."""
        lines = []
        for node in self.scope.vectors_for(roots):
            if self.scope.is_fused(node):
                continue
            name = self.scope.vector_name(node, width)
            if isinstance(node, Input):
                lines += self.load(node, name, width, left)
            else:
                lines += [self.scope.comment(node), f"{name} = {self.scope.vector_text(node, width)}"]
        return lines

    def loop(self, step: Callable[[Left], list[str]]) -> list[str]:
        """``step(left)`` for all features: ``left`` is None for whole vectors, else what the last holds."""
        lanes = self.width.lanes
        left = self.features % lanes
        full = self.features - left
        if not left:
            return fill("cpu/features.py", "features_whole", {"whole": step(None)}, FULL=full, LANES=lanes)
        if not full:
            return fill("cpu/features.py", "features_partial", {"partial": step(left)})
        return fill(
            "cpu/features.py",
            "features",
            {"whole": step(None), "partial": step(left)},
            FULL=full,
            LANES=lanes,
        )


def loaded(place: str, width: Width, left: Left, dtype: str) -> str:
    """The expression that loads a vector from ``place``, in the width's type."""
    text = (
        f"load({place}, {width.lanes})" if left is None else f"load_partial({place}, {left}, {width.lanes})"
    )
    return width.converted(text, dtype)


def stored(place: str, text: str, left: Left) -> str:
    """The line that stores a vector at ``place``."""
    return f"store({place}, {text})" if left is None else f"store_partial({place}, {left}, {text})"


def prefetched(row: Row, inputs: list[Input], distance: int) -> list[str]:
    """Lines that bring what later steps read into the cache."""
    return [f"prefetch({node.name}_row, i + {distance}, {row.width.lanes})" for node in inputs]


def repeated(row: Row, node: Node) -> str:
    """A value as a vector, also where it is the same for all features."""
    text = row.scope.vector_operand(node, row.width)
    return text if row.scope.is_vector(node) else row.width.filled(text)
