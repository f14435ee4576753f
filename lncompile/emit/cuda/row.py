"""How the elements of one row are gone over by a team, and how its threads put together what each has found.

Written out, all that a thread has of a row is in registers from the start; in loops it is read again each
time::

    x_i0 = as_float32(load_once(x_row, i_0, 8))          for i in range(member * 8, 4096, 256):
    x_i1 = as_float32(load_once(x_row, i_1, 8))    or        x_i = as_float32(load(x_row, i, 8))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from lncompile.emit.cuda.conditional import only_if
from lncompile.emit.cuda.exchange import Exchange
from lncompile.emit.cuda.nest import TeamNest
from lncompile.emit.cuda.scope import TeamScope
from lncompile.emit.cuda.team import Team
from lncompile.emit.nest import as_python, product
from lncompile.emit.scope import Width
from lncompile.emit.templates import fill
from lncompile.ir import Binary, Cast, Const, Input, Node, Output, Unary, operands, topological


@dataclass(frozen=True)
class Part:
    """One access of a thread to a row: its place in the source, and the condition that there is such a part.

    ``at`` numbers the parts that are written out; None is the body of a loop. ``condition`` is empty where
    every thread has the part.
    """

    index: str
    at: int | None = None
    condition: str = ""

    def width(self, width: Width) -> Width:
        """``width``, with names of this part's own."""
        return width if self.at is None else replace(width, suffix=f"{width.suffix}_i{self.at}")


def _nothing(part: Part) -> list[str]:
    return []


@dataclass(frozen=True)
class Work:
    """Lines for one part of a row: ``body`` once in the first path and for each lane in the careful one.

    Parts past the end of a row are worked on like others unless they are kept ``apart``.
    """

    body: Callable[[Part], list[str]]
    before: Callable[[Part], list[str]] = _nothing
    after: Callable[[Part], list[str]] = _nothing
    apart: bool = False


@dataclass
class TeamRow:
    """One row as it is computed: by which team, in which type, and what was checked on the way.

    ``holds``: what a thread has of the row's inputs is in registers from the start. ``careful`` is the
    second path, in float64; ``conditions`` are those under which the first can be trusted. They tell of the
    row-sized values ``checked`` that their size suits elements, and of more that they are ``finite``.
    """

    scope: TeamScope
    nest: TeamNest
    team: Team
    width: Width
    exchange: Exchange
    holds: bool = False
    careful: bool = False
    conditions: list[str] = field(default_factory=list)
    checked: set[Node] = field(default_factory=set)
    finite: set[Node] = field(default_factory=set)

    @property
    def count(self) -> float:
        """The number of elements of a row, what a mean divides by."""
        return float(self.scope.program.count(self.nest.loops.inside))

    @property
    def row_width(self) -> Width:
        """The width of what is the same for a whole row."""
        return replace(self.width, lanes=1)

    @property
    def length(self) -> str:
        """The elements of a step of the loops around the vectors, as a C expression."""
        loops = self.nest.loops
        return "1" if loops.vector is None or loops.across else self.nest.length(loops.vector)

    # Reading

    def is_held(self, node: Node) -> bool:
        """Whether all that a thread has of an input of the row is in registers from the start."""
        return (
            self.holds
            and isinstance(node, Input)
            and self.scope.is_vector(node)
            and not node.at_start
            and bool(self.nest.unit_axes(node))
        )

    def hold(self, nodes: Sequence[Node]) -> list[str]:
        """Lines that read every part of the inputs that are held."""
        if not self.holds:
            return []
        return [
            f"{self.scope.vector_name(node, part.width(self.width))} = {self._loaded(node, part)}"
            for part in self.parts()
            for node in nodes
            if isinstance(node, Input) and self.is_held(node)
        ]

    def vectors(self, roots: list[Node], part: Part) -> list[str]:
        """A line for each value that ``roots`` need of this part, under the IR value that it is."""
        width = part.width(self.width)
        lines: list[str] = []
        for node in self.scope.vectors_for(roots):
            if self.scope.is_fused(node):
                continue
            name = self.scope.vector_name(node, width)
            if not isinstance(node, Input):
                lines += [self.scope.comment(node), f"{name} = {self.scope.vector_text(node, width)}"]
            elif self.careful:
                lines.append(f"{name} = as_float64(first({self._read_name(node, part)}))")
            elif not self.is_held(node) or part.at is None:
                lines.append(f"{name} = {self._loaded(node, part)}")
        return lines

    def _read_name(self, node: Input, part: Part) -> str:
        """What a part of an input is called as it was read, in the type of the first path."""
        return self.scope.vector_name(node, part.width(Width(self.scope.program.compute, self.team.lanes)))

    def read(self, roots: list[Node], part: Part) -> list[str]:
        """For the careful path, lines that read the inputs that ``roots`` need, whole vectors at a time."""
        return [
            f"{self._read_name(node, part)} = {self._loaded(node, part)}"
            for node in self.scope.vectors_for(roots)
            if isinstance(node, Input) and (not self.is_held(node) or part.at is None)
        ]

    def _loaded(self, node: Input, part: Part) -> str:
        loops = self.nest.loops
        if loops.vector not in node.axes:
            pointer = node.name if node.at_start else self.nest.step_pointer(node)
            offset = self._whole_offset(node) if node.at_start else "0"
            return self._in_compute_type(f"{self._load(node)}({pointer}, {offset}, 1)", node)
        pointer = self.nest.step_pointer(node)
        if node.at_start:
            pointer = f"advance({node.name}, {self._whole_offset(node)})"
        lanes = self.team.lanes
        text = f"{self._load(node)}({pointer}, {self.place(node, part.index)}, {lanes})"
        return self._in_compute_type(text, node)

    def _in_compute_type(self, text: str, node: Input) -> str:
        return Width(self.scope.program.compute, self.team.lanes).converted(text, node.dtype)

    def _load(self, node: Input) -> str:
        """How an input is read: what is shared by rows is kept near, and nothing writes to it meanwhile."""
        if self.is_held(node):
            return "load_once"
        return "load_constant" if self.nest.is_shared(node) else "load"

    def _whole_offset(self, node: Input) -> str:
        return self.nest.offset(node, {*self.nest.unit_axes(node), *self.nest.steps})

    def place(self, array: Input | Output, index: str) -> str:
        """Where the position ``index`` along the vector's axis lies behind a pointer to a step."""
        stride = self.nest.stride(array, self.nest.loops.vector or "")
        return index if stride == "1" else f"{index} * ({as_python(stride)})"

    def row_value(self, node: Input) -> str:
        """The expression that reads a row-sized input."""
        offset = self.nest.offset(node, self.nest.unit_axes(node))
        if self.nest.loops.vector in node.axes:
            place = self.place(node, "i")
            offset = place if offset == "0" else f"{offset} + {place}"
        return self.width.converted(f"load_constant({node.name}, {offset}, 1)", node.dtype)

    # Going over elements

    def parts(self) -> list[Part]:
        """The accesses of a thread that are written out."""
        assert self.team.vectors is not None
        if self.nest.loops.vector is None:
            return [Part("0", 0)]
        return [self._part(at) for at in range(self.team.vectors)]

    def _part(self, at: int) -> Part:
        whole = (at + 1) * self.team.threads * self.team.lanes <= int(self.length)
        return Part(f"i_{at}", at, "" if whole else f"inside_{at}")

    def positions(self) -> list[str]:
        """Lines that give a thread's positions; one past the end is moved to the last, and marked."""
        if self.team.vectors is None or self.nest.loops.vector is None:
            return []
        lines, lanes = [], self.team.lanes
        for part in self.parts():
            start = (part.at or 0) * self.team.threads * lanes
            index = f"member * {lanes}" + (f" + {start}" if start else "")
            if part.condition:
                lines.append(f"{part.condition} = {index} < {self.length}")
                index = f"at_most({index}, {int(self.length) - lanes})"
            lines.append(f"{part.index} = {index}")
        return lines

    def over(self, roots: list[Node], work: Work) -> list[str]:
        """``work`` for every part of a row; ``roots`` are the values that it needs."""
        if self.team.vectors is not None:
            lines = []
            for part in self.parts():
                made = self._done(roots, work, part)
                if work.apart and part.condition and made:
                    made = only_if([part.condition], made)
                lines += made
            return lines
        inputs = [n for n in self.scope.vectors_for(roots) if isinstance(n, Input) and not n.at_start]
        return self.over_steps(self.nest.step_pointers(inputs), roots, work)

    def _done(self, roots: list[Node], work: Work, part: Part) -> list[str]:
        """``work`` on a part: on whole vectors, or, in the careful path, lane by lane.

        In float64 every lane takes two registers, and a vector's would take twice as many as the first path
        needs; vectors turn by a lane at a time, so that the first one is next.
        """
        if not self.careful:
            return [*work.before(part), *work.body(part), *work.after(part)]
        wide = [n for n in self.scope.vectors_for(roots) if isinstance(n, Input) and self.scope.is_wide(n)]
        names = [self._read_name(node, part) for node in wide]
        turned = [f"{name} = pushed({name}, first({name}))" for name in names] if self.team.lanes > 1 else []
        lines = [*work.body(part), *turned]
        if self.team.lanes > 1:
            lines = fill("cuda/rows.py", "lanes", {"body": lines}, LANES=self.team.lanes)
        return [*self.read(roots, part), *work.before(part), *lines, *work.after(part)]

    def over_steps(
        self, start: list[str], roots: list[Node], work: Work, close: list[str] | None = None
    ) -> list[str]:
        """``work`` in a loop over a thread's vectors, each of its steps between ``start`` and ``close``."""
        lines = self._over_vectors(self._done(roots, work, Part("i")))
        steps = self.nest.steps
        if not steps:
            return [*start, *lines, *(close or [])]
        lengths = [as_python(self.nest.length(name)) for name in steps]
        indices = []
        for at, name in enumerate(steps):
            inner = as_python(product(self.nest.length(other) for other in steps[at + 1 :]))
            text = "step" if inner == "1" else f"quotient(step, {inner})"
            indices.append(
                f"{self.nest.index(name)} = {text if at == 0 else f'remainder({text}, {lengths[at]})'}"
            )
        return fill(
            "cuda/rows.py",
            "steps",
            {"body": [*indices, *start, *lines, *(close or [])]},
            START="quotient(member, PER_STEP)".replace("PER_STEP", str(self.team.per_step)),
            STOP=as_python(product(self.nest.length(name) for name in steps)),
            GROUPS=self.team.groups,
        )

    def _over_vectors(self, lines: list[str]) -> list[str]:
        if self.nest.loops.across:
            return lines
        per_step = self.team.per_step
        first = "member" if per_step == self.team.threads else f"remainder(member, {per_step})"
        holes = {"body": lines}
        start = f"{first} * {self.team.lanes}"
        stop = as_python(self.length)
        return fill("cuda/rows.py", "vectors", holes, START=start, STOP=stop, STEP=per_step * self.team.lanes)

    # Putting together

    def together(self, names: list[tuple[str, str]], *, of_steps: bool = False) -> list[str]:
        """Lines that add up, or find the largest of, what the team's threads have under these names.

        With ``of_steps`` those of a step of the loops around the vectors.
        """
        return self.exchange.together(names, self.width, self.team, of_steps=of_steps)

    def kept(self, text: str, part: Part, neutral: str) -> str:
        """``text``, or what changes nothing where a thread has no such part."""
        return f"keep({text}, {part.condition}, {neutral})" if part.condition else text

    # What the first path relies on

    def check(self, roots: list[Node]) -> None:
        """Note what has to hold of the row-sized values that elements are computed from."""
        if self.careful or self.width.dtype == "float64":
            return
        vectors = self.scope.vectors_for(roots)
        used = [operand for vector in vectors for operand in operands(vector)]
        for scalar in [*used, *(root for root in roots if not self.scope.is_vector(root))]:
            if self.scope.is_vector(scalar) or isinstance(scalar, Const) or scalar in self.checked:
                continue
            self.checked.add(scalar)
            if scalar.kind == "bool":
                continue
            self.finite.add(scalar)
            factor = any(isinstance(v, Binary) and v.op == "mul" and scalar in operands(v) for v in vectors)
            from_cotangent = any(
                isinstance(node, Input) and node.role == "cotangent" for node in topological([scalar])
            )
            check = "is_moderate" if factor and not from_cotangent else "fits_float32"
            self.conditions.append(f"{check}({self.scope.row_name(scalar, self.width)})")

    def check_others(self, nodes: Sequence[Node]) -> None:
        """Note that all row-sized values among ``nodes``, operands first, have to be finite.

        Elsewhere than in sums and products one that is not may go unseen: x / inf is 0.
        """
        if self.careful or self.width.dtype == "float64":
            return
        users: dict[Node, list[Node]] = {}
        conditions = []
        for node in reversed(nodes):
            if self.scope.is_vector(node):
                continue
            for operand in operands(node):
                users.setdefault(operand, []).append(node)
            as_given = isinstance(node, Input) and node.dtype != "float64"
            if as_given or isinstance(node, Const) or node.kind == "bool" or node in self.finite:
                continue
            if not any(user in self.finite and _shows(user, node) for user in users.get(node, ())):
                conditions.append(f"is_finite({self.scope.row_name(node, self.width)})")
            self.finite.add(node)
        self.conditions += reversed(conditions)


def _shows(user: Node, operand: Node) -> bool:
    """Whether a value is infinite or NaN if this operand of it is, whatever the others are."""
    match user:
        case Unary(op, _):
            return op in ("neg", "square", "sqrt", "abs")
        case Binary("div", left, _):
            return operand is left
        case Binary(op, _, _):
            return op in ("add", "sub", "mul")
        case Cast():
            return True
    return False
