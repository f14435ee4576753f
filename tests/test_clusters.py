"""Rows that a cluster of thread blocks computes, each of which has a part of a row in its registers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cuda_kernels import check, cuda_compilation_of, needs_compiler, needs_disassembler, standing_in
from fake_cupy import installed, on_device
from helpers import fresh
from ptx.sass import Budget, read_cubin, read_sass
from test_cuda import TOLERANCE, awkward

import lncompile as lnc
from lncompile.backends.cuda.link import disassembled

MEETING = "barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;"


@needs_compiler
@pytest.mark.parametrize(
    ("norm", "features", "dtype", "rows"),
    [
        # One multiprocessor's clusters have several rows, one after another.
        (lnc.layer_norm, 32768, "float16", 9),
        (lnc.rms_norm, 65536, "bfloat16", 2),
        # No whole vectors, more of a row than registers hold, and one exchange a row.
        (lnc.l2_norm, 40001, "float32", 3),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_results(norm: Any, features: int, dtype: str, rows: int) -> None:
    check(norm, {"...": rows, "d": features}, dtype, tolerance=TOLERANCE[dtype], multiprocessors=1)


@needs_compiler
def test_all_of_a_cluster_take_the_second_path() -> None:
    sizes = {"...": 10, "d": 20000}
    with np.errstate(all="ignore"):
        found = check(
            lnc.layer_norm,
            sizes,
            arrays={"x": awkward(20000)},
            tolerance=TOLERANCE["float32"],
            only=("y",),
            multiprocessors=1,
        )
    y = found["y"].reshape(10, 20000)
    assert np.isnan(y[3:5]).all()
    assert np.isfinite(np.delete(y, [3, 4], axis=0)).all()


def test_which_rows_have_clusters() -> None:
    def clusters(norm: Any, features: int, target: str = "cuda:sm_90", **sizes: int) -> list[list[int]]:
        lowered = cuda_compilation_of(norm, {"...": 5, **sizes, "d": features}, target=target).lowered
        return [[kernel.cluster for kernel in phase.kernels] for phase in (lowered.forward, lowered.backward)]

    assert clusters(lnc.layer_norm, 16384) == [[1], [1, 1]]
    assert clusters(lnc.layer_norm, 20000) == [[4], [4, 1]]
    assert clusters(lnc.layer_norm, 65536) == [[8], [8, 1]]
    assert clusters(lnc.layer_norm, 65536, "cuda:sm_120") == [[8], [8, 1]]
    # Registers of a cluster hold one array of these rows, not two.
    forward, backward = clusters(lnc.rms_norm, 131072)
    assert forward == [8]
    assert set(backward) == {1}
    for features, target in ((65536, "cuda:sm_80"), (262144, "cuda:sm_90")):
        assert {count for phase in clusters(lnc.rms_norm, features, target) for count in phase} == {1}
    # Rows of several steps are no vectors that could be dealt out.
    lowered = cuda_compilation_of(lnc.group_norm, {"n": 2, "g": 1, "c": 4, "...": 8192}).lowered
    assert {kernel.cluster for kernel in lowered.forward.kernels} == {1}


@needs_disassembler
@needs_compiler
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_code(dtype: str) -> None:
    compilation = cuda_compilation_of(lnc.layer_norm, {"...": 1, "d": 65536}, dtype)
    # 512 threads a block: one block a multiprocessor from 65 registers on, up to 128.
    for code, registers in zip(compilation.codes, (88, 128), strict=False):
        assert ".explicitcluster" in code.ptx
        assert ".reqnctapercluster 8, 1, 1" in code.ptx
        # No block leaves while another one may read its shared memory.
        assert code.ptx.rindex(MEETING) > code.ptx.rindex("ld.shared::cluster")
        found = read_sass(disassembled(code.cubin))[code.entry]
        # What blocks read of one another is one number at a time: six of these loads.
        budget = Budget(wide_loads=2, wide_stores=1, narrow_loads=12, narrow_stores=6, registers=registers)
        budget.check(found, read_cubin(code.cubin)[code.entry])
    assert "cluster" not in compilation.codes[2].ptx


def test_launches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LNCOMPILE_CACHE_DIR", str(tmp_path))
    norm = fresh(lnc.rms_norm)
    with standing_in(), pytest.MonkeyPatch.context() as patch, installed(patch) as fake:
        x = on_device(np.ones((3, 32768), np.float32))
        weight = on_device(np.ones(32768, np.float32))
        y, ctx = norm.forward(x, weight)
        norm.backward(y, ctx)
        kernel = lnc.compile(norm, shape=(3, 32768), target="cuda:sm_90")
    # cuda.core's grid is one of clusters.
    forward, backward, last = fake.launched
    assert (forward.grid, forward.cluster, forward.block) == (3, 4, 512)
    assert (backward.grid, backward.cluster) == (1, 4)
    assert not hasattr(last, "cluster")
    launches = kernel.launches  # type: ignore[attr-defined]
    assert [(launch.grid, launch.cluster) for launch in launches[:2]] == [
        ((12, 1, 1), (4, 1, 1)),
        ((4, 1, 1), (4, 1, 1)),
    ]
    # A GPC of an H100 has room for four such clusters, whether it has 16 or 18 multiprocessors.
    many = kernel.lnc_dispatcher.kernel.launches((100000, 32768))  # type: ignore[attr-defined]
    assert many[1].grid == (4 * 32, 1, 1)
