"""Kernels for CUDA in directories: launched by the manifest alone, loaded beside those for the CPU, damaged.

Most of it needs no compiler: stand-ins take the place of cubins, and of the packages that would launch them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from cuda_kernels import needs_compiler, standing_in
from fake_cupy import Device, installed, on_device
from helpers import arrays_for, fresh, run_pair
from libraries import wanted, written
from ptx import run as run_ptx

import lncompile as lnc
from lncompile import specialize
from lncompile.aot.cuda import product
from lncompile.aot.manifest import digest_of
from lncompile.aot.wanted import distinct
from lncompile.backends import cuda as cuda_backend
from lncompile.backends.cpu.target import host
from lncompile.backends.cuda.link import load_libraries
from lncompile.backends.cuda.plan import plan_of
from lncompile.backends.cuda.target import TARGETS
from lncompile.buffers import batch_sizes
from lncompile.cli import main
from lncompile.dtypes import TABLE

X = np.random.default_rng(0).standard_normal((5, 64), dtype=np.float32)
WEIGHT = np.linspace(1, 2, 64, dtype=np.float32)


def evaluated(extent: int | str, rows: int, multiprocessors: int) -> int:
    """An expression of the manifest: C's integer arithmetic and max(a, b), none of it negative."""
    names = {"rows": rows, "multiprocessors": multiprocessors, "max": max}
    return extent if isinstance(extent, int) else int(eval(extent.replace("/", "//"), {}, names))


def sizes_of(extents: list[int | str], rows: int, multiprocessors: int) -> tuple[int, ...]:
    return tuple(evaluated(extent, rows, multiprocessors) for extent in extents)


@pytest.fixture(autouse=True)
def _nothing_in_use() -> Iterator[None]:
    yield
    lnc.use()


@pytest.fixture
def fake() -> Iterator[Device]:
    """CuPy and what launches, so that calls are noted."""
    with pytest.MonkeyPatch.context() as patch, installed(patch) as device:
        yield device


@pytest.fixture
def stand_ins() -> Iterator[None]:
    with standing_in():
        yield


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RMS norm for this machine and two architectures."""
    kernel = wanted(lnc.rms_norm, (5, 64), "float32", host().name, "cuda:sm_80", "cuda:sm_90")
    with standing_in():
        return written(tmp_path_factory.mktemp("mixed") / "dist", kernel)


# The manifest's expressions

PLANNED = {
    "rows": (lnc.layer_norm, (4, 1024), {}),
    "few features": (lnc.rms_norm, (4, 24), {}),
    "clusters": (lnc.layer_norm, (4, 32768), {}),
    "chunks": (lnc.layer_norm, (4, 262144), {}),
    "groups": (lnc.group_norm, (2, 6, 24), {"g": 2}),
    "columns": (lnc.batch_norm, (4, 3, 40), {}),
    "no rows": (lnc.batch_norm.over("[n h w] c"), (3, 4, 2, 24), {}),
    "two batch axes": (lnc.ada_layer_norm, (2, 3, 64), {}),
    "no features": (lnc.batch_norm_inference, (3, 2, 16), {}),
}


@pytest.mark.parametrize("name", PLANNED)
def test_expressions_are_what_calls_compute(name: str) -> None:
    norm, shape, options = PLANNED[name]
    (made,) = product.planned(wanted(norm, shape, "float32", "cuda:sm_90", **options))
    lowered = made.compilation.lowered
    record = made.record()
    assert record["multiprocessors"] == TARGETS["cuda:sm_90"].multiprocessors
    for phase, launches in (("forward", lowered.forward), ("backward", lowered.backward)):
        offered = getattr(lowered.interface, phase)
        for rows in (0, 1, 7, 8, 9, 1000, 70000):
            for multiprocessors in (1, 4, 132):
                shape_of_x = sizes_of(record["buffers"]["x"]["shape"], rows, multiprocessors)
                axes = batch_sizes(offered.buffers[0], shape_of_x)
                plan = plan_of(offered, launches, axes, multiprocessors)
                told = [
                    (
                        call["entry"],
                        evaluated(call["grid"][0], rows, multiprocessors),
                        call["block"][0],
                        call["shared"],
                        tuple(
                            evaluated(arg.get("value", arg.get("size")), rows, multiprocessors)
                            for arg in call["args"]
                            if "buffer" not in arg
                        ),
                    )
                    for call in record[phase]
                ]
                expected = [(g.entry, g.blocks, g.threads, g.shared, g.numbers) for g in plan.grids]
                assert [call for call in told if call[1]] == expected, (rows, multiprocessors)
                for workspace, size in plan.workspaces.items():
                    told_size = record["buffers"][workspace]["shape"]
                    assert sizes_of(told_size, rows, multiprocessors) == (size,)


LAUNCHED = {
    "rows": (
        *(lnc.layer_norm, {"...": 5, "d": 40}, (1, 40), 5),
        *({"x": "bfloat16", "weight": "float32", "bias": "float32"}, {}),
    ),
    "groups": (lnc.group_norm, {"n": 3, "g": 2, "c": 3, "...": 24}, (1, 6, 24), 6, "float32", {"g": 2}),
}


@needs_compiler
@pytest.mark.parametrize("name", LAUNCHED)
def test_launched_by_the_manifest_alone(tmp_path: Path, name: str) -> None:
    norm, sizes, shape, rows, dtype, options = LAUNCHED[name]
    kernel = wanted(norm, shape, dtype, "cuda:sm_80", **options)
    directory = written(tmp_path / "dist", kernel)
    compiled: Any = lnc.compile(norm, shape=shape, dtype=dtype, target="cuda:sm_80", **options)
    # The interpreter runs PTX: the module that each cubin was made of.
    modules = {launch.cubin: launch.ptx for launch in compiled.launches}
    (record,) = json.loads((directory / "manifest.json").read_text())["kernels"]
    buffers = {
        name: buffer | {"shape": sizes_of(buffer["shape"], rows, 3)}
        for name, buffer in record["buffers"].items()
    }
    launches = [
        {
            **{key: call[key] for key in ("entry", "block", "cluster", "shared")},
            "phase": phase,
            "ptx": modules[(directory / call["cubin"]).read_bytes()],
            "grid": sizes_of(call["grid"], rows, 3),
            "args": [
                arg if "buffer" in arg else {"value": evaluated(arg.get("value", arg.get("size")), rows, 3)}
                for arg in call["args"]
            ],
        }
        for phase in ("forward", "backward")
        for call in record[phase]
    ]
    (made,) = product.planned(kernel)
    pair = made.compilation.lowered.pair
    nodes = {
        node.name: node for node in (*pair.forward.inputs, *pair.backward.inputs) if node.role != "saved"
    }
    given = arrays_for(tuple(nodes.values()), sizes)
    known = {name: _bits(given[name], buffers[name]) for name in given}
    for phase in ("forward", "backward"):
        known |= run_ptx(launches, buffers, known, phase)
    for name, want in run_pair(pair, given, sizes).items():
        found = known[name].view(TABLE[buffers[name]["dtype"]].numpy).astype(np.float64)
        tolerance = {"bfloat16": 9e-3, "float32": 2e-6}[buffers[name]["dtype"]] * max(1.0, np.abs(want).max())
        np.testing.assert_allclose(found, want.reshape(found.shape), rtol=0, atol=tolerance, err_msg=name)


def _bits(array: Any, buffer: Mapping[str, Any]) -> Any:
    array = np.ascontiguousarray(array, TABLE[buffer["dtype"]].numpy).reshape(buffer["shape"])
    return array.view(np.uint16) if buffer["dtype"] == "bfloat16" else array


# Building


def test_other_sizes_are_fixed_on_devices() -> None:
    targets = (host().name, "cuda:sm_80", "cuda:sm_90")
    both = [wanted(lnc.batch_norm_inference, (3, 2, size), "float32", *targets) for size in (16, 24)]
    kernels = distinct(kernel for one in both for kernel in one.kinds())
    assert [(kernel.targets, dict(kernel.special.sizes)) for kernel in kernels] == [
        (targets[:1], {}),
        (targets[1:], {"...": 16}),
        (targets[1:], {"...": 24}),
    ]
    # The order of the targets does not matter.
    turned = wanted(lnc.batch_norm_inference, (3, 2, 16), "float32", *reversed(targets))
    straight = {kernel.at("any").key for kernel in both[0].kinds()}
    assert {kernel.at("any").key for kernel in turned.kinds()} == straight


def test_the_command(stand_ins: None, tmp_path: Path) -> None:
    arguments = ["build", "rms_norm", "--shape", "3x64", "--target", f"cuda:sm_90,{host().name}", "-j", "1"]
    shown = CliRunner().invoke(main, [*arguments, "-o", str(tmp_path / "dist"), "--report"])
    assert shown.exit_code == 0, shown.output
    on_device, on_cpu, last = shown.output.split("\n\n")
    heading, forward, _ = (re.split(" {2,}", line) for line in on_device.splitlines())
    assert heading == [
        *("library", "target", "phase", "launches", "file bytes", "registers", "shared bytes"),
        *("flops per row", "bytes per row"),
    ]
    assert forward[1:] == ["cuda:sm_90", "forward", "1", "31", "40", "96", "258", "516"]
    assert "vector bits" in on_cpu
    assert last.startswith(str(tmp_path / "dist"))
    told = CliRunner().invoke(main, [*arguments, "-o", str(tmp_path / "dist"), "--json"])
    backward = json.loads(told.stdout)["report"][1]
    assert (backward["library"], backward["launches"]) == ("rms_norm_64_float32_sm_90_backward.cubin", 2)


def test_without_the_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cuda_backend, "frontend", raising=False)
    monkeypatch.setitem(sys.modules, "lncompile.backends.cuda.frontend", None)
    arguments = ["build", "rms_norm", "--shape", "3x64", "--target", "cuda:sm_90"]
    result = CliRunner().invoke(main, [*arguments, "-o", str(tmp_path / "dist")])
    assert result.exit_code == 2
    assert "pip install 'lncompile[cuda13]'" in " ".join(result.output.split())
    assert not (tmp_path / "dist").exists()


def test_without_a_library_of_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    pathfinder: Any = ModuleType("cuda.pathfinder")
    pathfinder.DynamicLibNotFoundError = type("DynamicLibNotFoundError", (RuntimeError,), {})
    missing = pathfinder.DynamicLibNotFoundError("somewhere")

    def load(name: str) -> None:
        if name == "nvvm":
            raise missing

    pathfinder.load_nvidia_dynamic_lib = load
    monkeypatch.setitem(sys.modules, "cuda.pathfinder", pathfinder)
    with pytest.raises(ImportError, match="no library nvvm"):
        load_libraries()


@needs_compiler
def test_the_same_bytes_every_time_and_from_save(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lncompile", "build", "rms_norm", "--shape", "3x24"]
    for name, seed, jobs in (("one", "1", "1"), ("two", "2", "3")):
        subprocess.run(
            [*command, "--target", "cuda:sm_80", "-o", name, "-j", jobs],
            cwd=tmp_path,
            env={"PYTHONHASHSEED": seed, "LNCOMPILE_CACHE_DIR": str(tmp_path / name / "cache")}
            | {key: value for key, value in os.environ.items() if key != "LNCOMPILE_CACHE_DIR"},
            check=True,
            capture_output=True,
        )
    kernel = lnc.compile(lnc.rms_norm, shape=(3, 24), target="cuda:sm_80")
    kernel.save(tmp_path / "saved")
    files = [_files(tmp_path / name) for name in ("one", "two", "saved")]
    assert files[0] == files[1] == files[2]
    cubins = {data for name, data in files[0].items() if name.endswith(".cubin")}
    assert cubins == {launch.cubin for launch in kernel.launches}  # type: ignore[attr-defined]


def _files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


# Loading


def test_arrays_choose_the_kernel(mixed: Path, fake: Device) -> None:
    loaded = lnc.load(mixed)
    assert set(json.loads((mixed / "manifest.json").read_text())["rules"]) == {"cpu", "cuda"}
    y, ctx = loaded.forward(X, WEIGHT)
    np.testing.assert_allclose(y, lnc.rms_norm(X, WEIGHT))
    assert not fake.launched
    # Each on a device of its own, whose capability is asked once.
    for number, (capability, target) in enumerate((("90", "cuda:sm_90"), ("86", "cuda:sm_80"))):
        fake.capability = capability
        made, ctx_there = loaded.forward(on_device(X, number), on_device(WEIGHT, number))
        assert fake.launched[-1].entry.cubin == f"{target} lnc_rms_norm_forward".encode()
        assert made.shape == X.shape
        assert loaded.backward(made, ctx_there).weight.shape == (64,)
        assert fake.launched[-1].entry.cubin == f"{target} lnc_rms_norm_backward_2".encode()
    assert type(loaded.backward(y, ctx).x) is np.ndarray
    fake.capability = "120"
    expected = (
        f"compiled for {host().name}, cuda:sm_80, cuda:sm_90; got an array on a device that runs cuda:sm_120"
    )
    with pytest.raises(lnc.LncError, match=f"x: this kernel was {expected}"):
        loaded(on_device(X, 2), on_device(WEIGHT, 2))
    with pytest.raises(lnc.LncError, match="x: this kernel was compiled for d = 64; got 32"):
        loaded(X[:, :32], WEIGHT[:32])


def test_devices_with_less_shared_memory_run_what_fits(stand_ins: None, fake: Device, tmp_path: Path) -> None:
    """On compute capability 8.6 a block can have 99 KiB, on 8.0 it can have 163."""

    def call(directory: Path, features: int, number: int) -> bytes:
        loaded = lnc.load(directory)
        fake.capability = "86" if number else "80"
        loaded(
            *(on_device(np.ones(shape, np.float32), number) for shape in ((1, features), features, features))
        )
        return bytes(fake.launched[-1].entry.cubin)

    def built(name: str, features: int, *targets: str) -> Path:
        return written(tmp_path / name, wanted(lnc.layer_norm, (1, features), "float32", *targets))

    assert call(built("small", 64, "cuda:sm_80"), 64, 1).startswith(b"cuda:sm_80")
    large = built("large", 16384, "cuda:sm_80")
    (record,) = json.loads((large / "manifest.json").read_text())["kernels"]
    assert 128 << 10 < record["shared_bytes"] <= TARGETS["cuda:sm_80"].shared_bytes
    assert call(large, 16384, 0).startswith(b"cuda:sm_80")
    with pytest.raises(lnc.LncError, match=r"compiled for cuda:sm_80; got an array on .* runs cuda:sm_86"):
        call(large, 16384, 1)
    both = built("both", 16384, "cuda:sm_80", "cuda:sm_86")
    assert [call(both, 16384, number)[:10] for number in (0, 1)] == [b"cuda:sm_80", b"cuda:sm_86"]


def test_kernels_refuse_arrays_of_another_place(stand_ins: None, fake: Device, tmp_path: Path) -> None:
    directory = written(tmp_path / "dist", wanted(lnc.l2_norm, (3, 8), "float32", "cuda:sm_90"))
    loaded = lnc.load(directory)
    assert loaded.target == "cuda:sm_90"
    with pytest.raises(lnc.LncError, match=r"compiled for cuda:sm_90; got an array of NumPy's"):
        loaded(X[:, :8])
    with pytest.raises(
        lnc.LncError, match=r"compiled for cpu:.*; got an array on a device that runs cuda:sm_90"
    ):
        lnc.compile(lnc.l2_norm, shape=(3, 8))(on_device(X[:, :8]))
    loaded.save(tmp_path / "copy")
    assert _files(tmp_path / "copy") == _files(directory)


def test_use(mixed: Path, fake: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("compiled")

    monkeypatch.setattr(specialize.cache, "fetch", refuse)
    lnc.use(mixed, strict=True)
    norm = fresh(lnc.rms_norm)
    norm(on_device(X), on_device(WEIGHT))
    assert fake.launched[-1].entry.cubin == b"cuda:sm_90 lnc_rms_norm_forward"
    assert norm(X, WEIGHT).shape == X.shape
    with pytest.raises(
        lnc.LncError, match=r"no kernel for cuda:sm_90; x float32; d=64; .* forbids to compile"
    ):
        norm(on_device(X))
    lnc.use(mixed)
    with pytest.raises(AssertionError, match="compiled"):
        norm(on_device(X))


WITHOUT_COMPILER = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("numba", "numba_cuda", "llvmlite", "click", "rich"):
            raise ImportError(f"{name} is not installed")

sys.meta_path.insert(0, Blocker())
sys.path.insert(0, sys.argv[2])
import numpy as np
import pytest
from fake_cupy import installed, on_device
import lncompile as lnc

with pytest.MonkeyPatch.context() as patch, installed(patch) as device:
    loaded = lnc.load(sys.argv[1])
    x = on_device(np.ones((5, 64), np.float32))
    y, ctx = loaded.forward(x, on_device(np.ones(64, np.float32)))
    assert loaded.backward(y, ctx).x.shape == (5, 64)
    assert len(device.launched) == 3
    loaded(np.ones((5, 64), np.float32), np.ones(64, np.float32))
assert not any(name.startswith("lncompile.passes") for name in sys.modules)
"""


def test_without_a_compiler(mixed: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_COMPILER, str(mixed), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# Damage

CUBIN = "rms_norm_64_float32_sm_90_backward_2.cubin"


def _flip(directory: Path) -> None:
    data = bytearray((directory / CUBIN).read_bytes())
    data[3] ^= 1
    (directory / CUBIN).write_bytes(data)


def _other_abi(directory: Path) -> None:
    path = directory / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["kernels"][-1]["python"]["abi"] = [0]
    del manifest["sha256"]
    path.write_text(json.dumps(manifest | {"sha256": digest_of(manifest)}))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing cubin": (lambda d: (d / CUBIN).unlink(), f"{CUBIN}: is missing"),
    "truncated cubin": (lambda d: (d / CUBIN).write_bytes(b"cuda"), "bytes; got 4: it is truncated"),
    "flipped bit": (_flip, f"{CUBIN}: was altered"),
    "another ABI": (_other_abi, "another ABI than this lncompile's; build it again"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_an_error_that_says_what(mixed: Path, tmp_path: Path, kind: str) -> None:
    damage, said = DAMAGE[kind]
    copy = Path(shutil.copytree(mixed, tmp_path / "dist"))
    damage(copy)
    for read in (lnc.load, lnc.use):
        with pytest.raises(lnc.LncError, match=re.escape(said)):
            read(copy)


def test_damage_after_loading(mixed: Path, tmp_path: Path, fake: Device) -> None:
    copy = Path(shutil.copytree(mixed, tmp_path / "dist"))
    loaded = lnc.load(copy)
    _flip(copy)
    with pytest.raises(lnc.LncError, match="does not match its digest"):
        loaded(on_device(X), on_device(WEIGHT))
