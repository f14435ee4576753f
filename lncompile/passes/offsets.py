"""Means and moments as plain sums, for kernels that add up in float64 and in stretches.

    mean = mean[n](x)              -->    s    = sum[n](x - x_start) / N
    var  = variance[n](x)                 q    = sum[n](square(x - x_start)) / N
                                          mean = x_start + s
                                          var  = maximum(q - square(s), 0)

``x_start`` is the first element, the pivot that all stretches share: their sums are merged by addition, and a
constant row has sums of zero. Chan, Golub, LeVeque 1983 give the cost of a pivot k deviations off the mean:
2 log2(k) bits of the variance. No element is farther off than sqrt(N) deviations (Samuelson 1968), so float64
has the bits of a float32 result to spare. Where the result itself is float64, a second pass adds up what is
left about the mean that the first one found.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from lncompile.ir import (
    MOMENTS,
    Axes,
    Binary,
    Cast,
    Const,
    Input,
    Node,
    Program,
    Reduce,
    Unary,
    rebuilt,
    rewrite,
    topological,
)


def offsets(program: Program, applies: Callable[[Reduce], bool]) -> Program:
    """``program`` with the means and moments that ``applies`` names as sums."""

    def rule(node: Node) -> Node | None:
        if not (isinstance(node, Reduce) and node.op in (*MOMENTS, "mean") and applies(node)):
            return None
        count = float(program.count(node.over))
        if node.op == "mean":
            return _mean(node.operand, node.over, count)
        high, low, variance = _moments(node.operand, node.over, count, program.compute)
        return {"mean_high": high, "mean_low": low, "variance": variance}[node.op]

    return rewrite(program, rule)


def _moments(value: Node, over: Axes, count: float, compute: str) -> tuple[Node, Node, Node]:
    start = at_start(value, over)
    mean = _mean(Binary("sub", value, start), over, count)
    high: Node = Binary("add", start, mean)
    if compute == "float32":
        high = Cast(high, "float32")
        offset, spread = mean, _mean(Unary("square", Binary("sub", value, start)), over, count)
        low: Node = Binary("add", Binary("sub", start, high), mean)
    else:
        first_low = Binary("add", Binary("sub", start, high), mean)
        centred = Binary("sub", Binary("sub", value, high), first_low)
        offset, spread = _mean(centred, over, count), _mean(Unary("square", centred), over, count)
        low = Binary("add", first_low, offset)
    variance = Binary("maximum", Binary("sub", spread, Unary("square", offset)), Const(0.0))
    return high, low, variance


def _mean(value: Node, over: Axes, count: float) -> Node:
    return Binary("div", Reduce("sum", value, over), Const(count))


def at_start(value: Node, over: Axes) -> Node:
    """``value`` at the first position along the axes ``over``."""
    kept: dict[Node, Node] = {}
    for node in topological([value]):
        if isinstance(node, Input):
            fixed = over & node.axes
            kept[node] = replace(node, at_start=node.at_start | fixed) if fixed else node
        elif isinstance(node, Reduce):
            # A statistic does not vary over the axes that it was taken over.
            assert not node.axes & over, "a mean of a statistic over other axes needs that statistic first"
            kept[node] = node
    return rebuilt(topological([value]), kept)[value]
