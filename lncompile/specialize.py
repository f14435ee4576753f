"""From a norm and the shapes and dtypes of a call to a kernel: out of the cache, or compiled into it."""

from __future__ import annotations

import ctypes
import inspect
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache as memoized
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from lncompile import axes as ax
from lncompile import cache, interface, kernel, tunings
from lncompile.arrays import described
from lncompile.backends.cpu.runtime import Slot
from lncompile.backends.cpu.target import TARGETS, CpuTarget, find, host
from lncompile.backends.cuda.target import find as find_cuda
from lncompile.backends.cuda.target import is_cuda
from lncompile.equation import Equation
from lncompile.errors import LncTypeError, LncValueError
from lncompile.fingerprint import fingerprint, fingerprint_of_value
from lncompile.kernel import Kernel, Signature, refuse

if TYPE_CHECKING:
    from lncompile.arrays import Array
    from lncompile.compiler import Compilation
    from lncompile.device_compiler import CudaCompilation
    from lncompile.device_kernel import AnyKernel
    from lncompile.emit.lower import Request
    from lncompile.ir import Program

#: Counts changes of what entry points expect of the process beside the table's slots.
_ABI = 1


class Prebuilt(Protocol):
    """Finds a kernel that was built ahead of time, or None; ``LncError`` refuses to compile one."""

    def __call__(
        self,
        equation: Equation,
        signature: Signature,
        special: Specialization,
        program: Callable[[], Program],
    ) -> AnyKernel | None:
        """The kernel of a specialization."""


#: Asked in this order before a kernel is fetched or built.
prebuilt: list[Prebuilt] = []

_compiling = threading.RLock()


def compiling() -> threading.RLock:
    """The lock that is held while a kernel is fetched or built.

    One for all norms, since Numba and LLVM work one thread at a time anyway. ``fork`` waits for it: a child
    would find the compiler, and the file locks of the cache, in the middle of what another thread was doing.
    """
    return _compiling


def _unlock_in_child() -> None:
    global _compiling
    _compiling = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _compiling.acquire(),
        after_in_parent=lambda: _compiling.release(),
        after_in_child=_unlock_in_child,
    )


class Specialization(NamedTuple):
    """What code is specialised on: two calls with the same ``key`` share a kernel.

    ``dtypes`` names the arguments that are present; ``sizes`` are those of feature axes and of axes in split
    dimensions. ``dots`` are the dimensions that ``...`` stands for where it is a feature axis.
    """

    dtypes: tuple[tuple[str, str], ...]
    sizes: tuple[tuple[str, int], ...]
    constants: tuple[tuple[str, Any], ...]
    out_dtype: str | None
    target: str
    dots: tuple[int, ...] = ()

    @property
    def key(self) -> tuple[object, ...]:
        """Everything, hashable; ``LncError`` names a constant that is not.

        Python finds 1, 1.0 and True equal, and 0.0 and -0.0; an equation may tell them apart.
        """
        return *self[:2], exactly(self.constants), *self[3:]


def exactly(options: Sequence[tuple[str, object]]) -> tuple[object, ...]:
    """Named values as a hashable tuple that equals another only where values and their types are the same.

    Raises ``LncError`` naming a value that cannot be hashed.
    """
    options = [(name, plain(value)) for name, value in options]
    key = tuple(
        (name, value.__class__, value.hex() if isinstance(value, float) else value) for name, value in options
    )
    try:
        hash(key)
    except TypeError:
        for name, value in options:
            try:
                hash(value)
            except TypeError:
                got = described(value)
                raise LncTypeError(f"{name}: expected a constant, which can be hashed; got {got}") from None
        raise
    return key


def signature_of(equation: Equation) -> Signature:
    """How the equation's kernels are called."""
    return Signature(
        equation.name,
        equation.pattern,
        tuple(argument.name for argument in equation.arguments),
        tuple(argument.dims for argument in equation.arguments),
        frozenset(argument.name for argument in equation.arguments if not argument.required),
    )


def build_kernel(equation: Equation, signature: Signature, special: Specialization) -> AnyKernel:
    """Load the kernel from the cache, or trace the equation and compile it into the cache.

    Raises ``LncError`` where the equation is wrong or its axes are not supported; no error of the disk
    prevents a kernel (``cache.fetch``).
    """
    if is_cuda(special.target):
        return _build_for_device(equation, signature, special)
    target = find(special.target)
    program = memoized(lambda: traced(equation, special))
    schedule: Mapping[str, int] | None = None
    compiled = memoized(lambda: compilation(equation, special, program(), schedule))
    stages = LazyStages(tuple(interface.STAGES), lambda name: compiled().stages()[name]())
    if 0 in dict(special.sizes).values():
        from lncompile.empty import empty_kernel

        return empty_kernel(signature, compiled(), stages)
    found = _prebuilt(equation, signature, special, program)
    if found is not None:
        return found
    spec = spec_of(equation, special, program)
    schedule, entry = _tuned(spec, _is_schedule)
    if entry is None:
        entry = cache.fetch({**spec, "schedule": schedule}, lambda: compiled().artifact())
    if not runs_here(target):
        elsewhere = _Elsewhere(target.name)
        offered = interface.from_json(entry.meta["interface"])
        return Kernel(
            signature, offered, target.name, entry.meta["returns_tuple"], elsewhere, elsewhere, stages
        )
    return kernel.load(signature, entry.open_library(ctypes.CDLL), entry.meta, stages)


def _tuned(
    spec: Mapping[str, object], is_schedule: Callable[[Mapping[str, int]], bool]
) -> tuple[Mapping[str, int] | None, cache.Entry | None]:
    """What was found best for ``spec`` on this machine, None for the heuristic; its kernel, if it is kept."""
    schedule = tunings.schedule_for(spec)
    if schedule is None:
        return None, None
    entry = cache.lookup(cache.key_of({**spec, "schedule": schedule}))
    return schedule if entry is not None or is_schedule(schedule) else None, entry


def _prebuilt(
    equation: Equation, signature: Signature, special: Specialization, program: Callable[[], Program]
) -> AnyKernel | None:
    """What was built ahead of time for a specialization."""
    found = (finder(equation, signature, special, program) for finder in prebuilt)
    return next((kernel for kernel in found if kernel is not None), None)


def traced(equation: Equation, special: Specialization) -> Program:
    """The program of a specialization."""
    from lncompile.trace import trace

    constants = dict(special.constants)
    return trace(equation, dict(special.dtypes), constants, dict(special.sizes), special.out_dtype)


def compilation(
    equation: Equation,
    special: Specialization,
    program: Program,
    schedule: Mapping[str, int] | None = None,
) -> Compilation:
    """The way of a specialization through the compiler, from its program on.

    ``schedule`` is one as a tuning record has it, else the heuristic decides.
    """
    from lncompile.compiler import Compilation
    from lncompile.schedule.cpu import Schedule

    target = find(special.target)
    request = _request(equation, special, target.name)
    return Compilation(program, target, request, None if schedule is None else Schedule.from_json(schedule))


def device_compilation(
    equation: Equation,
    special: Specialization,
    program: Program,
    changes: Mapping[str, int] | None = None,
) -> CudaCompilation:
    """The way of a specialization to CUDA, from its program on; ``changes`` are those of a tuning record."""
    from lncompile.device_compiler import CudaCompilation

    target = find_cuda(special.target)
    return CudaCompilation(program, target, _request(equation, special, target.name), changes)


def _request(equation: Equation, special: Specialization, target: str) -> Request:
    from lncompile.emit.lower import Request

    sizes = dict(special.sizes)
    axes = ", ".join(f"{name}={size}" for name, size in special.sizes)
    header = (
        f"{equation.name}: {equation.pattern.text}, {axes or 'no fixed sizes'}",
        "",
        *(f"{name:<12} {dtype}" for name, dtype in special.dtypes),
        f"{'target':<12} {target}",
    )
    arguments = _arguments(equation, special)
    return Request(equation.name, equation.pattern, arguments, sizes, header, special.dots)


def spec_of(equation: Equation, special: Specialization, program: Callable[[], Program]) -> dict[str, object]:
    """All that the code of a specialization depends on, but for the schedule where it is tuned."""
    target = find(special.target)
    return {
        **_identity(equation, special, program),
        **_form(equation, special),
        "target": [target.name, target.triple, target.cpu, target.features],
        "abi": abi(),
        "versions": versions(),
        "override": overrides(equation.name),
    }


def device_spec_of(
    equation: Equation, special: Specialization, program: Callable[[], Program]
) -> dict[str, object]:
    """The same for CUDA."""
    return {
        **_identity(equation, special, program),
        **_form(equation, special),
        "target": list(find_cuda(special.target)),
        "versions": versions() | device_versions(),
    }


def identities(equation: Equation, special: Specialization, program: Callable[[], Program]) -> Iterator[str]:
    """Keys of what a kernel computes and how it is called, whatever its target: equal keys, equal kernels.

    The quick one first, which another version of Python or another file may change, then that of the program.
    """
    from lncompile import __version__

    form = _form(equation, special)
    quick = _identity(equation, special, program)
    if "program" not in quick:
        # What the language's own functions mean is part of the version.
        yield cache.key_of({**quick, **form, "lncompile": __version__})
    yield cache.key_of({**_program_text(program), **form})


def abi() -> list[object]:
    """What libraries expect of the process that calls them from Python."""
    return [_ABI, *(f"{slot.name}={slot.value}" for slot in Slot)]


def _form(equation: Equation, special: Specialization) -> dict[str, object]:
    """What arrays a kernel takes."""
    return {
        "arguments": [
            [name, [list(dim) for dim in dims], there] for name, dims, there in _arguments(equation, special)
        ],
        "pattern": equation.pattern.text,
        "sizes": dict(special.sizes),
        "dots": special.dots,
    }


def _arguments(
    equation: Equation, special: Specialization
) -> tuple[tuple[str, tuple[ax.Dim, ...], bool], ...]:
    dtypes = dict(special.dtypes)
    return tuple((a.name, a.dims, a.name in dtypes) for a in equation.arguments)


def _program_text(program: Callable[[], Program]) -> Mapping[str, object]:
    from lncompile.printer import show

    return {"program": show(program())}


def _is_schedule(value: Mapping[str, int]) -> bool:
    """Whether a record's schedule is one; asked before compiling alone, since it imports the scheduler."""
    from lncompile.schedule.cpu import Schedule

    try:
        Schedule.from_json(value)
    except LncValueError:
        return False
    return True


def _are_changes(value: Mapping[str, int]) -> bool:
    """Whether a record's schedule is one for CUDA."""
    from lncompile.schedule.cuda import are_changes

    return are_changes(value)


def _build_for_device(equation: Equation, signature: Signature, special: Specialization) -> AnyKernel:
    """The same for CUDA: code for an architecture, made without a device."""
    from lncompile.device_kernel import DeviceKernel

    target = find_cuda(special.target)
    special = special._replace(target=target.name)
    program = memoized(lambda: traced(equation, special))
    changes: Mapping[str, int] | None = None
    compiled = memoized(lambda: device_compilation(equation, special, program(), changes))
    if 0 in dict(special.sizes).values():
        from lncompile.device_empty import EmptyDeviceKernel
        from lncompile.empty import empty_kernel

        made = compilation(equation, special._replace(target="cpu"), program())
        stages = LazyStages(("ir", "grad"), lambda name: made.stages()[name]())
        return EmptyDeviceKernel(empty_kernel(signature, made, stages), stages, target)
    found = _prebuilt(equation, signature, special, program)
    if found is not None:
        return found
    spec = device_spec_of(equation, special, program)
    changes, entry = _tuned(spec, _are_changes)
    if entry is None:
        entry = cache.fetch({**spec, "schedule": changes}, lambda: compiled().artifact())
    source = entry.source

    def stage(name: str) -> str:
        # Which source was taken is known only when all of it is compiled.
        return source if name == "source" else compiled().stages()[name]()

    stages = LazyStages(tuple(interface.CUDA_STAGES), stage)
    return DeviceKernel(signature, entry.library, entry.meta, stages, target)


def _identity(
    equation: Equation, special: Specialization, program: Callable[[], Program]
) -> Mapping[str, object]:
    """What the equation computes: its function's text and what that is applied to, or the program."""
    text = fingerprint(equation.function)  # type: ignore[arg-type]
    constants = [fingerprint_of_value(value) for _, value in special.constants]
    if text is None or None in constants:
        return _program_text(program)
    return {
        "equation": text,
        "defaults": [repr(argument.default) for argument in equation.arguments],
        "constants": [[name, text] for (name, _), text in zip(special.constants, constants, strict=True)],
        "dtypes": special.dtypes,
        "out_dtype": special.out_dtype,
    }


def constants_of(equation: Equation, given: Mapping[str, object]) -> tuple[tuple[str, Any], ...]:
    """The value of every compile-time constant; ``LncError`` names one that is missing or of a wrong type."""
    return tuple(
        (name, _constant(equation, name, given.get(name, default), default))
        for name, default in equation.constants.items()
    )


def _constant(equation: Equation, name: str, value: object, default: object) -> object:
    if value is inspect.Parameter.empty:
        raise LncTypeError(f"{name}: {equation.name} needs this constant")
    value = plain(value)
    if _is_number(default) and not _is_number(value):
        raise LncTypeError(f"{name}: expected a number; got {value!r}")
    return value


def plain(value: Any) -> Any:
    """A scalar of NumPy's, or an array without dimensions, as the Python value that it holds."""
    return value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


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


def runs_here(target: CpuTarget) -> bool:
    """Whether this machine executes the code of ``target``: each level includes those before it."""
    here = host()
    names = list(TARGETS)
    return target.triple == here.triple and names.index(target.name) <= names.index(here.name)


def overrides(norm: str) -> Mapping[str, str]:
    if not os.environ.get("LNCOMPILE_OVERRIDE"):
        return {}
    from lncompile.compiler import override_digest

    return override_digest(norm)


#: NVVM and nvJitLink of CUDA 13 and of CUDA 12.
_NVIDIA = ("nvidia_nvvm", "nvidia_nvjitlink", "nvidia_cuda_nvcc_cu12", "nvidia_nvjitlink_cu12")


def device_versions() -> dict[str, str]:
    """Versions of what makes the code of a device, beside what makes any."""
    return _versions_of("numba_cuda", "cuda_core", *_NVIDIA)


def versions() -> dict[str, str]:
    """Versions of what makes the code, and a stamp of this package's own files."""
    return _versions_of("numba", "llvmlite") | {"lncompile": _stamp()}


@memoized
def _versions_of(*packages: str) -> dict[str, str]:
    """Versions of packages by name, '' for one that is not installed; imports none of them."""
    found = dict.fromkeys(packages, "")
    for directory in sys.path:
        try:
            names = os.listdir(directory or ".")
        except OSError:
            continue
        for name in names:
            package, _, rest = name.partition("-")
            if package in found and not found[package] and rest.endswith(".dist-info"):
                found[package] = rest.removesuffix(".dist-info")
    return found


@memoized
def _stamp() -> str:
    """Sizes and times of the package's files: a changed compiler makes other keys. Reading all takes 2 ms."""
    here = os.path.dirname(os.path.abspath(__file__))
    roots = (
        [here]
        if os.path.isdir(os.path.join(here, "templates"))
        else [here, os.path.join(os.path.dirname(here), "templates")]
    )
    stamps: list[str] = []
    while roots:
        root = roots.pop()
        with os.scandir(root) as entries:
            for entry in entries:
                if entry.is_dir():
                    roots.append(entry.path)
                elif entry.name.endswith(".py"):
                    status = entry.stat()
                    stamps.append(f"{entry.path} {status.st_size} {status.st_mtime_ns}")
    return cache.key_of({"files": sorted(stamps)})
