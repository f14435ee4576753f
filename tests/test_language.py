"""The language of equations: what operators and functions record, what they compute on plain numbers, and
what is refused, always with the file and line of the equation."""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
from helpers import equation, program_of, run_program

import lncompile as lnc
from lncompile.errors import LncTypeError, LncValueError

SIZES = {"n": 2, "d": 3, "h": 2, "w": 2}
_T, _V = LncTypeError, LncValueError
X = np.array([[0.5, -1.5, 2.0], [3.0, 0.25, -0.75]])
P = np.array([1.0, -2.0, 0.5])


def computed(function: Callable[..., Any], **arrays: Any) -> Any:
    """What ``function`` of x (and p) means as an equation."""
    axes = dict.fromkeys(list(inspect.signature(function).parameters)[1:], "d")
    program = program_of(equation("n [d]", **axes)(function), SIZES)
    return run_program(program, {"x": X, "p": P} | arrays, SIZES)["y"]


def traced(function: Callable[..., Any], pattern: str = "n [d]", **axes: str) -> Any:
    """Trace only: for what is refused."""
    return program_of(equation(pattern, **axes)(function), SIZES)


FUNCTIONS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "square": (lnc.square, np.square),
    "sqrt": (lambda v: lnc.sqrt(lnc.abs(v)), lambda v: np.sqrt(np.abs(v))),
    "rsqrt": (lambda v: lnc.rsqrt(lnc.abs(v)), lambda v: 1 / np.sqrt(np.abs(v))),
    "exp": (lnc.exp, np.exp),
    "log": (lambda v: lnc.log(lnc.abs(v)), lambda v: np.log(np.abs(v))),
    "tanh": (lnc.tanh, np.tanh),
    "sigmoid": (lnc.sigmoid, lambda v: 1 / (1 + np.exp(-v))),
    "erf": (lnc.erf, np.vectorize(math.erf)),
    "abs": (lnc.abs, np.abs),
    "builtin abs": (abs, np.abs),
    "relu": (lnc.relu, lambda v: np.maximum(v, 0)),
    "silu": (lnc.silu, lambda v: v / (1 + np.exp(-v))),
    "gelu": (lnc.gelu, lambda v: v * 0.5 * (1 + np.vectorize(math.erf)(v / math.sqrt(2)))),
    "gelu tanh": (
        lambda v: lnc.gelu(v, "tanh"),
        lambda v: v * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))),
    ),
    "minus": (lambda v: -v, np.negative),
    "plus": (lambda v: +v, np.positive),
    "cast": (lambda v: lnc.cast(v * 0.1, "float32"), lambda v: np.float64(np.float32(v * 0.1))),
}


def _power(n: int) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    return lambda v: v**n, lambda v: np.float64(v) ** n


FUNCTIONS |= {f"to the {n}": _power(n) for n in (-3, -1, 0, 1, 2, 3, 6, 7)}

for n in (-3, -1, 0, 1, 2, 3, 6, 7):
    FUNCTIONS[f"to the {n}"] = (lambda v, n=n: v**n, lambda v, n=n: np.float64(v) ** n)  # type: ignore[misc]

OPERATORS: dict[str, tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]] = {
    "+": (operator.add, np.add),
    "-": (operator.sub, np.subtract),
    "*": (operator.mul, np.multiply),
    "/": (operator.truediv, np.divide),
    "<": (operator.lt, np.less),
    "<=": (operator.le, np.less_equal),
    ">": (operator.gt, np.greater),
    ">=": (operator.ge, np.greater_equal),
    "==": (operator.eq, np.equal),
    "!=": (operator.ne, np.not_equal),
    "maximum": (lnc.maximum, np.maximum),
    "minimum": (lnc.minimum, np.minimum),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_a_traced_value(name: str) -> None:
    function, meaning = FUNCTIONS[name]
    np.testing.assert_allclose(computed(lambda x: function(x)), meaning(X), rtol=1e-14)


@pytest.mark.parametrize("number", [0.5, -1.5, 2, np.float32(0.25), np.float64(3.0)])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_a_plain_number(name: str, number: Any) -> None:
    """As in an equation whose argument was left out and is its default."""
    function, meaning = FUNCTIONS[name]
    result = function(number)
    assert not isinstance(result, np.ndarray)
    digits = 1e-6 if isinstance(number, np.float32) else 1e-14
    np.testing.assert_allclose(float(result), meaning(float(number)), rtol=digits)


@pytest.mark.parametrize("name", OPERATORS)
class TestOperators:
    def test_on_two_traced_values(self, name: str) -> None:
        apply, meaning = OPERATORS[name]
        np.testing.assert_array_equal(computed(lambda x, p: apply(x, p)), meaning(X, P))

    @pytest.mark.parametrize(
        "number", [2, 0.5, True, np.float32(0.5), np.float64(-1.5), np.int64(2), np.bool_(True)]
    )
    def test_with_a_number_on_either_side(self, name: str, number: Any) -> None:
        apply, meaning = OPERATORS[name]
        plain = float(number)
        np.testing.assert_array_equal(computed(lambda x: apply(x, number)), meaning(X, plain))
        np.testing.assert_array_equal(computed(lambda x: apply(number, x)), meaning(plain, X))

    def test_on_plain_numbers(self, name: str) -> None:
        apply, meaning = OPERATORS[name]
        assert apply(0.5, -1.5) == meaning(0.5, -1.5)


class TestTruthValues:
    @pytest.mark.parametrize(
        ("condition", "meaning"),
        [
            (lambda x, p: (x > 0) & (p > 0), (X > 0) & (P > 0)),
            (lambda x, p: (x > 0) | (p > 0), (X > 0) | (P > 0)),
            (lambda x, p: ~(x > p), ~(X > P)),
            (lambda x, p: (x > 0) & True, X > 0),
            (lambda x, p: False | (x > 0), X > 0),
            (lambda x, p: np.bool_(True) & (x > 0), X > 0),
            (lambda x, p: np.bool_(False) | (x > 0), X > 0),
        ],
    )
    def test_comparisons_combine(self, condition: Any, meaning: Any) -> None:
        np.testing.assert_array_equal(
            computed(lambda x, p: lnc.where(condition(x, p), x, p)), np.where(meaning, X, P + 0 * X)
        )

    def test_they_count_as_0_and_1(self) -> None:
        np.testing.assert_array_equal(computed(lambda x: lnc.sum(x > 0) + 0 * x)[:, 0], (X > 0).sum(-1))
        np.testing.assert_array_equal(computed(lambda x: (x > 0) * 2.0), (X > 0) * 2.0)
        np.testing.assert_array_equal(computed(lambda x: x > 0), X > 0)

    @pytest.mark.parametrize("condition", [True, False, np.bool_(True)])
    def test_where_with_a_plain_condition_is_plain(self, condition: Any) -> None:
        assert lnc.where(condition, 1.0, 2.0) == (1.0 if condition else 2.0)
        np.testing.assert_array_equal(
            computed(lambda x: lnc.where(condition, x, 2.0) + 0.0 * x), X if condition else 2.0 + 0 * X
        )

    def test_where_with_a_default(self) -> None:
        """A default is a plain number, so the comparison is a plain bool: nothing of it is in the program."""
        norm = equation("n [d]", p="d")(lambda x, p=0.25: lnc.where(p >= 0.2, x * p, x))
        program = program_of(norm, SIZES, left_out=("p",))
        np.testing.assert_array_equal(run_program(program, {"x": X}, SIZES)["y"], X * 0.25)
        assert len(program.nodes) == 3


class TestReductions:
    @pytest.mark.parametrize(
        ("function", "meaning"), [(lnc.sum, np.sum), (lnc.mean, np.mean), (lnc.max, np.max)]
    )
    def test_over_all_feature_axes_that_the_value_varies_over(self, function: Any, meaning: Any) -> None:
        np.testing.assert_allclose(computed(lambda x: function(x)), meaning(X, -1))
        np.testing.assert_allclose(computed(lambda x, p: function(p) + 0 * x)[0], meaning(P))

    @pytest.mark.parametrize(
        ("over", "axis"), [("h", 1), ("w", 2), ("h w", (1, 2)), ("w h", (1, 2)), (None, (1, 2))]
    )
    def test_over_named_axes(self, over: Any, axis: Any) -> None:
        x = np.arange(12.0).reshape(2, 2, 3)
        program = traced(lambda x: lnc.sum(x, over=over), "n [h w]")
        sizes = {"n": 2, "h": 2, "w": 3}
        np.testing.assert_array_equal(run_program(program, {"x": x}, sizes)["y"], x.sum(axis))

    def test_mean_and_max_of_a_number_are_that_number(self) -> None:
        assert lnc.mean(2.5) == lnc.max(2.5) == 2.5


def refused_in_body() -> list[tuple[str, Callable[..., Any], str, type[Exception]]]:
    """Bodies of equations of x [n d] and p [d], and what the error must say."""
    return [
        ("if", lambda x, p: x if x > 0 else p, "no truth value.*use lnc.where", _T),
        ("and", lambda x, p: (x > 0) and (p > 0), "no truth value", _T),
        ("not", lambda x, p: not x, "no truth value", _T),
        ("chained", lambda x, p: 0 < x < 1, "no truth value", _T),
        ("in", lambda x, p: x in [p], "no truth value", _T),
        ("builtin max", lambda x, p: max(x, p), "no truth value", _T),
        ("iterate", lambda x, p: [v for v in x], "cannot be iterated", _T),  # noqa: C416
        ("unpack", lambda x, p: (lambda a, b: a)(*x), "cannot be iterated", _T),
        ("len", lambda x, p: len(x), "no length", _T),
        ("index", lambda x, p: x[0], "cannot be indexed; axes are named", _T),
        ("assign", lambda x, p: operator.setitem(x, 0, 1.0), "cannot be assigned to", _T),
        ("call", lambda x, p: x(p), "cannot be called", _T),
        ("attribute", lambda x, p: x.shape, "no attribute 'shape'", _T),
        ("method", lambda x, p: x.mean(), "no attribute 'mean'", _T),
        ("math.sqrt", lambda x, p: math.sqrt(x), "use lnc's functions .* instead of math's", _T),
        ("math.floor", lambda x, p: math.floor(x), "is no number", _T),
        ("float", lambda x, p: float(x), "is no number", _T),
        ("int", lambda x, p: int(x), "is no number", _T),
        ("round", lambda x, p: round(x, 2), "is no number", _T),
        ("range", lambda x, p: range(x), "is no number", _T),
        ("np.sqrt", lambda x, p: np.sqrt(x), "np.sqrt cannot take traced values", _T),
        ("np.maximum", lambda x, p: np.maximum(x, 0.0), "np.maximum cannot take traced values", _T),
        ("np.add.reduce", lambda x, p: np.add.reduce(x), "np.add cannot take traced values", _T),
        ("np.sum", lambda x, p: np.sum(x), "np.sum cannot take traced values", _T),
        ("np.where", lambda x, p: np.where(x > 0, x, p), "np.where cannot take traced values", _T),
        ("np.asarray", lambda x, p: np.asarray(x), "NumPy functions cannot take traced values", _T),
        ("array on the right", lambda x, p: x * np.ones(3), "got an array of shape|np.multiply cannot", _T),
        ("array on the left", lambda x, p: np.ones(3) * x, "np.multiply cannot take traced", _T),
        ("array of no dimensions", lambda x, p: x + np.array(1.0), "array of shape|np.add cannot", _T),
        ("None", lambda x, p: x + None, "plain number; got NoneType None", _T),
        ("string", lambda x, p: x * "2", "plain number; got str '2'", _T),
        ("string on the left", lambda x, p: "2" + x, "plain number; got str '2'", _T),
        ("list", lambda x, p: x * [1.0], r"plain number; got list \[1.0\]", _T),
        ("complex", lambda x, p: x * 1j, "plain number; got complex", _T),
        ("huge int", lambda x, p: x * 10**400, "int of 401 digits", _V),
        ("real exponent", lambda x, p: x**0.5, r"'\*\*' takes a plain integer exponent; got float 0.5", _T),
        ("bool exponent", lambda x, p: x**True, "plain integer exponent; got bool", _T),
        ("traced exponent", lambda x, p: x**p, "plain integer exponent; got a traced value", _T),
        ("traced base", lambda x, p: 2.0**x, "for e\\*\\*x use lnc.exp", _T),
        ("NumPy base", lambda x, p: np.float32(2) ** x, "for e\\*\\*x use lnc.exp", _T),
        ("floor division", lambda x, p: x // 2, "has no '//'", _T),
        ("reflected floor division", lambda x, p: 2 // x, "has no '//'", _T),
        ("modulo", lambda x, p: x % 2, "has no '//', '%'", _T),
        ("divmod", lambda x, p: divmod(x, 2), "has no '//'", _T),
        ("matmul", lambda x, p: x @ p, "has no '//', '%', '@'", _T),
        ("xor", lambda x, p: (x > 0) ^ (p > 0), "has no '//'", _T),
        ("shift", lambda x, p: x << 1, "has no '//'", _T),
        ("and of numbers", lambda x, p: x & p, "combine comparisons; got a traced value", _T),
        ("and with a number", lambda x, p: (x > 0) & 1, "combine comparisons; got int 1", _T),
        ("not of a number", lambda x, p: ~x, "combine comparisons", _T),
        ("where a number", lambda x, p: lnc.where(x, x, p), "condition must be a comparison", _T),
        ("where 1.0", lambda x, p: lnc.where(1.0, x, p), "condition must be a comparison; got float", _T),
        ("sum of a number", lambda x, p: x * lnc.sum(2.0), "lnc.sum: expected a traced value", _T),
        ("exp of a string", lambda x, p: x * lnc.exp("1"), "lnc.exp: expected a traced value or a plain", _T),
        ("function of None", lambda x, p: x * lnc.maximum(None, 1.0), "lnc.maximum: expected", _T),
        ("root of -1", lambda x, p: x * lnc.sqrt(-1.0), r"lnc.sqrt\(-1.0\): math domain error", _V),
        ("1 / root of 0", lambda x, p: x * lnc.rsqrt(0.0), r"lnc.rsqrt\(0.0\): ", _V),
        ("log of 0", lambda x, p: x * lnc.log(0.0), r"lnc.log\(0.0\): ", _V),
        ("exp too large", lambda x, p: x * lnc.exp(1000), r"lnc.exp\(1000\): ", _V),
        ("gelu", lambda x, p: lnc.gelu(x, "erf"), "expected 'none' or 'tanh'; got 'erf'", _V),
        ("cast", lambda x, p: lnc.cast(x, "int8"), "dtype: expected one of", _T),
        ("reduced twice", lambda x, p: lnc.sum(lnc.mean(x)), r"reduces over no axis: the value \[n\]", _V),
        ("no axis", lambda x, p: lnc.mean(x, over=""), "lnc.mean: reduces over no axis", _V),
        ("batch axis", lambda x, p: lnc.max(x, over="n"), r"'n' is a batch axis; mark it \[n\]", _V),
        ("unknown axis", lambda x, p: lnc.sum(x, over="d c"), "unknown axis .c.; the axes are n d", _V),
        ("axis it lacks", lambda x, p: lnc.sum(lnc.mean(x), over="d"), r"\[n\] does not vary over 'd'", _V),
        ("two ellipses", lambda x, p: lnc.sum(x, over="... ..."), r"'...' can stand once", _V),
        ("unstack a batch axis", lambda x, p: lnc.unstack(x, "n", 2)[0], r"write \[n\] in the pattern", _V),
        ("unstack no axis", lambda x, p: lnc.unstack(x, "e", 2)[0], r"'e' is no feature axis .* \['d'\]", _V),
        ("unstack fewer", lambda x, p: lnc.unstack(x, "d", 2)[0], r"'d' has \d positions, not 2", _V),
        ("unstack a float", lambda x, p: lnc.unstack(x, "d", 2.0)[0], "number of positions; got float", _T),
        ("unstack many", lambda x, p: lnc.unstack(x, "d", 65)[0], "1 to 64 positions; got 65", _V),
        ("unstack by 1", lambda x, p: lnc.unstack(x, cast(Any, 1), 3)[0], "name of an axis; got int", _T),
        ("stack of one", lambda x, p: lnc.stack(x, "d"), "expected a list of values", _T),
        ("stack of numbers", lambda x, p: x * lnc.stack([1.0, 2.0], "d"), "equal numbers", _T),
        ("stack too few", lambda x, p: lnc.stack([p], "d"), r"'d' has \d positions, not 1", _V),
        ("a list of axes", lambda x, p: lnc.sum(x, over=cast(Any, ["d"])), "over: expected a string", _T),
    ]  # fmt: skip


REFUSED = {name: (body, message, kind) for name, body, message, kind in refused_in_body()}


@pytest.mark.parametrize("name", REFUSED)
def test_misuse_names_file_line_and_equation(name: str) -> None:
    body, message, kind = REFUSED[name]
    with pytest.raises(kind, match=message) as caught:
        traced(body, p="d")
    assert isinstance(caught.value, lnc.LncError)
    # Each body stands on one line of this file.
    assert str(caught.value).startswith(f"{__file__}:{body.__code__.co_firstlineno}: ")


class TestValuesThatDoNotBelong:
    def test_a_value_of_another_equation(self) -> None:
        def outer(x: Any) -> Any:
            def inner(v: Any) -> Any:
                return v + x

            return program_of(equation("n [d]")(inner), SIZES)

        with pytest.raises(LncTypeError, match=r"in inner: .* of another equation \(outer\)"):
            traced(outer)

    def test_a_value_that_left_its_equation_is_of_no_use(self) -> None:
        leaked: list[Any] = []

        def leaking(x: Any) -> Any:
            leaked.append(x)
            return x * 2.0

        traced(leaking)
        (value,) = leaked
        uses: tuple[Callable[[], Any], ...] = (
            lambda: value + 1.0,
            lambda: lnc.exp(value),
            lambda: lnc.mean(value),
            lambda: lnc.where(value > 0, 1.0, 2.0),
            lambda: lnc.cast(value, "float32"),
        )
        for use in uses:
            with pytest.raises(
                LncTypeError, match="of leaking cannot be used after the equation has returned"
            ):
                use()
        with pytest.raises(LncTypeError, match="leaking"):
            traced(lambda x: x + value)
        with pytest.raises(
            LncValueError, match=r"the output is a traced value of another equation \(leaking\)"
        ):
            traced(lambda x: value)

    def test_nor_where_the_equation_failed(self) -> None:
        leaked: list[Any] = []

        def failing(x: Any) -> Any:
            leaked.append(x)
            raise KeyError("the equation's own")

        with pytest.raises(KeyError, match="own"):
            traced(failing)
        with pytest.raises(LncTypeError, match="failing"):
            _ = leaked[0] + 1.0


def test_traced_values_show_what_they_are() -> None:
    shown: list[str] = []

    def showing(x: Any, p: Any) -> Any:
        shown.append(f"{x} {lnc.mean(x)!r} {p * 2.0}")
        return x

    traced(showing, p="d")
    assert shown == [
        "<traced x [n d] of showing> <traced value [n] of showing> <traced value [d] of showing>"
    ]


def test_equal_numbers_stack_to_the_number_that_unstack_took_apart() -> None:
    def body(x: Any, p: Any = 1.0) -> Any:
        return x * lnc.stack(lnc.unstack(p, "g", 2), "g")

    norm = lnc.norm("n [g d]", p="g")(body)
    x = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    np.testing.assert_array_equal(norm(x), x)
