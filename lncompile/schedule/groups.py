"""Groups of few channels that lie innermost, as in n [h w] (g [c]): vectors hold channels of several groups.

sum[h w c](x)    -->    stage 1, lanes of g c: x_sum [n g c] = sum[h w](x)
                        stage 2, one a row:    mean [n g c] = sum[c](x_sum) / N, repeated along c
                        stage 3, lanes of g c: (x - mean) * rstd

What does not vary over h w leaves these sums, and sums over samples go the same way, so that in a backward
stage 1 has two of them, whose weights are a matter of stage 2:

sum[h w c](dy * (x - mean) * weight)       -->    sum[c](weight * s)        s = sum[h w](dy * (x - mean))
sum[n h w](dy * (x - mean) * rstd)                sum[n](rstd * s)
"""

from __future__ import annotations

from lncompile.ir import Const, Node, Program, Reduce, depending_on, operands, rewrite
from lncompile.passes.offsets import offsets
from lncompile.passes.products import factors_in_and_out, product
from lncompile.passes.stages import ready


def glued(program: Program, shortest_vector: int) -> tuple[str, str] | None:
    """The last two axes, where vectors should hold both though statistics are taken over the last alone.

    In groups of few channels that lie innermost, n [h w] (g [c]), a vector of c would be short. So the sums
    over h w are taken for every channel first, and what a group has in common is repeated for its channels.
    """
    if len(program.axes) < 3:
        return None
    outer, inner = program.axes[-2:]
    if inner.size is None or inner.size >= shortest_vector:
        return None
    for node in program.nodes:
        over = node.over if isinstance(node, Reduce) else frozenset()
        if inner.name in over and outer.name not in over and len(over) > 1:
            return outer.name, inner.name
    return None


def channels_first(program: Program, outer: str, inner: str) -> Program:
    """Sums over ``inner`` and others as sums over ``inner`` of sums over the others."""

    def both(node: Reduce) -> bool:
        return inner in node.over and outer not in node.over and bool(node.over - {inner})

    first = ready(program)
    program = offsets(program, lambda node: both(node) and node.operand in {n.operand for n in first})

    others = {node.over - {inner} for node in program.nodes if isinstance(node, Reduce) and both(node)}

    def rule(node: Node) -> Node | None:
        match node:
            case Reduce("sum" | "max" as op, value, over) if outer not in over:
                for of_channel in sorted(others, key=sorted):
                    if of_channel < over:
                        return Reduce(op, _without_factors(Reduce(op, value, of_channel)), over - of_channel)
        return None

    return rewrite(program, rule)


def _without_factors(node: Reduce) -> Node:
    """sum(a * (b * k)) = k * sum(a * b) where k does not vary over the reduced axes."""
    if node.op != "sum":
        return node
    inside, outside = factors_in_and_out(node)
    if not (outside and inside):
        return node
    return product([Reduce(node.op, product(inside), node.over), *outside])


def for_each_channel(program: Program, outer: str, inner: str) -> dict[Node, tuple[str, ...]]:
    """What has to be known for each position of both axes before the next stage, with its dimensions."""
    if not {outer, inner} <= {axis.name for axis in program.axes}:
        return {}
    reduced = depending_on(program.nodes, lambda node: isinstance(node, Reduce))
    results: dict[Node, tuple[str, ...]] = {}
    users = [(operands(node), node.axes) for node in program.nodes]
    users += [((out.value,), frozenset(out.dims)) for out in program.outputs]
    for values, axes in users:
        for value in values:
            in_common = outer in value.axes and inner not in value.axes and inner in axes
            if in_common and value not in reduced and not isinstance(value, Const):
                results[value] = program.ordered(value.axes | {inner})
    if results:
        return results
    return {n: program.ordered(n.axes) for n in ready(program) if {outer, inner} <= n.axes}
