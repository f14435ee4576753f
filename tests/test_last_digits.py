"""Equations in which the last digit decides: a comparison, a root at zero, what cancels, what overflows.

What NumPy computes of float32 arrays one operation after another has these properties, so kernels have them,
whatever rules rewrote the equation and whichever loops computed the two sides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lncompile as lnc

#: Features in the lanes, more of them than a row remembers, and rows in the lanes.
PATTERNS = {"b [d]": (60, 37), "b [d] long": (4, 70001), "[d] b": (300, 40), "[d b]": (9, 40)}


def positive(pattern: str, seed: int = 0) -> Any:
    return np.random.default_rng(seed).uniform(0.1, 1, PATTERNS[pattern]).astype(np.float32)


def compiled(pattern: str, function: Callable[..., Any], **axes: str) -> Any:
    return lnc.norm(pattern.removesuffix(" long"), **axes)(function)


def features_of(pattern: str) -> tuple[int, ...]:
    return {"b [d]": (1,), "b [d] long": (1,), "[d] b": (0,), "[d b]": (0, 1)}[pattern]


#: How a product meets its own maximum -> how many elements of a row are told to be the largest.
MEETINGS: dict[str, Callable[[Any], Any]] = {
    "z >= max": lambda z: lnc.where(z >= lnc.max(z), 1.0, 0.0),
    "max <= z": lambda z: lnc.where(lnc.max(z) <= z, 1.0, 0.0),
    "not z < max": lambda z: lnc.where(z < lnc.max(z), 0.0, 1.0),
    "z + max(-z) <= 0": lambda z: lnc.where(z + lnc.max(-z) <= 0.0, 1.0, 0.0),
    "difference": lambda z: lnc.where(lnc.max(z) - z > 0.0, 0.0, 1.0),
    "quotient": lambda z: lnc.where(z / lnc.max(z) >= 1.0, 1.0, 0.0),
}


@pytest.mark.sampled(5)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("name", MEETINGS)
def test_a_computed_value_meets_its_own_maximum(name: str, pattern: str, dtype: str) -> None:
    x = positive(pattern).astype(dtype)
    y = compiled(pattern, lambda x: MEETINGS[name](lnc.exp(x * 3.0) * x / 7.0))(x)
    largest = y.astype(np.float64).sum(features_of(pattern))
    # Elements of equal digits may be the largest together.
    assert (largest >= 1).all()
    assert dtype == "float16" or largest.mean() < 1.2


@pytest.mark.parametrize("pattern", PATTERNS)
def test_roots_of_the_distance_to_the_largest(pattern: str) -> None:
    norm = compiled(pattern, lambda x: lnc.sqrt(lnc.max(lnc.exp(x) * x) - lnc.exp(x) * x))
    y = norm(positive(pattern))
    assert (y >= 0).all()
    assert (y == 0).any(features_of(pattern)).all()


@pytest.mark.sampled(3)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_shares_of_the_largest(pattern: str, dtype: str) -> None:
    x = positive(pattern).astype(dtype)
    share = compiled(pattern, lambda x: x / lnc.max(lnc.abs(x)))(-x)
    assert (np.abs(share).max(features_of(pattern)) == 1).all()
    rest = compiled(pattern, lambda x: lnc.sqrt(1.0 - x / lnc.max(x)))(x)
    assert (rest >= 0).all()


NUMBERS = [0.1, 0.3, 0.7, 1e-3, 1e30]
ELEMENTS: dict[str, Callable[[Any, float], Any]] = {
    "equal": lambda x, c: lnc.where(x == c, 1.0, 0.0),
    "largest": lambda x, c: lnc.where(lnc.max(x) <= c, 1.0, 0.0) + 0.0 * x,
    "least": lambda x, c: lnc.where(-lnc.max(-x) >= c, 1.0, 0.0) + 0.0 * x,
    "maximum": lambda x, c: lnc.where(lnc.maximum(x, c) > x, 0.0, 1.0),
    "mean": lambda x, c: lnc.mean(lnc.where(x == c, 1.0, 0.0)),
}


@pytest.mark.sampled(7)
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("name", ELEMENTS)
@pytest.mark.parametrize("number", NUMBERS)
def test_elements_that_were_set_to_a_number_equal_it(number: float, name: str, pattern: str) -> None:
    x = np.full(PATTERNS[pattern], number, np.float32)
    assert (compiled(pattern, lambda x: ELEMENTS[name](x, number))(x) == 1).all()


@pytest.mark.parametrize("pattern", ["b [d]", "[d] b"])
def test_what_an_equation_centres_stays_centred(pattern: str) -> None:
    rng = np.random.default_rng(2)
    x, z = ((rng.standard_normal(PATTERNS[pattern]) + 1e6).astype(np.float32) for _ in "xz")
    p = np.full(PATTERNS[pattern][pattern.split().index("b")], 1e6, np.float32)
    over = features_of(pattern)[0]
    wide, other = (value.astype(np.float64) for value in (x, z))

    def centred(value: Any) -> Any:
        return value - value.mean(over, keepdims=True)

    def correlation(x: Any, z: Any, p: Any) -> Any:
        return lnc.mean((x - lnc.mean(x)) * (z - lnc.mean(z)))

    found = {
        "correlation": correlation,
        "number": lambda x, z, p: lnc.mean(x - 1e6),
        "parameter": lambda x, z, p: lnc.mean(x - p),
        "both": lambda x, z, p: lnc.mean((x - p) * (z - lnc.mean(z))),
    }
    expected = {
        "correlation": (centred(wide) * centred(other)).mean(over),
        "number": (wide - 1e6).mean(over),
        "parameter": (wide - 1e6).mean(over),
        "both": ((wide - 1e6) * centred(other)).mean(over),
    }
    for name, function in found.items():
        y = compiled(pattern, function, z=pattern.replace("[", "").replace("]", ""), p="b")(x, z, p)
        # Numbers about 1, right to some float32 digits: float32 at a million has an eighth of a unit.
        np.testing.assert_allclose(y, expected[name], rtol=0, atol=1e-5, err_msg=name)


SCALED: dict[str, Callable[[Any], Any]] = {
    "x * 1e30 * 1e30": lambda x: x * 1e30 * 1e30,
    "1e25 * x * 1e25": lambda x: 1e25 * x * 1e25,
    "x / 1e-39": lambda x: x / 1e-39,
    "x / 1e-20 / 1e-20": lambda x: x / 1e-20 / 1e-20,
    "x * 1e-30 * 1e-30": lambda x: x * 1e-30 * 1e-30,
    "x / 1e38": lambda x: x / 1e38,
}


@pytest.mark.parametrize("name", SCALED)
def test_constants_of_a_product_do_not_overflow_together(name: str) -> None:
    x = np.array([[0, 1e-30, -1e-38, 1e30, 1]], np.float32)
    with np.errstate(over="ignore", under="ignore"):
        expected = SCALED[name](x)
    # Two roundings instead of one; below the least normal number, two of its last units.
    np.testing.assert_allclose(compiled("b [d]", SCALED[name])(x), expected, rtol=3e-7, atol=3e-45)


@pytest.mark.parametrize("size", [1e30, 1e20, 1e-30])
@pytest.mark.parametrize("norm", [lnc.rms_norm, lnc.l2_norm, lnc.layer_norm, lnc.softmax])
def test_rows_of_one_element_have_the_range_of_longer_ones(norm: Any, size: float) -> None:
    x = np.full((5, 1), size, np.float32)
    (y, ctx), (wide, wide_ctx) = norm.forward(x), norm.forward(x.astype(np.float64))
    # The number of roundings of the longest of these equations.
    np.testing.assert_allclose(y, wide, rtol=5e-7, atol=0)
    dx, wide_dx = norm.backward(y, ctx), norm.backward(wide, wide_ctx)
    # Gradients of norms of one element cancel: they are right to the size of their terms, dy / x or dy / eps.
    bound = 5e-7 * np.abs(wide) / min(size, 3e-3) if norm is not lnc.softmax else 0.0
    assert (np.abs(dx[0] - wide_dx[0]) <= bound).all()


def test_nan_is_not_lost_where_the_rest_cancels() -> None:
    x = np.array([[np.nan, 1, 2], [1, 2, 3], [np.inf, 0, 1]], np.float32)
    left = compiled("b [d]", lambda x: lnc.sum(x - lnc.mean(x)))(x)
    np.testing.assert_allclose(left, [np.nan, 0, np.nan], rtol=0, atol=1e-6)
    # As torch's amax.
    largest = compiled("b [d]", lambda x: lnc.max(x))
    _, ctx = largest.forward(x)
    dx = largest.backward(np.ones(3, np.float32), ctx).x
    np.testing.assert_array_equal(dx, [[np.nan] * 3, [0, 0, 1], [1, 0, 0]])
