"""The intermediate representation: a program of nine node types over named axes.

    node    := Input | Const | Unary | Binary | Select | Reduce | Cast | Take | Stack
    program := Input* Output*

Every node carries the set of axes that it varies over; a value that lacks an axis is the same all along it,
so broadcasting is never written down. Nodes are compared by identity and shared, so a program is a graph;
:class:`Interner` builds each distinct node once, which makes every rewrite eliminate common subexpressions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from lncompile.errors import CompilerBug
from lncompile.interface import Role

Axes = frozenset[str]
Kind = Literal["real", "bool"]

#: op -> how it prints.
UNARY = {
    "neg": "-{}",
    "square": "square({})",
    "sqrt": "sqrt({})",
    "rsqrt": "rsqrt({})",
    "exp": "exp({})",
    "log": "log({})",
    "tanh": "tanh({})",
    "sigmoid": "sigmoid({})",
    "erf": "erf({})",
    "abs": "abs({})",
}
ARITHMETIC = {
    "add": "{} + {}",
    "sub": "{} - {}",
    "mul": "{} * {}",
    "div": "{} / {}",
    "maximum": "maximum({}, {})",
    "minimum": "minimum({}, {})",
}
COMPARE = {
    "lt": "{} < {}",
    "le": "{} <= {}",
    "gt": "{} > {}",
    "ge": "{} >= {}",
    "eq": "{} == {}",
    "ne": "{} != {}",
}
BINARY = ARITHMETIC | COMPARE

#: Reductions of the language, and the parts of one moments reduction (``passes/moments.py``):
#: ``mean_high`` is the mean rounded to the compute type, ``mean_low`` what that lost, ``variance`` the mean
#: squared deviation.
MOMENTS = ("mean_high", "mean_low", "variance")
REDUCE = ("sum", "mean", "max", *MOMENTS)
#: What a reduction of no elements gives; the others NaN, like NumPy's mean.
_OF_NOTHING = {"sum": 0.0, "max": -math.inf}


@dataclass(frozen=True, slots=True)
class Part:
    """Where an array lies that is a part of ``array``, which has the axes ``dims``.

    ``layout`` is all of that array in its order in memory, an axis that the part has one position of as its
    number of positions; ``at`` are those positions in the same order (``passes/unstack.py``).
    """

    array: str
    dims: tuple[str, ...]
    layout: tuple[str | int, ...]
    at: tuple[int, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Input:
    """An array given to the program; ``dims`` are its axes in their order in memory.

    Along the axes ``at_start`` it stands for its first position alone (``passes/offsets.py``).
    """

    name: str
    dims: tuple[str, ...]
    dtype: str
    role: Role = "input"
    of: str | None = None
    at_start: Axes = frozenset()
    part: Part | None = None
    axes: Axes = field(init=False)
    kind: Kind = "real"

    def __post_init__(self) -> None:
        object.__setattr__(self, "axes", frozenset(self.dims) - self.at_start)

    @property
    def array(self) -> str:
        """The name of the whole array."""
        return self.part.array if self.part else self.name

    @property
    def layout(self) -> tuple[str | int, ...]:
        """The whole array in its order in memory: axes, and numbers of positions of which this has one."""
        return self.part.layout if self.part else self.dims


@dataclass(frozen=True, eq=False, slots=True)
class Const:
    """A number, or a truth value, known when compiling."""

    value: float | bool
    axes: Axes = frozenset()
    kind: Kind = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", "bool" if isinstance(self.value, bool) else "real")


@dataclass(frozen=True, eq=False, slots=True)
class Unary:
    """An elementwise function of one value."""

    op: str
    operand: Node
    label: str = ""
    axes: Axes = field(init=False)
    kind: Kind = "real"

    def __post_init__(self) -> None:
        object.__setattr__(self, "axes", self.operand.axes)


@dataclass(frozen=True, eq=False, slots=True)
class Binary:
    """An elementwise function of two values; comparisons give truth values."""

    op: str
    left: Node
    right: Node
    label: str = ""
    axes: Axes = field(init=False)
    kind: Kind = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "axes", self.left.axes | self.right.axes)
        object.__setattr__(self, "kind", "bool" if self.op in COMPARE else "real")


@dataclass(frozen=True, eq=False, slots=True)
class Select:
    """``chosen`` where ``condition`` holds and ``other`` elsewhere."""

    condition: Node
    chosen: Node
    other: Node
    label: str = ""
    axes: Axes = field(init=False)
    kind: Kind = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "axes", self.condition.axes | self.chosen.axes | self.other.axes)
        object.__setattr__(self, "kind", self.chosen.kind)


@dataclass(frozen=True, eq=False, slots=True)
class Reduce:
    """A statistic of a value over some of its axes."""

    op: str
    operand: Node
    over: Axes
    label: str = ""
    axes: Axes = field(init=False)
    kind: Kind = "real"

    def __post_init__(self) -> None:
        object.__setattr__(self, "axes", self.operand.axes - self.over)


@dataclass(frozen=True, eq=False, slots=True)
class Cast:
    """The value rounded to ``dtype``; arithmetic goes on in the program's compute type."""

    operand: Node
    dtype: str
    label: str = ""
    axes: Axes = field(init=False)
    kind: Kind = "real"

    def __post_init__(self) -> None:
        object.__setattr__(self, "axes", self.operand.axes)


@dataclass(frozen=True, eq=False, slots=True)
class Take:
    """The value at one position of an axis that it varies over. Equations alone have it."""

    operand: Node
    axis: str
    position: int
    label: str = ""
    axes: Axes = field(init=False)
    kind: Kind = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "axes", self.operand.axes - {self.axis})
        object.__setattr__(self, "kind", self.operand.kind)


@dataclass(frozen=True, eq=False, slots=True)
class Stack:
    """One value for each position of an axis that none of them varies over. Equations alone have it."""

    parts: tuple[Node, ...]
    axis: str
    label: str = ""
    axes: Axes = field(init=False)
    kind: Kind = "real"

    def __post_init__(self) -> None:
        together = frozenset(axis for part in self.parts for axis in part.axes)
        object.__setattr__(self, "axes", together | {self.axis})


Node = Input | Const | Unary | Binary | Select | Reduce | Cast | Take | Stack


@dataclass(frozen=True, eq=False, slots=True)
class Output:
    """An array that the program fills; ``value`` is repeated along ``dims`` that it does not vary over."""

    name: str
    value: Node
    dims: tuple[str, ...]
    dtype: str
    role: Role = "output"
    of: str | None = None
    part: Part | None = None

    @property
    def array(self) -> str:
        """The name of the whole array."""
        return self.part.array if self.part else self.name

    @property
    def layout(self) -> tuple[str | int, ...]:
        """The whole array in its order in memory: axes, and numbers of positions of which this has one."""
        return self.part.layout if self.part else self.dims


@dataclass(frozen=True, slots=True)
class Axis:
    """A named axis, and its size where that is known when compiling.

    Feature axes are those that a unit of work runs over: in a program of an equation the axes that
    statistics are taken over, in a stage of one (``passes/stages.py``) what a kernel loops over. An axis may
    be a merger of adjacent ``parts`` (``passes/collapse.py``), or count the stretches of ``per`` positions of
    the axis ``of``; of up to ``most``, the more positions a call has (``emit/nest.py``).
    """

    name: str
    feature: bool
    size: int | None
    parts: tuple[Axis, ...] = ()
    of: Axis | None = None
    per: int = 1
    most: int = 0


@dataclass(frozen=True, eq=False)
class Program:
    """Inputs, outputs and the axes of the first input in their order in memory."""

    name: str
    axes: tuple[Axis, ...]
    compute: str
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    returns_tuple: bool = False

    @property
    def arrays(self) -> tuple[Input | Output, ...]:
        """Inputs and outputs."""
        return (*self.inputs, *self.outputs)

    @property
    def names(self) -> frozenset[str]:
        """The names of inputs and outputs, and of the whole arrays that some are parts of."""
        return frozenset(name for array in self.arrays for name in (array.name, array.array))

    @property
    def features(self) -> Axes:
        """The names of the feature axes."""
        return frozenset(axis.name for axis in self.axes if axis.feature)

    @property
    def batch(self) -> Axes:
        """The names of the batch axes."""
        return frozenset(axis.name for axis in self.axes if not axis.feature)

    def ordered(self, names: Axes) -> tuple[str, ...]:
        """These axes in their order in memory."""
        return tuple(axis.name for axis in self.axes if axis.name in names)

    def count(self, over: Axes) -> int:
        """The number of positions along feature axes: what a mean divides by."""
        product = 1
        for axis in self.axes:
            if axis.name in over:
                assert axis.size is not None, (
                    f"the size of batch axis {axis.name} is not known when compiling"
                )
                product *= axis.size
        return product

    @property
    def nodes(self) -> list[Node]:
        """Every node that an output depends on, operands before users."""
        return topological(output.value for output in self.outputs)


def operands(node: Node) -> tuple[Node, ...]:
    """The values that a node is computed from."""
    match node:
        case Input() | Const():
            return ()
        case Unary() | Reduce() | Cast() | Take():
            return (node.operand,)
        case Stack():
            return node.parts
        case Binary():
            return (node.left, node.right)
        case Select():
            return (node.condition, node.chosen, node.other)


def with_operands(node: Node, new: tuple[Node, ...]) -> Node:
    """The same operation on other operands; the same node where they are the same."""
    if all(a is b for a, b in zip(operands(node), new, strict=True)):
        return node
    match node:
        case Input() | Const():
            return node
        case Unary():
            return Unary(node.op, new[0], node.label)
        case Reduce():
            return Reduce(node.op, new[0], node.over, node.label)
        case Cast():
            return Cast(new[0], node.dtype, node.label)
        case Take():
            return Take(new[0], node.axis, node.position, node.label)
        case Stack():
            return Stack(new, node.axis, node.label)
        case Binary():
            return Binary(node.op, new[0], new[1], node.label)
        case Select():
            return Select(new[0], new[1], new[2], node.label)


def rebuilt(
    nodes: Iterable[Node], replaced: Mapping[Node, Node], rule: Callable[[Node], Node] = lambda node: node
) -> dict[Node, Node]:
    """What each of ``nodes``, operands first, becomes: ``replaced``, or else ``rule`` of it anew."""
    mapped = dict(replaced)
    for node in nodes:
        if node not in mapped:
            mapped[node] = rule(with_operands(node, tuple(mapped[operand] for operand in operands(node))))
    return mapped


def label_of(node: Node) -> str:
    """The name that the equation gives to a value, or ''."""
    match node:
        case Input():
            return node.name
        case Const():
            return ""
        case _:
            return node.label


def with_label(node: Node, label: str) -> Node:
    """``node`` under a name, if it has none yet."""
    if not label or isinstance(node, Input | Const) or node.label:
        return node
    return replace(node, label=label)


def topological(roots: Iterable[Node], known: Container[Node] = ()) -> list[Node]:
    """The roots and all that they depend on, operands before users, in a reproducible order.

    What is ``known``, and what that depends on, is left out.
    """
    order: dict[Node, None] = {}
    stack: list[tuple[Node, bool]] = [(root, False) for root in reversed(list(roots))]
    while stack:
        node, ready = stack.pop()
        if node in order or node in known:
            continue
        if ready:
            order[node] = None
        else:
            stack.append((node, True))
            stack.extend((operand, False) for operand in reversed(operands(node)))
    return list(order)


def up_to_reductions(roots: Iterable[Node]) -> list[Node]:
    """The roots and what they depend on element by element: the walk goes no further than reductions."""
    found: dict[Node, None] = {}
    stack = [*roots]
    while stack:
        node = stack.pop()
        if node not in found:
            found[node] = None
            if not isinstance(node, Reduce):
                stack.extend(operands(node))
    return list(found)


def use_counts(program: Program) -> dict[Node, int]:
    """How many nodes and outputs use each node."""
    counts: dict[Node, int] = {}
    for node in program.nodes:
        for operand in operands(node):
            counts[operand] = counts.get(operand, 0) + 1
    for output in program.outputs:
        counts[output.value] = counts.get(output.value, 0) + 1
    return counts


def depending_on(nodes: Iterable[Node], is_source: Callable[[Node], bool]) -> set[Node]:
    """Those of ``nodes`` (operands before users) that are a source or depend on one."""
    reached: set[Node] = set()
    for node in nodes:
        if is_source(node) or any(operand in reached for operand in operands(node)):
            reached.add(node)
    return reached


def is_element(value: Node) -> bool:
    """Whether a value is one of an argument's elements, but for sign and rounding: the same everywhere."""
    match value:
        case Input():
            return True
        case Cast(operand) | Unary("neg" | "abs", operand) | Reduce("max", operand):
            return is_element(operand)
    return False


class Interner:
    """Builds each distinct node once: equal operations on the same operands are the same object."""

    def __init__(self) -> None:
        self._known: dict[object, Node] = {}

    def __call__(self, node: Node) -> Node:
        """The one node equal to ``node``, whose operands are interned already."""
        return self._known.setdefault(_key(node), node)


def _key(node: Node) -> object:
    # Operands by identity: they are interned before their users. Labels do not make values different.
    match node:
        case Input():
            return ("input", node.name, node.dims, node.at_start)
        case Const():
            return ("const", repr(node.value))
        case Unary():
            return (node.op, id(node.operand))
        case Reduce():
            return (node.op, id(node.operand), node.over)
        case Cast():
            return ("cast", id(node.operand), node.dtype)
        case Take():
            return ("take", id(node.operand), node.axis, node.position)
        case Stack():
            return ("stack", *map(id, node.parts), node.axis)
        case Binary():
            return (node.op, id(node.left), id(node.right))
        case Select():
            return ("select", id(node.condition), id(node.chosen), id(node.other))


def reduced(op: str, operand: Node, over: Axes) -> Node:
    """A reduction; over no axis it is the value itself, whose variance is zero."""
    if over:
        return Reduce(op, operand, over)
    return Const(0.0) if op in ("mean_low", "variance") else operand


def narrowed(node: Reduce, program: Program) -> Node:
    """``node``, over those of its axes alone that its operand varies over.

    Along the others a sum is a product with their number of positions, and a mean is the value itself. That
    number is not known for batch axes. Sums over those come from the gradient alone: they are linear in the
    cotangents of outputs, which have all batch axes, so that nothing but a zero can lack one.
    """
    operand, over = node.operand, node.over & node.operand.axes
    constant = node.over - over
    if not constant:
        return node
    if isinstance(operand, Const) and operand.value == 0 and node.op == "sum":
        return operand
    sizes_known = constant <= program.features
    if sizes_known and program.count(constant) == 0:
        return Const(_OF_NOTHING.get(node.op, math.nan))
    rest = reduced(node.op, operand, over)
    if node.op != "sum":
        return rest
    if not sizes_known:
        raise CompilerBug(f"a sum over {sorted(constant)} of a value that does not vary over a batch axis")
    return Binary("mul", rest, Const(float(program.count(constant))))


def rewrite(program: Program, rule: Callable[[Node], Node | None]) -> Program:
    """One sweep over the program, operands first: each node becomes what ``rule`` makes of it, if anything.

    What a rule returns may contain new nodes; they are interned, and a later sweep sees them. Where a value
    then varies over fewer axes, its reductions follow (:func:`narrowed`).
    """
    intern = Interner()
    interned: dict[Node, Node] = {}
    mapped: dict[Node, Node] = {}

    def settle(node: Node) -> Node:
        for part in topological([node], known=interned):
            moved = with_operands(part, tuple(interned[operand] for operand in operands(part)))
            legal = narrowed(moved, program) if isinstance(moved, Reduce) else moved
            fixed = intern(moved) if legal is moved else settle(with_label(legal, label_of(part)))
            interned[part] = interned[fixed] = fixed
        return interned[node]

    for node in program.nodes:
        rebuilt = settle(with_operands(node, tuple(mapped[operand] for operand in operands(node))))
        replacement = rule(rebuilt)
        mapped[node] = rebuilt if replacement is None else settle(with_label(replacement, label_of(node)))
    outputs = tuple(replace(output, value=mapped[output.value]) for output in program.outputs)
    return replace(program, outputs=outputs)
