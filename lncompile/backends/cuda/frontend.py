"""Emitted source to PTX: Numba types it, NVVM optimises it. Needs no GPU and no driver."""

from __future__ import annotations

import linecache
import re
import warnings
from typing import Any

from numba import cuda
from numba.cuda import types
from numba.cuda.types import CPointer

from lncompile.backends.cuda import intrinsics
from lncompile.backends.cuda.target import CudaTarget
from lncompile.backends.cuda.vectors import ELEMENTS
from lncompile.digest import short_digest
from lncompile.emit.cuda.lower import Function
from lncompile.emit.cuda.words import WORDS
from lncompile.errors import CompilerBug

_ENTRY = re.compile(r"\.entry\s+([\w$]+)")


def executed(source: str) -> dict[str, Any]:
    """The module's functions, over the intrinsics."""
    path = f"<lncompile {short_digest(source)}>"
    linecache.cache[path] = (len(source), None, source.splitlines(keepends=True), path)
    namespace: dict[str, Any] = {}
    exec(compile(source, path, "exec"), namespace)
    return namespace | {word: getattr(intrinsics, word) for word in WORDS}


def ptx_of(namespace: dict[str, Any], function: Function, target: CudaTarget) -> str:
    """The PTX module of one kernel: the same bytes in every process."""
    arguments = [CPointer(ELEMENTS[dtype]) for dtype in function.pointers]
    arguments += [types.int64] * function.numbers
    with warnings.catch_warnings():
        # Of kernels that use few threads, and of options of newer drivers.
        warnings.simplefilter("ignore")
        ptx, _ = cuda.compile(
            namespace[function.name],
            types.void(*arguments),
            device=False,
            abi="numba",
            cc=target.capability,
            output="ptx",
            launch_bounds=(function.threads,),
        )
    return _tidied(_in_clusters(ptx, function.cluster), function.name)


def _in_clusters(ptx: str, blocks: int) -> str:
    """``ptx`` whose entry can be launched in clusters of so many blocks alone."""
    if blocks == 1:
        return ptx
    directives = f".explicitcluster\n.reqnctapercluster {blocks}, 1, 1\n"
    return re.sub(r"^(?=\.maxntid)", directives, ptx, flags=re.M)


def _tidied(ptx: str, name: str) -> str:
    """``ptx`` with its entry called ``name``, without what Numba adds for exceptions, and without comments.

    Numba's name for the entry counts what the process has compiled before.
    """
    found = _ENTRY.findall(ptx)
    if len(found) != 1:
        raise CompilerBug(f"{name}: expected one entry; got {found}")
    ptx = re.sub(r"^\.common \.global .*NumbaEnv.*\n", "", ptx, flags=re.M)
    ptx = re.sub(r"^\s*//.*\n", "", ptx, flags=re.M)
    return re.sub(rf"{re.escape(found[0])}(?=\W|_param_)", name, ptx)
