"""The elementwise functions: errors in ulps, edges, lanes, and what they compile to."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest
from llvmlite import ir

from lncompile.backends.cpu import elf, estimates, target, vecmath

Array = np.ndarray[Any, np.dtype[Any]]

FUNCTIONS = ["exp", "log", "tanh", "sigmoid", "erf"]
TYPES = {"float32": ir.FloatType(), "float64": ir.DoubleType()}
# In ulps, as the docstrings promise.
BOUNDS = {"rsqrt": 1.5, "exp": 1.1, "log": 0.9, "tanh": 1.6, "sigmoid": 1.9, "erf": 1.6}

TARGETS = [
    *(("x86_64-unknown-linux-gnu", f"x86-64{level}") for level in ("", "-v2", "-v3", "-v4")),
    ("aarch64-unknown-linux-gnu", "generic"),
]
# The baseline has no fused multiply-add on x86-64; this processor most likely has.
CPUS = ["baseline", "host"]


def module(function: str, dtype: str, lanes: int) -> str:
    """A loop of ``function`` over blocks of ``lanes`` elements, of scalars for 0."""
    scalar = TYPES[dtype]
    block = ir.VectorType(scalar, lanes) if lanes else scalar
    int64 = ir.IntType(64)
    arguments = [scalar.as_pointer(), scalar.as_pointer(), int64]
    made = ir.Module("vecmath")
    kernel = ir.Function(made, ir.FunctionType(ir.VoidType(), arguments), "kernel")
    entry, loop, done = (kernel.append_basic_block(name) for name in ("entry", "loop", "done"))
    ir.IRBuilder(entry).branch(loop)
    builder = ir.IRBuilder(loop)
    i = builder.phi(int64)
    i.add_incoming(int64(0), entry)
    align = 4 if dtype == "float32" else 8
    # By elements: three lanes take the room of four in an array of vectors.
    at = builder.mul(i, int64(max(lanes, 1)))
    source, target = (builder.bitcast(builder.gep(p, [at]), block.as_pointer()) for p in kernel.args[:2])
    x = builder.load(source, align=align)
    y = getattr(estimates if function == "rsqrt" else vecmath, function)(builder, x)
    assert y.type == x.type
    builder.store(y, target, align=align)
    following = builder.add(i, int64(1))
    i.add_incoming(following, loop)
    builder.cbranch(builder.icmp_signed("<", following, kernel.args[2]), loop, done)
    ir.IRBuilder(done).ret_void()
    return str(made)


def linked(source: str, triple: str, cpu: str, features: str = "") -> bytes:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    target = llvm.Target.from_triple(triple)
    machine = target.create_target_machine(
        cpu=cpu, features=features, opt=3, reloc="pic", codemodel="default"
    )
    parsed = llvm.parse_assembly(source)
    parsed.triple = triple
    parsed.verify()
    passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(3))
    passes.getModulePassManager().run(parsed, passes)
    return elf.link(machine.emit_object(parsed), ["kernel"], "libkernel.so")


@pytest.fixture(scope="module")
def evaluate(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Array]:
    """``evaluate(function, x, lanes, cpu)`` runs a compiled loop."""
    folder = tmp_path_factory.mktemp("vecmath")

    @cache
    def kernel(function: str, dtype: str, lanes: int, cpu: str) -> Any:
        name, features = "", ""
        if cpu == "host":
            name, features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
        path = Path(folder) / f"{function}_{dtype}_{lanes}_{cpu}.so"
        path.write_bytes(linked(module(function, dtype, lanes), llvm.get_process_triple(), name, features))
        found = ctypes.CDLL(str(path)).kernel
        found.restype = None
        found.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
        return found

    def run(function: str, x: Array, lanes: int = 8, cpu: str = "host") -> Array:
        block = max(lanes, 1)
        padded = np.resize(x, -(-x.size // block) * block)
        y = np.empty_like(padded)
        kernel(function, x.dtype.name, lanes, cpu)(padded.ctypes.data, y.ctypes.data, padded.size // block)
        return y[: x.size]

    return run


# ---- references in wider arithmetic ------------------------------------------------------------------------


def sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x < 0, e, 1) / (1 + e))


def erf(x: Array) -> Array:
    """2 / sqrt(pi) e^(-x^2) sum of 2^n x^(2n+1) / (2n+1)!!: all terms positive, so no digits cancel."""
    size = np.minimum(np.abs(x), x.dtype.type(7))
    term = size.copy()
    total = term.copy()
    for n in range(1, 220):
        term = term * (2 * size * size / (2 * n + 1))
        total = total + term
    root_pi = np.sqrt(x.dtype.type("3.14159265358979323846264338327950288"))
    return np.asarray(np.copysign(total * np.exp(-size * size) * 2 / root_pi, x))


REFERENCES: dict[str, Callable[[Array], Array]] = {
    "rsqrt": lambda v: np.asarray(1 / np.sqrt(v)),
    "exp": np.exp,
    "log": np.log,
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "erf": erf,
}


def ulps(function: str, x: Array, y: Array) -> float:
    """The largest error of ``y``; infinite where it should be NaN, infinite or neither, and is not."""
    wide = np.dtype(np.float64 if x.dtype == np.float32 else np.longdouble)
    with np.errstate(all="ignore"):
        exact = REFERENCES[function](x.astype(wide))
        nearest = exact.astype(x.dtype)
        special = ~np.isfinite(nearest)
        if not np.array_equal(nearest[special], y[special], equal_nan=True):
            return np.inf
        unit = np.spacing(np.abs(nearest[~special])).astype(wide)
        return float(np.max(np.abs(y[~special].astype(wide) - exact[~special]) / unit, initial=0))


def samples(dtype: str, count: int) -> Array:
    """Numbers of every size, and many where the functions do something."""
    rng = np.random.default_rng(0)
    sign = rng.choice([-1.0, 1.0], count)
    around_zero = [rng.uniform(-limit, limit, count) for limit in (750, 40, 7, 1.2)]
    magnitudes = [sign * np.exp(rng.uniform(low, high, count)) for low, high in ((-60, 5), (-745, 709))]
    ends = [rng.uniform(low, high, count) for low, high in ((-746, -700), (700, 710), (0.7, 1.45))]
    any_bits = np.frombuffer(rng.bytes(8 * count), np.float64)
    with np.errstate(all="ignore"):
        return np.concatenate([*around_zero, *magnitudes, *ends, any_bits]).astype(dtype)


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_float32_error(evaluate: Callable[..., Array], function: str, cpu: str) -> None:
    # All exponents of either sign, with about 2000 mantissas each; a prime step, so that these differ.
    x = (
        np.arange(0, 1 << 32, 4099 if function != "erf" else 40009, dtype=np.int64)
        .astype(np.uint32)
        .view(np.float32)
    )
    assert ulps(function, x, evaluate(function, x, 8, cpu)) <= BOUNDS[function]


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_float64_error(evaluate: Callable[..., Array], function: str, cpu: str) -> None:
    if np.finfo(np.longdouble).nmant < 63:
        pytest.skip("no wider type to compare with")
    x = samples("float64", 100_000 if function != "erf" else 10_000)
    assert ulps(function, x, evaluate(function, x, 8, cpu)) <= BOUNDS[function]


@pytest.mark.slow
@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("function", [f for f in FUNCTIONS if f != "erf"])
def test_all_float32(evaluate: Callable[..., Array], function: str, cpu: str) -> None:
    """Some minutes for each function."""
    for start in range(0, 1 << 32, 1 << 23):
        x = np.arange(start, start + (1 << 23), dtype=np.int64).astype(np.uint32).view(np.float32)
        assert ulps(function, x, evaluate(function, x, 16, cpu)) <= BOUNDS[function]


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("lanes", [0, 4])
@pytest.mark.parametrize("dtype", TYPES)
def test_edges(evaluate: Callable[..., Array], dtype: str, lanes: int, cpu: str) -> None:
    inf, nan = np.inf, np.nan
    info = np.finfo(dtype)
    tiny, huge = float(info.smallest_subnormal), float(info.max)
    zeros = [(0.0, 0.0), (-0.0, -0.0), (tiny, tiny), (-tiny, -tiny)]
    ones = [(inf, 1.0), (-inf, -1.0), (huge, 1.0), (-huge, -1.0)]
    exact = {
        "exp": [(-inf, 0.0), (inf, inf), (0.0, 1.0), (-0.0, 1.0), (-huge, 0.0), (huge, inf), (tiny, 1.0)],
        "log": [(inf, inf), (0.0, -inf), (-0.0, -inf), (-tiny, nan), (-1.0, nan), (-inf, nan), (1.0, 0.0)],
        "tanh": zeros + ones,
        "sigmoid": [(inf, 1.0), (-inf, 0.0), (0.0, 0.5), (-0.0, 0.5), (-1000.0, 0.0), (1000.0, 1.0)],
        "erf": zeros + ones,
    }
    for function, pairs in exact.items():
        for at, expected in [*pairs, (nan, nan)]:
            value = evaluate(function, np.full(4, at, dtype), lanes, cpu)
            assert np.array_equal(value, np.full(4, expected, dtype), equal_nan=True), (function, at, value)
            assert np.isnan(expected) or (np.signbit(value) == np.signbit(expected)).all(), (function, at)


@pytest.mark.parametrize("dtype", TYPES)
def test_nan_of_any_payload(evaluate: Callable[..., Array], dtype: str) -> None:
    unsigned = np.dtype(f"u{np.dtype(dtype).itemsize}")
    mantissa = np.finfo(dtype).nmant
    infinity = np.array(np.inf, dtype).view(unsigned)
    payloads = infinity + (unsigned.type(1) << np.arange(mantissa, dtype=unsigned))
    sign = unsigned.type(1) << unsigned.type(8 * unsigned.itemsize - 1)
    x = np.concatenate([payloads, payloads | sign]).view(dtype)
    assert np.isnan(x).all()
    for function in FUNCTIONS:
        assert np.isnan(evaluate(function, x)).all(), function


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("function", ["tanh", "erf"])
def test_odd(evaluate: Callable[..., Array], function: str, dtype: str) -> None:
    x = np.abs(samples(dtype, 2000))
    x = x[np.isfinite(x)]
    assert np.array_equal(evaluate(function, x), -evaluate(function, -x))


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_same_bits_in_any_lane(evaluate: Callable[..., Array], function: str, dtype: str, cpu: str) -> None:
    x = samples(dtype, 2000)
    one = evaluate(function, x, 0, cpu)
    for lanes in (2, 3, 8, 16):
        several = evaluate(function, x, lanes, cpu)
        same = (one == several) & (np.signbit(one) == np.signbit(several)) | (
            np.isnan(one) & np.isnan(several)
        )
        assert same.all(), (lanes, x[~same])


@pytest.mark.parametrize(("triple", "cpu"), TARGETS)
def test_no_undefined_symbols(triple: str, cpu: str) -> None:
    """The linker refuses undefined symbols."""
    for function in FUNCTIONS:
        for dtype in TYPES:
            for lanes in (0, 4, 16):
                assert linked(module(function, dtype, lanes), triple, cpu)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_straight_line(function: str) -> None:
    """No branch but the loop's own two, no call but the multiply-add, no flags that allow rewriting."""
    source = module(function, "float32", 8)
    assert len(re.findall(r"^\s*br ", source, re.MULTILINE)) == 2
    assert set(re.findall(r"\bcall (.*?)\(", source)) == {'<8 x float> @"llvm.fmuladd.v8f32"'}
    assert not re.search(r"\b(fast|nnan|ninf|nsz|arcp|contract|afn|reassoc)\b", source)


@pytest.fixture
def estimating() -> None:
    if not target.host().estimates_rsqrt:
        pytest.skip("this CPU has no estimate of 1 / sqrt in float64")


@pytest.mark.usefixtures("estimating")
@pytest.mark.parametrize("lanes", [0, 1, 2, 8, 32])
def test_rsqrt_error(evaluate: Callable[..., Array], lanes: int) -> None:
    """Numbers of every size, subnormal ones too, and what is not positive or not finite."""
    edges = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, -1.0, 5e-324, 2.0**-1022, 1.7e308, 1.0, 4.0])
    x = np.concatenate([edges, samples("float64", 100_000)])
    y = evaluate("rsqrt", x, lanes)
    assert ulps("rsqrt", x, y) <= BOUNDS["rsqrt"]
    assert np.array_equal(np.signbit(y[:2]), [False, True])
    assert np.array_equal(y, evaluate("rsqrt", x, 8), equal_nan=True)


@pytest.mark.usefixtures("estimating")
def test_rsqrt_without_the_divider() -> None:
    """Neither a square root nor a division is left for the processor, and no undefined symbol."""
    for lanes in (0, 8, 32):
        source = module("rsqrt", "float64", lanes)
        assert linked(source, "x86_64-unknown-linux-gnu", "x86-64-v4", "-prefer-256-bit")
        assert not re.search(r"\b(fdiv|llvm\.sqrt)\b", source)
