"""Equations that the tests of passes, gradients and kernels share: the family's core, and invented ones.

Each is written to bring something that the others lack: a kind of broadcast, a reduction, a branch.
"""

# mypy: disallow-untyped-defs=False

from __future__ import annotations

import lncompile as lnc
from lncompile import norm


@norm("... [d]", weight="d", bias="d")
def layer_norm(x, weight=1.0, bias=0.0, *, eps=1e-5):
    mean = lnc.mean(x)
    var = lnc.mean(lnc.square(x - mean))
    return (x - mean) * lnc.rsqrt(var + eps) * weight + bias


@norm("... [d]", weight="d")
def rms_norm(x, weight=1.0, *, eps=1e-5):
    return x * lnc.rsqrt(lnc.mean(lnc.square(x)) + eps) * weight


@norm("... [d]")
def softmax(x):
    e = lnc.exp(x - lnc.max(x))
    return e / lnc.sum(e)


@norm("... [d]")
def log_softmax(x):
    shifted = x - lnc.max(x)
    return shifted - lnc.log(lnc.sum(lnc.exp(shifted)))


@norm("... [d]", alpha="", weight="d", bias="d")
def dyt(x, alpha, weight=1.0, bias=0.0):
    return lnc.tanh(alpha * x) * weight + bias


@norm("... [d]", residual="... d", weight="d", bias="d")
def add_layer_norm(x, residual, weight=1.0, bias=0.0, *, eps=1e-5):
    total = x + residual
    mean = lnc.mean(total)
    var = lnc.mean(lnc.square(total - mean))
    return (total - mean) * lnc.rsqrt(var + eps) * weight + bias, total


@norm("n [d]", weight="d")
def with_statistics(x, weight=1.0, *, eps=1e-3):
    """Three outputs: elements, a mean and a variance a row."""
    mean = lnc.mean(x)
    var = lnc.mean((x - mean) ** 2)
    return (x - mean) / lnc.sqrt(var + eps) * weight, mean, var


@norm("n [d]", scale="n", shift="n")
def by_row(x, scale, shift=0.5):
    """Parameters that differ from row to row and not along it."""
    return lnc.sigmoid(x * scale) + shift * lnc.mean(x)


@norm("n [d]", p="d", q="n", a="")
def every_broadcast(x, p, q, a):
    """Element, feature, batch and scalar values meet each other in every pair."""
    row = lnc.sum(x * p) * a + q
    column = p * a + lnc.square(p)
    return x * row + column * q - lnc.tanh(a), row * q


@norm("n [d]", p="d")
def reduced_parameter(x, p):
    """A reduction of a parameter: its gradient is a sum over rows of a value that all features share."""
    unit = p * lnc.rsqrt(lnc.mean(lnc.square(p)) + 0.1)
    return x * unit + lnc.sum(p) * lnc.mean(x)


@norm("n [d]", p="d")
def gated(x, p, *, low=0.25):
    """Branches on elements and on parameters."""
    y = lnc.where((x > low) & (p < 1.0), lnc.silu(x), lnc.gelu(x) * p)
    return y + lnc.maximum(x, p) - lnc.minimum(x * p, 0.5) + lnc.abs(x - p) + lnc.relu(x)


@norm("n [d]", p="d")
def spread(x, p=1.0):
    """The largest deviation normalizes: a maximum of deviations, and three phases of statistics."""
    centred = x - lnc.mean(x)
    top = lnc.max(lnc.abs(centred)) + 0.5
    scaled = centred / top
    return scaled * p / lnc.sqrt(lnc.mean(lnc.square(scaled)) + 0.1)


@norm("n [d]")
def third_moment(x):
    """Statistics beyond the variance."""
    centred = x - lnc.mean(x)
    sigma = lnc.sqrt(lnc.mean(lnc.square(centred)) + 0.3)
    skew = lnc.mean((centred / sigma) ** 3)
    return centred * (1.0 + skew) / sigma, skew


@norm("n [h w]", weight="h w")
def two_features(x, weight=1.0):
    """Two feature axes, reduced one after the other and together."""
    columns = lnc.mean(x, over="h")
    return (x - columns) * weight / (lnc.sum(lnc.square(x - lnc.mean(x)), over="h w") + 1.0)


@norm("n [h w]", weight="h w")
def joined_features(x, weight=1.0, *, eps=1e-5):
    """Two feature axes that always stand together."""
    return (x - lnc.mean(x)) * lnc.rsqrt(lnc.mean(lnc.square(x - lnc.mean(x))) + eps) * weight


@norm("... [d]", p="d")
def elementwise(x, p=1.0):
    """No reduction in the forward at all."""
    return lnc.erf(x) * p + lnc.exp(-lnc.square(x))


@norm("n [d]", p="d")
def branch_by_row(x, p):
    """A row-sized comparison chooses between elements."""
    mean = lnc.mean(x)
    return lnc.where(mean > 0.0, x * p, p - x) + lnc.where(x > mean, 1.0, 2.0) * lnc.sum(p)


#: Equations whose loops are rows: batch axes outside, feature axes inside.
ROWS = [
    layer_norm,
    rms_norm,
    softmax,
    log_softmax,
    dyt,
    add_layer_norm,
    with_statistics,
    by_row,
    every_broadcast,
    reduced_parameter,
    gated,
    spread,
    third_moment,
    joined_features,
    elementwise,
    branch_by_row,
]
ALL = [*ROWS, two_features]
