"""What the interpreter raises; each message ends with the instruction and the first thread at fault."""

from __future__ import annotations

from .scalars import Array
from .syntax import PtxError, UnknownPtx

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
]


class Fault(PtxError):
    """A fault of some of the lanes that execute an instruction: ``lanes`` are their numbers in the wave."""

    def __init__(self, message: str, lanes: Array | None = None) -> None:
        super().__init__(message)
        self.lanes = lanes


class MisalignedAccess(Fault):
    """An address that is no multiple of the access's width."""


class OutOfBounds(Fault):
    """An access outside of what the launch names, or a write to what it may only read."""


class UninitialisedRead(Fault):
    """A read of what nothing has written."""


class DataRace(Fault):
    """Two threads on one location, one of them writing, and nothing that orders them."""


class Divergence(Fault):
    """A barrier, shuffle or vote that threads reach in a way that PTX does not define."""


class Deadlock(Fault):
    """Threads that wait for what never comes, or a kernel that does not end."""
