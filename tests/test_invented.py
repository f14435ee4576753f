"""Equations that come with no library: norms of papers and frameworks, over axes in every arrangement.

Each is checked against a formula in NumPy and its gradients against differences of the formula; the emitted
source, run un-jitted with checks of all bounds, against the interpreter.
``F`` and ``B`` below are features and batch axes in their order in memory: F-B-F is ``[n] c [h w]``.
"""

# mypy: disallow-untyped-defs=False

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any, NamedTuple

import numpy as np
import pytest
from helpers import arrays_for, assert_close, compilation_of, run_emitted, run_pair, small_limits

import lncompile as lnc
from lncompile import axes as ax
from lncompile.norm import dispatcher_of


class Case(NamedTuple):
    """An equation, the formula of its outputs, and the sizes of its axes to try."""

    norm: Any
    formula: Callable[..., Any]
    sizes: tuple[ax.Sizes, ...]


CASES: dict[str, Case] = {}


def case(*sizes: str):
    """Adds what the function returns, an equation and its formula, with ``sizes`` like "n=2 ...=3,4 c=5"."""

    def add(function):
        solved = tuple(
            {
                name: tuple(int(part) for part in size.split(",") if part) if name == "..." else int(size)
                for name, _, size in (word.partition("=") for word in text.split())
            }
            for text in sizes
        )
        CASES[function.__name__] = Case(*function(), solved)
        return function

    return add


def mean(x, *axes):
    return x.mean(axes, keepdims=True)


def var(x, *axes):
    return x.var(axes, keepdims=True)


def total(x, *axes):
    return x.sum(axes, keepdims=True)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def standardized(x, *axes, eps=1e-5):
    return (x - mean(x, *axes)) / np.sqrt(var(x, *axes) + eps)


def exponentials(x, axis):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def standardize(x, over=None, eps=1e-5):
    """The same in the language."""
    centred = x - lnc.mean(x, over)
    return centred * lnc.rsqrt(lnc.mean(lnc.square(centred), over) + eps)


# Frameworks


@case("b=2 t=3 h=2 d=4", "b=1 t=5 h=3 d=17")
def flax_layer_norm_of_two_axes():
    """flax.linen.LayerNorm(reduction_axes=(1, 3), feature_axes=(1, 3), use_fast_variance=True): B-F-B-F."""

    @lnc.norm("b [t] h [d]", scale="t d", bias="t d")
    def norm(x, scale=1.0, bias=0.0, *, epsilon=1e-6):
        mu = lnc.mean(x)
        fast = lnc.maximum(0.0, lnc.mean(lnc.square(x)) - lnc.square(mu))
        return (x - mu) * (lnc.rsqrt(fast + epsilon) * scale) + bias

    def formula(x, scale, bias):
        return standardized(x, 1, 3, eps=1e-6) * scale[:, None, :] + bias[:, None, :]

    return norm, formula


@case("n=2 h=3 w=2 g=2 c=3", "n=1 h=2 w=5 g=4 c=8")
def flax_group_norm_by_group_size():
    """flax.linen.GroupNorm(num_groups=None, group_size=c) of channels-last arrays."""

    @lnc.norm("n [h w] (g [c])", scale="(g c)", bias="(g c)")
    def norm(x, scale=1.0, bias=0.0, *, epsilon=1e-6):
        return standardize(x, eps=epsilon) * scale + bias

    def formula(x, scale, bias, *, g, c):
        parts = x.reshape(*x.shape[:3], g, c)
        return standardized(parts, 1, 2, 4, eps=1e-6).reshape(x.shape) * scale + bias

    return norm, formula


@case("...=2,3 c=4", "...=5 c=33")
def flax_batch_norm():
    """flax.linen.BatchNorm(axis=-1): all axes but the last are features. F-B."""

    @lnc.norm("[...] c", scale="c", bias="c")
    def norm(x, scale=1.0, bias=0.0, *, epsilon=1e-5):
        mu = lnc.mean(x)
        power = lnc.mean(lnc.square(x))
        variance = lnc.maximum(0.0, power - lnc.square(mu))
        return (x - mu) * lnc.rsqrt(variance + epsilon) * scale + bias, mu, variance

    def formula(x, scale, bias):
        axes = tuple(range(x.ndim - 1))
        return standardized(x, *axes) * scale + bias, x.mean(axes), x.var(axes)

    return norm, formula


@case("b=2 h=3 w=2 c=4", "b=3 h=4 w=5 c=9")
def keras_layer_normalization_of_axes_1_and_2():
    """keras.layers.LayerNormalization(axis=[1, 2]): parameters over the features. B-F-B."""

    @lnc.norm("b [h w] c", gamma="h w", beta="h w")
    def norm(x, gamma=1.0, beta=0.0, *, epsilon=1e-3):
        return standardize(x, eps=epsilon) * gamma + beta

    def formula(x, gamma, beta):
        return standardized(x, 1, 2, eps=1e-3) * gamma[..., None] + beta[..., None]

    return norm, formula


@case("b=2 h=3 w=2 c=4", "b=1 h=7 w=3 c=6")
def keras_layer_normalization_of_axes_1_and_3():
    """keras.layers.LayerNormalization(axis=[1, 3]): features that are not neighbours. B-F-B-F."""

    @lnc.norm("b [h] w [c]", gamma="h c", beta="h c")
    def norm(x, gamma=1.0, beta=0.0, *, epsilon=1e-3):
        return standardize(x, eps=epsilon) * gamma + beta

    def formula(x, gamma, beta):
        return standardized(x, 1, 3, eps=1e-3) * gamma[:, None] + beta[:, None]

    return norm, formula


@case("n=3 c=4 ...=2,3", "n=2 c=19 ...=5")
def keras_unit_normalization():
    """keras.layers.UnitNormalization(axis=1)."""

    @lnc.norm("n [c] ...")
    def norm(x, *, epsilon=1e-12):
        return x * lnc.rsqrt(lnc.maximum(lnc.sum(lnc.square(x)), epsilon))

    return norm, lambda x: x / np.sqrt(total(x**2, 1))


@case("n=2 h=3 w=2 c=4", "n=3 h=4 w=4 c=10")
def keras_group_normalization_of_one_group():
    """keras.layers.GroupNormalization(groups=1): all but n, parameters over one of three features."""

    @lnc.norm("n [h w c]", gamma="c", beta="c")
    def norm(x, gamma=1.0, beta=0.0, *, epsilon=1e-3):
        return standardize(x, eps=epsilon) * gamma + beta

    return norm, lambda x, gamma, beta: standardized(x, 1, 2, 3, eps=1e-3) * gamma + beta


@case("n=2 h=3 w=2 c=4", "n=3 h=5 w=4 c=16")
def keras_group_normalization_of_single_channels():
    """keras.layers.GroupNormalization(groups=-1) of channels-last arrays: instance norm. B-F-B."""

    @lnc.norm("n [h w] c", gamma="c", beta="c")
    def norm(x, gamma=1.0, beta=0.0, *, epsilon=1e-3):
        return standardize(x, eps=epsilon) * gamma + beta

    return norm, lambda x, gamma, beta: standardized(x, 1, 2, eps=1e-3) * gamma + beta


# Papers


@case("n=2 h=3 w=2 c=4", "n=1 h=4 w=5 c=12")
def global_response_norm():
    """GRN of ConvNeXt V2 (arXiv 2301.00808): lengths of channels, over their mean."""

    @lnc.norm("n [h w c]", gamma="c", beta="c")
    def norm(x, gamma, beta, *, eps=1e-6):
        length = lnc.sqrt(lnc.sum(lnc.square(x), over="h w"))
        response = length / (lnc.mean(length, over="c") + eps)
        return gamma * (x * response) + beta + x

    def formula(x, gamma, beta):
        length = np.sqrt(total(x**2, 1, 2))
        return gamma * (x * length / (mean(length, 3) + 1e-6)) + beta + x

    return norm, formula


@case("o=3 i=2 h=3 w=3", "o=5 i=7 h=1 w=3")
def weight_standardization():
    """Scaled weight standardization (arXiv 2101.08692): a gain for each row, counted into the fan-in."""

    @lnc.norm("o [i h w]", gain="o")
    def norm(x, gain, *, eps=1e-4):
        fan_in = lnc.sum(x * 0.0 + 1.0)
        centred = x - lnc.mean(x)
        return centred * lnc.rsqrt(lnc.maximum(lnc.mean(lnc.square(centred)) * fan_in, eps)) * gain

    def formula(x, gain):
        size = x[0].size
        return (x - mean(x, 1, 2, 3)) / np.sqrt(var(x, 1, 2, 3) * size) * gain[:, None, None, None]

    return norm, formula


@case("n=2 c=3 h=2 w=3", "n=3 c=5 h=4 w=2")
def switchable_norm():
    """Switchable normalization (arXiv 1806.10779): three sets of axes, mixed. All features."""

    @lnc.norm("[n c h w]", a="", b="", weight="c", bias="c")
    def norm(x, a, b, weight=1.0, bias=0.0, *, eps=1e-5):
        wa, wb = lnc.exp(a), lnc.exp(b)
        share = 1.0 / (wa + wb + 1.0)
        means = [lnc.mean(x, over=over) for over in ("h w", "c h w", "n h w")]
        squares = [lnc.mean(lnc.square(x), over=over) for over in ("h w", "c h w", "n h w")]
        variances = [s - lnc.square(m) for s, m in zip(squares, means, strict=True)]
        mu = (wa * means[0] + wb * means[1] + means[2]) * share
        v = (wa * variances[0] + wb * variances[1] + variances[2]) * share
        return (x - mu) * lnc.rsqrt(v + eps) * weight + bias

    def formula(x, a, b, weight, bias):
        shares = np.exp([a, b, 0.0]) / np.exp([a, b, 0.0]).sum()
        sets = [(2, 3), (1, 2, 3), (0, 2, 3)]
        mu = sum(s * mean(x, *axes) for s, axes in zip(shares, sets, strict=True))
        v = sum(s * var(x, *axes) for s, axes in zip(shares, sets, strict=True))
        return (x - mu) / np.sqrt(v + 1e-5) * weight[:, None, None] + bias[:, None, None]

    return norm, formula


@case("n=2 c=3 h=2 w=3", "n=4 c=5 h=3 w=2")
def batch_instance_norm():
    """Batch-instance normalization (arXiv 1805.07925): a gate a channel between two sets of axes. F-B-F."""

    @lnc.norm("[n] c [h w]", rho="c", weight="c", bias="c")
    def norm(x, rho, weight=1.0, bias=0.0):
        y = rho * standardize(x) + (1.0 - rho) * standardize(x, over="h w")
        return y * weight + bias

    def formula(x, rho, weight, bias):
        rho, weight, bias = (p[:, None, None] for p in (rho, weight, bias))
        return (rho * standardized(x, 0, 2, 3) + (1 - rho) * standardized(x, 2, 3)) * weight + bias

    return norm, formula


@case("b=2 t=3 d=4", "b=3 t=5 d=33")
def power_norm():
    """PowerNorm's forward on a batch (arXiv 2003.07845): quadratic means over batch and time. F-B."""

    @lnc.norm("[b t] d", gamma="d", beta="d")
    def norm(x, gamma=1.0, beta=0.0, *, eps=1e-5):
        quadratic = lnc.mean(lnc.square(x))
        return x * lnc.rsqrt(quadratic + eps) * gamma + beta, quadratic

    def formula(x, gamma, beta):
        return x / np.sqrt(mean(x**2, 0, 1) + 1e-5) * gamma + beta, (x**2).mean((0, 1))

    return norm, formula


@case("a=2 c=3 d=5", "a=3 c=17 d=40")
def gated_by_a_row_and_a_parameter():
    """A condition of a row's statistic and a parameter of a batch axis: truth values for later stages."""

    @lnc.norm("a c [d]", p="c")
    def norm(x, p):
        mu = lnc.mean(x)
        return lnc.where((mu > 0.0) & (p > 0.5), x, mu) * p

    def formula(x, p):
        mu, p = mean(x, 2), p[:, None]
        return np.where((mu > 0.0) & (p > 0.5), x, mu) * p

    return norm, formula


@case("a=5 b=2 c=3 d=5", "a=1 b=7 c=2 d=33")
def denied_by_a_statistic_and_a_parameter():
    """The negation of such a condition, in columns."""

    @lnc.norm("a [b] c [d]", p="c")
    def norm(x, p):
        t = x - lnc.mean(x, over="b")
        v = lnc.mean(lnc.square(t), over="b")
        chosen = lnc.where(~((lnc.mean(x, over="b") > -0.3) & (p > 0.5)), t, v)
        return t / (lnc.square(lnc.maximum(p, chosen)) + 0.5)

    def formula(x, p):
        mu, v, p = mean(x, 1), var(x, 1), p[:, None]
        t = x - mu
        return t / (np.maximum(p, np.where((mu > -0.3) & (p > 0.5), v, t)) ** 2 + 0.5)

    return norm, formula


@case("...=2,3 d=4", "...= d=17")
def scale_norm():
    """ScaleNorm (arXiv 1910.05895): one learned length."""

    @lnc.norm("... [d]", g="")
    def norm(x, g, *, eps=1e-5):
        return g * x / lnc.maximum(lnc.sqrt(lnc.sum(lnc.square(x))), eps)

    return norm, lambda x, g: g * x / np.linalg.norm(x, axis=-1, keepdims=True)


@case("n=3 d=4", "n=5 d=33")
def centred_cosine_norm():
    """Cosine normalization, centred (arXiv 1702.05870): one number a row, of a row and a weight vector."""

    @lnc.norm("n [d]", weight="d")
    def norm(x, weight):
        a, b = x - lnc.mean(x), weight - lnc.mean(weight)
        return lnc.sum(a * b) * lnc.rsqrt(lnc.sum(lnc.square(a)) * lnc.sum(lnc.square(b)))

    def formula(x, weight):
        a, b = x - mean(x, 1), weight - weight.mean()
        return (a @ b) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b))

    return norm, formula


@case("n=2 c=3 h=2 w=2", "n=3 c=9 h=4 w=1")
def divisive_norm():
    """Divisive normalization (arXiv 1611.04520): a learned floor under the spread of the channels. B-F-B."""

    @lnc.norm("n [c] h w", sigma="")
    def norm(x, sigma):
        centred = x - lnc.mean(x)
        return centred / lnc.sqrt(lnc.square(sigma) + lnc.mean(lnc.square(centred)))

    return norm, lambda x, sigma: (x - mean(x, 1)) / np.sqrt(sigma**2 + var(x, 1))


@case("n=2 c=3 h=2 w=3", "n=1 c=17 h=3 w=4")
def positional_norm():
    """Positional normalization (arXiv 1907.04312): statistics of the channels leave beside the result."""

    @lnc.norm("n [c] h w")
    def norm(x, *, eps=1e-5):
        mu = lnc.mean(x)
        sigma = lnc.sqrt(lnc.mean(lnc.square(x - mu)) + eps)
        return (x - mu) / sigma, mu, sigma

    return norm, lambda x: (standardized(x, 1), x.mean(1), np.sqrt(x.var(1) + 1e-5))


@case("n=2 c=3 h=2 w=3", "n=3 c=4 h=5 w=2")
def moment_shortcut():
    """What positional norm takes out, put in again elsewhere: parameters over three batch axes of four."""

    @lnc.norm("n [c] h w", beta="n h w", gamma="n h w")
    def norm(x, beta, gamma):
        return standardize(x) * gamma + beta

    return norm, lambda x, beta, gamma: standardized(x, 1) * gamma[:, None] + beta[:, None]


@case("n=2 c=3 h=2 w=3", "n=3 c=5 h=4 w=4")
def conditional_batch_norm():
    """Conditional batch normalization (arXiv 1707.00683): gains for each n, itself a feature. F-B-F."""

    @lnc.norm("[n] c [h w]", gamma="n c", beta="n c")
    def norm(x, gamma, beta):
        return standardize(x) * (1.0 + gamma) + beta

    def formula(x, gamma, beta):
        return standardized(x, 0, 2, 3) * (1 + gamma[..., None, None]) + beta[..., None, None]

    return norm, formula


@case("n=2 c=3 h=2 w=3", "n=2 c=4 h=3 w=5")
def spatially_adaptive_norm():
    """SPADE (arXiv 1903.07291): scale and shift for every element."""

    @lnc.norm("[n] c [h w]", gamma="n c h w", beta="n c h w")
    def norm(x, gamma, beta):
        return standardize(x) * (1.0 + gamma) + beta

    return norm, lambda x, gamma, beta: standardized(x, 0, 2, 3) * (1 + gamma) + beta


@case("n=2 g=2 c=3 h=2 w=2", "n=3 g=4 c=2 h=1 w=5")
def modulated_group_norm():
    """Group norm under time embeddings (arXiv 2105.05233): parameters over batch, groups and channels."""

    @lnc.norm("n (g [c]) [h w]", scale="n (g c)", shift="n (g c)")
    def norm(x, scale, shift):
        return standardize(x) * (1.0 + scale) + shift

    def formula(x, scale, shift, *, g, c):
        parts = x.reshape(len(x), g, c, *x.shape[2:])
        y = standardized(parts, 2, 3, 4).reshape(x.shape)
        return y * (1 + scale[..., None, None]) + shift[..., None, None]

    return norm, formula


@case("n=2 h=3 w=2 c=4", "n=3 h=4 w=5 c=8")
def filter_response_norm():
    """Filter response normalization with thresholded linear unit (arXiv 1911.09737): a learned epsilon."""

    @lnc.norm("n [h w] c", eps="", gamma="c", beta="c", tau="c")
    def norm(x, eps, gamma, beta, tau):
        y = x * lnc.rsqrt(lnc.mean(lnc.square(x)) + lnc.abs(eps)) * gamma + beta
        return lnc.maximum(y, tau)

    def formula(x, eps, gamma, beta, tau):
        return np.maximum(x / np.sqrt(mean(x**2, 1, 2) + abs(eps)) * gamma + beta, tau)

    return norm, formula


@case("n=2 g=2 c=2 h=2 w=3", "n=1 g=3 c=4 h=3 w=3")
def evonorm_s0():
    """EvoNorm-S0 (arXiv 2004.02967): an activation over the deviation of a group."""

    @lnc.norm("n (g [c]) [h w]", v="(g c)", gamma="(g c)", beta="(g c)")
    def norm(x, v, gamma, beta, *, eps=1e-5):
        spread = lnc.mean(lnc.square(x - lnc.mean(x)))
        return x * lnc.sigmoid(v * x) * lnc.rsqrt(spread + eps) * gamma + beta

    def formula(x, v, gamma, beta, *, g, c):
        v, gamma, beta = (p[:, None, None] for p in (v, gamma, beta))
        parts = x.reshape(len(x), g, c, *x.shape[2:])
        rstd = np.broadcast_to(1 / np.sqrt(var(parts, 2, 3, 4) + 1e-5), parts.shape).reshape(x.shape)
        return x * sigmoid(v * x) * rstd * gamma + beta

    return norm, formula


@case("n=2 c=3 h=2 w=3", "n=3 c=2 h=4 w=3")
def evonorm_b0():
    """EvoNorm-B0 (arXiv 2004.02967): the larger of a channel's deviation and an instance's."""

    @lnc.norm("[n] c [h w]", v="c", gamma="c", beta="c")
    def norm(x, v, gamma, beta, *, eps=1e-5):
        batch = lnc.mean(lnc.square(x - lnc.mean(x)))
        mu = lnc.mean(x, over="h w")
        instance = lnc.mean(lnc.square(x - mu), over="h w")
        return x / lnc.maximum(lnc.sqrt(batch + eps), v * x + lnc.sqrt(instance + eps)) * gamma + beta

    def formula(x, v, gamma, beta):
        v, gamma, beta = (p[:, None, None] for p in (v, gamma, beta))
        lower = v * x + np.sqrt(var(x, 2, 3) + 1e-5)
        return x / np.maximum(np.sqrt(var(x, 0, 2, 3) + 1e-5), lower) * gamma + beta

    return norm, formula


# Attention


@case("b=2 s=3 h=2 d=4", "b=1 s=5 h=3 d=17")
def norm_of_queries():
    """RMS norm with weights of each head, which stands beside its features."""

    @lnc.norm("b s h [d]", weight="h d")
    def norm(x, weight, *, eps=1e-6):
        return x * lnc.rsqrt(lnc.mean(lnc.square(x)) + eps) * weight

    return norm, lambda x, weight: x / np.sqrt(mean(x**2, 3) + 1e-6) * weight


@case("b=2 h=2 s=3 d=4", "b=3 h=3 s=2 d=9")
def norm_of_queries_by_head():
    """The same with positions between heads and features: a parameter over axes that are not neighbours."""

    @lnc.norm("b h s [d]", weight="h d")
    def norm(x, weight, *, eps=1e-6):
        return x * lnc.rsqrt(lnc.mean(lnc.square(x)) + eps) * weight

    return norm, lambda x, weight: x / np.sqrt(mean(x**2, 3) + 1e-6) * weight[:, None]


@case("b=2 s=3 h=2 d=4", "b=1 s=4 h=5 d=3")
def norm_of_merged_heads():
    """Heads and features in one dimension of the array, and in two of the weight."""

    @lnc.norm("b s (h [d])", weight="h d", bias="h")
    def norm(x, weight, bias):
        return standardize(x) * weight + bias

    def formula(x, weight, bias, *, h, d):
        parts = x.reshape(*x.shape[:2], h, d)
        return (standardized(parts, 3) * weight + bias[:, None]).reshape(x.shape)

    return norm, formula


@case("b=2 h=2 q=3 k=4", "b=1 h=3 q=2 k=17")
def attention_weights():
    """Softmax of scores with a temperature for each head and a bias that the batch shares."""

    @lnc.norm("b h q [k]", temperature="h", bias="h q k")
    def norm(x, temperature, bias):
        scores = x * temperature + bias
        e = lnc.exp(scores - lnc.max(scores))
        return e / lnc.sum(e)

    def formula(x, temperature, bias):
        return exponentials(x * temperature[:, None, None] + bias, -1)

    return norm, formula


@case("b=2 q=3 k=4", "b=3 q=5 k=7")
def slot_attention():
    """Slot attention (arXiv 2006.15055): softmax over the queries, then weights over the keys."""

    @lnc.norm("b [q k]")
    def norm(x, *, eps=1e-8):
        e = lnc.exp(x - lnc.max(x, over="q"))
        share = e / lnc.sum(e, over="q") + eps
        return share / lnc.sum(share, over="k")

    def formula(x):
        share = exponentials(x, 1) + 1e-8
        return share / share.sum(2, keepdims=True)

    return norm, formula


@case("b=2 k=4 q=3", "b=3 k=17 q=5")
def softmax_of_the_middle():
    """B-F-B, with a maximum."""

    @lnc.norm("b [k] q", bias="k q")
    def norm(x, bias=0.0):
        e = lnc.exp(x + bias - lnc.max(x + bias))
        return e / lnc.sum(e)

    return norm, lambda x, bias: exponentials(x + bias, 1)


@case("...=2 d=4", "...=3,2 d=9")
def squared_relu_gate():
    """A norm gated by the squared rectifier (arXiv 2109.08668) of another array."""

    @lnc.norm("... [d]", gate="... d", weight="d")
    def norm(x, gate, weight=1.0, *, eps=1e-6):
        return x * lnc.rsqrt(lnc.mean(lnc.square(x)) + eps) * weight * lnc.square(lnc.relu(gate))

    def formula(x, gate, weight):
        return x / np.sqrt(mean(x**2, -1) + 1e-6) * weight * np.maximum(gate, 0) ** 2

    return norm, formula


# Arrangements of axes


@case("h=2 n=3 w=4", "h=5 n=2 w=7")
def features_around_a_batch():
    """F-B-F with parameters over both features, and over the batch between them."""

    @lnc.norm("[h] n [w]", weight="h w", bias="n")
    def norm(x, weight, bias):
        return standardize(x) * weight + bias

    return norm, lambda x, w, b: standardized(x, 0, 2) * w[:, None] + b[:, None]


@case("n=3 d=4", "n=17 d=5")
def columns():
    """F-B: every column by itself."""

    @lnc.norm("[n] d", weight="n")
    def norm(x, weight):
        return standardize(x * weight)

    return norm, lambda x, weight: standardized(x * weight[:, None], 0)


@case("b=2 h=3 w=4", "b=3 h=5 w=2")
def transposed_parameter():
    """A weight whose axes lie in memory in another order than the array's."""

    @lnc.norm("b [h w]", weight="w h")
    def norm(x, weight):
        return standardize(x) * weight

    return norm, lambda x, weight: standardized(x, 1, 2) * weight.T


@case("n=2 c=3 l=4", "n=3 c=8 l=5")
def by_the_largest():
    """Scaled by the largest magnitude, as before rounding to integers; the scale leaves too. B-F-B."""

    @lnc.norm("n [c] l")
    def norm(x):
        scale = lnc.max(lnc.abs(x))
        return x / scale, scale

    return norm, lambda x: (x / np.abs(x).max(1, keepdims=True), np.abs(x).max(1))


@case("n=2 c=3 l=4", "n=3 c=8 l=5")
def by_the_sum_of_magnitudes():
    """The norm of first powers."""

    @lnc.norm("n [c] l")
    def norm(x):
        return x / lnc.sum(lnc.abs(x))

    return norm, lambda x: x / total(np.abs(x), 1)


@case("a=2 b=3 d=4", "a=3 b=1 d=9")
def split_batch():
    """Parameters over the parts of a split batch dimension, one of them together with the features."""

    @lnc.norm("(a b) [d]", scale="a", shift="b d")
    def norm(x, scale, shift):
        return standardize(x) * scale + shift

    def formula(x, scale, shift, *, a, b):
        parts = x.reshape(a, b, -1)
        return (standardized(parts, 2) * scale[:, None, None] + shift).reshape(x.shape)

    return norm, formula


@case("n=2 h=3 d=4", "n=3 h=2 d=7")
def over_the_heads():
    """The outer part of a split is the feature: B-F-B in one dimension."""

    @lnc.norm("n ([h] d)", weight="d")
    def norm(x, weight):
        return standardize(x) * weight

    def formula(x, weight, *, h, d):
        return (standardized(x.reshape(-1, h, d), 1) * weight).reshape(x.shape)

    return norm, formula


@case("...=2,3", "...=17")
def whole_array():
    """No batch axis at all, and an output of no dimensions."""

    @lnc.norm("[...]", gain="")
    def norm(x, gain=1.0):
        rms = lnc.sqrt(lnc.mean(lnc.square(x)))
        return gain * x / rms, rms

    return norm, lambda x, gain: (gain * x / np.sqrt((x**2).mean()), np.sqrt((x**2).mean()))


@case("n=2 c=3 ...=2,2", "n=3 c=5 ...=")
def no_features():
    """No feature axis: gradients of parameters are all that is summed."""

    @lnc.norm("n c ...", scale="c", shift="n")
    def norm(x, scale, shift):
        return lnc.tanh(x * scale + shift)

    def formula(x, scale, shift):
        ones = (1,) * (x.ndim - 2)
        return np.tanh(x * scale.reshape(-1, *ones) + shift.reshape(-1, 1, *ones))

    return norm, formula


@case("b=2 t=3 d=4", "b=3 t=5 d=8")
def pooled():
    """Normalized over one feature, averaged over the other: an output over part of the features."""

    @lnc.norm("b [t d]", weight="d")
    def norm(x, weight):
        return lnc.mean(standardize(x, over="d") * weight, over="t")

    return norm, lambda x, weight: (standardized(x, 2) * weight).mean(1)


@case("n=3 d=5", "n=4 d=17")
def masked():
    """Statistics of what a mask, an array like the first, weighs."""

    @lnc.norm("n [d]", mask="n d", weight="d")
    def norm(x, mask, weight=1.0):
        m = lnc.square(mask)
        count = lnc.sum(m)
        mu = lnc.sum(x * m) / count
        spread = lnc.sum(lnc.square(x - mu) * m) / count
        return (x - mu) * lnc.rsqrt(spread + 1e-5) * m * weight

    def formula(x, mask, weight):
        m = mask**2
        mu = total(x * m, 1) / total(m, 1)
        spread = total((x - mu) ** 2 * m, 1) / total(m, 1)
        return (x - mu) / np.sqrt(spread + 1e-5) * m * weight

    return norm, formula


@case("n=2 t=4 c=3", "n=3 t=9 c=5")
def higher_moments():
    """Outputs without elements: skew and excess of every channel. B-F-B."""

    @lnc.norm("n [t] c")
    def norm(x):
        z = standardize(x)
        return lnc.mean(z**3), lnc.mean(z**4) - 3.0

    def formula(x):
        z = standardized(x, 1)
        return (z**3).mean(1), (z**4).mean(1) - 3

    return norm, formula


@case("n=2 c=3 h=2 w=3", "n=3 c=4 h=2 w=5")
def two_norms():
    """One after the other: of positions, then of channels. Statistics of statistics."""

    @lnc.norm("n [c] [h w]", weight="c", bias="h w")
    def norm(x, weight, bias):
        inner = standardize(x, over="h w") * weight
        return standardize(inner + x, over="c") + bias

    def formula(x, weight, bias):
        inner = standardized(x, 2, 3) * weight[:, None, None]
        return standardized(inner + x, 1) + bias

    return norm, formula


@case("n=2 h=3 c=4 w=2", "n=3 h=4 c=5 w=3")
def several_roles():
    """B-F-B-F with parameters over a feature alone, a batch axis alone, and a feature with a batch axis."""

    @lnc.norm("n [h] c [w]", p="h", q="c", r="c w", s="n h")
    def norm(x, p, q, r, s=0.5):
        return standardize(x * p) * q + r * lnc.mean(x, over="h") + s

    def formula(x, p, q, r, s):
        y = standardized(x * p[:, None, None], 1, 3) * q[:, None]
        return y + r * mean(x, 1) + s[..., None, None]

    return norm, formula


@case("n=2 a=2 b=3 c=2", "n=3 a=4 b=2 c=5")
def nested_statistics():
    """Three features, reduced one by one."""

    @lnc.norm("n [a b c]", weight="b")
    def norm(x, weight):
        peaks = lnc.max(x, over="c")
        shares = lnc.exp(peaks - lnc.max(peaks, over="b"))
        shares = shares / lnc.sum(shares, over="b")
        return x * shares * weight - lnc.mean(shares * peaks, over="a b")

    def formula(x, weight):
        peaks = x.max(3, keepdims=True)
        shares = exponentials(peaks, 2)
        return x * shares * weight[:, None] - mean(shares * peaks, 1, 2)

    return norm, formula


@case("n=2 h=3 v=4", "n=3 h=5 v=2")
def merged_parameter():
    """Axes that are two dimensions of the array, and one of a parameter."""

    @lnc.norm("n h v", scale="(h v)")
    def norm(x, scale):
        return lnc.silu(x * scale)

    def formula(x, scale):
        scaled = x * scale.reshape(x.shape[1:])
        return scaled * sigmoid(scaled)

    return norm, formula


@case("n=2 d=4", "n=5 d=9")
def outputs_of_parameters():
    """Outputs over features alone, over nothing, and over the batch alone."""

    @lnc.norm("n [d]", p="d", q="n")
    def norm(x, p, q):
        return lnc.square(p), lnc.sum(p), q * lnc.sum(p), lnc.max(x)

    return norm, lambda x, p, q: (p**2, p.sum(), q * p.sum(), x.max(1))


@case("b=2 n=3 d=4", "b=3 n=4 d=9")
def parameter_statistics():
    """Parameters of a batch axis have statistics of their own."""

    @lnc.norm("b n [d]", weight="n d")
    def norm(x, weight):
        unit = weight * lnc.rsqrt(lnc.sum(lnc.square(weight)))
        return lnc.sum(x * unit), x - unit * lnc.sum(x * unit)

    def formula(x, weight):
        unit = weight / np.linalg.norm(weight, axis=1, keepdims=True)
        along = total(x * unit, 2)
        return along[..., 0], x - unit * along

    return norm, formula


@case("n=2 gate=3 d=4", "n=3 gate=3 d=50")
def gated():
    """Gates of one normalized array (as in arXiv 1607.06450), one of them left out. B-F-F."""

    @lnc.norm("n [gate d]", state="n d", weight="gate d", bias="d")
    def norm(x, state, weight=1.0, bias=0.0):
        keep, new, _ = lnc.unstack(standardize(x) * weight + bias, "gate", 3)
        kept = lnc.sigmoid(keep) * state + lnc.tanh(new)
        return standardize(kept), kept

    def formula(x, state, weight, bias):
        keep, new, _ = np.moveaxis(standardized(x, 1, 2) * weight + bias, 1, 0)
        kept = state / (1 + np.exp(-keep)) + np.tanh(new)
        return standardized(kept, 1), kept

    return norm, formula


@case("n=2 h=2 d=3", "n=3 h=2 d=50")
def rotated():
    """RMS normalization of two halves, rotated by angles (arXiv 2104.09864): unstacked and stacked again."""

    @lnc.norm("n [h d]", cosine="d", sine="d")
    def norm(x, cosine, sine):
        unit = x * lnc.rsqrt(lnc.mean(lnc.square(x)) + 1e-6)
        left, right = lnc.unstack(unit, "h", 2)
        return lnc.stack([left * cosine - right * sine, left * sine + right * cosine], "h")

    def formula(x, cosine, sine):
        left, right = np.moveaxis(x / np.sqrt((x**2).mean((1, 2), keepdims=True) + 1e-6), 1, 0)
        return np.stack([left * cosine - right * sine, left * sine + right * cosine], 1)

    return norm, formula


@case("g=3 n=3 d=4 k=2", "g=3 n=5 d=33 k=2")
def stacked_outside_and_inside():
    """Axes that are unstacked around a batch axis and inside the features; the largest over one of them."""

    @lnc.norm("[g] n [d k]", weight="g k", bias="d k")
    def norm(x, weight, bias):
        even, odd = lnc.unstack(x, "k", 2)
        left, right = lnc.unstack(weight, "k", 2)
        mixed = lnc.stack([even * left, odd * right + even], "k") + bias
        groups = lnc.unstack(standardize(mixed, over="d k"), "g", 3)
        return groups[0] - groups[-1], lnc.max(mixed, over="g"), lnc.sum(odd, over="g d")

    def formula(x, weight, bias):
        even, odd = x[..., 0], x[..., 1]
        left, right = weight[:, None, None, 0], weight[:, None, None, 1]
        mixed = np.stack([even * left, odd * right + even], -1) + bias
        groups = standardized(mixed, 2, 3)
        return groups[0] - groups[-1], mixed.max(0), odd.sum((0, 2))

    return norm, formula


@case("n=2 d=3 c=5", "n=3 d=5 c=40")
def shared_statistics():
    """Statistics of a parameter beside those of the rows that share it, side by side in the lanes."""

    @lnc.norm("n [d] c", scale="d", shift="d c")
    def norm(x, scale, shift):
        y = standardize(x) * standardize(scale)
        # The same as the mean of the square, but an output for each row.
        power = lnc.mean(lnc.square(scale) + x - lnc.mean(x))
        return y + shift, lnc.mean(x) + lnc.max(lnc.abs(scale)), power

    def formula(x, scale, shift):
        y = standardized(x, 1) * standardized(scale, 0)[:, None] + shift
        along = np.abs(scale).max() + mean(x, 1)[:, 0]
        return y, along, np.full(along.shape, (scale**2).mean())

    return norm, formula


def arrays_of(norm: Any, sizes: ax.Sizes, dtype: Any = np.float64) -> list[Any]:
    """Normal numbers for every argument, the same in every run."""
    random = np.random.default_rng(1)
    return [
        random.standard_normal(ax.array_shape(argument.dims, sizes)).astype(dtype)
        for argument in dispatcher_of(norm).equation.arguments
    ]


def splits(norm: Any, sizes: ax.Sizes) -> dict[str, Any]:
    """The sizes of axes in split dimensions, which calls and formulas are given by name."""
    dims = dispatcher_of(norm).equation.pattern.dims
    return {name: sizes[name] for dim in dims if len(dim) > 1 for name in dim}


def as_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def parametrized(*places: int, every: int = 1):
    """The cases in their sizes at these places; all but one in ``every`` are slow: each is compiled anew."""
    return pytest.mark.parametrize(
        ("norm", "formula", "sizes"),
        [
            pytest.param(
                found.norm,
                found.formula,
                found.sizes[at],
                id=f"{name}-{at}",
                marks=[pytest.mark.slow] if index % every else [],
            )
            for index, (name, found) in enumerate(CASES.items())
            for at in places
        ],
    )


def check_forward(norm: Any, formula: Any, sizes: ax.Sizes, dtype: Any) -> None:
    """The outputs are those of the formula."""
    arrays = arrays_of(norm, sizes, dtype)
    options = splits(norm, sizes)
    got = as_tuple(norm(*arrays, **options))
    expected = as_tuple(formula(*(array.astype(np.float64) for array in arrays), **options))
    assert len(got) == len(expected)
    for y, exact in zip(got, expected, strict=True):
        assert y.dtype == dtype
        assert y.shape == np.shape(exact)
        # Some dozens of operations; a variance as a difference of squares loses a digit.
        scale = max(1.0, float(np.abs(exact).max()))
        np.testing.assert_allclose(y, exact, rtol=0, atol=1000 * np.finfo(dtype).eps * scale)


def check_gradients(norm: Any, formula: Any, sizes: ax.Sizes) -> None:
    """Those of a random combination of all outputs, along a random direction of each argument, in float64."""
    arrays = arrays_of(norm, sizes)
    options = splits(norm, sizes)
    results, ctx = norm.forward(*arrays, **options)
    random = np.random.default_rng(2)
    cotangents = tuple(random.standard_normal(result.shape) for result in as_tuple(results))
    gradients = norm.backward(cotangents if isinstance(results, tuple) else cotangents[0], ctx)
    for at, gradient in enumerate(gradients):
        assert gradient.shape == arrays[at].shape
        direction = random.standard_normal(arrays[at].shape)

        def objective(step: float, at: int = at, direction: Any = direction) -> float:
            moved = [array + step * direction if i == at else array for i, array in enumerate(arrays)]
            outputs = as_tuple(formula(*moved, **options))
            return float(sum((c * y).sum() for c, y in zip(cotangents, outputs, strict=True)))

        # Four points: the error is of fourth order in the step, below 1e-9 of these smooth functions' terms.
        step = 1e-4
        near, far = (objective(k * step) - objective(-k * step) for k in (1, 2))
        slope = (8 * near - far) / (12 * step)
        scale = float(np.abs(gradient * direction).sum())
        assert abs(float((gradient * direction).sum()) - slope) <= 1e-6 * (1 + scale)


def test_there_are_many_in_two_sizes_each() -> None:
    assert len(CASES) >= 45
    assert all(len(found.sizes) == 2 for found in CASES.values())


def check_source(norm: Any, sizes: ax.Sizes) -> None:
    """What is emitted, run un-jitted, stays inside the arrays and computes what the interpreter does."""
    counts = {name: prod(size) if isinstance(size, tuple) else size for name, size in sizes.items()}
    for dtype in ("float64", "float32"):
        compilation = compilation_of(norm, counts, dtype, target="cpu:x86-64-v4")
        inputs = (*compilation.program.inputs, *compilation.pair.backward.inputs)
        arrays = arrays_for(tuple(node for node in inputs if node.role in ("input", "cotangent")), counts)
        expected = run_pair(compilation.pair, arrays, counts)
        heuristic = compilation.schedule
        small = small_limits(heuristic)
        for schedule in (heuristic, small, replace(small, short_row=0)):
            got = run_emitted(compilation, arrays, counts, schedule)
            # Some dozens of operations on some dozens of elements.
            assert_close(got, {name: expected[name] for name in got}, 2000 * float(np.finfo(dtype).eps))


@parametrized(0, 1, every=2)
def test_emitted_source(norm: Any, formula: Any, sizes: ax.Sizes) -> None:
    check_source(norm, sizes)


@parametrized(1, every=3)
def test_forward_and_gradients(norm: Any, formula: Any, sizes: ax.Sizes) -> None:
    check_forward(norm, formula, sizes, np.float64)
    check_gradients(norm, formula, sizes)


@parametrized(0, every=4)
def test_forward_in_float32(norm: Any, formula: Any, sizes: ax.Sizes) -> None:
    check_forward(norm, formula, sizes, np.float32)


@parametrized(1, every=3)
def test_results_in_arrays_that_are_given(norm: Any, formula: Any, sizes: ax.Sizes) -> None:
    arrays = arrays_of(norm, sizes)
    options = splits(norm, sizes)
    results = norm(*arrays, **options)
    out = tuple(np.full_like(y, np.nan) for y in as_tuple(results))
    given = out if isinstance(results, tuple) else out[0]
    assert norm(*arrays, **options, out=given) is given
    for y, expected in zip(out, as_tuple(results), strict=True):
        np.testing.assert_array_equal(y, expected)


@parametrized(0, every=4)
def test_arguments_left_out_are_their_defaults(norm: Any, formula: Any, sizes: ax.Sizes) -> None:
    arguments = dispatcher_of(norm).equation.arguments
    if all(argument.required for argument in arguments):
        return
    arrays = arrays_of(norm, sizes)
    options = splits(norm, sizes)
    pairs = list(zip(arrays, arguments, strict=True))
    got = norm(*(array if argument.required else None for array, argument in pairs), **options)
    full = [
        array if argument.required else np.full(array.shape, argument.default) for array, argument in pairs
    ]
    for y, exact in zip(as_tuple(got), as_tuple(formula(*full, **options)), strict=True):
        np.testing.assert_allclose(y, exact, rtol=0, atol=1e-11 * max(1.0, float(np.abs(exact).max())))


def arrangement(seed: int) -> tuple[Any, Any, ax.Sizes]:
    """An equation over one to five axes of random roles, with three parameters over random axes of them."""
    random = np.random.default_rng(seed)
    names = "abcde"[: random.integers(1, 6)]
    features = [name for name in names if random.random() < 0.5]
    some = [name for name in features if random.random() < 0.6] or features
    over = {
        argument: [str(name) for name in random.permutation(list(names)) if random.random() < 0.5]
        for argument in ("scale", "shift", "inner")
    }
    pattern = " ".join(f"[{name}]" if name in features else name for name in names)

    @lnc.norm(pattern, **{argument: " ".join(dims) for argument, dims in over.items()})
    def norm(x, scale, shift, inner=0.5):
        z = x * inner + x
        if not features:
            return lnc.tanh(z) * scale + shift
        partial = standardize(z, over=" ".join(some)) * scale + shift
        return partial + lnc.square(lnc.mean(z)), lnc.mean(partial, over=" ".join(features))

    def formula(x, scale, shift, inner):
        scale, shift, inner = (
            np.transpose(p, sorted(range(p.ndim), key=dims.__getitem__)).reshape(
                [size if name in dims else 1 for name, size in zip(names, x.shape, strict=True)]
            )
            for p, dims in ((scale, over["scale"]), (shift, over["shift"]), (inner, over["inner"]))
        )
        z = x * inner + x
        if not features:
            return np.tanh(z) * scale + shift
        places = tuple(names.index(name) for name in features)
        partial = standardized(z, *(names.index(name) for name in some)) * scale + shift
        return partial + mean(z, *places) ** 2, partial.mean(places)

    return norm, formula, {name: int(random.integers(1, 5)) for name in names}


@pytest.mark.parametrize(
    "block", [0, *(pytest.param(block, marks=pytest.mark.slow) for block in range(1, 8))]
)
def test_emitted_source_of_random_arrangements(block: int) -> None:
    for seed in range(20 * block, 20 * (block + 1)):
        norm, _, sizes = arrangement(seed)
        check_source(norm, sizes)


@pytest.mark.parametrize(
    "seed", [*range(8), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(8, 160))]
)
def test_random_arrangements(seed: int) -> None:
    check_forward(*arrangement(seed), np.float64)
    check_gradients(*arrangement(seed))
