"""Algebra on programs: fewer reductions, fewer operations, row-sized work taken out of the loops over features.

    sum[d](g * r + c * k)        -->   r * sum[d](g)           with c = x - mean[d](x), r and k without d
    x * 1.0 + 0.0                -->   x
    c * r / s                    -->   c * (r / s)             with r and s without d

Rules are local: a node whose operands are simplified already goes in, what replaces it comes out. They are
applied in sweeps until nothing changes. Rules on single values are in ``scalars.py``,
the order of products in ``products.py``.
"""

from __future__ import annotations

from lncompile.errors import CompilerBug
from lncompile.ir import Binary, Const, Input, Node, Program, Reduce, Unary, depending_on, rewrite, use_counts
from lncompile.passes.products import ordered_product
from lncompile.passes.scalars import simplify_scalar

#: Sweeps needed so far: 7, by layer norm's gradient. Many more mean that two rules undo each other.
_MAX_SWEEPS = 60


def simplify(program: Program) -> Program:
    """``program`` with the same meaning in exact arithmetic and no more reductions than before."""
    for _ in range(_MAX_SWEEPS):
        swept = _sweep(program)
        if all(new.value is old.value for new, old in zip(swept.outputs, program.outputs, strict=True)):
            return _merge_sums(program)
        program = swept
    raise CompilerBug(f"simplify does not settle on {program.name}")


def _sweep(program: Program) -> Program:
    uses = use_counts(program)
    late = _late_reductions(program)
    used_once = {node for node, count in uses.items() if count == 1}

    def rule(node: Node) -> Node | None:
        if isinstance(node, Reduce):
            return _simplify_reduce(node, program, late)
        return simplify_scalar(node) or ordered_product(node, used_once) or _products_last(node, used_once)

    return rewrite(program, rule)


def _late_reductions(program: Program) -> set[Node]:
    """Values that depend on a reduction which itself depends on a cotangent: known only after a pass over the row."""
    order = program.nodes
    from_cotangent = depending_on(order, lambda n: isinstance(n, Input) and n.role == "cotangent")
    return depending_on(order, lambda n: isinstance(n, Reduce) and n in from_cotangent)


def _simplify_reduce(node: Reduce, program: Program, late: set[Node]) -> Node | None:
    if node.op not in ("sum", "mean"):
        return None
    return _vanishing(node) or _hoisted(node) or _split(node, program, late) or _nested(node)


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
        case Unary("neg", value):
            return Unary("neg", Reduce(node.op, value, node.over))
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
    """The reduction of one side of a sum; what it does not vary over it is only multiplied by."""
    varying = node.over & side.axes
    constant = node.over - side.axes
    part: Node = Reduce(node.op, side, varying) if varying else side
    if constant and node.op == "sum":
        part = Binary("mul", part, Const(float(program.count(constant))))
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


def _products_last(node: Node, used_once: set[Node]) -> Node | None:
    """(p + q) + t = (t + q) + p with p, q products as wide as the sum: each is then fused with an addition."""
    match node:
        case Binary("add" | "sub" as op, Binary("add", p, q) as inner, t) if (
            inner in used_once
            and _is_product(p, node.axes)
            and _is_product(q, node.axes)
            and not _is_product(t, node.axes)
        ):
            return Binary("add", Binary("add", t, q) if op == "add" else Binary("sub", q, t), p)
    return None


def _is_product(node: Node, axes: frozenset[str]) -> bool:
    return isinstance(node, Binary) and node.op == "mul" and node.axes == axes


def _merge_sums(program: Program) -> Program:
    """sum(a) + sum(b) = sum(a + b) where neither sum is used elsewhere: one accumulator instead of two."""
    uses = use_counts(program)

    def rule(node: Node) -> Node | None:
        match node:
            case Binary("add" | "sub" as op, Reduce("sum" | "mean", a, over) as left, Reduce(_, b, _) as right) if (
                left.op == right.op
                and over == right.over
                and uses.get(left, 0) == uses.get(right, 0) == 1
                and not left.label
                and not right.label
                and a.axes == b.axes
            ):
                return Reduce(left.op, Binary(op, a, b), over)
        return None

    return rewrite(program, rule)
