"""float16 and bfloat16: conversions bit for bit, kernels against float64, processes that have the types."""

from __future__ import annotations

import ctypes
import itertools
import mmap
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from helpers import arrays_for, compilation_of, equation_of, program_of, run_emitted, run_program

import lncompile as lnc
from lncompile.backends.cpu.target import TARGETS, find, host
from lncompile.dtypes import TABLE, rounded
from lncompile.emit import standins
from lncompile.emit.lower import Function, Lowered
from lncompile.passes.gradient import gradient

pytestmark = pytest.mark.sampled(3)

pytest.importorskip("ml_dtypes")

Array = np.ndarray[Any, np.dtype[Any]]

HALVES = ["float16", "bfloat16"]
DTYPES = list(TABLE)
#: The levels of this machine's kind that it runs, and the others, which it only compiles for.
RUNS = [name for name in TARGETS if TARGETS[name].triple == host().triple]
RUNS = RUNS[: RUNS.index(host().name) + 1]

#: Bits of the fraction.
FRACTION = {"float16": 10, "bfloat16": 7, "float32": 23, "float64": 52}
#: The exponent of the least normal number.
LEAST = {"float16": -14, "bfloat16": -126, "float32": -126, "float64": -1022}


@lnc.norm("... [d]")
def same(x: Any) -> Any:
    """The elements as they are."""
    return x


@lnc.norm("... [d]")
def only(x: Any) -> Any:
    """A row-sized value, which is read and written as a scalar."""
    return lnc.max(x)


@lnc.norm("... [d]", p="d")
def by_way_of_float16(x: Any, p: Any) -> Any:
    """Casts of elements and of a statistic."""
    return lnc.cast(x * p, "float16") + lnc.cast(lnc.mean(x), "float16")


@lnc.norm("... [d]", p="d")
def by_way_of_bfloat16(x: Any, p: Any) -> Any:
    """The same."""
    return lnc.cast(x * p, "bfloat16") + lnc.cast(lnc.mean(x), "bfloat16")


@cache
def compiled(norm: Any, features: int, dtype: str, out_dtype: str, target: str) -> Any:
    return lnc.compile(norm, shape=(1, features), dtype=dtype, out_dtype=out_dtype, target=target)


def patterns(name: str) -> Array:
    """Every number, infinity and NaN of a half type."""
    return np.arange(65536, dtype=np.uint16).view(TABLE[name].numpy)


@cache
def magnitudes(name: str) -> Array:
    """All finite numbers from 0 on, and where infinity stands in rounding, in float64 and ascending."""
    bits = np.arange(0x7C00 if name == "float16" else 0x7F80, dtype=np.uint16)
    finite = bits.view(TABLE[name].numpy).astype(np.float64)
    return np.append(finite, 2 * finite[-1] - finite[-2])


def nearest(values: Array, name: str) -> Array:
    """The bits of the number of a half type that is nearest to float32 or float64 values, by a search.

    Of two, the one with the even bits: infinity's are. NaN is whatever it is.
    """
    exact = values.astype(np.float64)
    size = np.nan_to_num(np.abs(exact), posinf=magnitudes(name)[-1])
    below = np.clip(np.searchsorted(magnitudes(name), size, "right") - 1, 0, len(magnitudes(name)) - 2)
    # Exact: neighbours differ by a power of two, of at least the least subnormal number.
    middle = (magnitudes(name)[below] + magnitudes(name)[below + 1]) / 2
    up = (size > middle) | ((size == middle) & (below % 2 == 1))
    return (below + up).astype(np.uint16) | (np.signbit(exact).astype(np.uint16) << np.uint16(15))


def difficult(name: str, dtype: str) -> Array:
    """Numbers of float32 or float64 on, beside and far from what decides how they round to a half type."""
    numbers = magnitudes(name)
    middles = (numbers[1:] + numbers[:-1]) / 2
    found = [numbers, middles]
    for middle in (numbers, middles):
        with np.errstate(over="ignore"):
            narrow = middle.astype(dtype)
        for towards in (0.0, np.inf):
            found.append(np.nextafter(narrow, np.dtype(dtype).type(towards)))
    if dtype == "float64":
        # Nearer to a tie than float32 can tell, both in its normal and in its subnormal range.
        found += [middles * (1 + sign * 2.0**-power) for sign in (1, -1) for power in (25, 30, 40)]
        found += [np.array([5e-324, 1e-310, 1e-60, 2.0**-150, 3.5e38, 1e39, 1e300])]
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 300_000, np.uint32).view(np.float32)
    span = rng.standard_normal(300_000) * 2.0 ** rng.uniform(-45, 20, 300_000)
    with np.errstate(all="ignore"):
        positive = np.concatenate([part.astype(dtype) for part in (*found, bits, span)])
        positive = np.append(positive, [np.inf, np.nan, 0]).astype(dtype)
    return np.concatenate([positive, -positive])


def assert_rounded(got: Array, values: Array, name: str) -> None:
    nan = np.isnan(values)
    np.testing.assert_array_equal(np.isnan(got.astype(np.float32)), nan)
    quiet = np.uint16(0x0200 if name == "float16" else 0x0040)
    assert (got.view(np.uint16)[nan] & quiet).all()
    np.testing.assert_array_equal(got.view(np.uint16)[~nan], nearest(values[~nan], name))


# ---- conversions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", RUNS)
@pytest.mark.parametrize("name", HALVES)
def test_every_pattern_comes_back(name: str, target: str) -> None:
    x = patterns(name)
    for norm, features in ((same, 64), (same, 1), (only, 1)):
        rows = x.reshape(-1, features)
        y = compiled(norm, features, name, name, target)(rows).reshape(-1)
        assert y.dtype == x.dtype
        nan = np.isnan(x.astype(np.float32))
        np.testing.assert_array_equal(y.view(np.uint16)[~nan], x.view(np.uint16)[~nan])
        assert np.isnan(y.astype(np.float32)[nan]).all()


@pytest.mark.parametrize("out_dtype", ["float32", "float64"])
@pytest.mark.parametrize("target", RUNS)
@pytest.mark.parametrize("name", HALVES)
def test_every_pattern_widens_exactly(name: str, target: str, out_dtype: str) -> None:
    x = patterns(name).reshape(-1, 64)
    y = compiled(same, 64, name, out_dtype, target)(x)
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(y, x.astype(out_dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("target", RUNS)
@pytest.mark.parametrize("name", HALVES)
def test_rounding_is_to_nearest_even_and_once(name: str, target: str, dtype: str) -> None:
    values = difficult(name, dtype)
    padded = np.append(values, np.zeros(-values.size % 64, dtype))
    y = compiled(same, 64, dtype, name, target)(padded.reshape(-1, 64)).reshape(-1)
    assert_rounded(y, padded, name)
    rows = values[:: 1 if target == RUNS[-1] else 10].copy()
    assert_rounded(compiled(only, 1, dtype, name, target)(rows[:, None]), rows, name)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", HALVES)
def test_rounding_in_numpy_is_the_same(name: str, dtype: str) -> None:
    values = difficult(name, dtype)
    assert_rounded(rounded(values, name), values, name)
    target = np.zeros(values.size, TABLE[name].numpy)
    standins.store(standins.Pointer(target), 0, values)
    assert_rounded(target, values, name)


@pytest.mark.parametrize("features", [1, 2, 3, 5, 8, 12, 15, 17, 31, 33, 39])
@pytest.mark.parametrize("target", RUNS)
def test_no_element_outside_a_row_is_touched(target: str, features: int) -> None:
    dtype = TABLE["bfloat16"].numpy
    block = np.full(3 * features + 2, 7, dtype)
    x = np.arange(3 * features).reshape(3, features).astype(dtype)
    out = block[1:-1].reshape(3, features)
    compiled(same, features, "bfloat16", "bfloat16", target)(x, out=out)
    np.testing.assert_array_equal(out, x)
    assert block[0] == block[-1] == 7


PARTIAL = """
from lncompile.emit.standins import as_float32, load_partial, store_partial


def copied(x, y, rows, begin, end):
    for row in range(begin, end):
        values = as_float32(load_partial(x, row * 16, row + 1, 16))
        store_partial(y, row * 16, row + 1, values)
    return 0
"""


@pytest.mark.parametrize("name", HALVES)
@pytest.mark.parametrize("target", RUNS)
def test_parts_of_a_length_that_is_not_known(target: str, name: str, tmp_path: Path) -> None:
    """Row r is r + 1 elements of 16; the last row but its last element ends where memory does."""
    from lncompile.backends.cpu.frontend import raw_ir
    from lncompile.backends.cpu.pipeline import optimise

    functions = (Function("copied", (("x", name), ("y", name)), ("rows",)),)
    lowered = Lowered(PARTIAL, cast(Any, None), functions, cast(Any, None))
    library = optimise([raw_ir(lowered, find(target))], ["copied"], find(target)).library(["copied"], "c.so")
    (tmp_path / "c.so").write_bytes(library)
    page = mmap.PAGESIZE
    memory = mmap.mmap(-1, 2 * page)
    whole = np.frombuffer(memory, np.uint16)
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(whole.ctypes.data + page), page, 0) == 0
    rows = 15
    x = whole[page // 2 - (rows * 16 - 1) : page // 2]
    x[:] = np.arange(1, x.size + 1, dtype=np.float32).astype(TABLE[name].numpy).view(np.uint16)
    y = np.zeros(rows * 16, np.uint16)
    arguments = [ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(y.ctypes.data)]
    sizes = [ctypes.c_int64(size) for size in (rows, 0, rows)]
    assert ctypes.CDLL(str(tmp_path / "c.so")).copied(*arguments, *sizes) == 0
    want = np.append(x, 0).reshape(rows, 16) * np.tri(rows, 16, dtype=np.uint16)
    np.testing.assert_array_equal(y.reshape(rows, 16), want)
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(whole.ctypes.data + page), page, 3) == 0


@pytest.mark.parametrize("name", HALVES)
@pytest.mark.parametrize("target", TARGETS)
def test_libraries_need_nothing(name: str, target: str) -> None:
    """The linker refuses undefined symbols, such as those of LLVM's own conversions."""
    other = HALVES[1 - HALVES.index(name)]
    # Elements are rounded from float32 and, on the careful path, from float64, as gradients of weight are.
    lnc.compile(lnc.rms_norm, shape=(1, 19), dtype={"x": name, "weight": other}, target=target)


# ---- kernels -----------------------------------------------------------------------------------------------


SIZES = {"...": 5, "d": 100}
PAIRS = list(itertools.product(DTYPES, DTYPES))
CASES: list[tuple[Any, dict[str, str]]] = [
    *((lnc.layer_norm, {"x": x, "weight": w, "bias": w}) for x, w in PAIRS),
    *((lnc.rms_norm, {"x": x, "weight": w}) for x, w in PAIRS[::3]),
    *((norm, {"x": x}) for norm in (lnc.softmax, lnc.log_softmax, lnc.l2_norm) for x in HALVES),
    (lnc.add_layer_norm, {"x": "bfloat16", "residual": "float32", "weight": "float16", "bias": "bfloat16"}),
    (lnc.add_rms_norm, {"x": "float16", "residual": "float16", "weight": "float32"}),
    (lnc.add_rms_norm, {"x": "bfloat16", "residual": "bfloat16", "weight": "float64"}),
    (lnc.dyt, {"x": "bfloat16", "alpha": "float32", "weight": "bfloat16", "bias": "float16"}),
]
each_case = pytest.mark.parametrize(
    ("norm", "dtypes"), CASES, ids=[f"{norm.__name__}-{'-'.join(d.values())}" for norm, d in CASES]
)


def bound(want: Array, name: str, compute: str) -> Array:
    """How far a result may be off: a rounding to its dtype, and what arithmetic in ``compute`` adds.

    That is at most some hundred roundings of terms of about the largest element, or of 1. A wrong digit of it
    moves the last rounding by no more than its own size, so both add up.
    """
    _, exponent = np.frexp(np.abs(want))
    spacing = np.ldexp(1.0, np.maximum(exponent - 1, LEAST[name]) - FRACTION[name])
    arithmetic = 100 * 2.0 ** -(FRACTION[compute] + 1) * max(1.0, float(np.abs(want).max()))
    return np.asarray(spacing / 2 + arithmetic)


def check(got: Mapping[str, Any], want: Mapping[str, Array], dtypes: Mapping[str, str], compute: str) -> None:
    for name, exact in want.items():
        assert got[name].dtype == TABLE[dtypes[name]].numpy, name
        error = np.abs(np.reshape(got[name], exact.shape).astype(np.float64) - exact)
        assert (error <= bound(exact, dtypes[name], compute)).all(), (name, error.max())


def worked_out(norm: Any, dtypes: Mapping[str, str], out_dtype: str | None) -> tuple[Any, ...]:
    """The program with its gradients, arrays for it, exact results and the dtypes that they must have."""
    program = gradient(program_of(norm, SIZES, dtypes, out_dtype=out_dtype))
    arrays = arrays_for(program.inputs, SIZES)
    exact = run_program(program, arrays, SIZES)
    return program, arrays, exact, {out.name: out.dtype for out in program.outputs}


@each_case
def test_compiled_kernels(norm: Any, dtypes: dict[str, str]) -> None:
    program, arrays, exact, kinds = worked_out(norm, dtypes, None)
    given = [arrays[argument.name] for argument in equation_of(norm).arguments]
    y, ctx = norm.forward(*given)
    outputs = [out.name for out in program.outputs if out.role == "output"]
    cotangents = [arrays[node.name] for node in program.inputs if node.role == "cotangent"]
    g = norm.backward(tuple(cotangents) if isinstance(y, tuple) else cotangents[0], ctx)
    got = dict(zip(outputs, y if isinstance(y, tuple) else (y,), strict=True))
    got |= {out.name: getattr(g, out.of) for out in program.outputs if out.role == "gradient"}
    assert {kinds[name] for name in outputs} == {dtypes["x"]}
    assert all(kinds[out.name] == dtypes[out.of] for out in program.outputs if out.role == "gradient")
    check(got, exact, kinds, program.compute)


@each_case
def test_emitted_source(norm: Any, dtypes: dict[str, str]) -> None:
    """The same without compiling: what stands for the vector functions in NumPy."""
    program, arrays, exact, kinds = worked_out(norm, dtypes, None)
    check(run_emitted(compilation_of(norm, SIZES, dtypes), arrays, SIZES), exact, kinds, program.compute)


@pytest.mark.parametrize("out_dtype", DTYPES)
@pytest.mark.parametrize("x", DTYPES)
def test_out_dtype(x: str, out_dtype: str) -> None:
    dtypes = {"x": x, "weight": "float16"}
    program, arrays, exact, kinds = worked_out(lnc.rms_norm, dtypes, out_dtype)
    y, ctx = lnc.rms_norm.forward(arrays["x"], arrays["weight"], out_dtype=out_dtype)
    g = lnc.rms_norm.backward(arrays["dy"], ctx)
    assert y.dtype == TABLE[out_dtype].numpy
    check({"y": y, "dx": g.x, "dweight": g.weight}, exact, kinds, program.compute)
    again = np.empty_like(y)
    assert lnc.rms_norm(arrays["x"], arrays["weight"], out_dtype=TABLE[out_dtype].numpy, out=again) is again
    assert again.tobytes() == y.tobytes()


@pytest.mark.parametrize("target", RUNS)
@pytest.mark.parametrize("features", [1, 7, 33, 200])
def test_every_level(target: str, features: int) -> None:
    dtypes = {"x": "bfloat16", "weight": "float16", "bias": "float32"}
    sizes = {"...": 3, "d": features}
    program = gradient(program_of(lnc.layer_norm, sizes, dtypes))
    arrays = arrays_for(program.inputs, sizes)
    exact = run_program(program, arrays, sizes)
    kernel = lnc.compile(lnc.layer_norm, shape=(3, features), dtype=dtypes, target=target)
    y, ctx = kernel.forward(arrays["x"], arrays["weight"], arrays["bias"])
    g = kernel.backward(arrays["dy"], ctx)
    got = {"y": y, "dx": g.x, "dweight": g.weight, "dbias": g.bias}
    check(got, exact, {out.name: out.dtype for out in program.outputs}, program.compute)


@pytest.mark.parametrize("rows", [1, 3000])
@pytest.mark.parametrize("name", HALVES)
def test_gradients_of_parameters_round_once(name: str, rows: int) -> None:
    """Sums of many rows are far larger than their terms; kept in the half type they would stand still."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, 40)).astype(TABLE[name].numpy)
    dy = rng.uniform(0.5, 1, (rows, 40)).astype(TABLE[name].numpy)
    _, ctx = lnc.layer_norm.forward(x, x[0].copy(), x[0].copy())
    g = lnc.layer_norm.backward(dy, ctx)
    want = dy.astype(np.float64).sum(0)
    error = np.abs(g.bias.astype(np.float64) - want)
    assert (error <= bound(want, name, "float32")).all()


@pytest.mark.parametrize("norm", [by_way_of_float16, by_way_of_bfloat16], ids=HALVES)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_casts(norm: Any, dtype: str) -> None:
    rng = np.random.default_rng(0)
    # Products and means of small integers are exact, so that the cast alone rounds, and ties are among them.
    x = rng.integers(-60, 60, (50, 64)).astype(dtype)
    p = rng.integers(-60, 60, 64).astype(dtype)
    name = norm.__name__.removeprefix("by_way_of_")
    wide, scale = x.astype(np.float64), p.astype(np.float64)
    want = rounded(wide * scale, name).astype(np.float64)
    want = want + rounded(wide.mean(-1, keepdims=True), name).astype(np.float64)
    np.testing.assert_array_equal(norm(x, p, out_dtype="float64"), want)


def test_casts_of_numbers_round_once() -> None:
    near_a_tie = 1 + 2.0**-8 + 2.0**-40

    @lnc.norm("... [d]")
    def shifted(x: Any) -> Any:
        return x + lnc.cast(near_a_tie, "bfloat16")

    assert shifted(np.zeros((1, 1)))[0, 0] == 1 + 2.0**-7


# ---- arrays of all kinds -----------------------------------------------------------------------------------


def other_layouts(x: Array) -> dict[str, Array]:
    """The same elements elsewhere."""
    wide = np.zeros((x.shape[0], 2 * x.shape[1]), x.dtype)
    wide[:, ::2] = x
    raw = np.zeros(x.nbytes + 1, np.uint8)
    unaligned = raw[1:].view(x.dtype).reshape(x.shape)
    unaligned[...] = x
    read_only = x.copy()
    read_only.flags.writeable = False
    return {
        "every other element": wide[:, ::2],
        "another order": np.asfortranarray(x),
        "backwards": x[::-1].copy()[::-1],
        "one byte off": unaligned,
        "another byte order": x.astype(x.dtype.newbyteorder()),
        "read-only": read_only,
    }


@pytest.mark.parametrize("layout", other_layouts(np.zeros((1, 1), np.float16)))
@pytest.mark.parametrize("name", HALVES)
def test_layouts(name: str, layout: str) -> None:
    x = np.random.default_rng(0).standard_normal((6, 34)).astype(TABLE[name].numpy)
    w = x[0].copy()
    other = other_layouts(x)[layout]
    want, ctx = lnc.layer_norm.forward(x, w)
    gradients = lnc.layer_norm.backward(x, ctx)
    got, ctx = lnc.layer_norm.forward(other, w)
    assert got.tobytes() == want.tobytes()
    assert got.dtype == TABLE[name].numpy
    assert lnc.layer_norm.backward(other, ctx).x.tobytes() == gradients.x.tobytes()
    if layout != "read-only":
        target = np.zeros_like(other) if layout == "another byte order" else other_layouts(0 * x)[layout]
        assert lnc.layer_norm(x, w, out=target) is target
        assert target.astype(x.dtype).tobytes() == want.tobytes()
        assert lnc.layer_norm(other, w, out=other) is other
        assert other.astype(x.dtype).tobytes() == want.tobytes()


@pytest.mark.parametrize("name", HALVES)
def test_no_rows_and_no_features(name: str) -> None:
    dtype = TABLE[name].numpy
    assert lnc.rms_norm(np.zeros((0, 8), dtype)).shape == (0, 8)
    y, ctx = lnc.rms_norm.forward(np.zeros((3, 0), dtype))
    assert (y.shape, y.dtype) == ((3, 0), dtype)
    assert lnc.rms_norm.backward(y, ctx).x.dtype == dtype


@pytest.mark.parametrize("name", HALVES)
def test_scalars_and_wrong_dtypes(name: str) -> None:
    dtype = TABLE[name].numpy
    x = np.ones((2, 4), dtype)
    assert lnc.dyt(x, dtype.type(0.5)).dtype == dtype
    for given in (x.view(np.uint16), x.view(np.int16), np.ones((2, 4), bool)):
        with pytest.raises(TypeError, match=r"x: .*float16, bfloat16, float32 or float64; got"):
            lnc.rms_norm(given)
    with pytest.raises(lnc.LncError, match=f"out: expected dtype {name}"):
        lnc.rms_norm(x, out=x.view(np.uint16))
    other = TABLE[HALVES[1 - HALVES.index(name)]].numpy
    with pytest.raises(lnc.LncError, match=f"out: expected dtype {name}"):
        lnc.rms_norm(x, out=x.view(other))
    with pytest.raises(lnc.LncError, match="float16, bfloat16, float32, float64"):
        lnc.rms_norm(x, out_dtype="half a float")


@pytest.mark.parametrize("name", HALVES)
def test_names_of_dtypes(name: str) -> None:
    x = np.ones((2, 4), np.float32)
    for given in (name, TABLE[name].numpy, TABLE[name].numpy.type):
        assert lnc.rms_norm(x, out_dtype=given).dtype == TABLE[name].numpy
        assert lnc.compile(lnc.softmax, shape=(1, 4), dtype=given)(x.astype(given)).dtype == TABLE[name].numpy


# ---- processes ---------------------------------------------------------------------------------------------


def run_process(program: str, cache: Path) -> str:
    result = subprocess.run(
        [sys.executable, "-c", f"import sys\nimport numpy as np\n{program}"],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"LNCOMPILE_CACHE_DIR": str(cache)},
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


#: Types of other packages get their numbers in the order in which a process registers them.
ANOTHER_TYPE_FIRST = "import numpy._core._rational_tests\n"

CALL = """
y, ctx = lnc.layer_norm.forward(x, x[0].copy(), x[0].copy())
g = lnc.layer_norm.backward(y, ctx)
again = np.empty_like(y)
assert lnc.layer_norm(x, x[0].copy(), x[0].copy(), out=again) is again
kernel = lnc.layer_norm.lnc_dispatcher.kernel
assert kernel.entry(x, x[0].copy(), x[0].copy(), again) is None, 'the native entry refuses'
assert y.dtype == g.x.dtype == g.weight.dtype == again.dtype == x.dtype
import hashlib
print(hashlib.sha256(y.tobytes() + g.x.tobytes() + g.weight.tobytes()).hexdigest())
print(x.dtype.num)
"""
MAKE = "x = np.random.default_rng(0).normal(size=(4, 24)).astype(ml_dtypes.bfloat16)\n"


def test_a_cached_library_serves_processes_that_number_the_type_otherwise(tmp_path: Path) -> None:
    orders = {
        "before": f"import ml_dtypes\nimport lncompile as lnc\n{MAKE}{CALL}",
        "after": f"import lncompile as lnc\nlnc.rms_norm(np.ones((2, 3)))\nimport ml_dtypes\n{MAKE}{CALL}",
        "behind another": f"{ANOTHER_TYPE_FIRST}import lncompile as lnc\nimport ml_dtypes\n{MAKE}{CALL}",
    }
    results = {name: run_process(program, tmp_path).split() for name, program in orders.items()}
    assert len({bits for bits, _ in results.values()}) == 1
    assert results["before"][1] != results["behind another"][1], "the numbers of the type do not differ"
    assert run_process(orders["after"] + "assert 'numba' not in sys.modules", tmp_path)


@pytest.mark.parametrize("name", ["float16", "float32"])
def test_nobody_needs_the_package_for_other_types(name: str, tmp_path: Path) -> None:
    program = f"""
sys.modules['ml_dtypes'] = None
import lncompile as lnc
x = np.ones((2, 8), np.{name})
y, ctx = lnc.rms_norm.forward(x, x[0].copy())
lnc.rms_norm.backward(y, ctx)
for wrong in (lambda: lnc.rms_norm(x, out_dtype='bfloat16'),
              lambda: lnc.compile(lnc.rms_norm, shape=(2, 8), dtype='bfloat16')):
    try:
        wrong()
    except lnc.LncError as error:
        assert 'dtype: bfloat16 needs the package ml_dtypes' in str(error), error
    else:
        raise AssertionError
try:
    lnc.rms_norm(x.astype(int))
except lnc.LncError as error:
    print(error)
"""
    assert "float16, bfloat16, float32 or float64" in run_process(program, tmp_path)


def test_the_package_is_imported_when_it_is_asked_for(tmp_path: Path) -> None:
    program = """
import lncompile as lnc
x = np.ones((2, 8), np.float16)
lnc.rms_norm(x)
assert 'ml_dtypes' not in sys.modules
y = lnc.rms_norm(x, out_dtype='bfloat16')
print(y.dtype, float(y.sum()))
"""
    assert run_process(program, tmp_path) == "bfloat16 16.0"


def test_ctypes_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where entry points cannot read the process' objects, the same checks are made in Python."""
    from lncompile.backends.cpu import runtime

    x = np.random.default_rng(0).standard_normal((4, 24)).astype(TABLE["bfloat16"].numpy)
    want = lnc.softmax(x)
    monkeypatch.setattr(runtime, "self_test", lambda: False)
    kernel = lnc.compile(lnc.softmax, shape=(4, 24), dtype="bfloat16")
    assert kernel(x).tobytes() == want.tobytes()
