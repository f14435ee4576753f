"""What a phase launches for arrays of certain sizes: numbers of blocks, grids, sizes of workspaces."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import NamedTuple

from lncompile.backends.cpu.calls import evaluated
from lncompile.emit.cuda.launches import Blocks, Launches
from lncompile.interface import Phase


class Grid(NamedTuple):
    """One launch: its entry, how many blocks of how many threads, and its arguments.

    ``numbers`` come behind the pointers to ``buffers``, as int64; ``shared`` are bytes of dynamic shared
    memory. ``cluster`` neighbouring blocks are one, if there are several.
    """

    entry: str
    blocks: int
    threads: int
    shared: int
    cluster: int
    buffers: tuple[str, ...]
    numbers: tuple[int, ...]


class Plan(NamedTuple):
    """The launches of a phase, and the number of elements of each workspace by name."""

    grids: tuple[Grid, ...]
    workspaces: dict[str, int]


def plan_of(
    phase: Phase, launches: Launches, axes: Mapping[str, tuple[int, ...]], multiprocessors: int
) -> Plan:
    """The plan for batch axes of these sizes, each of which may stand for several dimensions.

    Kernels without a unit to do are not launched.
    """
    numbers = {
        size.name: size.factor * prod(count for axis in size.axes for count in axes[axis])
        for size in phase.sizes
    }
    for blocks in launches.blocks:
        numbers |= _chosen(blocks, numbers, multiprocessors)
    grids = []
    for kernel in launches.kernels:
        units = evaluated(kernel.units, numbers)
        if units:
            given = tuple(numbers[name] for name in kernel.numbers)
            count = -(-units // kernel.teams) * kernel.cluster
            threads = kernel.threads * kernel.teams
            grids.append(
                Grid(kernel.entry, count, threads, kernel.shared, kernel.cluster, kernel.buffers, given)
            )
    workspaces = {
        buffer.name: evaluated(str(buffer.dims[0]), numbers)
        for buffer in phase.buffers
        if buffer.role == "workspace"
    }
    return Plan(tuple(grids), workspaces)


def _chosen(blocks: Blocks, numbers: dict[str, int], multiprocessors: int) -> dict[str, int]:
    """So many blocks that all teams that the device holds at a time have one, and none has too few rows."""
    size, others = evaluated(blocks.size, numbers), evaluated(blocks.others, numbers)
    places = multiprocessors // blocks.group * blocks.group * blocks.teams
    wanted = max(1, places // max(others, 1))
    per = max(blocks.least, -(-size // wanted))
    return {blocks.name: -(-size // per), blocks.per: per}
