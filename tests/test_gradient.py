"""Reverse mode: every rule against central differences, and every later pass against the joint program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from equations import ALL
from helpers import (
    Arrays,
    Sizes,
    arrays_for,
    assert_close,
    equation,
    program_of,
    run_pair,
    run_program,
)

import lncompile as lnc
from lncompile.ir import Program
from lncompile.passes import Pair
from lncompile.passes.collapse import collapse
from lncompile.passes.gradient import gradient
from lncompile.passes.moments import moments
from lncompile.passes.residuals import residuals
from lncompile.passes.simplify import simplify
from lncompile.verify import verify

SIZES: Sizes = {"...": 3, "n": 3, "d": 5, "h": 2, "w": 3}

#: A central difference with step h errs by h²/6 times the third derivative, and by rounding, eps · |f| / h.
#: With sums of ten terms of size 1 that is 1e-10 twice; third derivatives here stay below a few hundred.
STEP, TOLERANCE = 1e-5, 1e-7


def differences(program: Program, arrays: Arrays, weights: Mapping[str, Any]) -> Arrays:
    """The derivative of sum(output * weights[output]) by every element of every input."""

    def loss(changed: Arrays) -> float:
        outputs = run_program(program, changed, SIZES)
        return float(sum(np.sum(outputs[f"{name}"] * weight) for name, weight in weights.items()))

    slopes: Arrays = {}
    for name, array in arrays.items():
        slope = np.empty_like(array)
        for index in np.ndindex(array.shape):
            ends = []
            for sign in (1.0, -1.0):
                changed = array.copy()
                changed[index] += sign * STEP
                ends.append(loss(arrays | {name: changed}))
            slope[index] = (ends[0] - ends[1]) / (2 * STEP)
        slopes[f"d{name}"] = slope
    return slopes


def check(
    norm: Any, low: float = -2.0, high: float = 2.0, arrays: Arrays | None = None, **options: Any
) -> None:
    """The gradients of ``norm`` against central differences, on random arrays in [low, high)."""
    program = verify(program_of(norm, SIZES, **options))
    joint = verify(gradient(program))
    if arrays is None:
        arrays = arrays_for(program.inputs, SIZES, low=low, high=high)
    cotangents = arrays_for(tuple(n for n in joint.inputs if n.role == "cotangent"), SIZES, seed=1)
    weights = {output.name: cotangents[f"d{output.name}"] for output in program.outputs}
    results = run_program(joint, arrays | cotangents, SIZES)
    assert_close(results, differences(program, arrays, weights), TOLERANCE)


SCALAR_FUNCTIONS: dict[str, tuple[Callable[[Any], Any], float, float]] = {
    "neg": (lambda v: -v, -2.0, 2.0),
    "square": (lnc.square, -2.0, 2.0),
    "sqrt": (lnc.sqrt, 0.5, 2.0),
    "rsqrt": (lnc.rsqrt, 0.5, 2.0),
    "exp": (lnc.exp, -2.0, 2.0),
    "log": (lnc.log, 0.5, 2.0),
    "tanh": (lnc.tanh, -2.0, 2.0),
    "sigmoid": (lnc.sigmoid, -4.0, 4.0),
    "erf": (lnc.erf, -2.0, 2.0),
    "abs": (lnc.abs, -2.0, 2.0),
    "relu": (lnc.relu, -2.0, 2.0),
    "silu": (lnc.silu, -4.0, 4.0),
    "gelu": (lnc.gelu, -3.0, 3.0),
    "gelu_tanh": (lambda v: lnc.gelu(v, "tanh"), -3.0, 3.0),
    "cube": (lambda v: v**3, -2.0, 2.0),
    "inverse square": (lambda v: v**-2, 0.5, 2.0),
    "to the zero": (lambda v: v**0 * 2.0, 0.5, 2.0),
    "cast": (lambda v: lnc.cast(v, "float64"), -2.0, 2.0),
    "constant over": (lambda v: 3.0 / v, 0.5, 2.0),
    "constant minus": (lambda v: 1.0 - v, -2.0, 2.0),
}


@pytest.mark.parametrize("name", SCALAR_FUNCTIONS)
def test_rule_of_a_function_of_one_value(name: str) -> None:
    function, low, high = SCALAR_FUNCTIONS[name]
    check(equation("n [d]")(lambda x: function(x)), low, high)


@pytest.mark.parametrize("axes", ["n d", "d", "n", ""])
@pytest.mark.parametrize("right_first", [False, True])
@pytest.mark.parametrize("op", ["add", "sub", "mul", "div", "maximum", "minimum", "where"])
def test_rule_of_two_values_in_every_broadcast(op: str, axes: str, right_first: bool) -> None:
    """The other operand varies over elements, features, rows or nothing, on either side."""
    functions: dict[str, Callable[[Any, Any], Any]] = {
        "add": lambda a, b: a + b,
        "sub": lambda a, b: a - b,
        "mul": lambda a, b: a * b,
        "div": lambda a, b: a / b,
        "maximum": lnc.maximum,
        "minimum": lnc.minimum,
        "where": lambda a, b: lnc.where(a > 1.0, a, b),
    }
    function = functions[op]

    @equation("n [d]", p=axes)
    def norm(x: Any, p: Any) -> Any:
        return function(p, x) if right_first else function(x, p)

    check(norm, 0.5, 2.0)


@pytest.mark.parametrize("op", ["sum", "mean", "max"])
@pytest.mark.parametrize("inner", ["x", "p", "x * p", "x * q", "p * q * 2.0"])
def test_rule_of_a_reduction(op: str, inner: str) -> None:
    reduce = getattr(lnc, op)

    @equation("n [d]", p="d", q="n")
    def norm(x: Any, p: Any, q: Any) -> Any:
        value = {"x": lambda: x, "p": lambda: p, "x * p": lambda: x * p, "x * q": lambda: x * q}.get(
            inner, lambda: p * q * 2.0
        )()
        return x * reduce(value) + q * reduce(lnc.square(value))

    check(norm)


@pytest.mark.parametrize("over", ["h", "w", "h w"])
@pytest.mark.parametrize("op", ["sum", "mean", "max"])
def test_rule_of_a_reduction_over_some_feature_axes(op: str, over: str) -> None:
    reduce = getattr(lnc, op)

    @equation("n [h w]", p="h", q="w")
    def norm(x: Any, p: Any, q: Any) -> Any:
        return x * reduce(x * p + q, over=over), reduce(lnc.square(x), over="h") * q

    check(norm)


@pytest.mark.parametrize("norm", ALL, ids=lambda norm: norm.__name__)
def test_gradients_of_whole_norms(norm: Any) -> None:
    check(norm)


@pytest.mark.parametrize("left_out", [("weight",), ("bias",), ("weight", "bias")])
def test_gradients_where_parameters_are_left_out(left_out: tuple[str, ...]) -> None:
    check(lnc.layer_norm, left_out=left_out)


def gradient_of(norm: Any, arrays: Arrays, simplified: bool) -> Arrays:
    """Gradients for cotangents of 1."""
    joint = gradient(program_of(norm, {"n": 1, "d": arrays["x"].shape[-1]}))
    joint = simplify(joint) if simplified else joint
    shape = arrays["x"].shape
    return run_program(joint, arrays | {"dy": np.ones(shape)}, {"n": shape[0], "d": shape[1]})


@pytest.mark.parametrize("simplified", [False, True])
class TestWhereThereIsNoDerivative:
    """Conventions at kinks and ties, those of torch: written down because finite differences cannot tell."""

    def test_equal_maxima_share_evenly(self, simplified: bool) -> None:
        norm = equation("n [d]")(lambda x: 0.0 * x + lnc.max(x))
        dx = gradient_of(norm, {"x": np.array([[3.0, 1.0, 3.0, 3.0]])}, simplified)["dx"]
        np.testing.assert_allclose(dx, [[4 / 3, 0.0, 4 / 3, 4 / 3]])

    @pytest.mark.parametrize("function", [lnc.maximum, lnc.minimum])
    def test_equal_operands_get_half_each(self, simplified: bool, function: Any) -> None:
        norm = equation("n [d]", p="d")(lambda x, p: function(x, p))
        grads = gradient_of(norm, {"x": np.array([[1.0, 2.0]]), "p": np.array([1.0, 2.0])}, simplified)
        np.testing.assert_array_equal(grads["dx"], [[0.5, 0.5]])
        np.testing.assert_array_equal(grads["dp"], [0.5, 0.5])

    @pytest.mark.parametrize(
        ("function", "at_zero"), [(lnc.abs, 0.0), (lnc.relu, 0.0), (lambda v: lnc.maximum(v, 0.0), 0.5)]
    )
    def test_kinks_at_zero(self, simplified: bool, function: Any, at_zero: float) -> None:
        norm = equation("n [d]")(lambda x: function(x))
        dx = gradient_of(norm, {"x": np.array([[0.0, -0.0]])}, simplified)["dx"]
        np.testing.assert_array_equal(dx, [[at_zero, at_zero]])

    def test_no_gradient_into_a_condition(self, simplified: bool) -> None:
        norm = equation("n [d]", p="d")(lambda x, p: lnc.where(p > 0.0, x, 2.0 * x) * 1.0)
        grads = gradient_of(norm, {"x": np.array([[1.0, 1.0]]), "p": np.array([1.0, -1.0])}, simplified)
        np.testing.assert_array_equal(grads["dx"], [[1.0, 2.0]])
        np.testing.assert_array_equal(grads["dp"], [0.0, 0.0])

    def test_the_branch_not_taken_passes_nothing(self, simplified: bool) -> None:
        """Its derivative may be infinite there: log at 0."""
        norm = equation("n [d]")(lambda x: lnc.where(x > 0.5, lnc.log(lnc.where(x > 0.5, x, 1.0)), x))
        dx = gradient_of(norm, {"x": np.array([[0.0, 2.0]])}, simplified)["dx"]
        np.testing.assert_array_equal(dx, [[1.0, 0.5]])

    def test_relu_of_nan_is_nan(self, simplified: bool) -> None:
        norm = equation("n [d]")(lambda x: lnc.relu(x))
        result = gradient_of(norm, {"x": np.array([[np.nan, 1.0]])}, simplified)
        np.testing.assert_array_equal(result["y"], [[np.nan, 1.0]])


def joint_and_arrays(norm: Any, **options: Any) -> tuple[Program, Arrays, Arrays]:
    """A joint program nothing was simplified in, arrays for it, and what they give."""
    joint = gradient(program_of(norm, SIZES, **options))
    arrays = arrays_for(joint.inputs, SIZES)
    return joint, arrays, run_program(joint, arrays, SIZES)


#: Algebra in float64 moves results by a few roundings of terms that are some 100 times the result at most.
SAME = 1e-12


@pytest.mark.parametrize("norm", ALL, ids=lambda norm: norm.__name__)
class TestEveryPassKeepsTheMeaning:
    def test_simplify(self, norm: Any) -> None:
        joint, arrays, expected = joint_and_arrays(norm)
        assert_close(run_program(verify(simplify(joint)), arrays, SIZES), expected, SAME)

    def test_simplify_before_and_after_the_gradient(self, norm: Any) -> None:
        _, arrays, expected = joint_and_arrays(norm)
        joint = simplify(gradient(simplify(program_of(norm, SIZES))))
        assert_close(run_program(verify(joint), arrays, SIZES), expected, SAME)

    def test_moments(self, norm: Any) -> None:
        joint, arrays, expected = joint_and_arrays(norm)
        assert_close(run_program(verify(moments(simplify(joint))), arrays, SIZES), expected, SAME)

    def test_residuals(self, norm: Any) -> None:
        joint, arrays, expected = joint_and_arrays(norm)
        pair = Pair(*map(verify, residuals(moments(simplify(joint)))))
        assert_close(run_pair(pair, arrays, SIZES, run_program), expected, SAME)

    def test_collapse(self, norm: Any) -> None:
        joint, arrays, expected = joint_and_arrays(norm)
        pair = Pair(*(verify(collapse(part)) for part in residuals(moments(simplify(joint)))))
        assert_close(run_pair(pair, arrays, SIZES, run_program), expected, SAME)


def _root(x: Any) -> Any:
    return x / lnc.sqrt(lnc.mean(lnc.square(x)) + 1e-6)


def _deviations(x: Any) -> Any:
    centred = x - lnc.mean(x)
    return centred / lnc.sqrt(lnc.mean(lnc.square(centred)) + 1e-6)


def _fourth_root(x: Any) -> Any:
    return x / lnc.sqrt(lnc.sqrt(lnc.mean(lnc.square(lnc.square(x)))))


def _share(x: Any) -> Any:
    return lnc.square(x) / lnc.mean(lnc.square(x))


@pytest.mark.sampled(3)
@pytest.mark.parametrize("size", [1e20, 1e-18])
@pytest.mark.parametrize("features", [4, 1000])
@pytest.mark.parametrize("function", [_root, _deviations, _fourth_root, _share])
def test_gradients_of_rows_whose_squares_overflow(function: Any, features: int, size: float) -> None:
    """What the forward saves is as large as the squares: the backward was given infinity, and gave 0."""
    norm = lnc.norm("... [d]")(function)
    x = np.linspace(1, 4, 3 * features, dtype=np.float32).reshape(3, features) * np.float32(size)
    dy = np.zeros_like(x)
    dy[:, 0] = 1
    wide = norm.forward(x.astype(np.float64))
    expected = norm.backward(dy.astype(np.float64), wide[1]).x
    y, ctx = norm.forward(x)
    np.testing.assert_allclose(y, wide[0], rtol=0, atol=2e-6 * np.abs(wide[0]).max())
    # Results below the least normal number have the digits that are left.
    np.testing.assert_allclose(
        norm.backward(dy, ctx).x, expected, rtol=0, atol=2e-6 * np.abs(expected).max() + 1e-45
    )
