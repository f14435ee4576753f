"""Tools that test CUDA code without a GPU.

`run` executes the PTX of a kernel's launches on NumPy arrays, by the rules of PTX, and raises where the
code does what those leave undefined; `execute` does so with one entry. `ptx.sass` counts what the machine
code does.
"""

from .faults import (
    DataRace,
    Deadlock,
    Divergence,
    Fault,
    MisalignedAccess,
    OutOfBounds,
    PtxError,
    UninitialisedRead,
    UnknownPtx,
)
from .launch import execute, run

__all__ = [
    "DataRace",
    "Deadlock",
    "Divergence",
    "Fault",
    "MisalignedAccess",
    "OutOfBounds",
    "PtxError",
    "UninitialisedRead",
    "UnknownPtx",
    "execute",
    "run",
]
