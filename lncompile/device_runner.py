"""Runs the phases of a kernel on arrays of a device: everything but the pointers is prepared once a shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lncompile.backends.cuda import device
from lncompile.backends.cuda.packed import Code
from lncompile.backends.cuda.plan import Plan, plan_of
from lncompile.buffers import batch_sizes, shape_of
from lncompile.emit.cuda.launches import Launches
from lncompile.interface import Phase

#: Bytes that workspaces begin at multiples of, as CuPy's pool does.
_BOUNDARY = 256


class Prepared(NamedTuple):
    """The launches of a phase for arrays of one shape on one device.

    ``calls`` are function, places of pointers, and numbers; ``shapes`` those of the arrays; ``workspaces``
    the offsets of workspaces in a memory of ``bytes``.
    """

    calls: tuple[tuple[device.Function, tuple[int, ...], tuple[int, ...]], ...]
    shapes: tuple[tuple[int, ...] | None, ...]
    workspaces: tuple[int, ...]
    bytes: int


class PhaseRunner:
    """One phase of a compiled kernel."""

    def __init__(self, phase: Phase, launches: Launches, codes: Mapping[str, Code]) -> None:
        self.phase = phase
        self.buffers = tuple(buffer for buffer in phase.buffers if buffer.role != "workspace")
        self._spaces = tuple(buffer for buffer in phase.buffers if buffer.role == "workspace")
        self._launches = launches
        self._codes = codes
        self._prepared: dict[tuple[tuple[int, ...], int], Prepared] = {}
        self._kept: dict[tuple[tuple[int, ...], int, int], Any] = {}

    def plan(self, shape: tuple[int, ...], multiprocessors: int) -> Plan:
        """What is launched where the first argument has this shape."""
        return plan_of(self.phase, self._launches, batch_sizes(self.phase.buffers[0], shape), multiprocessors)

    def prepared(self, shape: tuple[int, ...], number: int) -> Prepared:
        """What is ready for a first argument of this shape on a device."""
        found = self._prepared.get((shape, number))
        if found is None:
            found = self._prepared[shape, number] = self._prepare(shape, number)
        return found

    def _prepare(self, shape: tuple[int, ...], number: int) -> Prepared:
        from lncompile.dtypes import TABLE

        plan = self.plan(shape, device.info(number).multiprocessors)
        offsets, end = [], 0
        for space in self._spaces:
            offsets.append(end)
            size = plan.workspaces[space.name] * TABLE[space.dtype].itemsize
            end += -(-size // _BOUNDARY) * _BOUNDARY
        places = {buffer.name: at for at, buffer in enumerate((*self.buffers, *self._spaces))}
        calls = tuple(
            (
                device.load(number, self._codes[g.entry].cubin, g.entry, g.blocks, g.threads, g.shared),
                tuple(places[name] for name in g.buffers),
                g.numbers,
            )
            for g in plan.grids
        )
        first = self.phase.buffers[0]
        shapes = tuple(None if b.role == "absent" else shape_of(b, first, shape) for b in self.buffers)
        return Prepared(calls, shapes, tuple(offsets), end)

    def run(self, arrays: Sequence[Any], number: int, *, keep: bool = False) -> None:
        """Launch the phase on arrays that fit it, one for each buffer, None for those that are left out.

        The device of this number is the current one. Workspaces come from CuPy's pool; with ``keep`` they
        stay for later calls on the same stream, so that these allocate nothing and a graph may capture them.
        """
        cupy = device.cupy()
        ready = self.prepared(arrays[0].shape, number)
        stream = cupy.cuda.get_current_stream()
        pointers = [0 if array is None else array.data.ptr for array in arrays]
        if ready.bytes:
            memory = self._memory(ready.bytes, (arrays[0].shape, number, stream.ptr), keep, cupy)
            pointers += [memory.ptr + offset for offset in ready.workspaces]
        else:
            pointers += [0] * len(ready.workspaces)
        target = device.stream_of(number, stream.ptr)
        for function, places, numbers in ready.calls:
            given = [pointers[place] for place in places]
            function.launch(target, function.config, function.kernel, *given, *numbers)

    def _memory(self, size: int, key: tuple[tuple[int, ...], int, int], keep: bool, cupy: Any) -> Any:
        # Given back to the pool, memory is used again by what is launched later on the same stream alone.
        if not keep:
            return cupy.cuda.alloc(size)
        memory = self._kept.get(key)
        if memory is None:
            memory = self._kept[key] = cupy.cuda.alloc(size)
        return memory
