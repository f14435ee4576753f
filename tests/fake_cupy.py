"""CuPy and cuda.core as far as calls use them, on NumPy's memory: launches are noted, nothing runs."""

from __future__ import annotations

import contextlib
import math
import operator
import sys
import threading
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lncompile.backends.cuda import device as driver


def _computed(function: Callable[..., Any]) -> Callable[..., Array]:
    """What is computed from an array's elements, which CuPy does while its device is the current one."""

    def compute(self: Array, *others: Any) -> Array:
        assert self.driver is not None
        assert self.driver.current == self.device.id, "computed while another device is current"
        made = function(self.array, *(other.array if isinstance(other, Array) else other for other in others))
        return self if made is self.array else on_device(made, self.device.id)

    return compute


class Array:
    """An array that says it is on a device, over one of NumPy's."""

    #: What tells the device that is current.
    driver: Device | None = None

    def __init__(self, array: Any, device: Any, memory: Memory | None = None) -> None:
        if memory is not None:
            # As CuPy makes one: of a shape, a dtype and where it lies.
            shape, dtype = array, np.dtype(device)
            size = math.prod(shape) * dtype.itemsize
            assert memory.start + size <= memory.array.nbytes
            part = memory.array.array[memory.start : memory.start + size]
            array, device = part.view(dtype).reshape(shape), memory.array.device.id
        self.array = array
        self.device = SimpleNamespace(id=device)

    def __getattr__(self, name: str) -> Any:
        if name in ("shape", "dtype", "strides", "size", "ndim", "nbytes", "flags"):
            return getattr(self.array, name)
        raise AttributeError(name)

    @property
    def data(self) -> Any:
        return SimpleNamespace(ptr=self.array.ctypes.data, device_id=self.device.id)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return dict(self.array.__array_interface__)

    def __getitem__(self, index: Any) -> Array:
        return Array(self.array[index], self.device.id)

    def __setitem__(self, index: Any, value: Array) -> None:
        self.array[index] = value.array

    def reshape(self, *shape: int) -> Array:
        return Array(self.array.reshape(*shape), self.device.id)

    def copy(self, order: str = "C") -> Array:
        return on_device(self.array, self.device.id)

    def set(self, array: Any) -> None:
        assert isinstance(array, np.ndarray)
        assert (array.shape, array.dtype) == (self.shape, self.dtype)
        self.array[...] = array

    def fill(self, value: float) -> None:
        self.array.fill(value)

    def transpose(self, *axes: int) -> Array:
        return Array(self.array.transpose(*axes), self.device.id)

    def view(self, dtype: Any) -> Array:
        return Array(self.array.view(dtype), self.device.id)

    astype, mean, __abs__ = map(_computed, (np.ndarray.astype, np.ndarray.mean, operator.abs))
    __add__, __mul__, __rmul__ = map(_computed, (operator.add, operator.mul, operator.mul))
    __lt__, __gt__, __or__ = map(_computed, (operator.lt, operator.gt, operator.or_))
    __isub__, __ior__ = map(_computed, (operator.isub, operator.ior))


class Memory:
    """A place in memory of a device."""

    def __init__(self, array: Array, start: int = 0) -> None:
        self.array = array
        self.start = start
        self.ptr = array.data.ptr + start

    def __add__(self, offset: int) -> Memory:
        return Memory(self.array, self.start + offset)


def on_device(array: Any, device: int = 0) -> Array:
    """A copy of an array of NumPy's on a device, aligned as a device's allocations are."""
    array = np.asarray(array)
    room = np.zeros(array.nbytes + 256, np.uint8)
    start = -room.ctypes.data % 256
    made = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    made[...] = array
    return Array(made, device)


class Entry(str):
    """The name of a kernel that was loaded, and the code that it was loaded from."""

    cubin: bytes


def _entry(name: str, cubin: bytes) -> Entry:
    entry = Entry(name)
    entry.cubin = cubin
    return entry


class Device:
    """Records what it was asked, in place of a driver.

    Attributes:
        capability: what all devices say of themselves, as CuPy writes it.
        launched: entry, stream, grid and arguments of each launch so far.
        allocated: the sizes of memories for workspaces, and for what forwards save, so far.
        current: the number of the device that is current.
        stream: the pointer of the current stream.
        made: the shapes of new arrays so far.
        count: how many devices there are.
        entered: threads that have a context, with the device's number.
        waits: how often somebody waited for all that was launched.
    """

    def __init__(self) -> None:
        self.capability = "90"
        self.launched: list[SimpleNamespace] = []
        self.allocated: list[int] = []
        self.current = 0
        self.stream = 7
        self.memories: list[Any] = []
        self.count = 3
        self.made: list[tuple[int, ...]] = []
        self.entered: set[tuple[int, int]] = set()
        self.waits = 0


@contextlib.contextmanager
def installed(patch: pytest.MonkeyPatch) -> Iterator[Device]:
    """The fakes in place of the packages."""
    device = Device()

    class Using:
        def __init__(self, number: int | None = None) -> None:
            self.compute_capability = device.capability
            self.attributes = {"MultiProcessorCount": 4}
            self.id = device.current if number is None else number

        def __enter__(self) -> None:
            self.before, device.current = device.current, self.id

        def __exit__(self, *_: object) -> None:
            device.current = self.before

        def synchronize(self) -> None:
            device.waits += 1

    def alloc(size: int) -> Memory:
        memory = on_device(np.zeros(size, np.uint8), device.current)
        device.allocated.append(size)
        device.memories.append(memory)
        return Memory(memory)

    def empty(shape: tuple[int, ...], dtype: Any) -> Array:
        device.made.append(shape)
        return on_device(np.full(shape, 0, dtype), device.current)

    def enter(number: int) -> None:
        device.entered.add((threading.get_ident(), number))

    def launch(stream: Any, config: Any, kernel: Entry, *args: int) -> None:
        assert (threading.get_ident(), device.current) in device.entered, "the thread has no context"
        device.launched.append(
            SimpleNamespace(entry=kernel, stream=stream, device=device.current, args=args, **vars(config))
        )

    cupy: Any = ModuleType("cupy")
    cupy.ndarray = Array
    cupy.empty = empty
    cupy.asarray = lambda value: on_device(value)
    cupy.asnumpy = lambda array: array.array.copy()
    cupy.cuda = SimpleNamespace(
        is_available=lambda: True,
        Device=Using,
        alloc=alloc,
        get_current_stream=lambda number: SimpleNamespace(ptr=device.stream),
        runtime=SimpleNamespace(getDevice=lambda: device.current, getDeviceCount=lambda: device.count),
    )
    core: Any = ModuleType("cuda.core")
    core.Device = lambda number: SimpleNamespace(set_current=lambda: enter(number))
    core.Stream = SimpleNamespace(from_handle=lambda pointer: pointer)
    core.LaunchConfig = lambda **sizes: SimpleNamespace(**sizes)
    core.launch = launch
    core.ObjectCode = SimpleNamespace(
        from_cubin=lambda cubin: SimpleNamespace(get_kernel=lambda entry: _entry(entry, cubin))
    )
    patch.setattr(Array, "driver", device)
    patch.setitem(sys.modules, "cupy", cupy)
    patch.setitem(sys.modules, "cuda.core", core)
    # What is known of devices is that of these from here on.
    caches = (driver.info, driver._kernel, driver.stream_of, driver.used_of_cupy)
    for cached in caches:
        cached.cache_clear()
    yield device
    for cached in caches:
        cached.cache_clear()
