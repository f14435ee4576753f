"""Equations to programs: runs an equation's body on traced values.

    def layer_norm(x, weight=1.0, bias=0.0, *, eps=1e-5): ...   -->   ir.Program

The body runs once for each trace; what it does with traced values is recorded (``language.py``).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from types import FrameType

import numpy as np

from lncompile import ir
from lncompile.dtypes import TABLE, compute_dtype
from lncompile.equation import Equation
from lncompile.errors import LncValueError
from lncompile.language import Trace, Value


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
    context = Trace(equation.name, pattern.axes, pattern.features, sizes)
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
    try:
        returned, names = _run(equation, values, constants)
    finally:
        context.ended = True
    outputs = _outputs(equation, returned, names, context, out_dtype or dtypes[inputs[0].name], set(by_name))
    axes = tuple(ir.Axis(name, name in pattern.features, sizes.get(name)) for name in pattern.axes)
    compute = compute_dtype(dtypes.values())
    program = ir.Program(equation.name, axes, compute, inputs, outputs, isinstance(returned, tuple))
    return _with_constants_as_seen(_labelled(program, names))


def _run(
    equation: Equation, values: list[object], constants: Mapping[str, object]
) -> tuple[object, dict[ir.Node, str]]:
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
        if previous is None or callable(previous):
            sys.setprofile(previous)
        else:
            previous.enable()  # cProfile's profilers are installed by themselves alone
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
            what = (
                repr(result) if isinstance(result, int | float | np.generic | None) else type(result).__name__
            )
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


def _with_constants_as_seen(program: ir.Program) -> ir.Program:
    """``program`` with constants that elements are compared to rounded to the type that these have.

    x == 0.1 holds where a float32 element was set to 0.1, as in NumPy, whatever the loop that compares them
    computes in. A number that the type does not hold is no element, and stays.
    """
    dtype = TABLE[program.compute]

    def seen(node: ir.Node) -> ir.Node:
        if isinstance(node, ir.Const) and node.kind == "real" and dtype.holds(node.value):
            return ir.Const(float(dtype.numpy.type(node.value)))
        return node

    def rule(node: ir.Node) -> ir.Node | None:
        match node:
            case ir.Binary(op, left, right) if op in (*ir.COMPARE, "maximum", "minimum"):
                if ir.is_element(left) or ir.is_element(right):
                    return ir.Binary(op, seen(left), seen(right), node.label)
        return None

    return ir.rewrite(program, rule)
