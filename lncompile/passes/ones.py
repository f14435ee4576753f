"""Axes of one position are dropped: nothing varies along them, and nothing is to be gained from a loop.

    x [n c dots], dots of size 1, mean[n dots](x)    -->    x [n c], mean[n](x)

But where a statistic is over such axes alone, these stay: it is a value of its own, computed with the digits
and the range of one. The square of a float32 element may overflow, the mean of the squares may not.
"""

from __future__ import annotations

from dataclasses import replace

from lncompile.ir import Program, Reduce
from lncompile.passes.dimensions import with_dims


def without_ones(program: Program) -> Program:
    """``program`` over the axes that have more than one position, or whose sizes are not known."""
    ones = {axis.name for axis in program.axes if axis.size == 1}
    alone = [node.over for node in program.nodes if isinstance(node, Reduce) and node.over <= ones]
    ones = ones.difference(*alone)
    if not ones:
        return program
    program = with_dims(
        program, lambda old: tuple(name for name in old if name not in ones), lambda old: old - ones
    )
    return replace(program, axes=tuple(axis for axis in program.axes if axis.name not in ones))
