"""What a kernel compiled for CUDA tells of its launches: enough to interpret or launch it from anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from lncompile.backends.cuda.packed import Code
from lncompile.backends.cuda.plan import Plan
from lncompile.interface import Phase, Role


class Launch(NamedTuple):
    """One launch of a phase.

    Attributes:
        phase: ``forward`` or ``backward``.
        entry: the name of the ``.entry`` in ``ptx`` and of the function in ``cubin``.
        ptx: the PTX module that holds it, as given to the linker.
        cubin: that module, linked for the target.
        grid, block, cluster: their three sizes each.
        shared: bytes of dynamic shared memory.
        args: one element for each parameter, in order: ``{"buffer": name}`` or ``{"value": number}``.
    """

    phase: str
    entry: str
    ptx: str
    cubin: bytes
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    cluster: tuple[int, int, int]
    shared: int
    args: list[dict[str, Any]]


class Array(NamedTuple):
    """An array of a launch: row-major and contiguous; no workspace has to be filled before."""

    role: Role
    of: str | None
    dtype: str
    shape: tuple[int, ...]
    fill: int | None = None


def launches(name: str, plan: Plan, codes: Mapping[str, Code]) -> tuple[Launch, ...]:
    """The launches of the phase called ``name``, in order."""
    return tuple(
        Launch(
            name,
            grid.entry,
            codes[grid.entry].ptx,
            codes[grid.entry].cubin,
            (grid.blocks, 1, 1),
            (grid.threads, 1, 1),
            (grid.cluster, 1, 1),
            grid.shared,
            [*({"buffer": buffer} for buffer in grid.buffers), *({"value": n} for n in grid.numbers)],
        )
        for grid in plan.grids
    )


def arrays(phase: Phase, plan: Plan, axes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    """The arrays of a phase by name, for batch axes of these sizes."""
    found = {}
    for buffer in phase.buffers:
        if buffer.role == "absent":
            continue
        shape: tuple[int, ...] = (plan.workspaces.get(buffer.name, 0),)
        if buffer.role != "workspace":
            shape = tuple(n for dim in buffer.dims for n in ((dim,) if isinstance(dim, int) else axes[dim]))
        found[buffer.name] = Array(buffer.role, buffer.of, buffer.dtype, shape)
    return found
