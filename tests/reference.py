"""The formulas of the family in wider arithmetic, and bounds on what rounding may do to them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
#: 64 bits of fraction on x86-64: wide enough to judge float64, and of float32's sums no digit is lost.
WIDE = np.longdouble


class Reference(NamedTuple):
    """An output, the gradients for a cotangent, and for each of them the sum of its terms' magnitudes.

    A result is a sum of terms that may cancel, so rounding is measured against those: a deviation from the
    mean has the magnitude 1 + |deviation / σ| in units of σ, since the mean is known to a rounding of σ.
    """

    y: Array
    dx: Array
    dweight: Array
    dbias: Array
    y_size: Array
    dx_size: Array
    dweight_size: Array
    dbias_size: Array


def layer_norm(
    x: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    dy: Array | None = None,
    eps: float = 1e-5,
) -> Reference:
    """Layer norm over the last dimension: y = (x - mean) / sqrt(var + eps) * weight + bias."""
    x, weight, bias, dy = _wide(x, weight, bias, dy)
    centred = x - _mean(x)
    # The mean itself is rounded; what it lacks is the mean of what is left.
    centred = centred - _mean(centred)
    rstd = 1 / np.sqrt(_mean(np.square(centred)) + WIDE(eps))
    normal = centred * rstd
    entering = dy * weight
    size = 1 + np.abs(normal)
    return Reference(
        normal * weight + bias,
        rstd * (entering - _mean(entering) - normal * _mean(entering * normal)),
        _columns(dy * normal),
        _columns(dy),
        size * np.abs(weight) + np.abs(bias),
        rstd * (np.abs(entering) + _mean(np.abs(entering)) + size * _mean(np.abs(entering) * size)),
        _columns(np.abs(dy) * size),
        _columns(np.abs(dy)),
    )


def rms_norm(
    x: Array,
    weight: Array | None = None,
    dy: Array | None = None,
    eps: float = 1e-5,
    weight_offset: float = 0.0,
) -> Reference:
    """RMS norm over the last dimension: y = x / sqrt(mean(x²) + eps) * (weight + weight_offset)."""
    x, weight, _, dy = _wide(x, weight, None, dy)
    scale = weight + WIDE(weight_offset)
    r = 1 / np.sqrt(_mean(np.square(x)) + WIDE(eps))
    normal = x * r
    entering = dy * scale
    size = np.abs(normal)
    return Reference(
        normal * scale,
        r * (entering - normal * _mean(entering * normal)),
        _columns(dy * normal),
        _columns(dy),
        size * np.abs(scale),
        r * (np.abs(entering) + size * _mean(np.abs(entering) * size)),
        _columns(np.abs(dy) * size),
        _columns(np.abs(dy)),
    )


def roundings(features: int, rows: int = 1) -> float:
    """How many roundings a result may be off by, for rows of so many features and sums over so many rows.

    About eight operations on elements, each rounded once. A sum in k steps is off by about sqrt(k)/4
    roundings of its terms' magnitudes: the roundings are independent, half a unit at most and a quarter on
    average. Rows are summed in 64 lanes; columns row by row in blocks of 1024, and the blocks in float64.
    """
    return 8 + math.sqrt(features / 64) / 4 + math.sqrt(min(rows, 1024)) / 4


def errors(actual: Array | None, exact: Array, size: Array) -> float:
    """The largest error of an array, in roundings (half an epsilon of its dtype) of its terms' magnitudes."""
    assert actual is not None
    assert actual.shape == exact.shape, (actual.shape, exact.shape)
    if not actual.size:
        return 0.0
    info = np.finfo(actual.dtype)
    # Below the normal numbers the spacing is that of the smallest subnormal.
    unit = np.maximum(size * WIDE(info.eps) / 2, WIDE(info.smallest_subnormal))
    worst = np.abs(actual - exact) / unit
    assert not np.isnan(worst).any(), "a NaN where a number is expected"
    return float(worst.max())


def _mean(array: Array) -> Array:
    mean: Array = array.mean(-1, keepdims=True)
    return mean


def _wide(x: Array, weight: Array | None, bias: Array | None, dy: Array | None) -> tuple[Array, ...]:
    return (
        x.astype(WIDE),
        np.ones(x.shape[-1:], WIDE) if weight is None else weight.astype(WIDE),
        np.zeros(x.shape[-1:], WIDE) if bias is None else bias.astype(WIDE),
        np.zeros(x.shape, WIDE) if dy is None else dy.astype(WIDE),
    )


def _columns(array: Array) -> Array:
    columns: Array = array.sum(tuple(range(array.ndim - 1)))
    return columns
