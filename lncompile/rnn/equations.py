"""What a step of each cell computes between its matrix products, as equations.

``n`` is the batch, ``d`` the hidden units, ``gate`` the gates in their order along the concatenated axis.
Statistics run over all gates at once. From the supplement of arXiv 1607.06450; bias and gain of the
normalizations are the other way round there (section 3.1 has them right: gains start at 1, biases at 0).
"""

from __future__ import annotations

from typing import Any

import lncompile.language as lnc
from lncompile.norm import norm

#: Under the root, as in the authors' published code; the paper has none.
EPS = 1e-5


def normalized(z: Any, gain: Any, bias: Any) -> Any:
    """LN(z; gain, bias): over all feature axes of z."""
    centred = z - lnc.mean(z)
    return centred * lnc.rsqrt(lnc.mean(lnc.square(centred)) + EPS) * gain + bias


@norm("n [d]", zx="n d", gain="d", bias="d")
def rnn_step(zh: Any, zx: Any, gain: Any, bias: Any) -> Any:
    """Equation (4), f = tanh: zh = h @ Wh, zx = x @ Wx, each [n, d] -> the new h."""
    return lnc.tanh(normalized(zh + zx, gain, bias))


@norm(
    "n [gate d]",
    zx="n gate d",
    c="n d",
    b="gate d",
    gain_h="gate d",
    bias_h="gate d",
    gain_x="gate d",
    bias_x="gate d",
    gain_c="d",
    bias_c="d",
)
def lstm_step(
    zh: Any,
    zx: Any,
    c: Any,
    b: Any,
    gain_h: Any,
    bias_h: Any,
    gain_x: Any,
    bias_x: Any,
    gain_c: Any,
    bias_c: Any,
) -> Any:
    """(20)-(22): zh = h @ Wh, zx = x @ Wx, each [n, 4, d], and c [n, d] -> the new h and c."""
    gates = normalized(zh, gain_h, bias_h) + normalized(zx, gain_x, bias_x) + b
    forget, enter, leave, cell = lnc.unstack(gates, "gate", 4)
    new_c = lnc.sigmoid(forget) * c + lnc.sigmoid(enter) * lnc.tanh(cell)
    return lnc.sigmoid(leave) * lnc.tanh(normalized(new_c, gain_c, bias_c)), new_c


@norm(
    "n [gate d]",
    u="n d",
    zx="n gate d",
    w="n d",
    h="n d",
    gain_h="gate d",
    bias_h="gate d",
    gain_x="gate d",
    bias_x="gate d",
    gain_w="d",
    bias_w="d",
    gain_u="d",
    bias_u="d",
)
def gru_step(
    zh: Any,
    u: Any,
    zx: Any,
    w: Any,
    h: Any,
    gain_h: Any,
    bias_h: Any,
    gain_x: Any,
    bias_x: Any,
    gain_w: Any,
    bias_w: Any,
    gain_u: Any,
    bias_u: Any,
) -> Any:
    """(26)-(28): zh = h @ Wh and zx = x @ Wx [n, 2, d], u = h @ U, w = x @ W and h [n, d] -> the new h."""
    gates = normalized(zh, gain_h, bias_h) + normalized(zx, gain_x, bias_x)
    update, reset = lnc.unstack(gates, "gate", 2)
    new = lnc.tanh(normalized(w, gain_w, bias_w) + lnc.sigmoid(reset) * normalized(u, gain_u, bias_u))
    kept = lnc.sigmoid(update)
    return (1.0 - kept) * h + kept * new
