"""How the code of a specialization is made and loaded: for CPUs, or for CUDA.

Both have the same few methods (:class:`Builder`), so that what finds kernels (``specialize.py``), tunes them
and builds them ahead of time does not ask which of the two it has. On a cache hit nothing of the compiler is
imported.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

from lncompile import interface, kernel
from lncompile.backends.cpu.target import TARGETS, CpuTarget, find, host
from lncompile.backends.cuda.target import find as find_cuda
from lncompile.backends.cuda.target import is_cuda
from lncompile.cache import Entry
from lncompile.equation import Equation
from lncompile.errors import LncValueError
from lncompile.kernel import Kernel, Signature, refuse
from lncompile.keys import arguments_of, device_spec_of, spec_of
from lncompile.specialization import Specialization

if TYPE_CHECKING:
    from lncompile.arrays import Array
    from lncompile.compiler import Compilation
    from lncompile.device_compiler import CudaCompilation
    from lncompile.device_kernel import AnyKernel
    from lncompile.emit.lower import Request
    from lncompile.ir import Program

    AnyCompilation: TypeAlias = Compilation | CudaCompilation


class Builder(Protocol):
    """What makes and loads the code of one specialization.

    Attributes:
        special: what code is specialised on, with the target's full name.
        stage_names: the stages that code goes through.
    """

    special: Specialization
    stage_names: tuple[str, ...]

    def spec(self, program: Callable[[], Program]) -> dict[str, object]:
        """All that the code depends on, but for the schedule where it is tuned."""

    def is_schedule(self, value: Mapping[str, int]) -> bool:
        """Whether a tuning record's schedule is one. Imports the scheduler: asked before compiling alone."""

    def compilation(self, program: Program, tuned: Mapping[str, int] | None = None) -> AnyCompilation:
        """The way through the compiler; ``tuned`` is a record's schedule, else the heuristic decides."""

    def kernel(self, signature: Signature, entry: Entry, stages: Mapping[str, str]) -> AnyKernel:
        """The kernel of what was compiled."""

    def empty_kernel(self, signature: Signature, program: Program) -> AnyKernel:
        """The kernel for features of which there are none: it interprets."""


def builder_of(equation: Equation, special: Specialization) -> Builder:
    """What makes the code of a specialization for its target; ``LncError`` names one that is none."""
    return (CudaBuilder if is_cuda(special.target) else CpuBuilder)(equation, special)


def traced(equation: Equation, special: Specialization) -> Program:
    """The program of a specialization."""
    from lncompile.trace import trace

    constants = dict(special.constants)
    return trace(equation, dict(special.dtypes), constants, dict(special.sizes), special.out_dtype)


class CpuBuilder:
    """Libraries for CPUs."""

    stage_names = tuple(interface.STAGES)

    def __init__(self, equation: Equation, special: Specialization) -> None:
        self.target = find(special.target)
        self.special = special._replace(target=self.target.name)
        self._equation = equation

    def spec(self, program: Callable[[], Program]) -> dict[str, object]:
        """See :class:`Builder`."""
        return spec_of(self._equation, self.special, self.target, program)

    def is_schedule(self, value: Mapping[str, int]) -> bool:
        """See :class:`Builder`."""
        from lncompile.schedule.cpu import Schedule

        try:
            Schedule.from_json(value)
        except LncValueError:
            return False
        return True

    def compilation(self, program: Program, tuned: Mapping[str, int] | None = None) -> Compilation:
        """See :class:`Builder`."""
        from lncompile.compiler import Compilation
        from lncompile.schedule.cpu import Schedule

        schedule = None if tuned is None else Schedule.from_json(tuned)
        return Compilation(program, self.target, _request(self._equation, self.special), schedule)

    def kernel(self, signature: Signature, entry: Entry, stages: Mapping[str, str]) -> Kernel:
        """See :class:`Builder`; where this machine cannot run it, it can be looked at."""
        if runs_here(self.target):
            return kernel.load(signature, entry.open_library(ctypes.CDLL), entry.meta, stages)
        offered = interface.from_json(entry.meta["interface"])
        elsewhere = _Elsewhere(self.target.name)
        name, returns_tuple = self.target.name, entry.meta["returns_tuple"]
        return Kernel(signature, offered, name, returns_tuple, elsewhere, elsewhere, stages)

    def empty_kernel(self, signature: Signature, program: Program) -> Kernel:
        """See :class:`Builder`."""
        from lncompile.empty import empty_kernel

        made = self.compilation(program)
        return empty_kernel(signature, made, LazyStages(self.stage_names, lambda name: made.stages()[name]()))


class CudaBuilder:
    """Code for devices of one architecture, made without one."""

    stage_names = tuple(interface.CUDA_STAGES)

    def __init__(self, equation: Equation, special: Specialization) -> None:
        self.target = find_cuda(special.target)
        self.special = special._replace(target=self.target.name)
        self._equation = equation

    def spec(self, program: Callable[[], Program]) -> dict[str, object]:
        """See :class:`Builder`."""
        return device_spec_of(self._equation, self.special, self.target, program)

    def is_schedule(self, value: Mapping[str, int]) -> bool:
        """See :class:`Builder`."""
        from lncompile.schedule.cuda import are_changes

        return are_changes(value)

    def compilation(self, program: Program, tuned: Mapping[str, int] | None = None) -> CudaCompilation:
        """See :class:`Builder`; ``tuned`` has the fields that differ from the heuristic's."""
        from lncompile.device_compiler import CudaCompilation

        return CudaCompilation(program, self.target, _request(self._equation, self.special), tuned)

    def kernel(self, signature: Signature, entry: Entry, stages: Mapping[str, str]) -> AnyKernel:
        """See :class:`Builder`."""
        from lncompile.device_kernel import DeviceKernel

        return DeviceKernel(signature, entry.library, entry.meta, stages, self.target)

    def empty_kernel(self, signature: Signature, program: Program) -> AnyKernel:
        """See :class:`Builder`; the host computes what there is to write."""
        from lncompile.device_empty import EmptyDeviceKernel
        from lncompile.empty import empty_kernel

        made = CpuBuilder(self._equation, self.special._replace(target="cpu")).compilation(program)
        stages = LazyStages(("ir", "grad"), lambda name: made.stages()[name]())
        return EmptyDeviceKernel(empty_kernel(signature, made, stages), stages, self.target)


def _request(equation: Equation, special: Specialization) -> Request:
    from lncompile.emit.lower import Request

    sizes = dict(special.sizes)
    axes = ", ".join(f"{name}={size}" for name, size in special.sizes)
    header = (
        f"{equation.name}: {equation.pattern.text}, {axes or 'no fixed sizes'}",
        "",
        *(f"{name:<12} {dtype}" for name, dtype in special.dtypes),
        f"{'target':<12} {special.target}",
    )
    arguments = arguments_of(equation, special)
    return Request(equation.name, equation.pattern, arguments, sizes, header, special.dots)


def runs_here(target: CpuTarget) -> bool:
    """Whether this machine executes the code of ``target``: each level includes those before it."""
    here = host()
    names = list(TARGETS)
    return target.triple == here.triple and names.index(target.name) <= names.index(here.name)


class _Elsewhere:
    """Stands for the phases of a library that this machine cannot run."""

    entry = staticmethod(refuse)

    def __init__(self, target: str) -> None:
        self._target = target

    def run(self, arrays: Sequence[Array | None]) -> None:
        """Refuse."""
        raise LncValueError(
            f"target: this kernel was compiled for {self._target}; this machine is {host().name}"
        )


class LazyStages(Mapping[str, str]):
    """Stage name -> text, each made when it is asked for."""

    def __init__(self, names: Sequence[str], make: Callable[[str], str]) -> None:
        self._names = names
        self._make = make

    def __getitem__(self, name: str) -> str:
        if name not in self._names:
            raise KeyError(name)
        return self._make(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
