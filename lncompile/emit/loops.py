"""Loops inside a unit of work: over the steps around the vectors, and over the vectors of a step.

for c in range(0, 32):
    x_at = advance(x_row, c * 3136)
    weight_i = as_float32(read(weight_row, c))
    for i in range(0, 3136, 64):
        x_i = load(x_at, i, 64)
        ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from lncompile.emit.nest import Nest, as_python
from lncompile.emit.scope import Scope, Width
from lncompile.emit.templates import fill
from lncompile.emit.together import Together
from lncompile.ir import Binary, Const, Input, Node, Output, depending_on, operands, topological

#: How many elements the last vector holds: a number, the name of one, or None for a whole vector.
Left = int | str | None
#: The number of elements that a loop goes over, or the variable that holds it.
Length = int | str


class Condition(NamedTuple):
    """A check of a value, which may differ from lane to lane."""

    text: str
    is_wide: bool


@dataclass
class Row:
    """How one row is computed: element type and lanes of its loops, and what its lines have settled so far.

    A row is what shares its statistics; where the lanes hold different rows, all of them are one here.
    ``careful`` is the second path, in float64 and with every moment about the mean of the whole row.
    ``conditions`` are the checks under which the first path can be trusted. Values that are ``remembered``
    are ``known`` once a loop has stored them. Of rows side by side some may be
    ordinary: then elements are those of the first path, ``ordinary_row``, in their lanes. With ``together``,
    what is outside of the loops is computed for several rows at once. ``shared`` gives the lines with what
    the rows of a group share, where it is not computed like the rows.
    """

    scope: Scope
    nest: Nest
    width: Width
    pivot_lanes: int
    steps_to_total: int
    careful: bool = False
    conditions: list[Condition] = field(default_factory=list)
    narrowed: set[Node] = field(default_factory=set)
    remembered: frozenset[Node] = frozenset()
    known: set[Node] = field(default_factory=set)
    ordinary_row: Row | None = None
    together: Together | None = None
    shared: Callable[[Left], list[str]] | None = None

    @property
    def length(self) -> Length:
        """The elements of a step of the loops around the vectors."""
        loops = self.nest.loops
        if loops.vector is None or loops.across:
            return 1
        length = self.nest.length(loops.vector)
        return int(length) if length.isdigit() else as_python(length)

    @property
    def count(self) -> int:
        """The number of elements of a row, what a mean divides by."""
        return self.scope.program.count(self.nest.loops.inside)

    @property
    def row_sized(self) -> Width:
        """The type and lanes of row-sized values that are vectors."""
        return Width("float64", self.together.rows if self.together else self.width.lanes)

    def is_wide(self, node: Node) -> bool:
        """Whether a row-sized value is a vector: of rows in the lanes, or of rows together."""
        return node in self.together.beside if self.together else self.scope.is_wide(node)

    @property
    def rest(self) -> Left:
        """How many elements a vector of rows side by side holds."""
        vector = self.nest.vector
        assert vector is not None
        return None if vector.size is not None and vector.size % self.width.lanes == 0 else "count"

    def narrow(self, roots: list[Node]) -> list[str]:
        """Row-sized operands of the vectors that ``roots`` need, rounded to the loops' type, once each."""
        lines: list[str] = []
        if self.width.dtype == "float64":
            return lines
        vectors = self.vectors_for(roots)
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
                check = "is_moderate" if self.scales(scalar, vectors) else "fits_float32"
                self.conditions.append(Condition(f"{check}({name})", self.scope.is_wide(scalar)))
        return lines

    @property
    def ordinary(self) -> str:
        """The expression of whether the first path can be trusted, for one row or for each of its lanes."""
        texts = [condition.text for condition in self.conditions]
        if not (self.nest.loops.across or self.together):
            return " and ".join(texts)
        return " & ".join(f"({text})" if " " in text else text for text in texts)

    @property
    def ordinary_in_common(self) -> str:
        """The expression of whether the first path can be trusted in what all lanes share; empty: it can."""
        return " and ".join(c.text for c in self.conditions if not c.is_wide)

    def as_row_sized(self, name: str) -> str:
        """A value of the loops' type as one number a row: scalars adapt to others, vectors do not."""
        return f"as_float64({name})" if self.nest.loops.across and self.width.dtype != "float64" else name

    def scales(self, scalar: Node, vectors: list[Node]) -> bool:
        """Whether elements are multiplied by a statistic of the row alone, such as 1/std.

        Where that is far from 1 the elements are, too, and their squares and products leave float32's range.
        """
        linear = self.nest.stage.linear
        from_cotangent = depending_on(
            topological([scalar]), lambda node: isinstance(node, Input) and node.array in linear
        )
        factor = any(isinstance(v, Binary) and v.op == "mul" and scalar in operands(v) for v in vectors)
        return factor and scalar not in from_cotangent

    def vectors_for(self, roots: Iterable[Node]) -> list[Node]:
        """The vector values that a loop computes, or loads, for ``roots``."""
        return self.scope.vectors_for(roots, self.known)

    def vectors(
        self,
        roots: list[Node],
        width: Width,
        left: Left,
        wanted: Callable[[Node], bool] = lambda node: True,
    ) -> list[str]:
        """One vector of each value that ``roots`` need, inputs loaded, under the IR value that it is.

        Those that are not ``wanted`` have their lines elsewhere.
        """
        above = self.ordinary_row
        lines = above.vectors(roots, above.width, left, wanted) if above else []
        for node in filter(wanted, self.vectors_for(roots)):
            if self.scope.is_fused(node) or (isinstance(node, Input) and not self.scope.is_wide(node)):
                continue
            name = self.scope.vector_name(node, width)
            if node in self.known:
                lines.append(f"{name} = load({self.memory_of(node)}, i, {width.lanes})")
            elif isinstance(node, Input):
                lines.append(f"{name} = {self._loaded(node, width, left)}")
            else:
                lines += [self.scope.comment(node), f"{name} = {self.scope.vector_text(node, width)}"]
        return lines

    def step_start(self, roots: list[Node], written: list[Output] | None = None) -> list[str]:
        """What one step of the loops around the vectors begins with: pointers, and inputs without lanes."""
        inputs = [node for node in self.vectors_for(roots) if isinstance(node, Input)]
        wide = [node for node in inputs if self.scope.is_wide(node) and not node.at_start]
        lines = self.nest.step_pointers([*wide, *(written or [])])
        for width in [row.width for row in (self.ordinary_row, self) if row]:
            for node in inputs:
                if not self.scope.is_wide(node):
                    text = width.converted(f"read({node.name}, {self._whole_offset(node)})", "float64")
                    lines.append(f"{self.scope.vector_name(node, width)} = {text}")
        return lines

    def _whole_offset(self, node: Input) -> str:
        return self.nest.offset(node, {*self.nest.unit_axes(node), *self.nest.steps})

    def _loaded(self, node: Input, width: Width, left: Left) -> str:
        vector = self.nest.loops.vector
        pointer = self.nest.step_pointer(node)
        if self.nest.has_tile(node):
            return width.converted(f"load({pointer}, 0, {width.lanes})", node.dtype)
        if node.at_start:
            pointer = f"advance({node.name}, {self._whole_offset(node)})"
        return loaded(pointer, self.nest.stride(node, vector or ""), width, left, node.dtype)

    def row_value(self, node: Input) -> str:
        """The expression that loads a row-sized input, of one row or of those side by side in the lanes."""
        offset = self.nest.offset(node, self.nest.unit_axes(node))
        if not self.scope.is_wide(node):
            return f"read({node.name}, {offset})"
        width = Width("float64", self.width.lanes)
        if self.nest.has_tile(node):
            return width.converted(f"load({self.nest.row_pointer(node)}, 0, {width.lanes})", node.dtype)
        pointer = node.name if offset == "0" else f"advance({node.name}, {offset})"
        stride = self.nest.stride(node, self.nest.loops.vector or "")
        return loaded(pointer, stride, width, self.rest, node.dtype)

    def memory_of(self, node: Node) -> str:
        """The memory of a value that the row remembers."""
        name = self.scope.memory_name(node)
        return f"{name}_row" if self.together else name

    def for_each(
        self,
        roots: list[Node],
        body: list[str],
        pointers: Sequence[str] | None = None,
        wide: Iterable[Node] = (),
        more: Sequence[tuple[str, str]] = (),
    ) -> list[str]:
        """A loop over the elements of a row for every row of those together; that of a row alone as it is.

        ``roots`` are the values that the loop needs, and ``pointers`` the lines that make its pointers, if
        not those to the inputs of ``roots`` alone. It finds the row-sized values ``wide`` in float64, and
        ``more`` names, each with its type, too.
        """
        if self.together is None:
            return body
        vectors = self.vectors_for(roots)
        if pointers is None:
            read = [n for n in vectors if isinstance(n, Input) and self.scope.is_wide(n) and not n.at_start]
            pointers = self.nest.row_pointers(read)
        names = self._names_in_loop(roots)
        names |= {self.scope.names[node]: _type_of(node) for node in self.together.differing(wide)}
        names |= dict(more)
        memory = [
            f"{self.memory_of(node)} = advance({self.scope.memory_name(node)}, "
            f"{self.together.place} * {self.together.remembers})"
            for node in vectors
            if node in self.remembered
        ]
        opening = [*pointers, *memory, *self.together.of_row(names.items())]
        return [*self.together.stored(names.items()), *self.together.each([*opening, *body])]

    def after_each(self, roots: list[Node]) -> list[str]:
        """Lines that give names that the loop had for one row back to those together."""
        if self.together is None or self.width.dtype != "float64":
            return []
        return [self.together.side_by_side(name, dtype) for name, dtype in self._names_in_loop(roots).items()]

    def _names_in_loop(self, roots: list[Node]) -> dict[str, str]:
        """The row-sized values that differ from row to row and a loop uses, by name, each with its type."""
        assert self.together is not None
        used = [operand for vector in self.vectors_for(roots) for operand in operands(vector)]
        return {
            self.scope.vector_operand(node, self.width): "bool" if node.kind == "bool" else self.width.dtype
            for node in self.together.differing([*used, *roots])
        }

    def over_steps(self, start: list[str], body: list[str]) -> list[str]:
        """``body`` for every step of the loops around the vectors, each after ``start``."""
        nest = self.nest
        return looped([*start, *body], [(nest.index(name), nest.length(name)) for name in nest.steps])

    @property
    def in_blocks(self) -> bool:
        """Whether lanes get so many additions that they are added to a float64 total now and then."""
        if self.width.dtype == "float64" and (self.nest.steps or not isinstance(self.length, int)):
            return False
        return self._additions > self.steps_to_total

    @property
    def _additions(self) -> int:
        """How often each lane of a sum is added to."""
        return self.count if self.nest.loops.across else self.count // self.width.lanes

    @property
    def block_steps(self) -> int:
        """The additions after which lanes are added to the totals.

        Totals that have no more digits than the lanes get about as many additions: 4096 additions a lane,
        in blocks of 16, had the mean of 65536 float64 numbers, a ramp, 9 roundings off; none in blocks of 64.
        """
        if self.width.dtype != "float64":
            return self.steps_to_total
        return max(self.steps_to_total, 1 << self._additions.bit_length() // 2)

    def summing_loop(
        self, roots: list[Node], sums: list[str], step: Callable[[Left], list[str]]
    ) -> list[str]:
        """A loop whose steps add to the lanes of ``sums``, from zero; :meth:`total` is their sum."""
        return self.summing_streaks(sums, self.step_start(roots), Streak(self, step))

    def summing_streaks(self, sums: list[str], start: list[str], streak: Streak) -> list[str]:
        """The same where each step of the loops around the vectors does a ``streak`` after ``start``."""
        zero = [f"{name} = {self.width.filled('0.0')}" for name in sums]
        if not (sums and self.in_blocks):
            return [*zero, *self.over_steps(start, streak.whole())]
        lanes = self.width.lanes
        close = [f"{name}_total += as_float64({name})" for name in sums]
        lines = [f"{name}_total = f64x(0.0, {lanes})" for name in sums]
        assert isinstance(self.length, int)
        if not self.nest.steps or self.length // lanes >= self.block_steps:
            return [*lines, *self.over_steps(start, streak.in_blocks(zero, close))]
        return [*lines, *self._blocks_of_steps(zero, [*start, *streak.whole()], close)]

    def blocks_of_vectors(
        self, length: int, zero: list[str], step: Callable[[Left], list[str]], close: list[str]
    ) -> list[str]:
        """All vectors in blocks, each of which begins with ``zero`` and ends with ``close``."""
        lanes = self.width.lanes
        left = length % lanes
        lines = fill(
            "cpu/features.py",
            "features_in_blocks",
            {"open": zero, "whole": step(None), "close": close},
            FULL=length - left,
            LANES=lanes,
            BLOCK=self.block_steps * lanes,
        )
        if left:
            lines += [*zero, f"i = {length - left}", *step(left), *close]
        return lines

    def _blocks_of_steps(self, zero: list[str], body: list[str], close: list[str]) -> list[str]:
        """Short steps: several of them add up before their sums are added to the totals."""
        assert isinstance(self.length, int)
        *outer, inner = self.nest.steps
        per = max(1, self.block_steps // -(-self.length // self.width.lanes))
        holes = {"open": zero, "body": body, "close": close}
        stop = as_python(self.nest.length(inner))
        lines = fill(
            "cpu/units.py", "steps_in_blocks", holes, INDEX=self.nest.index(inner), STOP=stop, BLOCK=per
        )
        return looped(lines, [(self.nest.index(name), self.nest.length(name)) for name in outer])

    def total(self, name: str, value: Node) -> str:
        """The expression of what the lanes of ``name``, sums of ``value``, add up to, for one row or each."""
        if self.nest.loops.across:
            return self._of_rows(f"{name}_total" if self.in_blocks else self.as_row_sized(name), value)
        if self.together:
            return self.together.reduced("totals", name, self._sum_width)
        return f"total({name}_total)" if self.in_blocks else f"total({name})"

    @property
    def _sum_width(self) -> Width:
        """The lanes of a sum when its loop has ended."""
        return replace(self.width, dtype="float64") if self.in_blocks else self.width

    def kept_lanes(self, sums: Iterable[str], largest: Iterable[str]) -> list[str]:
        """Lines of a row, one of those together, that keep what its loop has reduced lane by lane."""
        if self.together is None:
            return []
        keep = self.together.kept_lanes
        lines = []
        for name in sums:
            lanes = f"{name}_total" if self.in_blocks else name
            lines.append(keep(lanes, self._sum_width, "partial_total", name))
        return lines + [keep(name, self.width, "partial_largest", name) for name in largest]

    def largest(self, name: str, value: Node) -> str:
        """The expression of the largest lane of ``name``, of one row or of each."""
        if self.nest.loops.across:
            return self._of_rows(self.as_row_sized(name), value)
        if self.together:
            return self.together.reduced("largests", name, self.width)
        return f"largest({name})"

    def _of_rows(self, lanes: str, value: Node) -> str:
        return lanes if self.scope.is_wide(value) else f"first({lanes})"

    def kept(self, text: str, left: Left, fill: str = "0.0") -> str:
        """``text`` with the lanes past the end of the row replaced by ``fill``."""
        return text if left is None or self.nest.loops.across else f"keep_first({text}, {left}, {fill})"

    def repeated(self, node: Node) -> str:
        """A value as a vector, also where it is the same in all lanes."""
        text = self.scope.vector_operand(node, self.width)
        text = text if self.scope.is_wide(node) else self.width.filled(text)
        if self.ordinary_row:
            text = f"where(ordinary, as_float64({self.ordinary_row.repeated(node)}), {text})"
        return text


@dataclass(frozen=True)
class Streak:
    """The vectors of one step of the loops around them, each of which is a ``step``."""

    row: Row
    step: Callable[[Left], list[str]]

    def whole(self) -> list[str]:
        """Lines for all of them."""
        row = self.row
        if row.nest.loops.across:
            return self.step(row.rest)
        return over_features(row.length, row.width.lanes, self.step)

    def in_blocks(self, zero: list[str], close: list[str]) -> list[str]:
        """The same in blocks, each of which begins with ``zero`` and ends with ``close``."""
        assert isinstance(self.row.length, int)
        return self.row.blocks_of_vectors(self.row.length, zero, self.step, close)


def _type_of(node: Node) -> str:
    """The type of a row-sized value outside of loops."""
    return "bool" if node.kind == "bool" else "float64"


def looped(body: list[str], loops: Sequence[tuple[str, str]]) -> list[str]:
    """``body`` inside loops, outer to inner: an index variable each, and its positions as a C expression."""
    for index, stop in reversed(loops):
        body = fill("cpu/units.py", "steps", {"body": body}, INDEX=index, STOP=as_python(stop))
    return body


class Ahead(NamedTuple):
    """Steps of so many lanes, which come before narrower ones."""

    lanes: int
    step: Callable[[Left], list[str]]

    def fill(self, begin: int | str, length: Length) -> list[str]:
        """The loop over as many as there are, whose end is ``middle``."""
        holes = {"whole": self.step(None)}
        return fill("cpu/features.py", "features_ahead", holes, BEGIN=begin, LENGTH=length, LANES=self.lanes)


def loop_of_vectors(begin: int | str, end: int | str, lanes: int, body: list[str]) -> list[str]:
    """``body`` for the vectors of so many lanes from ``begin`` to ``end``."""
    return fill("cpu/features.py", "features_whole", {"whole": body}, BEGIN=begin, END=end, LANES=lanes)


def over_features(
    length: Length, lanes: int, step: Callable[[Left], list[str]], ahead: Ahead | None = None
) -> list[str]:
    """``step(left)`` for all elements: ``left`` is None for whole vectors, else what the last one holds.

    Of the steps ``ahead``, as many as there are come first.
    """
    if isinstance(length, str):
        lines, begin = (ahead.fill(0, length), "middle") if ahead else ([], "0")
        holes = {"whole": step(None), "partial": step("left")}
        names = {"BEGIN": begin, "LENGTH": length, "LANES": lanes}
        return [*lines, *fill("cpu/features.py", "features_unknown", holes, **names)]
    lines, done = [], 0
    for width, whole in [*([ahead] if ahead else []), Ahead(lanes, step)]:
        end = length - (length - done) % width
        if end > done:
            lines += loop_of_vectors(done, end, width, whole(None))
        done = end
    if done < length:
        lines += fill("cpu/features.py", "features_partial", {"partial": step(length - done)}, BEGIN=done)
    return lines


def loaded(pointer: str, stride: str, width: Width, left: Left, dtype: str) -> str:
    """The expression that loads the vector at ``i``, in the width's type."""
    lanes = width.lanes
    if stride != "1":
        count = lanes if left is None else left
        text = f"gather({pointer}, i, {as_python(stride)}, {count}, {lanes})"
    elif left is None:
        text = f"load({pointer}, i, {lanes})"
    else:
        text = f"load_partial({pointer}, i, {left}, {lanes})"
    return width.converted(text, dtype)


def stored(pointer: str, stride: str, text: str, left: Left, lanes: int) -> str:
    """The line that stores a vector at ``i``."""
    if stride != "1":
        return f"scatter({pointer}, i, {as_python(stride)}, {lanes if left is None else left}, {text})"
    return f"store({pointer}, i, {text})" if left is None else f"store_partial({pointer}, i, {left}, {text})"


def prefetched(row: Row, array: Input | Output, distance: str, level: int) -> str:
    """The line that brings what a later step reads or writes of an array into the cache of a level."""
    return f"prefetch({row.nest.step_pointer(array)}, i + {distance}, {row.width.lanes}, {level})"
