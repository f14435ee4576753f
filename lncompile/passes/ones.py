"""Axes of one position are dropped: nothing varies along them, and nothing is to be gained from a loop.

    x [n c dots], dots of size 1, mean[n dots](x)    -->    x [n c], mean[n](x)

A statistic over such axes alone is the value itself, its variance zero.
"""

from __future__ import annotations

from dataclasses import replace

from lncompile.ir import Program
from lncompile.passes.dimensions import with_dims


def without_ones(program: Program) -> Program:
    """``program`` over the axes that have more than one position, or whose sizes are not known."""
    ones = {axis.name for axis in program.axes if axis.size == 1}
    if not ones:
        return program
    program = with_dims(
        program, lambda old: tuple(name for name in old if name not in ones), lambda old: old - ones
    )
    return replace(program, axes=tuple(axis for axis in program.axes if axis.name not in ones))
