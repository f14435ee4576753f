"""``save`` of a compiled kernel: a build of one kernel for one target, in this process."""

from __future__ import annotations

import os

from lncompile import axes as ax
from lncompile.aot import directory as directories
from lncompile.aot.build import build, here
from lncompile.aot.wanted import Wanted
from lncompile.norm import Dispatcher
from lncompile.specialize import Specialization, compiling


def save(
    dispatcher: Dispatcher,
    special: Specialization,
    sizes: ax.Sizes,
    target: str,
    directory: str | os.PathLike[str],
) -> None:
    """Write the kernel of a specialization, for the named target, to ``directory``."""
    wanted = Wanted(dispatcher.equation.name, dispatcher, special._replace(target=target), sizes, (target,))
    with compiling():
        built = build([wanted], here)
    directories.write(directory, built.files)
