"""``lncompile.functional``: torch's signatures, and what they compute."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import reference

import lncompile as lnc
import lncompile.functional as F

#: Parameters of torch.nn.functional (2.13) in order, with their defaults.
REQUIRED = inspect.Parameter.empty
SIGNATURES: dict[str, dict[str, Any]] = {
    "layer_norm": {
        "input": REQUIRED,
        "normalized_shape": REQUIRED,
        "weight": None,
        "bias": None,
        "eps": 1e-5,
    },
    "rms_norm": {"input": REQUIRED, "normalized_shape": REQUIRED, "weight": None, "eps": None},
    "batch_norm": {
        "input": REQUIRED,
        "running_mean": REQUIRED,
        "running_var": REQUIRED,
        "weight": None,
        "bias": None,
        "training": False,
        "momentum": 0.1,
        "eps": 1e-5,
    },
    "group_norm": {"input": REQUIRED, "num_groups": REQUIRED, "weight": None, "bias": None, "eps": 1e-5},
    "instance_norm": {
        "input": REQUIRED,
        "running_mean": None,
        "running_var": None,
        "weight": None,
        "bias": None,
        "use_input_stats": True,
        "momentum": 0.1,
        "eps": 1e-5,
    },
}


def floats(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("name", [name for name in SIGNATURES if hasattr(F, name)])
def test_signatures_are_torchs_and_more_stands_at_the_end(name: str) -> None:
    parameters = list(inspect.signature(getattr(F, name)).parameters.values())
    expected = SIGNATURES[name]
    ours = {p.name: p.default for p in parameters[: len(expected)]}
    assert list(ours.items()) == list(expected.items())
    assert all(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters[: len(expected)])
    assert all(p.default is not REQUIRED for p in parameters[len(expected) :])
    assert "out" in [p.name for p in parameters[len(expected) :]]


#: Shapes with how many of their last dimensions are normalized.
CASES = [((4, 33), 1), ((33,), 1), ((2, 3, 5), 2), ((2, 3, 5), 3), ((2, 0, 3, 5), 2), ((1, 2, 3, 4), 3)]


@pytest.mark.parametrize(("shape", "count"), CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
class TestResults:
    def test_layer_norm(self, shape: tuple[int, ...], count: int, dtype: Any) -> None:
        x = floats(*shape, dtype=dtype)
        last = shape[-count:]
        weight, bias = floats(*last, seed=1, dtype=dtype), floats(*last, seed=2, dtype=dtype)
        features = int(np.prod(last))
        flat = (*shape[: len(shape) - count], features)
        exact = reference.layer_norm(x.reshape(flat), weight.ravel(), bias.ravel())
        out = np.empty_like(x)
        for y in (
            F.layer_norm(x, last, weight, bias),
            F.layer_norm(x, list(last), weight=weight, bias=bias, eps=1e-5),
            F.layer_norm(x, [int(size) for size in last], weight, bias, out=out),
            F.layer_norm(np.asfortranarray(x), last, weight, bias),
        ):
            assert y.shape == x.shape
            assert y.dtype == dtype
            assert reference.errors(y.reshape(flat), exact.y, exact.y_size) <= reference.roundings(features)
        assert y is not out
        assert F.layer_norm(x, last, weight, bias, out=out) is out

    def test_rms_norm(self, shape: tuple[int, ...], count: int, dtype: Any) -> None:
        x = floats(*shape, dtype=dtype)
        last = shape[-count:]
        weight = floats(*last, seed=1, dtype=dtype)
        features = int(np.prod(last))
        flat = (*shape[: len(shape) - count], features)
        out = np.full_like(x, np.nan)
        for eps in (None, 0.25):
            meant = float(np.finfo(dtype).eps) if eps is None else eps
            exact = reference.rms_norm(x.reshape(flat), weight.ravel(), eps=meant)
            for y in (F.rms_norm(x, last, weight, eps), F.rms_norm(x, last, weight, eps=eps, out=out)):
                assert y.dtype == dtype
                assert reference.errors(y.reshape(flat), exact.y, exact.y_size) <= reference.roundings(
                    features
                )
        assert F.rms_norm(x, last, weight, out=out) is out


def test_parameters_may_be_left_out() -> None:
    x, bias = floats(4, 33), floats(33, seed=1)
    assert np.array_equal(F.layer_norm(x, (33,)), lnc.layer_norm(x))
    assert np.array_equal(F.layer_norm(x, (33,), bias=bias), lnc.layer_norm(x, bias=bias))
    assert np.array_equal(F.layer_norm(x, (33,), None, None, 0.5), lnc.layer_norm(x, eps=0.5))


def test_the_epsilon_of_rms_norm_is_that_of_the_compute_type() -> None:
    """float32's, or float64's once an argument is float64; seen where the epsilon is all there is."""
    tiny = np.full((1, 8), 1e-12, np.float32)
    for weight, epsilon in (
        (None, 2.0**-23),
        (np.ones(8, np.float32), 2.0**-23),
        (np.ones(8, np.float64), 2.0**-52),
    ):
        y = F.rms_norm(tiny, (8,), weight)
        assert y.dtype == np.float32
        np.testing.assert_allclose(y, 1e-12 / np.sqrt(1e-24 + epsilon), rtol=1e-6)


def test_out_may_be_the_input_in_any_layout() -> None:
    x = floats(2, 3, 5)
    expected = F.layer_norm(x, (3, 5))
    for out in (x.copy(), np.asfortranarray(x), np.repeat(x, 2, -1)[..., ::2], x.astype(">f4")):
        out[...] = x
        assert F.layer_norm(out, (3, 5), out=out) is out
        assert np.array_equal(out, expected)


def test_results_of_the_last_dimension_are_those_of_the_norm() -> None:
    x, weight, bias = floats(4, 33), floats(33, seed=1), floats(33, seed=2)
    assert np.array_equal(F.layer_norm(x, (33,), weight, bias), lnc.layer_norm(x, weight, bias))
    assert np.array_equal(F.rms_norm(x, (33,), weight, 1e-5), lnc.rms_norm(x, weight))
