"""Every arrangement of axes: batch and feature axes in any order, parameters over any of them.

Each form is emitted under the heuristic's schedule and under one whose limits are so small that rows are cut
into stretches, blocks hold two rows, and vectors four lanes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest
from helpers import (
    arrays_for,
    assert_close,
    compilation_of,
    equation,
    program_of,
    run_emitted,
    run_phase,
    run_program,
    small_limits,
)

import lncompile as lnc
from lncompile.emit.lower import lower
from lncompile.ir import Reduce
from lncompile.norm import make_norm
from lncompile.passes.gradient import gradient
from lncompile.schedule.cpu import Schedule
from lncompile.schedule.plan import plan

#: Roundings add up along sums and products: a few dozen of them, of terms some ten times the result.
TOLERANCE = {"float32": 2e-4, "float64": 1e-11}


def standardized(x: Any, weight: Any = 1.0, bias: Any = 0.0) -> Any:
    mu = lnc.mean(x)
    var = lnc.mean(lnc.square(x - mu))
    return (x - mu) * lnc.rsqrt(var + 1e-5) * weight + bias


def with_statistics(x: Any, weight: Any = 1.0, bias: Any = 0.0) -> Any:
    mu = lnc.mean(x)
    var = lnc.mean(lnc.square(x - mu))
    return (x - mu) * lnc.rsqrt(var + 1e-5) * weight + bias, mu, var


def inference(x: Any, mu: Any, var: Any, weight: Any = 1.0, bias: Any = 0.0) -> Any:
    return (x - mu) * lnc.rsqrt(lnc.abs(var) + 1.0) * weight + bias


def soft(x: Any) -> Any:
    e = lnc.exp(x - lnc.max(x))
    return e / lnc.sum(e)


def response(x: Any, weight: Any, bias: Any) -> Any:
    length = lnc.sqrt(lnc.sum(lnc.square(x), over="h w") + 1e-6)
    return weight * x * length / (lnc.mean(length, over="c") + 1e-6) + bias + x


def switched(x: Any, a: Any, b: Any) -> Any:
    inner, outer = lnc.mean(x, over="h w"), lnc.mean(x)
    inner_var = lnc.mean(lnc.square(x - inner), over="h w")
    outer_var = lnc.mean(lnc.square(x - outer))
    return (x - a * inner - (1 - a) * outer) * lnc.rsqrt(b * b * inner_var + (1 - b) ** 2 * outer_var + 1.0)


def squashed(x: Any, alpha: Any, weight: Any = 1.0, bias: Any = 0.0) -> Any:
    return lnc.tanh(alpha * x) * weight + bias


def of_parameters(x: Any, weight: Any, bias: Any) -> Any:
    return x * lnc.rsqrt(lnc.mean(lnc.square(weight)) + 1.0) + bias, lnc.sum(weight * bias)


def of_largest(x: Any, weight: Any) -> Any:
    length = lnc.sqrt(lnc.sum(lnc.square(x), over="h"))
    return x / lnc.max(length) + lnc.max(lnc.tanh(x) * weight) * lnc.mean(length)


class Form(NamedTuple):
    """An equation on a pattern, with the axes of its parameters and sizes of all axes."""

    function: Callable[..., Any]
    pattern: str
    axes: Mapping[str, str]
    sizes: Mapping[str, int]


FORMS = {
    "largest of computed values": Form(of_largest, "b [n h]", {"weight": "h"}, {"b": 5, "n": 7, "h": 9}),
    "largest of computed columns": Form(of_largest, "[n h] b", {"weight": "h"}, {"b": 21, "n": 7, "h": 9}),
    "columns": Form(with_statistics, "[n] c", {"weight": "c", "bias": "c"}, {"n": 19, "c": 37}),
    "channels first": Form(
        with_statistics, "[n] c [h w]", {"weight": "c", "bias": "c"}, {"n": 5, "c": 3, "h": 4, "w": 9}
    ),
    "channels last": Form(
        with_statistics, "[n h w] c", {"weight": "c", "bias": "c"}, {"n": 5, "c": 37, "h": 4, "w": 3}
    ),
    "groups": Form(
        standardized,
        "n (g [c]) [h w]",
        {"weight": "(g c)", "bias": "(g c)"},
        {"n": 3, "g": 4, "c": 3, "h": 5, "w": 7},
    ),
    "groups, channels last": Form(
        standardized,
        "n [h w] (g [c])",
        {"weight": "(g c)", "bias": "(g c)"},
        {"n": 3, "g": 4, "c": 3, "h": 5, "w": 7},
    ),
    "instances": Form(
        standardized, "n c [h w]", {"weight": "c", "bias": "c"}, {"n": 3, "c": 4, "h": 5, "w": 7}
    ),
    "instances, channels last": Form(
        standardized, "n [h w] c", {"weight": "c", "bias": "c"}, {"n": 3, "c": 35, "h": 5, "w": 7}
    ),
    "layers, channels first": Form(
        standardized, "n [c] h w", {"weight": "c", "bias": "c"}, {"n": 3, "c": 9, "h": 5, "w": 7}
    ),
    "adaptive": Form(standardized, "b s [d]", {"weight": "b d", "bias": "b d"}, {"b": 3, "s": 5, "d": 33}),
    "adaptive weight": Form(
        standardized, "b s [d]", {"weight": "b d", "bias": "d"}, {"b": 3, "s": 5, "d": 33}
    ),
    "heads": Form(
        standardized, "b s h [d]", {"weight": "h d", "bias": "h d"}, {"b": 2, "s": 3, "h": 4, "d": 17}
    ),
    "heads, one bias": Form(
        standardized, "b s h [d]", {"weight": "h d", "bias": "d"}, {"b": 2, "s": 3, "h": 4, "d": 17}
    ),
    "positions": Form(standardized, "b s [d]", {"weight": "s d", "bias": "b"}, {"b": 3, "s": 5, "d": 33}),
    "crossed": Form(standardized, "n m [d]", {"weight": "n d", "bias": "m d"}, {"n": 3, "m": 5, "d": 33}),
    "feature-batch-feature": Form(
        standardized, "[h] n [d]", {"weight": "h d", "bias": "h"}, {"h": 3, "n": 5, "d": 33}
    ),
    "five axes": Form(
        standardized,
        "[h] n [d] m [k]",
        {"weight": "h d k", "bias": "d"},
        {"h": 3, "n": 2, "d": 5, "m": 3, "k": 4},
    ),
    "batch-feature-batch": Form(
        standardized, "n [h] c", {"weight": "h c", "bias": "n h"}, {"n": 3, "h": 7, "c": 35}
    ),
    "nested, channels last": Form(
        response, "n [h w c]", {"weight": "c", "bias": "c"}, {"n": 3, "h": 4, "w": 5, "c": 33}
    ),
    "nested, channels first": Form(
        response, "n [c h w]", {"weight": "c", "bias": "c"}, {"n": 3, "h": 4, "w": 5, "c": 7}
    ),
    "two kinds": Form(switched, "n [c h w]", {"a": "", "b": ""}, {"n": 3, "h": 4, "w": 5, "c": 7}),
    "two kinds, channels last": Form(
        switched, "n [h w c]", {"a": "", "b": ""}, {"n": 3, "h": 4, "w": 5, "c": 7}
    ),
    "no features": Form(
        inference, "n c h", {"mu": "c", "var": "c", "weight": "c", "bias": "c"}, {"n": 3, "c": 5, "h": 7}
    ),
    "no features, channels last": Form(
        inference, "n h c", {"mu": "c", "var": "c", "weight": "c", "bias": "c"}, {"n": 3, "c": 37, "h": 7}
    ),
    "softmax between": Form(soft, "n [c] h", {}, {"n": 3, "c": 37, "h": 7}),
    "softmax of columns": Form(soft, "[c] h", {}, {"c": 37, "h": 7}),
    "one row": Form(standardized, "[a b]", {"weight": "b", "bias": "a"}, {"a": 3, "b": 37}),
    "one row, one bias": Form(standardized, "[a]", {"weight": "a", "bias": ""}, {"a": 37}),
    "parameters transposed": Form(
        standardized, "n [c d]", {"weight": "d c", "bias": "d n"}, {"n": 3, "c": 4, "d": 5}
    ),
    "elementwise": Form(squashed, "n [d]", {"alpha": "", "weight": "d", "bias": "d"}, {"n": 13, "d": 37}),
    "elementwise, batch": Form(
        squashed, "n c", {"alpha": "n", "weight": "c", "bias": ""}, {"n": 13, "c": 37}
    ),
    "elementwise, one axis": Form(squashed, "...", {"alpha": "", "weight": "", "bias": ""}, {"...": 133}),
    "parameters of rows": Form(standardized, "n [d]", {"weight": "n", "bias": "n d"}, {"n": 5, "d": 37}),
    "statistics of parameters": Form(
        of_parameters, "n m [d]", {"weight": "d", "bias": "d"}, {"n": 2, "m": 3, "d": 37}
    ),
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("limits", [lambda schedule: schedule, small_limits], ids=["heuristic", "small"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FORMS)
def test_emitted_kernels_compute_what_the_equation_says(
    name: str, dtype: str, limits: Callable[[Schedule], Schedule]
) -> None:
    form = FORMS[name]
    compilation = compilation_of(equation(form.pattern, **form.axes)(form.function), form.sizes, dtype)
    joint = gradient(compilation.program)
    arrays = arrays_for(joint.inputs, form.sizes)
    schedule = limits(compilation.schedule)
    got = run_emitted(compilation, arrays, form.sizes, schedule)
    assert_close(got, run_program(joint, arrays, form.sizes), TOLERANCE[dtype])
    cut = run_emitted(compilation, arrays, form.sizes, schedule, lambda units: list(range(units + 1)))
    for output, array in got.items():
        assert cut[output].tobytes() == array.tobytes(), f"{output} depends on the cut"


@pytest.mark.sampled(5)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FORMS)
def test_compiled_kernels_compute_what_the_equation_says(name: str, dtype: str) -> None:
    form = FORMS[name]
    read = equation(form.pattern, **form.axes)(form.function)
    norm = make_norm(read, form.axes)
    program = program_of(read, form.sizes, dtype)
    joint = gradient(program)
    arrays = arrays_for(joint.inputs, form.sizes)
    expected = run_program(joint, arrays, form.sizes)
    signature = norm.lnc_dispatcher.signature  # type: ignore[attr-defined]
    given = [
        arrays[argument].reshape([np.prod([form.sizes[axis] for axis in dim], dtype=int) for dim in dims])
        for argument, dims in zip(signature.arguments, signature.dims, strict=True)
    ]
    split = {axis: form.sizes[axis] for dim in read.pattern.dims if len(dim) > 1 for axis in dim}
    returned, ctx = norm.forward(*given, **split)
    outputs = returned if isinstance(returned, tuple) else (returned,)
    cotangents = [node.name for node in joint.inputs if node.role == "cotangent"]
    entering = tuple(arrays[c].reshape(out.shape) for c, out in zip(cotangents, outputs, strict=True))
    gradients = norm.backward(entering if isinstance(returned, tuple) else entering[0], ctx)
    got = {out.name: array for out, array in zip(program.outputs, outputs, strict=True)}
    got |= {out.name: getattr(gradients, out.of or "") for out in joint.outputs if out.role == "gradient"}
    assert_close(got, expected, TOLERANCE[dtype])


@pytest.mark.parametrize("limits", [lambda schedule: schedule, small_limits], ids=["heuristic", "small"])
@pytest.mark.parametrize("name", FORMS)
def test_every_output_is_made_once_and_every_workspace_before_it_is_read(
    name: str, limits: Callable[[Schedule], Schedule]
) -> None:
    form = FORMS[name]
    compilation = compilation_of(equation(form.pattern, **form.axes)(form.function), form.sizes, "float32")
    for program in (compilation.pair.forward, compilation.pair.backward):
        stages = plan(program, limits(compilation.schedule))
        made: list[str] = []
        for stage in stages:
            read = {node.name for node in stage.program.inputs if node.role == "workspace"}
            assert read <= set(made)
            made += [out.name for out in stage.program.outputs]
            partial = {out.value for out in stage.program.outputs if out.role == "workspace"}
            for node in stage.program.nodes:
                if isinstance(node, Reduce) and node.over != stage.loops.inside:
                    assert node in partial, "a reduction that the stage cannot finish is used in it"
        assert len(made) == len(set(made))
        assert {out.name for out in program.outputs} <= set(made)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("limits", [lambda schedule: schedule, small_limits], ids=["heuristic", "small"])
@pytest.mark.parametrize("size", [None, 1], ids=["sizes", "ones"])
@pytest.mark.parametrize("name", FORMS)
def test_nothing_is_saved_where_nobody_wants_it(
    name: str, size: int | None, limits: Callable[[Schedule], Schedule]
) -> None:
    form = FORMS[name]
    sizes = {axis: size or count for axis, count in form.sizes.items()}
    compilation = compilation_of(equation(form.pattern, **form.axes)(form.function), sizes, "float32")
    lowered = lower(compilation.pair, limits(compilation.schedule), compilation.request)
    arrays = arrays_for(gradient(compilation.program).inputs, sizes)
    phase = lowered.interface.forward
    given = dict(zip((b.name for b in phase.buffers if b.role == "input"), arrays.values(), strict=False))
    kept = run_phase(lowered, phase, given, sizes)
    optional = [buffer.name for buffer in phase.buffers if buffer.optional]
    alone = run_phase(lowered, phase, given, sizes, left_out=optional)
    for output in (buffer.name for buffer in phase.buffers if buffer.role == "output"):
        assert alone[output].tobytes() == kept[output].tobytes()
