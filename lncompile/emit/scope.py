"""Values of a program as lines of a kernel: names, one line a value, fused multiply-adds.

Every line stands under a comment with the IR value that it came from::

    # y = (x - mean_high - mean_low) * t5 * weight + bias
    t7 = x_i - mean_high_f32
    ...
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from copy import copy
from dataclasses import dataclass

from lncompile.emit.names import RESERVED, derived
from lncompile.ir import (
    Binary,
    Cast,
    Const,
    Input,
    Node,
    Program,
    Reduce,
    Select,
    Unary,
    label_of,
    operands,
    topological,
    use_counts,
)
from lncompile.passes.loops import Loops
from lncompile.printer import expression, names_of

_FUNCTIONS = {"abs": "absolute"}
_OPERATORS = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "div": "/",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
    "eq": "==",
    "ne": "!=",
}


@dataclass(frozen=True)
class Width:
    """What a loop's vectors are: element type, lanes, and the suffix that keeps their names apart."""

    dtype: str
    lanes: int
    suffix: str = ""

    def filled(self, value: str) -> str:
        """An expression for a vector of equal lanes."""
        return f"{'f32x' if self.dtype == 'float32' else 'f64x'}({value}, {self.lanes})"

    def memory(self, length: int) -> str:
        """An expression for scratch memory of ``length`` elements."""
        return f"{'f32_memory' if self.dtype == 'float32' else 'f64_memory'}({length})"

    def converted(self, text: str, source: str) -> str:
        """``text``, of element type ``source``, in this width's type."""
        return text if source == self.dtype else f"as_{self.dtype}({text})"


class Scope:
    """The names of one kernel's values, and the text of an operation on them."""

    def __init__(self, program: Program, loops: Loops, reserved: frozenset[str]) -> None:
        nodes = program.nodes
        named = {name for array in program.arrays for name in (array.name, array.array)}
        named |= {label_of(node) for node in nodes}
        temporaries = {f"t{count}" for count in range(1, len(nodes) + 1)}
        self.program = program
        wholes = {array.part.array for array in program.arrays if array.part}
        known: set[str] = set()
        self.names: dict[Node, str] = {}
        # A value that is renamed is one more name that others are made of.
        while not known or not known >= set(self.names.values()):
            known |= named | temporaries | set(self.names.values())
            self.names = names_of(program, RESERVED | reserved | wholes | self.taken(known))
        self._loops = loops
        self._stems: dict[Node, str] = {}
        outputs = {output.name for output in program.outputs}
        starts = 0
        for node, name in self.names.items():
            # The arrays themselves are parameters of the kernel.
            if isinstance(node, Input) and node.at_start:
                starts += 1
                self.names[node] = f"{name}_start" if starts == 1 else f"{name}_start_{starts}"
            elif (isinstance(node, Input) or name in outputs) and not self.is_vector(node):
                self.names[node] = f"{name}_value"
            elif name in outputs:
                self._stems[node] = name
                self.names[node] = f"{name}_i"
        self._fused = _fusable(program, self.is_vector)

    def of_next_row(self) -> Scope:
        """The same values of the row after the current one, under names of their own."""
        units = set(self._loops.units)
        other = copy(self)
        differs = [node for node in self.names if node.axes & units or self.is_vector(node)]
        other.names = {**self.names, **{node: f"{self.names[node]}_next" for node in differs}}
        other._stems = {node: f"{stem}_next" for node, stem in self._stems.items()}
        return other

    def taken(self, names: set[str]) -> set[str]:
        """What no value can be called, since kernels make it of the ``names`` of arrays and values."""
        return derived(names)

    def is_vector(self, node: Node) -> bool:
        """Whether a value differs inside a row."""
        return bool(node.axes & self._loops.inside)

    def is_wide(self, node: Node) -> bool:
        """Whether a value differs from lane to lane."""
        return self._loops.vector in node.axes

    def comment(self, node: Node) -> str:
        """The IR value that the next lines compute."""
        return f"# {self.names[node]} = {expression(node, self.program, self.names, self._fused)}"

    def is_fused(self, node: Node) -> bool:
        """Whether a product is part of the multiply-add that uses it, and has no line."""
        return node in self._fused

    def vector_name(self, node: Node, width: Width) -> str:
        """The name of a vector value inside a loop."""
        if width.suffix:
            return self.stem(node, width)
        return f"{self.names[node]}_i" if isinstance(node, Input) else self.names[node]

    def stem(self, node: Node, width: Width) -> str:
        """What the names of other variables for a vector value begin with."""
        return f"{self._stems.get(node, self.names[node])}{width.suffix}"

    def memory_name(self, node: Node) -> str:
        """The name of the memory of a value that rows remember."""
        return f"{self._stems.get(node, self.names[node])}_memory"

    def vector_operand(self, node: Node, width: Width) -> str:
        """A value as an operand inside a loop: by name, row-sized ones in the loop's type."""
        if isinstance(node, Const):
            return constant(node.value)
        if node in self._fused:
            return self.vector_text(node, width)
        if self.is_vector(node):
            return self.vector_name(node, width)
        return self.names[node] if width.dtype == "float64" else f"{self.names[node]}_f32"

    def vector_text(self, node: Node, width: Width) -> str:
        """The expression of a vector value."""

        def text(operand: Node) -> str:
            return self.vector_operand(operand, width)

        match node:
            case Select(condition, chosen, other) if self._is_filled(node):
                return f"where({text(condition)}, {width.filled(text(chosen))}, {text(other)})"
            case Binary("add", left, right) if right in self._fused:
                return self._fma(right, text(left), text)
            case Binary("add", left, right) if left in self._fused:
                return self._fma(left, text(right), text)
            case Binary("sub", left, right) if left in self._fused:
                return self._fma(left, _negative(text(right)), text)
            case Binary("sub", left, right) if right in self._fused:
                a, b = map(text, _factors(right))
                return f"fma({_negative(a)}, {b}, {text(left)})"
        if isinstance(node, Cast):
            return f"{width.converted(f'as_{node.dtype}({text(node.operand)})', node.dtype)}"
        return operation(node, [text(operand) for operand in operands(node)])

    def added(self, node: Node, to: str, width: Width) -> str:
        """``to`` + ``node``, as a multiply-add where the value is a product of its own."""
        if node in self._fused:
            return self._fma(node, to, lambda operand: self.vector_operand(operand, width))
        return f"{to} + {self.vector_operand(node, width)}"

    def row_sized_text(self, node: Node, width: Width, is_wide: Callable[[Node], bool]) -> str:
        """The expression of a row-sized value, where some are vectors of the values of several rows."""

        def text(operand: Node) -> str:
            return constant(operand.value) if isinstance(operand, Const) else self.names[operand]

        match node:
            case Select(condition, chosen, other) if _chooses_numbers(node, is_wide):
                return f"where({text(condition)}, {width.filled(text(chosen))}, {text(other)})"

        if isinstance(node, Cast):
            rounded = f"as_{node.dtype}({text(node.operand)})"
            return rounded if node.dtype == "float64" else f"as_float64({rounded})"
        return operation(node, [text(operand) for operand in operands(node)])

    def _is_filled(self, node: Select) -> bool:
        """Whether a choice takes numbers that have to be made vectors."""
        return _chooses_numbers(node, self.is_wide)

    def row_operand(self, node: Node) -> str:
        """A row-sized value by name."""
        return constant(node.value) if isinstance(node, Const) else self.names[node]

    def vectors_for(self, roots: Iterable[Node], known: Collection[Node] = ()) -> list[Node]:
        """The vector values that ``roots`` are computed from inside one loop, in order.

        Of those that are ``known`` no operands are needed.
        """
        # A vector that is only reduced belongs to an earlier loop: the walk stops at row-sized values.
        reached: set[Node] = set()
        stack = [root for root in roots if self.is_vector(root)]
        while stack:
            node = stack.pop()
            if node in reached:
                continue
            reached.add(node)
            if node not in known:
                stack.extend(operand for operand in operands(node) if self.is_vector(operand))
        return [node for node in topological(roots) if node in reached]

    def _fma(self, product: Node, addend: str, text: Callable[[Node], str]) -> str:
        a, b = map(text, _factors(product))
        return f"fma({a}, {b}, {addend})"


def _chooses_numbers(node: Select, is_wide: Callable[[Node], bool]) -> bool:
    """Whether lanes choose between two numbers that all share, one of which then tells the vector's type."""
    wide = is_wide(node.chosen) or is_wide(node.other)
    return node.kind == "real" and is_wide(node.condition) and not wide


def operation(node: Node, texts: list[str]) -> str:
    """The text of one operation on named operands."""
    match node:
        case Unary("neg", _):
            return _negative(texts[0])
        case Unary(op, _):
            return f"{_FUNCTIONS.get(op, op)}({texts[0]})"
        case Binary(op, _, _) if op in _OPERATORS:
            return f"{texts[0]} {_OPERATORS[op]} {texts[1]}"
        case Binary(op, _, _):
            return f"{op}({texts[0]}, {texts[1]})"
        case Select():
            return f"where({', '.join(texts)})"
        case _:
            raise AssertionError(f"{node} is no elementwise operation")


def constant(value: float | bool) -> str:
    """A number in a kernel."""
    if isinstance(value, bool) or math.isfinite(value):
        return repr(value)
    return "NAN" if math.isnan(value) else "INFINITY" if value > 0 else "-INFINITY"


def _negative(text: str) -> str:
    return text[1:] if text.startswith("-") else f"-{text}"


def _factors(node: Node) -> tuple[Node, ...]:
    """The two factors of a product or a square; other values have none."""
    match node:
        case Binary("mul", left, right):
            return left, right
        case Unary("square", value):
            return value, value
    return ()


def _fusable(program: Program, is_vector: Callable[[Node], bool]) -> set[Node]:
    """Products and squares used once, by an addition or a sum over rows: its multiply-add computes them."""
    uses = use_counts(program)
    outputs = {output.value for output in program.outputs}
    fused: set[Node] = set()
    for node in program.nodes:
        match node:
            case Binary("add" | "sub", left, right):
                candidates = [right, left]
            case Reduce("sum" | "mean", operand, _):
                candidates = [operand]
            case _:
                continue
        for product in candidates:
            if _factors(product) and uses[product] == 1 and product not in outputs and is_vector(product):
                fused.add(product)
                break
    return fused
