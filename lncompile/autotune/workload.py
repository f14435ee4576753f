"""What a kernel is measured with: arrays in use as a program uses them, and whether results are the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle, islice
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from lncompile.backends.cuda import device
from lncompile.buffers import shape_of, with_role
from lncompile.dtypes import TABLE
from lncompile.errors import CompilerBug
from lncompile.interface import Buffer
from lncompile.kernel import Context

if TYPE_CHECKING:
    from lncompile.device_kernel import AnyKernel

Array = np.ndarray[Any, np.dtype[Any]]

#: Arrays of so many bytes are gone through before the first come again: more than the L2 caches and one
#: program's part of a shared L3. A network, too, comes back to an array after all others.
_ROTATED_BYTES = 128 << 20
_MOST_SETS = 64
#: A sample takes at least this long: a clock reads to 0.1 µs, an interrupt takes some.
_SAMPLE_SECONDS = 1e-3
_SAMPLES = 3


class Memory(Protocol):
    """Where arrays of calls lie."""

    def put(self, array: Array) -> Any:
        """An array with these elements there."""

    def get(self, array: Any) -> Array:
        """The elements of an array there."""

    def wait(self) -> None:
        """Return when all calls are done."""


class OfHost:
    """Memory of NumPy's arrays: calls return when they are done."""

    def put(self, array: Array) -> Array:
        """See :class:`Memory`."""
        return array

    get = put

    def wait(self) -> None:
        """Return."""


class OfDevice:
    """Memory of CuPy's arrays on the current device: calls return when they are launched."""

    def __init__(self) -> None:
        self._cupy = device.cupy()
        self._device = self._cupy.cuda.Device()

    def put(self, array: Array) -> Any:
        """See :class:`Memory`."""
        made = self._cupy.empty(array.shape, array.dtype)
        made.set(array)
        return made

    def get(self, array: Any) -> Array:
        """See :class:`Memory`."""
        found: Array = self._cupy.asnumpy(array)
        return found

    def wait(self) -> None:
        """See :class:`Memory`."""
        self._device.synchronize()


class _Set(NamedTuple):
    """The arrays of one call forward and one backward."""

    values: tuple[Any, ...]
    outputs: Any
    cotangents: Any
    context: Context
    gradients: Any


class Workload:
    """Calls of kernels with one interface on arrays for a first argument of ``shape``.

    Values are between 0.5 and 1.5, where every function of the language is defined.
    """

    def __init__(self, kernel: AnyKernel, shape: tuple[int, ...], memory: Memory) -> None:
        """Make the arrays in ``memory``; ``kernel`` makes what only a kernel can make."""
        self._memory = memory
        rng = np.random.default_rng(0)
        first = self._set(kernel, shape, rng)
        self.bytes = sum(array.nbytes for array in _arrays(first))
        count = min(_MOST_SETS, max(1, -(-_ROTATED_BYTES // max(self.bytes, 1))))
        self._sets = [first, *(self._set(kernel, shape, rng) for _ in range(count - 1))]
        self._expected = self._results(kernel)
        self._phases = (self._forward, self._backward)
        self._calls = [self._calibrated(kernel, run) for run in self._phases]

    def seconds(self, kernel: AnyKernel) -> tuple[float, ...]:
        """The time of a call forward and of one backward, each the median of samples in turns."""
        samples = [
            [self._sample(kernel, run, calls) for run, calls in zip(self._phases, self._calls, strict=True)]
            for _ in range(_SAMPLES)
        ]
        return tuple(median(times) for times in zip(*samples, strict=True))

    def has_same_bits(self, kernel: AnyKernel) -> bool:
        """Whether outputs and gradients are to the bit those of the kernel that the workload began with."""
        return all(
            np.array_equal(_bytes(a), _bytes(b))
            for a, b in zip(self._expected, self._results(kernel), strict=True)
        )

    def _set(self, kernel: AnyKernel, shape: tuple[int, ...], rng: np.random.Generator) -> _Set:
        forward, backward = kernel.interface.forward, kernel.interface.backward
        first = forward.buffers[0]

        def made(buffer: Buffer) -> Any:
            if buffer.role == "absent":
                return None
            dtype = TABLE[buffer.dtype].numpy
            array = rng.random(shape_of(buffer, first, shape), np.float32) + np.float32(0.5)
            return self._memory.put(array.astype(dtype, copy=False))

        values = tuple(made(buffer) for buffer in with_role(forward, "input", "absent"))
        entering = tuple(made(buffer) for buffer in with_role(backward, "cotangent"))
        outputs, context = kernel.forward(values)
        cotangents = entering if kernel.returns_tuple else entering[0]
        return _Set(values, outputs, cotangents, context, kernel.backward(cotangents, context))

    def _results(self, kernel: AnyKernel) -> list[Array]:
        """Copies of what a kernel makes of the first set."""
        values, _, cotangents, _, _ = self._sets[0]
        outputs, context = kernel.forward(values)
        gradients = kernel.backward(cotangents, context)
        made = [
            *(outputs if kernel.returns_tuple else (outputs,)),
            *(gradient for gradient in gradients if gradient is not None),
        ]
        return [self._memory.get(array) for array in made]

    def _calibrated(self, kernel: AnyKernel, run: Callable[[AnyKernel, _Set], object]) -> int:
        """Calls that a sample needs: doubled until it takes long enough."""
        calls = 1
        while self._sample(kernel, run, calls) * calls < _SAMPLE_SECONDS:
            calls *= 2
        return calls

    def _sample(self, kernel: AnyKernel, run: Callable[[AnyKernel, _Set], object], calls: int) -> float:
        begin = perf_counter()
        for arrays in islice(cycle(self._sets), calls):
            run(kernel, arrays)
        self._memory.wait()
        return (perf_counter() - begin) / calls

    def _forward(self, kernel: AnyKernel, arrays: _Set) -> None:
        if kernel.try_call(arrays.values, arrays.outputs) is NotImplemented:
            raise CompilerBug("the tuner's arrays do not fit its kernel")

    def _backward(self, kernel: AnyKernel, arrays: _Set) -> None:
        if kernel.try_backward(arrays.cotangents, arrays.context, arrays.gradients) is None:
            raise CompilerBug("the tuner's arrays do not fit its kernel")


def _arrays(arrays: _Set) -> Sequence[Any]:
    outputs = arrays.outputs if isinstance(arrays.outputs, tuple) else (arrays.outputs,)
    entering = arrays.cotangents if isinstance(arrays.cotangents, tuple) else (arrays.cotangents,)
    every = (*arrays.values, *outputs, *entering, *arrays.context.saved, *arrays.gradients)
    return [array for array in every if array is not None]


def _bytes(array: Array) -> Array:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)
