"""Values as lines of a kernel for a team of threads: what is the same for a whole row has one lane."""

from __future__ import annotations

from dataclasses import replace

from lncompile.emit.cuda.words import RESERVED, suffixes
from lncompile.emit.names import derived
from lncompile.emit.scope import Scope, Width, constant
from lncompile.ir import Cast, Const, Input, Node, Program, Select
from lncompile.passes.loops import Loops


class TeamScope(Scope):
    """The names of one kernel's values; those of the careful path, row-sized ones too, have a suffix.

    ``words`` are the kernel's indices, sizes and lengths.
    """

    def __init__(self, program: Program, loops: Loops, words: frozenset[str]) -> None:
        self._suffixes = suffixes(starts_in(program))
        self._words = RESERVED | words
        super().__init__(program, loops, self._words)

    def taken(self, names: set[str]) -> set[str]:
        """What kernels make of ``names``, and what they would make arrays or words of."""
        fixed, ends = self._words | self.program.names, self._suffixes
        stems = {name.removesuffix(end) for name in fixed for end in ends if name.endswith(end)}
        return derived(names, ends) | stems

    def row_name(self, node: Node, width: Width) -> str:
        """A row-sized value by name."""
        if isinstance(node, Const):
            return constant(node.value)
        return self.names[node] + ("_wide" if width.suffix.startswith("_wide") else "")

    def vector_operand(self, node: Node, width: Width) -> str:
        """A value as an operand, by name."""
        if node in self._fused:
            return self.vector_text(node, width)
        if isinstance(node, Const) or not self.is_vector(node):
            return self.row_name(node, width)
        return self.vector_name(node, width)

    def row_text(self, node: Node, width: Width) -> str:
        """The expression of a row-sized value."""
        return self.vector_text(node, replace(width, lanes=1))

    def vector_text(self, node: Node, width: Width) -> str:
        """The expression of a value."""
        if isinstance(node, Cast) and not self.is_vector(node):
            rounded = f"as_{node.dtype}({self.row_name(node.operand, width)})"
            return width.converted(rounded, node.dtype)
        return super().vector_text(node, width)

    def filled(self, node: Node, width: Width) -> str:
        """A value as a vector, also where it is a number."""
        text = self.vector_operand(node, width)
        return width.filled(text) if isinstance(node, Const) or not self.is_vector(node) else text

    def _is_filled(self, node: Select) -> bool:
        """Whether lanes choose between two numbers, one of which then tells the vector's type."""
        return node.kind == "real" and isinstance(node.chosen, Const) and isinstance(node.other, Const)


def starts_in(program: Program) -> int:
    """How many inputs stand for their first elements."""
    return sum(isinstance(node, Input) and bool(node.at_start) for node in program.nodes)
