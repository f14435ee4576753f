"""What the code of a specialization depends on: what its key in the cache is made of.

what is computed      the equation's text or its program, dtypes, constants
on what arrays        dimensions, sizes, which are left out
for what              the target's architecture and features
by what               versions of the compilers, a stamp of this package's own files
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache as memoized
from typing import TYPE_CHECKING

from lncompile import axes as ax
from lncompile import cache
from lncompile.backends.cpu.runtime import Slot
from lncompile.backends.cpu.target import CpuTarget
from lncompile.backends.cuda.target import CudaTarget
from lncompile.equation import Equation
from lncompile.fingerprint import fingerprint, fingerprint_of_value
from lncompile.specialization import Specialization

if TYPE_CHECKING:
    from lncompile.ir import Program

#: Counts changes of what entry points expect of the process beside the table's slots.
_ABI = 1


def spec_of(
    equation: Equation, special: Specialization, target: CpuTarget, program: Callable[[], Program]
) -> dict[str, object]:
    """All that the code of a specialization depends on, but for the schedule where it is tuned."""
    return {
        **_identity(equation, special, program),
        **_form(equation, special),
        "target": [target.name, target.triple, target.cpu, target.features, target.cache_bytes],
        "abi": abi(),
        "versions": versions(),
        "override": overrides(equation.name),
    }


def device_spec_of(
    equation: Equation, special: Specialization, target: CudaTarget, program: Callable[[], Program]
) -> dict[str, object]:
    """The same for CUDA."""
    return {
        **_identity(equation, special, program),
        **_form(equation, special),
        "target": list(target),
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


def _program_text(program: Callable[[], Program]) -> Mapping[str, object]:
    from lncompile.printer import show

    return {"program": show(program())}


def _form(equation: Equation, special: Specialization) -> dict[str, object]:
    """What arrays a kernel takes."""
    return {
        "arguments": [
            [name, [list(dim) for dim in dims], there]
            for name, dims, there in arguments_of(equation, special)
        ],
        "pattern": equation.pattern.text,
        "sizes": dict(special.sizes),
        "dots": special.dots,
    }


def arguments_of(
    equation: Equation, special: Specialization
) -> tuple[tuple[str, tuple[ax.Dim, ...], bool], ...]:
    """Name and dimensions of every argument, and whether it is given."""
    dtypes = dict(special.dtypes)
    return tuple((a.name, a.dims, a.name in dtypes) for a in equation.arguments)


def overrides(norm: str) -> Mapping[str, str]:
    """What ``LNCOMPILE_OVERRIDE`` replaces for a norm: the hash of each file."""
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
