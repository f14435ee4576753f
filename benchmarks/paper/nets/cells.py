"""What ``lncompile.rnn`` is compared with: the same cells without normalization, by the same interface."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from lncompile.cli.demo.data import Array

from .layers import Gradients


class Cell(Protocol):
    """As those of ``lncompile.rnn``: xs [T, B, I] -> hs [T, B, H] and what ``backward`` needs."""

    params: Any

    def forward(self, xs: Array, state: Any = None) -> tuple[Array, Any]:
        """All steps, from ``state`` or zeros."""

    def backward(self, dhs: Array, ctx: Any) -> tuple[Mapping[str, Array], Array]:
        """The gradients of ``params`` by name, and dxs."""


@dataclass(frozen=True)
class _Steps:
    """Of a forward: its input, the state before every step, what was computed, the last state."""

    xs: Array
    before: Array
    kept: dict[str, Array]
    state: Any


def _drawn(shapes: Mapping[str, tuple[int, ...]], hidden: int, seed: int, dtype: str) -> dict[str, Array]:
    """Matrices uniform in ±1/√H, as torch draws them; biases 0."""
    rng = np.random.default_rng(seed)
    bound = hidden**-0.5
    return {
        name: (rng.uniform(-bound, bound, shape) if len(shape) == 2 else np.zeros(shape)).astype(dtype)
        for name, shape in shapes.items()
    }


def _logistic(x: Array) -> Array:
    """In place; by tanh, which does not overflow."""
    x *= 0.5
    np.tanh(x, out=x)
    x += 1
    x *= 0.5
    return x


def _product(a: Array, b: Array) -> Array:
    """aᵀ b, summed over time and batch."""
    return a.reshape(-1, a.shape[-1]).T @ b.reshape(-1, b.shape[-1])


class GRU:
    """``LNGRU`` without its normalizations: [z r] = h Wh + x Wx + b; n = tanh(x W + b_w + s(r) (h U + b_u));
    h' = (1 - s(z)) h + s(z) n.
    """

    def __init__(self, input_size: int, hidden_size: int, seed: int = 0, dtype: str = "float32") -> None:
        """Parameters that depend on the seed alone."""
        size, width = input_size, hidden_size
        shapes = {"Wx": (size, 2 * width), "Wh": (width, 2 * width), "W": (size, width), "U": (width, width)}
        biases = {"b": (2 * width,), "b_w": (width,), "b_u": (width,)}
        self.params = _drawn({**shapes, **biases}, width, seed, dtype)

    def forward(self, xs: Array, state: Any = None) -> tuple[Array, _Steps]:
        """hs [T, B, H]."""
        p = self.params
        steps, batch, _ = xs.shape
        width = len(p["U"])
        gates, candidate = xs @ p["Wx"] + p["b"], xs @ p["W"] + p["b_w"]
        recurrent = np.empty_like(candidate)
        hs = np.empty((steps + 1, batch, width), xs.dtype)
        hs[0] = 0 if state is None else state
        for t, h in enumerate(hs[:-1]):
            gates[t] += h @ p["Wh"]
            gate = _logistic(gates[t])
            recurrent[t] = h @ p["U"] + p["b_u"]
            candidate[t] = np.tanh(candidate[t] + gate[:, width:] * recurrent[t])
            hs[t + 1] = h + gate[:, :width] * (candidate[t] - h)
        kept = {"gates": gates, "candidate": candidate, "recurrent": recurrent}
        return hs[1:], _Steps(xs, hs[:-1], kept, hs[-1])

    def backward(self, dhs: Array, ctx: _Steps) -> tuple[Gradients, Array]:
        """Through all steps, last to first."""
        p, kept = self.params, ctx.kept
        width = dhs.shape[-1]
        dgates = np.empty_like(kept["gates"])
        dcandidate, drecurrent = np.empty_like(dhs), np.empty_like(dhs)
        slope = kept["gates"] * (1 - kept["gates"])
        dh = np.zeros_like(dhs[0])
        for t in reversed(range(len(dhs))):
            dh = dh + dhs[t]
            z, r = kept["gates"][t, :, :width], kept["gates"][t, :, width:]
            n = kept["candidate"][t]
            dcandidate[t] = dh * z * (1 - n * n)
            drecurrent[t] = dcandidate[t] * r
            dgates[t, :, :width] = dh * (n - ctx.before[t])
            dgates[t, :, width:] = dcandidate[t] * kept["recurrent"][t]
            dgates[t] *= slope[t]
            dh = dh * (1 - z) + dgates[t] @ p["Wh"].T + drecurrent[t] @ p["U"].T
        gradients = {
            "Wx": _product(ctx.xs, dgates),
            "Wh": _product(ctx.before, dgates),
            "W": _product(ctx.xs, dcandidate),
            "U": _product(ctx.before, drecurrent),
            "b": dgates.sum(axis=(0, 1)),
            "b_w": dcandidate.sum(axis=(0, 1)),
            "b_u": drecurrent.sum(axis=(0, 1)),
        }
        return gradients, dgates @ p["Wx"].T + dcandidate @ p["W"].T


class LSTM:
    """``LNLSTM`` without its normalizations: [f i o g] = h Wh + x Wx + b; c' = s(f) c + s(i) tanh(g);
    h' = s(o) tanh(c').
    """

    def __init__(self, input_size: int, hidden_size: int, seed: int = 0, dtype: str = "float32") -> None:
        """Parameters that depend on the seed alone."""
        size, width = input_size, hidden_size
        shapes = {"Wx": (size, 4 * width), "Wh": (width, 4 * width), "b": (4 * width,)}
        self.params = _drawn(shapes, width, seed, dtype)

    def forward(self, xs: Array, state: Any = None) -> tuple[Array, _Steps]:
        """hs [T, B, H]."""
        p = self.params
        steps, batch, _ = xs.shape
        width = len(p["Wh"])
        gates = xs @ p["Wx"] + p["b"]
        hs, cs = (np.empty((steps + 1, batch, width), xs.dtype) for _ in range(2))
        hs[0], cs[0] = (0, 0) if state is None else state
        tanh_c = np.empty_like(hs[1:])
        for t, gate in enumerate(gates):
            gate += hs[t] @ p["Wh"]
            f, i, o = np.split(_logistic(gate[:, : 3 * width]), 3, axis=1)
            g = np.tanh(gate[:, 3 * width :], out=gate[:, 3 * width :])
            cs[t + 1] = f * cs[t] + i * g
            np.tanh(cs[t + 1], out=tanh_c[t])
            hs[t + 1] = o * tanh_c[t]
        kept = {"gates": gates, "cs": cs[:-1], "tanh_c": tanh_c}
        return hs[1:], _Steps(xs, hs[:-1], kept, (hs[-1], cs[-1]))

    def backward(self, dhs: Array, ctx: _Steps) -> tuple[Gradients, Array]:
        """Through all steps, last to first."""
        p, kept = self.params, ctx.kept
        width = dhs.shape[-1]
        gates = kept["gates"]
        dgates = np.empty_like(gates)
        slope = gates * (1 - gates)
        slope[..., 3 * width :] = 1 - gates[..., 3 * width :] ** 2
        dh, dc = np.zeros_like(dhs[0]), np.zeros_like(dhs[0])
        for t in reversed(range(len(dhs))):
            dh = dh + dhs[t]
            f, i, o, g = np.split(gates[t], 4, axis=1)
            dc = dc + dh * o * (1 - kept["tanh_c"][t] ** 2)
            np.concatenate(
                [dc * kept["cs"][t], dc * g, dh * kept["tanh_c"][t], dc * i], axis=1, out=dgates[t]
            )
            dgates[t] *= slope[t]
            dc = dc * f
            dh = dgates[t] @ p["Wh"].T
        gradients = {
            "Wx": _product(ctx.xs, dgates),
            "Wh": _product(ctx.before, dgates),
            "b": dgates.sum(axis=(0, 1)),
        }
        return gradients, dgates @ p["Wx"].T
