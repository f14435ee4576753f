"""Adjacent axes that every array and every reduction treats alike become one.

    x [n h w d], weight [d]                      -->    x [n*h*w d], weight [d]
    x [... h d], mean[h d](x), weight [h d]      -->    x [... h*d], mean[h*d](x), weight [h*d]

Then every norm on every layout is one of a handful of loop forms, and a schedule looks at two or three axes.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

from lncompile.ir import Axes, Axis, Input, Program, Reduce
from lncompile.passes.dimensions import with_dims


def collapse(program: Program) -> Program:
    """``program`` over as few axes as possible; a merged axis is called after its parts, ``h*d``."""
    for left, right in zip(program.axes, program.axes[1:], strict=False):
        if left.feature == right.feature and _always_together(left.name, right.name, program):
            return collapse(_merged(left, right, program))
    return program


def _always_together(left: str, right: str, program: Program) -> bool:
    for array in program.arrays:
        layout = array.layout
        if (left in layout) != (right in layout):
            return False
        if left in layout and layout.index(right) != layout.index(left) + 1:
            return False
    for node in program.nodes:
        chosen = node.over if isinstance(node, Reduce) else node.at_start if isinstance(node, Input) else ()
        if (left in chosen) != (right in chosen):
            return False
    return True


def _merged(left: Axis, right: Axis, program: Program) -> Program:
    name = f"{left.name}*{right.name}"
    sizes = (left.size, right.size)
    size = None if None in sizes else prod(size for size in sizes if size is not None)

    def dims(old: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name if axis == left.name else axis for axis in old if axis != right.name)

    def chosen(old: Axes) -> Axes:
        return old - {left.name, right.name} | {name} if left.name in old else old

    axes = tuple(
        Axis(name, left.feature, size, (left, right)) if axis is left else axis
        for axis in program.axes
        if axis is not right
    )
    return replace(with_dims(program, dims, chosen), axes=axes)
