"""Normalization kernels, compiled from their equations.

import lncompile as lnc

y = lnc.layer_norm(x, weight, bias)
"""

from __future__ import annotations

from lncompile.ahead import CompiledKernel, compile
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
    sum,
    tanh,
    where,
)
from lncompile.norm import Norm, norm
from lncompile.norms import layer_norm, rms_norm

__version__ = "0.1.0"

__all__ = [
    "CompiledKernel",
    "Context",
    "LncError",
    "Norm",
    "abs",
    "cast",
    "compile",
    "erf",
    "exp",
    "gelu",
    "get_num_threads",
    "layer_norm",
    "log",
    "max",
    "maximum",
    "mean",
    "minimum",
    "norm",
    "relu",
    "rms_norm",
    "rsqrt",
    "set_num_threads",
    "sigmoid",
    "silu",
    "sqrt",
    "square",
    "sum",
    "tanh",
    "where",
]
