"""Random equations: whatever is written, all ways through the compiler compute the same.

Operations and ranges are such that no example is ill-conditioned: functions that are smooth and bounded on
the real line, denominators of at least 1, branches on values that no rounding decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from helpers import (
    Arrays,
    Sizes,
    arrays_for,
    assert_close,
    compilation_of,
    equation,
    reductions,
    run_emitted,
    run_pair,
    run_program,
)
from hypothesis import given, settings
from hypothesis import strategies as st

import lncompile as lnc
from lncompile.passes import run_passes
from lncompile.passes.gradient import gradient
from lncompile.passes.moments import moments
from lncompile.passes.simplify import simplify
from lncompile.printer import show
from lncompile.verify import verify

#: A tree is a number, the name of an argument, or a tuple of an operation and trees.
Tree = Any

UNARY: dict[str, Callable[[Any], Any]] = {
    "neg": lambda v: -v,
    "square": lambda v: lnc.square(lnc.tanh(v)),
    "cube": lambda v: lnc.tanh(v) ** 3,
    "sqrt": lambda v: lnc.sqrt(1.0 + lnc.square(v)),
    "rsqrt": lambda v: lnc.rsqrt(1.0 + lnc.square(v)),
    "exp": lambda v: lnc.exp(lnc.tanh(v)),
    "log": lambda v: lnc.log(1.0 + lnc.square(v)),
    "tanh": lnc.tanh,
    "sigmoid": lnc.sigmoid,
    "erf": lnc.erf,
    "halved": lambda v: v / 2.0,
}
BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: lnc.tanh(a) * b,
    "product": lambda a, b: lnc.tanh(a) * lnc.sigmoid(b),
    "div": lambda a, b: a / (1.0 + lnc.square(b)),
    "maximum": lnc.maximum,
    "minimum": lnc.minimum,
    "where": lambda a, b: lnc.where(a > 0.123, a, b),
}
REDUCE: dict[str, Callable[[Any], Any]] = {
    "sum": lambda v: lnc.sum(v) * 0.1,
    "mean": lnc.mean,
    "max": lnc.max,
    "deviation": lambda v: v - lnc.mean(v),
    "variance": lambda v: lnc.mean(lnc.square(v - lnc.mean(v))),
    "normalized": lambda v: (v - lnc.mean(v)) * lnc.rsqrt(lnc.mean(lnc.square(v - lnc.mean(v))) + 1.0),
}

_leaves = st.sampled_from(["x", "x", "x", "p", "s", "a"]) | st.sampled_from([0.0, 1.0, -1.0, 0.5, 3.0])
trees = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(sorted(UNARY)), inner),
        st.tuples(st.sampled_from(sorted(BINARY)), inner, inner),
        st.tuples(st.sampled_from(sorted(REDUCE)), inner),
    ),
    max_leaves=6,
)


def build(tree: Tree, leaves: dict[str, Any]) -> Any:
    """The traced value of a tree; a reduction of what varies over no feature is that value."""
    match tree:
        case (op, left, right):
            return _applied(BINARY[op], build(left, leaves), build(right, leaves))
        case (op, inner) if op in REDUCE:
            value = build(inner, leaves)
            return REDUCE[op](value) if getattr(value, "node", None) and "d" in value.node.axes else value
        case (op, inner):
            return _applied(UNARY[op], build(inner, leaves))
        case str():
            return leaves[tree]
    return tree


def _applied(function: Callable[..., Any], *operands: Any) -> Any:
    return function(*operands)


def equation_of_trees(first: Tree, second: Tree) -> Any:
    """Two outputs, so that gradients meet; the first varies over everything."""

    def invented(x: Any, p: Any, s: Any, a: Any) -> Any:
        leaves = {"x": x, "p": p, "s": s, "a": a}
        return build(first, leaves) * x + p, build(second, leaves) * 1.0 + s * lnc.mean(x)

    return equation("r [d]", p="d", s="r", a="")(invented)


def joint_reference(norm: Any, sizes: Sizes, seed: int) -> tuple[Any, Arrays, Arrays]:
    """A compilation, arrays, and what the program gives that only the gradient was taken of."""
    compilation = compilation_of(norm, sizes)
    joint = verify(gradient(verify(compilation.program)))
    arrays = arrays_for(joint.inputs, sizes, seed=seed)
    return compilation, arrays, run_program(joint, arrays, sizes)


#: Sums of some tens of terms a few levels deep: rounding grows a hundredfold, by cancellation twice.
TOLERANCE = 1e-9

sizes_strategy = st.fixed_dictionaries({"r": st.integers(1, 4), "d": st.sampled_from([1, 2, 3, 5, 8, 9, 17])})


@given(first=trees, second=trees, sizes=sizes_strategy, seed=st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_passes_keep_the_meaning(first: Tree, second: Tree, sizes: Sizes, seed: int) -> None:
    norm = equation_of_trees(first, second)
    compilation, arrays, expected = joint_reference(norm, sizes, seed)
    simplified = verify(simplify(gradient(simplify(compilation.program))))
    assert_close(run_program(simplified, arrays, sizes), expected, TOLERANCE)
    assert_close(run_program(verify(moments(simplified)), arrays, sizes), expected, TOLERANCE)
    assert_close(run_pair(run_passes(compilation.program, verify), arrays, sizes), expected, TOLERANCE)


@given(first=trees, second=trees, sizes=sizes_strategy, block_rows=st.integers(1, 3), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_kernels_compute_what_the_program_means(
    first: Tree, second: Tree, sizes: Sizes, block_rows: int, seed: int
) -> None:
    norm = equation_of_trees(first, second)
    compilation, arrays, expected = joint_reference(norm, sizes, seed)
    schedule = replace(compilation.schedule, block_rows=block_rows)
    assert_close(run_emitted(compilation, arrays, sizes, schedule), expected, TOLERANCE)


@given(tree=trees, sizes=sizes_strategy)
@settings(max_examples=60, deadline=None)
def test_simplify_settles_and_never_adds_a_reduction(tree: Tree, sizes: Sizes) -> None:
    joint = gradient(compilation_of(equation_of_trees(tree, "x"), sizes).program)
    once = simplify(joint)
    assert len(reductions(once)) <= len(reductions(joint))
    assert show(simplify(once)) == show(once)
