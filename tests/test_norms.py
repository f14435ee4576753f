"""The norms that come with lncompile against their formulas, and their gradients against differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lncompile as lnc

ROWS, FEATURES = 5, 33
RNG = np.random.default_rng(0)
X, RESIDUAL = RNG.standard_normal((2, ROWS, FEATURES))
WEIGHT, BIAS = RNG.standard_normal((2, FEATURES))
ALPHA = np.asarray(0.7)


def standardized(x: Any) -> Any:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)


def scaled(x: Any) -> Any:
    return x / np.sqrt(np.square(x).mean(-1, keepdims=True) + 1e-5)


def exponentials(x: Any) -> Any:
    e = np.exp(x)
    return e / e.sum(-1, keepdims=True)


CASES: dict[str, tuple[Any, tuple[Any, ...], dict[str, Any], Callable[..., Any]]] = {
    "layer_norm": (lnc.layer_norm, (X, WEIGHT, BIAS), {}, lambda x, w, b: standardized(x) * w + b),
    "rms_norm": (lnc.rms_norm, (X, WEIGHT), {}, lambda x, w: scaled(x) * w),
    "rms_norm 1 + w": (lnc.rms_norm, (X, WEIGHT), {"weight_offset": 1.0}, lambda x, w: scaled(x) * (1 + w)),
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
