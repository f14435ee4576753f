"""Kernels compiled for CUDA: PTX gives the interpreter's results, machine code keeps to its budget."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from cuda_kernels import check, cuda_compilation_of, needs_compiler, needs_disassembler
from helpers import equation
from ptx.sass import Budget, read_cubin, read_sass
from test_forms import FORMS

import lncompile as lnc
from lncompile.backends.cuda.link import disassembled
from lncompile.cli import main
from lncompile.emit.cuda import stage
from lncompile.emit.cuda.launches import shared_bytes
from lncompile.rnn.equations import gru_step

#: A result's rounding, and some of the arithmetic's.
TOLERANCE = {"float64": 1e-13, "float32": 1e-6, "float16": 1.2e-3, "bfloat16": 9e-3}

#: One form a kernel has: fewer features than a warp has lanes, several rows a warp, a warp, a block, and odd.
FEATURES = (8, 33, 256, 1002)

pytestmark = needs_compiler


@pytest.mark.sampled(3)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("features", FEATURES)
def test_rows(features: int, dtype: str) -> None:
    check(lnc.layer_norm, {"...": 9, "d": features}, dtype, tolerance=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_types(dtype: str) -> None:
    check(lnc.rms_norm, {"...": 5, "d": 320}, dtype, tolerance=TOLERANCE[dtype])


def test_types_of_their_own() -> None:
    dtypes = {"x": "bfloat16", "weight": "float32", "bias": "float16"}
    check(lnc.layer_norm, {"...": 5, "d": 512}, dtypes, tolerance=TOLERANCE["bfloat16"])


def test_several_teams_a_row() -> None:
    sizes = {"...": 2, "d": 65536}
    check(lnc.rms_norm, sizes, tolerance=TOLERANCE["float32"], target="cuda:sm_80")


def test_sums_in_shared_memory() -> None:
    check(lnc.layer_norm, {"...": 3, "d": 16384}, "bfloat16", tolerance=TOLERANCE["bfloat16"])


@pytest.mark.parametrize(
    ("norm", "sizes"),
    [
        (lnc.softmax, {"...": 5, "d": 300}),
        (lnc.log_softmax, {"...": 3, "d": 64}),
        (lnc.l2_norm, {"...": 5, "d": 96}),
        (lnc.add_layer_norm, {"...": 5, "d": 256}),
        (lnc.ada_layer_norm, {"b": 2, "...": 3, "d": 64}),
        (lnc.dyt, {"...": 5, "d": 128}),
        (gru_step, {"n": 3, "gate": 2, "d": 40}),
        (lnc.batch_norm, {"n": 4, "c": 3, "...": 40}),
        (lnc.batch_norm.over("[n h w] c"), {"n": 3, "h": 4, "w": 2, "c": 24}),
        (lnc.group_norm, {"n": 2, "g": 2, "c": 3, "...": 24}),
        (lnc.instance_norm, {"n": 2, "c": 3, "...": 49}),
        (lnc.batch_norm_inference, {"n": 3, "c": 2, "...": 16}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_family(norm: Any, sizes: dict[str, int]) -> None:
    check(norm, sizes, tolerance=2e-6)


@pytest.mark.parametrize(
    ("norm", "sizes"),
    [
        (lnc.layer_norm, {"...": 3, "d": 1}),
        (lnc.ada_layer_norm, {"b": 2, "...": 3, "d": 1}),
        (lnc.batch_norm, {"n": 1, "c": 3, "...": 1}),
        (lnc.group_norm, {"n": 2, "g": 2, "c": 1, "...": 1}),
        (lnc.instance_norm, {"n": 1, "c": 1, "...": 1}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_statistics_of_one_element(norm: Any, sizes: dict[str, int]) -> None:
    """Their variance is a constant, and so is what is computed from it.

    Terms of dx that cancel are 1 / sqrt(eps), 316 times as large as it.
    """
    check(norm, sizes, tolerance=316 * TOLERANCE["float32"])


def test_conditions_of_conditions() -> None:
    @equation("... [d]", p="d")
    def norm(x: Any, p: Any) -> Any:
        inside = (x > 0.0) & ~(x > p) | (x < -1.0)
        return lnc.where(inside, x, 0.5 * x) * lnc.where((lnc.mean(x) > 0.0) | (lnc.max(x) > 9.0), 2.0, 1.0)

    check(norm, {"...": 3, "d": 64}, tolerance=TOLERANCE["float32"])


def test_sums_of_steps_where_some_teams_of_a_warp_have_no_row() -> None:
    # Four teams share a warp; two of the second warp's have nothing to do, and no part in the others' sums.
    check(lnc.group_norm, {"n": 3, "g": 2, "c": 3, "...": 24}, tolerance=2e-6)


#: Every way in which the loops lie; the others take minutes.
QUICK = ("groups", "crossed", "two kinds, channels last")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in FORMS]
)
def test_forms(name: str) -> None:
    form = FORMS[name]
    check(equation(form.pattern, **form.axes)(form.function), form.sizes, tolerance=1e-5)


def awkward(features: int) -> Any:
    """Rows that are large, constant, far from zero, tiny, with one outlier, NaN or infinity."""
    x = np.random.default_rng(1).standard_normal((10, features))
    x[0] = 1e38 * np.sign(x[0])
    x[1] *= 3e38 / np.abs(x[1]).max()
    x[2] = 7.25
    x[3, 5] = np.nan
    x[4, 7] = np.inf
    x[5] += 1e6
    x[6] *= 1e-20
    x[7, 0] = 1e6
    x[8] *= 1e25
    return x


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("features", [64, 1024])
def test_rows_at_the_edges(features: int, dtype: str) -> None:
    # Several rows share a warp, and some of them take the second path.
    sizes = {"...": 10, "d": features}
    given = {"x": awkward(features)}
    with np.errstate(all="ignore"):
        found = check(lnc.layer_norm, sizes, dtype, arrays=given, tolerance=TOLERANCE[dtype], only=("y",))
    y = found["y"].astype(np.float64).reshape(10, features)
    assert np.isnan(y[3:5]).all()
    assert np.isfinite(np.delete(y, [3, 4], axis=0)).all()


@equation("... [d]")
def _nested_roots(x: Any) -> Any:
    v = lnc.mean(lnc.square(x))
    return x / lnc.sqrt(lnc.sqrt(v * v + 1.0))


@equation("... [d]")
def _compared(x: Any) -> Any:
    v = lnc.square(lnc.mean(x))
    return lnc.where(v * 1e-20 > 1e35, x, 0.5 * x) / lnc.maximum(lnc.sqrt(v), 1.0)


@pytest.mark.parametrize("scale", [1e10, 1e25])
@pytest.mark.parametrize(
    ("norm", "sizes"),
    [
        (_nested_roots, {"...": 4, "d": 64}),
        (_compared, {"...": 4, "d": 64}),
        (lnc.l2_norm, {"...": 4, "d": 64}),
        # What the forward saves is float64.
        (lnc.instance_norm, {"n": 2, "c": 3, "...": 49}),
        (lnc.batch_norm, {"n": 4, "c": 3, "...": 40}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_row_sized_values_that_float32_does_not_hold(norm: Any, sizes: dict[str, int], scale: float) -> None:
    """A square that overflows, or a float64 that does when it is narrowed, would divide elements away."""
    shape = tuple(sizes.values())
    x = scale * np.random.default_rng(4).uniform(-1.0, 2.0, shape)
    results = ("y", "y0", "dx", "dweight", "dbias")
    check(norm, sizes, arrays={"x": x}, tolerance=1e-6, only=results, least=0.0)


def test_which_row_sized_values_are_checked() -> None:
    """What is part of a sum or product that is checked is not checked itself."""

    @equation("... [d]")
    def norm(x: Any) -> Any:
        inner = lnc.mean(x) * 3.0 + 1.0
        return x * lnc.rsqrt(lnc.square(inner) + 1.0)

    source = cuda_compilation_of(norm, {"...": 3, "d": 64}).lowered.source
    first = source[: source.index("_backward(")]
    assert first.count("is_finite(") == 1


def test_a_row_depends_on_itself_alone() -> None:
    x = np.random.default_rng(2).standard_normal((6, 128))
    # A row of the same warp takes the second path.
    x[3] *= 1e30
    options: dict[str, Any] = {"left_out": ("weight", "bias"), "tolerance": 1e-6, "only": ("y",)}
    alone, among = (
        check(lnc.layer_norm, {"...": len(rows), "d": 128}, {"x": "float32"}, arrays={"x": rows}, **options)[
            "y"
        ]
        for rows in (x[2:3], x)
    )
    assert np.array_equal(among[2:3], alone)


@pytest.mark.parametrize("count", [25, pytest.param(40, marks=pytest.mark.slow)])
@pytest.mark.parametrize("axes", ["d", "..."])
def test_many_parameters(axes: str, count: int) -> None:
    """Sums for their gradients are more than shared memory holds at a time: by columns, or of a row."""
    names = [f"p{at}" for at in range(count)]
    # Each has a gradient of its own.
    terms = [f"lnc.square(x + {at / count}) * {name}" for at, name in enumerate(names)]
    if axes == "d":
        terms[1::2] = [f"lnc.sum({term})" for term in terms[1::2]]
    namespace: dict[str, Any] = {"lnc": lnc}
    exec(f"def norm(x, {', '.join(names)}):\n    return {' + '.join(terms)}", namespace)
    norm = equation("n c [d]", **dict.fromkeys(names, "d" if axes == "d" else "c"))(namespace["norm"])
    sizes = {"n": 40, "c": 3, "d": 64}
    compilation = cuda_compilation_of(norm, sizes)
    lowered = compilation.lowered
    assert shared_bytes(lowered.forward, lowered.backward) <= 48 << 10
    check(norm, sizes, tolerance=2e-6)


@pytest.mark.parametrize(
    ("norm", "sizes"),
    [
        (lnc.layer_norm, {"...": 5, "d": 1002}),
        # Sums over rows are in shared memory, too; and clusters, whose blocks have several rows.
        (lnc.layer_norm, {"...": 3, "d": 8192}),
        (lnc.l2_norm, {"...": 5, "d": 20000}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_places_are_used_again(norm: Any, sizes: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "_PLACES", 17)
    monkeypatch.setattr(stage, "_PLACES_BESIDE", 17)
    x = np.random.default_rng(6).standard_normal(tuple(sizes.values()))
    # Some rows take the second path.
    x[1::2] *= 1e25
    results = ("y", "dx", "dweight", "dbias")
    check(norm, sizes, arrays={"x": x}, tolerance=2e-6, only=results, multiprocessors=1)


def test_gradients_of_parameters_on_any_number_of_multiprocessors() -> None:
    sizes = {"...": 70, "d": 64}
    few, many = (
        check(lnc.layer_norm, sizes, tolerance=1e-6, multiprocessors=count)["dweight"] for count in (1, 50)
    )
    np.testing.assert_allclose(few, many, rtol=1e-5, atol=1e-5)


# Machine code

#: Features, dtype, registers of the forward and the backward.
CONFIGURATIONS = [
    (256, "bfloat16", 88, 144),
    (1024, "float32", 72, 144),
    # Two sums over rows beside two arrays: more than the 128 registers that a thread of 512 has.
    (8192, "bfloat16", 88, 128),
    (16384, "float16", 128, 128),
]


@needs_disassembler
@pytest.mark.parametrize(("features", "dtype", "forward", "backward"), CONFIGURATIONS)
def test_budget(features: int, dtype: str, forward: int, backward: int) -> None:
    compilation = cuda_compilation_of(lnc.layer_norm, {"...": 1, "d": features}, dtype)
    for code, registers in zip(compilation.codes, (forward, backward), strict=False):
        found = read_sass(disassembled(code.cubin))[code.entry]
        # Statistics are one number a row: three that are saved.
        budget = Budget(wide_loads=2, wide_stores=1, narrow_loads=6, narrow_stores=6, registers=registers)
        budget.check(found, read_cubin(code.cubin)[code.entry])


@pytest.mark.slow
@pytest.mark.parametrize("target", ["cuda:sm_80", "cuda:sm_90", "cuda:sm_100", "cuda:sm_120"])
@pytest.mark.parametrize(
    "features", [256, 768, 1000, 1024, 2048, 4096, 5120, 6144, 8192, 12288, 16384, 32768, 131072]
)
@pytest.mark.parametrize(
    "norm",
    [lnc.layer_norm, lnc.rms_norm, lnc.add_layer_norm, lnc.add_rms_norm, lnc.log_softmax, lnc.dyt],
    ids=lambda norm: norm.__name__,
)
def test_nothing_spills(norm: Any, features: int, target: str) -> None:
    for dtype in ("float32", "float16", "bfloat16"):
        codes = cuda_compilation_of(norm, {"...": 1, "d": features}, dtype, target).codes
        spills = {code.entry: code.spills for code in codes}
        assert not any(spills.values()), (dtype, spills)


@pytest.mark.parametrize(
    ("norm", "features", "dtype", "target"),
    [
        # Two arrays in registers and the values made of them, which tanh takes many of.
        (lnc.dyt, 1000, "float32", "cuda:sm_80"),
        (lnc.layer_norm, 5120, "float16", "cuda:sm_80"),
        # Nothing in registers, but loads far ahead of what uses them.
        (lnc.layer_norm, 16384, "float32", "cuda:sm_80"),
    ],
)
def test_what_would_spill_reads_rows_again(norm: Any, features: int, dtype: str, target: str) -> None:
    compilation = cuda_compilation_of(norm, {"...": 1, "d": features}, dtype, target)
    assert not any(code.spills for code in compilation.codes)
    unheld = frozenset(code.entry for code in compilation.codes if code.unheld)
    leaner = cuda_compilation_of(norm, {"...": 1, "d": features}, dtype, target, unheld)
    assert compilation.source == leaner.lowered.source
    plans = (leaner.lowered.forward, leaner.lowered.backward)
    assert plans == (compilation.lowered.forward, compilation.lowered.backward)


@pytest.mark.parametrize("features", [256, 1000])
def test_rows_that_registers_do_not_hold(features: int) -> None:
    sizes = {"...": 5, "d": features}
    names = frozenset(function.name for function in cuda_compilation_of(lnc.dyt, sizes).lowered.functions)
    assert "load_once" not in cuda_compilation_of(lnc.dyt, sizes, unheld=names).lowered.source
    check(lnc.dyt, sizes, tolerance=TOLERANCE["float32"], unheld=names)


def test_ptx_is_the_same_in_every_process() -> None:
    program = (
        "import hashlib, lncompile as lnc\n"
        "k = lnc.compile(lnc.rms_norm, shape=(3, 96), target='cuda:sm_80')\n"
        "print(hashlib.sha256(k.stages['ptx'].encode()).hexdigest())"
    )
    # The second process has compiled something else before.
    other = (
        "import lncompile as lnc\nlnc.compile(lnc.rms_norm, shape=(3, 40), target='cuda:sm_80').launches\n"
    )
    digests = {
        subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True).stdout
        for text in (program, other + program)
    }
    assert len(digests) == 1


@pytest.mark.parametrize("target", ["cuda:sm_80", "cuda:sm_86", "cuda:sm_89", "cuda:sm_100", "cuda:sm_120"])
def test_targets(target: str) -> None:
    compilation = cuda_compilation_of(lnc.layer_norm, {"...": 1, "d": 256}, "bfloat16", target)
    assert all(code.cubin[:4] == b"\x7fELF" for code in compilation.codes)


def test_a_hit_imports_nothing_of_the_compiler() -> None:
    program = (
        "import sys, lncompile as lnc\n"
        "k = lnc.compile(lnc.rms_norm, shape=(3, 64), target='cuda:sm_90')\n"
        "assert len(k.launches) == 3, k.launches\n"
        "print({'numba', 'numba_cuda', 'cuda', 'cupy', 'llvmlite'} & set(sys.modules))"
    )
    lnc.compile(lnc.rms_norm, shape=(3, 64), target="cuda:sm_90")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_explain_shows_ptx() -> None:
    arguments = ["explain", "rms_norm", "--shape", "3x64", "--target", "cuda:sm_90", "--stage"]
    shown = CliRunner().invoke(main, [*arguments, "ptx"])
    assert ".entry lnc_rms_norm_forward(" in shown.output
    refused = CliRunner().invoke(main, [*arguments, "asm"])
    assert refused.exit_code == 2
    assert "cuda:sm_90 has the stages ir, grad" in refused.output
