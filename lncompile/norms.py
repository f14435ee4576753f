"""The family, as equations: read it to learn the language, import its norms from ``lncompile``.

Every array may be float16, bfloat16, float32 or float64; "like x" says both shape and dtype.
"""

from __future__ import annotations

from typing import Any

from lncompile.language import exp, log, max, maximum, mean, rsqrt, square, sum, tanh
from lncompile.norm import norm


@norm("... [d]", weight="d", bias="d")
def layer_norm(x: Any, weight: Any = 1.0, bias: Any = 0.0, *, eps: float = 1e-5) -> Any:
    """Layer normalization (Ba, Kiros, Hinton 2016, arXiv 1607.06450, equations 3 and 4).

    x [... d]; weight and bias [d]; y like x. The paper's σ has no ``eps``; it is
    inside the root here, as in the authors' code and in torch.
    """
    mu = mean(x)
    var = mean(square(x - mu))
    rstd = rsqrt(var + eps)
    return (x - mu) * rstd * weight + bias


@norm("... [d]", weight="d")
def rms_norm(x: Any, weight: Any = 1.0, *, eps: float = 1e-5, weight_offset: float = 0.0) -> Any:
    """Root mean square layer normalization (Zhang, Sennrich 2019, arXiv 1910.07467, equation 4).

    x [... d]; weight [d]; y like x. ``weight_offset=1.0`` is the form that multiplies by
    1 + weight, with weights stored around zero.
    """
    rstd = rsqrt(mean(square(x)) + eps)
    return x * rstd * (weight + weight_offset)


@norm("[n] c [...]", weight="c", bias="c")
def batch_norm(x: Any, weight: Any = 1.0, bias: Any = 0.0, *, eps: float = 1e-5) -> Any:
    """Batch normalization as in training (Ioffe, Szegedy 2015, arXiv 1502.03167, algorithm 1).

    x [n c ...]; weight and bias [c]. Returns y like x, and the mean and the biased variance of every channel,
    [c] each, which running statistics are made of (:func:`lncompile.functional.batch_norm` does so).
    """
    mu = mean(x)
    var = mean(square(x - mu))
    rstd = rsqrt(var + eps)
    return (x - mu) * rstd * weight + bias, mu, var


@norm("n c ...", mean="c", var="c", weight="c", bias="c")
def batch_norm_inference(
    x: Any, mean: Any, var: Any, weight: Any = 1.0, bias: Any = 0.0, *, eps: float = 1e-5
) -> Any:
    """Batch normalization by given statistics (arXiv 1502.03167, algorithm 2, steps 10 and 11).

    x [n c ...]; mean, var, weight and bias [c]; y like x. Nothing is averaged: there are no feature axes.
    """
    return (x - mean) * rsqrt(var + eps) * weight + bias


@norm("n (g [c]) [...]", weight="(g c)", bias="(g c)")
def group_norm(x: Any, weight: Any = 1.0, bias: Any = 0.0, *, eps: float = 1e-5) -> Any:
    """Group normalization (Wu, He 2018, arXiv 1803.08494, equations 1, 2, 6 and 7).

    x [n (g c) ...], the number of groups given by name (``g=32``); weight and bias [(g c)], one for each
    channel; y like x.
    """
    mu = mean(x)
    var = mean(square(x - mu))
    rstd = rsqrt(var + eps)
    return (x - mu) * rstd * weight + bias


@norm("n c [...]", weight="c", bias="c")
def instance_norm(x: Any, weight: Any = 1.0, bias: Any = 0.0, *, eps: float = 1e-5) -> Any:
    """Instance normalization (Ulyanov, Vedaldi, Lempitsky 2016, arXiv 1607.08022, equation 3).

    x [n c ...]; weight and bias [c]; y like x.
    """
    mu = mean(x)
    var = mean(square(x - mu))
    rstd = rsqrt(var + eps)
    return (x - mu) * rstd * weight + bias


@norm("... [d]", residual="... d", weight="d", bias="d")
def add_layer_norm(x: Any, residual: Any, weight: Any = 1.0, bias: Any = 0.0, *, eps: float = 1e-5) -> Any:
    """Layer normalization of x + residual, as between the blocks of a transformer (arXiv 1706.03762, 5.4).

    x and residual [... d]; weight and bias [d]. Returns y and the sum, both like x.
    """
    added = x + residual
    mu = mean(added)
    var = mean(square(added - mu))
    rstd = rsqrt(var + eps)
    return (added - mu) * rstd * weight + bias, added


@norm("... [d]", residual="... d", weight="d")
def add_rms_norm(
    x: Any, residual: Any, weight: Any = 1.0, *, eps: float = 1e-5, weight_offset: float = 0.0
) -> Any:
    """RMS normalization of x + residual (arXiv 1910.07467).

    x and residual [... d]; weight [d]. Returns y and the sum, both like x.
    """
    added = x + residual
    rstd = rsqrt(mean(square(added)) + eps)
    return added * rstd * (weight + weight_offset), added


@norm("b ... [d]", scale="b d", shift="b d")
def ada_layer_norm(x: Any, scale: Any, shift: Any, *, eps: float = 1e-5) -> Any:
    """Adaptive layer normalization, as in diffusion transformers (Peebles, Xie 2022, arXiv 2212.09748, 3.2).

    x [b ... d]; scale and shift [b d], made by a network for each b; y = norm(x)·(1 + scale) + shift, like x.
    """
    mu = mean(x)
    var = mean(square(x - mu))
    rstd = rsqrt(var + eps)
    return (x - mu) * rstd * (1.0 + scale) + shift


@norm("... [d]")
def l2_norm(x: Any, *, eps: float = 1e-12) -> Any:
    """x over its length, as ``torch.nn.functional.normalize``: a length below ``eps`` counts as ``eps``.

    x [... d]; y like x.
    """
    return x * rsqrt(maximum(sum(square(x)), eps * eps))


@norm("... [d]")
def softmax(x: Any) -> Any:
    """exp(x) over its sum (Bridle 1990), shifted by the largest element so that nothing overflows.

    x [... d]; y like x.
    """
    e = exp(x - max(x))
    return e / sum(e)


@norm("... [d]")
def log_softmax(x: Any) -> Any:
    """The logarithm of :func:`softmax`, without the exponential's loss of small values.

    x [... d]; y like x.
    """
    shifted = x - max(x)
    return shifted - log(sum(exp(shifted)))


@norm("... [d]", alpha="", weight="d", bias="d")
def dyt(x: Any, alpha: Any, weight: Any = 1.0, bias: Any = 0.0) -> Any:
    """Dynamic tanh (Zhu, Chen, He, LeCun, Liu 2025, arXiv 2503.10622, equation 1): no statistics at all.

    x [... d]; alpha one number, an array without dimensions; weight and bias [d]; y like x.
    """
    return tanh(alpha * x) * weight + bias
