"""Results in the place of arguments: which a kernel for CUDA allows, and that those are right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cuda_kernels import cuda_compilation_of, needs_compiler, results_of, standing_in
from fake_cupy import Device, installed, on_device
from helpers import arrays_for
from test_invented import CASES

import lncompile as lnc
from lncompile.backends.cpu.calls import may_coincide
from lncompile.interface import Interface

Pairs = set[tuple[str, str]]


@lnc.norm("n [d]", a="n")
def row_sized(x: Any, a: Any) -> Any:
    """The second result is like an argument that all threads of a row read."""
    return x * a, a * a + 1.0


def allowed(interface: Interface) -> Pairs:
    """What may be the same, as (written, read)."""
    return {
        (written.name, read.name)
        for phase in (interface.forward, interface.backward)
        for written in phase.buffers
        for read in phase.buffers
        if may_coincide(phase, written, read)
    }


@pytest.mark.sampled(3)
@needs_compiler
@pytest.mark.parametrize(
    ("norm", "sizes", "pairs"),
    [
        (lnc.layer_norm, {"...": 5, "d": 64}, {("y", "x"), ("dx", "dy"), ("dx", "x")}),
        # Several warps a row, the last of which has only a part of what the others have.
        (lnc.layer_norm, {"...": 3, "d": 4100}, {("y", "x"), ("dx", "dy"), ("dx", "x")}),
        (lnc.add_rms_norm, {"...": 5, "d": 33}, {("y0", "x"), ("added", "residual"), ("dx", "dy0")}),
        (lnc.ada_layer_norm, {"b": 2, "...": 3, "d": 64}, {("y", "x"), ("dscale", "scale")}),
        (lnc.instance_norm, {"n": 2, "c": 3, "...": 49}, {("y", "x"), ("dx", "dy"), ("dweight", "weight")}),
        (lnc.group_norm, {"n": 2, "g": 2, "c": 3, "...": 24}, {("y", "x"), ("dx", "dy")}),
        (lnc.batch_norm, {"n": 4, "c": 3, "...": 40}, {("y0", "x"), ("dx", "dy0"), ("dweight", "bias")}),
        (lnc.batch_norm.over("[n h w] c"), {"n": 3, "h": 4, "w": 2, "c": 24}, {("y0", "x"), ("dx", "dy0")}),
        (row_sized, {"n": 5, "d": 200}, {("y0", "x"), ("dx", "dy0")}),
        (CASES["evonorm_b0"].norm, {"n": 3, "c": 2, "h": 4, "w": 5}, {("y", "x"), ("dx", "dy")}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_allowed(norm: Any, sizes: dict[str, int], pairs: Pairs) -> None:
    compilation = cuda_compilation_of(norm, sizes)
    interface, pair = compilation.lowered.interface, compilation.lowered.pair
    assert pairs <= allowed(interface)
    inputs = {node.name: node for node in (*pair.forward.inputs, *pair.backward.inputs)}
    given = arrays_for(tuple(node for node in inputs.values() if node.role != "saved"), sizes)
    # One row takes the second path.
    given["x"][-1] *= 1e30
    expected = results_of(compilation, given, sizes)
    for written, read in sorted(allowed(interface)):
        found = results_of(compilation, given, sizes, same={written: read})
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array, f"{name} where {written} is {read}")


@pytest.mark.parametrize(
    ("norm", "sizes", "pairs"),
    [
        # The first elements of rows are read by the kernel that writes them.
        (CASES["switchable_norm"].norm, {"n": 2, "c": 3, "h": 4, "w": 5}, {("y", "x")}),
        (CASES["batch_instance_norm"].norm, {"n": 3, "c": 2, "h": 4, "w": 5}, {("y", "x")}),
        (CASES["evonorm_b0"].norm, {"n": 3, "c": 2, "h": 4, "w": 5}, {("dx", "x")}),
        (row_sized, {"n": 5, "d": 200}, {("y1", "a"), ("da", "dy1")}),
    ],
    ids=["switchable_norm", "batch_instance_norm", "evonorm_b0", "row_sized"],
)
def test_refused(norm: Any, sizes: dict[str, int], pairs: Pairs) -> None:
    assert not pairs & allowed(cuda_compilation_of(norm, sizes).lowered.interface)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Device]:
    monkeypatch.setenv("LNCOMPILE_CACHE_DIR", str(tmp_path))
    with standing_in(), pytest.MonkeyPatch.context() as patch, installed(patch) as device:
        yield device


def test_what_is_refused_is_computed_elsewhere_and_copied(fake: Device) -> None:
    norm = row_sized.over("n [d]")  # type: ignore[attr-defined]
    x, a = on_device(np.ones((3, 64), np.float32)), on_device(np.ones(3, np.float32))
    # The second call is a quick one.
    for _ in range(2):
        fake.launched.clear()
        assert norm(x, a, out=(x, a)) == (x, a)
        (launch,) = fake.launched
        assert launch.args[:3] == (x.data.ptr, a.data.ptr, x.data.ptr)
        assert launch.args[3] != a.data.ptr
