"""Libraries as programs in C see them: by the manifest alone, at every level, however the work is cut."""

from __future__ import annotations

import ctypes
import ctypes.util
import platform
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign import DTYPES, Foreign, evaluated, pieces, whole
from libraries import wanted, written

import lncompile as lnc
from lncompile import axes as ax
from lncompile.aot.build import build, here
from lncompile.aot.wanted import Wanted
from lncompile.backends.cpu import levels
from lncompile.backends.cpu.target import BASELINES, host
from lncompile.errors import LncValueError

Array = np.ndarray[Any, np.dtype[Any]]
RNG = np.random.default_rng(0)

on_x86_64 = pytest.mark.skipif(platform.machine() != "x86_64", reason="levels are those of x86-64")


@lnc.norm("... [d]", short="d", row="...")
def odd_names(x, short, row=0.0, *, register=1.0):  # type: ignore[no-untyped-def]
    """Words of C as names of arrays, and one that kernels need for themselves."""
    return x * lnc.rsqrt(lnc.mean(lnc.square(x)) + register) * short + row


@lnc.norm("n [h w] c", weight="c")
def column_norm(x, weight=1.0):  # type: ignore[no-untyped-def]
    """Columns: levels cut them into different numbers of units."""
    return x * lnc.rsqrt(lnc.mean(lnc.square(x)) + 1e-5) * weight


def random(shape: tuple[int, ...], dtype: str) -> Array:
    return RNG.uniform(-2, 2, shape).astype(DTYPES[dtype])


CASES: list[tuple[Any, tuple[int, ...], Any, dict[str, Any]]] = [
    (lnc.layer_norm, (5, 40), {"x": "bfloat16", "weight": "float32", "bias": None}, {}),
    (lnc.ada_layer_norm, (3, 4, 24), "float32", {}),
    (lnc.group_norm, (3, 8, 2, 3), "float32", {"g": 4}),
    (lnc.batch_norm, (3, 5, 7), "float64", {}),
    (lnc.batch_norm_inference, (3, 4, 5), "float32", {}),
    (odd_names, (7, 33), "float32", {}),
]


@pytest.mark.parametrize(("norm", "shape", "dtype", "options"), CASES, ids=[c[0].__name__ for c in CASES])
def test_by_the_manifest_alone(
    tmp_path: Path, norm: Any, shape: tuple[int, ...], dtype: Any, options: dict[str, Any]
) -> None:
    one = wanted(norm, shape, dtype, **options)
    foreign = Foreign(written(tmp_path / "dist", one))
    names, pattern = one.dispatcher.signature.arguments, one.dispatcher.equation.pattern
    rows = prod(ax.count(name, one.sizes) for name in pattern.axes if name not in pattern.features)
    given = {
        name: random(foreign.shape(name, rows), buffer["dtype"])
        for name, buffer in foreign.kernel["buffers"].items()
        if buffer["role"] in ("input", "cotangent")
    }
    arrays = foreign.arrays(given, rows)
    assert foreign.run("forward", arrays, rows, pieces) == 0
    assert foreign.run("backward", arrays, rows, pieces) == 0

    # The same library, called from Python with arrays as users have them.
    loaded = lnc.load(tmp_path / "dist")
    inputs = [given[name].reshape(_dims(one, name)) if name in given else None for name in names]
    y, ctx = loaded.forward(*inputs)
    outputs = y if isinstance(y, tuple) else (y,)
    dy = [given[name] for name in given if name not in names]
    dy = [array.reshape(output.shape) for array, output in zip(dy, outputs, strict=True)]
    gradients = loaded.backward(tuple(dy) if isinstance(y, tuple) else dy[0], ctx)
    remaining = iter(outputs)
    for name, buffer in foreign.kernel["buffers"].items():
        if buffer["role"] == "output":
            assert arrays[name].tobytes() == next(remaining).tobytes(), name
        if buffer["role"] == "gradient":
            assert arrays[name].tobytes() == getattr(gradients, buffer["of"]).tobytes(), name


def _dims(one: Wanted, name: str) -> tuple[int, ...]:
    """The shape of an argument as its pattern has it."""
    arguments = {argument.name: argument for argument in one.dispatcher.equation.arguments}
    dims: list[int] = []
    for dim in arguments[name].dims:
        size = one.sizes[dim[0]]
        dims += size if isinstance(size, tuple) else [prod(ax.count(axis, one.sizes) for axis in dim)]
    return tuple(dims)


@pytest.fixture(scope="module")
def columns(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Foreign]:
    """A library whose best level is out of reach: that of the widest vectors, which counts the units."""

    def make(ranks: dict[str, int]) -> Foreign:
        with pytest.MonkeyPatch.context() as patch:
            for name, rank in ranks.items():
                patch.setitem(levels.RANKS, name, rank)
            one = wanted(column_norm, (3, 2, 5, 37), "float32", *ranks)
            return Foreign(written(tmp_path_factory.mktemp("columns") / "dist", one))

    return make


@on_x86_64
def test_levels_that_count_units_differently(columns: Callable[..., Foreign]) -> None:
    foreign = columns({"cpu:x86-64-v2": 1, "cpu:x86-64-v4": 99})
    rows = 3 * 37
    extents = [call["extent"] for call in foreign.kernel["forward"]]
    assert any("63) / 64" in str(extent) for extent in extents), extents
    x, weight = random((3, 2, 5, 37), "float32"), random((37,), "float32")
    mean = (x.astype(float) ** 2).mean(axis=(1, 2), keepdims=True)
    y = x / np.sqrt(mean + 1e-5) * weight
    results = []
    for cuts in (whole, pieces):
        arrays = foreign.arrays({"x": x, "weight": weight, "dy": y}, rows)
        assert foreign.run("forward", arrays, rows, cuts) == 0
        assert foreign.run("backward", arrays, rows, cuts) == 0
        results.append({name: arrays[name].tobytes() for name in ("y", "dx", "dweight")})
    assert results[0] == results[1]
    assert np.abs(arrays["y"].reshape(x.shape) - y).max() < 1e-5


@on_x86_64
def test_a_cpu_without_the_instructions(columns: Callable[..., Foreign]) -> None:
    foreign = columns({"cpu:x86-64-v2": 99})
    x, weight = random((3, 2, 5, 37), "float32"), random((37,), "float32")
    arrays = foreign.arrays({"x": x, "weight": weight}, 3 * 37)
    for _ in range(2):
        assert foreign.run("forward", arrays, 3 * 37) == levels.UNSUPPORTED_CPU
    assert foreign.run_whole("forward", arrays, 3 * 37) == levels.UNSUPPORTED_CPU
    assert (arrays["y"] == 7.5).all()


class OpenMP(ctypes.Structure):
    """``lnc_openmp`` of the headers."""

    _fields_ = (
        ("parallel", ctypes.c_void_p),
        ("thread_num", ctypes.c_void_p),
        ("num_threads", ctypes.c_void_p),
        ("threads", ctypes.c_int64),
    )


def openmp(threads: int) -> OpenMP:
    """The runtime of this machine, skipping where there is none."""
    path = ctypes.util.find_library("gomp")
    if path is None:
        pytest.skip("no OpenMP runtime")
    library = ctypes.CDLL(path)
    names = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")
    return OpenMP(*(ctypes.cast(library[name], ctypes.c_void_p) for name in names), threads)


@on_x86_64
def test_the_resolver_finds_the_level_of_this_machine(tmp_path: Path) -> None:
    from lncompile.backends.cpu.elf import link
    from lncompile.backends.cpu.pipeline import optimise

    phase = lnc.compile(lnc.l2_norm, shape=(3, 8)).interface.forward
    text = levels.front_ir([phase._replace(calls=())], [[levels.Level(1, phase)]])
    text += "define i32 @rank() {\n  %r = call i32 @lnc.rank()\n  ret i32 %r\n}\n"
    built = optimise([text], ["rank"], BASELINES[host().triple]).object_file()
    (tmp_path / "rank.so").write_bytes(link(built, ["rank"], "rank.so"))
    assert ctypes.CDLL(str(tmp_path / "rank.so")).rank() == levels.RANKS[host().name]


@on_x86_64
def test_libraries_for_x86_64_are_built_there(monkeypatch: pytest.MonkeyPatch) -> None:
    one = wanted(lnc.layer_norm, (4, 24), "float32", "cpu:x86-64-v2")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(LncValueError, match="target: libraries for cpu:x86-64-v2 are built on x86-64"):
        build([one], here)


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_whole_phases_on_the_openmp_of_the_program(rows_library: Path, threads: int) -> None:
    foreign, rows = Foreign(rows_library), 300
    given = {"x": random((rows, 1024), "float32"), "dy": random((rows, 1024), "float32")}
    given |= {name: random((1024,), "float32") for name in ("weight", "bias")}
    expected, arrays = foreign.arrays(given, rows), foreign.arrays(given, rows)
    runtime = openmp(threads)
    for phase in ("forward", "backward"):
        assert foreign.run(phase, expected, rows) == 0
        assert foreign.run_whole(phase, arrays, rows, ctypes.byref(runtime)) == 0
    for name in expected:
        assert arrays[name].tobytes() == expected[name].tobytes(), name


def test_no_undefined_symbols_and_no_executable_data(rows_library: Path) -> None:
    if not shutil.which("nm") or not shutil.which("readelf"):
        pytest.skip("no binutils")
    library = str(rows_library / "layer_norm_1024_float32.so")
    assert not _output("nm", "-D", "--undefined-only", library)
    assert "lnc_layer_norm_1024_float32_forward\n" in _output("nm", "-D", "--defined-only", library)
    assert "RWE" not in _output("readelf", "--program-headers", "--wide", library)


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_two_kernels_of_one_name(tmp_path: Path) -> None:
    one, other = (wanted(lnc.layer_norm, (4, 24), "float32", eps=eps) for eps in (1e-5, 1e-6))
    with pytest.raises(LncValueError, match="two kernels would be called layer_norm_24_float32"):
        build([one, other], here)


def test_two_norms_of_one_name(tmp_path: Path) -> None:
    kernels = [wanted(norm, (4, size), "float32") for size, norm in ((8, lnc.l2_norm), (9, lnc.softmax))]
    with pytest.raises(LncValueError, match="same: two norms have this name"):
        build([replace(one, name="same") for one in kernels], here)


def test_other_batch_sizes_are_the_same_kernel() -> None:
    kernels = [wanted(lnc.layer_norm, (rows, 24), "float32") for rows in (3, 4)]
    assert [one.stem for one in kernels] == ["layer_norm_24_float32"] * 2
    names = build(kernels, lambda parts: here(parts)).files
    assert sorted(name for name in names if name.endswith(".so")) == ["layer_norm_24_float32.so"]


@pytest.mark.parametrize(
    ("norm", "shape", "dtype", "options", "stem"),
    [
        (lnc.layer_norm, (3, 1024), "float32", {}, "layer_norm_1024_float32"),
        (
            lnc.layer_norm,
            (3, 8),
            {"x": "bfloat16", "weight": "float32", "bias": None},
            {},
            "layer_norm_8_bfloat16_float32_none",
        ),
        (lnc.group_norm, (3, 8, 2, 3), "float32", {"g": 4}, "group_norm_4x2x2x3_float32"),
        (lnc.batch_norm_inference, (3, 8, 2), "float16", {}, "batch_norm_inference_float16"),
    ],
)
def test_stems(norm: Any, shape: tuple[int, ...], dtype: Any, options: dict[str, Any], stem: str) -> None:
    assert wanted(norm, shape, dtype, **options).stem == stem


def test_features_of_size_zero_and_empty_inner_axes() -> None:
    with pytest.raises(LncValueError, match="shape: layer_norm over zero features"):
        build([wanted(lnc.layer_norm, (3, 0), "float32")], here)
    with pytest.raises(LncValueError, match="shape: expected sizes above zero"):
        build([wanted(lnc.ada_layer_norm, (3, 0, 8), "float32")], lambda parts: [b""] * len(parts))


def test_extents_are_those_of_the_shape() -> None:
    assert evaluated("((rows / 37) + 63) / 64 * 2", 37 * 65) == 4
