"""From a norm and the shapes and dtypes of a call to a kernel: out of the cache, or compiled into it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from functools import cache as memoized
from typing import TYPE_CHECKING, Protocol

from lncompile import cache, tunings
from lncompile.builders import Builder, LazyStages, builder_of, traced
from lncompile.equation import Equation
from lncompile.kernel import Signature
from lncompile.specialization import Specialization

if TYPE_CHECKING:
    from lncompile.device_kernel import AnyKernel
    from lncompile.ir import Program


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
    builder = builder_of(equation, special)
    program = memoized(lambda: traced(equation, builder.special))
    if 0 in dict(special.sizes).values():
        return builder.empty_kernel(signature, program())
    found = _prebuilt(equation, signature, builder.special, program)
    if found is not None:
        return found
    spec = builder.spec(program)
    schedule, kept = _tuned(spec, builder)
    compiled = memoized(lambda: builder.compilation(program(), schedule))
    entry = kept or cache.fetch({**spec, "schedule": schedule}, lambda: compiled().artifact())

    def stage(name: str) -> str:
        # Of kernels for a device that spill, another source may have been taken than the first.
        return entry.source if name == "source" else compiled().stages()[name]()

    return builder.kernel(signature, entry, LazyStages(builder.stage_names, stage))


def _tuned(
    spec: Mapping[str, object], builder: Builder
) -> tuple[Mapping[str, int] | None, cache.Entry | None]:
    """What was found best for ``spec`` on this machine, None for the heuristic; its kernel, if it is kept."""
    schedule = tunings.schedule_for(spec)
    if schedule is None:
        return None, None
    entry = cache.lookup(cache.key_of({**spec, "schedule": schedule}))
    return schedule if entry is not None or builder.is_schedule(schedule) else None, entry


def _prebuilt(
    equation: Equation, signature: Signature, special: Specialization, program: Callable[[], Program]
) -> AnyKernel | None:
    """What was built ahead of time for a specialization."""
    found = (finder(equation, signature, special, program) for finder in prebuilt)
    return next((kernel for kernel in found if kernel is not None), None)
