"""What several test files need: programs of equations, arrays for them, and two ways to run them.

``run_program`` and ``run_pair`` execute programs with the interpreter, the meaning of the IR; ``run_phase``
executes emitted source without compiling it, on NumPy stand-ins of its vector functions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from functools import cache
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from lncompile.axes import ELLIPSIS, show
from lncompile.backends.cpu.target import find
from lncompile.compiler import Compilation
from lncompile.dtypes import TABLE
from lncompile.emit.lower import Lowered, Request, lower
from lncompile.emit.standins import Pointer
from lncompile.equation import Equation, read_equation
from lncompile.interface import Phase
from lncompile.interpret import interpret
from lncompile.ir import Input, Program, Reduce
from lncompile.norm import dispatcher_of, make_norm
from lncompile.passes import Pair
from lncompile.schedule.cpu import Schedule
from lncompile.specialization import constants_of
from lncompile.trace import trace

Arrays = dict[str, np.ndarray[Any, np.dtype[Any]]]
#: The size of every axis; that of the ellipsis counts all its dimensions together.
Sizes = Mapping[str, int]


def equation(pattern: str, **axes: str) -> Callable[[Callable[..., Any]], Equation]:
    """Like ``lnc.norm``, the equation alone."""
    return lambda function: read_equation(function, pattern, axes)


def equation_of(norm: Any) -> Equation:
    """The equation behind a function decorated with ``lnc.norm``."""
    return norm if isinstance(norm, Equation) else dispatcher_of(norm).equation


def fresh(norm: Any) -> Any:
    """The same norm without kernels."""
    equation = dispatcher_of(norm).equation
    axes = {argument.name: show(argument.dims) for argument in equation.arguments[1:]}
    return make_norm(equation, axes)


def program_of(
    norm: Any,
    sizes: Sizes,
    dtype: str | Mapping[str, str] = "float64",
    *,
    left_out: tuple[str, ...] = (),
    out_dtype: str | None = None,
    **constants: object,
) -> Program:
    """The traced program of ``norm``: feature axes of these sizes, one dtype or one by argument."""
    equation = equation_of(norm)
    names = [argument.name for argument in equation.arguments if argument.name not in left_out]
    dtypes = dict.fromkeys(names, dtype) if isinstance(dtype, str) else dtype
    features = {name: size for name, size in sizes.items() if name in equation.pattern.features}
    return trace(equation, dtypes, dict(constants_of(equation, constants)), features, out_dtype)


def arrays_for(
    nodes: tuple[Input, ...], sizes: Sizes, seed: int = 0, low: float = -2.0, high: float = 2.0
) -> Arrays:
    """Random arrays for inputs, uniform in [low, high), one dimension for each axis, of its dtype."""
    rng = np.random.default_rng(seed)
    dims = {node.array: node.part.dims if node.part else node.dims for node in nodes}
    dtypes = {node.array: TABLE[node.dtype].numpy for node in nodes}
    return {
        name: rng.uniform(low, high, [size_of(axis, sizes) for axis in axes]).astype(dtypes[name])
        for name, axes in dims.items()
    }


def size_of(axis: str, sizes: Sizes) -> int:
    """The size of an axis, also of one that ``collapse`` made of several: ``h*w``."""
    return prod(sizes[name] for name in axis.split("*"))


def run_program(program: Program, arrays: Mapping[str, Any], sizes: Sizes) -> Arrays:
    """The outputs of a program whose axes may be merged: arrays are reshaped to fit them."""
    fitted = {
        node.array: np.reshape(
            arrays[node.array], [dim if isinstance(dim, int) else size_of(dim, sizes) for dim in node.layout]
        )
        for node in program.inputs
    }
    return interpret(program, fitted)


def run_pair(
    pair: Pair, arrays: Mapping[str, Any], sizes: Sizes, run: Callable[..., Arrays] = run_program
) -> Arrays:
    """Outputs, saved values and gradients of a forward and a backward program."""
    forward = run(pair.forward, arrays, sizes)
    return forward | run(pair.backward, {**arrays, **forward}, sizes)


def assert_close(actual: Mapping[str, Any], expected: Mapping[str, Any], relative: float) -> None:
    """Every expected array is there; errors are at most ``relative`` times its largest element, or 1."""
    for name, want in expected.items():
        got = np.reshape(actual[name], np.shape(want))
        scale = max(1.0, float(np.max(np.abs(want), initial=0.0)))
        np.testing.assert_allclose(got, want, rtol=0, atol=relative * scale, err_msg=name)


def reductions(program: Program, over: str | None = None) -> list[str]:
    """The operations of a program's reductions, in order; those over one axis where that is given."""
    return [
        node.op for node in program.nodes if isinstance(node, Reduce) and (over is None or over in node.over)
    ]


def part(program: Program, output: str) -> Program:
    """The part of ``program`` that computes one of its outputs."""
    return replace(program, outputs=tuple(o for o in program.outputs if o.name == output))


def compilation_of(
    norm: Any,
    sizes: Sizes,
    dtype: str | Mapping[str, str] = "float64",
    *,
    left_out: tuple[str, ...] = (),
    target: str = "cpu:x86-64-v3",
    out_dtype: str | None = None,
    **constants: object,
) -> Compilation:
    """The way of ``norm`` through the compiler's stages, for a fixed target, so on every machine the same."""
    equation = equation_of(norm)
    program = program_of(norm, sizes, dtype, left_out=left_out, out_dtype=out_dtype, **constants)
    fixed = {name: sizes[name] for name in equation.fixed}
    arguments = tuple((a.name, a.dims, a.name not in left_out) for a in equation.arguments)
    axes = ", ".join(f"{name}={size}" for name, size in fixed.items())
    header = (f"{equation.name}: {equation.pattern.text}, {axes}", "", f"target {target}")
    dots = (sizes[ELLIPSIS],) if ELLIPSIS in equation.pattern.features else ()
    request = Request(equation.name, equation.pattern, arguments, fixed, header, dots)
    return Compilation(program, find(target), request)


@cache
def _module(source: str) -> dict[str, Any]:
    namespace: dict[str, Any] = {}
    exec(compile(source, "<emitted>", "exec"), namespace)
    return namespace


def run_phase(
    lowered: Lowered,
    phase: Phase,
    arrays: Mapping[str, Any],
    sizes: Sizes,
    *,
    cut: Callable[[int], list[int]] = lambda units: [0, units],
    left_out: Collection[str] = (),
) -> Arrays:
    """Run a phase's functions from the emitted source, un-jitted, in order; returns what they wrote.

    ``cut`` gives the ascending ranges that the units of a call are done in, first and last included.
    Everything that is written starts as NaN, so what a kernel forgets shows. Optional arrays may be
    ``left_out``.
    """
    flat: Arrays = {}
    pointers: dict[str, Pointer] = {}
    shapes: dict[str, list[int]] = {}
    totals = {size.name: size.factor * prod(sizes[axis] for axis in size.axes) for size in phase.sizes}
    given = {buffer.name for buffer in phase.buffers if buffer.name in arrays}
    for buffer in phase.buffers:
        dtype = TABLE[buffer.dtype].numpy
        if buffer.role == "absent" or (buffer.optional and buffer.name in left_out):
            pointers[buffer.name] = Pointer(None)
        elif buffer.role == "workspace":
            (count,) = buffer.dims
            flat[buffer.name] = np.full(_c_expression(count, totals), np.nan, dtype)
        elif buffer.name in given:
            flat[buffer.name] = np.ascontiguousarray(arrays[buffer.name], dtype).reshape(-1)
        else:
            shapes[buffer.name] = [
                size if isinstance(size, int) else size_of(size, sizes) for size in buffer.dims
            ]
            flat[buffer.name] = np.full(prod(shapes[buffer.name]), np.nan, dtype)
    pointers |= {name: Pointer(array) for name, array in flat.items()}
    module = _module(lowered.source)
    with np.errstate(all="ignore"):
        for call in phase.calls:
            edges = cut(_c_expression(call.units, totals))
            for begin, end in pairwise(edges):
                buffers = [pointers[name] for name in call.buffers]
                assert module[call.function](*buffers, *totals.values(), begin, end) == 0
    return {name: flat[name].reshape(shape) for name, shape in shapes.items()}


def run_emitted(
    compilation: Compilation,
    arrays: Mapping[str, Any],
    sizes: Sizes,
    schedule: Any = None,
    cut: Callable[[int], list[int]] = lambda units: [0, units],
) -> Arrays:
    """Outputs and gradients of the emitted forward and backward, under the names of the equation's program.

    ``schedule`` takes the place of the heuristic's.
    """
    lowered = lower(compilation.pair, schedule or compilation.schedule, compilation.request)
    forward, backward = lowered.interface.forward, lowered.interface.backward
    # Kernels rename what they need the word of; the order stays.
    program, cotangents = compilation.program, _of_role(compilation.pair.backward.inputs, "cotangent")
    given = {
        **_renamed(arrays, _of_role(program.inputs, "input"), _of_role(forward.buffers, "input")),
        **_renamed(arrays, cotangents, _of_role(backward.buffers, "cotangent")),
    }
    written = run_phase(lowered, forward, given, sizes, cut=cut)
    gradients = run_phase(lowered, backward, {**given, **written}, sizes, cut=cut)
    outputs = _renamed(written, _of_role(forward.buffers, "output"), _of_role(program.outputs, "output"))
    names = _of_role(compilation.pair.backward.outputs, "gradient")
    return outputs | _renamed(gradients, _of_role(backward.buffers, "gradient"), names)


def small_limits(schedule: Schedule) -> Schedule:
    """Limits so small that rows are cut into stretches, blocks have two rows and vectors a few lanes.

    Rows of four elements on are no more side by side; of those that are whole, two are together.
    """
    return replace(
        schedule,
        block_rows=2,
        most_block_rows=400,
        unit_elements=16,
        chunk_elements=32,
        short_lanes=4,
        column_lanes=4,
        column_rows=2,
        column_block_rows=3,
        column_group=2,
        short_row=3,
        short_summing_row=1,
        row_lanes=2,
        statistics_lanes=8,
        element_lanes=4,
        careful_lanes=2,
        pivot_lanes=4,
        stream_from=0,
    )


def _of_role(arrays: Iterable[Any], role: str) -> list[str]:
    return list(dict.fromkeys(getattr(array, "array", array.name) for array in arrays if array.role == role))


def _renamed(arrays: Mapping[str, Any], before: list[str], after: list[str]) -> Arrays:
    return {new: arrays[old] for old, new in zip(before, after, strict=True)}


def _c_expression(text: int | str, names: Mapping[str, int]) -> int:
    """The value of a C expression of non-negative integers."""
    return int(eval(re.sub(r"/", "//", str(text)), {}, dict(names)))
