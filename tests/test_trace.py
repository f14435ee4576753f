"""Equations to programs: reading a signature, running the body once, and naming what it returns."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import equation, program_of, run_program

import lncompile as lnc
from lncompile.equation import read_equation
from lncompile.errors import LncTypeError, LncValueError
from lncompile.ir import Input
from lncompile.trace import trace
from lncompile.verify import verify

SIZES = {"n": 2, "d": 3, "c": 2}
ARRAY = np.ones(3)


class TestSignatures:
    def test_arrays_constants_and_axes(self) -> None:
        def norm(x: Any, w: Any, b: Any = 0.5, *, eps: float = 1e-5, mode: Any = "a") -> Any: ...

        read = read_equation(norm, "n (g [c])", {"w": "(g c)", "b": "c n"})
        assert read.name == "norm"
        assert [(a.name, a.dims, a.default, a.required) for a in read.arguments] == [
            ("x", (("n",), ("g", "c")), None, True),
            ("w", (("g", "c"),), None, True),
            ("b", (("c",), ("n",)), 0.5, False),
        ]
        assert dict(read.constants) == {"eps": 1e-5, "mode": "a"}

    def test_the_axes_whose_sizes_are_compiled_in(self) -> None:
        """Features, and whatever is part of a split, be it in another argument."""

        def norm(x: Any, w: Any) -> Any: ...

        for pattern, w, fixed in (
            ("n [d]", "d", ("d",)),
            ("n c ...", "c", ()),
            ("n (g [c]) h", "g", ("g", "c")),
            ("n h v [d]", "(h v) d", ("h", "v", "d")),
            ("[n] c [...]", "c", ("n", "...")),
        ):
            assert read_equation(norm, pattern, {"w": w}).fixed == fixed

    def test_a_statistic_where_no_axis_is_a_feature(self) -> None:
        with pytest.raises(LncValueError, match=r"no feature axis; brackets in the pattern mark those"):
            program_of(equation("n d")(lambda x: x - lnc.mean(x)), SIZES)

    @pytest.mark.parametrize(
        ("function", "pattern", "axes", "message"),
        [
            (lambda x, w: x, "n [d]", {}, "w: its axes are not given; say lnc.norm('n [d]', w=\"...\")"),
            (
                lambda x: x,
                "n [d]",
                {"w": "d"},
                "w: axes are given for it, but the equation has no such array",
            ),
            (
                lambda x, *, eps: x,
                "n [d]",
                {"eps": "d"},
                "eps: axes are given for it, but the equation has no",
            ),
            (lambda x: x, "n [d]", {"x": "d"}, "x: the pattern gives its axes already"),
            (
                lambda x=1.0: x,
                "n [d]",
                {},
                "x: the first argument carries the pattern and cannot be optional",
            ),
            (lambda: 1.0, "n [d]", {}, "an equation needs an array argument"),
            (lambda *, eps: 1.0, "n [d]", {}, "an equation needs an array argument"),
            (lambda x, *rest: x, "n [d]", {}, "parameter 'rest': an equation has named parameters only"),
            (lambda x, **more: x, "n [d]", {}, "parameter 'more': an equation has named parameters only"),
            (
                lambda x, w=None: x,
                "n [d]",
                {"w": "d"},
                "w: the default of an array argument is a plain number",
            ),
            (
                lambda x, w="1": x,
                "n [d]",
                {"w": "d"},
                "w: the default of an array argument is a plain number",
            ),
            (
                lambda x, w=ARRAY: x,
                "n [d]",
                {"w": "d"},
                "w: the default of an array argument is a plain number; got ndarray of float64, shape (3,)",
            ),
            (lambda x, w=1j: x, "n [d]", {"w": "d"}, "w: the default of an array argument is a plain number"),
            (lambda x, w: x, "n [d]", {"w": "c"}, "w 'c': unknown axis 'c'; the pattern is 'n [d]'"),
            (lambda x, w: x, "n [d]", {"w": "[d]"}, "w '[d]': brackets belong to the pattern"),
            (lambda x, w: x, "n [d]", {"w": 3}, "w: expected a string"),
            (lambda x: x, "... [d] ...", {}, "pattern '... [d] ...': '...' can stand once only"),
            (lambda x: x, "n [d", {}, "pattern 'n [d': a '[' is never closed"),
            (lambda x: x, None, {}, "pattern: expected a string"),
            (lambda d: d, "n [d]", {}, "axis 'd' has the name of an argument"),
            (lambda x, *, n: x, "n [d]", {}, "axis 'n' has the name of an argument"),
            (lambda x: x, "out [d]", {}, "axis 'out' has the name of an argument"),
        ],
    )
    def test_what_is_wrong_names_file_line_and_equation(
        self, function: Callable[..., Any], pattern: Any, axes: Any, message: str
    ) -> None:
        line = function.__code__.co_firstlineno
        with pytest.raises(lnc.LncError) as caught:
            read_equation(function, pattern, axes)
        assert str(caught.value).startswith(f"{__file__}:{line}: in <lambda>: {message}")

    @pytest.mark.parametrize("thing", [3, "layer_norm", len, object()])
    def test_what_is_no_function(self, thing: Any) -> None:
        with pytest.raises(LncTypeError, match=re.escape(f"decorates a Python function; got {thing!r}")):
            read_equation(thing, "n [d]", {})


class TestOutputs:
    def named(self, function: Callable[..., Any], **axes: str) -> list[tuple[str, tuple[str, ...]]]:
        program = verify(program_of(equation("n (g [c]) [d]", **axes)(function), {"g": 2, "c": 3, "d": 4}))
        return [(output.name, output.dims) for output in program.outputs]

    def test_dims_are_the_axes_that_an_output_varies_over_in_pattern_order(self) -> None:
        assert self.named(lambda x: x) == [("y", ("n", "g", "c", "d"))]
        assert self.named(lambda x: lnc.mean(x)) == [("y", ("n", "g"))]
        assert self.named(lambda x: lnc.mean(x, over="d")) == [("y", ("n", "g", "c"))]
        assert self.named(lambda x, w: w * 2.0, w="d n") == [("y", ("n", "d"))]
        assert self.named(lambda x, w: lnc.sum(w), w="d") == [("y", ())]

    def test_several_outputs_are_called_after_the_variables_that_hold_them(self) -> None:
        def norm(x: Any) -> Any:
            mean = lnc.mean(x)
            centred = x - mean
            return centred, mean, mean * 2.0

        assert [name for name, _ in self.named(norm)] == ["centred", "mean", "y2"]

    def test_one_value_twice_and_an_argument_itself(self) -> None:
        def norm(x: Any) -> Any:
            y = x * 2.0
            return y, y, x

        assert [name for name, _ in self.named(norm)] == ["y", "y_out", "x_out"]

    def test_one_output_is_y_unless_an_argument_is(self) -> None:
        assert self.named(lambda y: y * 2.0)[0][0] == "y_out"

    def test_a_tuple_of_one_is_a_tuple(self) -> None:
        assert program_of(equation("n [d]")(lambda x: (x * 2.0,)), SIZES).returns_tuple
        assert not program_of(equation("n [d]")(lambda x: x * 2.0), SIZES).returns_tuple

    @pytest.mark.parametrize(
        ("function", "message"),
        [
            (lambda x: 1.0, "the output depends on no array: expected a traced value; got 1.0"),
            (lambda x: None, "the output depends on no array: expected a traced value; got None"),
            (lambda x: [x], "the output depends on no array: expected a traced value; got list"),
            (lambda x: {"y": x}, "the output depends on no array: expected a traced value; got dict"),
            (lambda x: (x, 2), "output 1 depends on no array: expected a traced value; got 2"),
            (lambda x: (), "it returns an empty tuple"),
            (lambda x: (yield x), "the output depends on no array: expected a traced value; got generator"),
            (lambda x: (x, (x, x)), "output 1 depends on no array: expected a traced value; got tuple"),
        ],
    )
    def test_what_is_no_output(self, function: Callable[..., Any], message: str) -> None:
        line = function.__code__.co_firstlineno
        with pytest.raises(LncValueError) as caught:
            program_of(equation("n [d]")(function), SIZES)
        assert str(caught.value).startswith(f"{__file__}:{line}: in <lambda>: {message}")


class TestPrograms:
    def norm(self, x: Any, w: Any = 2.0, b: Any = 0.0, *, eps: float = 1e-5) -> Any:
        return x * w + b + eps

    def equation(self) -> Any:
        return equation("n [d]", w="d", b="d")(
            lambda x, w=2.0, b=0.0, *, eps=1e-5: self.norm(x, w, b, eps=eps)
        )

    @pytest.mark.parametrize("left_out", [(), ("w",), ("b",), ("w", "b")])
    def test_an_argument_left_out_is_its_default(self, left_out: tuple[str, ...]) -> None:
        program = program_of(self.equation(), SIZES, left_out=left_out)
        assert [node.name for node in program.inputs] == [n for n in ("x", "w", "b") if n not in left_out]
        arrays = {"x": np.ones((2, 3)), "w": np.full(3, 5.0), "b": np.full(3, 7.0)}
        given = {name: array for name, array in arrays.items() if name not in left_out}
        expected = (2.0 if "w" in left_out else 5.0) + (0.0 if "b" in left_out else 7.0) + 1e-5
        np.testing.assert_allclose(run_program(program, given, SIZES)["y"], np.full((2, 3), expected))

    def test_constants_are_what_the_body_sees(self) -> None:
        seen: list[Any] = []

        def norm(x: Any, *, mode: Any = "a", flag: Any = None) -> Any:
            seen.append((mode, flag))
            return x

        program_of(equation("n [d]")(norm), SIZES, mode=("any", "value"))
        assert seen == [(("any", "value"), None)]

    @pytest.mark.parametrize(
        ("dtypes", "out_dtype", "compute", "result"),
        [
            ({"x": "float32", "w": "float32"}, None, "float32", "float32"),
            ({"x": "float32", "w": "float64"}, None, "float64", "float32"),
            ({"x": "float64", "w": "float32"}, None, "float64", "float64"),
            ({"x": "float32", "w": "float32"}, "float64", "float32", "float64"),
            ({"x": "float64", "w": "float64"}, "float32", "float64", "float32"),
        ],
    )
    def test_dtypes(self, dtypes: dict[str, str], out_dtype: str | None, compute: str, result: str) -> None:
        norm = equation("n [d]", w="d")(lambda x, w: x * w)
        program = trace(norm, dtypes, {}, {"d": 3}, out_dtype)
        assert program.compute == compute
        assert program.outputs[0].dtype == result
        assert {node.name: node.dtype for node in program.inputs} == dtypes

    def test_batch_axes_have_no_size(self) -> None:
        program = program_of(equation("n c [d]")(lambda x: x * 2.0), {"n": 2, "c": 3, "d": 4})
        assert [(axis.name, axis.feature, axis.size) for axis in program.axes] == [
            ("n", False, None),
            ("c", False, None),
            ("d", True, 4),
        ]

    def test_values_carry_the_names_of_the_variables_that_hold_them(self) -> None:
        def norm(x: Any) -> Any:
            mu = lnc.mean(x)
            spread = lnc.max(x - mu)
            return x / spread

        program = program_of(equation("n [d]")(norm), SIZES)
        assert {getattr(node, "label", "") for node in program.nodes} == {"", "mu", "spread"}

    def test_the_body_runs_once(self) -> None:
        runs: list[Any] = []

        def norm(x: Any) -> Any:
            runs.append(x)
            return x * 2.0

        program_of(equation("n [d]")(norm), SIZES)
        assert len(runs) == 1

    def test_any_python_may_stand_in_the_body(self) -> None:
        """Loops, calls, closures and branches on constants run while tracing."""

        def norm(x: Any, *, times: int = 3) -> Any:
            terms = [x**power for power in range(1, times + 1)]
            return sum(terms) if times > 1 else terms[0]

        x = np.array([[1.0, 2.0, 3.0]])
        program = program_of(equation("n [d]")(norm), SIZES)
        np.testing.assert_allclose(run_program(program, {"x": x}, {"n": 1, "d": 3})["y"], x + x**2 + x**3)

    def test_an_argument_that_is_not_used_is_still_an_input(self) -> None:
        program = program_of(equation("n [d]", w="d")(lambda x, w: x * 2.0), SIZES)
        assert [node.name for node in program.inputs] == ["x", "w"]
        assert [node.name for node in program.nodes if isinstance(node, Input)] == ["x"]

    def test_a_profiler_that_runs_is_left_running(self) -> None:
        def profiler(*_: object) -> None: ...

        previous = sys.getprofile()
        sys.setprofile(profiler)
        try:
            program_of(equation("n [d]")(lambda x: x * 2.0), SIZES)
            assert sys.getprofile() is profiler
        finally:
            sys.setprofile(previous)

    def test_an_error_of_the_body_is_the_users_own(self) -> None:
        with pytest.raises(ZeroDivisionError):
            program_of(equation("n [d]")(lambda x: x * (1 / 0)), SIZES)
