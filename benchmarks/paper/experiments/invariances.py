"""Table 1 of the paper in numbers: what a normalized layer's output does when its weights or data change.

Everything in float64, and with an epsilon that no sum of squares notices, since the paper's equations have
none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import lncompile as lnc
from lncompile.cli.demo.data import Array

#: ``deviation`` is the largest change of an output in units of the largest output.
COLUMNS = ("norm", "change", "seed", "deviation", "invariant")

#: Far above the rounding of float64, far below what a change that matters does.
TOLERANCE = 1e-6

SEEDS = (0, 1, 2)
SAMPLES, INPUTS, OUTPUTS = 32, 24, 16
_EPS = 1e-30


@lnc.norm("outputs [inputs]", gain="outputs")
def weight_norm(v: Any, gain: Any) -> Any:
    """The weights of weight normalization (Salimans, Kingma 2016, arXiv 1602.07868, equation 2).

    v [outputs inputs], a row for each unit; gain [outputs], the length of the row that comes out.
    """
    return v * lnc.rsqrt(lnc.sum(lnc.square(v))) * gain


#: A layer's output [samples, outputs], given x [samples, inputs], weights [outputs, inputs], gains and
#: biases.
Layer = Callable[[Array, Array, Array, Array], Array]


def _batch(x: Array, weights: Array, gain: Array, bias: Array) -> Array:
    y: Array = lnc.batch_norm(x @ weights.T, gain, bias, eps=_EPS)[0]
    return y


def _weight(x: Array, weights: Array, gain: Array, bias: Array) -> Array:
    y: Array = x @ weight_norm(weights, gain).T + bias
    return y


def _layer(x: Array, weights: Array, gain: Array, bias: Array) -> Array:
    y: Array = lnc.layer_norm(x @ weights.T, gain, bias, eps=_EPS)
    return y


LAYERS: dict[str, Layer] = {"batch norm": _batch, "weight norm": _weight, "layer norm": _layer}

#: x and weights after the change, given both and random numbers.
Change = Callable[[Array, Array, np.random.Generator], tuple[Array, Array]]


def _row(values: Array, at: int, factor: float) -> Array:
    changed = values.copy()
    changed[at] *= factor
    return changed


CHANGES: dict[str, Change] = {
    "weight matrix re-scaling": lambda x, w, rng: (x, 3.5 * w),
    "weight matrix re-centering": lambda x, w, rng: (x, w + rng.standard_normal(INPUTS)),
    "weight vector re-scaling": lambda x, w, rng: (x, _row(w, 3, 3.5)),
    "dataset re-scaling": lambda x, w, rng: (3.5 * x, w),
    "dataset re-centering": lambda x, w, rng: (x + rng.standard_normal(INPUTS), w),
    "single training case re-scaling": lambda x, w, rng: (_row(x, 5, 3.5), w),
}

#: Table 1, by norm, in the order of ``CHANGES``.
PAPER = {
    "batch norm": (True, False, True, True, True, False),
    "weight norm": (True, False, True, False, False, False),
    "layer norm": (True, True, False, True, False, True),
}


def paper_says(norm: str, change: str) -> bool:
    """Whether a norm is invariant by the paper's table."""
    return PAPER[norm][list(CHANGES).index(change)]


def run(seed: int) -> list[tuple[object, ...]]:
    """A row for each norm and change."""
    rng = np.random.default_rng(seed)
    x, weights = rng.standard_normal((SAMPLES, INPUTS)), rng.standard_normal((OUTPUTS, INPUTS))
    gain, bias = rng.uniform(0.5, 2, OUTPUTS), rng.standard_normal(OUTPUTS)
    rows: list[tuple[object, ...]] = []
    for name, layer in LAYERS.items():
        before = layer(x, weights, gain, bias)
        for change, changed in CHANGES.items():
            after = layer(*changed(x, weights, np.random.default_rng(seed + 1)), gain, bias)
            deviation = float(np.abs(after - before).max() / np.abs(before).max())
            rows.append((name, change, seed, deviation, "yes" if deviation < TOLERANCE else "no"))
    return rows
