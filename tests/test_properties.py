"""Random programs: whatever is written, all ways through the compiler compute the same.

The interpreter on the program and its gradient, before any other pass, is what is meant. Against it stand
the interpreter on the programs after all passes, the emitted source run un-jitted, and the compiled kernel,
forward and backward. How far each may be off is derived value by value in ``bounds.py``.

``pytest tests/test_properties.py -m slow`` compiles every program instead of every third.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np
import pytest
from bounds import FORMATS, Bounded, bounded
from helpers import Arrays, compilation_of, run_emitted, run_pair, run_program, small_limits
from hypothesis import HealthCheck, given, seed, settings
from programs import Case, cases

from lncompile.compiler import Compilation
from lncompile.ir import Program
from lncompile.passes.gradient import gradient
from lncompile.passes.moments import moments
from lncompile.passes.simplify import simplify
from lncompile.printer import show
from lncompile.verify import verify

Array = np.ndarray[Any, np.dtype[Any]]


#: Programs that failed once: the ``repr`` of a case that Hypothesis shrank.
REGRESSIONS = [
    Case(
        "[a] b c",
        {"p": "b", "q": "c"},
        "def f(x, p, q):\n    return q - x",
        {"a": 1, "b": 33, "c": 1},
        {"x": "float16", "p": "float16", "q": "float16"},
    ),
    Case(
        "a b [c] d",
        {},
        "def f(x):\n    return lnc.max(lnc.sqrt(x + 2.5))",
        {"a": 1, "b": 1, "c": 1, "d": 1},
        {"x": "float16"},
    ),
    Case(
        "a [...] c d",
        {"s": "c ... d"},
        "def f(x, s=0.75):\n    return lnc.max(s * lnc.rsqrt(lnc.mean(s * s) + 0.1) * x + x, over='...')",
        {"a": 1, "...": (8, 1, 1), "c": 1, "d": 1},
        {"x": "float16", "s": "float16"},
    ),
    Case("a [b]", {}, "def f(x):\n    return lnc.sum(x ** 0)", {"a": 1, "b": 1}, {"x": "float32"}),
    Case(
        "a [b]",
        {"p": "a"},
        "def f(x, p):\n    return lnc.mean(lnc.where(x > 0.0, p, p)) * x",
        {"a": 3, "b": 5},
        {"x": "float32", "p": "float32"},
    ),
    Case("a [b]", {}, "def f(x):\n    return (~(x < 0.1)) * x", {"a": 3, "b": 33}, {"x": "float64"}),
    *(
        Case(
            "a [b]",
            {},
            f"def f(x):\n    return lnc.where({condition}, x, -x)",
            {"a": 3, "b": 33},
            {"x": dtype},
        )
        for condition in (
            "(x > 0.5) & (lnc.mean(x) < 0.1)",
            "(x > 0.5) | (lnc.mean(x) < 0.1)",
            "(lnc.mean(x) < 0.1) & (x > 0.5)",
            "~((x > 0.5) | ~(lnc.mean(x) < 0.1))",
        )
        for dtype in ("float32", "float64")
    ),
    Case(
        "a b [c]",
        {"p": "(a b)"},
        "def f(x, p):\n    return x * p",
        {"a": 2, "b": 3, "c": 5},
        {"x": "float32", "p": "float32"},
    ),
    Case(
        "a ([b] [c] [d]) [e]",
        {"p": "b c d e", "q": "a (b c d) e", "s": ""},
        "def f(x, p, q, s):\n    return s - x",
        {"a": 2, "b": 65, "c": 16, "d": 1, "e": 1},
        {"x": "float64", "p": "float64", "q": "float64", "s": "float64"},
    ),
]
#: The same for programs whose patterns no kernels are generated for yet: their passes are checked.
REGRESSIONS_OF_PASSES = [
    *(
        Case(
            "a [b c]",
            {},
            f'def f(x):\n    v = lnc.sum(x - lnc.mean(x, over="c"), over="c")\n    return lnc.{outer}(v)',
            {"a": 2, "b": 3, "c": 4},
            {"x": "float64"},
        )
        for outer in ("max", "sum", "mean")
    ),
]

#: Ten tests, which processes share among them, of so many programs, or, in sweeps, so many.
BLOCKS, PROGRAMS, SWEPT = 10, 18, 50
#: Elements of the programs that run under small limits, too: in Python, stretch by stretch, more take long.
SMALL = 500


def each(strategy: Any, programs: int, block: int, holds: Callable[[Case], None]) -> None:
    """Check ``holds`` on so many programs, the same ones on every run; others for each block."""
    checked = given(strategy)(lambda case: holds(case))
    options = settings(
        max_examples=programs,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    seed(block)(options(checked))()


class Meant:
    """A case's program, its inputs and cotangents, and what the interpreter says of them."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.compilation: Compilation = compilation_of(
            case.equation, case.counts, case.dtypes, left_out=case.left_out, out_dtype=case.out_dtype
        )
        self.program: Program = verify(self.compilation.program)
        self.joint: Program = verify(gradient(self.program))
        self.given = case.arrays()
        cotangents = [node for node in self.joint.inputs if node.role == "cotangent"]
        self.entering: list[Array | None] = [
            None
            if at in case.unused
            else case.array(case.output_shape(node.dims), node.dtype, len(self.given) + at)
            for at, node in enumerate(cotangents)
        ]
        self.arrays = {name: self.by_axes(name, array) for name, array in self.given.items()} | {
            node.name: np.zeros([case.counts[name] for name in node.dims])
            if array is None
            else np.reshape(array, [case.counts[name] for name in node.dims])
            for node, array in zip(cotangents, self.entering, strict=True)
        }

    def by_axes(self, name: str, array: Array) -> Array:
        """An argument with one dimension for each axis."""
        dims = next(node.dims for node in self.program.inputs if node.name == name)
        return np.reshape(array, [self.case.counts[axis] for axis in dims])

    def results(self, compute: str, rounded: bool) -> dict[str, Bounded]:
        """Outputs and gradients, with bounds on the errors of arithmetic in ``compute``."""
        return bounded(self.joint, self.arrays, compute, rounded)

    def compiled(self) -> Arrays:
        """Outputs and gradients of the compiled kernel, under the names of the program."""
        norm, case = self.case.norm, self.case
        outputs, ctx = norm.forward(**self.given, **case.options)
        called = norm(**self.given, **case.options)
        several = self.program.returns_tuple
        gradients = norm.backward(tuple(self.entering) if several else self.entering[0], ctx)
        results: Arrays = {}
        for output, array, again in zip(
            self.program.outputs,
            outputs if several else (outputs,),
            called if several else (called,),
            strict=True,
        ):
            assert array.shape == case.output_shape(output.dims), output.name
            assert array.dtype == (case.out_dtype or case.dtypes["x"])
            assert array.tobytes() == again.tobytes(), output.name
            results[output.name] = array
        for name in gradients._fields:
            array = getattr(gradients, name)
            assert (array is None) == (name in case.left_out)
            if array is not None:
                assert (array.shape, array.dtype) == (self.given[name].shape, self.given[name].dtype), name
                of = next(o for o in self.joint.outputs if o.role == "gradient" and o.of == name)
                results[of.name] = array
        return results


def assert_within(actual: Mapping[str, Any], meant: Mapping[str, Bounded], way: str) -> None:
    """Every result is there and within its bound."""
    for name, (value, error) in meant.items():
        got = np.reshape(np.asarray(actual[name], np.float64), value.shape)
        # Where the bound is infinite anything goes, also infinity and NaN.
        wrong = ~(np.abs(got - value) <= error) & np.isfinite(error)
        if wrong.any():
            at = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise AssertionError(
                f"{way}: {name}{list(at)} is {got[at]!r}, meant {value[at]!r} ± {error[at]:.3g}; "
                f"{int(wrong.sum())} of {wrong.size} elements are wrong"
            )


def check_passes(meant: Meant) -> None:
    """The programs after every pass mean what the equation does."""
    expected = meant.results("float64", rounded=False)
    program, arrays, counts = meant.program, meant.arrays, meant.case.counts
    assert_within(run_program(meant.joint, arrays, counts), expected, "the gradient")
    simplified = verify(simplify(gradient(verify(simplify(program)))))
    assert_within(run_program(simplified, arrays, counts), expected, "simplify")
    assert_within(run_program(verify(moments(simplified)), arrays, counts), expected, "moments")
    assert show(simplify(simplified)) == show(simplified), "simplify has not settled"
    assert_within(run_pair(meant.compilation.pair, arrays, counts, run_program), expected, "all passes")


def check_kernels(case: Case, compiled: bool) -> None:
    """Interpreter, un-jitted source and, where asked for, compiled kernel compute the same."""
    meant = Meant(case)
    check_passes(meant)
    expected = meant.results(meant.program.compute, rounded=True)
    compilation = meant.compilation
    assert_within(run_emitted(compilation, meant.arrays, case.counts), expected, "the emitted source")
    if prod(case.counts.values()) <= SMALL:
        small = run_emitted(compilation, meant.arrays, case.counts, small_limits(compilation.schedule))
        assert_within(small, expected, "the emitted source of stretches and blocks")
    if compiled:
        assert_within(meant.compiled(), expected, "the compiled kernel")


@pytest.mark.parametrize("block", range(BLOCKS))
def test_passes_keep_the_meaning_of_every_pattern(block: int) -> None:
    each(cases(), PROGRAMS, block, lambda case: check_passes(Meant(case)))


@pytest.mark.parametrize("block", range(BLOCKS))
def test_kernels_compute_what_the_equation_says(block: int) -> None:
    each(cases(), PROGRAMS // 2, 100 + block, lambda case: check_kernels(case, case.compiled))


@pytest.mark.slow
@pytest.mark.parametrize("block", range(BLOCKS))
def test_every_kernel_computes_what_the_equation_says(block: int) -> None:
    each(cases(), SWEPT, 200 + block, lambda case: check_kernels(case, compiled=True))


@pytest.mark.parametrize("case", REGRESSIONS_OF_PASSES)
def test_passes_that_failed_once(case: Case) -> None:
    check_passes(Meant(case))


@pytest.mark.parametrize("case", REGRESSIONS)
def test_programs_that_failed_once(case: Case) -> None:
    check_kernels(case, compiled=True)


def differences(
    program: Program, arrays: Arrays, weights: Arrays, counts: Mapping[str, int], step: float
) -> Arrays:
    """Central differences of sum(output * weight) by every element of every input."""

    def loss(changed: Arrays) -> float:
        outputs = run_program(program, changed, counts)
        return float(sum(np.sum(outputs[name] * weight) for name, weight in weights.items()))

    slopes: Arrays = {}
    for node in program.inputs:
        array = np.asarray(arrays[node.name], np.float64)
        slope = np.empty_like(array)
        for index in np.ndindex(array.shape):
            ends = []
            for sign in (1.0, -1.0):
                changed = array.copy()
                changed[index] += sign * step
                ends.append(loss(arrays | {node.name: changed}))
            slope[index] = (ends[0] - ends[1]) / (2 * step)
        slopes[node.name] = slope
    return slopes


def check_gradient(case: Case) -> None:
    """Gradients against central differences with two steps.

    For a smooth function the error falls with the square of the step: halving it leaves a third of what it
    changed. Across a kink, or a jump, the two differ by as much as either is wrong, or more. A rounding of
    the sum, of each output with its weight, is divided by the step.
    """
    meant = Meant(case)
    weights = {
        output.name: meant.arrays[node.name]
        for output, node in zip(
            meant.program.outputs, [n for n in meant.joint.inputs if n.role == "cotangent"], strict=True
        )
    }
    results = meant.results("float64", rounded=False)
    step = 1e-4
    wide, narrow = (
        differences(meant.program, meant.arrays, weights, case.counts, h) for h in (step, step / 2)
    )
    unit = FORMATS["float64"].unit
    noise = sum(
        float(np.sum((results[name].error + unit * np.abs(results[name].value)) * abs(weight)))
        for name, weight in weights.items()
    )
    for output in meant.joint.outputs:
        if output.role == "gradient":
            assert output.of is not None
            value = results[output.name].value
            allowed = 4 * np.abs(wide[output.of] - narrow[output.of]) + 4 * noise / step
            wrong = ~(np.abs(value - narrow[output.of]) <= allowed) & np.isfinite(allowed)
            assert not wrong.any(), f"{output.name}: {value}, by differences {narrow[output.of]} ± {allowed}"


@pytest.mark.parametrize("block", range(4))
def test_gradients_are_those_of_central_differences(block: int) -> None:
    strategy = cases(elements=12, smooth=True)
    each(strategy, PROGRAMS, 300 + block, check_gradient)
