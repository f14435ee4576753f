"""``functional``'s norms of channels on arrays of a device: launches, checks, running statistics."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cuda_kernels import standing_in
from fake_cupy import Device, installed, on_device
from helpers import fresh

import lncompile as lnc
from lncompile import channels, functional, norms
from lncompile.channels import Running
from lncompile.dtypes import TABLE

RNG = np.random.default_rng(0)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Device]:
    """Fakes of CuPy and of the compiler, and norms that have no kernels yet and leave none behind."""
    monkeypatch.setenv("LNCOMPILE_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("batch_norm", "batch_norm_inference", "group_norm", "instance_norm"):
        monkeypatch.setattr(norms, name, fresh(getattr(norms, name)))
    monkeypatch.setattr(channels, "_moments", fresh(channels._moments))
    with standing_in(), pytest.MonkeyPatch.context() as patch, installed(patch) as fake:
        yield fake


def x(*shape: int, dtype: Any = np.float32, number: int = 0) -> Any:
    return on_device(RNG.standard_normal(shape).astype(dtype), number)


def test_norms_launch_on_the_arrays_device(device: Device) -> None:
    given, weight, bias = x(2, 6, 5, number=1), x(6, number=1), x(6, number=1)
    out = x(2, 6, 5, number=1)
    results = [
        functional.group_norm(given, 3, weight, bias),
        functional.instance_norm(given, weight=weight, out=out),
        functional.batch_norm(given, None, None, weight, bias, True, out=out),
        functional.batch_norm(given, weight, bias),
    ]
    assert [made.device.id for made in results] == [1] * 4
    assert [made.shape for made in results] == [(2, 6, 5)] * 4
    assert results[1] is results[2] is out
    norms_run = [launched.entry.removeprefix("lnc_").split("_forward")[0] for launched in device.launched]
    assert list(dict.fromkeys(norms_run)) == [
        "group_norm",
        "instance_norm",
        "batch_norm",
        "batch_norm_inference",
    ]
    assert {launched.device for launched in device.launched} == {1}
    assert device.current == 0


def test_channels_that_are_innermost(device: Device) -> None:
    given = x(2, 4, 5, 6).transpose(0, 3, 1, 2)
    made = functional.group_norm(given, 2)
    assert made.shape == given.shape
    assert made.strides == given.strides
    # Read as it lies: nothing was copied.
    assert given.data.ptr in device.launched[-1].args


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_running_statistics_move_as_on_the_cpu(device: Device, dtype: str) -> None:
    numpy = TABLE[dtype].numpy
    running = [RNG.standard_normal(6).astype(numpy) for _ in range(2)]
    there = [on_device(array, 1) for array in running]
    mean, var = RNG.standard_normal((2, 3, 6)).astype(np.float32)
    Running(*running, running[0], (6,), 0.3, None).update(mean, var, 10)
    Running(*there, there[0], (6,), 0.3, None).update(on_device(mean, 1), on_device(var, 1), 10)
    for here, array in zip(running, there, strict=True):
        assert here.tobytes() == array.array.tobytes()


def test_running_statistics_are_updated_by_what_the_kernel_found(device: Device) -> None:
    mean, var = x(6, dtype=np.float64), x(6)
    before = mean.array.copy()
    functional.batch_norm(x(2, 6, 5, dtype=np.float16), mean, var, training=True, momentum=0.25)
    # The fake's results are zeros.
    assert (mean.array == 0.75 * before).all()
    entries = [launched.entry for launched in device.launched]
    assert "lnc__moments_forward" in entries
    functional.instance_norm(x(2, 6, 5), mean, var, momentum=0.25)
    assert (mean.array == 0.75 * (0.75 * before)).all()


@pytest.mark.parametrize("shape", [(0, 6, 5), (4, 6, 0), (4, 0, 5), (0, 6)], ids=str)
def test_empty_inputs_are_as_on_the_cpu(device: Device, shape: tuple[int, ...]) -> None:
    mean, var, weight = x(shape[1]), x(shape[1]), x(shape[1])
    before = mean.array.copy(), var.array.copy()
    given, out = x(*shape), x(*shape)
    for training in (False, True):
        assert functional.batch_norm(given, mean, var, weight, training=training).shape == shape
        assert functional.batch_norm(given, mean, var, weight, training=training, out=out) is out
    assert functional.group_norm(given, 2).shape == shape
    assert functional.layer_norm(given, shape[-1:]).shape == shape
    assert np.array_equal(mean.array, before[0])
    assert np.array_equal(var.array, before[1])


@pytest.mark.parametrize("number", [0, 1])
def test_gradients_of_no_features(device: Device, number: int) -> None:
    shape, norm = (0, 6, 5), norms.batch_norm
    given, weight = np.ones(shape, np.float32), np.ones(6, np.float32)
    y, ctx = norm.forward(given, weight)
    there, kept = norm.forward(on_device(given, number), on_device(weight, number))
    assert [array.device.id for array in there] == [number] * 3
    for made, expected in zip(there, y, strict=True):
        np.testing.assert_array_equal(made.array, expected)
    gradients = norm.backward(there, kept)
    for made, expected in zip(gradients[:2], norm.backward(y, ctx)[:2], strict=True):
        np.testing.assert_array_equal(made.array, expected)
    assert norm.backward(there, kept, out=gradients) is gradients
    assert not device.launched
    kernel: Any = lnc.compile(norm, shape=shape, dtype="float32", target="cuda:sm_90")
    assert kernel.launches == ()
    assert set(kernel.stages) == {"ir", "grad"}


def test_what_does_not_fit_is_refused(device: Device) -> None:
    given, six = x(2, 6, 5), x(6)
    for call, said in (
        (
            lambda: functional.batch_norm(given, np.ones(6), six),
            "running_mean: expected an array on the device",
        ),
        (lambda: functional.batch_norm(np.ones((2, 6, 5)), six, six), "running_mean: expected a NumPy array"),
        (lambda: functional.group_norm(given, 3, np.ones(6)), "weight: expected an array on the device"),
        (
            lambda: functional.batch_norm(given, x(6, number=1), six, training=True),
            "running_mean: expected an array on device 0, like input; got one on device 1",
        ),
        (
            lambda: functional.batch_norm(given, x(5), six, training=True),
            r"running_mean: expected shape \(6,\), one number for each channel of input; got \(5,\)",
        ),
        (
            lambda: functional.batch_norm(given, six, six, training=True),
            "running_var: expected memory of its own; got an array that overlaps running_mean",
        ),
        (
            lambda: functional.batch_norm(given, x(6), x(6), training=True, out=np.ones((2, 6, 5))),
            "out: expected a CuPy array to write to",
        ),
        (lambda: functional.group_norm(x(2, 6, 5), 4), "num_groups: expected a divisor of the 6 channels"),
    ):
        with pytest.raises(lnc.LncError, match=said):
            call()
    assert not device.launched
