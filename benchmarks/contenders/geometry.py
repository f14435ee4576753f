"""Where the axes of a case are, for contenders that have no norms but array operations."""

from __future__ import annotations

from dataclasses import dataclass

from ..grid import GROUPS, Case


@dataclass(frozen=True)
class Geometry:
    """x is reshaped to ``view``; statistics go over its axes ``reduce``.

    ``parameter`` is the shape of weight and bias that broadcasts against the view; their gradients are sums
    over the axes ``batch``.
    """

    view: tuple[int, ...]
    reduce: tuple[int, ...]
    parameter: tuple[int, ...]
    batch: tuple[int, ...]


def geometry(case: Case) -> Geometry:
    """The axes of the case, in the order of memory."""
    shape = case.physical
    last = len(shape) - 1
    channel = last if case.layout != "first" else 1
    positions = tuple(axis for axis in range(1, len(shape)) if axis != channel)
    if case.layout == "rows":
        reduce: tuple[int, ...] = (last,)
    elif case.norm == "batch_norm":
        reduce = (0, *positions)
    elif case.norm == "instance_norm":
        reduce = positions
    else:
        size = shape[channel] // GROUPS
        shape = (*shape[:channel], GROUPS, size, *shape[channel + 1 :])
        groups = (channel, channel + 1)
        reduce = tuple(axis for axis in range(1, len(shape)) if axis != channel)
        return _with_parameters(shape, reduce, groups)
    return _with_parameters(shape, reduce, (channel,))


def _with_parameters(shape: tuple[int, ...], reduce: tuple[int, ...], channels: tuple[int, ...]) -> Geometry:
    parameter = tuple(size if axis in channels else 1 for axis, size in enumerate(shape))
    batch = tuple(axis for axis in range(len(shape)) if axis not in channels)
    return Geometry(shape, reduce, parameter, batch)
