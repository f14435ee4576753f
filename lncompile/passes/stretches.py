"""Stretches: an axis as one that counts pieces of so many positions, and one that runs over a piece.

    x [n c], sum[n](x)    --chunked-->    x [n_blocks n c], sum[n_blocks n](x)    --unchunked-->    x [n c]

Arrays lie as before: the position along ``n`` that both tell together is what it was.
"""

from __future__ import annotations

from dataclasses import replace

from lncompile.ir import Axis, Node, Program, Reduce, rewrite
from lncompile.passes.dimensions import with_dims


def chunked(program: Program, name: str, per: int) -> tuple[Program, str]:
    """``program`` with an axis before ``name`` that counts its stretches of ``per``, and that axis' name."""
    axis = next(axis for axis in program.axes if axis.name == name)
    chunk = counting(axis, per, program)

    def dims(old: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(new for dim in old for new in ((chunk.name, dim) if dim == name else (dim,)))

    program = with_dims(program, dims, lambda old: old | {chunk.name} if name in old else old)
    axes = (new for other in program.axes for new in ((chunk, other) if other is axis else (other,)))
    return replace(program, axes=tuple(axes)), chunk.name


def unchunked(program: Program) -> Program:
    """``program`` with every axis whole again where an array has both its stretches and positions in them."""
    for chunk in program.axes:
        if chunk.of is not None:
            program = _whole(program, chunk.name, chunk.of.name)
    return program


def _whole(program: Program, chunk: str, name: str) -> Program:
    def joined(node: Node) -> Node | None:
        match node:
            case Reduce(op, Reduce(inner_op, value, inner), over) if (
                op == inner_op and chunk in over and name in inner
            ):
                return Reduce(op, value, inner | over)
        return None

    program = rewrite(program, joined)

    def dims(old: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dim for dim in old if dim != chunk or name not in old)

    return with_dims(program, dims, lambda old: old - {chunk} if name in old else old)


def counting(axis: Axis, per: int, program: Program, most: int = 0) -> Axis:
    """A new axis that counts stretches of ``per`` positions of ``axis``, or, for 0, of what a launch says.

    Where a call tells how many positions there are, stretches of fewer than ``most`` grow with their number.
    """
    taken = {other.name for other in program.axes}
    name = f"{axis.name.replace('*', '_')}_blocks"
    while name in taken:
        name += "_"
    size = None if axis.size is None or not per else -(-axis.size // per)
    return Axis(name, False, size, of=axis, per=per, most=most if axis.size is None else 0)
