"""What is launched for a phase: plain data that survives a trip through JSON."""

from __future__ import annotations

from typing import Any, NamedTuple


class Blocks(NamedTuple):
    """A number of blocks that a launch chooses: ``name`` of ``per`` positions each.

    ``size`` is the number of positions, ``others`` that of the units beside each block, and ``teams`` how
    many teams a multiprocessor computes at a time; C expressions over the names of sizes. Multiprocessors
    count in whole groups of ``group``.
    """

    name: str
    per: str
    size: str
    others: str
    teams: int
    least: int
    group: int = 1


class Kernel(NamedTuple):
    """One kernel: pointers in order of ``buffers``, then all ``numbers`` by name, as int64.

    ``units`` is the number of units, a C expression; a thread block does ``teams`` of them with ``threads``
    threads each and ``shared`` bytes of dynamic shared memory beside ``static`` ones; or ``cluster`` thread
    blocks do one.
    """

    entry: str
    buffers: tuple[str, ...]
    numbers: tuple[str, ...]
    units: str
    threads: int
    teams: int
    shared: int
    cluster: int = 1
    static: int = 0


class Launches(NamedTuple):
    """The kernels of a phase in order, and the numbers of blocks that are to be chosen before."""

    kernels: tuple[Kernel, ...]
    blocks: tuple[Blocks, ...]


def shared_bytes(*phases: Launches) -> int:
    """The most shared memory that a block of any kernel needs."""
    return max((k.shared + k.static for launches in phases for k in launches.kernels), default=0)


def to_json(launches: Launches) -> dict[str, Any]:
    """``launches`` as dicts, lists and plain values."""
    return {
        "kernels": [kernel._asdict() for kernel in launches.kernels],
        "blocks": [blocks._asdict() for blocks in launches.blocks],
    }


def from_json(data: dict[str, Any]) -> Launches:
    """The inverse of :func:`to_json`, after a trip through JSON text."""
    kernels = (
        Kernel(**kernel | {"buffers": tuple(kernel["buffers"]), "numbers": tuple(kernel["numbers"])})
        for kernel in data["kernels"]
    )
    return Launches(tuple(kernels), tuple(Blocks(**blocks) for blocks in data["blocks"]))
