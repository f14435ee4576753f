"""Which power of its inputs a value grows like, and so whether it fits the type that they fit.

    x    1          mean(x²)    2          rsqrt(mean(x²) + eps)    -1 to 0          exp(x)    any

Squares of float32 numbers overflow from 1.8e19 on and vanish below 1e-23; their roots do not.
"""

from __future__ import annotations

import math
from typing import TypeAlias

from lncompile.ir import Binary, Cast, Const, Input, Node, Program, Reduce, Select, Unary, operands

#: The least and the greatest power.
Powers: TypeAlias = tuple[float, float]

_BOUNDED = ("tanh", "sigmoid", "erf", "log")


def fitting(program: Program) -> set[Node]:
    """The values that grow no faster than their inputs, nor faster than these grow small."""
    powers: dict[Node, Powers] = {}
    for node in program.nodes:
        powers[node] = _powers(node, [powers[operand] for operand in operands(node)])
    return {node for node, (least, most) in powers.items() if least >= -1 and most <= 1}


def _powers(node: Node, of: list[Powers]) -> Powers:
    match node:
        case Const():
            return 0.0, 0.0
        case Input():
            return 1.0, 1.0
        case Unary("square") | Reduce("variance"):
            return _scaled(of[0], 2.0)
        case Unary("sqrt"):
            return _scaled(of[0], 0.5)
        case Unary("rsqrt"):
            return _scaled(of[0], -0.5)
        case Unary("exp", Binary("sub", value, Reduce("max", same))) if same is value:
            return 0.0, 0.0
        case Unary("exp"):
            return -math.inf, math.inf
        case Unary(op) if op in _BOUNDED:
            return 0.0, 0.0
        case Binary("mul"):
            return of[0][0] + of[1][0], of[0][1] + of[1][1]
        case Binary("div"):
            return of[0][0] - of[1][1], of[0][1] - of[1][0]
        case Select():
            return _either(of[1:])
        case Unary() | Binary() | Reduce() | Cast():
            return _either(of)
    raise AssertionError(f"no rule for {node}: equations alone have it")


def _scaled(powers: Powers, factor: float) -> Powers:
    least, most = sorted(power * factor for power in powers)
    return least, most


def _either(of: list[Powers]) -> Powers:
    return min(least for least, _ in of), max(most for _, most in of)
