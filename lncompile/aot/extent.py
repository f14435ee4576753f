"""Sizes of a kernel as expressions over ``rows``, the product of the batch axes of the first argument.

Where a kernel has several batch axes, the outermost one is as large as ``rows`` says, and the others have the
sizes in the shape that was built for::

    n (g [c]) [h w], g=8    n    -->    "rows / 8"
    b ... [d], 4x37x64      b    -->    "rows / 37"        ...    -->    37

Kernels for a device also have numbers that depend on how many multiprocessors it has, by that name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import prod

from lncompile import axes as ax
from lncompile.aot.wanted import Wanted
from lncompile.backends.cpu.calls import evaluated
from lncompile.errors import LncValueError
from lncompile.interface import Buffer, Phase, Size

#: An integer, or a C expression over ``rows``, for a device also over ``multiprocessors``.
Extent = int | str


class Extents:
    """The sizes of a kernel, for the shape that it was built for but for the number of rows."""

    def __init__(self, wanted: Wanted) -> None:
        pattern = wanted.dispatcher.equation.pattern
        batch = [name for name in pattern.axes if name not in pattern.features]
        fixed = dict(wanted.special.sizes)
        self._free = next((name for name in batch if name not in fixed), None)
        self._sizes = {name: ax.count(name, wanted.sizes) for name in batch if name != self._free}
        #: Rows for each position along the free axis.
        self._inner = prod(self._sizes.values())
        if self._inner == 0:
            raise LncValueError(
                f"shape: expected sizes above zero for the batch axes within the outermost; got {self._sizes}"
            )

    def of_dims(self, buffer: Buffer) -> list[Extent]:
        """The shape of an array; that of a workspace is its number of elements."""
        return [dim if isinstance(dim, int) else self._axes((dim,), 1) for dim in buffer.dims]

    def of_size(self, size: Size) -> Extent:
        """The value of a size that functions take."""
        return self._axes(size.axes, size.factor)

    def of_sizes(self, phase: Phase) -> dict[str, Extent]:
        """The values of all sizes of a phase by name."""
        return {size.name: self.of_size(size) for size in phase.sizes}

    def _axes(self, axes: tuple[str, ...], factor: int) -> Extent:
        known = factor * prod(self._sizes[name] for name in axes if name != self._free)
        if self._free not in axes:
            return known
        if known == self._inner:
            return "rows"
        text = "rows" if self._inner == 1 else f"rows / {self._inner}"
        return text if known == 1 else f"{text} * {known}"


def over_rows(expression: str, numbers: Mapping[str, Extent]) -> Extent:
    """A C expression over the names of ``numbers``, over what they are instead."""
    if expression in numbers:
        return numbers[expression]
    text = re.sub(r"[A-Za-z_]\w*", lambda name: _operand(numbers[name[0]]), expression)
    return text if re.search("[a-z]", text) else evaluated(text, {})


def _operand(extent: Extent) -> str:
    """``extent`` as it stands in an expression."""
    return str(extent) if isinstance(extent, int) or extent.isidentifier() else f"({extent})"


def shapes(phase: Phase, extents: Extents, numbers: Mapping[str, Extent]) -> Mapping[str, list[Extent]]:
    """The shape of every array of a phase by name; sizes of workspaces are over the names of ``numbers``."""
    return {
        buffer.name: [over_rows(str(buffer.dims[0]), numbers)]
        if buffer.role == "workspace"
        else extents.of_dims(buffer)
        for buffer in phase.buffers
        if buffer.role != "absent"
    }
