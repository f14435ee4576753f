"""Mean and mean of squared deviation become the parts of one reduction in one pass (Welford 1962, Chan 1979).

    mean = mean[d](x)                           high = mean_high[d](x)
    var  = mean[d](square(x - mean))    -->     low  = mean_low[d](x)
    c    = x - mean                             var  = variance[d](x)
                                                c    = x - high - low

The three parts of the same value are computed together, in one pass over it. The mean is a pair: ``high`` is
the mean rounded to the compute type, ``low`` what that rounding lost, so deviations stay right to the last
bit where the mean is a million times the deviation (``x - mean`` with a rounded mean loses all digits below
ulp(mean)). A sum of squared deviations is the variance times the number of features.

A mean that nothing deviates from stays an ordinary mean.
"""

from __future__ import annotations

from lncompile.ir import Binary, Const, Node, Program, Reduce, Unary, rewrite


def moments(program: Program) -> Program:
    """``program`` with every mean that something deviates from computed as moments."""
    # In this order: a variance is recognised by the deviation that the second sweep takes apart.
    program = rewrite(program, lambda node: _variance(node, program))
    program = rewrite(program, _deviation)
    paired = {
        (node.operand, node.over)
        for node in program.nodes
        if isinstance(node, Reduce) and node.op == "mean_high"
    }

    def joined(node: Node) -> Node | None:
        """The mean itself, where it is known as a pair already."""
        if isinstance(node, Reduce) and node.op == "mean" and (node.operand, node.over) in paired:
            return Binary("add", *_pair(node))
        return None

    return rewrite(program, joined)


def _variance(node: Node, program: Program) -> Node | None:
    match node:
        case Reduce(
            "sum" | "mean" as op, Unary("square", Binary("sub", value, Reduce("mean", subject, inner))), over
        ) if value is subject and inner == over:
            variance = Reduce("variance", subject, over)
            if op == "mean":
                return variance
            return Binary("mul", variance, Const(float(program.count(over))))
    return None


def _deviation(node: Node) -> Node | None:
    match node:
        case Binary("sub", value, Reduce("mean") as mean) if value.axes > mean.axes:
            high, low = _pair(mean)
            return Binary("sub", Binary("sub", value, high), low)
        case Binary("sub", Reduce("mean") as mean, value) if value.axes > mean.axes:
            high, low = _pair(mean)
            return Unary("neg", Binary("sub", Binary("sub", value, high), low))
    return None


def _pair(mean: Reduce) -> tuple[Reduce, Reduce]:
    label = mean.label or "mean"
    return (
        Reduce("mean_high", mean.operand, mean.over, f"{label}_high"),
        Reduce("mean_low", mean.operand, mean.over, f"{label}_low"),
    )
