"""Axis patterns: what they mean, what is wrong with the others, and sizes from shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from lncompile.axes import array_shape, count, parse, parse_argument, show, solve
from lncompile.errors import LncError, LncTypeError, LncValueError


class TestPatterns:
    @pytest.mark.parametrize(
        ("text", "dims", "features"),
        [
            ("[d]", [("d",)], {"d"}),
            ("... [d]", [("...",), ("d",)], {"d"}),
            ("[n] c [...]", [("n",), ("c",), ("...",)], {"n", "..."}),
            ("n (g [c]) [...]", [("n",), ("g", "c"), ("...",)], {"c", "..."}),
            ("n [(g c)]", [("n",), ("g", "c")], {"g", "c"}),
            ("n [h w] c", [("n",), ("h",), ("w",), ("c",)], {"h", "w"}),
            ("n ([a] b [c])", [("n",), ("a", "b", "c")], {"a", "c"}),
            ("n c", [("n",), ("c",)], set()),
            ("", [], set()),
            ("  n\t[ d ]\n", [("n",), ("d",)], {"d"}),
            ("n[d]", [("n",), ("d",)], {"d"}),
            ("n_1 [_ D2]", [("n_1",), ("_",), ("D2",)], {"_", "D2"}),
        ],
    )
    def test_names_splits_and_features(
        self, text: str, dims: list[tuple[str, ...]], features: set[str]
    ) -> None:
        pattern = parse(text)
        assert pattern.dims == tuple(dims)
        assert pattern.features == features
        assert pattern.text == text

    def test_axes_are_in_their_order_in_memory(self) -> None:
        assert parse("n (g [c]) [...]").axes == ("n", "g", "c", "...")

    def test_dims_of_a_value_that_varies_over_less(self) -> None:
        pattern = parse("n (g [c]) [...]")
        assert pattern.restricted(frozenset({"n", "g"})) == (("n",), ("g",))
        assert pattern.restricted(frozenset({"g", "c"})) == (("g", "c"),)
        assert pattern.restricted(frozenset()) == ()

    @pytest.mark.parametrize("text", ["n (g c) ...", "d", ""])
    def test_show_is_the_inverse_of_parse(self, text: str) -> None:
        assert show(parse(text).dims) == text

    @pytest.mark.parametrize(
        ("text", "what"),
        [
            ("n [d", "a '[' is never closed"),
            ("n d]", "a ']' without its '['"),
            ("n [[d]]", "brackets cannot be nested"),
            ("n []", "empty brackets mark no axis"),
            ("n (g", "a '(' is never closed"),
            ("n g)", "a ')' without its '('"),
            ("n ((g c))", "parentheses cannot be nested"),
            ("n ()", "empty parentheses name no axis"),
            ("... n ...", "'...' can stand once only"),
            ("n [n]", "axis 'n' occurs twice"),
            ("n [длина]", "axis 'длина': expected letters from a to z, digits and underscores"),
            ("n [dé]", "axis 'dé'"),
            ("n (n c)", "axis 'n' occurs twice"),
            ("n (g ...)", "'...' cannot be part of a split dimension"),
            ("n, d", "cannot read ','"),
            ("n 3", "cannot read '3'"),
            ("n d*", "cannot read '*'"),
            ("n ..", "cannot read '.'"),
            ("n -> d", "cannot read '-'"),
            ("(n [d) c]", "a split dimension and a pair of brackets overlap"),
            ("[n (g] c)", "a split dimension and a pair of brackets overlap"),
        ],
    )
    def test_what_cannot_be_read(self, text: str, what: str) -> None:
        with pytest.raises(LncValueError, match=re.escape(f"pattern {text!r}: {what}")):
            parse(text)

    @pytest.mark.parametrize("text", [None, 3, ["n", "d"], b"n d"])
    def test_what_is_no_string(self, text: Any) -> None:
        with pytest.raises(LncTypeError, match=f"pattern: expected a string.*got {type(text).__name__}"):
            parse(text)


class TestArguments:
    pattern = parse("b (g [c]) [...]")

    @pytest.mark.parametrize("text", ["c", "b c", "(g c)", "g c", "c g", "...", "", "b (g c) ..."])
    def test_any_axes_of_the_pattern_in_any_order(self, text: str) -> None:
        assert show(parse_argument(text, "weight", self.pattern)) == text

    @pytest.mark.parametrize(
        ("text", "what"),
        [
            ("d", "unknown axis 'd'; the pattern is 'b (g [c]) [...]'"),
            ("[c]", "brackets belong to the pattern"),
            ("c c", "axis 'c' occurs twice"),
            ("(g c", "a '(' is never closed"),
        ],
    )
    def test_what_does_not_fit_names_the_argument(self, text: str, what: str) -> None:
        with pytest.raises(LncValueError, match=re.escape(f"weight {text!r}: {what}")):
            parse_argument(text, "weight", self.pattern)

    def test_what_is_no_string_names_the_argument(self) -> None:
        with pytest.raises(LncTypeError, match="weight: expected a string"):
            parse_argument(None, "weight", self.pattern)


def sizes(pattern: str, shapes: Mapping[str, tuple[str, tuple[int, ...]]], **given: Any) -> Any:
    """Solve for the axes of ``pattern``; ``shapes`` maps an argument to its axes and its shape."""
    parsed = parse(pattern)
    arrays = {name: (parse(text).dims, shape) for name, (text, shape) in shapes.items()}
    return solve(arrays, given, parsed.axes)


class TestSolving:
    def test_each_axis_from_its_dimension(self) -> None:
        assert sizes("n [d]", {"x": ("n d", (2, 3))}) == {"n": 2, "d": 3}

    @pytest.mark.parametrize("middle", [(), (4,), (4, 5), (4, 0, 6)])
    def test_the_ellipsis_takes_any_number_of_dimensions(self, middle: tuple[int, ...]) -> None:
        solved = sizes("n ... [d]", {"x": ("n ... d", (2, *middle, 3))})
        assert solved == {"n": 2, "...": middle, "d": 3}
        assert array_shape(parse("n ... d").dims, solved) == (2, *middle, 3)
        assert count("...", solved) == int(np.prod(middle))

    def test_a_split_from_one_given_size(self) -> None:
        solved = sizes("n (g [c])", {"x": ("n (g c)", (2, 12))}, g=4)
        assert solved == {"n": 2, "g": 4, "c": 3}
        assert array_shape(parse("n (g c)").dims, solved) == (2, 12)

    def test_a_split_from_the_shape_of_a_parameter(self) -> None:
        assert sizes("n (g [c])", {"x": ("n (g c)", (2, 12)), "w": ("c", (3,))}) == {"n": 2, "g": 4, "c": 3}

    def test_a_split_that_another_split_solves(self) -> None:
        """Whatever the order in which arguments come."""
        shapes = {"x": ("(a b)", (6,)), "v": ("(b c)", (15,)), "w": ("c", (5,))}
        assert sizes("(a b) c", shapes) == {"a": 2, "b": 3, "c": 5}

    def test_three_axes_in_a_split(self) -> None:
        assert sizes("(a b c)", {"x": ("(a b c)", (24,))}, a=2, c=3) == {"a": 2, "b": 4, "c": 3}

    @pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0, 0)])
    def test_sizes_of_zero(self, shape: tuple[int, int]) -> None:
        assert sizes("n [d]", {"x": ("n d", shape)}) == {"n": shape[0], "d": shape[1]}

    def test_an_empty_split(self) -> None:
        assert sizes("(g [c])", {"x": ("(g c)", (0,))}, g=4) == {"g": 4, "c": 0}

    def test_given_sizes_may_be_numpy_integers(self) -> None:
        solved = sizes("(g [c])", {"x": ("(g c)", (12,))}, g=np.int64(4))
        assert solved == {"g": 4, "c": 3}
        assert type(solved["g"]) is int

    @pytest.mark.parametrize(
        ("pattern", "shapes", "given", "message"),
        [
            ("n [d]", {"x": ("n d", (2,))}, {}, "x: expected 2 dimensions [n d]; got shape (2,)"),
            (
                "n [d]",
                {"x": ("n d", (2, 3)), "a": ("", (1,))},
                {},
                "a: expected an array without dimensions; got shape (1,)",
            ),
            ("n [d]", {"x": ("n d", (2, 3, 4))}, {}, "x: expected 2 dimensions [n d]; got shape (2, 3, 4)"),
            (
                "n ... [d]",
                {"x": ("n ... d", (2,))},
                {},
                "x: expected at least 2 dimensions [n ... d]; got shape (2,)",
            ),
            (
                "n [d]",
                {"x": ("n d", (2, 3)), "w": ("d", (4,))},
                {},
                "w: expected shape [d] = (3,); got (4,)",
            ),
            (
                "... [d]",
                {"x": ("... d", (2, 5, 3)), "r": ("... d", (5, 3))},
                {},
                "r: expected shape [... d] = (2, 5, 3); got (5, 3)",
            ),
            (
                "n (g [c])",
                {"x": ("n (g c)", (2, 12)), "w": ("(g c)", (8,))},
                {"g": 4},
                "w: expected shape [(g c)] = (12,); got (8,)",
            ),
            (
                "n (g [c])",
                {"x": ("n (g c)", (2, 12))},
                {"g": 5},
                "x: the dimension (g c) of size 12 is no multiple of g=5",
            ),
            (
                "(a b c)",
                {"x": ("(a b c)", (24,))},
                {"a": 5, "b": 2},
                "x: the dimension (a b c) of size 24 is no multiple of a*b=10",
            ),
            ("n [d]", {"x": ("n d", (2, 3))}, {"d": 4}, "x: expected shape [n d] = (2, 4); got (2, 3)"),
            (
                "n (g [c])",
                {"x": ("n (g c)", (2, 12))},
                {},
                "g: the shapes do not tell the size of axis 'g'; pass g=...",
            ),
            (
                "n (g [c])",
                {"x": ("n (g c)", (2, 12))},
                {"g": 0},
                "g: expected a positive int, the size of an axis; got 0",
            ),
        ],
    )
    def test_what_does_not_fit_names_the_argument_expected_and_got(
        self, pattern: str, shapes: Any, given: dict[str, int], message: str
    ) -> None:
        with pytest.raises(LncValueError) as caught:
            sizes(pattern, shapes, **given)
        assert str(caught.value) == message

    @pytest.mark.parametrize("size", [True, 2.0, "4", None, (4,), np.arange(2)])
    def test_a_given_size_that_is_no_int(self, size: Any) -> None:
        with pytest.raises(LncTypeError, match="g: expected a positive int, the size of an axis"):
            sizes("n (g [c])", {"x": ("n (g c)", (2, 12))}, g=size)

    def test_errors_are_also_those_of_python(self) -> None:
        for kind, builtin in ((LncValueError, ValueError), (LncTypeError, TypeError)):
            assert issubclass(kind, LncError)
            assert issubclass(kind, builtin)
