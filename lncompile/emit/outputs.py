"""What kinds of outputs a stage has, whatever it is emitted for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from lncompile.ir import Node, Output, Program, Reduce
from lncompile.passes.loops import Loops
from lncompile.passes.stages import Stage


@dataclass(frozen=True)
class StageOutputs:
    """A stage, and how its outputs come about."""

    stage: Stage

    @property
    def program(self) -> Program:
        """What the kernel computes."""
        return self.stage.program

    @property
    def loops(self) -> Loops:
        """How it goes over its axes."""
        return self.stage.loops

    @cached_property
    def element_outputs(self) -> list[Output]:
        """Outputs that the loop over elements writes or adds to."""
        inside = self.loops.inside
        return [
            out
            for out in self.program.outputs
            if set(out.dims) & inside or (self.contribution(out).axes & inside and self.is_partial(out.value))
        ]

    @cached_property
    def written(self) -> list[Node]:
        """What an element contributes to each of those outputs."""
        return [self.contribution(out) for out in self.element_outputs]

    def is_partial(self, node: Node) -> bool:
        """Whether a node is a reduction that later stages finish."""
        return isinstance(node, Reduce) and node.over != self.loops.inside

    def contribution(self, out: Output) -> Node:
        """What an element or a row contributes to an output."""
        value = out.value
        return value.operand if isinstance(value, Reduce) and self.is_partial(value) else value


def if_given(out: Output, line: str) -> list[str]:
    """``line``, which writes to an output: only where a caller wants it if it is one that backward reads."""
    return [f"if is_given({out.name}):", f"    {line}"] if out.role == "saved" else [line]
