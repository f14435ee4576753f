"""What :mod:`lncompile.backends.cuda.plan` computes for launches, as expressions for other programs.

Blocks of 8 rows or more, 16 for each multiprocessor at most::

    row_per       -->    max(8, (rows + multiprocessors * 16 - 1) / (multiprocessors * 16))
    row_blocks    -->    (rows + max(8, ...) - 1) / max(8, ...)
"""

from __future__ import annotations

from lncompile.aot.extent import Extent, Extents, over_rows
from lncompile.emit.cuda.launches import Blocks, Kernel, Launches
from lncompile.interface import Phase


def numbers_of(phase: Phase, launches: Launches, extents: Extents) -> dict[str, Extent]:
    """The sizes of a phase, and the numbers of blocks that its launches choose, by name."""
    numbers = extents.of_sizes(phase)
    for blocks in launches.blocks:
        numbers |= _chosen(blocks, numbers)
    return numbers


def grid_of(kernel: Kernel, numbers: dict[str, Extent]) -> Extent:
    """How many blocks a kernel is launched with: none where it has nothing to do."""
    units = over_rows(kernel.units, numbers)
    if kernel.cluster > 1:
        return units * kernel.cluster if isinstance(units, int) else f"({units}) * {kernel.cluster}"
    if isinstance(units, int):
        return -(-units // kernel.teams)
    return units if kernel.teams == 1 else f"({units} + {kernel.teams - 1}) / {kernel.teams}"


def _chosen(blocks: Blocks, numbers: dict[str, Extent]) -> dict[str, Extent]:
    size = over_rows(blocks.size, numbers)
    wanted = _wanted(blocks, over_rows(blocks.others, numbers))
    per = f"max({blocks.least}, ({size} + {wanted} - 1) / ({wanted}))"
    return {blocks.name: f"({size} + {per} - 1) / {per}", blocks.per: per}


def _wanted(blocks: Blocks, others: Extent) -> str:
    """So many blocks that a device is full, with ``others`` units beside each."""
    places = "multiprocessors" if blocks.group == 1 else f"multiprocessors / {blocks.group} * {blocks.group}"
    if isinstance(others, int) and others <= 1:
        return f"{places} * {blocks.teams}"
    beside = others if isinstance(others, int) else f"max({others}, 1)"
    return f"max({places} * {blocks.teams} / {beside}, 1)"
