"""``lnc.use``: norms take kernels from directories first, and compile what is not there, or refuse to."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lncompile.aot.directory import Path
from lncompile.aot.shelf import Shelf, Shelved
from lncompile.backends.cpu.target import host
from lncompile.backends.cuda.target import is_cuda
from lncompile.equation import Equation
from lncompile.errors import LncValueError
from lncompile.kernel import Signature
from lncompile.keys import identities
from lncompile.specialization import Specialization
from lncompile.specialize import prebuilt

if TYPE_CHECKING:
    from lncompile.device_kernel import AnyKernel
    from lncompile.ir import Program


def use(*directories: Path, strict: bool = False) -> None:
    """Let norms find their kernels in these directories before the cache; later calls replace earlier ones.

    Kernels that a norm has already stay in use, so call this first. With ``strict`` nothing is compiled: a
    call that no kernel of the directories fits raises ``LncError``. Without directories and ``strict``, all
    is as before. Raises ``LncError`` as :func:`lncompile.load` does.
    """
    shelves = [Shelf(directory) for directory in directories]
    prebuilt[:] = [_Finder(shelves, strict)] if shelves or strict else []


class _Finder:
    """Looks a specialization up by where its arrays are and what its kernel computes, not by its name."""

    def __init__(self, shelves: list[Shelf], strict: bool) -> None:
        self._strict = strict
        self._directories = [str(shelf.directory) for shelf in shelves]
        self._found: dict[tuple[str, str], tuple[Shelf, Shelved]] = {}
        for shelf in reversed(shelves):
            for shelved in shelf.kernels:
                for place in shelved.places:
                    for identity in shelved.record["python"]["identities"]:
                        self._found[place, identity] = shelf, shelved

    def __call__(
        self,
        equation: Equation,
        signature: Signature,
        special: Specialization,
        program: Callable[[], Program],
    ) -> AnyKernel | None:
        on_device = is_cuda(special.target)
        place = "cpu" if not on_device and special.target in ("cpu", host().name) else special.target
        if any(place == there for there, _ in self._found):
            for identity in identities(equation, special, program):
                if (place, identity) in self._found:
                    shelf, shelved = self._found[place, identity]
                    return shelf.open(shelved, signature)
        if not self._strict:
            return None
        dtypes = ", ".join(f"{name} {dtype}" for name, dtype in special.dtypes)
        sizes = ", ".join(f"{name}={size}" for name, size in special.sizes)
        constants = ", ".join(f"{name}={value!r}" for name, value in special.constants)
        target = special.target if on_device else ""
        wanted = "; ".join(part for part in (target, dtypes, sizes, constants) if part)
        raise LncValueError(
            f"{equation.name}: no kernel for {wanted} in {', '.join(self._directories) or 'any directory'}, "
            "and lnc.use(strict=True) forbids to compile one"
        )
