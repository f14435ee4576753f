"""What a phase has ready for arrays of one shape on one device: all of its launches but the pointers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import prod
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias

from lncompile.backends.cuda import device
from lncompile.backends.cuda.packed import Code
from lncompile.backends.cuda.plan import Plan
from lncompile.buffers import shape_of
from lncompile.dtypes import TABLE
from lncompile.interface import Phase, Role

Shape: TypeAlias = tuple[int, ...]
Pointers: TypeAlias = tuple[int, ...]
#: Picks elements of a tuple into another.
Picker: TypeAlias = Callable[[tuple[Any, ...]], tuple[Any, ...]]
#: Functions that launch, and what picks their arguments.
Calls: TypeAlias = tuple[tuple[Callable[..., None], Picker], ...]
#: A first argument's shape, and the number of its device.
Key: TypeAlias = tuple[Shape, int]

#: Bytes that parts of a memory begin at multiples of, as CuPy's pool does.
_BOUNDARY = 256


class Ready(NamedTuple):
    """The launches of a phase for arrays of one shape on one device.

    ``stream`` gives CuPy's current one. ``calls`` are functions, and what picks their arguments out of the
    arrays' pointers, the workspaces' and ``numbers``. ``shapes`` and ``extents``, in bytes, are those of the
    arrays, None and 0 for one that is absent; ``new`` are the shapes and dtypes of what a call makes, by
    role; ``workspaces`` are the offsets of workspaces in a memory of ``bytes``, ``saved`` those of what a
    forward keeps in one of ``saved_bytes``. What calls have found: by
    streams' pointers, ``bound`` are the calls on a stream, and ``kept`` is what follows the arrays' pointers
    where workspaces stay; ``apart`` and ``in_place`` are pointers that fit so.
    """

    key: Key
    cupy: device.CuPy
    stream: Callable[[], Any]
    calls: tuple[tuple[device.Function, Picker], ...]
    numbers: tuple[int, ...]
    shapes: tuple[Shape | None, ...]
    extents: tuple[int, ...]
    new: Mapping[Role, Sequence[tuple[Shape, Any]]]
    workspaces: tuple[int, ...]
    bytes: int
    saved: tuple[int, ...]
    saved_bytes: int
    bound: dict[int, Calls]
    kept: dict[int, tuple[int, ...]]
    apart: set[Pointers]
    in_place: set[Pointers]

    def is_current(self) -> bool:
        """Whether the device of the arrays is the current one."""
        return self.cupy.devices == 1 or self.cupy.current_device() == self.key[1]

    def tail(self, workspaces: int) -> tuple[int, ...]:
        """What comes behind the arrays' pointers, for workspaces at an address."""
        return tuple([workspaces + offset for offset in self.workspaces]) + self.numbers

    def made(self, role: Role) -> list[Any]:
        """New arrays for all buffers of a role, on the current device."""
        empty = self.cupy.empty
        return [empty(shape, dtype) for shape, dtype in self.new[role]]

    def arrays_in(self, memory: Any) -> list[Any]:
        """What a forward keeps, as arrays in a memory."""
        new = zip(self.new["saved"], self.saved, strict=True)
        return [self.cupy.array(shape, dtype, memory + offset) for (shape, dtype), offset in new]


def prepared(phase: Phase, plan: Plan, codes: Mapping[str, Code], key: Key) -> Ready:
    """What is ready once the kernels that the plan for this shape and device launches are loaded.

    The thread has a context on the device.
    """
    shape, number = key
    first = phase.buffers[0]
    buffers = [buffer for buffer in phase.buffers if buffer.role != "workspace"]
    spaces = [buffer for buffer in phase.buffers if buffer.role == "workspace"]
    shapes = tuple(None if b.role == "absent" else shape_of(b, first, shape) for b in buffers)
    sized = [(buffer, size) for buffer, size in zip(buffers, shapes, strict=True) if size is not None]
    calls, numbers = _calls(plan, codes, number, [buffer.name for buffer in (*buffers, *spaces)])
    workspaces, end = _offsets(
        [plan.workspaces[space.name] * TABLE[space.dtype].itemsize for space in spaces]
    )
    extents = tuple(
        0 if size is None else prod(size) * TABLE[buffer.dtype].itemsize
        for buffer, size in zip(buffers, shapes, strict=True)
    )
    saved, saved_bytes = _offsets(
        [extent for buffer, extent in zip(buffers, extents, strict=True) if buffer.role == "saved"]
    )
    cupy = device.used_of_cupy()
    return Ready(
        key=key,
        cupy=cupy,
        stream=partial(cupy.current_stream, number),
        calls=calls,
        numbers=numbers,
        shapes=shapes,
        extents=extents,
        new={
            role: [(size, TABLE[buffer.dtype].numpy) for buffer, size in sized if buffer.role == role]
            for role in ("output", "saved", "gradient")
        },
        workspaces=workspaces,
        bytes=end,
        saved=saved,
        saved_bytes=saved_bytes,
        bound={},
        kept={},
        apart=set(),
        in_place=set(),
    )


def _calls(
    plan: Plan, codes: Mapping[str, Code], number: int, names: Sequence[str]
) -> tuple[tuple[tuple[device.Function, Picker], ...], tuple[int, ...]]:
    """The functions, what picks their arguments for arrays of these names in order, and all numbers."""
    calls: list[tuple[device.Function, Picker]] = []
    numbers: list[int] = []
    for grid in plan.grids:
        function = device.load(number, codes[grid.entry].cubin, grid)
        start = len(names) + len(numbers)
        places = [*map(names.index, grid.buffers), *range(start, start + len(grid.numbers))]
        numbers += grid.numbers
        calls.append((function, picker(places)))
    return tuple(calls), tuple(numbers)


def _offsets(sizes: Sequence[int]) -> tuple[tuple[int, ...], int]:
    """Where in one memory parts of so many bytes begin, and how many bytes that has."""
    offsets, end = [], 0
    for size in sizes:
        offsets.append(end)
        end += -(-size // _BOUNDARY) * _BOUNDARY
    return tuple(offsets), end


def picker(places: Sequence[int]) -> Picker:
    """A function that gives the elements of a tuple at these places as a tuple."""
    return itemgetter(*places) if len(places) > 1 else lambda values: (values[places[0]],)
