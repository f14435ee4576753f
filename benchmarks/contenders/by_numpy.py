"""NumPy: the expressions that one writes, with ``out=`` for the large intermediate results."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..grid import EPS, Case
from . import Prepared
from .data import Array, aligned, arrays
from .geometry import geometry


def start(threads: int) -> dict[str, str]:
    """NumPy's element-wise operations and sums use one thread, whatever ``threads`` is."""
    return {"numpy": np.__version__}


def prepare(case: Case, mode: str) -> Prepared:
    """The case as a function of arrays."""
    given, where = arrays(case, mode), geometry(case)
    out = aligned(where.view, given.x.dtype) if mode == "mapped" else None
    x = given.x.reshape(where.view)
    parameters = [array.reshape(where.parameter) for array in given.parameters]
    reduce, batch, centred = where.reduce, where.batch, case.norm != "rms_norm"
    made: list[Any] = []

    def statistics() -> tuple[Array, Any]:
        mean = x.mean(reduce, keepdims=True) if centred else 0
        centred_x = np.subtract(x, mean, out=out) if centred else x
        var = np.mean(np.square(centred_x), reduce, keepdims=True)
        return centred_x, 1 / np.sqrt(var + var.dtype.type(EPS))

    def forward() -> Array:
        centred_x, rstd = statistics()
        y: Array = np.multiply(centred_x, rstd, out=out)
        y *= parameters[0]
        if len(parameters) > 1:
            y += parameters[1]
        made[:] = [y]
        return y

    if case.phase == "forward":
        return Prepared({"": "run()"}, {"run": forward}, lambda: made)
    assert given.dy is not None
    dy = given.dy.reshape(where.view)
    # As the forward would have kept them.
    centred_x, rstd = statistics()
    mean = x.mean(reduce, keepdims=True) if centred else None
    del centred_x

    def backward() -> list[Array]:
        normalized = (x * rstd) if mean is None else (x - mean) * rstd
        g = dy * parameters[0]
        dx = np.multiply(normalized, np.mean(g * normalized, reduce, keepdims=True), out=out)
        np.subtract(g, dx, out=dx)
        if centred:
            dx -= g.mean(reduce, keepdims=True)
        dx *= rstd
        gradients = [dx, (dy * normalized).sum(batch)]
        if len(parameters) > 1:
            gradients.append(dy.sum(batch))
        made[:] = gradients
        return gradients

    return Prepared({"": "run()"}, {"run": backward}, lambda: made)
