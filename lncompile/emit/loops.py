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
from lncompile.ir import Binary, Const, Input, Node, depending_on, operands, topological

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
    steps_to_total: int
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
                check = "is_moderate" if self._scales(scalar, vectors) else "fits_float32"
                self.conditions.append(f"{check}({name})")
        return lines

    def _scales(self, scalar: Node, vectors: list[Node]) -> bool:
        """Whether elements are multiplied by a statistic of the row alone, such as 1/std.

        Where that is far from 1 the elements are, too, and their squares and products leave float32's range.
        """
        from_cotangent = depending_on(
            topological([scalar]), lambda node: isinstance(node, Input) and node.role == "cotangent"
        )
        factor = any(isinstance(v, Binary) and v.op == "mul" and scalar in operands(v) for v in vectors)
        return factor and scalar not in from_cotangent

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
        """``step`` for all features."""
        return over_features(self.features, self.width.lanes, step)

    @property
    def _in_blocks(self) -> bool:
        return self.features // self.width.lanes > self.steps_to_total

    def summing_loop(self, sums: list[str], step: Callable[[Left], list[str]]) -> list[str]:
        """A loop whose steps add to the lanes of ``sums``, from zero; :meth:`total` is what they add up to.

        In a long row lanes are added to a float64 total now and then: thousands of like terms round alike.
        """
        zero = [f"{name} = {self.width.filled('0.0')}" for name in sums]
        if not (sums and self._in_blocks):
            return [*zero, *self.loop(step)]
        lanes = self.width.lanes
        close = [f"{name}_total += as_float64({name})" for name in sums]
        left = self.features % lanes
        lines = [f"{name}_total = f64x(0.0, {lanes})" for name in sums]
        lines += fill(
            "cpu/features.py",
            "features_in_blocks",
            {"open": zero, "whole": step(None), "close": close},
            FULL=self.features - left,
            LANES=lanes,
            BLOCK=self.steps_to_total * lanes,
        )
        if left:
            lines += [*zero, f"i = {self.features - left}", *step(left), *close]
        return lines

    def total(self, name: str) -> str:
        """The expression of what the lanes of ``name`` add up to."""
        return f"total({name}_total)" if self._in_blocks else f"total({name})"


def over_features(features: int, lanes: int, step: Callable[[Left], list[str]]) -> list[str]:
    """``step(left)`` for all features: ``left`` is None for whole vectors, else what the last one holds."""
    left = features % lanes
    full = features - left
    if not left:
        return fill("cpu/features.py", "features_whole", {"whole": step(None)}, FULL=full, LANES=lanes)
    if not full:
        return fill("cpu/features.py", "features_partial", {"partial": step(left)})
    holes = {"whole": step(None), "partial": step(left)}
    return fill("cpu/features.py", "features", holes, FULL=full, LANES=lanes)


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
