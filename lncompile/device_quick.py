"""The quick ways to call a kernel on CuPy's arrays, as ``Kernel`` has them on NumPy's.

They do what a call needs whose shape is ready: read the arrays' pointers, make the results, launch. The
thorough ways (``device_kernel.py``) make shapes ready, a thread at a time, and take whatever is unusual:
other objects than CuPy's arrays, arrays that code cannot access as they lie, another device than the current
one, None in the place of an incoming gradient, results that overlap what is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lncompile.backends.cuda import device
from lncompile.buffers import with_role
from lncompile.device_reader import finder, launcher, reader
from lncompile.device_ready import Key, Pointers, Ready, picker
from lncompile.device_runner import PhaseRunner
from lncompile.kernel import Context, Signature, refuse


class DeviceContext(Context):
    """The context of a forward on a device: also its shape and device, and where its arrays are.

    The arrays are held, so their addresses stay valid. What a quick forward has saved lies in one memory, and
    is made arrays of when somebody asks for them.
    """

    __slots__ = ("_memory", "_ready", "_saved", "key", "pointers")

    def __init__(
        self,
        kernel: Any,
        inputs: Sequence[Any],
        saved: Sequence[Any] | None,
        key: Key,
        pointers: Pointers,
        ready: Ready | None = None,
        memory: Any = None,
    ) -> None:
        self.kernel = kernel
        self.inputs = tuple(inputs)
        self.key = key
        self.pointers = pointers
        self._saved = None if saved is None else tuple(saved)
        self._ready = ready
        self._memory = memory

    @property
    def saved(self) -> tuple[Any, ...]:  # type: ignore[override]
        """The arrays that the forward has saved."""
        if self._saved is None:
            assert self._ready is not None, "a context has arrays or a memory"
            self._saved = tuple(self._ready.arrays_in(self._memory))
        return self._saved

    def __reduce__(self) -> tuple[Any, ...]:
        # Copies of the arrays lie elsewhere.
        return context_of, (self.kernel, self.inputs, self.saved)


def context_of(kernel: Any, inputs: Sequence[Any], saved: Sequence[Any]) -> DeviceContext:
    """The context of a kernel's forward that has these arrays."""
    x = inputs[0]
    pointers = tuple(0 if array is None else array.data.ptr for array in (*inputs, *saved))
    return DeviceContext(kernel, inputs, saved, (x.shape, x.device.id), pointers)


class NoQuickCalls:
    """What a kernel has before its first call, which may be on a machine without CuPy: accepts nothing."""

    entry = try_call = staticmethod(refuse)

    def new(self, _: object) -> None:
        """No arrays."""

    def try_forward(self, *_: object) -> None:
        """No result."""

    def try_backward(self, *_: object) -> None:
        """No result."""


class QuickCalls:
    """The quick ways of one kernel; where one does not accept, it does nothing and says so.

    ``entry(*arguments, *outputs)`` returns None where it accepts, else NotImplemented.
    """

    def __init__(
        self, kernel: Any, signature: Signature, returns_tuple: bool, runners: Sequence[PhaseRunner]
    ) -> None:
        cupy = device.used_of_cupy()
        self._array: Any = cupy.array
        self._kernel = kernel
        self._signature = signature
        self._returns_tuple = returns_tuple
        self._forward, self._backward = runners
        self.entry = launcher(self._forward, cupy)
        self._found = finder(self._forward, cupy)
        self._cotangents = reader(self._backward, "cotangent", cupy)
        self._gradients = reader(self._backward, "gradient", cupy)
        self._outputs = len(with_role(self._forward.phase, "output"))
        self._entering = len(with_role(self._backward.phase, "cotangent"))
        # The gradient of each argument among the new arrays; for one that was left out, the None behind them.
        of = [buffer.of or "" for buffer in with_role(self._backward.phase, "gradient")]
        self._in_order = picker([of.index(name) if name in of else -1 for name in signature.arguments])
        self._in_buffers_order = picker([signature.arguments.index(name) for name in of])
        self._absent = [at for at, name in enumerate(signature.arguments) if name not in of]

    def new(self, x: Any) -> Any:
        """The outputs for a first argument, or None."""
        if type(x) is not self._array:
            return None
        ready = self._forward.thread.known.get((x.shape, x.data.device_id))
        if ready is None or not ready.is_current():
            return None
        made = ready.made("output")
        return tuple(made) if self._returns_tuple else made[0]

    def try_call(self, values: tuple[Any, ...], out: Any) -> Any:
        """The outputs, or NotImplemented."""
        made = self.new(values[0]) if out is None else out
        written = self._written(made)
        if written is None or self.entry(*values, *written) is NotImplemented:
            return NotImplemented
        return made

    def try_forward(self, values: tuple[Any, ...], out: Any) -> tuple[Any, Context] | None:
        """The outputs and the context, or None."""
        made = self.new(values[0]) if out is None else out
        written = self._written(made)
        if written is None:
            return None
        found = self._found(*values, *written)
        if found is None:
            return None
        ready, pointers = found
        # The backward reads the arguments again.
        if not self._forward.fit(ready, pointers, in_place=False):
            return None
        memory = ready.cupy.alloc(ready.saved_bytes)
        start = memory.ptr
        saved = tuple([start + offset for offset in ready.saved])
        self._forward.launch(ready, pointers + saved, keep=out is not None)
        places = pointers[: len(values)] + saved
        return made, DeviceContext(self._kernel, values, None, ready.key, places, ready, memory)

    def try_backward(self, dy: Any, ctx: DeviceContext, out: Any) -> Any:
        """The gradients, or None."""
        ready = self._backward.thread.known.get(ctx.key)
        if ready is None or not ready.is_current():
            return None
        entering = dy if self._returns_tuple else (dy,)
        if not isinstance(entering, tuple) or len(entering) != self._entering:
            return None
        cotangents = self._cotangents(ready, *entering)
        if cotangents is None:
            return None
        inputs = len(ctx.inputs)
        read = ctx.pointers[:inputs] + cotangents + ctx.pointers[inputs:]
        if out is None:
            made = ready.made("gradient")
            written = tuple([array.data.ptr for array in made])
            self._backward.launch(ready, read + written, keep=False)
            return self._signature.gradients._make(self._in_order((*made, None)))
        if not isinstance(out, tuple) or len(out) != inputs:
            return None
        if self._absent and any(out[at] is not None for at in self._absent):
            return None
        written = self._gradients(ready, *self._in_buffers_order(out))
        if written is None or not self._backward.fit(ready, read + written, in_place=True):
            return None
        self._backward.launch(ready, read + written, keep=True)
        return out

    def _written(self, made: Any) -> tuple[Any, ...] | None:
        """The outputs as a tuple; None where they are none."""
        if not self._returns_tuple:
            return (made,)
        return made if isinstance(made, tuple) and len(made) == self._outputs else None
