"""The gradient of a maximum: it reaches the largest element, however that is computed, and ties evenly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lncompile as lnc


def _row_norm(x: Any, w: Any) -> Any:
    return lnc.max(lnc.sqrt(lnc.sum(lnc.square(x), over="h"))) + 0.0 * lnc.mean(w)


EQUATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "quotient": lambda x, w: lnc.max(x / 3.0) + 0.0 * lnc.mean(w),
    "product": lambda x, w: lnc.max(lnc.tanh(x) * w),
    "deviation": lambda x, w: lnc.mean(x) - lnc.max(lnc.square(x - w)),
    "of both": lambda x, w: lnc.max(x * w / 3.0) * lnc.max(lnc.exp(x)),
    "smooth": lambda x, w: lnc.max(lnc.sqrt(lnc.square(x - w) + 1e-3)),
    "silu": lambda x, w: lnc.max(x * lnc.sigmoid(x)) * lnc.mean(w),
    "softmax": lambda x, w: lnc.max(lnc.exp(x) / lnc.sum(lnc.exp(x))) + lnc.mean(w),
    "mean of others": lambda x, w: x - lnc.max(lnc.mean(x, over="h")) * lnc.mean(w),
    "row norm": _row_norm,
    "of sums": lambda x, w: x / lnc.max(lnc.sum(lnc.abs(x), over="h")) + lnc.mean(w),
    "several": lambda x, w: lnc.max(lnc.sum(w * x, over="h")) * lnc.sum(w * x, over="n"),
}


PATTERNS = ["b [n h]", "b [h n]", "[n h] b", "[n] b [h]"]
CASES = [(pattern, dtype) for pattern in PATTERNS for dtype in ("float32", "float64")]
CASES.append((PATTERNS[0], "float16"))


def weights(shape: tuple[int, ...], dtype: Any) -> Any:
    """The gradient of what is differentiated: a sum of results with these factors, exact in every dtype."""
    return np.random.default_rng(4).integers(8, 24, shape).astype(dtype) / 16


@pytest.mark.sampled(9)
@pytest.mark.parametrize(("pattern", "dtype"), CASES)
@pytest.mark.parametrize("name", EQUATIONS)
def test_the_largest_has_its_gradient(name: str, pattern: str, dtype: str) -> None:
    norm = lnc.norm(pattern, w="h")(EQUATIONS[name])
    axes = pattern.replace("[", "").replace("]", "").split()
    sizes = {"b": 40, "n": 11, "h": 13}
    rng = np.random.default_rng(3)
    x = rng.permuted(np.linspace(-2, 2, 40 * 11 * 13)).reshape([sizes[axis] for axis in axes]).astype(dtype)
    w = rng.uniform(0.5, 1.5, 13).astype(dtype)

    def gradients(*arguments: Any) -> Any:
        y, ctx = norm.forward(*arguments)
        return norm.backward(weights(y.shape, y.dtype), ctx)

    wide = x.astype(np.float64), w.astype(np.float64)
    found, expected = gradients(x, w), gradients(*wide)
    # Some dozen roundings; that the gradient goes elsewhere changes it by all of its size.
    tolerance = {"float16": 2e-2, "float32": 1e-4, "float64": 0.0}[dtype]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance * np.abs(other).max())

    def total(moved: Any) -> Any:
        y = norm(moved, wide[1])
        return (weights(y.shape, y.dtype) * y).sum()

    # Float64 itself, against a difference along the signs of dx: the error is that of the step's square.
    step = 1e-6 * np.sign(expected[0])
    slope = (total(wide[0] + step) - total(wide[0] - step)) / 2e-6
    np.testing.assert_allclose(slope, np.abs(expected[0]).sum(), rtol=1e-5)
