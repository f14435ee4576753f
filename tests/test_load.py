"""Kernels from directories: without a compiler, by name, for production; and everything that can be wrong."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import fresh
from libraries import wanted, written

import lncompile as lnc
from lncompile import specialize
from lncompile.aot import directory as directories
from lncompile.aot.manifest import digest_of
from lncompile.backends.cpu.target import TARGETS, host

RNG = np.random.default_rng(0)
X = RNG.standard_normal((37, 1024), dtype=np.float32)
WEIGHT, BIAS = RNG.standard_normal((2, 1024), dtype=np.float32)

WITHOUT_COMPILER = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("numba", "llvmlite", "click", "rich", "ml_dtypes"):
            raise ImportError(f"{name} is not installed")

sys.meta_path.insert(0, Blocker())
import numpy as np
import lncompile as lnc

directory, out = sys.argv[1:]
x, weight, bias = np.load(out + ".in.npz").values()
k = lnc.load(directory)
y, ctx = k.forward(x, weight, bias)
g = k.backward(y, ctx)
assert (k["layer_norm"](x, weight, bias) == y).all()
lnc.use(directory, strict=True)
assert (lnc.layer_norm(x, weight, bias, eps=1e-5) == y).all()
try:
    lnc.layer_norm(x, weight)
except lnc.LncError as error:
    assert "bias" not in str(error).partition(" in ")[0], error
else:
    raise SystemExit("compiled")
np.savez(out, y, g.x, g.weight, g.bias)
"""


@pytest.fixture(autouse=True)
def _nothing_in_use() -> Iterator[None]:
    yield
    lnc.use()


def test_without_a_compiler(rows_library: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "out.npz.in.npz", X, WEIGHT, BIAS)
    command = [sys.executable, "-c", WITHOUT_COMPILER, str(rows_library), str(tmp_path / "out.npz")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    kernel = lnc.compile(lnc.layer_norm, shape=X.shape)
    y, ctx = kernel.forward(X, WEIGHT, BIAS)
    expected = (y, *kernel.backward(y, ctx))
    with np.load(tmp_path / "out.npz") as found:
        for array, exact in zip(found.values(), expected, strict=True):
            assert array.tobytes() == exact.tobytes()


def test_a_loaded_norm_is_called_like_a_compiled_kernel(rows_library: Path) -> None:
    loaded = lnc.load(rows_library)
    assert list(loaded) == ["layer_norm"]
    assert loaded.layer_norm is loaded["layer_norm"]
    assert loaded.target == host().name
    assert loaded.interface.norm == "layer_norm"
    assert "layer_norm" in repr(loaded)
    out = np.empty_like(X)
    assert loaded(X, WEIGHT, bias=BIAS, out=out) is out
    strided = np.repeat(X, 2, axis=1)[:, ::2]
    assert (loaded(strided, WEIGHT, BIAS) == out).all()
    for wrong, said in (
        (lambda: loaded(X, WEIGHT), "bias: this kernel was compiled with it; got None"),
        (lambda: loaded(X[:, :8], WEIGHT[:8], BIAS[:8]), "x: this kernel was compiled for d = 1024; got 8"),
        (
            lambda: loaded(X.astype(float), WEIGHT, BIAS),
            "x: this kernel was compiled for float32; got float64",
        ),
        (lambda: loaded(X, WEIGHT, BIAS, eps=1e-6), "eps: a compiled kernel takes arrays alone"),
        (lambda: loaded.backward(X, lnc.layer_norm.forward(X, WEIGHT, BIAS)[1]), "ctx: expected the context"),
    ):
        with pytest.raises(lnc.LncError, match=re.escape(said)):
            wrong()
    with pytest.raises(AttributeError):
        _ = loaded.no_such_thing


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two norms, one of them for two sizes."""
    kernels = [wanted(lnc.l2_norm, (3, size), "float32") for size in (8, 24)]
    kernels.append(wanted(lnc.softmax, (3, 8), "float32"))
    return written(tmp_path_factory.mktemp("several") / "dist", *kernels)


def test_what_was_loaded_is_pickled_as_its_directory(rows_library: Path, several: Path) -> None:
    loaded = lnc.load(rows_library)
    again = pickle.loads(pickle.dumps(loaded))
    y, ctx = loaded.forward(X, WEIGHT, BIAS)
    assert (again(X, WEIGHT, BIAS) == y).all()
    assert (loaded.backward(y, deepcopy(ctx)).x == loaded.backward(y, ctx).x).all()
    with pytest.raises(
        lnc.LncError, match=r"layer_norm: expected a kernel of a norm to pickle; got .* lnc.load"
    ):
        pickle.dumps(ctx)
    assert list(pickle.loads(pickle.dumps(lnc.load(several)))) == list(lnc.load(several))


def test_several_norms_and_kernels(several: Path) -> None:
    loaded = lnc.load(several)
    assert list(loaded) == ["l2_norm", "softmax"]
    for size in (8, 24, 8):
        x = X[:, :size]
        assert np.allclose(loaded.l2_norm(x), x / np.linalg.norm(x, axis=1, keepdims=True), atol=1e-6)
    assert np.allclose(loaded["softmax"](X[:, :8]).sum(axis=1), 1)
    with pytest.raises(
        lnc.LncError, match=r"l2_norm: none of the 2 kernels fits: .* d = 8; .* d = 24; got 9"
    ):
        loaded.l2_norm(X[:, :9])
    with pytest.raises(lnc.LncError, match="expected which of l2_norm, softmax"):
        loaded(X[:, :8])
    with pytest.raises(AttributeError, match="expected one of l2_norm, softmax; got 'target'"):
        _ = loaded.target


def test_save_and_load(tmp_path: Path) -> None:
    kernel = lnc.compile(lnc.rms_norm, shape=(3, 16), dtype={"x": "float32", "weight": None})
    kernel.save(tmp_path / "new" / "dist")
    loaded = lnc.load(tmp_path / "new" / "dist")
    assert (loaded(X[:, :16]) == kernel(X[:, :16])).all()
    loaded["rms_norm"].save(tmp_path / "copy")
    for path in (tmp_path / "new" / "dist").iterdir():
        assert (tmp_path / "copy" / path.name).read_bytes() == path.read_bytes()


def _refuse_to_compile(*_: object) -> None:
    raise AssertionError("compiled")


def test_use_finds_kernels_before_the_cache(
    rows_library: Path, several: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lnc.use(several, rows_library)
    monkeypatch.setattr(specialize.cache, "fetch", _refuse_to_compile)
    again = fresh(lnc.layer_norm)
    assert (again(X, WEIGHT, BIAS) == lnc.load(rows_library)(X, WEIGHT, BIAS)).all()
    with pytest.raises(AssertionError, match="compiled"):
        fresh(lnc.layer_norm)(X, WEIGHT, BIAS, eps=1e-6)


def test_strict_refuses_to_compile(several: Path) -> None:
    lnc.use(several, strict=True)
    norm = fresh(lnc.l2_norm)
    assert norm(X[:, :8]).shape == (37, 8)
    with pytest.raises(
        lnc.LncError, match=r"l2_norm: no kernel for x float32; d=9; eps=.* forbids to compile"
    ):
        norm(X[:, :9])
    lnc.use(strict=True)
    with pytest.raises(lnc.LncError, match="in any directory"):
        norm(X[:, :10])
    lnc.use()
    assert norm(X[:, :9]).shape == (37, 9)


# Damage


@pytest.fixture
def copy(rows_library: Path, tmp_path: Path) -> Path:
    """A copy of the directory to damage."""
    return Path(shutil.copytree(rows_library, tmp_path / "dist"))


def edited(directory: Path, change: Callable[[Any], None], *, sealed: bool = True) -> None:
    """Change the manifest, and give it the digest of what it is then."""
    path = directory / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    if sealed:
        manifest["sha256"] = digest_of({k: v for k, v in manifest.items() if k != "sha256"})
    path.write_text(json.dumps(manifest))


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


LIBRARY = "layer_norm_1024_float32.so"
DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (lambda d: (d / "manifest.json").unlink(), "has no manifest.json"),
    "empty manifest": (lambda d: (d / "manifest.json").write_text(""), "is no manifest of lncompile"),
    "another manifest": (lambda d: (d / "manifest.json").write_text("[1]"), "is no manifest of lncompile"),
    "truncated manifest": (
        lambda d: (d / "manifest.json").write_bytes((d / "manifest.json").read_bytes()[:-9]),
        "is no manifest of lncompile",
    ),
    "edited manifest": (
        lambda d: edited(d, lambda m: m["kernels"][0]["targets"].pop(), sealed=False),
        "does not match its own digest",
    ),
    "another format": (lambda d: edited(d, lambda m: m.update(format=2)), "expected format 1; got 2"),
    "missing library": (lambda d: (d / LIBRARY).unlink(), f"{LIBRARY}: is missing"),
    "missing header": (lambda d: (d / "lnc_kernels.h").unlink(), "lnc_kernels.h: is missing"),
    "truncated library": (
        lambda d: (d / LIBRARY).write_bytes((d / LIBRARY).read_bytes()[:5000]),
        "bytes; got 5000: it is truncated",
    ),
    "flipped bit": (lambda d: flipped(d / LIBRARY), "does not match its digest"),
    "library that is a directory": (
        lambda d: ((d / LIBRARY).unlink(), (d / LIBRARY).mkdir()),
        "cannot be read: Is a directory",
    ),
    "library that is a pipe": (
        lambda d: ((d / LIBRARY).unlink(), os.mkfifo(d / LIBRARY)),
        "is no regular file",
    ),
    "manifest that is a pipe": (
        lambda d: ((d / "manifest.json").unlink(), os.mkfifo(d / "manifest.json")),
        "is no regular file",
    ),
    "another ABI": (
        lambda d: edited(d, lambda m: [k["python"].update(abi=[0]) for k in m["kernels"]]),
        "another ABI than this lncompile's; build it again",
    ),
    "other CPUs": (
        lambda d: edited(d, lambda m: [k.update(targets=["cpu:riscv64"]) for k in m["kernels"]]),
        f"expected kernels for this machine, {host().name}; got cpu:riscv64",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_an_error_that_says_what(copy: Path, kind: str) -> None:
    damage, said = DAMAGE[kind]
    damage(copy)
    for read in (lnc.load, lnc.use):
        with pytest.raises(lnc.LncError, match=re.escape(said)):
            read(copy)


def test_damage_after_loading(several: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(several, tmp_path / "dist"))
    loaded = lnc.load(copy)
    # Of several kernels each is opened when it is first called.
    flipped(copy / "l2_norm_24_float32.so")
    with pytest.raises(lnc.LncError, match="does not match its digest"):
        loaded.l2_norm(X[:, :24])


@pytest.mark.skipif(host().name != "cpu:x86-64-v4", reason="lower levels are not chosen on others")
def test_the_best_level_that_the_machine_has(rows_library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for level in ("cpu:x86-64-v2", "cpu:x86-64-v3"):
        monkeypatch.setattr("lncompile.builders.host", lambda level=level: TARGETS[level])
        assert lnc.load(rows_library).target == level


def test_what_is_no_directory(tmp_path: Path) -> None:
    with pytest.raises(lnc.LncError, match="directory: expected a path; got 3"):
        lnc.load(3)  # type: ignore[arg-type]
    with pytest.raises(lnc.LncError, match="there is no directory"):
        lnc.load(tmp_path / "nowhere")


# Writing

FILES = {"a.so": b"library", "manifest.json": b'{"files": {"a.so": {}}}'}


@pytest.mark.parametrize("there", [True, False])
def test_writing_goes_where_a_symbolic_link_leads(tmp_path: Path, there: bool) -> None:
    if there:
        (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real", target_is_directory=True)
    for content in (b"1", b"2"):
        directories.write(tmp_path / "link", FILES | {"a.so": content})
        assert (tmp_path / "real" / "a.so").read_bytes() == content
    assert (tmp_path / "link").is_symlink()


def test_writing_replaces_an_earlier_build_alone(tmp_path: Path) -> None:
    dist = tmp_path / "dist"
    directories.write(dist, FILES)
    (dist / "mine.txt").write_text("keep")
    directories.write(dist, {"b.so": b"new", "manifest.json": b"{}"})
    assert sorted(path.name for path in dist.iterdir()) == ["b.so", "manifest.json", "mine.txt"]
    (dist / "a.so").write_text("mine too")
    with pytest.raises(lnc.LncError, match=r"a\.so is in the way"):
        directories.write(dist, FILES)
    assert (dist / "b.so").read_bytes() == b"new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dist"]


def test_writing_to_an_empty_directory_and_over_a_file(tmp_path: Path) -> None:
    (tmp_path / "dist").mkdir()
    directories.write(tmp_path / "dist", FILES)
    assert (tmp_path / "dist" / "a.so").read_bytes() == b"library"
    (tmp_path / "file").touch()
    with pytest.raises(lnc.LncError, match="is a file"):
        directories.write(tmp_path / "file", FILES)


@pytest.mark.parametrize("existing", [True, False])
def test_a_full_disk_leaves_no_half_of_a_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existing: bool
) -> None:
    dist = tmp_path / "dist"
    if existing:
        directories.write(dist, FILES)

    def full(path: str, data: bytes) -> None:
        raise OSError(28, "No space left on device", path)

    monkeypatch.setattr(directories, "_write", full)
    with pytest.raises(OSError, match="No space left"):
        directories.write(dist, FILES)
    assert dist.exists() == existing
    assert [path.name for path in tmp_path.iterdir()] == ["dist"] * existing
