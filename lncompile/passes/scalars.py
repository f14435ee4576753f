"""Rules on single values, true whatever their axes: folding of constants, neutral elements, signs.

    2.0 * 3.0  -->  6.0          x * 1.0  -->  x          a - -b  -->  a + b          x * x  -->  square(x)

No rule drops a value that may be NaN or infinite: x * 0.0 stays.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lncompile.dtypes import TABLE
from lncompile.interpret import BINARY, UNARY
from lncompile.ir import (
    Binary,
    Cast,
    Const,
    Input,
    Node,
    Program,
    Reduce,
    Select,
    Unary,
    rewrite,
    topological,
    up_to_reductions,
)


def simplify_scalar(node: Node, compute: str) -> Node | None:
    """What replaces ``node``, whose operands are simplified already; None where no rule applies.

    ``compute`` is the type that loops over elements compute in.
    """
    known = _known(node)
    if isinstance(known, Const) and not isinstance(node, Select):
        # A fold that overflows or is invalid stays as it was written: the kernel then computes it.
        return known if math.isfinite(known.value) else None
    if known is not None:
        return known
    match node:
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
            return _quotient(a, b, compute)
    return None


def without_constant_operations(program: Program) -> Program:
    """``program`` with what is known of constants alone computed, infinite or NaN though it may be.

    rsqrt(0.0 + 1e-05)  -->  316.2          exp(1000.0)  -->  inf

    A last pass: the other rules take constants for finite numbers.
    """

    return rewrite(program, _known)


def _known(node: Node) -> Node | None:
    """What an operation on constants alone gives, and a choice by one of them."""
    with np.errstate(all="ignore"):
        match node:
            case Unary(op, Const(value)):
                return _constant(UNARY[op](np.float64(value)))
            case Binary(op, Const(left), Const(right)):
                return _constant(BINARY[op](np.float64(left), np.float64(right)))
            case Select(Const(value), chosen, other):
                return chosen if value else other
            case Cast(Const(value), dtype):
                return _constant(TABLE[dtype].numpy.type(value))
    return None


def _constant(value: Any) -> Const:
    return Const(bool(value) if isinstance(value, np.bool_) else float(value))


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


def _quotient(a: Node, b: Node, compute: str) -> Node | None:
    match a, b:
        case (value, Const(constant)):
            # Half an ulp more than the division, which costs ten times as much.
            inverse = 1.0 / constant if constant else math.inf
            return Binary("mul", value, Const(inverse)) if TABLE[compute].holds(inverse) else None
        case (Unary("neg", value), divisor):
            return Unary("neg", Binary("div", value, divisor))
        case (value, Unary("neg", divisor)):
            return Unary("neg", Binary("div", value, divisor))
        case (value, divisor) if divisor.axes < value.axes and not _is_share(value, divisor):
            # A division for each element becomes one for each row.
            return Binary("mul", value, Binary("div", Const(1.0), divisor))
    return None


def _is_share(value: Node, divisor: Node) -> bool:
    """Whether ``value`` is divided by what its largest element tells: x / max(x) is 1 there, nowhere more.

    The product x * (1 / max(x)) is less for one row in seven, and 1 - x * (1 / max(x)), a multiply-add, may
    be negative.
    """
    arrays = {node for node in topological([value]) if isinstance(node, Input)}
    maxima = [node for node in up_to_reductions([divisor]) if isinstance(node, Reduce) and node.op == "max"]
    return any(array in arrays for array in topological(maxima))
