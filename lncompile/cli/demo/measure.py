"""The kernel against float64, against NumPy's own expression, and against a plain copy."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lncompile.ahead import CompiledKernel
from lncompile.backends.cpu.runtime import get_num_threads, set_num_threads
from lncompile.cli.demo.data import Array

EPS = 1e-5
ROUNDS = 30
COPY = "np.copyto of as many bytes"

# NumPy's threads stay awake for a while after a product of matrices, and would take a core from the kernel.
_QUIET_S = 0.2


@dataclass(frozen=True)
class Case:
    """Real activations [samples, features], the parameters they met, and the gradient that came back."""

    x: Array
    weight: Array
    bias: Array
    dy: Array


@dataclass(frozen=True)
class Deviation:
    """The largest difference from float64: of the kernel, and of the same in NumPy and float32.

    One ulp is the distance of float32 numbers at the largest value of the row (of the whole for gradients of
    parameters).
    """

    what: str
    absolute: float
    ulp: float
    numpy_ulp: float


@dataclass(frozen=True)
class Timing:
    """Median and quartiles in seconds, and the median in units of the copy's."""

    phase: str
    what: str
    threads: int
    median: float
    lower: float
    upper: float
    copies: float


@dataclass(frozen=True, eq=False)
class Candidate:
    """Something to time."""

    phase: str
    what: str
    threads: int
    call: Callable[[], object]


def layer_norm_numpy(x: Array, weight: Array, bias: Array) -> Any:
    """Layer norm as one writes it in NumPy."""
    mean = x.mean(axis=-1, keepdims=True)
    var = x.var(axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(var + x.dtype.type(EPS)) * weight + bias


def gradients_numpy(x: Array, weight: Array, dy: Array) -> tuple[Array, Array, Array]:
    """The gradients of layer norm by hand: those of x, weight and bias."""
    centred = x - x.mean(axis=-1, keepdims=True)
    rstd = 1 / np.sqrt(np.mean(centred * centred, axis=-1, keepdims=True) + x.dtype.type(EPS))
    normal = centred * rstd
    inner = dy * weight
    mean_inner = inner.mean(axis=-1, keepdims=True)
    dx = rstd * (inner - mean_inner - normal * (inner * normal).mean(axis=-1, keepdims=True))
    return dx, (dy * normal).sum(axis=0), dy.sum(axis=0)


def deviations(kernel: CompiledKernel, case: Case) -> list[Deviation]:
    """How far forward and gradients are from float64, on one case."""
    y, context = kernel.forward(case.x, case.weight, case.bias)
    got = (y, *kernel.backward(case.dy, context))
    by_numpy = _by_numpy(case)
    wide = Case(*(array.astype(np.float64) for array in (case.x, case.weight, case.bias, case.dy)))
    found = []
    for what, ours, theirs, exact in zip(
        ("y", "dx", "dweight", "dbias"), got, by_numpy, _by_numpy(wide), strict=True
    ):
        found.append(
            Deviation(what, float(np.abs(ours - exact).max()), _ulps(ours, exact), _ulps(theirs, exact))
        )
    return found


def _by_numpy(case: Case) -> tuple[Array, ...]:
    return layer_norm_numpy(case.x, case.weight, case.bias), *gradients_numpy(case.x, case.weight, case.dy)


def _ulps(values: Array, exact: Array) -> float:
    unit = np.spacing(np.abs(exact).max(axis=-1, keepdims=True).astype(np.float32)).astype(np.float64)
    return float((np.abs(values - exact) / unit).max())


def timings(kernel: CompiledKernel, case: Case, after_round: Callable[[], object]) -> list[Timing]:
    """Forward and backward, in rounds that time each candidate once: all see the same disturbances."""
    threads = get_num_threads()
    candidates = _candidates(kernel, case, threads)
    samples: dict[Candidate, list[float]] = {candidate: [] for candidate in candidates}
    time.sleep(_QUIET_S)
    try:
        for index in range(ROUNDS + 1):
            for candidate in candidates:
                set_num_threads(candidate.threads)
                start = time.perf_counter()
                candidate.call()
                # The first round warms up.
                if index:
                    samples[candidate].append(time.perf_counter() - start)
            after_round()
    finally:
        set_num_threads(threads)
    return _summary(samples)


def _candidates(kernel: CompiledKernel, case: Case, threads: int) -> list[Candidate]:
    y, context = kernel.forward(case.x, case.weight, case.bias)
    gradients = kernel.backward(case.dy, context)
    # The backward reads x and dy and writes dx: as many bytes as a copy of one and a half arrays.
    source = np.resize(case.x.ravel(), case.x.size * 3 // 2)
    target = np.empty_like(source)

    def forward() -> object:
        return kernel(case.x, case.weight, case.bias, out=y)

    def backward() -> object:
        return kernel.backward(case.dy, context, out=gradients)

    counts = dict.fromkeys((threads, 1))
    return [
        *(Candidate("forward", "lncompile", n, forward) for n in counts),
        Candidate("forward", "NumPy", 1, lambda: layer_norm_numpy(case.x, case.weight, case.bias)),
        Candidate("forward", COPY, 1, lambda: np.copyto(y, case.x)),
        *(Candidate("backward", "lncompile", n, backward) for n in counts),
        Candidate("backward", "NumPy", 1, lambda: gradients_numpy(case.x, case.weight, case.dy)),
        Candidate("backward", COPY, 1, lambda: np.copyto(target, source)),
    ]


def _summary(samples: dict[Candidate, list[float]]) -> list[Timing]:
    medians = {candidate: float(np.median(times)) for candidate, times in samples.items()}
    copies = {candidate.phase: median for candidate, median in medians.items() if candidate.what == COPY}
    found = []
    for candidate, times in samples.items():
        lower, upper = (float(np.quantile(times, q)) for q in (0.25, 0.75))
        median = medians[candidate]
        ratio = median / copies[candidate.phase]
        found.append(Timing(candidate.phase, candidate.what, candidate.threads, median, lower, upper, ratio))
    return found
