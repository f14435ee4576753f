"""The language of equations: operators and functions on traced values.

Applied to plain numbers every function computes the number, so an argument that was left out (and is then
its plain default) can stand wherever a traced value can.
"""

from __future__ import annotations

import builtins
import math
import operator
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from lncompile import axes as ax
from lncompile.dtypes import named, rounded
from lncompile.errors import LncError, LncTypeError, LncValueError

if TYPE_CHECKING:
    from lncompile import ir

_NUMBERS = (int, float, np.integer, np.floating, np.bool_)


class Trace:
    """One run of one equation: what its traced values belong to, and the axes they may be reduced over.

    Its values can be computed with until it is ``ended``.
    """

    __slots__ = ("axes", "ended", "features", "norm", "sizes")

    def __init__(
        self, norm: str, axes: tuple[str, ...], features: frozenset[str], sizes: Mapping[str, int]
    ) -> None:
        self.norm = norm
        self.axes = axes
        self.features = features
        self.sizes = sizes
        self.ended = False


class Value:
    """A traced value: stands for an array inside an equation and records what is done with it."""

    __slots__ = ("node", "trace")

    def __init__(self, node: ir.Node, trace: Trace) -> None:
        if trace.ended:
            _refuse(trace, f"a traced value of {trace.norm} cannot be used after the equation has returned")
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
        _refuse(
            self.trace,
            f"'**' takes a plain integer exponent; got a traced value (for e**x use lnc.exp); base {base!r}",
        )

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
        return _logical(self, other, lambda a, b: _node("Select", a, b, _node("Const", False)))

    __rand__ = __and__

    def __or__(self, other: object) -> Value:
        return _logical(self, other, lambda a, b: _node("Select", a, _node("Const", True), b))

    __ror__ = __or__

    def __invert__(self) -> Value:
        return _logical(
            self, True, lambda a, _: _node("Select", a, _node("Const", False), _node("Const", True))
        )

    __hash__ = object.__hash__

    def __bool__(self) -> NoReturn:
        _refuse(
            self.trace,
            "a traced value has no truth value while tracing, so 'if', 'while', 'and', 'or', 'not', 'in' and "
            "chained comparisons cannot depend on it; use lnc.where",
        )

    def __float__(self, *_: object) -> NoReturn:
        _refuse(
            self.trace,
            "a traced value is no number; use lnc's functions (lnc.sqrt, lnc.exp, ...) instead of math's",
        )

    __int__ = __index__ = __complex__ = __round__ = __trunc__ = __floor__ = __ceil__ = __float__

    def __iter__(self) -> Iterator[Value]:
        _refuse(
            self.trace,
            "a traced value cannot be iterated or unpacked; reductions are lnc.sum, lnc.mean and lnc.max",
        )

    def __floordiv__(self, other: object) -> NoReturn:
        _refuse(self.trace, "the language has no '//', '%', '@', '^', '<<', '>>'; it has + - * / and **")

    __rfloordiv__ = __mod__ = __rmod__ = __divmod__ = __rdivmod__ = __matmul__ = __rmatmul__ = __floordiv__
    __xor__ = __rxor__ = __lshift__ = __rlshift__ = __rshift__ = __rrshift__ = __floordiv__

    def __call__(self, *_: object, **__: object) -> NoReturn:
        _refuse(self.trace, "a traced value cannot be called")

    def __len__(self) -> NoReturn:
        _refuse(self.trace, "a traced value has no length while tracing")

    def __getitem__(self, index: object) -> NoReturn:
        _refuse(self.trace, "a traced value cannot be indexed; axes are named, not numbered")

    def __setitem__(self, index: object, value: object) -> NoReturn:
        _refuse(self.trace, "a traced value cannot be assigned to; use lnc.where")

    def __getattr__(self, name: str) -> NoReturn:
        # Only for names that are no part of the language; dunder lookups by the machinery must fail as usual.
        if name.startswith("__"):
            raise AttributeError(name)
        _refuse(
            self.trace, f"a traced value has no attribute {name!r}; the language is in lncompile's functions"
        )

    def __array__(self, *_: object, **__: object) -> NoReturn:
        _refuse(self.trace, "NumPy functions cannot take traced values; use lncompile's functions")

    def __array_function__(self, function: Callable[..., object], *_: object) -> NoReturn:
        _refuse(self.trace, f"np.{function.__name__} cannot take traced values; use lncompile's functions")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **_: object) -> Value:
        # A NumPy scalar on the left of an operator arrives here: np.float32(2) * x.
        name = ufunc.__name__
        fit = builtins.all(isinstance(v, Value) or _is_scalar(v, name in _UFUNC_COMPARISONS) for v in inputs)
        if method != "__call__" or name not in _UFUNC_OPERATORS or not fit:
            _refuse(self.trace, f"np.{name} cannot take traced values; use lncompile's functions")
        numbers = (v if isinstance(v, Value) else v.item() for v in inputs)
        return _UFUNC_OPERATORS[name](*numbers)  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        names = " ".join(name for name in self.trace.axes if name in self.node.axes)
        return f"<traced {getattr(self.node, 'name', 'value')} [{names}] of {self.trace.norm}>"


#: The functions that NumPy calls for operators, and those operators.
_UFUNC_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "less": operator.lt,
    "less_equal": operator.le,
    "greater": operator.gt,
    "greater_equal": operator.ge,
    "equal": operator.eq,
    "not_equal": operator.ne,
}
_UFUNC_OPERATORS = _UFUNC_COMPARISONS | {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "power": operator.pow,
    "bitwise_and": operator.and_,
    "bitwise_or": operator.or_,
}


def _is_scalar(v: object, compared: bool) -> bool:
    """Whether ``v`` is a scalar of NumPy, which makes it an array of no dimensions in comparisons."""
    return isinstance(v, np.generic) or (compared and isinstance(v, np.ndarray) and v.ndim == 0)


def square(v: Any) -> Any:
    """v²."""
    return (
        _unary("square", v) if isinstance(v, Value) else _plain("square", lambda number: number * number, v)
    )


def sqrt(v: Any) -> Any:
    """√v."""
    return _unary("sqrt", v) if isinstance(v, Value) else _plain("sqrt", math.sqrt, v)


def rsqrt(v: Any) -> Any:
    """1 / √v."""
    return (
        _unary("rsqrt", v)
        if isinstance(v, Value)
        else _plain("rsqrt", lambda number: 1.0 / math.sqrt(number), v)
    )


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
    """The larger of two values, elementwise; equal ones get half of the gradient each, as in torch."""
    if isinstance(a, Value) or isinstance(b, Value):
        return _binary("maximum", a, b)
    return builtins.max(_number("maximum", a), _number("maximum", b))


def minimum(a: Any, b: Any) -> Any:
    """The smaller of two values, elementwise; equal ones get half of the gradient each, as in torch."""
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
    return Value(_node("Select", condition.node, _real(chosen, trace), _real(other, trace)), trace)


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
    raise _error(None, f"approximate: expected 'none' or 'tanh'; got {approximate!r}", LncValueError)


def sum(v: Any, over: str | None = None) -> Any:
    """The sum over all feature axes that ``v`` varies over, or over those named: ``over="h w"``."""
    if not isinstance(v, Value):
        raise _error(
            None,
            f"lnc.sum: expected a traced value, whose axes tell how many terms there are; got {_what(v)}",
        )
    return _reduce("sum", v, over)


def mean(v: Any, over: str | None = None) -> Any:
    """The mean over all feature axes that ``v`` varies over, or over those named: ``over="h w"``."""
    return _reduce("mean", v, over) if isinstance(v, Value) else _number("mean", v)


def max(v: Any, over: str | None = None) -> Any:
    """The maximum over all feature axes that ``v`` varies over, or over those named: ``over="h w"``.

    Equal maxima share the gradient evenly, as in torch's ``amax``; along an axis that the equation unstacks,
    they do so pair by pair, as in :func:`maximum`.
    """
    return _reduce("max", v, over) if isinstance(v, Value) else _number("max", v)


def cast(v: Any, dtype: Any) -> Any:
    """``v`` rounded to ``dtype``; arithmetic goes on in float32 (float64 where an argument is float64)."""
    try:
        name = named(dtype, "dtype")
    except LncError as error:
        raise _error(v.trace if isinstance(v, Value) else None, f"lnc.cast: {error}", type(error)) from None
    if not isinstance(v, Value):
        return float(rounded(np.float64(_number("cast", v)), name))
    return Value(_node("Cast", _real(v, v.trace), name), v.trace)


def unstack(v: Any, axis: str, count: int) -> tuple[Any, ...]:
    """The values at the ``count`` positions of a feature axis, in order, like ``numpy.unstack``.

    ``f, i, o, g = lnc.unstack(z, "gate", 4)`` takes the gates out of ``z`` over ``b [gate h]``: each varies
    over ``b`` and ``h`` alone. What does not vary over the axis, like a number, is the same at all positions.
    """
    if not isinstance(v, Value):
        _number("unstack", v)
        return (v,) * _positions("unstack", None, axis, count)
    positions = range(_positions("unstack", v.trace, axis, count))
    if axis not in v.node.axes:
        return (v,) * count
    return tuple(Value(_node("Take", v.node, axis, position), v.trace) for position in positions)


def stack(values: Sequence[Any], axis: str) -> Any:
    """The inverse of :func:`unstack`, like ``numpy.stack``: ``values`` at the positions of a feature axis."""
    if not isinstance(values, list | tuple) or not values:
        raise _error(None, f"lnc.stack: expected a list of values, one a position; got {_what(values)}")
    if not any(isinstance(value, Value) for value in values):
        numbers = {_number("stack", value) for value in values}
        if len(numbers) > 1:
            raise _error(None, f"lnc.stack: expected traced values or equal numbers; got {_what(values)}")
        return numbers.pop()
    trace = _trace_of(*values)
    _positions("stack", trace, axis, len(values))
    nodes = tuple(_real(value, trace) for value in values)
    for index, node in enumerate(nodes):
        if axis in node.axes:
            _refuse(trace, f"lnc.stack: value {index} varies over {axis!r} already", LncValueError)
    return Value(_node("Stack", nodes, axis), trace)


#: Every position of an unstacked axis is computed by code of its own.
_MOST_POSITIONS = 64


def _positions(function: str, trace: Trace | None, axis: object, count: object) -> int:
    """``count``, if it is the number of positions along the feature axis ``axis``."""
    if not isinstance(axis, str):
        raise _error(trace, f"lnc.{function}: expected the name of an axis; got {_what(axis)}")
    if isinstance(count, builtins.bool) or not isinstance(count, int | np.integer):
        raise _error(trace, f"lnc.{function}: expected the number of positions; got {_what(count)}")
    if not 1 <= count <= _MOST_POSITIONS:
        what = f"lnc.{function}: expected 1 to {_MOST_POSITIONS} positions; got {count}"
        raise _error(trace, what, LncValueError)
    if trace is None:
        return int(count)
    if axis not in trace.features:
        known = f"its feature axes are {sorted(trace.features)}"
        if axis in trace.axes:
            known = f"the size of a batch axis is not known when compiling; write [{axis}] in the pattern"
        _refuse(trace, f"lnc.{function}: {axis!r} is no feature axis of the pattern; {known}", LncValueError)
    if trace.sizes[axis] != count:
        what = f"axis {axis!r} has {trace.sizes[axis]} positions, not {count}"
        _refuse(trace, f"lnc.{function}: {what}", LncValueError)
    return int(count)


def _node(kind: str, *fields: object) -> ir.Node:
    """A node of the IR, imported when the first equation is traced: a cached kernel needs none of it."""
    from lncompile import ir

    node: ir.Node = getattr(ir, kind)(*fields)
    return node


def _unary(op: str, v: Value) -> Value:
    return Value(_node("Unary", op, _real(v, v.trace)), v.trace)


def _binary(op: str, left: object, right: object) -> Value:
    trace = _trace_of(left, right)
    return Value(_node("Binary", op, _real(left, trace), _real(right, trace)), trace)


def _logical(left: Value, right: object, build: Callable[[ir.Node, ir.Node], ir.Node]) -> Value:
    trace = _trace_of(left, right)
    nodes: list[ir.Node] = []
    for operand in (left, right):
        if isinstance(operand, builtins.bool | np.bool_):
            nodes.append(_node("Const", builtins.bool(operand)))
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
    names = _feature_axes(op, v) if over is None else _named_axes(op, v, over)
    return Value(_node("Reduce", op, _real(v, v.trace), names), v.trace)


def _feature_axes(op: str, v: Value) -> ir.Axes:
    names = v.trace.features & v.node.axes
    if not names:
        what = f"the value {_axes_text(v)} varies over no feature axis"
        if not v.trace.features:
            what += "; brackets in the pattern mark those, as in '... [d]'"
        _refuse(v.trace, f"lnc.{op}: reduces over no axis: {what}", LncValueError)
    return names


def _named_axes(op: str, v: Value, over: str) -> ir.Axes:
    trace = v.trace
    try:
        parsed = ax.parse(over, "over")
    except LncError as error:
        raise _error(trace, f"lnc.{op}: {error}", type(error)) from None
    if parsed.features:
        _refuse(
            trace,
            f"lnc.{op}: over={over!r}: brackets belong to the pattern; name the axes alone",
            LncValueError,
        )
    names = parsed.axes
    if not names:
        _refuse(trace, f"lnc.{op}: reduces over no axis: over={over!r}", LncValueError)
    for name in names:
        what = None
        if name not in trace.axes:
            what = f"unknown axis {name!r}; the axes are {' '.join(trace.axes)}"
        elif name not in trace.features:
            what = f"{name!r} is a batch axis; mark it [{name}] in the pattern"
        elif name not in v.node.axes:
            what = f"the value {_axes_text(v)} does not vary over {name!r}"
        if what:
            _refuse(trace, f"lnc.{op}: over={over!r}: {what}", LncValueError)
    return frozenset(names)


def _real(operand: object, trace: Trace) -> ir.Node:
    """The node of an operand as a number: truth values count as 0 and 1, as in NumPy."""
    if isinstance(operand, Value):
        if operand.trace is not trace:
            _refuse(trace, f"a traced value of another equation ({operand.trace.norm}) cannot be used here")
        if operand.node.kind == "bool":
            return _node("Select", operand.node, _node("Const", 1.0), _node("Const", 0.0))
        return operand.node
    if not isinstance(operand, _NUMBERS):
        _refuse(trace, f"an operand must be a traced value or a plain number; got {_what(operand)}")
    try:
        return _node("Const", float(operand))
    except OverflowError as error:
        raise _error(trace, f"{error}: an int of {len(str(operand))} digits", LncValueError) from None


def _trace_of(*operands: object) -> Trace:
    return next(operand.trace for operand in operands if isinstance(operand, Value))


def _plain(name: str, function: Callable[[float], float], v: object) -> float:
    number = _number(name, v)
    try:
        return function(number)
    except (ValueError, OverflowError, ZeroDivisionError) as error:
        raise _error(None, f"lnc.{name}({number!r}): {error}", LncValueError) from None


def _number(name: str, v: object) -> float:
    if isinstance(v, _NUMBERS):
        return v if isinstance(v, int | float) else v.item()
    raise _error(None, f"lnc.{name}: expected a traced value or a plain number; got {_what(v)}")


def _what(v: object) -> str:
    if isinstance(v, Value):
        return "a traced value"
    return f"an array of shape {v.shape}" if isinstance(v, np.ndarray) else f"{type(v).__name__} {v!r}"


def _axes_text(v: Value) -> str:
    return "[" + " ".join(name for name in v.trace.axes if name in v.node.axes) + "]"


def _refuse(trace: Trace, what: str, kind: type[LncError] = LncTypeError) -> NoReturn:
    raise _error(trace, what, kind)


def _error(trace: Trace | None, what: str, kind: type[LncError] = LncTypeError) -> LncError:
    """A user's mistake inside an equation, with the file and line where it stands."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    within = f"in {trace.norm}: " if trace else ""
    return kind(f"{frame.f_code.co_filename}:{frame.f_lineno}: {within}{what}")
