"""Reverse-mode differentiation on the IR.

    y = x * rsqrt(mean[d](square(x)))

becomes the same program with one more input for each output (its cotangent, ``dy``) and one more output for
each input (its gradient, ``dx``)::

    dy       [... d]  float32  cotangent of y
    dx       [... d]  gradient of x

Two duals carry the axes. The cotangent of a reduction is an implicit broadcast: nothing is written. The
cotangent of an implicit broadcast is a sum over the axes that were added, so ``dweight`` gets a sum over the
batch axes and no norm needs a backward of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from lncompile.ir import (
    Binary,
    Cast,
    Const,
    Input,
    Node,
    Output,
    Part,
    Program,
    Reduce,
    Select,
    Unary,
    depending_on,
)


def gradient(program: Program) -> Program:
    """The program and its backward: with inputs of role ``cotangent`` and outputs of role ``gradient``."""
    taken = {name for array in program.arrays for name in (array.name, array.array)}
    wholes = {
        array.array: _fresh(f"d{array.array}", taken) for array in program.arrays if array.part is not None
    }

    def dual(part: Part | None) -> Part | None:
        return part and replace(part, array=wholes[part.array])

    cotangents = tuple(
        Input(
            _fresh(f"d{output.name}", taken),
            output.dims,
            output.dtype,
            "cotangent",
            output.array,
            part=dual(output.part),
        )
        for output in program.outputs
    )
    adjoints = _adjoints(program, cotangents)
    gradients = tuple(
        Output(
            _fresh(f"d{node.name}", taken),
            adjoints.get(node, Const(0.0)),
            node.dims,
            node.dtype,
            "gradient",
            node.array,
            dual(node.part),
        )
        for node in program.inputs
    )
    return replace(program, inputs=program.inputs + cotangents, outputs=program.outputs + gradients)


def _fresh(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def _adjoints(program: Program, cotangents: tuple[Input, ...]) -> dict[Node, Node]:
    """The cotangent of every value that an input reaches, outputs first."""
    order = program.nodes
    active = depending_on(order, lambda node: isinstance(node, Input))
    adjoints: dict[Node, Node] = {}

    def contribute(node: Node, contribution: Node, axes: frozenset[str]) -> None:
        if node not in active or node.kind == "bool":
            return
        term = sum_to(contribution, axes, node.axes, program)
        adjoints[node] = Binary("add", adjoints[node], term) if node in adjoints else term

    for output, cotangent in zip(program.outputs, cotangents, strict=True):
        contribute(output.value, cotangent, cotangent.axes)
    for node in reversed(order):
        if node in adjoints:
            for operand, contribution in pull_back(node, adjoints[node], program):
                contribute(operand, contribution, node.axes)
    return adjoints


def sum_to(cotangent: Node, spread: frozenset[str], kept: frozenset[str], program: Program) -> Node:
    """The dual of a broadcast from axes ``kept`` to axes ``spread``: the sum over those that were added.

    Along an added axis that the cotangent does not vary over, the sum is a product with the axis' size.
    """
    added = spread - kept
    if over := added & cotangent.axes:
        cotangent = Reduce("sum", cotangent, over)
    if constant := added - over:
        cotangent = Binary("mul", cotangent, Const(float(program.count(constant))))
    return cotangent


def pull_back(node: Node, ct: Node, program: Program) -> list[tuple[Node, Node]]:
    """Pairs of an operand of ``node`` and what the cotangent ``ct`` of ``node`` contributes to it."""
    match node:
        case Input() | Const():
            return []
        case Cast(operand, _):
            # Rounding is treated as the identity, as every framework does.
            return [(operand, ct)]
        case Unary(op, operand):
            return [(operand, _UNARY_RULES[op](ct, operand, node))]
        case Binary("add", left, right):
            return [(left, ct), (right, ct)]
        case Binary("sub", left, right):
            return [(left, ct), (right, Unary("neg", ct))]
        case Binary("mul", left, right):
            return [(left, Binary("mul", ct, right)), (right, Binary("mul", ct, left))]
        case Binary("div", left, right):
            return [
                (left, Binary("div", ct, right)),
                (right, Unary("neg", _mul(ct, Binary("div", node, right)))),
            ]
        case Binary("maximum", left, right):
            return [(left, _share(ct, "gt", left, right)), (right, _share(ct, "gt", right, left))]
        case Binary("minimum", left, right):
            return [(left, _share(ct, "lt", left, right)), (right, _share(ct, "lt", right, left))]
        case Binary():
            return []  # a comparison is constant wherever it has a derivative
        case Select(condition, chosen, other):
            return [
                (chosen, Select(condition, ct, Const(0.0))),
                (other, Select(condition, Const(0.0), ct)),
            ]
        case Reduce("sum", operand, _):
            return [(operand, ct)]
        case Reduce("mean", operand, over):
            return [(operand, Binary("div", ct, Const(float(program.count(over)))))]
        case Reduce("max", operand, over):
            # Equal maxima share evenly, like torch's amax; and NaN, which equals nothing, gives 0 / 0.
            # Compared as they are saved: a kernel may compute either of them in more digits.
            is_max = Binary("eq", _saved(operand, program), _saved(node, program))
            at_max = Select(is_max, Const(1.0), Const(0.0))
            return [(operand, _mul(at_max, Binary("div", ct, Reduce("sum", at_max, over))))]
        case _:
            raise AssertionError(f"no gradient rule for {node}: moments are made after the gradient")


def _saved(value: Node, program: Program) -> Node:
    return value if program.compute == "float64" else Cast(value, program.compute)


def _mul(left: Node, right: Node) -> Node:
    return Binary("mul", left, right)


def _share(ct: Node, wins: str, one: Node, other: Node) -> Node:
    """All of ``ct`` where ``one`` wins, half of it where the two are equal, as torch does."""
    tie = Select(Binary("eq", one, other), _mul(ct, Const(0.5)), Const(0.0))
    return Select(Binary(wins, one, other), ct, tie)


#: op -> cotangent of the operand, from the cotangent of the result, the operand and the result.
_UNARY_RULES: dict[str, Callable[[Node, Node, Node], Node]] = {
    "neg": lambda ct, v, y: Unary("neg", ct),
    "square": lambda ct, v, y: _mul(ct, _mul(Const(2.0), v)),
    "sqrt": lambda ct, v, y: Binary("div", ct, _mul(Const(2.0), y)),
    "rsqrt": lambda ct, v, y: _mul(ct, _mul(Const(-0.5), _mul(y, Unary("square", y)))),
    "exp": lambda ct, v, y: _mul(ct, y),
    "log": lambda ct, v, y: Binary("div", ct, v),
    "tanh": lambda ct, v, y: _mul(ct, Binary("sub", Const(1.0), Unary("square", y))),
    "sigmoid": lambda ct, v, y: _mul(ct, _mul(y, Binary("sub", Const(1.0), y))),
    "erf": lambda ct, v, y: _mul(
        ct, _mul(Const(2.0 / math.sqrt(math.pi)), Unary("exp", Unary("neg", Unary("square", v))))
    ),
    # 0 at 0, as in torch.
    "abs": lambda ct, v, y: Select(
        Binary("gt", v, Const(0.0)),
        ct,
        Select(Binary("lt", v, Const(0.0)), Unary("neg", ct), Const(0.0)),
    ),
}
