"""The limit: the faster of a plain and a streaming copy of the same bytes with the same threads.

For a backward, which reads x and dy and writes dx, two arrays are read and one is written the same way.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import numpy as np

from ..grid import ITEM_BYTES, Case
from . import Prepared
from .data import aligned
from .streams import KINDS, TURN, Engine, Stream

#: A statement moves at least so many bytes, so that its call from Python does not count.
_BYTES_A_STATEMENT = 4 << 20

#: Up to so many bytes one thread may be faster than several, which have to be started.
_SERIAL_BELOW = 8 << 20

_threads = 1


def start(threads: int) -> dict[str, str]:
    """Compile the loops."""
    global _threads
    _threads = threads
    import llvmlite

    engine()
    return {"llvmlite": llvmlite.__version__}


def peak() -> float:
    """Billions of float32 operations a second on all threads."""
    from .peak import gigaflops

    return gigaflops(_threads)


@cache
def engine() -> Engine:
    """The loops of this process."""
    return Engine()


def prepare(case: Case, mode: str) -> Prepared:
    """Every loop of the case's kind as a variant, and the C library's ``memcpy`` where one array is read."""
    reads = 1 if case.phase == "forward" else 2
    size = case.size * ITEM_BYTES[case.dtype]
    length = -(-size // TURN) * TURN
    # A pattern that no memory compresses and no page shares; prefetches may run past the end, stores do not.
    arrays = [aligned((length,), np.uint8) for _ in range(reads + 1)]
    for array in arrays:
        array.view(np.uint64)[:] = np.arange(length // 8, dtype=np.uint64)
    names: dict[str, Any] = {}
    variants: dict[str, str] = {}
    repeats = max(1, _BYTES_A_STATEMENT // (length * (reads + 1)))
    for threads in _thread_counts(case):
        for kind in KINDS:
            if kind.reads == reads:
                name = f"move{len(names)}"
                names[name] = Stream(engine(), kind, arrays, size, threads)
                alone = ", one thread" if threads < _threads else ""
                variants[kind.name + alone] = f"{name}({repeats})"
    if reads == 1 and _threads == 1 and repeats == 1:
        names["memcpy"] = ctypes.CDLL(None).memcpy
        names["to"], names["x"] = (ctypes.c_void_p(array.ctypes.data) for array in arrays)
        names["size"] = ctypes.c_size_t(size)
        variants["memcpy"] = "memcpy(to, x, size)"
    return Prepared(variants, names, list, repeats)


def _thread_counts(case: Case) -> tuple[int, ...]:
    return (_threads, 1) if _threads > 1 and case.bytes <= _SERIAL_BELOW else (_threads,)
