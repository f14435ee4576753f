"""``save`` of a compiled kernel: a build of one kernel for one target, in this process."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from lncompile import axes as ax
from lncompile.aot import directory as directories
from lncompile.aot.build import build, here
from lncompile.aot.part import Part
from lncompile.aot.wanted import Wanted
from lncompile.backends.cuda.packed import encoded
from lncompile.device_kernel import AnyKernel, DeviceKernel
from lncompile.norm import Dispatcher
from lncompile.specialization import Specialization
from lncompile.specialize import compiling


def save(
    dispatcher: Dispatcher,
    special: Specialization,
    sizes: ax.Sizes,
    kernel: AnyKernel,
    directory: str | os.PathLike[str],
) -> None:
    """Write the kernel of a specialization to ``directory``."""
    target = kernel.target
    wanted = Wanted(dispatcher.equation.name, dispatcher, special._replace(target=target), sizes, (target,))
    with compiling():
        built = build([wanted], _compile_all(kernel))
    directories.write(directory, built.files)


def _compile_all(kernel: AnyKernel) -> Callable[[Sequence[Part]], list[bytes]]:
    """What a device runs is what a build compiles; a library for a CPU is another one than the cache's."""
    if not isinstance(kernel, DeviceKernel):
        return here
    codes = [encoded(code) for code in kernel.codes]
    return lambda parts: codes
