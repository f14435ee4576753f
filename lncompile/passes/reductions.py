"""Rules on sums and means: what does not vary leaves them, and a deviation from a mean sums to nothing.

    sum[d](g * r)                -->   r * sum[d](g)           with r without d
    sum[d](r * (x - mean[d](x))) -->   0.0                     with r a statistic of a cotangent
    mean[d](g + r)               -->   mean[d](g) + r          likewise
    sum[h](sum[w](x))            -->   sum[h w](x)

Applied in ``simplify.py``. A mean that its own operand deviates from stays whole, though: x * r - mean(x * r)
is a deviation, and what is known of those (here, and in ``moments.py``) is worth more than a product.

What is not of the gradient stays as the equation has it where a rule could cost digits: of numbers around a
million, mean(x - 1e6) and mean((x - mean x) * (y - mean y)) have seven, their parts none. And a NaN that
should have been seen, sum(x - mean x), is not made a 0; in a gradient others carry it.
"""

from __future__ import annotations

from dataclasses import dataclass

from lncompile.ir import Axes, Binary, Const, Input, Node, Program, Reduce, Unary, depending_on, narrowed


@dataclass(frozen=True)
class Gradients:
    """What a program has of a gradient: all that depends on a cotangent, and what is known late of it.

    ``late`` are the values that follow from a reduction of a cotangent: known only after a pass over the row.
    """

    of: frozenset[Node]
    late: frozenset[Node]


def gradients_in(program: Program) -> Gradients:
    """The parts of ``program`` that belong to a gradient."""
    nodes = program.nodes
    of = depending_on(nodes, lambda node: isinstance(node, Input) and node.role == "cotangent")
    late = depending_on(nodes, lambda node: isinstance(node, Reduce) and node in of)
    return Gradients(frozenset(of), frozenset(late))


def centres(program: Program) -> set[Node]:
    """The means that their own operand is compared to: x - mean(x), mean(x) - x."""
    return {mean for mean in map(_centre, program.nodes) if mean is not None}


def simplify_reduction(node: Reduce, program: Program, gradients: Gradients) -> Node | None:
    """What replaces a sum or mean, whose operand is simplified already; None where no rule applies."""
    if node.op not in ("sum", "mean"):
        return None
    return (
        without_sign(node)
        or _vanishing(node, gradients)
        or _hoisted(node)
        or _split(node, program, gradients)
        or _nested(node)
    )


def without_sign(node: Reduce) -> Node | None:
    """sum(-x) = -sum(x), also where something deviates from a mean: both then lose the sign."""
    match node.operand:
        case Unary("neg", value) if node.op in ("sum", "mean"):
            return Unary("neg", Reduce(node.op, value, node.over))
    return None


def _vanishing(node: Reduce, gradients: Gradients) -> Const | None:
    """sum(k * (x - mean x)) = 0 where k does not vary, and so is any mean of a deviation from the mean."""
    factors, core = _factors(node.operand, node.over)
    if not any(value in gradients.of for value in (*factors, core)):
        return None
    mean = _centre(core)
    return Const(0.0) if mean and mean.over <= node.over else None


def _centre(value: Node) -> Reduce | None:
    """The mean that ``value`` is a deviation from, if it is one."""
    match value:
        case Binary("sub", subject, Reduce("mean", averaged) as mean) if averaged is subject:
            return mean
        case Binary("sub", Reduce("mean", averaged) as mean, subject) if averaged is subject:
            return mean
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


def _split(node: Reduce, program: Program, gradients: Gradients) -> Node | None:
    """sum(a + b) = sum(a) + sum(b), where that makes a part vanish or spares a pass over the row."""
    match node.operand:
        case Binary("add" | "sub" as op, a, b):
            parts = [_part(node, side, program, gradients) for side in (a, b)]
            waits = any(_waits(side, node.over, gradients) for side in (a, b))
            if waits or any(map(_is_zero, parts)):
                return Binary(op, parts[0], parts[1])
        case Binary("mul", a, b):
            # (a + k) * c with k of the gradient: distribute, if its part then vanishes. That x and mean x are
            # of the equation, though, keeps x - mean x whole where its factor is the deviation.
            for total, factor in ((a, b), (b, a)):
                match total:
                    case Binary("add" | "sub" as op, left, right):
                        sides = [left, right]
                        parts = [_part(node, Binary("mul", s, factor), program, gradients) for s in sides]
                        if any(_is_zero(parts[at]) and sides[at] in gradients.of for at in (0, 1)):
                            return Binary(op, parts[0], parts[1])
    return None


def _part(node: Reduce, side: Node, program: Program, gradients: Gradients) -> Node:
    """The reduction of one side of a sum, which may vary over fewer axes."""
    part = narrowed(Reduce(node.op, side, node.over), program)
    return (isinstance(part, Reduce) and _vanishing(part, gradients)) or part


def _is_zero(part: Node) -> bool:
    return isinstance(part, Const) and part.value == 0


def _waits(side: Node, over: Axes, gradients: Gradients) -> bool:
    """Whether one side of a sum, or a factor that leaves its reduction, is known late."""
    factors, core = _factors(side, over)
    return any(value in gradients.late for value in (*factors, core) if not value.axes & over)


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
