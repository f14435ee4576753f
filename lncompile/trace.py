"""Equations to programs: reads an equation's signature once, and runs its body on traced values.

    def layer_norm(x, weight=1.0, bias=0.0, *, eps=1e-5): ...   ->   ir.Program
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any

import numpy as np

from lncompile import axes as ax
from lncompile import ir
from lncompile.dtypes import compute_dtype
from lncompile.errors import LncError, LncTypeError, LncValueError
from lncompile.language import Trace, Value

_REQUIRED = inspect.Parameter.empty


@dataclass(frozen=True, slots=True)
class Argument:
    """An array argument: its dimensions, and the number that it is when left out (or ``required``)."""

    name: str
    dims: tuple[ax.Dim, ...]
    default: object
    required: bool


@dataclass(frozen=True, slots=True)
class Equation:
    """A norm as the user wrote it: the function, its pattern and what its parameters are."""

    name: str
    function: Callable[..., Any]
    pattern: ax.Pattern
    arguments: tuple[Argument, ...]
    constants: Mapping[str, object]

    @property
    def where(self) -> str:
        """File and line of the function, as errors begin with it."""
        code = self.function.__code__
        return f"{code.co_filename}:{code.co_firstlineno}"


def read_equation(function: Callable[..., Any], pattern: object, axes: Mapping[str, object]) -> Equation:
    """What ``lnc.norm`` decorates; ``LncError`` with file and line says what is wrong with it."""
    code = getattr(function, "__code__", None)
    if code is None:
        raise LncTypeError(f"lnc.norm decorates a Python function; got {function!r}")
    try:
        return _read_equation(function, ax.parse(pattern), axes)
    except LncError as error:
        raise type(error)(f"{code.co_filename}:{code.co_firstlineno}: in {function.__name__}: {error}") from None


def _read_equation(function: Callable[..., Any], pattern: ax.Pattern, axes: Mapping[str, object]) -> Equation:
    arguments: list[Argument] = []
    constants: dict[str, object] = {}
    for parameter in inspect.signature(function).parameters.values():
        name, default = parameter.name, parameter.default
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise LncTypeError(f"parameter {name!r}: an equation has named parameters only, no * or **")
        if parameter.kind is parameter.KEYWORD_ONLY:
            constants[name] = default
            continue
        if not arguments:
            if default is not _REQUIRED:
                raise LncTypeError(f"{name}: the first argument carries the pattern and cannot be optional")
            dims = pattern.dims
        elif name not in axes:
            raise LncTypeError(f"{name}: its axes are not given; say lnc.norm({pattern.text!r}, {name}=\"...\")")
        else:
            dims = ax.parse_argument(axes[name], name, pattern)
        if default is not _REQUIRED and not isinstance(default, int | float):
            raise LncTypeError(f"{name}: the default of an array argument is a plain number; got {default!r}")
        arguments.append(Argument(name, dims, None if default is _REQUIRED else default, default is _REQUIRED))
    if not arguments:
        raise LncTypeError("an equation needs an array argument, the one that the pattern describes")
    names = [argument.name for argument in arguments]
    for name in axes:
        if name not in names:
            raise LncTypeError(f"{name}: axes are given for it, but the equation has no such array argument")
        if name == names[0]:
            raise LncTypeError(f"{name}: the pattern gives its axes already")
    for name in pattern.axes:
        if name in names or name in constants or name == "out":
            raise LncTypeError(f"axis {name!r} has the name of an argument; sizes are passed by name, so rename one")
    return Equation(function.__name__, function, pattern, tuple(arguments), constants)


def trace(
    equation: Equation,
    dtypes: Mapping[str, str],
    constants: Mapping[str, object],
    sizes: Mapping[str, int],
    out_dtype: str | None = None,
) -> ir.Program:
    """Run the equation on traced values.

    ``dtypes`` names the array arguments that are present and their element types; the others act as their
    defaults. ``sizes`` are those of the feature axes. Raises ``LncError`` with the equation's file and line.
    """
    pattern = equation.pattern
    context = Trace(equation.name, equation.function.__code__, pattern.axes, pattern.features)
    inputs = tuple(
        ir.Input(argument.name, tuple(name for dim in argument.dims for name in dim), dtypes[argument.name])
        for argument in equation.arguments
        if argument.name in dtypes
    )
    by_name = {node.name: node for node in inputs}
    values = [
        Value(by_name[argument.name], context) if argument.name in by_name else argument.default
        for argument in equation.arguments
    ]
    returned, names = _run(equation, values, constants)
    outputs = _outputs(equation, returned, names, context, out_dtype or dtypes[inputs[0].name], set(by_name))
    axes = tuple(ir.Axis(name, name in pattern.features, sizes.get(name)) for name in pattern.axes)
    compute = compute_dtype(dtypes.values())
    program = ir.Program(equation.name, axes, compute, inputs, outputs, isinstance(returned, tuple))
    return _labelled(program, names)


def _run(equation: Equation, values: list[object], constants: Mapping[str, object]) -> tuple[object, dict[ir.Node, str]]:
    """The equation's result, and the names that its local variables give to values."""
    names: dict[ir.Node, str] = {}

    def on_event(frame: FrameType, event: str, _: object) -> None:
        if event == "return" and frame.f_code is equation.function.__code__:
            for name, value in frame.f_locals.items():
                if isinstance(value, Value):
                    names.setdefault(value.node, name)

    previous = sys.getprofile()
    sys.setprofile(on_event)
    try:
        returned = equation.function(*values, **constants)
    finally:
        sys.setprofile(previous)
    return returned, names


def _outputs(
    equation: Equation,
    returned: object,
    names: Mapping[ir.Node, str],
    context: Trace,
    dtype: str,
    taken: set[str],
) -> tuple[ir.Output, ...]:
    several = isinstance(returned, tuple)
    results = returned if isinstance(returned, tuple) else (returned,)

    def wrong(what: str) -> LncValueError:
        return LncValueError(f"{equation.where}: in {equation.name}: {what}")

    if not results:
        raise wrong("it returns an empty tuple; an equation returns an array or a tuple of arrays")
    outputs: list[ir.Output] = []
    for index, result in enumerate(results):
        which = f"output {index}" if several else "the output"
        if not isinstance(result, Value):
            what = repr(result) if isinstance(result, int | float | np.generic | None) else type(result).__name__
            raise wrong(f"{which} depends on no array: expected a traced value; got {what}")
        if result.trace is not context:
            raise wrong(f"{which} is a traced value of another equation ({result.trace.norm})")
        node = result.node
        if not any(isinstance(part, ir.Input) for part in ir.topological([node])):
            raise wrong(f"{which} depends on no array")
        if node.kind == "bool":
            node = ir.Select(node, ir.Const(1.0), ir.Const(0.0))
        name = names.get(result.node, f"y{index}") if several else "y"
        used = taken | {output.name for output in outputs}
        while name in used:
            name += "_out"
        dims = tuple(axis for axis in context.axes if axis in node.axes)
        outputs.append(ir.Output(name, node, dims, dtype))
    return tuple(outputs)


def _labelled(program: ir.Program, names: Mapping[ir.Node, str]) -> ir.Program:
    """The program with each value under the name of the equation's variable that held it."""
    mapped: dict[ir.Node, ir.Node] = {}
    for node in program.nodes:
        rebuilt = ir.with_operands(node, tuple(mapped[operand] for operand in ir.operands(node)))
        mapped[node] = ir.with_label(rebuilt, names.get(node, ""))
    outputs = tuple(replace(out, value=mapped[out.value]) for out in program.outputs)
    return replace(program, outputs=outputs)
