"""From the two programs of a norm to the text of its kernels and the interface of the library."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import TypeVar

from lncompile import axes as ax
from lncompile.emit import standins
from lncompile.emit.context import Context
from lncompile.emit.layout import LIMIT, fitted
from lncompile.emit.names import legal, sources
from lncompile.emit.nest import AxisNames, Nest
from lncompile.emit.parts import in_parts
from lncompile.emit.stage import StageKernel
from lncompile.interface import Buffer, Call, Interface, Phase, Size
from lncompile.ir import Axis, Input, Output, Program
from lncompile.passes import Pair
from lncompile.passes.stages import Stage
from lncompile.schedule.cpu import Schedule
from lncompile.schedule.plan import plan

AnyArray = TypeVar("AnyArray", Input, Output)


@dataclass(frozen=True)
class Function:
    """One kernel function: its name and the element type behind each pointer parameter."""

    name: str
    pointers: tuple[tuple[str, str], ...]
    sizes: tuple[str, ...]


@dataclass(frozen=True)
class Lowered:
    """The emitted source, what it offers, the functions in it, and the programs under its arrays' names."""

    source: str
    interface: Interface
    functions: tuple[Function, ...]
    pair: Pair


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


def lower(pair: Pair, schedule: Schedule, request: Request) -> Lowered:
    """Emit the kernels of both programs, one a stage."""
    words = frozenset(_words(pair, schedule))
    pair = legal(pair, words)
    taken = sources(words)
    stem = stem_of(request)
    bodies: list[str] = []
    functions: list[Function] = []
    phases = []
    for name, program in (("forward", pair.forward), ("backward", pair.backward)):
        names = AxisNames(program)
        stages = plan(program, schedule, taken)
        calls, workspaces = _emit_phase(stages, names, schedule, f"{stem}_{name}", bodies, functions)
        buffers = [*arrays_of(program, request), *workspaces]
        phases.append(Phase(f"{stem}_{name}_entry", tuple(buffers), sizes_of(names, request), calls))
    interface = Interface(request.norm, phases[0], phases[1])
    source = module_text(request, bodies, "lncompile.emit.standins", standins.__all__)
    return Lowered(source, interface, tuple(functions), pair)


def _words(pair: Pair, schedule: Schedule) -> set[str]:
    """What kernels call the indices and sizes of axes."""
    words: set[str] = set()
    for program in (pair.forward, pair.backward):
        names = AxisNames(program)
        words |= set(names.sizes)
        for stage in plan(program, schedule):
            words |= Nest(stage, names).words
    return words


def _emit_phase(
    stages: tuple[Stage, ...],
    names: AxisNames,
    schedule: Schedule,
    stem: str,
    bodies: list[str],
    functions: list[Function],
) -> tuple[tuple[Call, ...], list[Buffer]]:
    calls: list[Call] = []
    workspaces: list[Buffer] = []
    for index, (stage, parts) in enumerate(in_parts(stages, names)):
        name = stem if index == 0 else f"{stem}_{index + 1}"
        kernel = StageKernel(Context(stage, names, schedule))
        nest = kernel.context.nest
        for out in stage.program.outputs:
            if out.role == "workspace":
                size = nest.positions(out.dims)
                workspaces.append(Buffer(out.name, "workspace", out.dtype, (size,)))
        arrays = {array.array: array.dtype for array in stage.program.arrays}
        sizes = tuple(names.sizes)
        bodies.append(function_text(name, arrays, (*sizes, "begin", "end"), [*kernel.lines(), "return 0"]))
        functions.append(Function(name, tuple(arrays.items()), sizes))
        calls.append(Call(name, tuple(arrays), nest.units, nest.unit_work, parts))
    return tuple(calls), workspaces


def stem_of(request: Request) -> str:
    """What the names of a norm's functions begin with."""
    return f"lnc_{re.sub(r'[^A-Za-z0-9_]', '_', request.norm)}"


def function_text(name: str, arrays: dict[str, str], numbers: tuple[str, ...], lines: list[str]) -> str:
    """A function of pointers (names and dtypes) and numbers with this body."""
    head = [f"def {name}({', '.join([*arrays, *numbers])}):"]
    if len(head[0]) > LIMIT:
        listed = [f"    {pointer},  # {dtype}" for pointer, dtype in arrays.items()]
        head = [f"def {name}(", *listed, *(f"    {number}," for number in numbers), "):"]
    body = [part for line in lines for part in fitted("    " + line if line else line)]
    return "\n".join([*head, *body])


def module_text(request: Request, bodies: list[str], language: str, words: Sequence[str]) -> str:
    """The module of these functions, which imports the ``words`` that they use from ``language``."""
    text = "\n\n\n".join(bodies)
    # Comments name operations that have become parts of others.
    code = re.sub(r"(?m)^ *#.*$", "", text)
    used = sorted(set(re.findall(rf"\b({'|'.join(words)})\(", code)))
    header = "\n".join(request.header)
    constants = [
        f'{name} = float("{value}")'
        for name, value in (("INFINITY", "inf"), ("NAN", "nan"))
        if re.search(rf"\b{name}\b", text)
    ]
    imported = ",\n".join(f"    {name}" for name in used)
    parts = [f'"""{header}\n"""\n', f"from {language} import (\n{imported},\n)\n"]
    if constants:
        parts.append("\n".join(constants) + "\n")
    return "\n".join(parts) + "\n\n" + text + "\n"


def arrays_of(program: Program, request: Request) -> list[Buffer]:
    """The arrays of a phase; arguments are first, in order, and one that was left out keeps its place."""
    given = iter(_whole_arrays(node for node in program.inputs if node.role == "input"))
    buffers = []
    for name, dims, there in request.arguments:
        if there:
            node = next(given)
            axes = tuple(name for dim in dims for name in dim)
            buffers.append(Buffer(node.array, "input", node.dtype, _sized(dims, request), axes=axes))
        else:
            buffers.append(Buffer(name, "absent", "float32", ()))
    buffers += [_buffer(node, request) for node in _whole_arrays(program.inputs) if node.role != "input"]
    return buffers + [_buffer(output, request) for output in _whole_arrays(program.outputs)]


def _whole_arrays(arrays: Iterable[AnyArray]) -> list[AnyArray]:
    """``arrays``, of the parts of one the first alone."""
    first: dict[str, AnyArray] = {}
    for array in arrays:
        first.setdefault(array.array, array)
    return list(first.values())


def sizes_of(names: AxisNames, request: Request) -> tuple[Size, ...]:
    """The size variables of a phase."""
    return tuple(_size(variable, axis, request) for variable, axis in names.sizes.items())


def _buffer(array: Input | Output, request: Request) -> Buffer:
    named = array.part.dims if array.part else array.dims
    names = {name for merged in named for name in merged.split("*")}
    dims = request.pattern.restricted(frozenset(names))
    if array.role == "gradient":
        dims = next(dims for name, dims, _ in request.arguments if name == array.of)
    optional = array.role == "saved" and isinstance(array, Output)
    axes = tuple(name for dim in dims for name in dim)
    return Buffer(array.array, array.role, array.dtype, _sized(dims, request), array.of, optional, axes)


def _sized(dims: tuple[ax.Dim, ...], request: Request) -> tuple[int | str, ...]:
    sized: list[int | str] = []
    for dim in dims:
        if dim == (ax.ELLIPSIS,) and ax.ELLIPSIS in request.sizes:
            sized += request.dots
        elif all(name in request.sizes for name in dim):
            sized.append(prod(request.sizes[name] for name in dim))
        else:
            sized.append(dim[0])
    return tuple(sized)


def _size(variable: str, axis: Axis, request: Request) -> Size:
    """The size variable of an axis: the parts whose sizes the call tells, and the product of the others."""
    names = _whole_axes(axis)
    fixed = prod(request.sizes[name] for name in names if name in request.sizes)
    return Size(variable, tuple(name for name in names if name not in request.sizes), fixed)


def _whole_axes(axis: Axis) -> list[str]:
    """The axes of the pattern that a merged axis is made of."""
    return [name for part in axis.parts for name in _whole_axes(part)] if axis.parts else [axis.name]
