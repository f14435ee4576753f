"""From the two programs of a norm to the text of its kernels and the interface of the library."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod

from lncompile import axes as ax
from lncompile.emit import standins
from lncompile.emit.layout import LIMIT, fitted
from lncompile.emit.names import legal
from lncompile.emit.once import CombineKernel
from lncompile.emit.rows import RowsKernel
from lncompile.errors import LncValueError
from lncompile.interface import Buffer, Call, Extent, Interface, Phase, Size
from lncompile.ir import Input, Output, Program
from lncompile.passes import Pair
from lncompile.passes.stages import stages
from lncompile.schedule.cpu import RowsSchedule

_CALLS = re.compile(rf"\b({'|'.join(standins.__all__)})\(")


@dataclass(frozen=True)
class Function:
    """One kernel function: its name and the element type behind each pointer parameter."""

    name: str
    pointers: tuple[tuple[str, str], ...]
    sizes: tuple[str, ...]


@dataclass(frozen=True)
class Lowered:
    """The emitted source, what it offers and the functions in it."""

    source: str
    interface: Interface
    functions: tuple[Function, ...]


@dataclass(frozen=True)
class Request:
    """What a norm is compiled for, beside its programs.

    ``arguments`` gives the dimensions of every array argument in the equation's order, and whether it is
    present; ``pattern`` the dimensions of outputs; ``sizes`` those of feature axes and of axes in splits;
    ``dots`` the dimensions that ``...`` stands for where it is a feature axis.
    """

    norm: str
    pattern: ax.Pattern
    arguments: tuple[tuple[str, tuple[ax.Dim, ...], bool], ...]
    sizes: dict[str, int]
    header: tuple[str, ...]
    dots: tuple[int, ...] = ()


def lower(pair: Pair, schedule: RowsSchedule, request: Request) -> Lowered:
    """Emit forward and backward kernels of rows programs.

    Raises ``LncError`` for axes that do not form rows: batch axes outside, feature axes inside.
    """
    pair = legal(pair)
    stem = f"lnc_{re.sub(r'[^A-Za-z0-9_]', '_', request.norm)}"
    bodies: list[str] = []
    functions: list[Function] = []
    phases = []
    for name, program in (("forward", pair.forward), ("backward", pair.backward)):
        _require_rows(program, request)
        calls, extra = _emit_phase(program, schedule, f"{stem}_{name}", bodies, functions)
        buffers = _argument_buffers(program, request)
        buffers += [_buffer(node, request) for node in program.inputs if node.role != "input"]
        buffers += [_buffer(output, request) for output in program.outputs]
        rows = Size("rows", *_row_axes(request))
        phases.append(Phase(f"{stem}_{name}_entry", (*buffers, *extra), (rows,), calls))
    interface = Interface(request.norm, phases[0], phases[1])
    return Lowered(_module(request, bodies), interface, tuple(functions))


def _emit_phase(
    program: Program, schedule: RowsSchedule, stem: str, bodies: list[str], functions: list[Function]
) -> tuple[tuple[Call, ...], list[Buffer]]:
    parts = stages(program)
    calls: list[Call] = []
    workspaces: list[Buffer] = []
    rows = RowsKernel(parts.rows, schedule) if parts.rows else None
    if rows:
        blocks = f"(rows + {schedule.block_rows - 1}) / {schedule.block_rows}"
        if rows.sums:
            size = f"{blocks} * {len(rows.sums) * rows.features}"
            workspaces.append(Buffer("partial", "workspace", program.compute, (size,)))
        if rows.scalar_sums:
            workspaces.append(
                Buffer("partial_scalars", "workspace", "float64", (f"{blocks} * {len(rows.scalar_sums)}",))
            )
        extent = Extent("rows", schedule.block_rows) if workspaces else Extent("rows")
        work = rows.features * extent.per_unit * len(rows.sums or (0,))
        calls.append(
            _emit(f"{stem}", rows.program, rows.lines(), workspaces, extent, work, bodies, functions)
        )
    if parts.combine:
        sums = tuple(out.name for out in rows.sums) if rows else ()
        scalar_sums = tuple(out.name for out in rows.scalar_sums) if rows else ()
        combine = CombineKernel(parts.combine, sums, scalar_sums, schedule)
        extent = Extent(combine.tiles)
        # A tile reads one vector a block; 64 blocks are a usual number.
        work = schedule.combine_lanes * 64
        calls.append(
            _emit(
                f"{stem}_combine",
                combine.program,
                combine.lines(),
                workspaces,
                extent,
                work,
                bodies,
                functions,
            )
        )
    return tuple(calls), workspaces


def _emit(
    name: str,
    program: Program,
    lines: list[str],
    workspaces: list[Buffer],
    extent: Extent,
    unit_work: int,
    bodies: list[str],
    functions: list[Function],
) -> Call:
    pointers = [(node.name, node.dtype) for node in program.inputs if node.role != "workspace"]
    pointers += [(output.name, output.dtype) for output in program.outputs if output.role != "workspace"]
    pointers += [(buffer.name, buffer.dtype) for buffer in workspaces]
    parameters = ", ".join([*(pointer for pointer, _ in pointers), "rows", "begin", "end"])
    head = [f"def {name}({parameters}):"]
    if len(head[0]) > LIMIT:
        listed = [
            *(f"    {pointer},  # {dtype}" for pointer, dtype in pointers),
            "    rows,",
            "    begin,",
            "    end,",
        ]
        head = [f"def {name}(", *listed, "):"]
    body = [part for line in lines for part in fitted("    " + line if line else line)]
    bodies.append("\n".join([*head, *body, "    return 0"]))
    functions.append(Function(name, tuple(pointers), ("rows",)))
    return Call(name, tuple(pointer for pointer, _ in pointers), extent, unit_work)


def _module(request: Request, bodies: list[str]) -> str:
    text = "\n\n\n".join(bodies)
    used = sorted(set(_CALLS.findall(text)))
    header = "\n".join(request.header)
    constants = [
        f'{name} = float("{value}")' for name, value in (("INFINITY", "inf"), ("NAN", "nan")) if name in text
    ]
    imported = ",\n".join(f"    {name}" for name in used)
    parts = [f'"""{header}\n"""\n', f"from lncompile.emit.standins import (\n{imported},\n)\n"]
    if constants:
        parts.append("\n".join(constants) + "\n")
    return "\n".join(parts) + "\n\n" + text + "\n"


def _argument_buffers(program: Program, request: Request) -> list[Buffer]:
    """A buffer for each argument in the equation's order; one that was left out keeps its place."""
    given = iter(node for node in program.inputs if node.role == "input")
    buffers = []
    for name, dims, there in request.arguments:
        if there:
            node = next(given)
            buffers.append(Buffer(node.name, "input", node.dtype, _sized(dims, request)))
        else:
            buffers.append(Buffer(name, "absent", "float32", ()))
    return buffers


def _buffer(array: Input | Output, request: Request) -> Buffer:
    names = {name for merged in array.dims for name in merged.split("*")}
    dims = request.pattern.restricted(frozenset(names))
    if array.role == "gradient":
        dims = next(dims for name, dims, _ in request.arguments if name == array.of)
    optional = array.role == "saved" and isinstance(array, Output)
    return Buffer(array.name, array.role, array.dtype, _sized(dims, request), array.of, optional)


def _sized(dims: tuple[ax.Dim, ...], request: Request) -> tuple[int | str, ...]:
    sized: list[int | str] = []
    for dim in dims:
        if dim == (ax.ELLIPSIS,) and ax.ELLIPSIS in request.pattern.features:
            sized += request.dots
        elif all(name in request.sizes for name in dim):
            sized.append(prod(request.sizes[name] for name in dim))
        else:
            sized.append(dim[0])
    return tuple(sized)


def _row_axes(request: Request) -> tuple[tuple[str, ...], int]:
    """The batch axes whose sizes the call tells, and the product of those that are known."""
    batch = [name for name in request.pattern.axes if name not in request.pattern.features]
    fixed = prod(request.sizes[name] for name in batch if name in request.sizes)
    return tuple(name for name in batch if name not in request.sizes), fixed


def _require_rows(program: Program, request: Request) -> None:
    roles = [axis.feature for axis in program.axes]
    if roles not in ([], [False], [True], [False, True]):
        axes = " ".join(f"[{axis.name}]" if axis.feature else axis.name for axis in program.axes)
        raise LncValueError(
            f"pattern {request.pattern.text!r}: the CPU kernels need all batch axes outside and all feature "
            f"axes inside, and arguments over all of either; here the axes are {axes}"
        )
    order = [axis.name for axis in program.axes]
    for array in program.arrays:
        if sorted(array.dims, key=order.index) != list(array.dims):
            raise LncValueError(
                f"{array.name}: its axes {' '.join(array.dims)} stand in another order than in the pattern"
            )
