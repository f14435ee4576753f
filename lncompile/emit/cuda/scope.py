"""Values as lines of a kernel for a team of threads: what is the same for a whole row has one lane."""

from __future__ import annotations

from dataclasses import replace

from lncompile.emit.scope import Scope, Width, constant
from lncompile.ir import Cast, Const, Node, Select


class TeamScope(Scope):
    """The names of one kernel's values; those of the careful path, row-sized ones too, have a suffix."""

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
