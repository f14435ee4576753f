"""Algebra on programs: fewer reductions, fewer operations, row-sized work taken out of loops over features.

    sum[d](g * r + c * k)        -->   r * sum[d](g)           with c = x - mean[d](x), r and k without d
    x * 1.0 + 0.0                -->   x
    c * r / s                    -->   c * (r / s)             with r and s without d

Rules are local: a node whose operands are simplified already goes in, what replaces it comes out. They are
applied in sweeps until nothing changes. Rules on single values are in ``scalars.py``, those on sums and means
in ``reductions.py``, the order of products in ``products.py``.
"""

from __future__ import annotations

from lncompile.ir import Binary, Node, Program, Reduce, Unary, rewrite, use_counts
from lncompile.passes.products import ordered_product
from lncompile.passes.reductions import centres, gradients_in, simplify_reduction, without_sign
from lncompile.passes.scalars import simplify_scalar
from lncompile.passes.settled import settled


def simplify(program: Program) -> Program:
    """``program`` with the same meaning in exact arithmetic, and fewer reductions where it can.

    In a backward one sum may become two (``_split`` in ``reductions.py``): sum(a + r * b), with r a statistic
    of the cotangent, waits for a pass over the row that sum(a) and r * sum(b) do without.
    """
    program = _settled(program)
    while True:
        merged = _settled(_merge_sums(program))
        # Splitting may undo a merge, so only fewer reductions count as progress.
        if _reductions(merged) >= _reductions(program):
            return program
        program = merged


def _settled(program: Program) -> Program:
    program = rewrite(program, lambda node: None)  # equal values become one
    return settled(program, _sweep, "simplify")


def _reductions(program: Program) -> int:
    return sum(isinstance(node, Reduce) for node in program.nodes)


def _sweep(program: Program) -> Program:
    uses = use_counts(program)
    gradients = gradients_in(program)
    used_once = {node for node, count in uses.items() if count == 1}
    position = {axis.name: at for at, axis in enumerate(program.axes)}
    nodes, whole = set(program.nodes), centres(program)

    def rule(node: Node) -> Node | None:
        if isinstance(node, Reduce):
            # Of a node that this sweep made, only the next one knows whether it is a centre.
            if node not in nodes:
                return None
            return without_sign(node) if node in whole else simplify_reduction(node, program, gradients)
        return (
            simplify_scalar(node, program.compute)
            or _variance(node)
            or ordered_product(node, used_once, position, program.compute)
            or _products_last(node, used_once)
        )

    return rewrite(program, rule)


def _variance(node: Node) -> Node | None:
    """mean(x²) - mean(x)² = mean((x - mean x)²), which does not cancel where the mean is large."""
    match node:
        case Binary(
            "sub",
            Reduce("mean", Unary("square", value), over),
            Unary("square", Reduce("mean", same, same_over) as mean),
        ) if same is value and same_over == over:
            return Reduce("mean", Unary("square", Binary("sub", value, mean)), over)
    return None


def _products_last(node: Node, used_once: set[Node]) -> Node | None:
    """(p + q) + t = (t + q) + p with p, q products as wide as the sum: then each fuses with an addition."""
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
            case Binary(
                "add" | "sub" as op, Reduce("sum" | "mean", a, over) as left, Reduce(_, b, _) as right
            ) if (
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
