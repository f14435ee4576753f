"""What a compiled library offers: its buffers, and the calls of each phase, in order.

Plain data that survives a trip through JSON, so that a cached library is called without anything
of the compiler. (Named tuples, since these classes are made in every process that calls a kernel: a dataclass
takes 0.4 ms, a named tuple 0.08.) The C functions all have the same form::

    int32_t NAME(void *buffer_0, ..., int64_t size_0, ..., int64_t begin, int64_t end);

and do the units ``begin <= i < end`` of all; cutting them in any way gives the same bits.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

Role = Literal["input", "absent", "output", "saved", "cotangent", "gradient", "workspace"]

#: The stages of a compilation that can be shown, in order, and what a file that holds one ends in.
STAGES = {"ir": "txt", "grad": "txt", "schedule": "txt", "source": "py", "llvm": "ll", "asm": "s"}

CUDA_STAGES = {"ir": "txt", "grad": "txt", "schedule": "txt", "source": "py", "ptx": "ptx", "sass": "sass"}

#: Roles that a call writes to.
WRITTEN: frozenset[Role] = frozenset({"output", "saved", "gradient", "workspace"})


class Buffer(NamedTuple):
    """One array of a phase.

    ``dims`` describes the array's dimensions in order: an int is a size that the code is specialised on, a
    string names a batch axis whose size is known at the call alone; ``"..."`` stands for any number of
    dimensions and occurs at most once. Buffers that share a name share the sizes. A ``workspace`` is
    one-dimensional, its single dim a C expression over the names of sizes (its number of elements).
    An ``optional`` buffer that is None, or left out at the end, is passed as NULL. One of role ``absent``
    keeps the place of an argument that the code does without: it takes None alone, and no call has it.
    ``axes`` are the names of all axes in the dimensions, also of those with a fixed size.
    """

    name: str
    role: Role
    dtype: str
    dims: tuple[int | str, ...]
    of: str | None = None
    optional: bool = False
    axes: tuple[str, ...] = ()


class Size(NamedTuple):
    """An int64 parameter: ``factor`` times the product of the sizes of these batch axes."""

    name: str
    axes: tuple[str, ...]
    factor: int = 1


class Call(NamedTuple):
    """One C function: pointers in order of ``buffers``, then every size of the phase, then begin and end.

    ``units`` is the number of units, and ``unit_work`` the number of elements that one touches, which decides
    between serial and threads: C expressions over the names of sizes. ``parts``, where it is not empty, is an
    expression for the number of parts that the units fall into, in order and equally. A part needs nothing of
    other parts of this call, or of its neighbours with the same ``parts``: they may be done part by part.
    Of ``shared`` buffers a unit reads elements that another one may have written to, were they what the call
    writes.
    """

    function: str
    buffers: tuple[str, ...]
    units: str
    unit_work: str
    parts: str = ""
    shared: tuple[str, ...] = ()


class Phase(NamedTuple):
    """Forward or backward: the arrays it is given, in the order of the entry point, and its calls in order.

    ``entry`` names the exported function that Python calls directly with one array (or None) for each buffer.
    """

    entry: str
    buffers: tuple[Buffer, ...]
    sizes: tuple[Size, ...]
    calls: tuple[Call, ...]


class Interface(NamedTuple):
    """Both phases of one library, and the norm that it was compiled from."""

    norm: str
    forward: Phase
    backward: Phase


def to_json(interface: Interface) -> dict[str, Any]:
    """``interface`` as dicts, lists and plain values."""
    return {
        "norm": interface.norm,
        "forward": _plain(interface.forward),
        "backward": _plain(interface.backward),
    }


def from_json(data: dict[str, Any]) -> Interface:
    """The inverse of :func:`to_json`, after a trip through JSON text."""
    return Interface(data["norm"], _phase(data["forward"]), _phase(data["backward"]))


def _plain(phase: Phase) -> dict[str, Any]:
    return {
        "entry": phase.entry,
        "buffers": [buffer._asdict() for buffer in phase.buffers],
        "sizes": [size._asdict() for size in phase.sizes],
        "calls": [call._asdict() for call in phase.calls],
    }


def _phase(data: dict[str, Any]) -> Phase:
    return Phase(
        data["entry"],
        tuple(
            Buffer(**buffer | {"dims": tuple(buffer["dims"]), "axes": tuple(buffer["axes"])})
            for buffer in data["buffers"]
        ),
        tuple(Size(**size | {"axes": tuple(size["axes"])}) for size in data["sizes"]),
        tuple(
            Call(**call | {name: tuple(call.get(name, ())) for name in ("buffers", "shared")})
            for call in data["calls"]
        ),
    )
