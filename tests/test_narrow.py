"""Elements in float32 of stages that read float64: channels innermost, many rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import compilation_of, equation

import lncompile as lnc

BATCH_NORM, GROUP_NORM = lnc.batch_norm.over("[n h w] c"), lnc.group_norm.over("n [...] (g [c])")
SHAPE = (3, 12, 8, 40)


def arrays(shape: tuple[int, ...] = SHAPE) -> tuple[Any, ...]:
    rng = np.random.default_rng(0)
    x, dy = rng.normal(3.0, 2.0, (2, *shape)).astype(np.float32)
    weight, bias = rng.normal(size=(2, shape[-1])).astype(np.float32)
    return x, dy, weight, bias


def results(norm: Any, x: Any, dy: Any, weight: Any, bias: Any, **options: int) -> tuple[Any, Any]:
    """The outputs y and dx."""
    y, ctx = norm.forward(x, weight, bias, **options)
    if isinstance(y, tuple):
        return y[0], norm.backward((dy, None, None), ctx).x
    return y, norm.backward(dy, ctx).x


def standardized(x: Any, weight: Any, bias: Any) -> Any:
    mean = lnc.mean(x)
    return (x - mean) * lnc.rsqrt(lnc.mean(lnc.square(x - mean)) + 1e-5) * weight + bias


def around_the_mean(x: Any, residual: Any, weight: Any) -> Any:
    return residual + lnc.mean(x) * weight


def below_the_mean(x: Any, weight: Any, bias: Any) -> Any:
    return lnc.where(x < lnc.mean(x), weight, bias)


@pytest.mark.parametrize(("function", "narrow"), [(standardized, True), (below_the_mean, False)])
def test_where_arithmetic_alone_is_left(function: Any, narrow: bool) -> None:
    # float32 may find two numbers equal that differ.
    compilation = compilation_of(
        equation("[n] c", weight="c", bias="c")(function), {"n": 300, "c": 40}, "float32"
    )
    assert ("ordinary_everywhere" in compilation.lowered.source) == narrow


def test_a_gradient_that_all_rows_share() -> None:
    x, dy, weight, _ = (array.reshape(-1, array.shape[-1]) for array in arrays())
    norm = lnc.norm("[n] c", residual="n c", weight="c")(around_the_mean)
    _, ctx = norm.forward(x, x, weight[0])
    exact = dy.mean(0, dtype=np.float64) * weight[0]
    np.testing.assert_allclose(norm.backward(dy, ctx).x, np.broadcast_to(exact, x.shape), rtol=1e-6)


@pytest.mark.parametrize("factor", [1e34, 1e-36, np.nan, np.inf])
def test_a_channel_has_the_same_bits_whatever_its_neighbours_hold(factor: float) -> None:
    x, dy, weight, bias = arrays()
    changed = x.copy()
    with np.errstate(over="ignore"):
        changed[..., 5] *= np.float32(factor)
    others = np.arange(SHAPE[-1]) != 5
    for one, other in zip(
        results(BATCH_NORM, x, dy, weight, bias), results(BATCH_NORM, changed, dy, weight, bias), strict=True
    ):
        assert np.array_equal(one[..., others], other[..., others])


def test_a_group_has_the_same_bits_whatever_its_neighbours_hold() -> None:
    x, dy, weight, bias = arrays()
    changed = x.copy()
    changed[1, ..., :8] *= 1e30
    for one, other in zip(
        results(GROUP_NORM, x, dy, weight, bias, g=5),
        results(GROUP_NORM, changed, dy, weight, bias, g=5),
        strict=True,
    ):
        assert np.array_equal(one[..., 8:], other[..., 8:])
        assert np.array_equal(one[[0, 2]], other[[0, 2]])


@pytest.mark.parametrize("scale", [1e37, 1e18, 1.0, 1e-18, 1e-36])
@pytest.mark.parametrize("mean", [0.0, 100.0])
def test_numbers_far_from_one(scale: float, mean: float) -> None:
    x, dy, weight, bias = arrays()
    if mean * scale > 1e38:
        mean = 0.0
    x = ((x + mean) * scale).astype(np.float32)
    y, dx = results(BATCH_NORM, x, dy, weight, bias)
    wide, entering = x.astype(np.float64), dy * weight.astype(np.float64)
    axes = (0, 1, 2)
    rstd = 1 / np.sqrt(wide.var(axes) + 1e-5)
    normal = (wide - wide.mean(axes)) * rstd
    exact = normal * weight + bias
    # A few roundings of the largest terms.
    assert np.abs(y - exact).max() <= 8 * 2.0**-24 * (1 + np.abs(normal * weight).max() + np.abs(bias).max())
    terms = rstd * (np.abs(entering).max() + np.abs(normal).max() ** 2 * np.abs(entering).mean(axes))
    gradient = rstd * (entering - entering.mean(axes) - normal * (entering * normal).mean(axes))
    # Below its smallest normal number float32 has no more than that number's last digit.
    assert (np.abs(dx - gradient) <= 8 * 2.0**-24 * terms + 2.0**-148).all()


def test_small_gradients_are_no_exception() -> None:
    # What comes from dy may be as small as dy: not a reason to compute in float64, which rounds otherwise.
    x, dy, weight, bias = arrays()
    _, dx = results(BATCH_NORM, x, dy, weight, bias)
    _, small = results(BATCH_NORM, x, dy * np.float32(2.0**-70), weight, bias)
    assert np.array_equal(small, dx * np.float32(2.0**-70))
