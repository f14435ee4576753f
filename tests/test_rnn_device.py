"""The recurrent cells on a device: all that is computed is CuPy's, and what NumPy computes from the same.

CuPy's arrays are stood in for by ones that refuse NumPy's, and the kernels, which ``tests/ptx`` checks, by
those for the CPU.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

import lncompile as lnc
from lncompile.rnn import LNGRU, LNLSTM, LNRNN

CELLS = [LNRNN, LNLSTM, LNGRU]


class Device:
    """How often it was made the current one, and whether it is."""

    current = 0

    def __enter__(self) -> None:
        self.current += 1

    def __exit__(self, *_: object) -> None:
        self.current -= 1


DEVICE = Device()


def bare(value: Any) -> Any:
    """The memory of an array on the device; numbers are themselves."""
    assert isinstance(value, OnDevice | int | float), f"{type(value).__name__} among arrays of a device"
    return value.array if isinstance(value, OnDevice) else value


def computed(operation: Callable[[Any, Any], Any], *, swapped: bool = False) -> Callable[[Any, Any], Any]:
    """An operator of arrays on the device."""

    def compute(self: OnDevice, other: Any) -> OnDevice:
        assert DEVICE.current, "computed while another device is current"
        left, right = (other, self) if swapped else (self, other)
        return OnDevice(operation(bare(left), bare(right)))

    return compute


class OnDevice:
    """An array of NumPy's behind the part of CuPy's interface that cells use."""

    __array_ufunc__ = None
    __cuda_array_interface__: ClassVar[dict[str, Any]] = {}
    device = SimpleNamespace(id=0)

    def __init__(self, array: Any) -> None:
        assert isinstance(array, np.ndarray)
        self.array = array

    __add__, __radd__ = computed(operator.add), computed(operator.add, swapped=True)
    __iadd__ = computed(operator.iadd)
    __matmul__ = computed(operator.matmul)

    def __getattr__(self, name: str) -> Any:
        if name in ("shape", "dtype", "ndim", "size"):
            return getattr(self.array, name)
        if name in ("reshape", "astype", "copy"):
            return lambda *args: OnDevice(getattr(self.array, name)(*args))
        if name == "T":
            return OnDevice(self.array.T)
        raise AttributeError(name)

    def __getitem__(self, index: Any) -> OnDevice:
        return OnDevice(np.asarray(self.array[index]))

    def __setitem__(self, index: Any, value: Any) -> None:
        self.array[index] = bare(value)


class Step:
    """A step's kernels, from arrays on the device to others."""

    def __init__(self, norm: Any) -> None:
        self.norm = norm

    def forward(self, *arrays: OnDevice) -> Any:
        made, ctx = self.norm.forward(*map(bare, arrays))
        return (tuple(map(OnDevice, made)) if isinstance(made, tuple) else OnDevice(made)), ctx

    def backward(self, dy: Any, ctx: Any) -> list[OnDevice]:
        given = tuple(map(bare, dy)) if isinstance(dy, tuple) else bare(dy)
        return [OnDevice(gradient) for gradient in self.norm.backward(given, ctx)]


@pytest.fixture(autouse=True)
def cupy(monkeypatch: pytest.MonkeyPatch) -> Any:
    module: Any = ModuleType("cupy")
    module.ndarray = OnDevice
    module.empty = lambda shape, dtype: OnDevice(np.full(shape, np.nan, dtype))
    module.zeros = lambda shape, dtype=np.float64: OnDevice(np.zeros(shape, dtype))
    module.empty_like = lambda other: OnDevice(np.full_like(other.array, np.nan))
    module.cuda = SimpleNamespace(Device={0: DEVICE}.__getitem__)
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


def both(kind: Any) -> SimpleNamespace:
    """A cell on the CPU, the same on the device, and inputs."""
    cpu, gpu = kind(3, 4, dtype="float64"), kind(3, 4, dtype="float64")
    gpu.structure = replace(kind.structure, step=Step(kind.structure.step))
    gpu.params = {name: OnDevice(array) for name, array in gpu.params.items()}
    rng = np.random.default_rng(0)
    xs, dhs = rng.normal(size=(5, 2, 3)), rng.normal(size=(5, 2, 4))
    states = [rng.normal(size=(2, 4)) for _ in kind.structure.states]
    return SimpleNamespace(cpu=cpu, gpu=gpu, xs=xs, dhs=dhs, states=states)


def given(states: list[Any]) -> Any:
    return states[0] if len(states) == 1 else tuple(states)


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("with_state", [False, True])
def test_what_numpy_computes_is_computed_on_the_device(kind: Any, with_state: bool) -> None:
    it = both(kind)
    state = it.states if with_state else None
    hs, ctx = it.cpu.forward(it.xs, state and given(state))
    on_device, kept = it.gpu.forward(OnDevice(it.xs), state and given([OnDevice(s) for s in state]))
    assert np.array_equal(on_device.array, hs)
    last, expected = (s if isinstance(s, tuple) else (s,) for s in (kept.state, ctx.state))
    assert all(np.array_equal(a.array, b) for a, b in zip(last, expected, strict=True))
    grads, dxs = it.cpu.backward(it.dhs, ctx)
    grads_there, dxs_there = it.gpu.backward(OnDevice(it.dhs), kept)
    assert np.array_equal(dxs_there.array, dxs)
    assert grads_there.keys() == grads.keys()
    assert all(np.array_equal(grads_there[name].array, grads[name]) for name in grads)
    assert DEVICE.current == 0


def test_arrays_of_one_library_only() -> None:
    it = both(LNLSTM)
    xs, h, c = OnDevice(it.xs), *it.states
    _, ctx = it.gpu.forward(xs)
    for message, call in {
        r"params\['Wx'\]: expected an array of NumPy, like xs": lambda: it.gpu.forward(it.xs),
        r"params\['Wx'\]: expected an array of CuPy, like xs": lambda: it.cpu.forward(xs),
        "state, its h: expected an array of CuPy, like xs": lambda: it.gpu.forward(xs, (h, c)),
        "dhs: expected an array of CuPy, like xs": lambda: it.gpu.backward(it.dhs, ctx),
        "xs: expected an array of NumPy or CuPy; got list": lambda: it.gpu.forward([1.0]),
    }.items():
        with pytest.raises(lnc.LncError, match=message):
            call()
