"""Normalization kernels, compiled from their equations.

import lncompile as lnc

y = lnc.layer_norm(x, weight, bias)
"""

from __future__ import annotations

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
    sum,
    tanh,
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

__version__ = "0.1.0"

__all__ = [
    "CompiledKernel",
    "Context",
    "LncError",
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
    "sum",
    "tanh",
    "tune",
    "where",
]
