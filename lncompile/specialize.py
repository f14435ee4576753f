"""From a norm and the shapes and dtypes of a call to a kernel: out of the cache, or compiled into it."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache as memoized
from typing import TYPE_CHECKING, Any

from lncompile import cache, kernel
from lncompile.backends.cpu.runtime import Slot
from lncompile.backends.cpu.target import find
from lncompile.errors import LncTypeError
from lncompile.kernel import Kernel, LazyStages, Signature
from lncompile.printer import show
from lncompile.trace import Equation, trace

if TYPE_CHECKING:
    from lncompile.compiler import Compilation

STAGES = ("ir", "grad", "schedule", "source", "llvm", "asm")

#: Counts changes of what entry points expect of the process beside the table's slots.
_ABI = 1


@dataclass(frozen=True)
class Specialization:
    """What code is specialised on, hashable: two calls with equal ones share a kernel.

    ``dtypes`` names the arguments that are present; ``sizes`` are those of feature axes and of axes in split
    dimensions.
    """

    dtypes: tuple[tuple[str, str], ...]
    sizes: tuple[tuple[str, int], ...]
    constants: tuple[tuple[str, Any], ...]
    out_dtype: str | None
    target: str


def signature_of(equation: Equation) -> Signature:
    """How the equation's kernels are called."""
    return Signature(
        equation.name,
        equation.pattern,
        tuple(argument.name for argument in equation.arguments),
        tuple(argument.dims for argument in equation.arguments),
        frozenset(argument.name for argument in equation.arguments if not argument.required),
    )


def build_kernel(equation: Equation, signature: Signature, special: Specialization) -> Kernel:
    """Trace the equation, and load the kernel from the cache or compile it into the cache.

    Raises ``LncError`` where the equation is wrong or its axes are not supported; no error of the disk
    prevents a kernel (``cache.fetch``).
    """
    dtypes, sizes = dict(special.dtypes), dict(special.sizes)
    target = find(special.target)
    program = trace(equation, dtypes, dict(special.constants), sizes, special.out_dtype)
    arguments = tuple((a.name, a.dims, a.name in dtypes) for a in equation.arguments)
    axes = ", ".join(f"{name}={size}" for name, size in special.sizes)
    header = (
        f"{equation.name}: {equation.pattern.text}, {axes or 'no fixed sizes'}",
        "",
        *(f"{name:<12} {dtype}" for name, dtype in special.dtypes),
        f"{'target':<12} {target.name}",
    )

    def compilation() -> Compilation:
        from lncompile.compiler import Compilation
        from lncompile.emit.lower import Request

        return Compilation(program, target, Request(equation.name, equation.pattern, arguments, sizes, header))

    made: list[Compilation] = []

    def stage(name: str) -> str:
        if not made:
            made.append(compilation())
        return made[0].stages()[name]()

    def build() -> cache.Artifact:
        made.append(compilation())
        return made[0].artifact()

    stages = LazyStages(STAGES, stage)
    if 0 in sizes.values():
        from lncompile.empty import empty_kernel

        return empty_kernel(signature, compilation(), stages)
    spec = {
        "program": show(program),
        "arguments": [[name, [list(dim) for dim in dims], there] for name, dims, there in arguments],
        "pattern": equation.pattern.text,
        "sizes": sizes,
        "target": [target.name, target.triple, target.cpu, target.features],
        "abi": [_ABI, *(f"{slot.name}={slot.value}" for slot in Slot)],
        "versions": _versions(),
        "override": _overrides(equation.name),
    }
    entry = cache.fetch(spec, build)
    return kernel.load(signature, entry.open_library(ctypes.CDLL), entry.meta, stages)


def constants_of(equation: Equation, given: Mapping[str, object]) -> tuple[tuple[str, Any], ...]:
    """The value of every compile-time constant; ``LncError`` names one that is missing or of a wrong type."""
    import inspect

    values = []
    for name, default in equation.constants.items():
        value = given.get(name, default)
        if value is inspect.Parameter.empty:
            raise LncTypeError(f"{name}: {equation.name} needs this constant")
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if isinstance(default, int | float) and not isinstance(default, bool) and not is_number:
            number = getattr(value, "item", lambda: None)() if getattr(value, "ndim", None) == 0 else None
            if not isinstance(number, int | float) or isinstance(number, bool):
                raise LncTypeError(f"{name}: expected a number; got {value!r}")
            value = number
        values.append((name, value))
    return tuple(values)


def _overrides(norm: str) -> Mapping[str, str]:
    if not os.environ.get("LNCOMPILE_OVERRIDE"):
        return {}
    from lncompile.compiler import override_digest

    return override_digest(norm)


@memoized
def _versions() -> dict[str, str]:
    """Versions of what makes the code, and a stamp of this package's own files, without importing any of it."""
    found = {"numba": "", "llvmlite": ""}
    for directory in sys.path:
        try:
            names = os.listdir(directory or ".")
        except OSError:
            continue
        for name in names:
            package, _, rest = name.partition("-")
            if package in found and not found[package] and rest.endswith(".dist-info"):
                found[package] = rest.removesuffix(".dist-info")
    return found | {"lncompile": _stamp()}


def _stamp() -> str:
    """Sizes and times of the package's files: a changed compiler makes other keys. Reading them would take 2 ms."""
    here = os.path.dirname(os.path.abspath(__file__))
    roots = [here] if os.path.isdir(os.path.join(here, "templates")) else [here, os.path.join(os.path.dirname(here), "templates")]
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
