"""Calls on arrays of a device: what is checked, allocated and launched, with fakes of CuPy and cuda.core."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from cuda_kernels import COMPILES, cuda_compilation_of, needs_compiler
from fake_cupy import Device, installed, on_device

import lncompile as lnc
from lncompile import functional
from lncompile.backends.cuda import device
from lncompile.backends.cuda.plan import Grid, plan_of
from lncompile.backends.cuda.target import TARGETS, find, places, serving
from lncompile.emit.cuda.launches import Blocks, Kernel, Launches, shared_bytes
from lncompile.interface import Buffer, Phase, Size


@pytest.fixture(scope="module")
def packages(request: pytest.FixtureRequest) -> Iterator[Device]:
    if COMPILES:
        # Before the fakes take the place of what compiles; the norm itself finds the kernel in the cache.
        for name in ("kernel", "of_another_architecture"):
            request.getfixturevalue(name)
    with pytest.MonkeyPatch.context() as patch, installed(patch) as device:
        yield device


@pytest.fixture
def fake(packages: Device) -> Device:
    packages.launched.clear()
    packages.allocated.clear()
    packages.stream = 7
    return packages


@pytest.fixture(scope="module")
def kernel() -> Any:
    return lnc.compile(lnc.rms_norm, shape=(3, 64), target="cuda:sm_90")


@pytest.fixture(scope="module")
def of_another_architecture() -> Any:
    return lnc.compile(lnc.rms_norm, shape=(3, 64), target="cuda:sm_80")


def x() -> Any:
    return on_device(np.ones((3, 64), np.float32))


@needs_compiler
def test_a_call_launches_on_the_current_stream(kernel: Any, fake: Device) -> None:
    y = kernel(x(), on_device(np.ones(64, np.float32)))
    (launched,) = fake.launched
    assert launched.entry == kernel.launches[0].entry
    assert launched.stream == fake.stream
    assert (launched.grid, 1, 1) == kernel.launches[0].grid
    assert y.shape == (3, 64)
    assert launched.args[-1] == 3
    # Nothing is saved where nobody asks for the backward.
    assert 0 in launched.args


@needs_compiler
def test_backward_takes_workspaces_once_a_stream_with_out(kernel: Any, fake: Device) -> None:
    weight = on_device(np.ones(64, np.float32))
    _, ctx = kernel.forward(x(), weight)
    fake.allocated.clear()
    g = kernel.backward(x(), ctx)
    assert g.x.shape == (3, 64)
    assert g.weight.shape == (64,)
    assert len(fake.allocated) == 1
    for _ in range(3):
        assert kernel.backward(x(), ctx, out=g) is g
    assert len(fake.allocated) == 2
    fake.stream = 8
    kernel.backward(x(), ctx, out=g)
    assert len(fake.allocated) == 3


@needs_compiler
def test_no_rows_have_gradients_of_parameters(kernel: Any, fake: Device) -> None:
    none = on_device(np.ones((0, 64), np.float32))
    y, ctx = kernel.forward(none, on_device(np.ones(64, np.float32)))
    assert y.shape == (0, 64)
    assert not fake.launched
    kernel.backward(none, ctx)
    (launched,) = fake.launched
    assert launched.entry == kernel.launches[-1].entry


@needs_compiler
def test_work_goes_to_the_arrays_device(kernel: Any, fake: Device) -> None:
    weight = np.ones(64, np.float32)
    given = on_device(np.ones((3, 64), np.float32), 1)
    y = kernel(given, on_device(weight, 1))
    assert fake.launched[-1].device == 1
    assert y.device.id == 1
    assert fake.current == 0
    with pytest.raises(lnc.LncError, match=r"weight.*device 1"):
        kernel(given, on_device(weight, 0))


@needs_compiler
def test_norms_are_dispatched_by_their_arrays(kernel: Any, fake: Device) -> None:
    y = lnc.rms_norm(x(), on_device(np.ones(64, np.float32)))
    assert fake.launched
    assert y.device.id == 0
    count = len(fake.launched)
    assert type(lnc.rms_norm(np.ones((3, 64), np.float32))) is np.ndarray
    assert len(fake.launched) == count


@needs_compiler
def test_functions_like_torchs(kernel: Any, fake: Device) -> None:
    weight = on_device(np.ones(64, np.float32))
    y = functional.rms_norm(x(), (64,), weight, eps=1e-5)
    assert fake.launched[-1].entry == kernel.launches[0].entry
    assert functional.rms_norm(x(), (64,), weight, eps=1e-5, out=y) is y


def test_mixed_arguments_are_refused(fake: Device) -> None:
    with pytest.raises(lnc.LncError, match="weight: expected an array on the device"):
        lnc.rms_norm(x(), np.ones(64, np.float32))
    with pytest.raises(lnc.LncError, match="x: expected an array on the device"):
        lnc.rms_norm(np.ones((3, 64), np.float32), on_device(np.ones(64, np.float32)))


@needs_compiler
def test_what_a_kernel_cannot_access_is_copied(kernel: Any, fake: Device) -> None:
    weight = on_device(np.ones(64, np.float32))
    given = on_device(np.ones((3, 65), np.float32))[:, 1:]
    out = on_device(np.ones((3, 65), np.float32))[:, 1:]
    assert kernel(given, weight, out=out) is out
    pointers = fake.launched[-1].args[:3]
    assert given.data.ptr not in pointers
    assert out.data.ptr not in pointers
    assert all(pointer % 16 == 0 for pointer in pointers)


@needs_compiler
def test_out(kernel: Any, fake: Device) -> None:
    weight, given = on_device(np.ones(64, np.float32)), x()
    assert kernel(given, weight, out=given) is given
    with pytest.raises(lnc.LncError, match=r"out: expected shape \(3, 64\)"):
        kernel(given, weight, out=on_device(np.ones((2, 64), np.float32)))
    with pytest.raises(lnc.LncError, match="out: expected a CuPy array"):
        kernel(given, weight, out=np.ones((3, 64), np.float32))
    memory = on_device(np.ones(4 * 64, np.float32))
    with pytest.raises(lnc.LncError, match="overlaps x partly"):
        kernel(memory[:192].reshape(3, 64), weight, out=memory[64:].reshape(3, 64))


@needs_compiler
def test_a_kernel_runs_on_its_own_architecture(of_another_architecture: Any, fake: Device) -> None:
    with pytest.raises(lnc.LncError, match=r"compiled for cuda:sm_80; got .* runs cuda:sm_90"):
        of_another_architecture(x(), on_device(np.ones(64, np.float32)))


# Without a compiler or a device


def test_targets() -> None:
    assert find("cuda:sm_90").arch == "sm_90"
    assert serving((8, 0)).name == "cuda:sm_80"
    assert serving((8, 6)).name == "cuda:sm_86"
    assert serving((8, 9)).name == "cuda:sm_89"
    assert serving((10, 3)).name == "cuda:sm_100"
    assert serving((12, 1)).name == "cuda:sm_120"
    with pytest.raises(lnc.LncError, match="target: expected cuda, cuda:sm_80"):
        find("cuda:sm_70")
    with pytest.raises(lnc.LncError, match=r"capability 7\.0"):
        serving((7, 0))


def test_which_devices_run_code() -> None:
    assert places("cuda:sm_80", 99 << 10) == ("cuda:sm_80", "cuda:sm_86", "cuda:sm_89")
    assert places("cuda:sm_80", 100 << 10) == ("cuda:sm_80",)
    assert places("cuda:sm_86", 1 << 10) == ("cuda:sm_86", "cuda:sm_89")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("features", [1024, 12288, 16384])
def test_kernels_have_the_shared_memory_that_they_need(target: str, features: int) -> None:
    lowered = cuda_compilation_of(lnc.layer_norm, {"...": 1, "d": features}, target=target).lowered
    needed = shared_bytes(lowered.forward, lowered.backward)
    assert 0 < needed <= TARGETS[target].shared_bytes
    # Sums over the rows are in it where there is room.
    if features == 16384:
        assert (needed > 128 << 10) == (TARGETS[target].shared_bytes > 128 << 10)


def test_plan_gives_every_team_a_block_of_rows() -> None:
    buffers = (
        Buffer("x", "input", "float32", ("n", 8)),
        Buffer("sums", "workspace", "float32", ("blocks * 8",)),
    )
    phase = Phase("", buffers, (Size("rows", ("n",)),), ())
    kernel = Kernel("k", ("x", "sums"), ("rows", "blocks", "per"), "blocks", 32, 4, 0)
    launches = Launches((kernel,), (Blocks("blocks", "per", "rows", "1", 10, 8),))
    many = plan_of(phase, launches, {"n": (1000,)}, 4)
    assert many.grids[0].numbers == (1000, 40, 25)
    assert many.grids[0].blocks == 10
    assert many.workspaces == {"sums": 320}
    few = plan_of(phase, launches, {"n": (20,)}, 4)
    assert few.grids[0].numbers == (20, 3, 8)
    assert plan_of(phase, launches, {"n": (0,)}, 4).grids == ()


def test_shared_memory_is_asked_for_whatever_its_size(fake: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unasked a driver gives 48 KiB less what a kernel has statically: 48 KiB were refused."""
    asked: list[int] = []
    monkeypatch.setattr(device, "_allow_shared", lambda kernel, number, size: asked.append(size))
    for size in (0, 48 << 10, 64 << 10):
        device.load(0, b"shared memory", Grid("entry", 1, 32, size, 1, (), ()))
    assert asked == [48 << 10, 64 << 10]
