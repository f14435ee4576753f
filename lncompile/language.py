"""The language of equations: operators and functions on traced values.

Applied to plain numbers every function computes the number, so an argument that was left out (and is then
its plain default) can stand wherever a traced value can.
"""

from __future__ import annotations

import builtins
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import CodeType
from typing import Any, NoReturn

import numpy as np

from lncompile import axes as ax
from lncompile import ir
from lncompile.dtypes import named
from lncompile.errors import LncError, LncTypeError, LncValueError

Number = float | int | bool
_NUMBERS = (int, float, np.integer, np.floating, np.bool_)


@dataclass(frozen=True, eq=False, slots=True)
class Trace:
    """One run of one equation: what its traced values belong to, and the axes they may be reduced over."""

    norm: str
    code: CodeType
    axes: tuple[str, ...]
    features: frozenset[str]


class Value:
    """A traced value: stands for an array inside an equation and records what is done with it."""

    __slots__ = ("node", "trace")

    def __init__(self, node: ir.Node, trace: Trace) -> None:
        self.node = node
        self.trace = trace

    def __add__(self, other: object) -> Value:
        return _binary("add", self, other)

    def __radd__(self, other: object) -> Value:
        return _binary("add", other, self)

    def __sub__(self, other: object) -> Value:
        return _binary("sub", self, other)

    def __rsub__(self, other: object) -> Value:
        return _binary("sub", other, self)

    def __mul__(self, other: object) -> Value:
        return _binary("mul", self, other)

    def __rmul__(self, other: object) -> Value:
        return _binary("mul", other, self)

    def __truediv__(self, other: object) -> Value:
        return _binary("div", self, other)

    def __rtruediv__(self, other: object) -> Value:
        return _binary("div", other, self)

    def __neg__(self) -> Value:
        return _unary("neg", self)

    def __pos__(self) -> Value:
        return self

    def __abs__(self) -> Value:
        return _unary("abs", self)

    def __pow__(self, exponent: object) -> Value:
        if isinstance(exponent, builtins.bool | np.bool_) or not isinstance(exponent, int | np.integer):
            _refuse(self.trace, f"'**' takes a plain integer exponent; got {_what(exponent)}")
        return _power(self, int(exponent))

    def __rpow__(self, base: object) -> NoReturn:
        _refuse(self.trace, f"'**' takes a plain integer exponent; got a traced value (for e**x use lnc.exp); base {base!r}")

    def __lt__(self, other: object) -> Value:
        return _binary("lt", self, other)

    def __le__(self, other: object) -> Value:
        return _binary("le", self, other)

    def __gt__(self, other: object) -> Value:
        return _binary("gt", self, other)

    def __ge__(self, other: object) -> Value:
        return _binary("ge", self, other)

    def __eq__(self, other: object) -> Value:  # type: ignore[override]
        return _binary("eq", self, other)

    def __ne__(self, other: object) -> Value:  # type: ignore[override]
        return _binary("ne", self, other)

    def __and__(self, other: object) -> Value:
        return _logical(self, other, lambda a, b: ir.Select(a, b, ir.Const(False)))

    __rand__ = __and__

    def __or__(self, other: object) -> Value:
        return _logical(self, other, lambda a, b: ir.Select(a, ir.Const(True), b))

    __ror__ = __or__

    def __invert__(self) -> Value:
        return _logical(self, True, lambda a, _: ir.Select(a, ir.Const(False), ir.Const(True)))

    __hash__ = object.__hash__

    def __bool__(self) -> NoReturn:
        _refuse(
            self.trace,
            "a traced value has no truth value while tracing, so 'if', 'while', 'and', 'or', 'not', 'in' and chained "
            "comparisons cannot depend on it; use lnc.where",
        )

    def __float__(self) -> NoReturn:
        _refuse(self.trace, "a traced value is no number; use lnc's functions (lnc.sqrt, lnc.exp, ...) instead of math's")

    __int__ = __index__ = __complex__ = __round__ = __trunc__ = __floor__ = __ceil__ = __float__

    def __iter__(self) -> Iterator[Value]:
        _refuse(self.trace, "a traced value cannot be iterated or unpacked; reductions are lnc.sum, lnc.mean and lnc.max")

    def __len__(self) -> NoReturn:
        _refuse(self.trace, "a traced value has no length while tracing")

    def __getitem__(self, index: object) -> NoReturn:
        _refuse(self.trace, "a traced value cannot be indexed; axes are named, not numbered")

    def __getattr__(self, name: str) -> NoReturn:
        # Only for names that are no part of the language; dunder lookups by the machinery must fail as usual.
        if name.startswith("__"):
            raise AttributeError(name)
        _refuse(self.trace, f"a traced value has no attribute {name!r}; the language is in lncompile's functions")

    def __array__(self, *_: object, **__: object) -> NoReturn:
        _refuse(self.trace, "NumPy functions cannot take traced values; use lncompile's functions")

    def __array_function__(self, function: Callable[..., object], *_: object) -> NoReturn:
        _refuse(self.trace, f"np.{function.__name__} cannot take traced values; use lncompile's functions")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **_: object) -> Value:
        # A NumPy scalar on the left of an operator arrives here: np.float32(2) * x.
        op = _UFUNC_OPERATORS.get(ufunc.__name__)
        if method != "__call__" or op is None or not builtins.all(isinstance(v, Value | _NUMBERS) for v in inputs):
            _refuse(self.trace, f"np.{ufunc.__name__} cannot take traced values; use lncompile's functions")
        return _binary(op, *inputs)

    def __repr__(self) -> str:
        names = [name for name in self.trace.axes if name in self.node.axes]
        return f"<traced {ir.label_of(self.node) or 'value'} [{' '.join(names)}] of {self.trace.norm}>"


_UFUNC_OPERATORS = {
    "add": "add",
    "subtract": "sub",
    "multiply": "mul",
    "divide": "div",
    "less": "lt",
    "less_equal": "le",
    "greater": "gt",
    "greater_equal": "ge",
    "equal": "eq",
    "not_equal": "ne",
}


def square(v: Any) -> Any:
    """v²."""
    return _unary("square", v) if isinstance(v, Value) else _number("square", v) ** 2


def sqrt(v: Any) -> Any:
    """√v."""
    return _unary("sqrt", v) if isinstance(v, Value) else _plain("sqrt", math.sqrt, v)


def rsqrt(v: Any) -> Any:
    """1 / √v."""
    return _unary("rsqrt", v) if isinstance(v, Value) else _plain("rsqrt", lambda number: 1.0 / math.sqrt(number), v)


def exp(v: Any) -> Any:
    """e to the power v."""
    return _unary("exp", v) if isinstance(v, Value) else _plain("exp", math.exp, v)


def log(v: Any) -> Any:
    """The natural logarithm of v."""
    return _unary("log", v) if isinstance(v, Value) else _plain("log", math.log, v)


def tanh(v: Any) -> Any:
    """The hyperbolic tangent of v."""
    return _unary("tanh", v) if isinstance(v, Value) else _plain("tanh", math.tanh, v)


def sigmoid(v: Any) -> Any:
    """The logistic function 1 / (1 + e^-v)."""
    if isinstance(v, Value):
        return _unary("sigmoid", v)
    # In terms of tanh it cannot overflow.
    return _plain("sigmoid", lambda number: 0.5 + 0.5 * math.tanh(0.5 * number), v)


def erf(v: Any) -> Any:
    """The error function of v."""
    return _unary("erf", v) if isinstance(v, Value) else _plain("erf", math.erf, v)


def abs(v: Any) -> Any:
    """The absolute value of v; its derivative at 0 is 0."""
    return _unary("abs", v) if isinstance(v, Value) else builtins.abs(_number("abs", v))


def maximum(a: Any, b: Any) -> Any:
    """The larger of two values, elementwise; where they are equal each gets half of the gradient, as in torch."""
    if isinstance(a, Value) or isinstance(b, Value):
        return _binary("maximum", a, b)
    return builtins.max(_number("maximum", a), _number("maximum", b))


def minimum(a: Any, b: Any) -> Any:
    """The smaller of two values, elementwise; where they are equal each gets half of the gradient, as in torch."""
    if isinstance(a, Value) or isinstance(b, Value):
        return _binary("minimum", a, b)
    return builtins.min(_number("minimum", a), _number("minimum", b))


def where(condition: Any, chosen: Any, other: Any) -> Any:
    """``chosen`` where ``condition`` holds, ``other`` elsewhere; no gradient flows into the condition."""
    if not isinstance(condition, Value):
        if not isinstance(condition, builtins.bool | np.bool_):
            raise _error(None, f"lnc.where: the condition must be a comparison; got {_what(condition)}")
        return chosen if condition else other
    trace = _trace_of(condition, chosen, other)
    if condition.node.kind != "bool":
        _refuse(trace, "lnc.where: the condition must be a comparison; got a number-valued traced value")
    return Value(ir.Select(condition.node, _real(chosen, trace), _real(other, trace)), trace)


def relu(v: Any) -> Any:
    """max(v, 0), with derivative 0 at 0; NaN stays NaN."""
    return where(v <= 0, 0.0, v)


def silu(v: Any) -> Any:
    """v · sigmoid(v) (Elfwing, Uchibe, Doya 2017, arXiv 1702.03118; also called swish)."""
    return v * sigmoid(v)


def gelu(v: Any, approximate: str = "none") -> Any:
    """The Gaussian error linear unit (Hendrycks, Gimpel 2016, arXiv 1606.08415).

    ``"none"``: v · Φ(v) by erf; ``"tanh"``: the paper's approximation by tanh.
    """
    if approximate == "none":
        return 0.5 * v * (1.0 + erf(v * math.sqrt(0.5)))
    if approximate == "tanh":
        return 0.5 * v * (1.0 + tanh(math.sqrt(2.0 / math.pi) * (v + 0.044715 * (v * square(v)))))
    raise LncValueError(f"approximate: expected 'none' or 'tanh'; got {approximate!r}")


def sum(v: Any, over: str | None = None) -> Any:
    """The sum over all feature axes that ``v`` varies over, or over those named: ``over="h w"``."""
    if not isinstance(v, Value):
        raise _error(None, f"lnc.sum: expected a traced value, whose axes tell how many terms there are; got {_what(v)}")
    return _reduce("sum", v, over)


def mean(v: Any, over: str | None = None) -> Any:
    """The mean over all feature axes that ``v`` varies over, or over those named: ``over="h w"``."""
    return _reduce("mean", v, over) if isinstance(v, Value) else _number("mean", v)


def max(v: Any, over: str | None = None) -> Any:
    """The maximum over all feature axes that ``v`` varies over, or over those named: ``over="h w"``.

    Equal maxima share the gradient evenly, as in torch's ``amax``.
    """
    return _reduce("max", v, over) if isinstance(v, Value) else _number("max", v)


def cast(v: Any, dtype: Any) -> Any:
    """``v`` rounded to ``dtype``; arithmetic goes on in float32 (float64 where an argument is float64)."""
    name = named(dtype, "dtype")
    if not isinstance(v, Value):
        return float(np.dtype(name).type(_number("cast", v)))
    return Value(ir.Cast(_real(v, v.trace), name), v.trace)


def _unary(op: str, v: Value) -> Value:
    return Value(ir.Unary(op, _real(v, v.trace)), v.trace)


def _binary(op: str, left: object, right: object) -> Value:
    trace = _trace_of(left, right)
    return Value(ir.Binary(op, _real(left, trace), _real(right, trace)), trace)


def _logical(left: Value, right: object, build: Callable[[ir.Node, ir.Node], ir.Node]) -> Value:
    trace = _trace_of(left, right)
    nodes = []
    for operand in (left, right):
        if isinstance(operand, builtins.bool | np.bool_):
            nodes.append(ir.Const(builtins.bool(operand)))
        elif isinstance(operand, Value) and operand.node.kind == "bool":
            nodes.append(operand.node)
        else:
            _refuse(trace, f"'&', '|' and '~' combine comparisons; got {_what(operand)}")
    return Value(build(nodes[0], nodes[1]), trace)


def _power(v: Value, exponent: int) -> Value:
    """Repeated squaring: x**6 is square(x * square(x))."""
    if exponent < 0:
        return 1.0 / _power(v, -exponent)
    if exponent == 0:
        # 1 along the axes of v, so that the shape of what is computed from it does not change.
        return where(v == v, 1.0, 1.0)  # type: ignore[no-any-return]
    if exponent == 1:
        return v
    half = _unary("square", _power(v, exponent // 2))
    return half * v if exponent % 2 else half


def _reduce(op: str, v: Value, over: str | None) -> Value:
    trace = v.trace
    if over is None:
        names = trace.features & v.node.axes
        if not names:
            _refuse(trace, f"lnc.{op}: reduces over no axis: the value {_axes_text(v)} varies over no feature axis")
    else:
        try:
            names = frozenset(ax.parse(over, "over").axes)
        except LncError as error:
            raise _error(trace, f"lnc.{op}: {error}") from None
        if not names:
            _refuse(trace, f"lnc.{op}: reduces over no axis: over={over!r}")
        for name in sorted(names):
            if name not in trace.axes:
                _refuse(trace, f"lnc.{op}: over={over!r}: unknown axis {name!r}; the axes are {' '.join(trace.axes)}")
            if name not in trace.features:
                _refuse(trace, f"lnc.{op}: over={over!r}: {name!r} is a batch axis; mark it [{name}] in the pattern")
            if name not in v.node.axes:
                _refuse(trace, f"lnc.{op}: over={over!r}: the value {_axes_text(v)} does not vary over {name!r}")
    return Value(ir.Reduce(op, _real(v, trace), names), trace)


def _real(operand: object, trace: Trace) -> ir.Node:
    """The node of an operand as a number: truth values count as 0 and 1, as in NumPy."""
    if isinstance(operand, Value):
        if operand.trace is not trace:
            _refuse(trace, f"a traced value of another equation ({operand.trace.norm}) cannot be used here")
        if operand.node.kind == "bool":
            return ir.Select(operand.node, ir.Const(1.0), ir.Const(0.0))
        return operand.node
    if isinstance(operand, _NUMBERS):
        return ir.Const(float(operand))
    _refuse(trace, f"an operand must be a traced value or a plain number; got {_what(operand)}")


def _trace_of(*operands: object) -> Trace:
    return next(operand.trace for operand in operands if isinstance(operand, Value))


def _plain(name: str, function: Callable[[float], float], v: object) -> float:
    number = _number(name, v)
    try:
        return function(number)
    except (ValueError, OverflowError, ZeroDivisionError) as error:
        raise _error(None, f"lnc.{name}({number!r}): {error}") from None


def _number(name: str, v: object) -> float:
    if isinstance(v, _NUMBERS):
        return v if isinstance(v, int | float) else v.item()  # type: ignore[union-attr]
    raise _error(None, f"lnc.{name}: expected a traced value or a plain number; got {_what(v)}")


def _what(v: object) -> str:
    if isinstance(v, Value):
        return "a traced value"
    return f"an array of shape {v.shape}" if isinstance(v, np.ndarray) else f"{type(v).__name__} {v!r}"


def _axes_text(v: Value) -> str:
    return "[" + " ".join(name for name in v.trace.axes if name in v.node.axes) + "]"


def _refuse(trace: Trace, what: str) -> NoReturn:
    raise _error(trace, what)


def _error(trace: Trace | None, what: str) -> LncError:
    """A user's mistake inside an equation, with the file and line where it stands."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    within = f" in {trace.norm}" if trace else ""
    return LncTypeError(f"{frame.f_code.co_filename}:{frame.f_lineno}:{within}: {what}")
