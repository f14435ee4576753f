"""Emitted source, run un-jitted on NumPy stand-ins, against the interpreter; its text; its names."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import fields, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from equations import ROWS
from helpers import (
    Arrays,
    Sizes,
    arrays_for,
    assert_close,
    compilation_of,
    equation,
    run_emitted,
    run_pair,
    run_phase,
    run_program,
)

import lncompile as lnc
from lncompile.backends.cpu.calls import evaluated, workspace_expression
from lncompile.compiler import Compilation
from lncompile.passes.gradient import gradient
from lncompile.schedule.cpu import Schedule

#: Features: one, fewer than a vector, a vector, one more than some vectors, some vectors, a ragged rest.
FEATURES = [1, 2, 7, 8, 33, 64, 100]

#: Roundings add up along sums and products: a few dozen of them, of terms some ten times the result.
TOLERANCE = {"float32": 2e-4, "float64": 1e-12}


def sizes_of(features: int, rows: int = 3) -> Sizes:
    return {"...": rows, "n": rows, "d": features, "h": 1 if features % 2 else 2, "w": features // 2 or 1}


def inputs_of(compilation: Compilation, sizes: Sizes) -> Arrays:
    """Arrays for the arguments and for what flows back into the outputs."""
    return arrays_for(gradient(compilation.program).inputs, sizes)


def schedules(compilation: Compilation) -> list[Schedule]:
    """Schedules of which all vectors have one length, and every row is a block."""
    heuristic = compilation.schedule
    features = compilation.pair.forward.count(compilation.pair.forward.features)
    made = []
    for lanes in (1, 2, 8, 64):
        widths = dict.fromkeys((f.name for f in fields(heuristic) if f.name.endswith("_lanes")), lanes)
        widths["pivot_lanes"] = min(lanes, 1 << features.bit_length() - 1)
        made.append(replace(heuristic, block_rows=1, **widths))
    return made


def checked(compilation: Compilation, schedule: Schedule, sizes: Sizes, tolerance: float) -> None:
    """The emitted forward and backward against the interpreter on the program before any simplification."""
    arrays = inputs_of(compilation, sizes)
    expected = run_program(gradient(compilation.program), arrays, sizes)
    assert_close(run_emitted(compilation, arrays, sizes, schedule), expected, tolerance)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("norm", ROWS, ids=lambda norm: norm.__name__)
def test_kernels_compute_what_the_equation_says(norm: Any, features: int, dtype: str) -> None:
    sizes = sizes_of(features)
    compilation = compilation_of(norm, sizes, dtype)
    checked(compilation, replace(compilation.schedule, block_rows=2), sizes, TOLERANCE[dtype])


@pytest.mark.sampled(2)
@pytest.mark.parametrize("features", [1, 7, 64, 100])
@pytest.mark.parametrize("norm", ROWS, ids=lambda norm: norm.__name__)
def test_every_schedule_computes_the_same(norm: Any, features: int) -> None:
    sizes = sizes_of(features)
    compilation = compilation_of(norm, sizes)
    for schedule in schedules(compilation):
        checked(compilation, schedule, sizes, TOLERANCE["float64"])


@pytest.mark.parametrize("rows", [0, 1, 2, 5, 6, 11, 12, 40])
def test_blocks_that_grow_with_the_rows_leave_no_row_out(rows: int) -> None:
    sizes = sizes_of(9, rows)
    compilation = compilation_of(lnc.layer_norm, sizes, "float64")
    # Blocks have 2 rows below 6 of them, 4 from there on, 6 from 12 on, 16 of 40.
    schedule = replace(compilation.schedule, block_rows=2, most_block_rows=400)
    checked(compilation, schedule, sizes, TOLERANCE["float64"])


@pytest.mark.parametrize("features", [512, 2048, 8192, 1 << 17])
def test_a_float32_sum_over_rows_has_few_terms_however_many_rows_there_are(features: int) -> None:
    compilation = compilation_of(lnc.layer_norm, sizes_of(features), "float32")
    backward = compilation.lowered.interface.backward
    least = compilation.schedule.block_rows
    for rows in (1, 7, 64, 100, 1024, 5000, 10**6, 10**9):
        blocks = evaluated(backward.calls[0].units, {"rows": rows})
        assert -(-rows // 64) <= blocks <= -(-rows // least)
        workspace = next(buffer for buffer in backward.buffers if buffer.role == "workspace")
        assert evaluated(workspace_expression(workspace), {"rows": rows}) == blocks * features


@pytest.mark.parametrize("left_out", [("weight",), ("bias",), ("weight", "bias")])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_arguments_left_out(dtype: str, left_out: tuple[str, ...]) -> None:
    sizes = sizes_of(33)
    compilation = compilation_of(lnc.layer_norm, sizes, dtype, left_out=left_out)
    checked(compilation, compilation.schedule, sizes, TOLERANCE[dtype])


@pytest.mark.parametrize(
    "dtypes",
    [
        {"x": "float32", "weight": "float64", "bias": "float32"},
        {"x": "float64", "weight": "float32", "bias": "float32"},
    ],
    ids=lambda dtypes: "-".join(dtypes.values()),
)
@pytest.mark.parametrize("out_dtype", [None, "float32", "float64"])
def test_every_argument_has_its_own_dtype(dtypes: dict[str, str], out_dtype: str | None) -> None:
    sizes = sizes_of(33)
    compilation = compilation_of(lnc.layer_norm, sizes, dtypes, out_dtype=out_dtype)
    checked(compilation, compilation.schedule, sizes, TOLERANCE["float32"])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("norm", ROWS, ids=lambda norm: norm.__name__)
def test_any_cut_of_the_work_gives_the_same_bits(norm: Any, dtype: str) -> None:
    sizes = sizes_of(33, rows=7)
    compilation = compilation_of(norm, sizes, dtype)
    arrays = inputs_of(compilation, sizes)
    schedule = replace(compilation.schedule, block_rows=2)
    whole = run_emitted(compilation, arrays, sizes, schedule)
    for cut in (lambda units: list(range(units + 1)), lambda units: sorted({0, 1, units // 2, units})):
        parts = run_emitted(compilation, arrays, sizes, schedule, cut)
        for name, array in whole.items():
            assert parts[name].tobytes() == array.tobytes(), name


@pytest.mark.parametrize("norm", ROWS, ids=lambda norm: norm.__name__)
def test_a_row_does_not_depend_on_the_other_rows(norm: Any) -> None:
    """NaN in one row stays there, and every other row has the bits that it has alone."""
    sizes, alone = sizes_of(33, rows=4), sizes_of(33, rows=1)
    compilation = compilation_of(norm, sizes, "float32")
    by_row = {"n", "..."}
    dims = {node.name: node.dims for node in gradient(compilation.program).inputs}
    arrays = inputs_of(compilation, sizes)
    arrays["x"][2].flat[5] = np.nan
    outputs = [output.name for output in gradient(compilation.program).outputs if by_row & set(output.dims)]
    together = run_emitted(compilation, arrays, sizes)
    assert any(np.isnan(together[name][2]).any() for name in outputs)
    for row in (0, 1, 3):
        one = {
            name: array[row : row + 1] if by_row & set(dims[name]) else array
            for name, array in arrays.items()
        }
        single = run_emitted(compilation, one, alone)
        for name in outputs:
            assert together[name][row].tobytes() == single[name].tobytes(), name


@pytest.mark.parametrize("features", [7, 64, 600])
@pytest.mark.parametrize("norm", [lnc.layer_norm, lnc.norms.softmax, lnc.batch_norm, lnc.instance_norm])
def test_each_statistic_is_saved_alone_where_only_it_is_wanted(norm: Any, features: int) -> None:
    sizes = sizes_of(features, rows=9) | {"c": 3}
    compilation = compilation_of(norm, sizes, "float32")
    lowered, arrays = compilation.lowered, inputs_of(compilation, sizes)
    forward = lowered.interface.forward
    saved = [buffer.name for buffer in forward.buffers if buffer.optional]
    assert len(saved) > 1
    whole = run_phase(lowered, forward, arrays, sizes)
    for count in range(1, len(saved) + 1):
        for left_out in combinations(saved, count):
            found = run_phase(lowered, forward, arrays, sizes, left_out=left_out)
            assert found.keys() == whole.keys() - {*left_out}
            for name, array in found.items():
                assert array.tobytes() == whole[name].tobytes(), name


@pytest.mark.parametrize("rows", [0, 1])
@pytest.mark.parametrize("norm", ROWS, ids=lambda norm: norm.__name__)
def test_no_rows_and_one_row(norm: Any, rows: int) -> None:
    sizes = sizes_of(7, rows)
    compilation = compilation_of(norm, sizes)
    checked(compilation, compilation.schedule, sizes, TOLERANCE["float64"])


class TestHardRows:
    """Rows in float32 on which a plain computation in float32 loses the result."""

    def forward(self, norm: Any, x: np.ndarray[Any, Any], **more: Any) -> Any:
        sizes = {"...": x.shape[0], "n": x.shape[0], "d": x.shape[1]}
        lowered = compilation_of(norm, sizes, "float32").lowered
        return run_phase(lowered, lowered.interface.forward, {"x": x, **more}, sizes)["y"]

    def parameters(self, features: int) -> Arrays:
        return {"weight": np.ones(features, np.float32), "bias": np.full(features, 0.5, np.float32)}

    def test_a_constant_row_is_the_bias_alone(self) -> None:
        x = np.full((2, 33), 12345.678, np.float32)
        np.testing.assert_array_equal(self.forward(lnc.layer_norm, x, **self.parameters(33)), 0.5)

    @pytest.mark.parametrize("features", [33, 64, 100])
    @pytest.mark.parametrize("mean", [1e3, 1e6])
    def test_a_mean_far_from_zero(self, mean: float, features: int) -> None:
        """Up to a million deviations: x has three digits left, and the result all of float32's for that x."""
        x = (np.random.default_rng(0).standard_normal((3, features)) + mean).astype(np.float32)
        wide = x.astype(np.float64)
        centred = wide - wide.mean(-1, keepdims=True)
        expected = centred / np.sqrt(np.square(centred).mean(-1, keepdims=True) + 1e-5) + 0.5
        # Results of size 4 that are rounded three times: three ulp of 4.
        np.testing.assert_allclose(
            self.forward(lnc.layer_norm, x, **self.parameters(features)),
            expected,
            rtol=0,
            atol=3 * 4 * 1.2e-7,
        )

    @pytest.mark.parametrize("position", [0, 5, 32])
    @pytest.mark.parametrize("outlier", [1e6, 1e20, -3e38])
    def test_an_outlier(self, outlier: float, position: int) -> None:
        """Wherever it stands: also among the elements that the pivot comes from."""
        x = np.random.default_rng(0).standard_normal((2, 33)).astype(np.float32)
        x[1, position] = outlier
        wide = x.astype(np.float64)
        centred = wide - wide.mean(-1, keepdims=True)
        expected = centred / np.sqrt(np.square(centred).mean(-1, keepdims=True) + 1e-5) + 0.5
        got = self.forward(lnc.layer_norm, x, **self.parameters(33))
        np.testing.assert_allclose(got, expected, rtol=0, atol=4 * 6 * 1.2e-7)

    @pytest.mark.parametrize("scale", [3e38, 1e30, 1e-30, 1e-44])
    def test_squares_that_leave_the_range_of_float32(self, scale: float) -> None:
        x = (np.random.default_rng(0).uniform(-1, 1, (2, 33)) * scale).astype(np.float32)
        wide = x.astype(np.float64)
        expected = wide / np.sqrt(np.square(wide).mean(-1, keepdims=True) + 1e-5)
        got = self.forward(lnc.rms_norm, x, weight=np.ones(33, np.float32))
        # Relative to the row's largest element: below the smallest normal float32 there are fewer digits.
        np.testing.assert_allclose(got, expected, rtol=0, atol=4e-7 * np.abs(expected).max() + 1.5e-45)


NAMES = [
    ("row", "i", "load"),
    ("x_row", "x_i", "x_lanes"),
    ("begin", "end", "rows"),
    ("x_at", "sums", "block"),
    ("n_size", "d_block", "block_sums"),
    ("t1", "t2", "t3"),
    ("dx", "dy", "y"),
    ("p_saved", "y_out", "t1_sum"),
    ("rsqrt", "fma", "where"),
    ("range", "min", "float"),
    ("INFINITY", "NAN", "ordinary"),
    ("mean", "mean_high", "x_shift"),
    ("x_sums", "x_pivot", "x_squares"),
    ("x_offset", "x_first", "x_spread"),
    ("keep", "count", "tile"),
    ("x_wide", "x_f32", "x_value"),
    ("gewicht_ß", "μ", "ﬁ"),
    ("self", "_", "__"),
]


@pytest.mark.sampled(5)
@pytest.mark.parametrize("names", NAMES, ids="-".join)
@pytest.mark.parametrize("x", ["x", "row", "y"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_arguments_may_have_names_that_kernels_use(names: tuple[str, ...], x: str, dtype: str) -> None:
    """The same equation under other names computes the same."""
    if x in names:
        pytest.skip("one name twice")
    p, q, s = names
    namespace: dict[str, Any] = {"lnc": lnc}
    text = """
def {name}({x}, {p}, {q}, {s}):
    centred = {x} - lnc.mean({x})
    scaled = centred * lnc.rsqrt(lnc.mean(lnc.square(centred)) + 1.0)
    return scaled * {p} + {q} * lnc.max({x} * {p}) - {s} * lnc.sum({p})
"""
    text = text.format(name="plain", x="x", p="p", q="q", s="s") + text.format(
        name="renamed", x=x, p=p, q=q, s=s
    )
    exec(compile(text, "<names>", "exec"), namespace)
    sizes: Sizes = {"n": 3, "d": 7}
    results = []
    for function in (namespace["plain"], namespace["renamed"]):
        # The names as Python reads them: identifiers are normalized.
        parameters = function.__code__.co_varnames[1 : function.__code__.co_argcount]
        norm = equation("n [d]", **dict(zip(parameters, ("d", "n", ""), strict=True)))(function)
        compilation = compilation_of(norm, sizes, dtype)
        arrays = inputs_of(compilation, sizes)
        schedule = replace(compilation.schedule, block_rows=2)
        results.append(run_emitted(compilation, arrays, sizes, schedule).values())
    for plain, renamed in zip(*results, strict=True):
        np.testing.assert_array_equal(renamed, plain)


_STAGES_PROGRAM = """
import sys
sys.path.insert(0, {tests!r})
from equations import ROWS
from helpers import compilation_of
for norm in ROWS:
    sizes = {{"...": 3, "n": 3, "d": 33, "h": 2, "w": 5}}
    stages = compilation_of(norm, sizes, "float32").stages()
    for name in ("ir", "grad", "schedule", "source"):
        print(name, stages[name]())
"""


def test_text_is_the_same_in_every_process() -> None:
    program = _STAGES_PROGRAM.format(tests=str(Path(__file__).parent))
    texts = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(texts) == 1


@pytest.mark.parametrize("norm", ROWS, ids=lambda norm: norm.__name__)
def test_text_does_not_depend_on_what_was_compiled_before(norm: Any) -> None:
    first, second = (compilation_of(norm, sizes_of(33), "float32").lowered.source for _ in range(2))
    assert first == second


def test_emitted_source_passes_the_linter(tmp_path: Path) -> None:
    """Under the settings of this project."""
    for norm in ROWS:
        for features in (1, 7, 64, 100):
            for dtype in ("float32", "float64"):
                source = compilation_of(norm, sizes_of(features), dtype).lowered.source
                (tmp_path / f"{norm.__name__}_{features}_{dtype}.py").write_text(source, encoding="utf-8")
    config = Path(__file__).resolve().parent.parent / "pyproject.toml"
    result = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "--config", str(config), str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[:4000]


def test_every_line_stands_under_the_value_that_it_computes() -> None:
    """Under names of the equation's own variables, where it has any."""
    source = compilation_of(lnc.layer_norm, sizes_of(64), "float32").lowered.source
    assert re.search(r"# var = variance\[d\]\(x\)\n +var = ", source)
    assert re.search(r"# (rstd\w*) = rsqrt\(\w+\)\n +\1 = rsqrt\(\w+\)", source)


def test_the_header_names_the_norm_and_its_sizes() -> None:
    source = compilation_of(lnc.layer_norm, sizes_of(64), "float32").lowered.source
    assert source.startswith('"""layer_norm: ... [d], d=64')


def test_the_pair_agrees_on_the_interpreter() -> None:
    """The oracle of this file is itself checked: the compilation's own programs give the same."""
    for norm in ROWS:
        sizes = sizes_of(6)
        compilation = compilation_of(norm, sizes)
        arrays = inputs_of(compilation, sizes)
        assert_close(
            run_pair(compilation.pair, arrays, sizes),
            run_program(gradient(compilation.program), arrays, sizes),
            TOLERANCE["float64"],
        )
