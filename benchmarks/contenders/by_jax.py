"""JAX: the equations in ``jax.numpy`` under ``jax.jit``, for the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..grid import EPS, Case
from . import Prepared
from .data import arrays
from .geometry import geometry


def start(threads: int) -> dict[str, str]:
    """Import it; its threads follow the process's cores, and XLA_FLAGS where there is one thread."""
    import jax

    # Without it, float64 is float32.
    jax.config.update("jax_enable_x64", True)
    return {"jax": jax.__version__}


def prepare(case: Case, mode: str) -> Prepared:
    """The case as compiled functions.

    Backward has two forms, of which the better counts: one that computes the statistics again from x, as one
    function of x, weight, bias and dy, and one that gets what the forward saved.
    """
    import jax

    given = arrays(case, mode)
    inputs = [jax.device_put(array) for array in (given.x, *given.parameters)]
    names: dict[str, Any] = dict(zip(("x", "weight", "bias"), inputs, strict=False))
    arguments = ", ".join(names)
    norm = _norm(case)
    if case.phase == "forward":
        names["f"] = forward = jax.jit(norm)
        return Prepared(
            {"": f"f({arguments}).block_until_ready()"}, names, lambda: [np.asarray(forward(*inputs))]
        )
    dy = names["dy"] = jax.device_put(given.dy)
    names["block"] = jax.block_until_ready
    names["again"] = again = jax.jit(lambda dy, *inputs: jax.vjp(norm, *inputs)[1](dy))
    names["pullback"] = jax.jit(lambda *inputs: jax.vjp(norm, *inputs)[1])(*inputs)
    names["f"] = jax.jit(lambda pullback, dy: pullback(dy))
    variants = {
        "statistics computed again": f"block(again(dy, {arguments}))",
        "residuals saved": "block(f(pullback, dy))",
    }
    return Prepared(variants, names, lambda: [np.asarray(g) for g in again(dy, *inputs)])


def _norm(case: Case) -> Callable[..., Any]:
    import jax.numpy as jnp
    from jax.lax import rsqrt

    where = geometry(case)

    def norm(x: Any, weight: Any, bias: Any = None) -> Any:
        # As flax and others do: statistics of 16-bit inputs in float32.
        wide = x.reshape(where.view).astype(jnp.promote_types(x.dtype, jnp.float32))
        if case.norm != "rms_norm":
            wide = wide - wide.mean(where.reduce, keepdims=True)
        rstd = rsqrt(jnp.square(wide).mean(where.reduce, keepdims=True) + EPS)
        y = wide * rstd * weight.reshape(where.parameter)
        if bias is not None:
            y = y + bias.reshape(where.parameter)
        return y.astype(x.dtype).reshape(x.shape)

    return norm
