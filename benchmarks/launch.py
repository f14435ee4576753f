"""Host time of calls on a device's arrays: our own, with a launch that does nothing in cuda.core's place.

    python benchmarks/launch.py [--rounds 15] [--calls 2000] [--devices 1]

Where there is no device, arrays are CuPy's own over addresses that nobody reads, the first of ``--devices``.
The current device, the current stream and new memory are then stood in for, so what makes arrays has the
stand-in's time in place of that of CuPy's pool. µs a call, the median over rounds with the least and the
largest; all ways to call take turns.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np

import lncompile as lnc
from lncompile.backends.cuda import device

SHAPE = (4096, 1024)
#: Addresses that arrays are given where there is no device: as far apart as the largest array is long.
_APART = 64 << 20


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--devices", type=int, default=1)
    options = parser.parse_args()
    kernel = lnc.compile(lnc.layer_norm, shape=SHAPE, target="cuda:sm_90")
    count = {
        phase: sum(launch.phase == phase for launch in kernel.launches)  # type: ignore[attr-defined]
        for phase in ("forward", "backward")
    }
    with _nothing_launched(options.devices):
        ways = _ways(kernel)
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(options.rounds):
            for name, call in ways.items():
                times[name].append(_seconds(call, options.calls) * 1e6)
    print(f"layer_norm {SHAPE[0]}x{SHAPE[1]}, launches: {count}; µs a call, median (least .. largest)")
    for name, found in times.items():
        print(f"{name:<32}{statistics.median(found):6.2f} ({min(found):.2f} .. {max(found):.2f})")


def _ways(kernel: Any) -> dict[str, Callable[[], object]]:
    """What is timed, by name."""
    import cupy

    def new(*shape: int) -> Any:
        return cupy.empty(shape, np.float32)

    x, dy, out, weight, bias = new(*SHAPE), new(*SHAPE), new(*SHAPE), new(SHAPE[1]), new(SHAPE[1])
    _, ctx = kernel.forward(x, weight, bias)
    gradients = kernel.backward(dy, ctx)
    return {
        "call, out=": lambda: kernel(x, weight, bias, out=out),
        "call": lambda: kernel(x, weight, bias),
        "forward, out=": lambda: kernel.forward(x, weight, bias, out=out),
        "forward": lambda: kernel.forward(x, weight, bias),
        "backward, out=": lambda: kernel.backward(dy, ctx, out=gradients),
        "backward": lambda: kernel.backward(dy, ctx),
        "a launch that does nothing": lambda: _launch(None, None, None, 1, 2, 3, 4, 5, 6, 7),
        "reading one array's attributes": lambda: (x.shape, x.strides, x.dtype, x.data.ptr),
    }


def _seconds(call: Callable[[], object], count: int) -> float:
    begin = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - begin) / count


def _launch(stream: object, config: object, kernel: object, *arguments: int) -> None:
    """Takes what cuda.core's launch takes."""


@contextmanager
def _nothing_launched(devices: int) -> Iterator[None]:
    """Kernels whose launches do nothing, on the device or, where there is none, on a stand-in."""
    import cupy

    with ExitStack() as stack:
        stack.enter_context(patch.object(device, "load", _load))
        if not cupy.cuda.is_available():
            _stand_in(stack, cupy, devices)
        yield


def _load(*_: object) -> device.Function:
    return device.Function(None, _launch, None)


def _stand_in(stack: ExitStack, cupy: Any, devices: int) -> None:
    """Stand-ins for what asks the driver."""
    stream = SimpleNamespace(ptr=0)
    free = iter(range(_APART, 1 << 62, _APART))
    array = cupy.ndarray
    start = _memory(cupy, next(free))

    class Device:
        id, compute_capability, attributes = 0, "90", {"MultiProcessorCount": 132}

        def __init__(self, number: int = 0) -> None:
            pass

        def __enter__(self) -> None:
            pass

        def __exit__(self, *_: object) -> None:
            pass

    def empty(shape: tuple[int, ...], dtype: Any) -> Any:
        return array(shape, dtype, _memory(cupy, next(free)))

    for module, name, value in (
        (cupy, "empty", empty),
        (cupy.cuda, "Device", Device),
        (cupy.cuda, "get_current_stream", lambda number=-1: stream),
        (cupy.cuda.runtime, "getDevice", lambda: 0),
        (cupy.cuda.runtime, "getDeviceCount", lambda: devices),
        (cupy.cuda, "alloc", lambda size: start),
        (device, "enter", lambda number: None),
        (device, "stream_of", lambda number, pointer: stream),
    ):
        stack.enter_context(patch.object(module, name, value))


def _memory(cupy: Any, address: int) -> Any:
    return cupy.cuda.MemoryPointer(cupy.cuda.UnownedMemory(address, _APART, None, 0), 0)


if __name__ == "__main__":
    main()
