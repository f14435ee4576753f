"""Rules on single values, true whatever their axes: folding of constants, neutral elements, signs.

    2.0 * 3.0  -->  6.0          x * 1.0  -->  x          a - -b  -->  a + b          x * x  -->  square(x)

No rule drops a value that may be NaN or infinite: x * 0.0 stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from lncompile.interpret import BINARY, UNARY
from lncompile.ir import Binary, Const, Node, Select, Unary


def simplify_scalar(node: Node) -> Node | None:
    """What replaces ``node``, whose operands are simplified already; None where no rule applies."""
    match node:
        case Unary(op, Const(value)):
            return _folded(UNARY[op], value)
        case Binary(op, Const(left), Const(right)):
            return _folded(BINARY[op], left, right)
        case Select(Const(value), chosen, other):
            return chosen if value else other
        case Select(_, chosen, other) if chosen is other:
            return chosen
        case Unary("neg", Unary("neg", value)):
            return value
        case Unary("neg", Binary("sub", a, b)):
            return Binary("sub", b, a)
        case Unary("square" | "abs" as op, Unary("neg" | "abs", value)):
            return Unary(op, value)
        case Unary("square" | "abs" as op, Binary("sub", a, b)) if a.axes < b.axes:
            # One spelling of a deviation: (mean - x)² is (x - mean)².
            return Unary(op, Binary("sub", b, a))
        case Binary("mul", a, b) if a is b:
            return Unary("square", a)
        case Binary("add" | "sub", a, b):
            return _sum(node.op, a, b)
        case Binary("div", a, b):
            return _quotient(a, b)
    return None


def _folded(operation: Callable[..., object], *values: float) -> Node | None:
    # A fold that overflows or is invalid stays as it was written: the kernel then computes it.
    with np.errstate(all="ignore"):
        value = operation(*(np.float64(value) for value in values))
    if isinstance(value, np.bool_):
        return Const(bool(value))
    number = float(value)  # type: ignore[arg-type]
    return Const(number) if math.isfinite(number) else None


def _sum(op: str, a: Node, b: Node) -> Node | None:
    match op, a, b:
        case (_, value, Const(0.0)):
            return value
        case ("add", Const(0.0), value):
            return value
        case ("sub", Const(0.0), value):
            return Unary("neg", value)
        case ("add", value, Unary("neg", negated)) | ("add", Unary("neg", negated), value):
            return Binary("sub", value, negated)
        case ("sub", value, Unary("neg", negated)):
            return Binary("add", value, negated)
        case (_, value, Binary("mul", factor, Const(constant))) if constant < 0:
            return Binary("add" if op == "sub" else "sub", value, Binary("mul", factor, Const(-constant)))
        case ("add", Binary("mul", factor, Const(constant)), value) if constant < 0:
            return Binary("sub", value, Binary("mul", factor, Const(-constant)))
    return None


def _quotient(a: Node, b: Node) -> Node | None:
    match a, b:
        case (value, Const(constant)) if constant != 0 and math.isfinite(1.0 / constant):
            # Half an ulp more than the division, which costs ten times as much.
            return Binary("mul", value, Const(1.0 / constant))
        case (Unary("neg", value), divisor):
            return Unary("neg", Binary("div", value, divisor))
        case (value, Unary("neg", divisor)):
            return Unary("neg", Binary("div", value, divisor))
        case (value, divisor) if divisor.axes < value.axes:
            # A division for each element becomes one for each row.
            return Binary("mul", value, Binary("div", Const(1.0), divisor))
    return None
