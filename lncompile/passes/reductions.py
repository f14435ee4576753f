"""Rules on sums and means: what does not vary leaves them, and a deviation from a mean sums to nothing.

    sum[d](g * r)                -->   r * sum[d](g)           with r without d
    sum[d](r * (x - mean[d](x))) -->   0.0
    mean[d](x + r)               -->   mean[d](x) + r
    sum[h](sum[w](x))            -->   sum[h w](x)

Applied in ``simplify.py``. A mean that its own operand deviates from stays whole, though: x * r - mean(x * r)
is a deviation, and what is known of those (here, and in ``moments.py``) is worth more than a product.
"""

from __future__ import annotations

from lncompile.ir import Binary, Const, Node, Program, Reduce, Unary, narrowed


def centres(program: Program) -> set[Node]:
    """The means that their own operand is compared to: x - mean(x), mean(x) - x."""
    return {
        mean
        for node in program.nodes
        if isinstance(node, Binary) and node.op == "sub"
        for value, mean in ((node.left, node.right), (node.right, node.left))
        if isinstance(mean, Reduce) and mean.op == "mean" and mean.operand is value
    }


def simplify_reduction(node: Reduce, program: Program, late: set[Node]) -> Node | None:
    """What replaces a sum or mean, whose operand is simplified already; None where no rule applies.

    ``late`` are the values that are known only after a pass over the row of which this may be part.
    """
    if node.op not in ("sum", "mean"):
        return None
    return (
        without_sign(node)
        or _vanishing(node)
        or _hoisted(node)
        or _split(node, program, late)
        or _nested(node)
    )


def without_sign(node: Reduce) -> Node | None:
    """sum(-x) = -sum(x), also where something deviates from a mean: both then lose the sign."""
    match node.operand:
        case Unary("neg", value) if node.op in ("sum", "mean"):
            return Unary("neg", Reduce(node.op, value, node.over))
    return None


def _vanishing(node: Reduce) -> Node | None:
    """sum(k * (x - mean x)) = 0 where k does not vary, and so is any mean of a deviation from the mean."""
    _, core = _factors(node.operand, node.over)
    match core:
        case Binary("sub", value, Reduce("mean", subject, over)) if value is subject and over <= node.over:
            return Const(0.0)
        case Binary("sub", Reduce("mean", subject, over), value) if value is subject and over <= node.over:
            return Const(0.0)
    return None


def _hoisted(node: Reduce) -> Node | None:
    """sum(a * b) = a * sum(b) where a does not vary over the reduced axes."""
    match node.operand:
        case Binary("mul", a, b) if not a.axes & node.over:
            return Binary("mul", a, Reduce(node.op, b, node.over))
        case Binary("mul", a, b) if not b.axes & node.over:
            return Binary("mul", Reduce(node.op, a, node.over), b)
        case Binary("div", a, b) if not b.axes & node.over:
            return Binary("div", Reduce(node.op, a, node.over), b)
    return None


def _split(node: Reduce, program: Program, late: set[Node]) -> Node | None:
    """sum(a + b) = sum(a) + sum(b), where that makes a part vanish or spares a pass over the row."""
    match node.operand:
        case Binary("add" | "sub" as op, a, b):
            parts = [_part(node, side, program) for side in (a, b)]
            if any(_worth_splitting(part, node, late) for part in parts):
                return Binary(op, parts[0], parts[1])
        case Binary("mul", a, b):
            # (a + b) * k varies with k: distribute, if a part of the sum then leaves the reduction.
            for total, factor in ((a, b), (b, a)):
                match total:
                    case Binary("add" | "sub" as op, left, right):
                        parts = [_part(node, Binary("mul", side, factor), program) for side in (left, right)]
                        if any(isinstance(part, Const) for part in parts):
                            return Binary(op, parts[0], parts[1])
    return None


def _part(node: Reduce, side: Node, program: Program) -> Node:
    """The reduction of one side of a sum, which may vary over fewer axes."""
    part = narrowed(Reduce(node.op, side, node.over), program)
    if isinstance(part, Reduce) and _vanishing(part):
        return Const(0.0)
    return part


def _worth_splitting(part: Node, node: Reduce, late: set[Node]) -> bool:
    if not isinstance(part, Reduce):
        return True
    factors, _ = _factors(part.operand, node.over)
    return any(factor in late for factor in factors)


def _factors(value: Node, over: frozenset[str]) -> tuple[list[Node], Node]:
    """Factors of a product that do not vary over ``over``, and the rest."""
    factors: list[Node] = []
    while True:
        match value:
            case Binary("mul" | "div", rest, factor) if not factor.axes & over:
                factors.append(factor)
                value = rest
            case Binary("mul", factor, rest) if not factor.axes & over:
                factors.append(factor)
                value = rest
            case Unary("neg", rest):
                value = rest
            case _:
                return factors, value


def _nested(node: Reduce) -> Node | None:
    """sum over a of a sum over b is one sum over both."""
    match node.operand:
        case Reduce(op, value, over) if op == node.op:
            return Reduce(op, value, over | node.over)
    return None
