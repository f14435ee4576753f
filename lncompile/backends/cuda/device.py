"""The driver's side: devices, code that is loaded on them, launches on CuPy's current stream."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any, NamedTuple

from lncompile.backends.cuda.plan import Grid
from lncompile.errors import LncValueError


class DeviceInfo(NamedTuple):
    """A device: its number, compute capability, and how many multiprocessors it has."""

    number: int
    capability: tuple[int, int]
    multiprocessors: int


def cupy() -> Any:
    """CuPy.

    Raises:
        LncValueError: it is not installed.
    """
    try:
        import cupy as module
    except ImportError as error:
        raise LncValueError(
            f"target: arrays on a device need CuPy, of the extra cuda12 or cuda13: {error}"
        ) from error
    return module


class CuPy(NamedTuple):
    """What every call needs of CuPy: looking all of it up takes as long as a launch.

    ``current_device`` gives a device's number, ``current_stream`` takes one; there are so many ``devices``.
    """

    array: type
    empty: Callable[..., Any]
    alloc: Callable[[int], Any]
    current_device: Callable[[], int]
    current_stream: Callable[[int], Any]
    devices: int


@cache
def used_of_cupy() -> CuPy:
    """That part of CuPy; ``LncError`` where it is not installed."""
    module = cupy()
    cuda, runtime = module.cuda, module.cuda.runtime
    return CuPy(
        module.ndarray,
        module.empty,
        cuda.alloc,
        runtime.getDevice,
        cuda.get_current_stream,
        runtime.getDeviceCount(),
    )


def current() -> DeviceInfo:
    """CuPy's current device.

    Raises:
        LncValueError: there is no device, or no CuPy.
    """
    module = cupy()
    if not module.cuda.is_available():
        raise LncValueError("target: 'cuda' is the current device; there is none, so name one, as cuda:sm_90")
    return info(module.cuda.Device().id)


@cache
def info(number: int) -> DeviceInfo:
    """The device of this number."""
    device = cupy().cuda.Device(number)
    capability = str(device.compute_capability)
    split = int(capability[:-1]), int(capability[-1])
    return DeviceInfo(number, split, device.attributes["MultiProcessorCount"])


class Function(NamedTuple):
    """A kernel that is loaded on a device."""

    kernel: Any
    launch: Any
    config: Any


def enter(number: int) -> None:
    """Give the thread a context on a device: one that has not used it so far has none, and cannot launch."""
    from cuda.core import Device

    Device(number).set_current()


def load(number: int, cubin: bytes, grid: Grid) -> Function:
    """The function that a grid launches, out of a cubin, on a device that the thread has a context on."""
    from cuda.core import LaunchConfig, launch

    sizes: dict[str, int] = {"grid": grid.blocks, "block": grid.threads, "shmem_size": grid.shared}
    if grid.cluster > 1:
        # With clusters, cuda.core's grid is a number of those.
        sizes |= {"grid": grid.blocks // grid.cluster, "cluster": grid.cluster}
    config = LaunchConfig(**sizes)
    kernel = _kernel(number, cubin, grid.entry)
    if grid.shared:
        # Without being asked a driver gives 48 KiB less what the kernel has statically.
        _allow_shared(kernel, number, grid.shared)
    return Function(kernel, launch, config)


def _allow_shared(kernel: Any, number: int, size: int) -> None:
    from cuda.bindings import driver

    attribute = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
    (status,) = driver.cuKernelSetAttribute(attribute, size, kernel.handle, number)
    if status != driver.CUresult.CUDA_SUCCESS:
        raise LncValueError(f"target: device {number} refuses {size} bytes of shared memory: {status}")


@cache
def _kernel(number: int, cubin: bytes, entry: str) -> Any:
    from cuda.core import ObjectCode

    return ObjectCode.from_cubin(cubin).get_kernel(entry)


@lru_cache(maxsize=1024)
def stream_of(number: int, pointer: int) -> Any:
    """A device's stream that CuPy calls by this pointer, as launches take it."""
    from cuda.core import Stream

    return Stream.from_handle(pointer)
