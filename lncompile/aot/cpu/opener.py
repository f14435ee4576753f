"""Kernels for this machine's processor out of a directory, without a compiler."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from typing import Any

from lncompile import interface
from lncompile.backends.cpu.calls import PhaseRunner
from lncompile.builders import LazyStages
from lncompile.cache import Entry
from lncompile.errors import LncValueError
from lncompile.kernel import Kernel, Signature


def opened(
    record: Mapping[str, Any], target: str, signature: Signature, read: Callable[[str], bytes]
) -> Kernel:
    """The kernel for a level of CPUs, from the library that ``read`` gives by the name of its file."""
    name = record["library"]
    data = read(name)
    try:
        library = Entry("", data, "", {}, None).open_library(ctypes.CDLL)
    except OSError as error:
        raise LncValueError(f"{name}: cannot be loaded: {error}") from error
    python = record["python"]
    offered = interface.from_json(python["interface"])
    runners = PhaseRunner(library, offered.forward), PhaseRunner(library, offered.backward)
    return Kernel(signature, offered, target, python["returns_tuple"], *runners, LazyStages((), str))
