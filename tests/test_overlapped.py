"""Rows that overlap: which do, and that all bits are those of rows one after another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers import arrays_for, compilation_of, fresh, run_emitted

import lncompile as lnc
from lncompile import compiler
from lncompile.emit.lower import lower
from lncompile.norms import softmax
from lncompile.schedule.cpu import Schedule, heuristic

#: No row is so long.
NEVER = 1 << 40


@lnc.norm("... [d]", weight="d")
def max_norm(x: Any, weight: Any = 1.0) -> Any:
    """A maximum instead of a sum, and a sum of what two arrays make."""
    return x * weight * lnc.rsqrt(1.0 + lnc.max(lnc.abs(x))) + lnc.sum(x * weight)


@lnc.norm("b ... [d]", shift="b d", rate="b")
def shifted(x: Any, shift: Any, rate: Any) -> Any:
    """Statistics of what a row has of its own in two arrays, and of a number of its own."""
    z = x * lnc.square(rate) + shift
    return (z - lnc.mean(z)) * lnc.rsqrt(lnc.mean(lnc.square(z)) + 1e-5)


EQUATIONS: dict[str, tuple[Any, dict[str, int]]] = {
    "layer_norm": (lnc.layer_norm, {"...": 5}),
    "rms_norm": (lnc.rms_norm, {"...": 5}),
    "add_layer_norm": (lnc.add_layer_norm, {"...": 5}),
    "ada_layer_norm": (lnc.ada_layer_norm, {"b": 2, "...": 3}),
    "max_norm": (max_norm, {"...": 5}),
    "shifted": (shifted, {"b": 3, "...": 2}),
    "instance_norm": (lnc.instance_norm.over("n c [d]"), {"n": 2, "c": 3}),
    "batch_norm": (lnc.batch_norm.over("[n] c [d]"), {"n": 3, "c": 3}),
    "group_norm": (lnc.group_norm.over("n (g [c]) [d]"), {"n": 2, "g": 2, "c": 3}),
}


def source_of(norm: Any, sizes: dict[str, int]) -> str:
    compilation = compilation_of(norm, sizes, "float32")
    return lower(compilation.pair, compilation.schedule, compilation.request).source


def test_which_rows_overlap() -> None:
    """Rows with one loop of sums that are long enough."""
    for norm, sizes in EQUATIONS.values():
        assert "_next" in source_of(norm, sizes | {"d": 300})
        assert "_next" not in source_of(norm, sizes | {"d": 64}), "they are together"
    assert "_next" not in source_of(softmax, {"...": 4, "d": 300}), "two loops of sums"
    assert "_next" not in source_of(lnc.layer_norm.over("[d]"), {"d": 300}), "one row"


@pytest.mark.sampled(2)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("features", [1, 8, 9, 40, 70])
@pytest.mark.parametrize("name", EQUATIONS)
def test_overlapping_rows_have_the_bits_of_rows_one_after_another(
    name: str, features: int, dtype: str
) -> None:
    """Fewer elements than a vector, some vectors, a ragged rest, and more vectors than a lane adds up."""
    norm, sizes = EQUATIONS[name]
    sizes = sizes | {"d": features}
    compilation = compilation_of(norm, sizes, dtype)
    few = {"together_elements": 0, "short_row": 0, "short_summing_row": 0, "block_rows": 2}
    few |= {
        "statistics_lanes": 8,
        "element_lanes": 4,
        "held_lanes": 16,
        "steps_to_total": 3,
        "stream_from": 0,
    }
    schedule = replace(compilation.schedule, shortest_vector=1, pivot_lanes=1, **few)
    inputs = (*compilation.program.inputs, *compilation.pair.backward.inputs)
    arrays = arrays_for(tuple(node for node in inputs if node.role in ("input", "cotangent")), sizes)
    expected = run_emitted(compilation, arrays, sizes, replace(schedule, overlap_from=NEVER))
    for stream_from in (0, 1):
        found = run_emitted(compilation, arrays, sizes, replace(schedule, stream_from=stream_from))
        assert found.keys() == expected.keys()
        for output, value in found.items():
            assert np.array_equal(value, expected[output], equal_nan=True), (output, stream_from)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("features", [300, 1024, 1100])
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_whatever_the_alignment_and_the_number_of_rows(
    features: int, dtype: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """Compiled, results past the caches and through them, a row in the middle that float32 does not hold."""
    rng = np.random.default_rng(0)
    x = rng.normal(3.0, 2.0, (9, features)).astype(dtype)
    dy = rng.normal(size=x.shape).astype(dtype)
    x[4] = np.inf if dtype == "float16" else 1e30
    weight, bias = rng.normal(size=(2, features)).astype(dtype)

    def results(rows: int, offset: int, **changes: int) -> list[bytes]:
        def scheduled(program: Any, *machine: int) -> Schedule:
            return replace(heuristic(program, *machine), block_rows=4, most_block_rows=4, **changes)

        monkeypatch.setattr(compiler, "heuristic", scheduled)
        monkeypatch.setenv("LNCOMPILE_CACHE_DIR", str(tmp_path / repr(sorted(changes.items()))))
        norm = fresh(lnc.layer_norm)
        size = rows * features
        y, dx = (np.zeros(size + 64, dtype)[offset : offset + size].reshape(rows, features) for _ in "12")
        _, ctx = norm.forward(x[:rows], weight, bias, out=y)
        gradients = norm.backward(dy[:rows], ctx)
        norm.backward(dy[:rows], ctx, out=gradients._replace(x=dx))
        return [array.tobytes() for array in (y, dx, *gradients)]

    for rows in (1, 2, 9):
        expected = results(rows, 0, overlap_from=NEVER)
        for offset in (0, 1, 7, 15):
            assert results(rows, offset) == expected, (rows, offset)
            assert results(rows, offset, stream_from=1) == expected, (rows, offset, "streamed")
