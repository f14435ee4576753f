"""The quick ways of calls on a device: that they are taken, and that what is unusual is as it was."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cuda_kernels import standing_in
from fake_cupy import Device, installed, on_device
from helpers import fresh

import lncompile as lnc
from lncompile import device_runner
from lncompile.backends.cuda.device import CuPy
from lncompile.device_kernel import DeviceKernel
from lncompile.device_reader import reader
from lncompile.interface import Buffer

SHAPE = (3, 64)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Iterator[Device]:
    monkeypatch.setenv("LNCOMPILE_CACHE_DIR", str(tmp_path / "cache"))
    with standing_in(), pytest.MonkeyPatch.context() as patch, installed(patch) as device:
        yield device


def x(*shape: int, number: int = 0, dtype: Any = np.float32) -> Any:
    return on_device(np.ones(shape or SHAPE, dtype), number)


def ready(norm: Any, *arrays: Any) -> Any:
    """The norm after a call of each way with these arrays."""
    y, ctx = norm.forward(*arrays)
    norm.backward(y, ctx)
    return norm


@pytest.fixture
def thorough(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The thorough ways that are taken from here on."""
    taken: list[str] = []
    for name in ("_computed", "backward"):
        way = getattr(DeviceKernel, name)

        def noted(*args: Any, name: str = name, way: Any = way, **options: Any) -> Any:
            taken.append(name)
            return way(*args, **options)

        monkeypatch.setattr(DeviceKernel, name, noted)
    return taken


def of(launched: list[Any]) -> list[Any]:
    return [(launch.entry, launch.grid, launch.block, launch.stream, launch.device) for launch in launched]


@pytest.mark.parametrize("devices", [1, 3])
def test_repeated_calls_launch_the_same_the_quick_way(
    fake: Device, thorough: list[str], devices: int
) -> None:
    fake.count = devices
    norm, given, weight, bias = fresh(lnc.layer_norm), x(), x(64), x(64)
    out, dy = x(), x()
    _, ctx = norm.forward(given, weight, bias)
    g = norm.backward(dy, ctx)
    norm(given, weight, bias, out=out)
    before, fake.launched[:] = list(fake.launched), []
    assert len(thorough) == 2
    made, kept = norm.forward(given, weight, bias)
    gradients = norm.backward(dy, kept)
    assert norm(given, weight, bias, out=out) is out
    assert len(thorough) == 2
    assert of(fake.launched) == of(before)
    for now, then in zip(fake.launched, before, strict=True):
        assert len(now.args) == len(then.args)
        # Sizes follow the pointers, and are the same.
        assert [a for a in now.args if a < 4096] == [a for a in then.args if a < 4096]
    first, last = fake.launched[0], fake.launched[-1]
    pointers = [array.data.ptr for array in (given, weight, bias, made, *kept.saved)]
    assert list(first.args[: len(pointers)]) == pointers
    assert last.args[:4] == (*pointers[:3], out.data.ptr)
    assert type(gradients) is type(g)
    assert [array.shape for array in gradients] == [SHAPE, (64,), (64,)]


def test_calls_with_out_make_nothing(fake: Device, thorough: list[str]) -> None:
    norm, given, weight, bias, out = fresh(lnc.layer_norm), x(), x(64), x(64), x()
    y, ctx = norm.forward(given, weight, bias)
    g = norm.backward(y, ctx)
    norm.backward(y, ctx, out=g)
    fake.made.clear()
    fake.allocated.clear()
    thorough.clear()
    for _ in range(3):
        assert norm(given, weight, bias, out=out) is out
        assert norm.backward(y, ctx, out=g) is g
    assert (fake.made, fake.allocated, thorough) == ([], [], [])


def test_a_copied_context_leads_to_its_own_arrays(fake: Device, thorough: list[str]) -> None:
    norm, arrays = ready(fresh(lnc.layer_norm), x(), x(64), x(64)), (x(), x(64), x(64))
    y, ctx = norm.forward(*arrays)
    other = copy.deepcopy(ctx)
    thorough.clear()
    fake.launched.clear()
    for kept in (ctx, other):
        norm.backward(y, kept)
    assert not thorough
    ours, theirs = fake.launched[0].args, fake.launched[len(fake.launched) // 2].args
    assert other.pointers == tuple(array.data.ptr for array in (*other.inputs, *other.saved))
    assert set(other.pointers).isdisjoint(ctx.pointers)
    assert set(ctx.pointers) & set(ours)
    assert set(other.pointers) & set(theirs)
    assert set(other.pointers).isdisjoint(ours)


def test_the_current_stream_is_followed(fake: Device, thorough: list[str]) -> None:
    norm, given = ready(fresh(lnc.rms_norm), x(), x(64)), x()
    y, ctx = norm.forward(given, x(64))
    g = norm.backward(y, ctx)
    thorough.clear()
    fake.launched.clear()
    for stream in (9, 7, 9):
        fake.stream = stream
        norm(given, x(64), out=y)
        norm.backward(given, ctx, out=g)
    assert [launch.stream for launch in fake.launched] == [9, 9, 9, 7, 7, 7, 9, 9, 9]
    workspaces = [{a for a in launch.args if a >= 4096} for launch in fake.launched[1::3]]
    assert workspaces[0] == workspaces[2] != workspaces[1]
    assert not thorough


def test_what_a_quick_forward_saves_is_what_a_thorough_backward_reads(
    fake: Device, thorough: list[str]
) -> None:
    norm, arrays = ready(fresh(lnc.layer_norm), x(), x(64), x(64)), (x(), x(64), x(64))
    thorough.clear()
    fake.allocated.clear()
    y, ctx = norm.forward(*arrays)
    assert len(fake.allocated) == 1
    norm.backward(x(3, 128)[:, ::2], ctx)
    assert thorough == ["backward"]
    forward, backward = fake.launched[-3], fake.launched[-2]
    saved = [array.data.ptr for array in ctx.saved]
    assert [array.shape for array in ctx.saved] == [(3,)] * len(saved)
    assert list(forward.args[4 : 4 + len(saved)]) == saved
    assert set(saved) <= set(backward.args)
    assert repr(ctx).startswith("<context of layer_norm")
    # In the quick way too.
    norm.backward(y, ctx)
    assert set(saved) <= set(fake.launched[-2].args)


UNUSUAL: dict[str, Callable[[Any], dict[str, Any]]] = {
    "apart in memory": lambda a: {"x": x(3, 128)[:, ::2]},
    "at an odd address": lambda a: {"x": x(3 * 64 + 1)[1:].reshape(3, 64)},
    "out at an odd address": lambda a: {"out": x(3 * 64 + 1)[1:].reshape(3, 64)},
    "another number of rows": lambda a: {"x": x(5, 64), "out": x(5, 64)},
    "more dimensions": lambda a: {"x": x(2, 3, 64), "out": x(2, 3, 64)},
    "the input itself": lambda a: {"out": a["x"]},
    "out where the weight is": lambda a: {"x": x(64), "weight": (w := x(64)), "out": w},
    "another device": lambda a: {n: x(*v.shape, number=1) for n, v in a.items()},
    "no rows": lambda a: {"x": x(0, 64), "out": x(0, 64)},
}


@pytest.mark.parametrize("what", UNUSUAL)
def test_unusual_arrays_work_as_before(fake: Device, what: str) -> None:
    usual = {"x": x(), "weight": x(64), "bias": x(64), "out": x()}
    norm = fresh(lnc.layer_norm)
    for _ in range(2):
        norm(*list(usual.values())[:3], out=usual["out"])
    given = usual | UNUSUAL[what](usual)
    *arguments, out = given.values()
    fake.launched.clear()
    for call in (norm, fresh(lnc.layer_norm)):
        assert call(*arguments, out=out) is out
        made, ctx = call.forward(*arguments, out=out)
        assert made is out
        call.backward(x(*out.shape, number=out.device.id), ctx)
    half = len(fake.launched) // 2
    assert of(fake.launched[:half]) == of(fake.launched[half:])
    assert fake.current == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"weight": np.ones(64, np.float32)}, "weight: expected an array on the device"),
        ({"x": np.ones(SHAPE, np.float32)}, "x: expected an array on the device"),
        ({"bias": x(63)}, "bias"),
        ({"bias": x(1, 64)}, "bias"),
        ({"out": x(2, 64)}, r"out: expected shape \(3, 64\)"),
        ({"out": x(dtype=np.float16)}, "out: expected dtype float32"),
        ({"out": np.ones(SHAPE, np.float32)}, "out: expected a CuPy array"),
        ({"out": (x(),)}, "out: expected a CuPy array"),
        ({"out": x(number=1)}, "out: expected an array on device 0"),
        ({"weight": x(64, number=1)}, "weight: expected an array on device 0"),
    ],
)
def test_what_does_not_fit_is_refused_after_quick_calls(
    fake: Device, change: dict[str, Any], said: str
) -> None:
    usual = {"x": x(), "weight": x(64), "bias": x(64), "out": x()}
    norm = fresh(lnc.layer_norm)
    for _ in range(2):
        norm(*list(usual.values())[:3], out=usual["out"])
    *arguments, out = (usual | change).values()
    fake.launched.clear()
    for call in (norm, norm.forward):
        with pytest.raises(lnc.LncError, match=said):
            call(*arguments, out=out)
    assert not fake.launched


def test_partial_overlaps_are_refused_after_quick_calls(fake: Device) -> None:
    norm, weight, bias = ready(fresh(lnc.layer_norm), x(), x(64), x(64)), x(64), x(64)
    memory = x(4 * 64)
    given = memory[:192].reshape(3, 64)
    with pytest.raises(lnc.LncError, match="overlaps x partly"):
        norm(given, weight, bias, out=memory[64:].reshape(3, 64))
    y, ctx = norm.forward(given, weight, bias)
    g = norm.backward(y, ctx)
    with pytest.raises(lnc.LncError, match="overlaps"):
        norm.backward(y, ctx, out=g._replace(bias=g.weight))
    with pytest.raises(lnc.LncError, match="expected shape"):
        norm.backward(y, ctx, out=g._replace(x=x(2, 64)))
    with pytest.raises(lnc.LncError, match="dy: expected shape"):
        norm.backward(x(2, 64), ctx)


def test_the_backward_reads_what_a_forward_in_place_was_given(fake: Device, thorough: list[str]) -> None:
    norm, given = ready(fresh(lnc.rms_norm), x(), x(64)), x()
    thorough.clear()
    _, ctx = norm.forward(given, x(64), out=given)
    assert thorough == ["_computed"]
    assert ctx.inputs[0] is not given


def test_arguments_that_are_left_out(fake: Device, thorough: list[str]) -> None:
    norm = ready(fresh(lnc.layer_norm), x())
    thorough.clear()
    y, ctx = norm.forward(x())
    g = norm.backward(y, ctx)
    assert g.weight is g.bias is None
    assert norm.backward(y, ctx, out=g) is g
    assert not thorough
    with pytest.raises(lnc.LncError, match=r"out\.bias: expected None"):
        norm.backward(y, ctx, out=g._replace(bias=x(64)))
    # With a weight it is another kernel.
    thorough.clear()
    assert norm(x(), x(64)).shape == SHAPE
    assert thorough == ["_computed"]


def test_several_outputs(fake: Device, thorough: list[str]) -> None:
    norm, arrays = fresh(lnc.add_rms_norm), (x(), x(), x(64))
    ready(norm, *arrays)
    thorough.clear()
    y, total = norm(*arrays)
    assert norm(*arrays, out=(y, total)) == (y, total)
    _, ctx = norm.forward(*arrays)
    norm.backward((y, total), ctx)
    assert not thorough
    norm.backward((y, None), ctx)
    assert thorough == ["backward"]
    with pytest.raises(lnc.LncError, match="out: expected a tuple of 2 arrays"):
        norm(*arrays, out=y)
    with pytest.raises(lnc.LncError, match="overlaps"):
        norm(*arrays, out=(y, y))


def test_every_thread_gets_a_context(fake: Device) -> None:
    """The fake refuses a launch from a thread without one."""
    norm, arrays, out = ready(fresh(lnc.layer_norm), x(), x(64), x(64)), (x(), x(64), x(64)), x()
    y, ctx = norm.forward(*arrays)
    failed: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(3):
                norm(*arrays, out=out)
                norm.backward(y, ctx)
        except BaseException as error:
            failed.append(error)

    for _ in range(2):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert not failed


def test_lengths_that_vary_keep_bounded_memory(fake: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_SHAPES", "_POINTERS", "_STREAMS"):
        monkeypatch.setattr(device_runner, name, 3)
    norm, weight = fresh(lnc.rms_norm), x(64)
    for rows in range(1, 40):
        fake.stream = rows % 2
        y, ctx = norm.forward(x(rows, 64), weight)
        norm.backward(y, ctx, out=norm.backward(y, ctx))
    kernel = norm.lnc_dispatcher.kernel
    for runner in (kernel._forward, kernel._backward):
        assert max(len(runner._ready), len(runner.thread.known)) <= 3
        assert all(len(ready.apart | ready.in_place) <= 6 for ready in runner._ready.values())
    # Powers of two, for two streams.
    kept = [key[0] for key in kernel._backward._kept]
    assert len(kept) == 2 * len(set(kept))
    assert len(set(kept)) <= 6


def test_threads_default_streams_have_their_own_workspaces(fake: Device) -> None:
    fake.stream = 2
    norm, given = fresh(lnc.rms_norm), x()
    y, ctx = norm.forward(given, x(64))
    g = norm.backward(y, ctx)

    def work() -> None:
        for _ in range(3):
            norm.backward(y, ctx, out=g)

    fake.allocated.clear()
    work()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(fake.allocated) == 2


@pytest.mark.parametrize("devices", [1, 4])
def test_cupys_own_arrays_are_read(devices: int) -> None:
    """Of CuPy itself, over memory of NumPy's: nothing asks for a device."""
    cupy = pytest.importorskip("cupy")
    memory = np.zeros(4096, np.uint8)
    start = memory.ctypes.data + -memory.ctypes.data % 256

    def array(shape: tuple[int, ...], dtype: Any = np.float32, offset: int = 0, number: int = 3) -> Any:
        there = cupy.cuda.UnownedMemory(start, 2048, memory, number)
        return cupy.ndarray(shape, dtype, cupy.cuda.MemoryPointer(there, offset))

    used = CuPy(cupy.ndarray, cupy.empty, cupy.cuda.alloc, lambda: 3, lambda number: None, devices)
    buffers = (
        Buffer("x", "input", "float32", ("n", 8)),
        Buffer("dx", "gradient", "float32", ("n", 8)),
        Buffer("dw", "gradient", "float32", (8,)),
    )
    runner: Any = SimpleNamespace(buffers=buffers)
    read = reader(runner, "gradient", used)
    found: Any = SimpleNamespace(shapes=((4, 8), (4, 8), (8,)), key=((4, 8), 3))
    dx, dw = array((4, 8)), array((8,), offset=512)
    assert read(found, dx, dw) == (start, start + 512)
    for unfit in (
        np.zeros((4, 8), np.float32),
        array((4, 8), np.float16),
        array((8, 4)),
        array((8, 4)).T,
        array((4, 8), offset=4),
        None,
        *([array((4, 8), number=0)] if devices > 1 else []),
    ):
        assert read(found, unfit, dw) is None
    assert read(found, dx, array((1, 8), offset=512)) is None
    assert read(found, dx, array((4,), offset=512)) is None
