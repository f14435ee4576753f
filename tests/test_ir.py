"""The IR itself: its text, what is legal, building each value once, rewriting, the meaning of operations."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers import equation, program_of

import lncompile as lnc
from lncompile import ir
from lncompile.errors import CompilerBug
from lncompile.interpret import interpret
from lncompile.ir import Axis, Binary, Cast, Const, Input, Interner, Output, Program, Reduce, Select, Unary
from lncompile.passes.gradient import gradient
from lncompile.printer import names_of, show
from lncompile.verify import verify

X = Input("x", ("n", "d"), "float32")
P = Input("p", ("d",), "float32")
WHOLE = Input("w", ("d",), "int8")
ONE, TWO, TRUE = Const(1.0), Const(2.0), Const(True)
AXES = (Axis("n", False, None), Axis("d", True, 4))


def program(*values: ir.Node, inputs: tuple[Input, ...] = (X, P), axes: tuple[Axis, ...] = AXES) -> Program:
    """A program with these values as outputs y0, y1, ..."""
    order = [axis.name for axis in axes]
    outputs = tuple(
        Output(f"y{index}", value, tuple(sorted(value.axes, key=order.index)), "float32")
        for index, value in enumerate(values)
    )
    return Program("made", axes, "float32", inputs, outputs)


def line_of(value: ir.Node) -> str:
    """The text of one value."""
    text = show(program(value))
    return next(line for line in text.splitlines() if " = " in line).split(" = ", 1)[1].strip()


class TestText:
    def test_a_whole_program(self) -> None:
        assert (
            show(program_of(lnc.rms_norm, {"d": 1024}, {"x": "float32", "weight": "float64"}))
            == """\
program rms_norm
  axes      ... batch, d feature 1024
  compute   float64

  x         [... d]  float32  input
  weight    [d]      float64  input

  t2        [...]    = mean[d](square(x))
  rstd      [...]    = rsqrt(t2 + 1e-05)
  y         [... d]  = x * rstd * (weight + 0.0)

  y         [... d]  float32  output
"""
        )

    def test_a_gradient(self) -> None:
        norm = equation("n [d]", w="d")(lambda x, w: lnc.exp(x) * w)
        assert (
            show(gradient(program_of(norm, {"d": 3}, "float32")))
            == """\
program <lambda>
  axes      n batch, d feature 3
  compute   float32

  x         [n d]  float32  input
  w         [d]    float32  input
  dy        [n d]  float32  cotangent of y

  t1        [n d]  = exp(x)
  y         [n d]  = t1 * w
  dx        [n d]  = dy * w * t1
  dw        [d]    = sum[n](dy * t1)

  y         [n d]  float32  output
  dx        [n d]  float32  gradient of x
  dw        [d]    float32  gradient of w
"""
        )

    def test_outputs_that_share_a_value(self) -> None:
        norm = equation("n [d]")(lambda x: (lnc.mean(x), lnc.mean(x) * 1.0, x))
        made = program_of(norm, {"d": 3}, "float32")
        first = made.outputs[0]
        shared = replace(made, outputs=(first, replace(made.outputs[1], value=first.value), made.outputs[2]))
        assert show(shared).splitlines()[-3:] == [
            "  y0        [n]    float32  output",
            "  y1        [n]    = y0  float32  output",
            "  x_out     [n d]  = x  float32  output",
        ]

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (Binary("sub", X, Binary("sub", P, ONE)), "x - (p - 1.0)"),
            (Binary("sub", Binary("sub", X, P), ONE), "x - p - 1.0"),
            (Binary("mul", Binary("add", X, P), ONE), "(x + p) * 1.0"),
            (Binary("add", Binary("mul", X, P), ONE), "x * p + 1.0"),
            (Binary("div", X, Binary("mul", P, TWO)), "x / (p * 2.0)"),
            (Binary("mul", X, Binary("div", P, TWO)), "x * (p / 2.0)"),
            (Unary("neg", Binary("mul", X, P)), "-(x * p)"),
            (Unary("neg", Unary("neg", X)), "--x"),
            (Binary("mul", Unary("neg", X), P), "-x * p"),
            (Binary("mul", X, Const(-2.0)), "x * (-2.0)"),
            (Unary("square", Binary("add", X, P)), "square(x + p)"),
            (Binary("maximum", Binary("add", X, P), ONE), "maximum(x + p, 1.0)"),
            (Select(Binary("lt", Binary("add", X, P), ONE), X, P), "where(x + p < 1.0, x, p)"),
            (Reduce("max", X, frozenset({"n", "d"})), "max[n d](x)"),
            (Cast(Binary("add", X, P), "float64"), "cast(x + p, float64)"),
            (Binary("add", X, Const(math.inf)), "x + inf"),
            (Binary("add", X, Const(1e-300)), "x + 1e-300"),
        ],
    )
    def test_parentheses_stand_where_they_are_needed(self, value: ir.Node, text: str) -> None:
        assert line_of(value) == text

    def test_names_are_unique_and_not_reserved(self) -> None:
        """The equation's own names first; temporaries skip what is taken."""
        label = Unary("exp", X, label="t1")
        again = Unary("log", label, label="t1")
        other = Unary("sqrt", again)
        names = names_of(program(Unary("neg", other)), frozenset({"t2"}))
        assert [names[node] for node in (X, label, again, other)] == ["x", "t1", "t1_2", "t1_3"]

    def test_a_value_is_called_after_its_output_unless_the_equation_named_it(self) -> None:
        named, plain = Unary("exp", X, label="e"), Unary("log", X)
        names = names_of(program(named, plain))
        assert (names[named], names[plain]) == ("e", "y1")


def illegal() -> dict[str, tuple[Program, str]]:
    """Programs with one thing wrong, and what the verifier says of it."""
    truth = Binary("lt", X, P)
    unknown = Input("q", ("z",), "float32")
    good = program(Binary("add", X, P))
    return {
        "unary op": (program(Unary("sin", X)), "unknown unary sin"),
        "binary op": (program(Binary("pow", X, P)), "unknown binary pow"),
        "reduction": (program(Reduce("prod", X, frozenset({"d"}))), "unknown reduction prod"),
        "unary of truth": (program(Unary("neg", truth)), "neg of a truth value"),
        "left truth": (program(Binary("add", truth, X)), "add of a truth value"),
        "right truth": (program(Binary("lt", X, TRUE)), "lt of a truth value"),
        "reduced truth": (program(Reduce("sum", truth, frozenset({"d"}))), "sum of a truth value"),
        "cast of truth": (program(Cast(truth, "float32")), "cast of a truth value"),
        "cast to": (program(Cast(X, "int8")), "cast to unknown dtype int8"),
        "condition": (program(Select(X, X, P)), "condition of a select is no truth value"),
        "branches": (program(Select(truth, X, TRUE)), "a select of a number and a truth value"),
        "reduced over nothing": (program(Reduce("sum", X, frozenset())), "sum over axes that"),
        "reduced over what it lacks": (program(Reduce("sum", P, frozenset({"n"}))), "sum over axes that"),
        "mean of a batch": (program(Reduce("mean", X, frozenset({"n"}))), "mean over a batch"),
        "variance of a batch": (program(Reduce("variance", X, frozenset({"n"}))), "over a batch axis"),
        "constant with axes": (program(Const(1.0, frozenset({"d"}))), "a constant varies over no axis"),
        "input not listed": (program(X, inputs=(P,)), "input x is not listed"),
        "input dtype": (program(WHOLE, inputs=(WHOLE,)), "input w has unknown dtype int8"),
        "names": (program(X, inputs=(X, Input("x", ("d",), "float32"))), "two arrays share a name"),
        "unknown axis": (
            replace(good, inputs=(unknown,), outputs=(Output("y", unknown, ("z",), "float32"),)),
            "an axis that the program does not have",
        ),
        "axis twice": (replace(good, axes=(AXES[1], AXES[1])), "an axis occurs twice"),
        "feature size": (replace(good, axes=(AXES[0], Axis("d", True, None))), "feature axis d has no size"),
        "compute": (replace(good, compute="int8"), "unknown compute type int8"),
        "output dims": (
            replace(good, outputs=(Output("y", X, ("n",), "float32"),)),
            "y varies over more axes than it has",
        ),
        "output axis": (
            replace(good, outputs=(Output("y", X, ("n", "d", "z"), "float32"),)),
            "y has an unknown axis",
        ),
        "output truth": (replace(good, outputs=(Output("y", truth, ("n", "d"), "float32"),)), "y is a truth"),
        "output dtype": (replace(good, outputs=(Output("y", X, ("n", "d"), "int8"),)), "unknown dtype int8"),
    }  # fmt: skip


ILLEGAL = illegal()


class TestVerifier:
    @pytest.mark.parametrize("what", ILLEGAL)
    def test_refuses(self, what: str) -> None:
        wrong, message = ILLEGAL[what]
        with pytest.raises(CompilerBug, match=f"illegal program: .*({message})"):
            verify(wrong)

    def test_returns_what_is_legal(self) -> None:
        good = program(Binary("add", X, P), Reduce("sum", X, frozenset({"n", "d"})), Const(1.0))
        assert verify(good) is good


class TestBuildingValuesOnce:
    def test_equal_operations_on_the_same_operands_are_one_node(self) -> None:
        intern = Interner()
        x, c = intern(X), intern(Const(1.0))
        assert intern(Const(1.0)) is c
        makers: list[Callable[[], ir.Node]] = [
            lambda: Unary("exp", x),
            lambda: Binary("add", x, c),
            lambda: Reduce("sum", x, frozenset({"d"})),
            lambda: Cast(x, "float64"),
            lambda: Select(intern(Binary("lt", x, c)), x, c),
        ]
        for make in makers:
            assert intern(make()) is intern(make())

    def test_what_differs_stays_apart(self) -> None:
        intern = Interner()
        x, p = intern(X), intern(P)
        distinct: list[ir.Node] = [
            Unary("exp", x),
            Unary("log", x),
            Binary("sub", x, p),
            Binary("sub", p, x),
            Reduce("sum", x, frozenset({"d"})),
            Reduce("sum", x, frozenset({"n"})),
            Reduce("mean", x, frozenset({"d"})),
            Cast(x, "float32"),
            Cast(x, "float64"),
            Const(1.0),
            Const(True),
            Const(0.0),
            Const(-0.0),
        ]
        assert len({id(intern(node)) for node in distinct}) == len(distinct)

    def test_a_label_makes_no_difference(self) -> None:
        intern = Interner()
        x = intern(X)
        assert intern(Unary("exp", x, label="e")) is intern(Unary("exp", x))

    def test_nodes_compare_by_identity(self) -> None:
        assert Unary("exp", X) != Unary("exp", X)


class TestRewriting:
    def test_nothing_to_do_gives_the_same_nodes(self) -> None:
        before = program(Binary("add", X, Unary("exp", P)))
        after = ir.rewrite(before, lambda node: None)
        assert after.outputs[0].value is before.outputs[0].value

    def test_equal_values_become_one(self) -> None:
        before = program(Binary("add", Unary("exp", X), Unary("exp", X)))
        assert len(before.nodes) == 4
        assert len(ir.rewrite(before, lambda node: None).nodes) == 3

    @pytest.mark.parametrize(
        ("op", "value"),
        [
            ("sum", 24.0),
            ("mean", 2.0),
            ("max", 2.0),
            ("mean_high", 2.0),
            ("mean_low", 0.0),
            ("variance", 0.0),
        ],
    )
    def test_reductions_follow_an_operand_that_loses_its_axes(self, op: str, value: float) -> None:
        x = ir.Input("x", ("n", "d"), "float32")
        axes = (ir.Axis("n", False, None), ir.Axis("d", True, 12))
        output = ir.Output("y", ir.Reduce(op, x, frozenset({"d"})), ("n",), "float32")
        before = ir.Program("f", axes, "float32", (x,), (output,))
        after = ir.rewrite(before, lambda node: ir.Const(2.0) if node is x else None)
        assert interpret(verify(after), {"x": np.ones((3, 12))})["y"].tolist() == [value] * 3

    def test_nothing_but_a_zero_can_be_summed_over_a_batch_axis_that_it_lacks(self) -> None:
        axes = (ir.Axis("n", False, None), ir.Axis("d", True, 12))
        program = ir.Program("f", axes, "float32", (), ())
        zero, one = (ir.Reduce("sum", ir.Const(value), frozenset({"n"})) for value in (0.0, 1.0))
        assert ir.narrowed(zero, program) is zero.operand
        with pytest.raises(CompilerBug, match="batch axis"):
            ir.narrowed(one, program)

    def test_a_rule_sees_rewritten_operands_and_its_result_keeps_the_name(self) -> None:
        def exp_to_log(node: ir.Node) -> ir.Node | None:
            return Unary("log", node.operand) if isinstance(node, Unary) and node.op == "exp" else None

        before = program(Unary("exp", Unary("exp", X, label="inner"), label="outer"))
        after = ir.rewrite(before, exp_to_log)
        outer = after.outputs[0].value
        assert isinstance(outer, Unary)
        assert isinstance(outer.operand, Unary)
        assert [(outer.op, outer.label), (outer.operand.op, outer.operand.label)] == [
            ("log", "outer"),
            ("log", "inner"),
        ]

    def test_operands_come_before_users_and_each_node_once(self) -> None:
        deep: ir.Node = X
        for _ in range(5000):
            deep = Unary("neg", deep)
        nodes = program(Binary("add", deep, deep)).nodes
        assert len(nodes) == len(set(nodes)) == 5002
        place = {node: index for index, node in enumerate(nodes)}
        assert all(place[operand] < place[node] for node in nodes for operand in ir.operands(node))

    def test_uses_are_counted_by_operand_and_output(self) -> None:
        e = Unary("exp", X)
        uses = ir.use_counts(program(Binary("add", e, e), e))
        assert (uses[e], uses[X]) == (3, 1)


class TestMeaning:
    """The interpreter against NumPy, an operation at a time."""

    x = np.array([[0.5, -1.5, 2.0, 0.1], [3.0, 0.25, -0.75, 0.2]])
    p = np.array([1.0, -2.0, 0.5, -1.5])

    def value(self, node: ir.Node, **arrays: Any) -> Any:
        return interpret(verify(program(node)), {"x": self.x, "p": self.p} | arrays)["y0"]

    @pytest.mark.parametrize(
        ("op", "meaning"),
        [
            ("neg", np.negative),
            ("square", np.square),
            ("sqrt", np.sqrt),
            ("rsqrt", lambda v: 1 / np.sqrt(v)),
            ("exp", np.exp),
            ("log", np.log),
            ("tanh", np.tanh),
            ("sigmoid", lambda v: 1 / (1 + np.exp(-v))),
            ("erf", np.vectorize(math.erf)),
            ("abs", np.abs),
        ],
    )
    def test_unary(self, op: str, meaning: Any) -> None:
        positive = np.abs(self.x)
        assert op in ir.UNARY
        np.testing.assert_allclose(self.value(Unary(op, X), x=positive), meaning(positive), rtol=1e-15)

    def test_every_unary_is_tested(self) -> None:
        marks = TestMeaning.test_unary.pytestmark
        assert {op for op, _ in marks[0].args[1]} == set(ir.UNARY)

    @pytest.mark.parametrize(
        ("op", "meaning"),
        [
            ("add", np.add),
            ("sub", np.subtract),
            ("mul", np.multiply),
            ("div", np.divide),
            ("maximum", np.maximum),
            ("minimum", np.minimum),
        ],
    )
    def test_binary(self, op: str, meaning: Any) -> None:
        np.testing.assert_array_equal(self.value(Binary(op, X, P)), meaning(self.x, self.p))

    @pytest.mark.parametrize(
        ("op", "meaning"),
        [
            ("lt", np.less),
            ("le", np.less_equal),
            ("gt", np.greater),
            ("ge", np.greater_equal),
            ("eq", np.equal),
            ("ne", np.not_equal),
        ],
    )
    def test_comparisons_choose(self, op: str, meaning: Any) -> None:
        x = np.where(self.x > 0.3, self.p, self.x)
        chosen = self.value(Select(Binary(op, X, P), X, TWO), x=x)
        np.testing.assert_array_equal(chosen, np.where(meaning(x, self.p), x, 2.0))

    @pytest.mark.parametrize(
        ("op", "meaning"),
        [
            ("sum", np.sum),
            ("mean", np.mean),
            ("max", np.max),
            ("variance", np.var),
            ("mean_high", np.mean),
            ("mean_low", lambda v, axis: 0.0 * v.mean(axis)),
        ],
    )
    def test_reductions(self, op: str, meaning: Any) -> None:
        np.testing.assert_allclose(
            self.value(Reduce(op, X, frozenset({"d"}))), meaning(self.x, axis=1), rtol=1e-15, atol=1e-15
        )

    def test_sums_over_the_batch_and_over_everything(self) -> None:
        np.testing.assert_allclose(self.value(Reduce("sum", X, frozenset({"n"}))), self.x.sum(0))
        np.testing.assert_allclose(self.value(Reduce("sum", X, frozenset({"n", "d"}))), self.x.sum())

    def test_a_cast_rounds(self) -> None:
        np.testing.assert_array_equal(self.value(Cast(X, "float32")), self.x.astype(np.float32).astype(float))

    def test_results_are_not_rounded_to_the_outputs_dtype(self) -> None:
        assert self.value(Binary("add", X, Const(1e-12)))[0, 0] != np.float32(0.5)

    def test_nan_and_infinity_are_numbers_like_others(self) -> None:
        x = np.array([[np.nan, np.inf, -np.inf, 0.0]])
        got = self.value(Binary("maximum", X, Const(0.0)), x=x)
        np.testing.assert_array_equal(got, [[np.nan, np.inf, 0.0, 0.0]])
        np.testing.assert_array_equal(self.value(Unary("log", X), x=x), [[np.nan, np.inf, np.nan, -np.inf]])

    def test_values_are_repeated_along_axes_of_the_output_that_they_lack(self) -> None:
        made = replace(program(P), outputs=(Output("y0", P, ("n", "d"), "float32"),))
        np.testing.assert_array_equal(
            interpret(made, {"x": self.x, "p": self.p})["y0"], np.broadcast_to(self.p, (2, 4))
        )

    def test_arrays_whose_axes_stand_in_another_order(self) -> None:
        q = Input("q", ("d", "n"), "float32")
        made = program(Binary("add", X, q), inputs=(X, q))
        turned = replace(made, outputs=(Output("y0", made.outputs[0].value, ("d", "n"), "float32"),))
        arrays = {"x": self.x, "q": self.x.T * 2}
        np.testing.assert_array_equal(interpret(made, arrays)["y0"], self.x * 3)
        np.testing.assert_array_equal(interpret(turned, arrays)["y0"], self.x.T * 3)

    def test_no_rows(self) -> None:
        empty = np.zeros((0, 4))
        assert self.value(Reduce("mean", X, frozenset({"d"})), x=empty).shape == (0,)
        assert self.value(Binary("add", X, P), x=empty).shape == (0, 4)
