"""Calls, forward and backward of norms and of compiled kernels: arguments, shapes, dtypes and results."""

from __future__ import annotations

import copy
import inspect
import pickle
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference

import lncompile as lnc

Array = np.ndarray[Any, np.dtype[Any]]

FEATURES = 33
RNG = np.random.default_rng(0)


def floats(*shape: int, dtype: Any = np.float32) -> Array:
    return RNG.standard_normal(shape).astype(dtype)


X = floats(4, FEATURES)
WEIGHT = floats(FEATURES)
BIAS = floats(FEATURES)
DY = floats(4, FEATURES)


@lnc.norm("... [d]", residual="... d", weight="d")
def add_and_scale(x, residual, weight=1.0, *, factor=2.0):  # type: ignore[no-untyped-def]
    """Two outputs: a norm without epsilon, and what it is taken of."""
    total = x + residual
    return total * lnc.rsqrt(lnc.mean(lnc.square(total))) * weight * factor, total


@lnc.norm("... [d]", alpha="", shift="...")
def by_scalars(x, alpha, shift=0.0):  # type: ignore[no-untyped-def]
    """A scalar argument, one value a row, and no statistic."""
    return lnc.tanh(alpha * x) + shift


@lnc.norm("n (g [c])", weight="(g c)")
def grouped(x, weight=1.0, *, eps=1e-5):  # type: ignore[no-untyped-def]
    return x * lnc.rsqrt(lnc.mean(lnc.square(x)) + eps)


@lnc.norm("...")
def elementwise(x):  # type: ignore[no-untyped-def]
    return lnc.tanh(x)


def close(actual: Array, exact: Array, size: Array, roundings: float = 0.0) -> None:
    assert actual.flags.owndata
    assert type(actual) is np.ndarray
    assert reference.errors(actual, exact, size) <= (roundings or reference.roundings(exact.shape[-1], 64))


class TestArguments:
    def test_by_position_and_by_keyword_alike(self) -> None:
        expected = lnc.layer_norm(X, WEIGHT, BIAS)
        close(expected, *reference.layer_norm(X, WEIGHT, BIAS)[:5:4])
        for y in (
            lnc.layer_norm(X, WEIGHT, bias=BIAS),
            lnc.layer_norm(X, bias=BIAS, weight=WEIGHT),
            lnc.layer_norm(bias=BIAS, weight=WEIGHT, x=X),
            lnc.layer_norm.forward(X, bias=BIAS, weight=WEIGHT)[0],
            lnc.layer_norm.forward(x=X, bias=BIAS, weight=WEIGHT)[0],
        ):
            assert np.array_equal(y, expected)

    @pytest.mark.parametrize(("weight", "bias"), list(product([WEIGHT, None], [BIAS, None])))
    def test_one_that_is_left_out_or_none_is_its_default_and_has_no_gradient(
        self, weight: Array | None, bias: Array | None
    ) -> None:
        given = {name: a for name, a in (("weight", weight), ("bias", bias)) if a is not None}
        exact = reference.layer_norm(X, weight, bias, DY)
        for arguments in (given, {"weight": weight, "bias": bias}):
            y, ctx = lnc.layer_norm.forward(X, **arguments)
            g = lnc.layer_norm.backward(DY, ctx)
            close(y, exact.y, exact.y_size)
            close(g.x, exact.dx, exact.dx_size)
            for gradient, value, wide, size in (
                (g.weight, weight, exact.dweight, exact.dweight_size),
                (g.bias, bias, exact.dbias, exact.dbias_size),
            ):
                assert (gradient is None) == (value is None)
                if value is not None:
                    close(gradient, wide, size)

    def test_a_default_is_a_plain_number_to_the_equation(self) -> None:
        seen = []

        @lnc.norm("... [d]", p="")
        def switched(x, p=0.25):  # type: ignore[no-untyped-def]
            seen.append(p)
            return lnc.where(p >= 0.2, x - lnc.mean(x), x)

        y = switched(X[:, :2])
        assert np.array_equal(y[:, 0], -y[:, 1])
        assert seen == [0.25]

    def test_constants_are_given_by_keyword(self) -> None:
        for eps in (1.0, np.float32(1.0), np.array(1.0), 1):
            close(lnc.layer_norm(X, eps=eps), *reference.layer_norm(X, eps=1.0)[:5:4])
        _, ctx = lnc.layer_norm.forward(X, eps=1.0)
        exact = reference.layer_norm(X, dy=DY, eps=1.0)
        close(lnc.layer_norm.backward(DY, ctx).x, exact.dx, exact.dx_size)
        assert np.array_equal(lnc.layer_norm(X), lnc.layer_norm(X, eps=1e-5))

    def test_constants_that_python_finds_equal_are_told_apart(self) -> None:
        @lnc.norm("... [d]")
        def typed(x, *, c=None):  # type: ignore[no-untyped-def]
            return x * {"int": 1.0, "bool": 2.0, "float": 3.0}[type(c).__name__]

        x = floats(2, 2)
        for c, factor in ((1, 1), (True, 2), (1.0, 3), (1, 1)):
            assert np.array_equal(typed(x, c=c), x * np.float32(factor))

    def test_weight_offset_is_the_form_with_weights_around_zero(self) -> None:
        exact = reference.rms_norm(X, WEIGHT, weight_offset=1.0)
        # The scale 1 + weight is rounded, to within an epsilon of 1 + |weight|.
        size = exact.y_size + np.abs(exact.y / (1 + WEIGHT)) * (1 + np.abs(WEIGHT))
        close(lnc.rms_norm(X, WEIGHT, weight_offset=1.0), exact.y, size)
        assert np.array_equal(lnc.rms_norm(X, weight_offset=0.0), lnc.rms_norm(X))

    def test_scalars_may_be_numpy_scalars_or_arrays_without_dimensions(self) -> None:
        exact = np.tanh(0.5 * X.astype(np.float64))
        for alpha in (np.float32(0.5), np.array(0.5, np.float32)):
            y, ctx = by_scalars.forward(X, alpha)
            np.testing.assert_allclose(y, exact, atol=2**-22)
            g = by_scalars.backward(DY, ctx)
            assert g.alpha.shape == ()
            assert g.shift is None
            slope = DY * (1 - exact**2)
            # tanh is good to two roundings; the sum over all elements adds terms of size |slope * x|.
            np.testing.assert_allclose(g.alpha, (slope * X).sum(), atol=np.abs(slope * X).sum() * 2**-20)

    def test_one_value_a_row(self) -> None:
        shift = floats(4)
        y, ctx = by_scalars.forward(X, np.float32(0.5), shift)
        np.testing.assert_allclose(y, np.tanh(0.5 * X) + shift[:, None], atol=2**-21)
        g = by_scalars.backward(DY, ctx)
        assert g.shift.shape == (4,)
        np.testing.assert_allclose(g.shift, DY.sum(1, dtype=np.float64), atol=np.abs(DY).sum() * 2**-22)


class TestShapes:
    @pytest.mark.parametrize("batch", [(), (1,), (4,), (2, 2), (1, 2, 1, 2), (0,), (3, 0, 2)])
    def test_any_number_of_batch_axes(self, batch: tuple[int, ...]) -> None:
        x, dy = floats(*batch, FEATURES), floats(*batch, FEATURES)
        exact = reference.layer_norm(x, WEIGHT, BIAS, dy)
        y, ctx = lnc.layer_norm.forward(x, WEIGHT, BIAS)
        g = lnc.layer_norm.backward(dy, ctx)
        assert y.shape == g.x.shape == x.shape
        close(y, exact.y, exact.y_size)
        close(g.x, exact.dx, exact.dx_size)
        close(g.weight, exact.dweight, exact.dweight_size)
        close(g.bias, exact.dbias, exact.dbias_size)

    def test_no_rows_have_gradients_of_zero(self) -> None:
        y, ctx = lnc.layer_norm.forward(X[:0], WEIGHT, BIAS)
        g = lnc.layer_norm.backward(y, ctx)
        assert (y.shape, g.x.shape) == ((0, FEATURES), (0, FEATURES))
        assert not g.weight.any()
        assert not g.bias.any()

    @pytest.mark.parametrize("batch", [(), (4,), (2, 3), (0,)])
    def test_no_features(self, batch: tuple[int, ...]) -> None:
        x, weight = floats(*batch, 0), floats(0)
        y, ctx = lnc.layer_norm.forward(x, weight)
        g = lnc.layer_norm.backward(y, ctx)
        assert y.shape == g.x.shape == x.shape
        assert g.weight.shape == (0,)
        assert g.bias is None
        out = floats(*batch, 0)
        assert lnc.layer_norm(x, weight, out=out) is out

    @pytest.mark.parametrize(("statistic", "expected"), [("sum", 0.0), ("mean", np.nan), ("max", -np.inf)])
    def test_statistics_of_no_features_of_a_constant(self, statistic: str, expected: float) -> None:
        def constant(x: Any) -> Any:
            return 3.0 * getattr(lnc, statistic)(x**0)

        np.testing.assert_equal(lnc.norm("... [d]")(constant)(floats(4, 0)), np.full(4, expected, "f4"))

    def test_statistics_of_no_features_are_what_numpy_says(self) -> None:
        @lnc.norm("... [a b]")
        def statistics(x):  # type: ignore[no-untyped-def]
            return lnc.sum(x), lnc.mean(x)

        total, mean = statistics(floats(3, 2, 0))
        assert np.array_equal(total, np.zeros(3))
        assert np.array_equal(mean, np.full(3, np.nan), equal_nan=True)

    def test_one_feature_is_its_own_mean(self) -> None:
        y, ctx = lnc.layer_norm.forward(floats(3, 1), None, floats(1)[:] * 0 + 5)
        assert np.array_equal(y, np.full((3, 1), 5))
        assert not lnc.layer_norm.backward(floats(3, 1), ctx).x.any()

    def test_no_dimensions_where_the_pattern_has_none(self) -> None:
        for x in (np.float32(0.5), np.array(0.5, np.float32), floats(2), floats(2, 3)):
            y, ctx = elementwise.forward(x)
            assert isinstance(y, np.ndarray)
            assert y.shape == np.shape(x)
            np.testing.assert_allclose(y, np.tanh(x), atol=2**-23)
            assert elementwise.backward(y, ctx).x.shape == np.shape(x)
        out = np.empty((), np.float32)
        assert elementwise(np.float32(0.5), out=out) is out
        assert out == elementwise(np.float32(0.5))

    def test_an_output_has_the_axes_that_it_varies_over(self) -> None:
        @lnc.norm("... [d]", w="d", s="")
        def several(x, w, s):  # type: ignore[no-untyped-def]
            return x * s, lnc.mean(x), w * s, s * 2.0

        x = floats(2, 3, 5)
        outputs, ctx = several.forward(x, floats(5), np.float32(2))
        assert [y.shape for y in outputs] == [(2, 3, 5), (2, 3), (5,), ()]
        g = several.backward(tuple(np.ones_like(y) for y in outputs), ctx)
        assert [gradient.shape for gradient in g] == [(2, 3, 5), (5,), ()]

    def test_of_a_split_axis_its_own_part(self) -> None:
        @lnc.norm("n (g [c])")
        def with_means(x):  # type: ignore[no-untyped-def]
            mean = lnc.mean(x)
            return x - mean, mean

        x = floats(3, 6)
        y, mean = with_means(x, g=2)
        assert (y.shape, mean.shape) == ((3, 6), (3, 2))
        np.testing.assert_allclose(mean, x.reshape(3, 2, 3).mean(-1), rtol=0, atol=2**-22)

    def test_the_only_output_may_be_a_value_a_row(self) -> None:
        @lnc.norm("... [d]")
        def average(x):  # type: ignore[no-untyped-def]
            return lnc.mean(x)

        y, ctx = average.forward(np.ones((2, 3, 4), np.float32))
        assert np.array_equal(y, np.ones((2, 3)))
        assert np.array_equal(average.backward(y, ctx).x, np.full((2, 3, 4), 0.25))

    def test_brackets_around_dots_take_any_number_of_features(self) -> None:
        @lnc.norm("[...]", weight="...")
        def whole(x, weight=1.0):  # type: ignore[no-untyped-def]
            return (x - lnc.mean(x)) * weight

        x = np.arange(24, dtype=np.float32)
        for shape in ((24,), (4, 6), (2, 3, 4)):
            y, ctx = whole.forward(x.reshape(shape), np.full(shape, 2, np.float32))
            assert np.array_equal(y.ravel(), 2 * (x - 11.5))
            assert whole.backward(y, ctx).weight.shape == shape

    def test_an_output_may_have_no_axes(self) -> None:
        @lnc.norm("[n d]")
        def total(x):  # type: ignore[no-untyped-def]
            return lnc.sum(x)

        y, ctx = total.forward(np.ones((3, 5), np.float32))
        assert isinstance(y, np.ndarray)
        assert (y.shape, float(y)) == ((), 15.0)
        assert np.array_equal(total.backward(np.float32(2), ctx).x, np.full((3, 5), 2))


class TestSplitAxes:
    def test_a_size_is_given_by_name(self) -> None:
        x = floats(3, 6)
        for g in (1, 2, 3, np.int64(2)):
            rows = x.reshape(3 * int(g), -1)
            y, ctx = grouped.forward(x, g=g)
            close(y.reshape(rows.shape).copy(), *reference.rms_norm(rows)[:5:4])
            dx = grouped.backward(y, ctx).x
            exact = reference.rms_norm(rows, dy=y.reshape(rows.shape))
            close(dx.reshape(rows.shape).copy(), exact.dx, exact.dx_size)

    def test_a_size_is_solved_from_a_parameters_shape(self) -> None:
        @lnc.norm("n (g [c])", weight="c")
        def head_norm(x, weight):  # type: ignore[no-untyped-def]
            return (x - lnc.mean(x)) * weight

        assert head_norm(floats(3, 6), floats(2)).shape == (3, 6)
        assert head_norm(floats(3, 6), floats(3)).shape == (3, 6)

    def test_calls_with_other_sizes_in_turn(self) -> None:
        x = floats(3, 6)
        expected = {g: grouped(x, g=g).copy() for g in (1, 2, 3)}
        assert not np.array_equal(expected[1], expected[2])
        for g in (3, 1, 2, 2, 1, 3):
            assert np.array_equal(grouped(x, g=g), expected[g])


class TestOver:
    def test_parameters_follow_a_renamed_feature_axis(self) -> None:
        norm = lnc.layer_norm.over("n h w [c]")
        x = floats(2, 1, 2, FEATURES)
        exact = reference.layer_norm(x, WEIGHT, BIAS, x)
        y, ctx = norm.forward(x, WEIGHT, BIAS)
        close(y, exact.y, exact.y_size)
        g = norm.backward(x, ctx)
        close(g.weight, exact.dweight, exact.dweight_size)

    def test_a_fixed_number_of_axes_is_checked(self) -> None:
        with pytest.raises(lnc.LncError, match="x: expected 4 dimensions"):
            lnc.layer_norm.over("n h w [c]")(X)

    @pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
    def test_one_feature_axis_may_become_several(self, batch: tuple[int, ...]) -> None:
        norm = lnc.layer_norm.over("... [h w]")
        x, weight, dy = floats(*batch, 3, 5), floats(3, 5), floats(*batch, 3, 5)
        flat = reference.layer_norm(x.reshape(*batch, 15), weight.reshape(15), None, dy.reshape(*batch, 15))
        y, ctx = norm.forward(x, weight)
        g = norm.backward(dy, ctx)
        close(y, flat.y.reshape(x.shape), flat.y_size.reshape(x.shape))
        close(g.x, flat.dx.reshape(x.shape), flat.dx_size.reshape(x.shape))
        close(g.weight, flat.dweight.reshape(3, 5), flat.dweight_size.reshape(3, 5))

    def test_constants_and_documentation_stay(self) -> None:
        norm = lnc.rms_norm.over("n [c]")
        close(norm(X, WEIGHT, eps=0.5), *reference.rms_norm(X, WEIGHT, eps=0.5)[:5:4])
        assert norm.__doc__ == lnc.rms_norm.__doc__
        assert norm.__name__ == "rms_norm"


class TestDtypes:
    @pytest.mark.parametrize("dtypes", [("f8", "f8", "f8"), ("f4", "f8", "f8"), ("f8", "f4", "f4")])
    def test_arithmetic_is_float64_once_an_argument_is(self, dtypes: tuple[str, str, str]) -> None:
        x, weight, bias = (a.astype(t) for a, t in zip((X, WEIGHT, BIAS), dtypes, strict=True))
        dy = DY.astype(dtypes[0])
        y, ctx = lnc.layer_norm.forward(x, weight, bias)
        g = lnc.layer_norm.backward(dy, ctx)
        exact = reference.layer_norm(x, weight, bias, dy)
        # The output has the dtype of x, a gradient that of its argument.
        assert [a.dtype.str[1:] for a in (y, *g)] == [dtypes[0], *dtypes]
        # Each is rounded to it once: half an epsilon, and what float64 adds to that.
        once = 1.0 + 1e-6
        close(y, exact.y, exact.y_size, 0 if dtypes[0] == "f8" else once)
        close(g.x, exact.dx, exact.dx_size, 0 if dtypes[0] == "f8" else once)
        close(g.weight, exact.dweight, exact.dweight_size, 0 if dtypes[1] == "f8" else once)
        close(g.bias, exact.dbias, exact.dbias_size, 0 if dtypes[2] == "f8" else once)

    @pytest.mark.parametrize("out_dtype", ["float64", np.float64, np.dtype(np.float64)])
    def test_out_dtype_is_that_of_the_output(self, out_dtype: Any) -> None:
        y, ctx = lnc.layer_norm.forward(X, WEIGHT, BIAS, out_dtype=out_dtype)
        assert y.dtype == np.float64
        g = lnc.layer_norm.backward(DY.astype(np.float64), ctx)
        assert {a.dtype for a in g} == {np.dtype(np.float32)}
        out = np.empty(X.shape)
        assert lnc.layer_norm(X, WEIGHT, BIAS, out=out, out_dtype=out_dtype) is out
        assert np.array_equal(out, y)
        assert lnc.layer_norm(X, WEIGHT, BIAS).dtype == np.float32

    def test_calls_of_other_dtypes_in_turn(self) -> None:
        expected = {t: lnc.layer_norm(X.astype(t), WEIGHT.astype(t), BIAS.astype(t)) for t in ("f4", "f8")}
        for t in ("f4", "f8", "f8", "f4"):
            y = lnc.layer_norm(X.astype(t), WEIGHT.astype(t), BIAS.astype(t))
            assert y.dtype == t
            assert np.array_equal(y, expected[t])


class TestOut:
    def test_it_is_returned(self) -> None:
        expected = lnc.layer_norm(X, WEIGHT, BIAS)
        out = np.empty_like(X)
        assert lnc.layer_norm(X, WEIGHT, BIAS, out=out) is out
        assert np.array_equal(out, expected)
        out[:] = np.nan
        y, _ = lnc.layer_norm.forward(X, WEIGHT, BIAS, out=out)
        assert y is out
        assert np.array_equal(out, expected)

    def test_an_input_itself(self) -> None:
        expected = lnc.layer_norm(X, WEIGHT, BIAS)
        x = X.copy()
        assert lnc.layer_norm(x, WEIGHT, BIAS, out=x) is x
        assert np.array_equal(x, expected)

    def test_forward_into_its_input_keeps_what_the_backward_needs(self) -> None:
        _, ctx = lnc.layer_norm.forward(X, WEIGHT, BIAS)
        expected = lnc.layer_norm.backward(DY, ctx)
        for strided in (False, True):
            x = np.repeat(X, 2, 1)[:, ::2] if strided else X.copy()
            _, ctx = lnc.layer_norm.forward(x, WEIGHT, BIAS, out=x)
            for a, b in zip(lnc.layer_norm.backward(DY, ctx), expected, strict=True):
                assert np.array_equal(a, b)

    def test_a_parameter_itself(self) -> None:
        x, weight = X[0].copy(), WEIGHT.copy()
        expected = lnc.layer_norm(x, weight)
        assert lnc.layer_norm(x, weight, out=weight) is weight
        assert np.array_equal(weight, expected)

    @pytest.mark.parametrize("kind", ["strided", "negative", "transposed", "big-endian", "memmap", "size-1"])
    def test_any_layout(self, kind: str, tmp_path: Path) -> None:
        out = odd_array(kind, X.shape, tmp_path)
        expected = lnc.layer_norm(X, WEIGHT, BIAS)
        assert lnc.layer_norm(X, WEIGHT, BIAS, out=out) is out
        assert np.array_equal(out, expected)
        # As an input that it is exactly, too.
        out[...] = X
        assert lnc.layer_norm(out, WEIGHT, BIAS, out=out) is out
        assert np.array_equal(out, expected)


def odd_array(kind: str, shape: tuple[int, int], directory: Path) -> Array:
    """A writable float32 array that a kernel cannot write to as it stands, or only as part of something."""
    rows, features = shape
    if kind == "strided":
        return np.empty((rows, 2 * features), np.float32)[:, ::2]
    if kind == "negative":
        return np.empty(shape, np.float32)[::-1, ::-1]
    if kind == "transposed":
        return np.empty((features, rows), np.float32).T
    if kind == "big-endian":
        return np.empty(shape, ">f4")
    if kind == "memmap":
        return np.memmap(directory / "out", np.float32, "w+", shape=shape)
    return np.empty((rows, 1, features), np.float32).transpose(0, 2, 1)[:, :, 0]


class TestSeveralOutputs:
    residual = floats(4, FEATURES)

    def test_they_come_as_a_tuple(self) -> None:
        y, total = add_and_scale(X, self.residual, WEIGHT)
        assert np.array_equal(total, X + self.residual)
        (z, again), ctx = add_and_scale.forward(X, self.residual, WEIGHT)
        assert np.array_equal(y, z)
        assert np.array_equal(total, again)
        assert isinstance(ctx, lnc.Context)

    def test_out_is_a_tuple_and_is_returned(self) -> None:
        y, total = add_and_scale(X, self.residual, WEIGHT)
        for out in ((np.empty_like(X), np.empty_like(X)), [np.empty_like(X), np.empty_like(X)]):
            assert add_and_scale(X, self.residual, WEIGHT, out=out) is out
            assert np.array_equal(out[0], y)
            assert np.array_equal(out[1], total)
            result, _ = add_and_scale.forward(X, self.residual, WEIGHT, out=out)
            assert result is out

    def test_the_sum_may_be_written_over_the_residual(self) -> None:
        y, total = add_and_scale(X, self.residual, WEIGHT)
        residual, out = self.residual.copy(), np.empty_like(X)
        (z, _), ctx = add_and_scale.forward(X, residual, WEIGHT, out=(out, residual))
        assert np.array_equal(residual, total)
        assert np.array_equal(z, y)
        _, kept = add_and_scale.forward(X, self.residual, WEIGHT)
        for a, b in zip(
            add_and_scale.backward((DY, None), ctx), add_and_scale.backward((DY, None), kept), strict=True
        ):
            assert np.array_equal(a, b)

    def test_an_input_given_twice(self) -> None:
        y, total = add_and_scale(X, X, WEIGHT)
        assert np.array_equal(total, 2 * X)
        x, out = X.copy(), np.empty_like(X)
        add_and_scale(x, x, WEIGHT, out=(out, x))
        assert np.array_equal(out, y)
        assert np.array_equal(x, total)

    def test_gradients_come_in_through_each_output_or_none(self) -> None:
        _, ctx = add_and_scale.forward(X, self.residual, WEIGHT)
        ones = np.ones_like(X)
        both = add_and_scale.backward((DY, ones), ctx)
        first = add_and_scale.backward((DY, None), ctx)
        second = add_and_scale.backward([None, ones], ctx)
        neither = add_and_scale.backward((None, None), ctx)
        # Each element is a sum of the two parts, rounded once more.
        np.testing.assert_allclose(both.x, first.x + second.x, rtol=0, atol=np.abs(first.x).max() * 2**-22)
        assert np.array_equal(second.x, ones)
        assert np.array_equal(both.weight, first.weight)
        assert not second.weight.any()
        assert not any(g.any() for g in neither)
        exact = reference.rms_norm(X + self.residual, WEIGHT, DY, eps=0.0)
        close(first.x, 2 * exact.dx, 2 * exact.dx_size)
        assert np.array_equal(first.x, first.residual)

    def test_outputs_without_a_gradient_are_left_out_at_no_cost(self) -> None:
        # The thorough way took 60 µs a call: more than batch norm of 64x1024.
        _, ctx = add_and_scale.forward(X, self.residual, WEIGHT)
        for given in ((DY, None), (None, DY), (None, None)):
            quick = ctx.kernel.try_backward(given, ctx, None)
            for a, b in zip(quick, ctx.kernel.backward(given, ctx), strict=True):
                assert np.array_equal(a, b)
        assert ctx.kernel.try_backward((None,), ctx, None) is None


class TestBackward:
    def test_gradients_are_a_named_tuple_in_the_order_of_the_arguments(self) -> None:
        _, ctx = lnc.layer_norm.forward(X, WEIGHT, BIAS)
        g = lnc.layer_norm.backward(DY, ctx)
        assert tuple in type(g).__mro__
        assert g._fields == ("x", "weight", "bias")
        assert (g[0] is g.x, g[1] is g.weight, g[2] is g.bias) == (True, True, True)

    def test_out_is_an_earlier_result_or_a_tuple_and_is_returned(self) -> None:
        _, ctx = lnc.layer_norm.forward(X, WEIGHT, BIAS)
        expected = lnc.layer_norm.backward(DY, ctx)
        earlier = lnc.layer_norm.backward(2 * DY, ctx)
        plain = (np.empty_like(X), np.empty_like(WEIGHT), np.empty_like(BIAS))
        strided = (
            np.empty((FEATURES, 4), np.float32).T,
            np.empty(99, np.float32)[::3],
            np.empty(FEATURES, ">f4"),
        )
        for out in (earlier, plain, list(plain), strided):
            assert lnc.layer_norm.backward(DY, ctx, out=out) is out
            for a, b in zip(out, expected, strict=True):
                assert np.array_equal(a, b)

    def test_out_has_none_where_an_argument_was_left_out(self) -> None:
        _, ctx = lnc.layer_norm.forward(X, None, BIAS)
        expected = lnc.layer_norm.backward(DY, ctx)
        out = lnc.layer_norm.backward(2 * DY, ctx)
        assert lnc.layer_norm.backward(DY, ctx, out=out) is out
        assert np.array_equal(out.x, expected.x)
        assert np.array_equal(out.bias, expected.bias)

    def test_out_may_be_the_arrays_that_are_read(self) -> None:
        _, ctx = lnc.layer_norm.forward(X, WEIGHT, BIAS)
        expected = lnc.layer_norm.backward(DY, ctx)
        x, weight, bias, dy = X.copy(), WEIGHT.copy(), BIAS.copy(), DY.copy()
        _, ctx = lnc.layer_norm.forward(x, weight, bias)
        lnc.layer_norm.backward(dy, ctx, out=(dy, weight, bias))
        for a, b in zip((dy, weight, bias), expected, strict=True):
            assert np.array_equal(a, b)

    def test_a_context_serves_any_number_of_times(self) -> None:
        _, ctx = lnc.layer_norm.forward(X, WEIGHT, BIAS)
        first = lnc.layer_norm.backward(DY, ctx)
        lnc.layer_norm.backward(X, ctx)
        again = lnc.layer_norm.backward(DY, ctx)
        for a, b in zip(first, again, strict=True):
            assert np.array_equal(a, b)
        assert "layer_norm" in repr(ctx)

    @pytest.mark.parametrize("kind", ["strided", "negative", "transposed", "big-endian", "memmap", "size-1"])
    def test_a_cotangent_of_any_layout(self, kind: str, tmp_path: Path) -> None:
        _, ctx = lnc.layer_norm.forward(X, WEIGHT, BIAS)
        expected = lnc.layer_norm.backward(DY, ctx)
        dy = odd_array(kind, X.shape, tmp_path)
        dy[...] = DY
        for a, b in zip(lnc.layer_norm.backward(dy, ctx), expected, strict=True):
            assert np.array_equal(a, b)


class TestSubclasses:
    def test_results_are_plain_arrays(self, tmp_path: Path) -> None:
        class Tagged(np.ndarray):
            pass

        mapped = np.memmap(tmp_path / "x", np.float32, "w+", shape=X.shape)
        mapped[:] = X
        expected = lnc.layer_norm(X, WEIGHT, BIAS)
        for x in (X.view(Tagged), mapped, X.view(np.recarray)):
            y, ctx = lnc.layer_norm.forward(x, WEIGHT.view(Tagged), BIAS)
            assert type(y) is np.ndarray
            assert np.array_equal(y, expected)
            assert type(lnc.layer_norm(x, WEIGHT, BIAS)) is np.ndarray
            assert {type(g) for g in lnc.layer_norm.backward(DY.view(Tagged), ctx)} == {np.ndarray}


class TestCompiled:
    kernel: Any = staticmethod(
        lnc.compile(lnc.layer_norm, shape=(4, FEATURES), dtype="float32", target="cpu")
    )

    @pytest.mark.parametrize("batch", [(), (4,), (7,), (2, 3), (0,)])
    def test_any_number_of_rows(self, batch: tuple[int, ...]) -> None:
        x, dy = floats(*batch, FEATURES), floats(*batch, FEATURES)
        expected, ctx = lnc.layer_norm.forward(x, WEIGHT, BIAS)
        gradients = lnc.layer_norm.backward(dy, ctx)
        assert np.array_equal(self.kernel(x, WEIGHT, BIAS), expected)
        y, ctx = self.kernel.forward(x, bias=BIAS, weight=WEIGHT)
        assert np.array_equal(y, expected)
        for a, b in zip(self.kernel.backward(dy, ctx), gradients, strict=True):
            assert np.array_equal(a, b)

    def test_out(self) -> None:
        out = np.empty_like(X)
        assert self.kernel(X, WEIGHT, BIAS, out=out) is out
        assert np.array_equal(out, lnc.layer_norm(X, WEIGHT, BIAS))
        y, ctx = self.kernel.forward(X, WEIGHT, BIAS, out=out)
        assert y is out
        g = self.kernel.backward(DY, ctx)
        assert self.kernel.backward(DY, ctx, out=g) is g

    def test_odd_layouts(self, tmp_path: Path) -> None:
        x = odd_array("transposed", X.shape, tmp_path)
        x[...] = X
        assert np.array_equal(self.kernel(x, WEIGHT, BIAS), lnc.layer_norm(X, WEIGHT, BIAS))

    def test_stages_in_order(self) -> None:
        assert list(self.kernel.stages) == ["ir", "grad", "schedule", "source", "llvm", "asm"]
        assert len(self.kernel.stages) == 6
        assert all(isinstance(text, str) and text for text in self.kernel.stages.values())
        with pytest.raises(KeyError):
            self.kernel.stages["ptx"]

    def test_a_mapping_of_dtypes(self) -> None:
        kernel = lnc.compile(
            lnc.layer_norm, shape=(1, FEATURES), dtype={"x": "f4", "weight": np.float64, "bias": None}
        )
        y = kernel(X, WEIGHT.astype(np.float64))
        assert y.dtype == np.float32
        assert np.array_equal(y, lnc.layer_norm(X, WEIGHT.astype(np.float64)))

    def test_constants_sizes_and_the_output_dtype(self) -> None:
        kernel = lnc.compile(
            grouped, shape=(4, 6), dtype={"x": "float32", "weight": None}, g=2, eps=0.5, out_dtype="float64"
        )
        x = floats(5, 6)
        assert np.array_equal(kernel(x), grouped(x, g=2, eps=0.5, out_dtype="float64"))

    def test_target_and_interface_are_told(self) -> None:
        assert self.kernel.target.startswith("cpu:")
        assert self.kernel.interface.norm == "layer_norm"
        assert self.kernel.__doc__ == lnc.layer_norm.__doc__

    def test_a_kernel_for_another_machine_shows_its_stages_and_refuses_calls(self) -> None:
        other = "cpu:aarch64" if "x86" in self.kernel.target else "cpu:x86-64-v2"
        kernel = lnc.compile(lnc.rms_norm, shape=(4, FEATURES), target=other)
        assert kernel.stages["asm"]
        for call in (kernel, kernel.forward):
            with pytest.raises(lnc.LncError, match=f"target: .*{other}"):
                call(X, WEIGHT)

    def test_of_several_outputs(self) -> None:
        kernel = lnc.compile(add_and_scale, shape=(1, FEATURES), dtype="float32")
        (y, total), ctx = kernel.forward(X, X, WEIGHT)
        assert np.array_equal(y, add_and_scale(X, X, WEIGHT)[0])
        assert kernel.backward((y, total), ctx)._fields == ("x", "residual", "weight")


class TestDefinition:
    def test_a_norm_looks_like_its_equation(self) -> None:
        assert lnc.layer_norm.__name__ == "layer_norm"
        assert "arXiv 1607.06450" in (lnc.layer_norm.__doc__ or "")
        assert list(inspect.signature(lnc.layer_norm).parameters)[:3] == ["x", "weight", "bias"]

    def test_a_lambda_is_an_equation_too(self) -> None:
        norm = lnc.norm("... [d]", weight="d")(lambda x, weight=1.0: (x - lnc.mean(x)) * weight)
        y, ctx = norm.forward(floats(3, 5), floats(5))
        assert norm.backward(y, ctx).weight.shape == (5,)

    def test_arguments_may_have_the_names_of_the_machinery(self) -> None:
        @lnc.norm("... [d]", state="d", kernel="d", options="d", self="d")
        def awkward(entry, state, kernel=1.0, options=1.0, self=0.0):  # type: ignore[no-untyped-def]
            return (entry - lnc.mean(entry)) * state * kernel * options + self

        x, p = floats(3, 5), floats(5)
        y, ctx = awkward.forward(x, p, self=p)
        assert np.array_equal(awkward(x, self=p, state=p), y)
        assert awkward.backward(y, ctx).self.shape == (5,)


def local_norm() -> Any:
    @lnc.norm("... [d]")
    def local(x: Any) -> Any:
        return x - lnc.mean(x)

    return local


class TestPickles:
    """Norms by the name that leads to them, contexts with their arrays and the norm."""

    @pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
    def test_norms(self, protocol: int) -> None:
        last = lnc.group_norm.over("n ... (g [c])")
        for norm in (lnc.layer_norm, lnc.rms_norm.over("... [h w]"), last, last.over("n (g [c])")):
            assert pickle.loads(pickle.dumps(norm, protocol)) is norm
            assert copy.deepcopy(norm) is norm

    def test_a_norm_on_a_pattern_is_made_once(self) -> None:
        assert lnc.layer_norm.over("n h w [c]") is lnc.layer_norm.over("n h w [c]")
        assert lnc.layer_norm.over("n h w [c]") is not lnc.layer_norm.over("n h w [k]")
        assert not hasattr(lnc.layer_norm.over, "n")
        assert repr(lnc.layer_norm.over("... [c]")).startswith("<function layer_norm.over.('… [c]') at ")

    @pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda ctx: pickle.loads(pickle.dumps(ctx))])
    def test_contexts(self, again: Any) -> None:
        kernel = lnc.compile(lnc.layer_norm, shape=X.shape, dtype=X.dtype)
        for norm in (lnc.layer_norm, lnc.layer_norm.over("n [c]"), kernel):
            y, ctx = norm.forward(X, WEIGHT, BIAS)
            expected = norm.backward(y, ctx)
            other = again(ctx)
            assert repr(other) == repr(ctx)
            for ours, theirs in zip(expected, norm.backward(y, other), strict=True):
                assert np.array_equal(ours, theirs)

    def test_a_copied_context_has_arrays_of_its_own(self) -> None:
        x = X.copy()
        y, ctx = lnc.layer_norm.forward(x, WEIGHT, BIAS)
        expected, other = lnc.layer_norm.backward(y, ctx), copy.deepcopy(ctx)
        x.fill(0)
        assert np.array_equal(lnc.layer_norm.backward(y, other).weight, expected.weight)

    def test_arrays_that_were_pickled_apart_may_lie_anywhere(self) -> None:
        y, ctx = lnc.layer_norm.forward(X, WEIGHT, BIAS)
        buffers: list[pickle.PickleBuffer] = []
        stream = pickle.dumps(ctx, 5, buffer_callback=buffers.append)
        room = [np.empty(buffer.raw().nbytes + 1, np.uint8)[1:] for buffer in buffers]
        for place, buffer in zip(room, buffers, strict=True):
            place[:] = np.frombuffer(buffer, np.uint8)
        other = pickle.loads(stream, buffers=room)
        assert all(array.flags.aligned for array in other.inputs)
        expected = lnc.layer_norm.backward(y, ctx)
        assert np.array_equal(lnc.layer_norm.backward(y, other).x, expected.x)

    def test_another_process_takes_up_a_context(self) -> None:
        y, ctx = lnc.layer_norm.over("n [c]").forward(X, WEIGHT, BIAS)
        code = "import pickle, sys; norm, y, ctx = pickle.load(sys.stdin.buffer)\n"
        code += "pickle.dump(norm.backward(y, ctx), sys.stdout.buffer)"
        done = subprocess.run(
            [sys.executable, "-c", code],
            input=pickle.dumps((lnc.layer_norm.over("n [c]"), y, ctx)),
            capture_output=True,
            check=True,
        )
        expected = lnc.layer_norm.over("n [c]").backward(y, ctx)
        for ours, theirs in zip(expected, pickle.loads(done.stdout), strict=True):
            assert np.array_equal(ours, theirs)

    def test_what_has_no_name_says_so(self) -> None:
        local = local_norm()
        y, ctx = local.forward(X)
        for value in (local, local.over("n [c]"), ctx):
            with pytest.raises((AttributeError, pickle.PicklingError), match=r"local_norm\.<locals>\.local"):
                pickle.dumps(value)
        assert np.array_equal(local.backward(y, copy.deepcopy(ctx)).x, local.backward(y, ctx).x)
        with pytest.raises((AttributeError, pickle.PicklingError), match=r"compile\(local\)"):
            pickle.dumps(lnc.compile(local, shape=X.shape, dtype=X.dtype))
