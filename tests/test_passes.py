"""Each pass on its own, in text before and after, and what the pipeline promises of its programs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from equations import ALL
from helpers import equation, part, program_of, reductions

import lncompile as lnc
from lncompile.ir import Const, Program, Reduce, rewrite
from lncompile.norm import dispatcher_of
from lncompile.passes import Pair, run_passes
from lncompile.passes.collapse import collapse
from lncompile.passes.gradient import gradient
from lncompile.passes.moments import moments
from lncompile.passes.residuals import residuals
from lncompile.passes.scalars import without_constant_operations
from lncompile.passes.shared import shared_first
from lncompile.passes.simplify import simplify
from lncompile.printer import show
from lncompile.verify import verify

SIZES = {"...": 3, "n": 3, "d": 8, "h": 2, "w": 4}


def traced(function: Callable[..., Any], pattern: str = "n [d]", **axes: str) -> Program:
    return verify(program_of(equation(pattern, **axes)(function), SIZES, "float32"))


def pair_of(norm: Any, **options: Any) -> Pair:
    return run_passes(program_of(norm, SIZES, "float32", **options), verify)


def values(program: Program) -> list[str]:
    """The lines of a program's text that compute something, without the widths of columns."""
    lines = [line.split() for line in show(verify(program)).splitlines() if " = " in line]
    return [" ".join(line).replace("[n d] = ", "= ", 1).replace("[n] = ", "= ", 1) for line in lines]


def simplified(function: Callable[..., Any], **axes: str) -> list[str]:
    """What is left of an equation of x [n d]."""
    return values(simplify(traced(function, **axes)))


def test_what_is_known_of_constants_alone_is_computed_however_large() -> None:
    def function(x: Any) -> Any:
        spread = lnc.mean(lnc.square(x)) - lnc.mean(x)
        return lnc.exp((spread + 1e3) * 10.0) * x + lnc.rsqrt(spread)

    program = rewrite(traced(function), lambda node: Const(0.0) if isinstance(node, Reduce) else None)
    assert values(without_constant_operations(program)) == ["y = inf * x + inf"]


class TestSharedFirst:
    """What rows share is one value, in float64 that comes from narrower arrays."""

    @staticmethod
    def combined(dtype: str, compute: str, *, differences: bool = True) -> str:
        def function(x: Any, high: Any, low: Any, weight: Any, bias: Any) -> Any:
            return (x - high - low) * bias * weight + (bias - x - low)

        axes = dict.fromkeys(("high", "low", "weight", "bias"), "d")
        program = program_of(equation("n [d]", **axes)(function), SIZES, dtype)
        program = replace(verify(program), compute=compute)
        (line,) = values(shared_first(program, "n", differences=differences))
        return line

    def test_chains_of_differences_and_of_products(self) -> None:
        line = self.combined("float32", "float64")
        assert line == "y = (x - (high + low)) * (bias * weight) + (bias - x - low)"

    def test_elements_in_float32_need_both_parts_of_a_mean(self) -> None:
        line = self.combined("float32", "float64", differences=False)
        assert line == "y = (x - high - low) * (bias * weight) + (bias - x - low)"

    @pytest.mark.parametrize(("dtype", "compute"), [("float32", "float32"), ("float64", "float64")])
    def test_not_where_the_sum_would_be_rounded(self, dtype: str, compute: str) -> None:
        line = self.combined(dtype, compute)
        assert line == "y = (x - high - low) * bias * weight + (bias - x - low)"

    @pytest.mark.parametrize("value", [0.1, 1e6, -3e38])
    def test_equal_rows_give_the_bias(self, value: float) -> None:
        """No part of a mean that is left over is multiplied by 1/sqrt(eps)."""
        x = np.full((3, 20, 24), value, np.float32)
        bias = np.linspace(-1e-12, 1e-12, 24, dtype=np.float32)
        norm = lnc.norm("n [s] c", weight="c", bias="c")(dispatcher_of(lnc.layer_norm).equation.function)
        y = norm(x, np.full(24, 1e3, np.float32), bias)
        assert np.array_equal(y, np.broadcast_to(bias, x.shape))


class TestFactored:
    """Fewer operations an element, of the same numbers: ``factored`` is the last pass but one."""

    @staticmethod
    def lines(norm: Any, output: str, **options: Any) -> list[str]:
        pair = pair_of(norm, **options)
        phase = pair.forward if output in {out.name for out in pair.forward.outputs} else pair.backward
        return values(part(phase, output))

    def test_what_is_the_same_in_a_row_leaves_its_sums(self) -> None:
        norm = equation("n [d]", weight="d", bias="d")(dispatcher_of(lnc.layer_norm).equation.function)
        assert self.lines(norm, "dx") == [
            "t1 = dy * weight",
            "t2 = sum[d](t1)",
            "t6 = x - mu_high",
            "t8 = sum[d](t1 * t6)",
            "t14 = (t8 - t2 * mu_low) * rstd * square(rstd) * (-0.125)",
            "dx = (t1 - t2 * 0.125) * rstd - mu_low * t14 + t6 * t14",
        ]

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_cotangents_that_are_their_own_mean_leave_nothing(self, dtype: type) -> None:
        """However 1 / std is rounded."""
        x = np.random.default_rng(0).standard_normal((5, 100)).astype(dtype)
        _, ctx = lnc.layer_norm.forward(x[:, :1], np.full(1, 0.7, dtype))
        assert not lnc.layer_norm.backward(x[:, 1:2], ctx).x.any()
        _, ctx = lnc.layer_norm.forward(x[:, :64] * 0 + 3, np.full(64, 0.75, dtype))
        assert not lnc.layer_norm.backward(np.full((5, 64), 0.25, dtype), ctx).x.any()

    def test_a_deviation_becomes_a_multiply_add(self) -> None:
        norm = equation("n [d]", weight="d", bias="d")(dispatcher_of(lnc.layer_norm).equation.function)
        assert self.lines(norm, "y")[-1] == "y = ((x - mu_high) * rstd - mu_low * rstd) * weight + bias"

    def test_terms_of_a_row_are_one_value(self) -> None:
        def function(x: Any, weight: Any, bias: Any) -> Any:
            mu = lnc.mean(x, over="n")
            return (x - mu) * weight + bias

        norm = equation("[n] d", weight="d", bias="d")(function)
        assert self.lines(norm, "y")[-1] == "y = bias - mu_low * weight + (x - mu_high) * weight"

    def test_what_an_equation_adds_stays_in_its_order(self) -> None:
        """(x - 1e6) + row: of row - 1e6 digits would be lost."""
        assert self.lines(equation("n [d]", p="n")(lambda x, p: x - 1e6 + p), "y") == [
            "y = x - 1000000.0 + p"
        ]

    def test_a_deviation_that_is_needed_itself_stays(self) -> None:
        def function(x: Any, p: Any) -> Any:
            mu = lnc.mean(x)
            return (x - mu) * p + lnc.abs(x - mu)

        line = self.lines(equation("n [d]", p="n")(function), "y")[-1]
        assert line == "y = t2 * p + abs(t2)", line

    def test_sums_over_axes_that_are_in_part_the_same_share_a_product(self) -> None:
        norm = equation("n [d h]", weight="d", bias="d")(dispatcher_of(lnc.layer_norm).equation.function)
        lines = self.lines(norm, "dx")
        assert "t7 [n d h] = x - mu_high - mu_low" in lines
        assert "t9 = sum[d h](t1 * t7)" in lines


class TestGradient:
    def test_a_broadcast_turns_into_a_sum_and_a_sum_into_a_broadcast(self) -> None:
        joint = gradient(traced(lambda x, p, q: x * p + lnc.sum(x) * q, p="d", q="n"))
        assert values(part(joint, "dp")) == ["dp [d] = sum[n](dy * x)"]
        assert values(part(joint, "dq")) == ["t1 = sum[d](dy)", "t2 = sum[d](x)", "dq = t1 * t2"]
        assert values(part(joint, "dx")) == ["t1 = sum[d](dy)", "dx = t1 * q + dy * p"]

    def test_inputs_and_outputs_of_the_joint_program(self) -> None:
        joint = gradient(traced(lambda x, p: (x * p, lnc.mean(x)), p="d"))
        assert [(i.name, i.role, i.of) for i in joint.inputs[2:]] == [
            ("dy0", "cotangent", "y0"),
            ("dy1", "cotangent", "y1"),
        ]
        assert [(o.name, o.role, o.of) for o in joint.outputs[2:]] == [
            ("dx", "gradient", "x"),
            ("dp", "gradient", "p"),
        ]

    def test_names_that_are_taken(self) -> None:
        joint = gradient(traced(lambda x, dx, dy: x * dx + dy, dx="d", dy="d"))
        names = [array.name for array in joint.inputs] + [array.name for array in joint.outputs]
        assert names == ["x", "dx", "dy", "dy_", "y", "dx_", "ddx", "ddy"]

    def test_an_argument_that_nothing_depends_on_has_gradient_zero(self) -> None:
        joint = gradient(traced(lambda x, p: x * 2.0, p="d"))
        assert values(part(joint, "dp")) == ["dp [d] = 0.0 float32 gradient of p"]


class TestSimplify:
    @pytest.mark.parametrize(
        ("before", "after"),
        [
            (lambda x: x * 1.0 + 0.0, []),
            (lambda x: 0.0 - x, ["y = -x"]),
            (lambda x: 2.0 * -(x * -1.0), ["y = x * 2.0"]),
            (lambda x: x * 2.0 * 3.0, ["y = x * 6.0"]),
            (lambda x: 2.0 * (3.0 * x), ["y = x * 6.0"]),
            (lambda x: x / 4.0, ["y = x * 0.25"]),
            (lambda x: x * x, ["y = square(x)"]),
            (lambda x: lnc.square(-x), ["y = square(x)"]),
            (lambda x: lnc.abs(-lnc.abs(x)), ["y = abs(x)"]),
            (lambda x: x + -x * 2.0, ["y = x - x * 2.0"]),
            (lambda x: x - -lnc.exp(x), ["y = x + exp(x)"]),
            (lambda x: lnc.where(lnc.abs(x) > 0.5, x, x), []),
            (lambda x: x**1 * 1.0, []),
            (lambda x: x * 0.0, ["y = x * 0.0"]),
            (lambda x: x - x, ["y = x - x"]),
        ],
    )
    def test_values(self, before: Callable[..., Any], after: list[str]) -> None:
        """Nothing that may be NaN or infinite is dropped: x * 0.0 and x - x stay."""
        left = [line for line in simplified(before) if line != "y = x float32 output"]
        assert left == after

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            (lambda x, p, r: lnc.sum(x * r), ["t1 = sum[d](x)", "y = t1 * r"]),
            (lambda x, p, r: lnc.sum(x * r * p), ["t2 = sum[d](x * p)", "y = t2 * r"]),
            (lambda x, p, r: lnc.sum(x / r), ["t1 = sum[d](x)", "y = t1 * (1.0 / r)"]),
            (lambda x, p, r: lnc.mean(-x), ["t1 = mean[d](x)", "y = -t1"]),
            # Digits that a part may lack, and NaNs, are for the equation to lose.
            (lambda x, p, r: lnc.mean(x - r), ["y = mean[d](x - r)"]),
            (lambda x, p, r: lnc.mean(x - 1e6), ["y = mean[d](x - 1000000.0)"]),
            (lambda x, p, r: lnc.sum(x - lnc.mean(x)), ["t1 = mean[d](x)", "y = sum[d](x - t1)"]),
            (
                lambda x, p, r: lnc.mean((x - lnc.mean(x)) * (p - lnc.mean(p))),
                ["t1 = mean[d](x)", "t3 [] = mean[d](p)", "y = mean[d]((x - t1) * (p - t3))"],
            ),
            (lambda x, p, r: lnc.sum(x) + lnc.sum(x * p), ["y = sum[d](x + x * p)"]),
        ],
    )
    def test_reductions(self, before: Callable[..., Any], after: list[str]) -> None:
        left = [line.split(" float32")[0] for line in simplified(before, p="d", r="n")]
        assert left == after

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            (lambda x, p, q: lnc.sum(x**0), ["y = 8.0 float32 output"]),
            (lambda x, p, q: lnc.mean(x**0), ["y = 1.0 float32 output"]),
            (lambda x, p, q: lnc.max(x**0), ["y = 1.0 float32 output"]),
            (lambda x, p, q: lnc.sum(lnc.where(x > 0, q, q)), ["y = q * 8.0"]),
            (lambda x, p, q: lnc.mean(lnc.where(x > 0, q, q)), ["y = q float32 output"]),
            (lambda x, p, q: lnc.max(lnc.where(x > 0, -q, -q)), ["y = -q"]),
            (lambda x, p, q: lnc.mean(lnc.square(q * x**0 - lnc.mean(q * x**0))), ["y = square(q - q)"]),
        ],
    )
    def test_a_value_that_no_longer_varies_leaves_its_reductions(
        self, before: Callable[..., Any], after: list[str]
    ) -> None:
        assert simplified(before, p="d", q="n") == after

    def test_sums_of_sums(self) -> None:
        norm = equation("n [h w]")(lambda x: lnc.sum(lnc.sum(x, over="w") * 1.0, over="h"))
        assert reductions(simplify(program_of(norm, SIZES))) == ["sum"]

    def test_row_sized_factors_meet_before_they_meet_elements(self) -> None:
        lines = simplified(lambda x, r, s: 2.0 * (x * r) * s, r="n", s="n")
        assert lines == ["y = x * (r * s * 2.0)"]

    def test_a_division_by_a_row_sized_value_is_one_division_a_row(self) -> None:
        assert simplified(lambda x, r: x / r, r="n") == ["y = x * (1.0 / r)"]

    def test_arguments_left_out_leave_nothing_behind(self) -> None:
        plain = program_of(equation("... [d]")(_standardized), SIZES, "float32")
        left_out = program_of(lnc.layer_norm, SIZES, "float32", left_out=("weight", "bias"))
        text = show(simplify(left_out)).replace("layer_norm", "_standardized")
        assert text == show(simplify(plain))

    @pytest.mark.parametrize("norm", ALL, ids=lambda norm: norm.__name__)
    def test_settles_with_no_more_reductions(self, norm: Any) -> None:
        joint = gradient(program_of(norm, SIZES))
        once = simplify(joint)
        assert len(reductions(once)) <= len(reductions(joint))
        assert show(simplify(once)) == show(once)

    def test_a_long_chain_of_statistics_settles(self) -> None:
        def deep(x: Any) -> Any:
            for _ in range(12):
                x = x - lnc.mean(lnc.tanh(x))
            return x

        assert reductions(simplify(gradient(simplify(traced(deep)))), "d") == 12 * ["mean"] + 12 * ["sum"]

    def test_a_sum_that_waits_for_another_is_split(self) -> None:
        def waiting(x: Any, q: Any) -> Any:
            return lnc.sum(lnc.silu(q - lnc.mean(q))) - x

        joint = gradient(simplify(traced(waiting, q="d")))
        before, after = (values(part(program, "dq")) for program in (joint, simplify(joint)))
        # The sum over rows of dy is the factor that the sum over features waits for.
        assert sum("sum[d](-" in line for line in before) == 1
        assert sum("sum[d](" in line for line in after) == 2


def _standardized(x: Any) -> Any:
    mu = lnc.mean(x)
    var = lnc.mean(lnc.square(x - mu))
    rstd = lnc.rsqrt(var + 1e-5)
    return (x - mu) * rstd


class TestReductionsOfABackward:
    """How often a row has to be read is what a backward costs."""

    @pytest.mark.parametrize("left_out", [(), ("weight",), ("bias",), ("weight", "bias")])
    def test_layer_norm_has_two(self, left_out: tuple[str, ...]) -> None:
        backward = pair_of(lnc.layer_norm, left_out=left_out).backward
        assert reductions(part(backward, "dx")) == ["sum", "sum"]

    @pytest.mark.parametrize("left_out", [(), ("weight",)])
    def test_rms_norm_has_one(self, left_out: tuple[str, ...]) -> None:
        backward = pair_of(lnc.rms_norm, left_out=left_out).backward
        assert reductions(part(backward, "dx")) == ["sum"]

    def test_rms_norm_with_an_offset_has_one(self) -> None:
        assert reductions(part(pair_of(lnc.rms_norm, weight_offset=1.0).backward, "dx")) == ["sum"]

    def test_an_elementwise_norm_has_none(self) -> None:
        norm = equation("n [d]", p="d")(lambda x, p: lnc.tanh(x) * p)
        assert reductions(part(pair_of(norm).backward, "dx")) == []

    @pytest.mark.parametrize(
        "spelling",
        [
            lambda x: (x - lnc.mean(x)) / lnc.sqrt(lnc.mean((x - lnc.mean(x)) ** 2) + 1e-5),
            lambda x: (x - lnc.mean(x)) * (lnc.mean(lnc.square(lnc.mean(x) - x)) + 1e-5) ** -1,
            lambda x: -(lnc.mean(x) - x) * lnc.rsqrt(lnc.mean(x * x) - lnc.mean(x) ** 2 + 1e-5),
            lambda x: (
                (2.0 * x - lnc.mean(2.0 * x)) * lnc.rsqrt(lnc.mean((2.0 * x - lnc.mean(2.0 * x)) ** 2) + 1e-5)
            ),
        ],
    )
    def test_however_it_is_spelled(self, spelling: Callable[..., Any]) -> None:
        assert len(reductions(part(pair_of(equation("n [d]")(spelling)).backward, "dx"))) == 2


VARIANCES: dict[str, Callable[[Any], Any]] = {
    "square of the deviation": lambda x: lnc.mean(lnc.square(x - lnc.mean(x))),
    "** 2": lambda x: lnc.mean((x - lnc.mean(x)) ** 2),
    "times itself": lambda x: lnc.mean((x - lnc.mean(x)) * (x - lnc.mean(x))),
    "the other way round": lambda x: lnc.mean(lnc.square(lnc.mean(x) - x)),
    "of the negative": lambda x: lnc.mean(lnc.square(-x + lnc.mean(x))),
    "of a sum with the negative mean": lambda x: lnc.mean(lnc.square(x + -lnc.mean(x))),
    "of the absolute deviation": lambda x: lnc.mean(lnc.square(lnc.abs(x - lnc.mean(x)))),
    "mean of squares less square of mean": lambda x: lnc.mean(x * x) - lnc.square(lnc.mean(x)),
    "mean of squares less mean times mean": lambda x: lnc.mean(x**2) - lnc.mean(x) * lnc.mean(x),
    "negative difference": lambda x: -(lnc.square(lnc.mean(x)) - lnc.mean(x * x)),
}


class TestMoments:
    @pytest.mark.parametrize("spelling", VARIANCES)
    def test_a_variance_is_recognised_however_it_is_spelled(self, spelling: str) -> None:
        program = traced(lambda x: (x - lnc.mean(x)) * lnc.rsqrt(VARIANCES[spelling](x) + 1e-5))
        assert sorted(reductions(moments(simplify(program)))) == ["mean_high", "mean_low", "variance"]

    @pytest.mark.parametrize("spelling", VARIANCES)
    @pytest.mark.parametrize(
        "of",
        [
            lambda x, p, r: x + p,
            lambda x, p, r: x * r,
            lambda x, p, r: x * 2.0 + r,
            lambda x, p, r: -x,
            lambda x, p, r: x / 3.0,
            lambda x, p, r: lnc.exp(x) * p + r,
        ],
    )
    def test_also_of_a_value_that_is_computed(self, of: Callable[..., Any], spelling: str) -> None:
        def norm(x: Any, p: Any, r: Any) -> Any:
            value = of(x, p, r)
            return (value - lnc.mean(value)) * lnc.rsqrt(VARIANCES[spelling](value) + 1e-5)

        program = traced(norm, p="d", r="n")
        assert set(reductions(moments(simplify(program)))) == {"mean_high", "mean_low", "variance"}

    def test_a_sum_of_squared_deviations_is_a_multiple_of_the_variance(self) -> None:
        program = traced(lambda x: lnc.sum(lnc.square(x - lnc.mean(x))))
        assert values(moments(simplify(program))) == ["t1 = variance[d](x)", "y = t1 * 8.0"]

    def test_a_deviation_is_from_both_parts_of_the_mean(self) -> None:
        program = moments(simplify(traced(lambda x: x - lnc.mean(x))))
        assert values(program)[-1] == "y = x - mean_high - mean_low"

    def test_a_mean_that_is_also_an_output_is_their_sum(self) -> None:
        def norm(x: Any) -> Any:
            mean = lnc.mean(x)
            return x - mean, mean

        assert "mean = mean_high + mean_low" in values(moments(simplify(traced(norm))))

    def test_a_mean_that_nothing_deviates_from_stays(self) -> None:
        program = traced(lambda x: x * lnc.mean(lnc.square(x)))
        assert reductions(moments(simplify(program))) == ["mean"]

    def test_a_deviation_from_another_mean_is_no_variance(self) -> None:
        program = traced(lambda x, p: x * lnc.mean(lnc.square(x - lnc.mean(x * p))), p="d")
        assert "variance" not in reductions(moments(simplify(program)))

    def test_a_deviation_from_a_mean_over_fewer_axes_is_no_variance_over_all(self) -> None:
        norm = equation("n [h w]")(lambda x: lnc.mean(lnc.square(x - lnc.mean(x, over="h"))))
        assert "variance" not in reductions(moments(simplify(program_of(norm, SIZES))))


class TestResiduals:
    def saved(self, norm: Any, **options: Any) -> list[tuple[str, tuple[str, ...]]]:
        forward = pair_of(norm, **options).forward
        return [(output.name, output.dims) for output in forward.outputs if output.role == "saved"]

    def test_layer_norm_saves_the_mean_and_rstd_and_not_the_variance(self) -> None:
        assert self.saved(lnc.layer_norm) == [("mu_high", ("...",)), ("mu_low", ("...",)), ("rstd", ("...",))]

    def test_rms_norm_saves_rstd(self) -> None:
        assert self.saved(lnc.rms_norm) == [("rstd", ("...",))]

    def test_an_elementwise_norm_saves_nothing(self) -> None:
        assert (
            self.saved(
                equation("n [d]", p="d")(lambda x, p: lnc.tanh(x) * p),
            )
            == []
        )

    def test_what_only_the_parameters_tell_is_computed_again(self) -> None:
        norm = equation("n [d]", p="d")(lambda x, p: x * p * lnc.rsqrt(lnc.mean(lnc.square(p))))
        assert self.saved(norm) == []

    def test_a_truth_value_is_computed_again_from_what_is_saved(self) -> None:
        norm = equation("n [d]")(lambda x: lnc.where(lnc.sum(x) > 0.5, x, lnc.tanh(x)))
        assert self.saved(norm) == [("t1", ("n",))]
        assert "t1 = sum[d](x)" in values(pair_of(norm).forward)

    def test_what_follows_from_a_saved_value_is_not_saved(self) -> None:
        norm = equation("n [d]")(lambda x: x * lnc.sum(x) + lnc.square(lnc.sum(x)) * lnc.tanh(x))
        assert len(self.saved(norm)) == 1

    @pytest.mark.parametrize("norm", ALL, ids=lambda norm: norm.__name__)
    def test_only_row_sized_values_are_saved(self, norm: Any) -> None:
        pair = pair_of(norm)
        for output in pair.forward.outputs:
            if output.role == "saved":
                assert output.dims
                assert set(output.dims) <= pair.forward.batch
                assert output.dtype in (pair.forward.compute, "float64")

    def test_what_overflows_where_the_input_does_not_is_saved_as_float64(self) -> None:
        def dtypes(function: Callable[..., Any]) -> dict[str, str]:
            pair = pair_of(equation("n [d]")(function))
            return {output.name: output.dtype for output in pair.forward.outputs if output.role == "saved"}

        assert set(dtypes(lambda x: x * lnc.rsqrt(lnc.mean(lnc.square(x)))).values()) == {"float32"}
        assert set(dtypes(lambda x: x / lnc.sqrt(lnc.mean(lnc.square(x)))).values()) == {"float64"}
        assert set(dtypes(lambda x: x * lnc.mean(lnc.square(x))).values()) == {"float64"}
        assert set(dtypes(lambda x: x * lnc.tanh(lnc.mean(lnc.square(x)))).values()) == {"float32"}
        assert set(dtypes(lambda x: x / lnc.sum(lnc.exp(x))).values()) == {"float64"}
        assert set(dtypes(lambda x: x / lnc.sum(lnc.exp(x - lnc.max(x)))).values()) == {"float32"}

    @pytest.mark.parametrize("norm", ALL, ids=lambda norm: norm.__name__)
    def test_the_backward_takes_what_the_forward_saves(self, norm: Any) -> None:
        forward, backward = residuals(moments(simplify(gradient(program_of(norm, SIZES)))))
        given = [(i.name, i.dims, i.dtype) for i in backward.inputs if i.role == "saved"]
        assert given == [(o.name, o.dims, o.dtype) for o in forward.outputs if o.role == "saved"]
        assert {i.role for i in forward.inputs} == {"input"}
        assert {o.role for o in backward.outputs} == {"gradient"}


class TestCollapse:
    @pytest.mark.parametrize(
        ("pattern", "axes", "body", "after"),
        [
            ("n h w [d]", {"p": "d"}, lambda x, p: x * p, ["n*h*w", "d"]),
            ("... [h d]", {"p": "h d"}, lambda x, p: lnc.mean(x) * p, ["...", "h*d"]),
            ("... [h d]", {"p": "h"}, lambda x, p: lnc.mean(x) * p, ["...", "h", "d"]),
            ("... [h d]", {}, lambda x: x - lnc.mean(x, over="h"), ["...", "h", "d"]),
            ("n [c] [h w]", {"p": "c"}, lambda x, p: x * p, ["n", "c", "h*w"]),
            ("n c [h w]", {"p": "c"}, lambda x, p: x * p * lnc.mean(x), ["n", "c", "h*w"]),
            ("n c [h w]", {}, lambda x: x * lnc.mean(x), ["n*c", "h*w"]),
            ("b t [d]", {"p": "b d"}, lambda x, p: x * p, ["b", "t", "d"]),
            ("[a] b [c]", {}, lambda x: x * 2.0, ["a", "b", "c"]),
            ("[a b]", {"p": "b a"}, lambda x, p: x * p, ["a", "b"]),
            ("n m [d]", {"p": "m n"}, lambda x, p: x * p, ["n", "m", "d"]),
        ],
    )
    def test_axes_that_always_stand_together_become_one(
        self, pattern: str, axes: dict[str, str], body: Callable[..., Any], after: list[str]
    ) -> None:
        sizes = dict.fromkeys("habcdw", 2)
        program = verify(collapse(program_of(equation(pattern, **axes)(body), sizes)))
        assert [axis.name for axis in program.axes] == after

    def test_sizes_multiply_and_arrays_follow(self) -> None:
        norm = equation("n m [h d]", p="h d")(lambda x, p: x * p * lnc.max(x))
        program = collapse(program_of(norm, {"h": 3, "d": 4}))
        assert [(axis.name, axis.size) for axis in program.axes] == [("n*m", None), ("h*d", 12)]
        assert [array.dims for array in program.inputs] == [("n*m", "h*d"), ("h*d",)]
        assert program.outputs[0].dims == ("n*m", "h*d")
        assert values(program)[0].endswith("= max[h*d](x)")


@pytest.mark.parametrize("norm", ALL, ids=lambda norm: norm.__name__)
def test_the_pipeline_shows_every_program_to_the_verifier(norm: Any) -> None:
    seen: list[Program] = []

    def check(program: Program) -> Program:
        seen.append(program)
        return verify(program)

    pair = run_passes(program_of(norm, SIZES), check)
    assert len(seen) == 11
    assert seen[-2:] == [pair.forward, pair.backward]
