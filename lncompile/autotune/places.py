"""Where candidates are compiled for and measured: on this machine's CPUs, or on its device.

Both have the same few methods, and schedules of their own, which are made into candidates one by one.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import NamedTuple, Protocol

from lncompile import cache, kernel
from lncompile.autotune.workload import Memory, OfDevice, OfHost
from lncompile.backends.cpu.runtime import get_num_threads
from lncompile.backends.cpu.target import find, host
from lncompile.backends.cuda import device
from lncompile.backends.cuda.target import find as find_cuda
from lncompile.backends.cuda.target import is_cuda, serving
from lncompile.cache import Artifact
from lncompile.device_kernel import AnyKernel, DeviceKernel
from lncompile.emit.lower import lower
from lncompile.errors import LncValueError
from lncompile.ir import Program
from lncompile.kernel import Signature
from lncompile.norm import Dispatcher
from lncompile.schedule import cpu, cuda
from lncompile.schedule.changes import Changes
from lncompile.specialize import (
    Specialization,
    compilation,
    device_compilation,
    device_spec_of,
    overrides,
    runs_here,
    spec_of,
)


class Job(Protocol):
    """What makes a candidate's library, in another process."""

    def artifact(self) -> Artifact:
        """Compile."""


class Candidate(NamedTuple):
    """A schedule to try.

    Attributes:
        changes: its fields that differ from the heuristic's.
        kept: how the store has it; None for the heuristic's.
        text: what is made of it: the same text, the same kernel.
        job: makes the kernel's library.
    """

    changes: Changes
    kept: Changes | None
    text: str
    job: Job


class Place(Protocol):
    """Where one specialization is tuned.

    Attributes:
        target: the name of what is compiled for.
        threads: how many a kernel is measured with; None on a device.
        spec: what the kernel's key has, but for its schedule.
        memory: where the arrays of its calls lie.
    """

    target: str
    threads: int | None
    spec: dict[str, object]
    memory: Memory

    def candidates(self, result_bytes: int, *, any_bits: bool) -> Iterable[Callable[[], Candidate]]:
        """What to try for results of so many bytes, each emitted when it is called; the heuristic's first."""

    def spills(self, artifact: Artifact) -> bool:
        """Whether a candidate's code moves registers to memory and back."""

    def loaded(self, signature: Signature, artifact: Artifact) -> AnyKernel:
        """The kernel of a candidate."""


def place_of(dispatcher: Dispatcher, special: Specialization, program: Callable[[], Program]) -> Place:
    """Where the code of a specialization is measured.

    Raises:
        LncValueError: this machine does not execute it.
    """
    if is_cuda(special.target):
        return OnDevice(dispatcher, special, program)
    return OnHost(dispatcher, special, program)


def _elsewhere(here: str, target: str) -> LncValueError:
    return LncValueError(f"target: expected one that can be measured here, on {here}; got {target}")


class OnHost:
    """On the CPUs of this machine, with as many threads as calls use."""

    def __init__(
        self, dispatcher: Dispatcher, special: Specialization, program: Callable[[], Program]
    ) -> None:
        target, name = find(special.target), dispatcher.equation.name
        if not runs_here(target):
            raise _elsewhere(host().name, target.name)
        if overrides(name):
            raise LncValueError(f"LNCOMPILE_OVERRIDE: expected no stage of {name} in it while it is tuned")
        self.target = target.name
        self.threads: int | None = get_num_threads()
        self.spec = spec_of(dispatcher.equation, special, program)
        self.memory: Memory = OfHost()
        self._base = compilation(dispatcher.equation, special, program())

    def candidates(self, result_bytes: int, *, any_bits: bool) -> Iterable[Callable[[], Candidate]]:
        """See :class:`Place`."""
        for schedule in cpu.space(self._base.schedule, result_bytes, any_bits=any_bits):
            yield partial(self._candidate, schedule)

    def _candidate(self, schedule: cpu.Schedule) -> Candidate:
        before, after = self._base.schedule.to_json(), schedule.to_json()
        changes = {name: value for name, value in sorted(after.items()) if value != before[name]}
        source = lower(self._base.pair, schedule, self._base.request).source
        return Candidate(changes, after if changes else None, source, replace(self._base, tuned=schedule))

    def spills(self, artifact: Artifact) -> bool:
        """See :class:`Place`. Stores to the stack hit the first cache, and time tells what they cost."""
        return False

    def loaded(self, signature: Signature, artifact: Artifact) -> AnyKernel:
        """See :class:`Place`."""
        entry = cache.Entry("", artifact.library, artifact.source, artifact.meta, None)
        return kernel.load(signature, entry.open_library(ctypes.CDLL), artifact.meta, {})


class OnDevice:
    """On CuPy's current device."""

    threads: int | None = None

    def __init__(
        self, dispatcher: Dispatcher, special: Specialization, program: Callable[[], Program]
    ) -> None:
        target, here = find_cuda(special.target), serving(device.current().capability)
        if target != here:
            raise _elsewhere(here.name, target.name)
        self.target = target.name
        self.spec = device_spec_of(dispatcher.equation, special, program)
        self.memory: Memory = OfDevice()
        self._target = target
        self._base = device_compilation(dispatcher.equation, special, program())

    def candidates(self, result_bytes: int, *, any_bits: bool) -> Iterable[Callable[[], Candidate]]:
        """See :class:`Place`."""
        for changes in cuda.space(any_bits=any_bits):
            yield partial(self._candidate, changes)

    def _candidate(self, changes: Changes) -> Candidate:
        job = replace(self._base, tuned=changes)
        # Some fields change nothing but how many blocks are launched.
        text = repr((job.lowered.source, job.lowered.forward, job.lowered.backward))
        return Candidate(changes, changes or None, text, job)

    def spills(self, artifact: Artifact) -> bool:
        """See :class:`Place`."""
        return any(code["spills"] for code in artifact.meta["contents"])

    def loaded(self, signature: Signature, artifact: Artifact) -> AnyKernel:
        """See :class:`Place`."""
        return DeviceKernel(signature, artifact.library, artifact.meta, {}, self._target)
