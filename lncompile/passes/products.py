"""One order for products: the constant meets the narrowest factors first, the widest values come last.

    ((k * 2.0) * c) * r   -->   c * ((k * r) * 2.0)        with k, r one value a row, c one value an element

so that a loop over elements multiplies once by what is the same all along it. A sign moves into the constant,
or out of the product.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping
from functools import reduce
from itertools import groupby

from lncompile.dtypes import TABLE
from lncompile.ir import Binary, Const, Node, Reduce, Unary


def ordered_product(
    node: Node, used_once: set[Node], position: Mapping[str, int], compute: str
) -> Node | None:
    """The product ``node`` in that order; None where it is no product, or ordered already.

    Inner products are taken apart only where nothing else uses them. ``position`` gives the order of the axes
    in memory: which of two equally narrow factors comes first must not depend on how axes are called.
    Constants whose product the type ``compute`` does not hold stay as they are: 0.0 * 1e30 * 1e30 is 0.
    """
    if not (isinstance(node, Binary) and node.op == "mul"):
        return None
    factors, constant = factors_of(node, used_once)
    if not TABLE[compute].holds(constant):
        return None
    result = _joined(factors, abs(constant), position)
    if constant < 0:
        result = _negated(result)
    return None if _equal(result, node) else result


def factors_of(node: Node, apart: Container[Node] | None = None) -> tuple[list[Node], float]:
    """The factors of a product in their order, and the product of its constants and signs.

    Inner products are taken apart that are in ``apart``, or all of them.
    """
    factors: list[Node] = []
    constants: list[float] = []
    stack: list[Node] = [node]
    while stack:
        part = stack.pop()
        match part:
            case Const(value):
                constants.append(value)
            case Unary("neg", value):
                constants.append(-1.0)
                stack.append(value)
            case Binary("mul", left, right) if part is node or apart is None or part in apart:
                stack += [right, left]
            case _:
                factors.append(part)
    return factors, math.prod(constants)


def factors_in_and_out(node: Reduce) -> tuple[list[Node], list[Node]]:
    """The factors of what is reduced that vary over the reduced axes, and those that do not."""
    factors, constant = factors_of(node.operand)
    factors += [] if constant == 1.0 else [Const(constant)]
    inside = [factor for factor in factors if factor.axes & node.over]
    return inside, [factor for factor in factors if not factor.axes & node.over]


def _joined(factors: list[Node], constant: float, position: Mapping[str, int]) -> Node:
    """Factors over the same axes first, then each product into the narrowest that varies over its axes."""

    def width(factor: Node) -> tuple[int, list[int]]:
        # Of equally narrow ones the inner axis first: what varies over rows alone then leaves row sums.
        return len(factor.axes), sorted(-position[axis] for axis in factor.axes)

    pending: list[Node] = [] if constant == 1.0 else [Const(constant)]
    for _, group in groupby(sorted(factors, key=width), key=width):
        alike = product(group)
        within = [narrow for narrow in pending if narrow.axes < alike.axes]
        pending = [narrow for narrow in pending if narrow not in within]
        pending.append(product([alike, *within]))
    return product(reversed(pending)) if pending else Const(constant)


def product(factors: Iterable[Node]) -> Node:
    """The product of one factor or more, from left to right."""

    def times(left: Node, right: Node) -> Node:
        return Binary("mul", left, right)

    return reduce(times, factors)


def _negated(node: Node) -> Node:
    """-node, the sign in the constant where there is one."""
    match node:
        case Const(value):
            return Const(-value)
        case Binary("mul", factor, rest) if isinstance(rest, Binary | Const):
            negated = _negated(rest)
            if not isinstance(negated, Unary):
                return Binary("mul", factor, negated)
    return Unary("neg", node)


def _equal(a: Node, b: Node) -> bool:
    match a, b:
        case Binary("mul", a_left, a_right), Binary("mul", b_left, b_right):
            return a is b or (_equal(a_left, b_left) and _equal(a_right, b_right))
        case Const(x), Const(y):
            return x == y or (x != x and y != y)
        case Unary("neg", x), Unary("neg", y):
            return _equal(x, y)
    return a is b
