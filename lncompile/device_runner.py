"""Runs the phases of a kernel on arrays of a device, with what is ready for their shape."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from lncompile.backends.cpu.calls import may_coincide
from lncompile.backends.cuda import device
from lncompile.backends.cuda.packed import Code
from lncompile.backends.cuda.plan import Plan, plan_of
from lncompile.buffers import batch_sizes
from lncompile.device_ready import Calls, Key, Pointers, Ready, Shape, prepared
from lncompile.emit.cuda.launches import Launches
from lncompile.interface import WRITTEN, Phase

K = TypeVar("K")
V = TypeVar("V")

#: Shapes that launches are ready for: a network has few, but lengths of texts may vary.
_SHAPES = 1024
#: Combinations of pointers that are known to fit, for one shape: each takes some 300 bytes.
_POINTERS = 256
#: Streams that launches of one shape are ready for.
_STREAMS = 64
#: What CUDA calls the stream that is each thread's own by default.
_PER_THREAD = 2


class Thread(threading.local):
    """What is ready in a thread, which has a context on the devices in question."""

    def __init__(self) -> None:
        self.known: dict[Key, Ready] = {}


class PhaseRunner:
    """One phase of a compiled kernel."""

    def __init__(self, phase: Phase, launches: Launches, codes: Mapping[str, Code]) -> None:
        self.phase = phase
        self.buffers = tuple(buffer for buffer in phase.buffers if buffer.role != "workspace")
        self._launches = launches
        self._codes = codes
        self._ready: dict[Key, Ready] = {}
        self.thread = Thread()
        self._kept: dict[tuple[int, ...], Any] = {}
        self._workspaces_in_use = threading.Lock()
        # What is written beside what is not made by the call itself, and whether both may be the same.
        self._pairs = [
            (at, other, may_coincide(phase, self.buffers[at], self.buffers[other]))
            for at, written in enumerate(self.buffers)
            if written.role in WRITTEN - {"saved"}
            for other, buffer in enumerate(self.buffers)
            if at != other and not (buffer.role in WRITTEN and other > at)
        ]

    def plan(self, shape: Shape, multiprocessors: int) -> Plan:
        """What is launched where the first argument has this shape."""
        return plan_of(self.phase, self._launches, batch_sizes(self.phase.buffers[0], shape), multiprocessors)

    def ready(self, shape: Shape, number: int) -> Ready:
        """What is ready for a first argument of this shape on a device, now in this thread too."""
        key = shape, number
        found = self.thread.known.get(key)
        if found is None:
            device.enter(number)
            found = self._ready.get(key)
            if found is None:
                plan = self.plan(shape, device.info(number).multiprocessors)
                found = prepared(self.phase, plan, self._codes, key)
                _remember(self._ready, key, found, _SHAPES)
            _remember(self.thread.known, key, found, _SHAPES)
        return found

    def fit(self, ready: Ready, pointers: Pointers, *, in_place: bool) -> bool:
        """Whether no array that is written to overlaps another one.

        With ``in_place`` it may be one that is read, exactly, where the code reads before it writes.
        """
        checked = ready.in_place if in_place else ready.apart
        if pointers in checked:
            return True
        extents, count = ready.extents, len(pointers)
        for at, other, same in self._pairs:
            if at >= count or other >= count:
                continue
            a, b = pointers[at], pointers[other]
            if a < b + extents[other] and b < a + extents[at] and not (a == b and same and in_place):
                return False
        if len(checked) >= _POINTERS:
            checked.clear()
        checked.add(pointers)
        return True

    def run(self, arrays: Sequence[Any], number: int, *, keep: bool = False) -> None:
        """Launch the phase on arrays that fit it, one for each buffer, None for those that are left out.

        The device of this number is the current one.
        """
        pointers = tuple(0 if array is None else array.data.ptr for array in arrays)
        self.launch(self.ready(arrays[0].shape, number), pointers, keep=keep)

    def launch(self, ready: Ready, pointers: Pointers, *, keep: bool) -> None:
        """Launch the phase on CuPy's current stream, with one pointer for each buffer.

        The device that it is ready for is the current one. Workspaces come from CuPy's pool; with ``keep``
        they stay for later calls on the same stream, so that these allocate nothing and a graph may capture
        them. A graph goes on using those of the stream that captured it.
        """
        stream = ready.stream().ptr
        calls = ready.bound.get(stream) or _bound(ready, stream)
        if ready.bytes and not keep:
            # Given back to the pool, memory is used again by what is launched later on the same stream alone.
            memory = ready.cupy.alloc(ready.bytes)
            _enqueue(calls, pointers + ready.tail(memory.ptr))
            return
        values = pointers + (ready.kept.get(stream) or self._kept_tail(ready, stream))
        if not ready.bytes:
            _enqueue(calls, values)
            return
        # Between launches of one call, no other thread's call may use the same workspaces.
        with self._workspaces_in_use:
            _enqueue(calls, values)

    def _kept_tail(self, ready: Ready, stream: int) -> tuple[int, ...]:
        """``ready.tail`` for workspaces that stay on a stream.

        They are never freed, since a graph may have captured their address. Sizes are powers of two, so that
        shapes share them: all together take less than four times the largest. A new stream with the handle of
        a destroyed one takes over its workspaces, as it does its free memory in CuPy's pool; with workspaces
        of its own, a program that makes a stream for every call would fill the device.
        """
        start = self._memory(ready, stream) if ready.bytes else 0
        tail = ready.tail(start)
        if stream != _PER_THREAD:
            _remember(ready.kept, stream, tail, _STREAMS)
        return tail

    def _memory(self, ready: Ready, stream: int) -> int:
        of_thread = threading.get_ident() if stream == _PER_THREAD else 0
        bits = (ready.bytes - 1).bit_length()
        key = bits, ready.key[1], stream, of_thread
        with self._workspaces_in_use:
            if key not in self._kept:
                self._kept[key] = ready.cupy.alloc(1 << bits)
            return int(self._kept[key].ptr)


def _bound(ready: Ready, stream: int) -> Calls:
    target = device.stream_of(ready.key[1], stream)
    calls: Calls = tuple((partial(f.launch, target, f.config, f.kernel), picked) for f, picked in ready.calls)
    _remember(ready.bound, stream, calls, _STREAMS)
    return calls


def _enqueue(calls: Calls, values: tuple[int, ...]) -> None:
    for call, picked in calls:
        call(*picked(values))


def _remember(table: dict[K, V], key: K, value: V, most: int) -> None:
    if len(table) >= most:
        table.clear()
    table[key] = value
