"""How a stage's kernel goes over its axes: plain data that the cut of stages and the emitter share."""

from __future__ import annotations

from dataclasses import dataclass

from lncompile.ir import Axes


@dataclass(frozen=True)
class Loops:
    """How a stage's kernel goes over its axes.

    ``domain`` are all of them in memory order, ``inside`` those that a unit of work runs over. ``vector`` is
    the axis in the lanes, ``lanes`` of it at a time; ``block`` rows make one partial sum, or up to
    ``most_block``, the more rows a call has. Vectors at the same place of ``group`` rows are computed one
    after another, so that what these rows share stays in registers. Of ``together`` rows the row-sized values
    are computed at once, side by side.
    """

    domain: tuple[str, ...]
    inside: Axes
    vector: str | None
    lanes: int
    block: int
    group: int = 1
    together: int = 1
    most_block: int = 0

    @property
    def units(self) -> tuple[str, ...]:
        """The axes of which a unit has one position."""
        return tuple(name for name in self.domain if name not in self.inside and name != self.vector)

    @property
    def across(self) -> bool:
        """Whether the lanes hold different rows: the vector axis is none that a unit runs over."""
        return self.vector is not None and self.vector not in self.inside

    @property
    def row_axes(self) -> tuple[str, ...]:
        """The axes that a row-sized value may vary over."""
        return tuple(name for name in self.domain if name not in self.inside)
