"""What a legal program looks like: checked after every pass in the tests, and once per compile."""

from __future__ import annotations

from lncompile.dtypes import TABLE
from lncompile.errors import CompilerBug
from lncompile.ir import (
    BINARY,
    REDUCE,
    UNARY,
    Binary,
    Cast,
    Const,
    Input,
    Node,
    Program,
    Reduce,
    Select,
    Stack,
    Take,
    Unary,
    label_of,
)


def verify(program: Program) -> Program:
    """Return ``program`` if it is legal; raise :class:`CompilerBug` that says what is not."""
    known = {axis.name for axis in program.axes}
    _require(len(known) == len(program.axes), "an axis occurs twice")
    for axis in program.axes:
        _require(not axis.feature or axis.size is not None, f"feature axis {axis.name} has no size")
    names = [node.name for node in program.inputs] + [output.name for output in program.outputs]
    whole = {array.part.array for array in program.arrays if array.part}
    _require(len({*names, *whole}) == len(names) + len(whole), f"two arrays share a name: {names}")
    _require(program.compute in TABLE, f"unknown compute type {program.compute}")
    for node in program.nodes:
        # Not the node itself, whose text is as long as all that it is computed from.
        what = label_of(node) or type(node).__name__
        _require(node.axes <= known, f"{what} varies over an axis that the program does not have")
        _verify_node(node, program)
    for output in program.outputs:
        _require(output.value.axes <= set(output.dims), f"{output.name} varies over more axes than it has")
        _require(set(output.dims) <= known, f"{output.name} has an unknown axis")
        _require(output.value.kind == "real", f"{output.name} is a truth value")
        _require(output.dtype in TABLE, f"{output.name} has unknown dtype {output.dtype}")
    return program


def _verify_node(node: Node, program: Program) -> None:
    match node:
        case Input():
            _require(node in program.inputs, f"input {node.name} is not listed")
            _require(node.dtype in TABLE, f"input {node.name} has unknown dtype {node.dtype}")
        case Const():
            _require(not node.axes, "a constant varies over no axis")
        case Unary(op, operand):
            _require(op in UNARY, f"unknown unary {op}")
            _require(operand.kind == "real", f"{op} of a truth value")
        case Binary(op, left, right):
            _require(op in BINARY, f"unknown binary {op}")
            _require(left.kind == right.kind == "real", f"{op} of a truth value")
        case Select(condition, chosen, other):
            _require(condition.kind == "bool", "the condition of a select is no truth value")
            _require(chosen.kind == other.kind, "a select of a number and a truth value")
        case Reduce(op, operand, over):
            _require(op in REDUCE, f"unknown reduction {op}")
            _require(operand.kind == "real", f"{op} of a truth value")
            _require(
                bool(over) and over <= operand.axes, f"{op} over axes that its operand does not vary over"
            )
            _require(op in ("sum", "max") or over <= program.features, f"{op} over a batch axis")
        case Cast(operand, dtype):
            _require(dtype in TABLE, f"cast to unknown dtype {dtype}")
            _require(operand.kind == "real", "cast of a truth value")
        case Take(operand, axis, position):
            _require(axis in operand.axes, f"a position of {axis}, which the value does not vary over")
            _require(0 <= position < program.count(frozenset({axis})), f"no position {position} of {axis}")
        case Stack(parts, axis):
            _require(len(parts) == program.count(frozenset({axis})), f"not one value a position of {axis}")
            _require(all(part.kind == "real" for part in parts), "a stack of truth values")
            _require(not any(axis in part.axes for part in parts), f"a stack of what varies over {axis}")


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise CompilerBug(f"illegal program: {what}")
