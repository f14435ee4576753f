"""Where candidates are compiled for and measured: on this machine's CPUs, or on its device.

Each has schedules of its own, which are made into candidates one by one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import NamedTuple, Protocol

from lncompile.autotune.workload import Memory, OfDevice, OfHost
from lncompile.backends.cpu.runtime import get_num_threads
from lncompile.backends.cpu.target import host
from lncompile.backends.cuda import device
from lncompile.backends.cuda.target import is_cuda, serving
from lncompile.builders import Builder, CpuBuilder, CudaBuilder, runs_here
from lncompile.cache import Artifact, Entry
from lncompile.device_kernel import AnyKernel
from lncompile.emit.lower import lower
from lncompile.equation import Equation
from lncompile.errors import LncValueError
from lncompile.ir import Program
from lncompile.kernel import Signature
from lncompile.keys import overrides
from lncompile.schedule import cpu, cuda
from lncompile.schedule.changes import Changes
from lncompile.specialization import Specialization


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


class Place(ABC):
    """Where one specialization is tuned.

    Attributes:
        target: the name of what is compiled for.
        threads: how many a kernel is measured with; None on a device.
        spec: what the kernel's key has, but for its schedule.
        memory: where the arrays of its calls lie.
    """

    def __init__(
        self, builder: Builder, program: Callable[[], Program], memory: Memory, threads: int | None
    ) -> None:
        self.target = builder.special.target
        self.threads = threads
        self.spec = builder.spec(program)
        self.memory = memory
        self._builder = builder

    @abstractmethod
    def candidates(self, result_bytes: int, *, any_bits: bool) -> Iterable[Callable[[], Candidate]]:
        """What to try for results of so many bytes, each emitted when it is called; the heuristic's first."""

    def spills(self, artifact: Artifact) -> bool:
        """Whether a candidate's code is known to move registers to memory and back."""
        return any(code["spills"] for code in artifact.meta.get("contents", ()))

    def loaded(self, signature: Signature, artifact: Artifact) -> AnyKernel:
        """The kernel of a candidate."""
        entry = Entry("", artifact.library, artifact.source, artifact.meta, None)
        return self._builder.kernel(signature, entry, {})


def place_of(equation: Equation, special: Specialization, program: Callable[[], Program]) -> Place:
    """Where the code of a specialization is measured.

    Raises:
        LncValueError: this machine does not execute it.
    """
    return (OnDevice if is_cuda(special.target) else OnHost)(equation, special, program)


class OnHost(Place):
    """On the CPUs of this machine, with as many threads as calls use."""

    def __init__(self, equation: Equation, special: Specialization, program: Callable[[], Program]) -> None:
        builder = CpuBuilder(equation, special)
        if not runs_here(builder.target):
            raise _elsewhere(host().name, builder.target.name)
        if overrides(equation.name):
            raise LncValueError(
                f"LNCOMPILE_OVERRIDE: expected no stage of {equation.name} in it while it is tuned"
            )
        super().__init__(builder, program, OfHost(), get_num_threads())
        self._base = builder.compilation(program())

    def candidates(self, result_bytes: int, *, any_bits: bool) -> Iterable[Callable[[], Candidate]]:
        """See :class:`Place`."""
        for schedule in cpu.space(self._base.schedule, result_bytes, any_bits=any_bits):
            yield partial(self._candidate, schedule)

    def _candidate(self, schedule: cpu.Schedule) -> Candidate:
        before, after = self._base.schedule.to_json(), schedule.to_json()
        changes = {name: value for name, value in sorted(after.items()) if value != before[name]}
        source = lower(self._base.pair, schedule, self._base.request).source
        return Candidate(changes, after if changes else None, source, replace(self._base, tuned=schedule))


class OnDevice(Place):
    """On CuPy's current device."""

    def __init__(self, equation: Equation, special: Specialization, program: Callable[[], Program]) -> None:
        builder, here = CudaBuilder(equation, special), serving(device.current().capability)
        if builder.target != here:
            raise _elsewhere(here.name, builder.target.name)
        super().__init__(builder, program, OfDevice(), None)
        self._base = builder.compilation(program())

    def candidates(self, result_bytes: int, *, any_bits: bool) -> Iterable[Callable[[], Candidate]]:
        """See :class:`Place`."""
        for changes in cuda.space(any_bits=any_bits):
            yield partial(self._candidate, changes)

    def _candidate(self, changes: Changes) -> Candidate:
        job = replace(self._base, tuned=changes)
        # Some fields change nothing but how many blocks are launched.
        text = repr((job.lowered.source, job.lowered.forward, job.lowered.backward))
        return Candidate(changes, changes or None, text, job)


def _elsewhere(here: str, target: str) -> LncValueError:
    return LncValueError(f"target: expected one that can be measured here, on {here}; got {target}")
