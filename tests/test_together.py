"""Rows together: which rows are, and that no row's results depend on how many there are, or on the others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers import arrays_for, compilation_of, run_emitted

import lncompile as lnc
from lncompile.emit.lower import lower
from lncompile.norms import softmax
from lncompile.rnn.equations import gru_step


@lnc.norm("n [d]", weight="d")
def chosen(x: Any, weight: Any) -> Any:
    """Row-sized values that are chosen, or true and false, beside some that all rows share."""
    size = lnc.max(lnc.abs(x))
    scale = lnc.where(size > 2.0, 1.0 / size, 1.0)
    shared = lnc.mean(weight)
    return lnc.where(size > 2.5, x * scale, x + shared) * weight


@lnc.norm("n [c h]", weight="c")
def with_steps(x: Any, weight: Any) -> Any:
    """A weight for every step of the loops inside a row, and statistics of statistics."""
    centred = x - lnc.mean(x)
    return centred / (1.0 + lnc.mean(lnc.abs(centred))) * weight


EQUATIONS: dict[str, tuple[Any, dict[str, int]]] = {
    "layer_norm": (lnc.layer_norm, {"...": 21, "d": 50}),
    "rms_norm": (lnc.rms_norm, {"...": 21, "d": 64}),
    "softmax": (softmax, {"...": 21, "d": 100}),
    "group_norm": (lnc.group_norm, {"n": 3, "g": 7, "c": 48, "...": 1}),
    "gru_step": (gru_step, {"n": 21, "gate": 2, "d": 60}),
    "chosen": (chosen, {"n": 21, "d": 70}),
    "with_steps": (with_steps, {"n": 21, "c": 3, "h": 17}),
}


def source_of(norm: Any, sizes: dict[str, int]) -> str:
    compilation = compilation_of(norm, sizes, "float32")
    return lower(compilation.pair, compilation.schedule, compilation.request).source


def test_which_rows_are_together() -> None:
    """Not those that lie in the lanes, nor those that are long."""
    assert "from_row" not in source_of(lnc.rms_norm, {"...": 4, "d": 8})
    forward = source_of(lnc.rms_norm, {"...": 4, "d": 64}).split("_backward(")[0]
    assert "totals(" in forward
    assert "from_row" not in source_of(lnc.rms_norm, {"...": 4, "d": 1024})


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", EQUATIONS)
def test_any_number_of_rows_together_gives_the_same_bits(name: str, dtype: str) -> None:
    norm, sizes = EQUATIONS[name]
    compilation = compilation_of(norm, sizes, dtype)
    inputs = (*compilation.program.inputs, *compilation.pair.backward.inputs)
    arrays = arrays_for(tuple(node for node in inputs if node.role in ("input", "cotangent")), sizes)
    results = [
        run_emitted(compilation, arrays, sizes, replace(compilation.schedule, row_lanes=lanes))
        for lanes in (2, 4, 16)
    ]
    for other in results[1:]:
        for key, value in results[0].items():
            assert np.array_equal(value, other[key], equal_nan=True), key


@pytest.mark.parametrize("features", [41, 64, 256])
@pytest.mark.parametrize("norm", [lnc.layer_norm, lnc.rms_norm, softmax], ids=lambda norm: norm.__name__)
def test_a_row_among_others_has_the_bits_that_it_has_alone(norm: Any, features: int) -> None:
    """Rows that overflow, are constant, or hold NaN are computed another way; their neighbours are not."""
    x = np.random.default_rng(0).normal(3, 2, (19, features)).astype(np.float32)
    x[1] *= 1e30
    x[4] = 2.5
    x[8, 3] = np.nan
    x[9, 5] = np.inf
    x[17] *= 1e-30
    dy = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    with np.errstate(all="ignore"):
        y, ctx = norm.forward(x)
        dx = norm.backward(dy, ctx)
        dx = dx[0] if isinstance(dx, tuple) else dx
        for row in range(len(x)):
            alone, ctx = norm.forward(x[row : row + 1])
            dalone = norm.backward(dy[row : row + 1], ctx)
            dalone = dalone[0] if isinstance(dalone, tuple) else dalone
            assert np.array_equal(alone[0], y[row], equal_nan=True), row
            assert np.array_equal(dalone[0], dx[row], equal_nan=True), row


@pytest.mark.parametrize("shape", [(64, 2048), (3, 96, 21), (1, 2048)])
def test_rows_of_two_axes(shape: tuple[int, ...]) -> None:
    """Groups of channels: rows together are counted over images and groups, and backward over groups."""
    rng = np.random.default_rng(0)
    x, dy = (rng.normal(2, 3, shape).astype(np.float32) for _ in range(2))
    weight, bias = (rng.normal(size=shape[1]).astype(np.float32) for _ in range(2))
    y, ctx = lnc.group_norm.forward(x, weight, bias, g=32)
    dx, dweight, dbias = lnc.group_norm.backward(dy, ctx)

    def grouped(array: Any) -> Any:
        return array.astype(np.float64).reshape(shape[0], 32, -1)

    per_channel = (-1, *(1,) * (len(shape) - 2))
    others = (0, *range(2, len(shape)))
    rstd = 1 / np.sqrt(grouped(x).var(2, keepdims=True) + 1e-5)
    normed = (grouped(x) - grouped(x).mean(2, keepdims=True)) * rstd
    flowing = grouped(dy * weight.reshape(per_channel).astype(np.float64))
    sideways = flowing.mean(2, keepdims=True) + normed * (flowing * normed).mean(2, keepdims=True)
    expected = {
        "y": normed.reshape(shape) * weight.reshape(per_channel) + bias.reshape(per_channel),
        "dx": ((flowing - sideways) * rstd).reshape(shape),
        "dweight": (dy * normed.reshape(shape)).sum(others),
        "dbias": dy.sum(others, dtype=np.float64),
    }
    for (name, want), got in zip(expected.items(), (y, dx, dweight, dbias), strict=True):
        # Some roundings of float32, of terms up to a few times the largest result.
        assert np.abs(got - want).max() <= 32 * 2.0**-24 * np.abs(want).max(), name
