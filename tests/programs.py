"""Random equations as text: patterns, parameters, statements, shapes, dtypes and layouts in memory.

Every value of an equation carries an interval that it lies in, so that no function leaves its domain and
nothing overflows, without wrapping every operand in a function that would hide mistakes in the others.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from math import ceil, log10, prod
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

import lncompile as lnc
from lncompile import axes as ax
from lncompile.dtypes import TABLE
from lncompile.equation import Equation
from lncompile.norm import dispatcher_of

Array = np.ndarray[Any, np.dtype[Any]]
Draw = Callable[[Any], Any]

DTYPES = list(TABLE)
#: Around the edges of vectors of 8, 16, 32 and 64 lanes.
SIZES = [1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 70]
ELEMENTS = 4000
#: Inputs lie in [-REACH, REACH); values that may be larger than LARGEST are scaled down.
REACH, LARGEST = 2.0, 1e4


@dataclass(frozen=True)
class Case:
    """One program and what it is run on; its ``repr`` is what a regression test is made of.

    ``dtypes`` names the arguments that are present. ``unused`` are the outputs, by place, through which no
    gradient comes in. ``layouts`` has one for each array in turn.
    """

    pattern: str
    axes: dict[str, str]
    code: str
    sizes: ax.Sizes
    dtypes: dict[str, str]
    out_dtype: str | None = None
    unused: tuple[int, ...] = ()
    layouts: tuple[str, ...] = ("plain",)
    seed: int = 0
    compiled: bool = True

    @cached_property
    def norm(self) -> Any:
        """The norm that the text defines."""
        namespace: dict[str, Any] = {"lnc": lnc}
        exec(self.code, namespace)
        return lnc.norm(self.pattern, **self.axes)(namespace["f"])

    @property
    def equation(self) -> Equation:
        """The equation behind the norm."""
        return dispatcher_of(self.norm).equation

    @property
    def left_out(self) -> tuple[str, ...]:
        """The arguments that are not given."""
        return tuple(a.name for a in self.equation.arguments if a.name not in self.dtypes)

    @property
    def options(self) -> dict[str, Any]:
        """What a call is given beside the arrays: sizes of split axes, and the dtype of outputs."""
        split = [name for dim in self.equation.pattern.dims if len(dim) > 1 for name in dim]
        options = {name: self.sizes[name] for name in split}
        return options | ({"out_dtype": self.out_dtype} if self.out_dtype else {})

    @property
    def counts(self) -> dict[str, int]:
        """The number of positions along every axis."""
        return {name: ax.count(name, self.sizes) for name in self.sizes}

    def arrays(self) -> dict[str, Array]:
        """Random arrays for the arguments that are present."""
        shapes = {a.name: ax.array_shape(a.dims, self.sizes) for a in self.equation.arguments}
        return {
            name: self.array(shapes[name], dtype, at) for at, (name, dtype) in enumerate(self.dtypes.items())
        }

    def array(self, shape: tuple[int, ...], dtype: str, place: int) -> Array:
        """Random numbers; which, and how they lie in memory, depends on ``place``."""
        rng = np.random.default_rng((self.seed, place))
        plain = rng.uniform(-REACH, REACH, shape).astype(TABLE[dtype].numpy)
        return LAYOUTS[self.layouts[place % len(self.layouts)]](plain)

    def output_shape(self, names: tuple[str, ...]) -> tuple[int, ...]:
        """The shape of an output that varies over these axes."""
        return ax.array_shape(self.equation.pattern.restricted(frozenset(names)), self.sizes)


def _broadcast(array: Array) -> Array:
    """The first entry of the longest dimension all along it, by a stride of zero."""
    if not array.ndim:
        return array
    at = int(np.argmax(array.shape))
    return np.broadcast_to(array.take([0], at), array.shape)


def _off_by_one(array: Array) -> Array:
    memory = np.empty(array.size + 1, array.dtype)
    memory[1:] = array.ravel()
    return memory[1:].reshape(array.shape)


def _misaligned(array: Array) -> Array:
    memory = np.empty(array.nbytes + 1, np.uint8)
    view = memory[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


def _reversed(array: Array) -> Array:
    back = (slice(None, None, -1),) * array.ndim
    return array[back].copy()[back]


#: Ways in which an array may lie in memory. Every view has the elements of the plain array, save the
#: broadcast one.
LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "plain": lambda array: array,
    "off by an element": _off_by_one,
    "fortran": lambda array: np.asfortranarray(array) if array.ndim else array,
    "first two swapped": lambda array: (
        array.swapaxes(0, 1).copy().swapaxes(0, 1) if array.ndim > 1 else array
    ),
    "sliced": lambda array: np.repeat(array, 2, -1)[..., ::2] if array.ndim else array,
    "padded": lambda array: (
        np.concatenate([array, array], -1)[..., : array.shape[-1]] if array.ndim else array
    ),
    "reversed": _reversed,
    "broadcast": _broadcast,
    "misaligned": _misaligned,
}


class _Value(NamedTuple):
    """What is known of a value: its name, axes, interval; one that is not traced is a plain number."""

    name: str
    axes: frozenset[str]
    low: float
    high: float
    traced: bool = True


class _Pattern(NamedTuple):
    text: str
    dims: tuple[tuple[str, ...], ...]
    features: frozenset[str]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for dim in self.dims for name in dim)


@st.composite
def patterns(draw: Draw) -> _Pattern:
    """One to five axes in any roles, some of them splits of one dimension, one of them perhaps the dots."""
    names = list("abcde"[: draw(st.integers(1, 5))])
    roles = [draw(st.booleans()) for _ in names]
    dots = draw(st.none() | st.integers(0, len(names) - 1))
    if dots is not None:
        names[dots] = ax.ELLIPSIS
    features = frozenset(name for name, role in zip(names, roles, strict=True) if role)
    dims: list[tuple[str, ...]] = []
    while names:
        free = names.index(ax.ELLIPSIS) if ax.ELLIPSIS in names else len(names)
        size = draw(st.sampled_from([1, 1, 2, 3])) if free > 1 else 1
        taken = min(size, max(free, 1))
        dims.append(tuple(names[:taken]))
        del names[:taken]
    return _Pattern(_pattern_text(dims, features, draw(st.booleans())), tuple(dims), features)


def _pattern_text(dims: list[tuple[str, ...]], features: frozenset[str], joined: bool) -> str:
    """Brackets around each feature axis, or around as many as stand together."""
    words: list[str] = []
    for dim in dims:
        if len(dim) == 1:
            words.append(f"[{dim[0]}]" if dim[0] in features else dim[0])
        elif joined and features.issuperset(dim):
            words.append(f"[({' '.join(dim)})]")
        else:
            words.append(f"({' '.join(f'[{name}]' if name in features else name for name in dim)})")
    text = " ".join(words)
    return text.replace("] [", " ") if joined else text


@st.composite
def sizes_of(draw: Draw, pattern: _Pattern, elements: int) -> ax.Sizes:
    """A size for every axis, for so many elements together at most; up to three dimensions for the dots."""
    sizes: ax.Sizes = {}
    names = list(pattern.names)
    left = elements
    # Who comes first gets the large sizes.
    for name in reversed(names) if draw(st.booleans()) else names:
        dims = draw(st.integers(0, 3)) if name == ax.ELLIPSIS else 1
        extents = []
        for _ in range(dims):
            extents.append(draw(st.sampled_from([size for size in SIZES if size <= left])))
            left //= extents[-1]
        sizes[name] = tuple(extents) if name == ax.ELLIPSIS else extents[0]
    return {name: sizes[name] for name in names}


@st.composite
def parameter_axes(draw: Draw, pattern: _Pattern) -> str:
    """The axes of a parameter as text: a subset in some order, dimensions split or joined."""
    names = pattern.names
    chosen = tuple(name for name in names if draw(st.booleans()))
    if draw(st.sampled_from([False, False, False, True])):
        chosen = tuple(draw(st.permutations(chosen)))
    dims = [(name,) for name in chosen]
    for left, right in list(pairwise(chosen)):
        if ax.ELLIPSIS not in (left, right) and draw(st.sampled_from([False, False, True])):
            at = next(place for place, dim in enumerate(dims) if left in dim)
            dims[at : at + 2] = [dims[at] + (right,)]
    return ax.show(tuple(dims))


@st.composite
def cases(draw: Draw, elements: int = ELEMENTS, *, smooth: bool = False) -> Case:
    """A program, arrays for it, and the gradients that come in.

    ``smooth``: nothing is rounded on the way, and no two elements of an array are equal by construction.
    """
    dtypes = ["float64"] if smooth else DTYPES
    pattern = draw(patterns())
    sizes = draw(sizes_of(pattern, elements))
    axes = {name: draw(parameter_axes(pattern)) for name in ("p", "q", "s")[: draw(st.integers(0, 3))]}
    # Python wants those without a default first.
    optional = dict(zip(axes, sorted(draw(st.booleans()) for _ in axes), strict=True))
    given = ["x", *(name for name in axes if not (optional[name] and draw(st.booleans())))]
    one = draw(st.sampled_from(dtypes))
    mixed = draw(st.sampled_from([False, False, True]))
    chosen = {name: draw(st.sampled_from(dtypes)) if mixed else one for name in given}
    parameters = ["x", *(f"{name}=0.75" if optional[name] else name for name in axes)]
    values = [
        _Value(name, frozenset(ax.parse(text).axes), -REACH, REACH)
        if name in given
        else _Value(name, frozenset(), 0.75, 0.75, traced=False)
        for name, text in axes.items()
    ]
    body = _Body(draw, pattern, {name: ax.count(name, sizes) for name in sizes}, not smooth)
    body.values = [_Value("x", frozenset(pattern.names), -REACH, REACH), *values]
    for _ in range(draw(st.integers(1, 7))):
        body.statement()
    outputs = body.outputs()
    lines = [f"def f({', '.join(parameters)}):", *body.lines, f"return {', '.join(outputs)}"]
    several = len(outputs) > 1
    return Case(
        pattern.text,
        axes,
        "\n    ".join(lines),
        sizes,
        chosen,
        draw(st.sampled_from([None, None, None, *dtypes])),
        tuple(at for at in range(1, len(outputs)) if draw(st.booleans())) if several else (),
        ("plain",) if smooth else tuple(draw(st.sampled_from(list(LAYOUTS))) for _ in range(2)),
        draw(st.integers(0, 99)),
        draw(st.sampled_from([True, False, False])),
    )


@dataclass
class _Body:
    """The statements of an equation, drawn one after the other."""

    draw: Draw
    pattern: _Pattern
    counts: dict[str, int]
    casts: bool
    values: list[_Value] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    reductions: int = 3

    def statement(self) -> None:
        """One more value, or several that belong together."""
        kinds = [*_UNARY, *_BINARY, "power", "where", "indicator"]
        kinds += ["cast"] * self.casts
        if self.reductions:
            kinds += ["reduce"] * 12
        if self.reductions > 1:
            kinds += ["normalize"] * 4
        kind = self.draw(st.sampled_from(kinds))
        if kind in _UNARY:
            self.add(*_UNARY[kind](self.pick()))
        elif kind in _BINARY:
            left, right = self.operands()
            self.add(*_BINARY[kind](left, right), left, right)
        else:
            getattr(self, kind)()

    def power(self) -> None:
        """To a small integer."""
        exponent = self.draw(st.sampled_from([2, 3, 4, 1, -1, -2, 0]))
        v = self.pick()
        v = _above(v, 0.25) if exponent < 0 else v
        ends = [v.low**exponent, v.high**exponent, *([0.0] if exponent > 0 and v.low < 0 < v.high else [])]
        self.add(f"{v.name} ** {exponent}", min(ends), max(ends), v)

    def where(self) -> None:
        """One of two values."""
        left, right = self.operands()
        text = f"lnc.where({self.condition()}, {left.name}, {right.name})"
        condition = self.values[0]
        self.add(text, min(left.low, right.low), max(left.high, right.high), condition, left, right)

    def indicator(self) -> None:
        """A comparison as a number."""
        v = self.pick()
        self.add(f"({self.condition()}) * {v.name}", min(v.low, 0.0), max(v.high, 0.0), self.values[0], v)

    def cast(self) -> None:
        """Rounded to another type."""
        v = self.pick()
        self.add(f'lnc.cast({v.name}, "{self.draw(st.sampled_from(DTYPES))}")', v.low, v.high, v)

    def reduce(self) -> None:
        """A sum, mean or maximum over all features, or over some of them by name."""
        v = self.reducible()
        if v is None:
            return
        over = sorted(v.axes & self.pattern.features)
        named = ""
        if self.draw(st.booleans()):
            kept = [name for name in over if self.draw(st.booleans())]
            over = kept or over
            named = f', over="{" ".join(over)}"'
        count = prod(self.counts[name] for name in over)
        op = self.draw(st.sampled_from(["sum", "mean", "max"]))
        factor = count if op == "sum" else 1
        text = f"lnc.{op}({v.name}{named})"
        self.reductions -= 1
        self.add(text, factor * v.low, factor * v.high, v._replace(axes=v.axes - set(over)))

    def normalize(self) -> None:
        """Mean and variance, written as norms write them."""
        v = self.reducible()
        if v is None:
            return
        reduced = v._replace(axes=v.axes - self.pattern.features)
        reach = v.high - v.low
        self.reductions -= 2
        mean = self.add(f"lnc.mean({v.name})", v.low, v.high, reduced)
        centred = self.add(f"{v.name} - {mean.name}", -reach, reach, v, exact=True)
        var = self.add(f"lnc.mean(lnc.square({centred.name}))", 0.0, reach**2, reduced, exact=True)
        eps = self.draw(st.sampled_from([0.1, 1e-3, 1e-5]))
        # A deviation is at most the root of the count times the standard deviation.
        most = prod(self.counts[name] for name in v.axes & self.pattern.features) ** 0.5
        self.add(f"{centred.name} * lnc.rsqrt({var.name} + {eps})", -most, most, v)

    def outputs(self) -> list[str]:
        """One value that depends on (nearly) all that was computed, and perhaps others."""
        text = " ".join(line.partition(" = ")[2] for line in self.lines)
        unused = [v for v in self.values if v.traced and not re.search(rf"\b{v.name}\b", text)]
        for left, right in pairwise(unused):
            if self.draw(st.booleans()):
                left = next(v for v in reversed(self.values) if v.traced)
                kind = self.draw(st.sampled_from(["add", "sub", "mul"]))
                self.add(*_BINARY[kind](left, right), left, right)
        traced = [v.name for v in reversed(self.values) if v.traced]
        more = self.draw(st.integers(0, 2))
        return [traced[0], *(self.draw(st.sampled_from(traced)) for _ in range(more))]

    def pick(self) -> _Value:
        """A value, every other time the last."""
        last = self.draw(st.booleans())
        return self.values[-1] if last else self.draw(st.sampled_from(self.values))

    def operands(self) -> tuple[_Value, _Value]:
        """Two values, or a value and a number on either side."""
        left, right = self.pick(), self.draw(st.sampled_from(self.values))
        number = self.draw(st.sampled_from([0.0, 0.0, 0.0, 1.0, -1.0, 0.5, 3.0, 1e-3]))
        if number:
            right = _Value(str(number), frozenset(), number, number, traced=False)
        return (right, left) if self.draw(st.booleans()) else (left, right)

    def condition(self) -> str:
        """A comparison of the argument with something, or two of them."""
        ops = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])
        first = f"x {self.draw(ops)} {self.draw(st.sampled_from(self.values)).name}"
        second = f"{self.draw(st.sampled_from(['x', '-x']))} {self.draw(ops)} 0.123"
        every = [second, first, f"({first}) & ({second})", f"({second}) | ({first})", f"~({second})"]
        return self.draw(st.sampled_from(every))

    def reducible(self) -> _Value | None:
        """A value that varies over a feature axis."""
        found = [v for v in reversed(self.values) if v.traced and v.axes & self.pattern.features]
        return self.draw(st.sampled_from(found)) if found else None

    def add(self, text: str, low: float, high: float, *operands: _Value, exact: bool = False) -> _Value:
        """A line that names the value of ``text``, scaled down where it may be too large."""
        largest = max(abs(low), abs(high))
        if largest > LARGEST and not exact:
            scale = 10.0 ** ceil(log10(largest / 10))
            text, low, high = f"({text}) / {scale}", low / scale, high / scale
        traced = any(v.traced for v in operands)
        axes = frozenset[str]().union(*(v.axes for v in operands))
        value = _Value(f"v{len(self.lines)}", axes, low, high, traced)
        self.lines.append(f"{value.name} = {text}")
        self.values.append(value)
        return value


def _above(v: _Value, low: float) -> _Value:
    """The value, shifted where it may lie below ``low``."""
    if v.low >= low:
        return v
    shift = round(2 * low - v.low, 3)
    return v._replace(name=f"({v.name} + {shift})", low=v.low + shift, high=v.high + shift)


def _below(v: _Value, high: float) -> _Value:
    """The value, shifted where it may lie above ``high``."""
    if v.high <= high:
        return v
    shift = round(v.high - high, 3)
    return v._replace(name=f"({v.name} - {shift})", low=v.low - shift, high=v.high - shift)


_Statement = tuple[Any, ...]


def _monotone(name: str, function: Callable[[float], float], prepare: Callable[[_Value], _Value]) -> Any:
    def build(v: _Value) -> _Statement:
        v = prepare(v)
        ends = function(v.low), function(v.high)
        return f"lnc.{name}({v.name})", min(ends), max(ends), v

    return build


def _as_it_is(v: _Value) -> _Value:
    return v


def _of_any(template: str, low: Callable[[_Value], float], high: Callable[[_Value], float]) -> Any:
    return lambda v: (template.format(v.name), low(v), high(v), v)


def _reach(v: _Value) -> float:
    return max(abs(v.low), abs(v.high))


_UNARY: dict[str, Callable[[_Value], _Statement]] = {
    "neg": _of_any("-{}", lambda v: -v.high, lambda v: -v.low),
    "square": _of_any("lnc.square({})", lambda v: 0.0, lambda v: _reach(v) ** 2),
    "sqrt": _monotone("sqrt", lambda v: v**0.5, lambda v: _above(v, 0.25)),
    "rsqrt": _monotone("rsqrt", lambda v: v**-0.5, lambda v: _above(v, 0.25)),
    "exp": _monotone("exp", lambda v: float(np.exp(v)), lambda v: _below(v, 4.0)),
    "log": _monotone("log", lambda v: float(np.log(v)), lambda v: _above(v, 0.25)),
    "tanh": _monotone("tanh", lambda v: float(np.tanh(v)), _as_it_is),
    "sigmoid": _of_any("lnc.sigmoid({})", lambda v: 0.0, lambda v: 1.0),
    "erf": _of_any("lnc.erf({})", lambda v: -1.0, lambda v: 1.0),
    "abs": _of_any("lnc.abs({})", lambda v: 0.0, _reach),
    "relu": _of_any("lnc.relu({})", lambda v: max(v.low, 0.0), lambda v: max(v.high, 0.0)),
    "silu": _of_any("lnc.silu({})", lambda v: -0.3, lambda v: max(v.high, 0.0)),
    "gelu": _of_any("lnc.gelu({})", lambda v: -0.2, lambda v: max(v.high, 0.0)),
    "gelu_tanh": _of_any('lnc.gelu({}, "tanh")', lambda v: -0.2, lambda v: max(v.high, 0.0)),
}


def _product(left: _Value, right: _Value) -> _Statement:
    ends = [a * b for a in (left.low, left.high) for b in (right.low, right.high)]
    return f"{left.name} * {right.name}", min(ends), max(ends)


def _quotient(left: _Value, right: _Value) -> _Statement:
    right = _above(right, 0.25)
    ends = [a / b for a in (left.low, left.high) for b in (right.low, right.high)]
    return f"{left.name} / {right.name}", min(ends), max(ends)


_BINARY: dict[str, Callable[[_Value, _Value], _Statement]] = {
    "add": lambda a, b: (f"{a.name} + {b.name}", a.low + b.low, a.high + b.high),
    "sub": lambda a, b: (f"{a.name} - {b.name}", a.low - b.high, a.high - b.low),
    "mul": _product,
    "div": _quotient,
    "maximum": lambda a, b: (f"lnc.maximum({a.name}, {b.name})", max(a.low, b.low), max(a.high, b.high)),
    "minimum": lambda a, b: (f"lnc.minimum({a.name}, {b.name})", min(a.low, b.low), min(a.high, b.high)),
}
