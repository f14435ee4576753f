"""The norms that come with lncompile against their formulas, and their gradients against differences."""

from __future__ import annotations

import copy
import linecache
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lncompile as lnc
from lncompile.backends.cpu.target import find, host

pytestmark = pytest.mark.sampled(3)

ROWS, FEATURES = 5, 33
RNG = np.random.default_rng(0)
X, RESIDUAL = RNG.standard_normal((2, ROWS, FEATURES))
WEIGHT, BIAS = RNG.standard_normal((2, FEATURES))
ALPHA = np.asarray(0.7)
IMAGE, VIDEO = RNG.standard_normal((3, 6, 4, 5)), RNG.standard_normal((2, 4, 3, 2, 2))
GAIN, SHIFT, MEAN, VAR = RNG.standard_normal((4, 6))
TOKENS, SCALES, SHIFTS = RNG.standard_normal((2, 3, 9)), *RNG.standard_normal((2, 2, 9))


def standardized(x: Any, axis: Any = -1) -> Any:
    return (x - x.mean(axis, keepdims=True)) / np.sqrt(x.var(axis, keepdims=True) + 1e-5)


def by_channel(x: Any, weight: Any, bias: Any) -> Any:
    """x [n c ...] times weight [c] plus bias [c]."""
    ones = (1,) * (x.ndim - 2)
    return x * weight.reshape(-1, *ones) + bias.reshape(-1, *ones)


def batch_formula(x: Any, weight: Any, bias: Any) -> Any:
    axes = (0, *range(2, x.ndim))
    return by_channel(standardized(x, axes), weight, bias), x.mean(axes), x.var(axes)


def inference_formula(x: Any, mean: Any, var: Any, weight: Any, bias: Any) -> Any:
    rstd = 1 / np.sqrt(var + 1e-5)
    return by_channel(x, weight * rstd, bias - mean * weight * rstd)


def instance_formula(x: Any, weight: Any, bias: Any) -> Any:
    return by_channel(standardized(x, tuple(range(2, x.ndim))), weight, bias)


def group_formula(x: Any, weight: Any, bias: Any) -> Any:
    parts = x.reshape(len(x), 2, -1)
    return by_channel(standardized(parts, 2).reshape(x.shape), weight, bias)


def scaled(x: Any) -> Any:
    return x / np.sqrt(np.square(x).mean(-1, keepdims=True) + 1e-5)


def exponentials(x: Any) -> Any:
    e = np.exp(x)
    return e / e.sum(-1, keepdims=True)


CASES: dict[str, tuple[Any, tuple[Any, ...], dict[str, Any], Callable[..., Any]]] = {
    "layer_norm": (lnc.layer_norm, (X, WEIGHT, BIAS), {}, lambda x, w, b: standardized(x) * w + b),
    "rms_norm": (lnc.rms_norm, (X, WEIGHT), {}, lambda x, w: scaled(x) * w),
    "rms_norm 1 + w": (lnc.rms_norm, (X, WEIGHT), {"weight_offset": 1.0}, lambda x, w: scaled(x) * (1 + w)),
    "batch_norm": (lnc.batch_norm, (IMAGE, GAIN, SHIFT), {}, batch_formula),
    "batch_norm of rows": (lnc.batch_norm, (X[:, :6], GAIN, SHIFT), {}, batch_formula),
    "batch_norm of video": (lnc.batch_norm, (VIDEO, GAIN[:4], SHIFT[:4]), {}, batch_formula),
    "batch_norm_inference": (
        lnc.batch_norm_inference,
        (IMAGE, MEAN, np.square(VAR), GAIN, SHIFT),
        {},
        inference_formula,
    ),
    "group_norm": (lnc.group_norm, (IMAGE, GAIN, SHIFT), {"g": 2}, group_formula),
    "group_norm of rows": (lnc.group_norm, (X[:, :6], GAIN, SHIFT), {"g": 2}, group_formula),
    "instance_norm": (lnc.instance_norm, (IMAGE, GAIN, SHIFT), {}, instance_formula),
    "instance_norm of video": (lnc.instance_norm, (VIDEO, GAIN[:4], SHIFT[:4]), {}, instance_formula),
    "ada_layer_norm": (
        lnc.ada_layer_norm,
        (TOKENS, SCALES, SHIFTS),
        {},
        lambda x, s, t: standardized(x) * (1 + s[:, None]) + t[:, None],
    ),
    "ada_layer_norm of rows": (
        lnc.ada_layer_norm,
        (X, RESIDUAL, RESIDUAL),
        {},
        lambda x, s, t: standardized(x) * (1 + s) + t,
    ),
    "add_layer_norm": (
        lnc.add_layer_norm,
        (X, RESIDUAL, WEIGHT, BIAS),
        {},
        lambda x, r, w, b: (standardized(x + r) * w + b, x + r),
    ),
    "add_rms_norm": (lnc.add_rms_norm, (X, RESIDUAL, WEIGHT), {}, lambda x, r, w: (scaled(x + r) * w, x + r)),
    "l2_norm": (lnc.l2_norm, (X,), {}, lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)),
    "softmax": (lnc.softmax, (X,), {}, exponentials),
    "log_softmax": (lnc.log_softmax, (X,), {}, lambda x: np.log(exponentials(x))),
    "dyt": (lnc.dyt, (X, ALPHA, WEIGHT, BIAS), {}, lambda x, a, w, b: np.tanh(a * x) * w + b),
}
each = pytest.mark.parametrize(("norm", "arrays", "options", "formula"), CASES.values(), ids=CASES)


def as_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


@each
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_forward(norm: Any, arrays: Any, options: Any, formula: Any, dtype: Any) -> None:
    given = [array.astype(dtype) for array in arrays]
    expected = as_tuple(formula(*(array.astype(np.float64) for array in given)))
    # A dozen operations, each rounded once, on values of at most about 10.
    bound = 12 * 10 * np.finfo(dtype).eps
    for got, want in zip(as_tuple(norm(*given, **options)), expected, strict=True):
        assert got.dtype == dtype
        np.testing.assert_allclose(got, want, rtol=0, atol=bound)


@each
def test_gradients(norm: Any, arrays: Any, options: Any, formula: Any) -> None:
    """Of a random combination of all outputs, along a random direction of each argument, in float64."""
    results, ctx = norm.forward(*arrays, **options)
    cotangents = tuple(RNG.standard_normal(result.shape) for result in as_tuple(results))
    gradients = norm.backward(cotangents if isinstance(results, tuple) else cotangents[0], ctx)
    step = 1e-5
    for at, gradient in enumerate(gradients):
        direction = RNG.standard_normal(arrays[at].shape)

        def objective(sign: float, at: int = at, direction: Any = direction) -> float:
            moved = [array + sign * step * direction if i == at else array for i, array in enumerate(arrays)]
            outputs = as_tuple(formula(*moved))
            return float(sum((c * y).sum() for c, y in zip(cotangents, outputs, strict=True)))

        slope = (objective(1) - objective(-1)) / (2 * step)
        # The third derivative times step² is below 1e-8 of the slope's terms, rounding over the step 1e-10.
        assert float((gradient * direction).sum()) == pytest.approx(slope, rel=1e-6, abs=1e-6)


def test_extreme_inputs_of_softmax() -> None:
    x = np.array([[1e4, 0, -1e4], [-np.inf, 0, 0], [-1e38, -1e38, 3e38]], np.float32)
    np.testing.assert_array_equal(lnc.softmax(x), np.array([[1, 0, 0], [0, 0.5, 0.5], [0, 0, 1]], np.float32))
    np.testing.assert_allclose(lnc.log_softmax(x[:1]), [[0, -1e4, -2e4]])


def test_a_zero_vector_has_no_direction() -> None:
    assert not lnc.l2_norm(np.zeros((2, 5), np.float32)).any()


#: Norms on other patterns, how the original's first argument lies there, and the other arguments.
ELSEWHERE: dict[str, tuple[Any, str, tuple[int, ...], tuple[Any, ...], dict[str, Any]]] = {
    "batch_norm": (lnc.batch_norm, "[n h w] c", (0, 2, 3, 1), (GAIN, SHIFT), {}),
    "batch_norm with dots": (lnc.batch_norm, "[n ...] c", (0, 2, 3, 1), (GAIN, SHIFT), {}),
    "batch_norm of channels first": (lnc.batch_norm, "c [n h w]", (1, 0, 2, 3), (GAIN, SHIFT), {}),
    "batch_norm_inference": (
        lnc.batch_norm_inference,
        "n ... c",
        (0, 2, 3, 1),
        (MEAN, np.square(VAR), GAIN, SHIFT),
        {},
    ),
    "group_norm": (lnc.group_norm, "n [...] (g [c])", (0, 2, 3, 1), (GAIN, SHIFT), {"g": 2}),
    "group_norm renamed": (lnc.group_norm, "n [h w] (g [k])", (0, 2, 3, 1), (GAIN, SHIFT), {"g": 2}),
    "instance_norm": (lnc.instance_norm, "n [h w] c", (0, 2, 3, 1), (GAIN, SHIFT), {}),
}


@pytest.mark.parametrize(
    ("norm", "pattern", "order", "parameters", "options"), ELSEWHERE.values(), ids=ELSEWHERE
)
def test_other_layouts_give_the_same(
    norm: Any, pattern: str, order: Any, parameters: Any, options: Any
) -> None:
    """Outputs and gradients of another layout of the same numbers, in float64."""
    moved = np.ascontiguousarray(IMAGE.transpose(order))
    other = norm.over(pattern)
    there, ctx_there = other.forward(moved, *parameters, **options)
    here, ctx_here = norm.forward(IMAGE, *parameters, **options)
    dy = tuple(RNG.standard_normal(y.shape) for y in as_tuple(here))
    dy_there = (np.ascontiguousarray(dy[0].transpose(order)), *dy[1:])
    several = isinstance(here, tuple)
    g_here = norm.backward(dy if several else dy[0], ctx_here)
    g_there = other.backward(dy_there if several else dy_there[0], ctx_there)
    back = np.argsort(order)
    for ours, others in ((as_tuple(there), as_tuple(here)), (g_there, g_here)):
        for at, (a, b) in enumerate(zip(ours, others, strict=True)):
            np.testing.assert_allclose(a.transpose(back) if at == 0 else a, b, rtol=0, atol=1e-12)


def test_layer_norm_over_channels_is_that_of_the_last_axis() -> None:
    y = lnc.layer_norm.over("n [c] h w")(IMAGE, GAIN, SHIFT)
    expected = lnc.layer_norm(np.ascontiguousarray(IMAGE.transpose(0, 2, 3, 1)), GAIN, SHIFT)
    np.testing.assert_allclose(y, expected.transpose(0, 3, 1, 2), rtol=0, atol=1e-12)


def test_a_residual_follows_to_every_pattern() -> None:
    last = np.ascontiguousarray(IMAGE.transpose(0, 2, 3, 1))
    for pattern in ("n h w [c]", "n ... [c]", "... [c]"):
        y, added = lnc.add_layer_norm.over(pattern)(last, 2 * last, GAIN, SHIFT)
        np.testing.assert_allclose(added, 3 * last)
        np.testing.assert_allclose(y, standardized(3 * last) * GAIN + SHIFT, rtol=0, atol=1e-12)


def test_parameters_over_a_renamed_batch_axis_are_refused() -> None:
    for norm, pattern in (
        (lnc.batch_norm, "[n] k [...]"),
        (lnc.group_norm, "n (q [c]) [...]"),
        (lnc.ada_layer_norm, "n ... [d]"),
    ):
        with pytest.raises(lnc.LncError, match=r"unknown axis '[cgb]'"):
            norm.over(pattern)


def test_statistics_of_batch_norm_have_shapes_of_their_own() -> None:
    y, mean, var = lnc.batch_norm(IMAGE)
    assert (y.shape, mean.shape, var.shape) == (IMAGE.shape, (6,), (6,))
    out = np.empty_like(y), np.empty_like(mean), np.empty_like(var)
    assert lnc.batch_norm(IMAGE, out=out) is out
    each = lnc.batch_norm.over("n c [...]")(IMAGE)
    assert [a.shape for a in each] == [IMAGE.shape, (3, 6), (3, 6)]


def test_the_number_of_groups_is_given_by_name() -> None:
    with pytest.raises(lnc.LncError, match="g: the shapes do not tell the size of axis 'g'; pass g="):
        lnc.group_norm(IMAGE)
    with pytest.raises(lnc.LncError, match="no multiple of g=4"):
        lnc.group_norm(IMAGE, g=4)


def test_gradients_can_be_pickled_and_copied() -> None:
    x = np.ones((2, 4), np.float32)
    y, ctx = lnc.layer_norm.forward(x)
    gradients = lnc.layer_norm.backward(y, ctx)
    for again in (pickle.loads(pickle.dumps(gradients)), copy.deepcopy(gradients)):
        assert type(again) is type(gradients)
        np.testing.assert_array_equal(again.x, gradients.x)


@pytest.mark.parametrize("local", ["t4", "t8", "t10", "t12"])
def test_a_local_variable_may_have_a_name_like_the_compiler_s_own(local: str) -> None:
    text = f"""
def norm(x):
    first = lnc.unstack(x, "c", 3)[0]
    {local} = lnc.exp(x) * lnc.rsqrt(lnc.mean(lnc.square(x)) + 1.0)
    return {local}, lnc.sum(first)
"""
    namespace: dict[str, Any] = {"lnc": lnc}
    exec(compile(text, "<names>", "exec"), namespace)
    linecache.cache["<names>"] = (len(text), None, text.splitlines(keepends=True), "<names>")
    x = np.linspace(-1, 1, 24).reshape(2, 3, 4)
    scaled, _ = lnc.norm("n [c d]")(namespace["norm"])(x)
    expected = np.exp(x) / np.sqrt(np.square(x).mean((1, 2), keepdims=True) + 1.0)
    np.testing.assert_allclose(scaled, expected, rtol=1e-12)


@lnc.norm("... [d]")
def centred(x: Any) -> Any:
    return x - lnc.mean(x)  # nothing of the mean is kept for a backward


@pytest.mark.parametrize("norm", [lnc.layer_norm, lnc.add_layer_norm, centred])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("features", [7, 33])
@pytest.mark.parametrize("factor", [np.nan, 1e160])
def test_rows_side_by_side_do_not_see_one_that_goes_the_careful_way(
    norm: Any, dtype: str, features: int, factor: float
) -> None:
    x = np.random.default_rng(0).standard_normal((9, features))
    other = x.copy()
    other[4] *= factor if dtype == "float64" else min(factor, 1e25)
    rest = [np.zeros((9, features), dtype)] if norm is lnc.add_layer_norm else []
    first, again = (norm(array.astype(dtype), *rest) for array in (x, other))
    if isinstance(first, tuple):
        first, again = first[0], again[0]
    np.testing.assert_array_equal(np.delete(first, 4, 0), np.delete(again, 4, 0))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("features", [1, 7, 64])
def test_gradient_of_l2_norm_below_eps_is_that_of_a_division_by_eps(features: int, dtype: str) -> None:
    for size in (0.0, 1e-30, 1e-14):
        y, ctx = lnc.l2_norm.forward(np.full((2, features), size, dtype))
        dx = lnc.l2_norm.backward(np.ones_like(y), ctx).x
        np.testing.assert_allclose(y, size / 1e-12, rtol=1e-6, atol=0)
        np.testing.assert_allclose(dx, 1e12, rtol=1e-6)


@lnc.norm("[n gate] c", row="gate c")
def gated(x: Any, row: Any) -> Any:  # a kernel has a ``row`` of its own
    mean = lnc.mean(x, over="n")
    first, second = lnc.unstack((x - mean) * row, "gate", 2)
    return lnc.sigmoid(first) * second, mean + row


def test_gradients_of_nothing_are_sums_of_nothing_and_what_comes_in_beside_them() -> None:
    row = np.ones((2, 3), np.float32)
    (y, beside), ctx = gated.forward(np.empty((0, 2, 3), np.float32), row)
    assert y.shape == (0, 3)
    assert np.isnan(beside).all()
    assert not gated.backward((y, None), ctx).row.any()
    dbeside = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert np.array_equal(gated.backward((None, dbeside), ctx).row, dbeside)


@pytest.mark.parametrize("target", ["cpu:x86-64-v2", "cpu:x86-64-v3", "cpu"])
def test_float64_means_of_ordered_numbers(target: str) -> None:
    """Registers of few lanes get many additions each: a total of as many more loses no more digits."""
    if host().triple != find(target).triple or find(target).vector_bytes > host().vector_bytes:
        pytest.skip("not of this machine")
    x = np.linspace(0, 1, 65536)[None]
    kernel = lnc.compile(lnc.layer_norm, shape=x.shape, dtype="float64", target=target)
    _, ctx = kernel.forward(x, np.ones(65536), np.zeros(65536))
    high, low, rstd = (float(value[0]) for value in ctx.saved)
    mean = math.fsum(x[0]) / 65536
    # Most errors cancel; with 16 times as many additions to the total four units were left.
    assert abs(high + low - mean) <= 2 * np.spacing(mean)
    # Additions a lane of 8 and of totals, each half a unit of the variance; half of that is of its root.
    additions = 2 * math.sqrt(65536 / 8)
    variance = math.fsum((x[0] - mean) ** 2) / 65536
    assert abs(rstd - 1 / math.sqrt(variance + 1e-5)) <= additions / 4 * np.spacing(rstd)
