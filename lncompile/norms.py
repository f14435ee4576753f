"""The family, as equations: read it to learn the language, import its norms from ``lncompile``."""

from __future__ import annotations

from typing import Any

from lncompile.language import mean, rsqrt, square
from lncompile.norm import norm


@norm("... [d]", weight="d", bias="d")
def layer_norm(x: Any, weight: Any = 1.0, bias: Any = 0.0, *, eps: float = 1e-5) -> Any:
    """Layer normalization (Ba, Kiros, Hinton 2016, arXiv 1607.06450, equations 3 and 4).

    x [... d] float32 or float64; weight and bias [d]; y like x. The papers's σ has no ``eps``; it is
    inside the root here, as in the authors' code and in torch.
    """
    mu = mean(x)
    var = mean(square(x - mu))
    rstd = rsqrt(var + eps)
    return (x - mu) * rstd * weight + bias


@norm("... [d]", weight="d")
def rms_norm(x: Any, weight: Any = 1.0, *, eps: float = 1e-5, weight_offset: float = 0.0) -> Any:
    """Root mean square layer normalization (Zhang, Sennrich 2019, arXiv 1910.07467, equation 4).

    x [... d] float32 or float64; weight [d]; y like x. ``weight_offset=1.0`` is the form that multiplies by
    1 + weight, with weights stored around zero.
    """
    rstd = rsqrt(mean(square(x)) + eps)
    return x * rstd * (weight + weight_offset)
