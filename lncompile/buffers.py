"""New arrays for the buffers of a phase, from the shape of the first argument.

The pattern describes the first argument, so its shape tells every batch axis. What is left to do at a call is
written out once as a Python function, four times as quick as walking over the buffers::

    def allocate(x):
        if type(x) is not ndarray:
            return None
        s = x.shape
        if len(s) < 1:
            return None
        if x.nbytes < 262144:
            return (empty(s, float32), empty((*s[:-1],), float32))
        return (pooled(s, float32), pooled((*s[:-1],), float32))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from lncompile import memory
from lncompile.axes import ELLIPSIS
from lncompile.dtypes import TABLE
from lncompile.interface import Buffer, Phase, Role

Array = np.ndarray[Any, np.dtype[Any]]
Allocate = Callable[[object], Any]


def with_role(phase: Phase, *roles: Role) -> list[Buffer]:
    """The buffers of a phase that have one of these roles, in order."""
    return [buffer for buffer in phase.buffers if buffer.role in roles]


def batch_sizes(first: Buffer, shape: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """What each batch axis stands for where the first argument, which ``first`` describes, has ``shape``."""
    return {dim: tuple(shape[_slice(at, first)]) for at, dim in enumerate(first.dims) if isinstance(dim, str)}


def shape_of(buffer: Buffer, first: Buffer, shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of ``buffer`` where the first argument, which ``first`` describes, has ``shape``."""
    sizes = batch_sizes(first, shape)
    return tuple(size for dim in buffer.dims for size in ((dim,) if isinstance(dim, int) else sizes[dim]))


def allocator(
    phase: Phase, buffers: Sequence[Buffer | None], *, single: bool = False, zeros: bool = False
) -> Allocate:
    """A function from the first argument to a tuple of new arrays, None in the place of a None.

    With ``single`` it gives the only array bare, with ``zeros`` the arrays hold those. It gives None where
    the first argument is no plain array or its dimensions do not tell the sizes; what does not fit otherwise
    is left for others to find.
    """
    first = phase.buffers[0]
    made = [buffer for buffer in buffers if buffer is not None]
    lines = ["def allocate(x):", "    if type(x) is not ndarray:", "        return None", "    s = x.shape"]
    # Not where all arrays are like x: it takes as long as a tenth of np.empty.
    if any(buffer.role == "workspace" or buffer.dims != first.dims for buffer in made):
        ellipsis = ELLIPSIS in first.dims
        unfit = f"len(s) < {len(first.dims) - 1}" if ellipsis else f"len(s) != {len(first.dims)}"
        lines += [f"    if {unfit}:", "        return None"]
    if any(buffer.role == "workspace" for buffer in made):
        lines += [f"    {size.name} = {_product(size.axes, size.factor, first)}" for size in phase.sizes]
    if zeros:
        lines.append(f"    return {_arrays('zeros', buffers, first, single)}")
    else:
        lines += [
            f"    if x.nbytes < {memory.MAY_MAKE_POOLED}:",
            f"        return {_arrays('empty', buffers, first, single)}",
            f"    return {_arrays('pooled', buffers, first, single)}",
        ]
    names: dict[str, Any] = {b.dtype: TABLE[b.dtype].numpy for b in made}
    names |= {"ndarray": np.ndarray, "prod": prod}
    names |= {"empty": np.empty, "zeros": np.zeros, "pooled": memory.empty}
    exec("\n".join(lines), names)
    allocate: Allocate = names["allocate"]
    return allocate


def _arrays(new: str, buffers: Sequence[Buffer | None], first: Buffer, single: bool) -> str:
    """The arrays that the function ``new`` makes for ``buffers``: a tuple, or the only one bare."""
    arrays = ["None" if b is None else f"{new}({_shape(b, first)}, {b.dtype})" for b in buffers]
    return arrays[0] if single else f"({''.join(array + ', ' for array in arrays)})"


def _slice(at: int, first: Buffer) -> slice:
    """Where in the first argument's shape the sizes of its dimension ``at`` stand."""
    after = len(first.dims) - at - 1
    if first.dims[at] == ELLIPSIS:
        return slice(at, -after or None)
    if ELLIPSIS in first.dims[:at]:
        return slice(-after - 1, -after or None)
    return slice(at, at + 1)


def _shape(buffer: Buffer, first: Buffer) -> str:
    if buffer.role == "workspace":
        # A C expression of sizes, none of which is negative: its division is Python's floor division.
        elements = str(buffer.dims[0]).replace("/", "//")
        return f"{elements} + {memory.ALIGNMENT // TABLE[buffer.dtype].itemsize}"
    if buffer.dims == first.dims:
        return "s"
    return f"({''.join(_part(dim, first) + ', ' for dim in buffer.dims)})"


def _part(dim: int | str, first: Buffer) -> str:
    if isinstance(dim, int):
        return str(dim)
    where = _slice(first.dims.index(dim), first)
    return f"*s{_text(where)}" if dim == ELLIPSIS else f"s[{where.start}]"


def _product(axes: Sequence[str], factor: int, first: Buffer) -> str:
    factors = [str(factor)] if factor != 1 or not axes else []
    for axis in axes:
        where = _slice(first.dims.index(axis), first)
        factors.append(f"prod(s{_text(where)})" if axis == ELLIPSIS else f"s[{where.start}]")
    return " * ".join(factors)


def _text(where: slice) -> str:
    return f"[{where.start or ''}:{'' if where.stop is None else where.stop}]"
