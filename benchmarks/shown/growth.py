"""Time against rows and against features, over six orders of magnitude: straight lines, and where they break.

A larger array may take longer by at most the factor by which it is larger, and not less long than the smaller
one. Where neighbouring sizes break that by more than a factor, and by more than their rounds differ, there
is a cliff. Where the copy of the same bytes has it too, it is the machine's, such as the end of a cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..contenders import LIMIT, OURS
from ..grid import PHASES, Case
from ..rounds import stats
from ..rounds.store import Cell

#: Elements of the axis that stays: rows of 256 bytes; as many rows as keep two threads busy.
FEATURES, ROWS = 64, 16
#: The largest size of the axis that grows, 2 to its power.
_LARGEST = 20

#: A cliff is higher than this.
FACTOR = 1.25

AXES = ("rows", "features")


def sizes(largest: int = _LARGEST) -> list[int]:
    """1 to 2^largest: the powers of two, each one more, and what is half way to the next."""
    found = {1}
    for power in range(1, largest + 1):
        found |= {2**power, 2**power + 1, 3 * 2 ** (power - 1)}
    return sorted(size for size in found if size <= 2**largest)


def cases(
    norm: str, axis: str, dtype: str = "float32", phases: Sequence[str] = PHASES, largest: int = _LARGEST
) -> Iterator[Case]:
    """The sizes of one axis, the other fixed."""
    for phase in phases:
        for size in sizes(largest):
            shape = (size, FEATURES) if axis == "rows" else (ROWS, size)
            yield Case(norm, shape, "rows", dtype, phase)


@dataclass(frozen=True)
class Cliff:
    """Between two neighbouring sizes, ``factor`` too many: ``slow`` is the size that takes too long.

    ``of_copy`` is the same factor for the copy of the same bytes.
    """

    axis: str
    phase: str
    threads: int
    mode: str
    sizes: tuple[int, int]
    slow: int
    factor: float
    of_copy: float

    @property
    def of_the_machine(self) -> bool:
        """Whether the copy has most of it."""
        return self.factor < FACTOR * self.of_copy


def line_of(cells: Sequence[Cell], axis: str) -> list[Cell]:
    """The cells that lie on the axis, by size."""
    at, fixed = (0, FEATURES) if axis == "rows" else (1, ROWS)
    chosen = [cell for cell in cells if len(cell.case.shape) == 2 and cell.case.shape[1 - at] == fixed]
    return sorted(chosen, key=lambda cell: cell.case.shape[at])


def cliffs(cells: Sequence[Cell], axis: str) -> Iterator[Cliff]:
    """The cliffs of the cells of one norm, phase, number of threads and mode along the axis."""
    at = AXES.index(axis)
    line = [cell for cell in line_of(cells, axis) if cell.time(OURS) is not None]
    for small, large in pairwise(line):
        grown = large.case.bytes / small.case.bytes
        factor, slow_is_large = excess(small.time(OURS), large.time(OURS), grown)
        if factor <= FACTOR:
            continue
        copy = copy_excess(small.time(LIMIT), large.time(LIMIT), grown, slow_is_large)
        sizes = (small.case.shape[at], large.case.shape[at])
        yield Cliff(
            axis,
            small.case.phase,
            small.threads,
            small.mode,
            sizes,
            sizes[slow_is_large],
            factor,
            copy,
        )


def excess(small: stats.Spread | None, large: stats.Spread | None, grown: float) -> tuple[float, bool]:
    """The factor by which a pair breaks the rule, and whether it is the larger that is slow.

    ``grown`` is how many times as large the larger one is. 1 where the spread explains it.
    """
    if small is None or large is None:
        return 1.0, False
    # The rounds that are kindest to the rule decide whether it is broken, the medians by how much.
    too_slow, too_fast = large.median / (small.median * grown), small.median / large.median
    if large.least / (small.largest * grown) > 1 and too_slow >= too_fast:
        return max(1.0, too_slow), True
    if small.least / large.largest > 1:
        return max(1.0, too_fast), False
    return 1.0, False


def copy_excess(
    small: stats.Spread | None, large: stats.Spread | None, grown: float, slow_is_large: bool
) -> float:
    """The same factor of the copy, whatever its spread."""
    if small is None or large is None:
        return 1.0
    factor = large.median / (small.median * grown) if slow_is_large else small.median / large.median
    return max(1.0, factor)
