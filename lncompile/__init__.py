"""Normalization kernels, compiled from their equations.

import lncompile as lnc

y = lnc.layer_norm(x, weight, bias)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lncompile.ahead import CompiledKernel, compile
from lncompile.autotune import tune
from lncompile.backends.cpu.runtime import get_num_threads, set_num_threads
from lncompile.errors import LncError
from lncompile.kernel import Context
from lncompile.language import (
    abs,
    cast,
    erf,
    exp,
    gelu,
    log,
    max,
    maximum,
    mean,
    minimum,
    relu,
    rsqrt,
    sigmoid,
    silu,
    sqrt,
    square,
    stack,
    sum,
    tanh,
    unstack,
    where,
)
from lncompile.memory import get_pool_bytes, set_pool_bytes
from lncompile.norm import Norm, norm
from lncompile.norms import (
    ada_layer_norm,
    add_layer_norm,
    add_rms_norm,
    batch_norm,
    batch_norm_inference,
    dyt,
    group_norm,
    instance_norm,
    l2_norm,
    layer_norm,
    log_softmax,
    rms_norm,
    softmax,
)

if TYPE_CHECKING:
    from lncompile.aot.load import Loaded, load
    from lncompile.aot.use import use

__version__ = "0.1.0"

__all__ = [
    "CompiledKernel",
    "Context",
    "LncError",
    "Loaded",
    "Norm",
    "abs",
    "ada_layer_norm",
    "add_layer_norm",
    "add_rms_norm",
    "batch_norm",
    "batch_norm_inference",
    "cast",
    "compile",
    "dyt",
    "erf",
    "exp",
    "gelu",
    "get_num_threads",
    "get_pool_bytes",
    "group_norm",
    "instance_norm",
    "l2_norm",
    "layer_norm",
    "load",
    "log",
    "log_softmax",
    "max",
    "maximum",
    "mean",
    "minimum",
    "norm",
    "relu",
    "rms_norm",
    "rsqrt",
    "set_num_threads",
    "set_pool_bytes",
    "sigmoid",
    "silu",
    "softmax",
    "sqrt",
    "square",
    "stack",
    "sum",
    "tanh",
    "tune",
    "unstack",
    "use",
    "where",
]

#: Public names that few processes need, and their modules: imported on first use, which saves others 2 ms.
_LATER = {"Loaded": "lncompile.aot.load", "load": "lncompile.aot.load", "use": "lncompile.aot.use"}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    globals()[name] = found = getattr(import_module(_LATER[name]), name)
    return found
