"""What entry points accept, what they refuse, and what they compute; natively and through ctypes alike."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import tiny_phases
from tiny_phases import ROWS, SCALES, SUMS

from lncompile.backends.cpu import calls, entry, runtime
from lncompile.backends.cpu.calls import PhaseRunner
from lncompile.errors import CompilerBug
from lncompile.interface import Buffer, Call, Phase, Size

Arrays = dict[str, Any]
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return tiny_phases.build(tmp_path_factory.mktemp("library"), ROWS, SUMS, SCALES)


@pytest.fixture(params=["native", "ctypes"])
def load(request: pytest.FixtureRequest, library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes runners of phases: with their entry points, and as where the self-test fails."""
    if request.param == "ctypes":
        monkeypatch.setattr(runtime, "self_test", lambda: False)
    return lambda phase: PhaseRunner(library, phase)


def f32(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.standard_normal(shape).astype(np.float32)


def rows_arrays(*batch: int) -> Arrays:
    return {
        "x": f32(*batch, 64),
        "weight": f32(64),
        "bias": f32(64),
        "y": np.full((*batch, 64), -1, np.float32),
        "mean": np.full(batch, -1, np.float32),
        "share": np.full(batch, -1, np.float32),
    }


def sums_arrays(*batch: int) -> Arrays:
    rows = int(np.prod(batch))
    return {
        "dy": f32(*batch, 8),
        "x": f32(*batch, 8),
        "dx": np.full((*batch, 8), -1, np.float32),
        "dw": np.full(8, -1, np.float32),
        "partial": np.full((rows + 3) // 4 * 4 * 8, -1, np.float32),
    }


def scales_arrays(b: int, *group: int, n: int) -> Arrays:
    return {
        "room": np.full(2 * b, -1, np.float32),
        "scale": f32(b, 4),
        "x": f32(b, *group, n, 4),
        "y": np.full((b, *group, n, 4), -1, np.float32),
        "last": np.full((n, *group), -1, np.float32),
    }


def doubled(a: Arrays) -> np.ndarray[Any, Any]:
    return (a["x"] * np.float32(2) + a["weight"]) + a["bias"]


@pytest.mark.parametrize("batch", [(), (1,), (7,), (0,), (2, 3), (2, 0, 3), (2, 1, 3), (2, 3, 2, 2)])
def test_rows_over_any_number_of_batch_dimensions(load: Any, batch: tuple[int, ...]) -> None:
    a = rows_arrays(*batch)
    assert load(ROWS).entry(*a.values()) is None
    np.testing.assert_array_equal(a["y"], doubled(a))
    np.testing.assert_array_equal(a["mean"], a["x"][..., -1])
    assert (a["share"] == 0).all()


@pytest.mark.parametrize("batch", [(1,), (4,), (9,), (2, 3), (3, 1, 5), (2, 0)])
def test_two_calls_share_a_workspace(load: Any, batch: tuple[int, ...]) -> None:
    a = sums_arrays(*batch)
    assert load(SUMS).entry(*a.values()) is None
    products = a["dy"] * a["x"]
    np.testing.assert_array_equal(a["dx"], products)
    if products.size:
        total = np.add.accumulate(products.reshape(-1, 8)[:, 0], dtype=np.float32)[-1]
        assert a["dw"][0] == total


@pytest.mark.parametrize("group", [(), (5,), (2, 3), (2, 1, 2)])
@pytest.mark.parametrize("absent", [(), ("scale",), ("last", "room"), ("scale", "last", "room")])
def test_optional_arrays_and_axes_around_the_group(
    load: Any, group: tuple[int, ...], absent: tuple[str, ...]
) -> None:
    a = scales_arrays(3, *group, n=2)
    a |= dict.fromkeys(absent)
    assert load(SCALES).entry(*a.values()) is None
    wide = (3, *[1] * (len(group) + 1), 4)
    added = a["x"] if a["scale"] is None else a["scale"].reshape(wide)
    np.testing.assert_array_equal(a["y"], a["x"] + added)


def test_sizes_of_a_group_must_agree_one_by_one(load: Any) -> None:
    a = scales_arrays(3, 2, 5, n=2)
    a["last"] = np.full((2, 5, 2), -1, np.float32)
    refused(load(SCALES), a)
    a["last"] = np.full((2, 10), -1, np.float32)
    refused(load(SCALES), a)
    a["last"] = np.full((2, 2, 5, 1), -1, np.float32)
    refused(load(SCALES), a)
    # What stands after the shorter group is n = 1: as if its sizes went on like those of the longer one.
    a = scales_arrays(3, 5, n=1)
    a["last"] = np.full((1, 5, 1), -1, np.float32)
    refused(load(SCALES), a)


def refused(runner: PhaseRunner, a: Arrays | list[Any]) -> None:
    """Assert that the entry point says so and has written nothing."""
    arrays = list(a.values()) if isinstance(a, dict) else a
    before = [
        array.tobytes() for array in arrays if isinstance(array, np.ndarray) and not array.dtype.hasobject
    ]
    assert runner.entry(*arrays) is NotImplemented
    after = [
        array.tobytes() for array in arrays if isinstance(array, np.ndarray) and not array.dtype.hasobject
    ]
    assert before == after


def misaligned(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    raw = np.zeros(array.nbytes + 8, np.uint8)
    start = 1 + (-raw.ctypes.data) % 4
    view = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    assert not view.flags.aligned
    return view


def readonly(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    array = array.copy()
    array.flags.writeable = False
    return array


def cast_to(code: Any, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.zeros(array.shape, code)


OTHER_DTYPES = [*"egdFDiIqQ?bBO", "S4", "U1", "V4", "M8[s]", "f4,f4", [("a", "f4")]]

WRONG: dict[str, Callable[[np.ndarray[Any, Any]], object]] = {
    "list": lambda x: x.tolist(),
    "none": lambda x: None,
    "int": lambda x: 3,
    "string": lambda x: "array",
    "type": lambda x: np.ndarray,
    "scalar": lambda x: np.float32(1),
    "dtype object": lambda x: x.dtype,
    "masked": np.ma.masked_array,
    "subclass": lambda x: x.view(type("Mine", (np.ndarray,), {})),
    "0-d": lambda x: np.zeros((), np.float32),
    "fewer dims": lambda x: x.reshape(-1),
    "more features": lambda x: np.zeros((*x.shape[:-1], 65), np.float32),
    "fewer features": lambda x: np.zeros((*x.shape[:-1], 63), np.float32),
    "no features": lambda x: np.zeros((*x.shape[:-1], 0), np.float32),
    "more rows": lambda x: np.zeros((x.shape[0] + 1, *x.shape[1:]), np.float32),
    "more batch dims": lambda x: x.reshape(1, *x.shape),
    "rows in other dims": lambda x: x.reshape(x.shape[1], x.shape[0], x.shape[2]),
    "transposed": lambda x: np.zeros(x.shape[::-1], np.float32).T,
    "fortran": np.asfortranarray,
    "strided": lambda x: np.zeros((*x.shape[:-1], 128), np.float32)[..., ::2],
    "negative strides": lambda x: x[::-1],
    "broadcast": lambda x: np.broadcast_to(np.float32(1), x.shape),
    "byte-swapped": lambda x: x.astype(x.dtype.newbyteorder()),
    "misaligned": misaligned,
    **{f"dtype {code}": partial(cast_to, code) for code in OTHER_DTYPES},
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("name", ["x", "y"])
def test_a_wrong_array_is_refused(load: Any, name: str, wrong: str) -> None:
    a = rows_arrays(3, 2)
    a[name] = WRONG[wrong](a[name])
    refused(load(ROWS), a)


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_a_matrix_is_refused(load: Any) -> None:
    a = rows_arrays(3)
    refused(load(ROWS), a | {"x": np.matrix(a["x"])})
    refused(load(ROWS), a | {"y": np.matrix(a["y"])})


@pytest.mark.parametrize(
    ("name", "shape"),
    [("weight", (63,)), ("weight", (1,)), ("weight", (64, 1)), ("mean", (3,)), ("mean", (3, 2, 1))],
)
def test_a_wrong_shape_of_another_array_is_refused(load: Any, name: str, shape: tuple[int, ...]) -> None:
    refused(load(ROWS), rows_arrays(3, 2) | {name: np.zeros(shape, np.float32)})


@pytest.mark.parametrize(
    "changes",
    [
        {"scale": f32(2, 4)},
        {"x": f32(2, 5, 2, 4)},
        {"y": f32(3, 5, 3, 4)},
        {"y": f32(3, 2, 4)},
        {"last": f32(5, 2)},
        {"last": f32(2)},
        {"scale": f32(3, 4).astype("f8")},
        {"scale": [1.0]},
        {"x": None},
    ],
    ids=str,
)
def test_a_named_axis_has_one_size(load: Any, changes: Arrays) -> None:
    runner = load(SCALES)
    a = scales_arrays(3, 5, n=2)
    assert runner.entry(*a.values()) is None
    refused(runner, a | changes)


@pytest.mark.parametrize("name", ["y", "mean", "share"])
def test_what_is_written_must_be_writable(load: Any, name: str) -> None:
    a = rows_arrays(3)
    refused(load(ROWS), a | {name: readonly(a[name])})


def test_what_is_read_may_be_readonly(load: Any) -> None:
    a = rows_arrays(3)
    a |= {name: readonly(a[name]) for name in ("x", "weight", "bias")}
    assert load(ROWS).entry(*a.values()) is None


@pytest.mark.parametrize(
    "workspace",
    [
        np.zeros(95, np.float32),
        np.zeros(0, np.float32),
        np.zeros(96, np.float64),
        np.zeros((12, 8), np.float32),
        np.zeros(192, np.float32)[::2],
        readonly(np.zeros(96, np.float32)),
        None,
    ],
    ids=lambda array: "none" if array is None else f"{array.dtype}{array.shape}",
)
def test_a_workspace_that_does_not_do_is_refused(load: Any, workspace: object) -> None:
    refused(load(SUMS), sums_arrays(9) | {"partial": workspace})


def test_a_workspace_may_be_larger(load: Any) -> None:
    assert load(SUMS).entry(*(sums_arrays(9) | {"partial": np.zeros(97, np.float32)}).values()) is None


@pytest.mark.parametrize(
    ("offset", "more", "start"), [(0, 9, 0), (1, 15, 15), (1, 14, 0), (9, 16, 7), (9, 0, 0)]
)
def test_a_workspace_is_used_from_a_boundary_on_if_it_has_the_room(
    library: ctypes.CDLL, offset: int, more: int, start: int
) -> None:
    floats = np.full(16 + 200, -1, np.float32)
    begin = -(floats.ctypes.data // 4) % 16 + offset
    workspace = floats[begin : begin + 96 + more]
    a = sums_arrays(12) | {"partial": workspace}
    assert PhaseRunner(library, SUMS).entry(*a.values()) is None
    np.testing.assert_array_equal(workspace[start : start + 96], (a["dy"] * a["x"]).reshape(-1))
    assert (workspace[:start] == -1).all()
    assert (workspace[start + 96 :] == -1).all()


def test_an_optional_workspace_is_checked_when_given(load: Any) -> None:
    a = scales_arrays(3, n=2)
    refused(load(SCALES), a | {"room": np.zeros(5, np.float32)})
    for name in ("scale", "x", "y"):
        refused(load(SCALES), a | {"room": a[name].reshape(-1)})


@pytest.mark.parametrize("shift", [-64 * 2, -64, -1, 1, 64, 64 * 2])
def test_partly_overlapping_arrays_are_refused(load: Any, shift: int) -> None:
    shared = f32(64 * 7)
    middle = shared[2 * 64 : 5 * 64].reshape(3, 64)
    beside = shared[2 * 64 + shift :][: 3 * 64].reshape(3, 64)
    refused(load(ROWS), rows_arrays(3) | {"x": middle, "y": beside})


def test_arrays_that_touch_are_accepted(load: Any) -> None:
    shared = f32(6, 64)
    a = rows_arrays(3)
    assert load(ROWS).entry(*(a | {"x": shared[:3], "y": shared[3:]}).values()) is None
    assert load(ROWS).entry(*(a | {"x": shared[3:], "y": shared[:3]}).values()) is None


def test_an_output_may_be_the_input_of_its_shape(load: Any) -> None:
    a = rows_arrays(3)
    expected = doubled(a)
    assert load(ROWS).entry(*(a | {"y": a["x"]}).values()) is None
    np.testing.assert_array_equal(a["x"], expected)
    g = sums_arrays(3)
    for name in ("dy", "x"):
        assert load(SUMS).entry(*(g | {"dx": g[name]}).values()) is None


@pytest.mark.parametrize("batch", [(1,), (64,)])
def test_other_arrays_may_not_be_the_same(load: Any, batch: tuple[int, ...]) -> None:
    a, runner = rows_arrays(*batch), load(ROWS)
    refused(runner, a | {"share": a["mean"]})
    refused(runner, a | {"mean": a["y"].reshape(-1)[: batch[0]]})
    refused(runner, a | {"mean": a["x"].reshape(-1)[: batch[0]]})
    if batch == (64,):
        refused(runner, a | {"mean": a["weight"]})
    g = sums_arrays(*batch)
    refused(load(SUMS), g | {"dw": g["dy"][0]})
    refused(load(SUMS), g | {"partial": g["x"].reshape(-1)})


def test_an_array_that_a_later_call_reads_may_not_be_written_over(load: Any) -> None:
    first, last = SUMS.calls
    phase = SUMS._replace(calls=(first, last._replace(buffers=("x", "dw"))))
    dx, x = phase.buffers[2], phase.buffers[1]
    assert calls.may_coincide(SUMS, dx, x)
    assert not calls.may_coincide(phase, dx, x)
    assert calls.may_coincide(phase, dx, phase.buffers[0])


def test_empty_arrays_overlap_nothing(load: Any) -> None:
    shared = f32(10 * 64)
    inside = np.ndarray((0, 64), np.float32, shared, offset=4 * 96)
    assert inside.ctypes.data == shared.ctypes.data + 4 * 96
    a = rows_arrays(0) | {"x": inside, "y": inside, "weight": shared[64:128], "bias": shared[64:128]}
    assert load(ROWS).entry(*a.values()) is None


@pytest.mark.parametrize("count", [0, 1, 5, 7, 20])
def test_the_number_of_arguments_is_checked(load: Any, count: int) -> None:
    refused(load(ROWS), (list(rows_arrays(3).values()) * 4)[:count])


def test_keyword_arguments_are_a_type_error(load: Any) -> None:
    with pytest.raises(TypeError):
        load(ROWS).entry(**rows_arrays(3))


def test_reference_counts_do_not_drift(library: ctypes.CDLL) -> None:
    call = PhaseRunner(library, ROWS).entry
    good = list(rows_arrays(1).values())
    bad = [*good[:5], None]
    counted = [*good, None, NotImplemented]
    before = [sys.getrefcount(value) for value in counted]
    for _ in range(100_000):
        call(*good)
        call(*bad)
    after = [sys.getrefcount(value) for value in counted]
    assert np.abs(np.subtract(after, before)).max() < 100


def test_run_executes_and_refuses(load: Any) -> None:
    a, runner = rows_arrays(5), load(ROWS)
    runner.run(list(a.values()))
    np.testing.assert_array_equal(a["y"], doubled(a))
    with pytest.raises(CompilerBug, match=r"rows_entry.*float64\[5, 64\]"):
        runner.run(list((a | {"x": a["x"].astype("f8")}).values()))


def test_bind_gives_the_sizes_or_none() -> None:
    a = sums_arrays(2, 3)
    assert calls.bind(SUMS, list(a.values())) == {"rows": 6, "b": 2, "one": 1}
    assert calls.bind(SUMS, [a["dy"], None, None, None, None]) == {"rows": 6, "b": 2, "one": 1}
    assert calls.bind(SUMS, [None] * 5) is None
    assert calls.bind(SUMS, [a["dy"]]) is None
    assert calls.bind(SUMS, list((a | {"partial": np.zeros(63, np.float32)}).values())) is None
    assert calls.match_axes(SUMS, list(a.values())) == {"b": (2,), "...": (3,)}
    assert calls.workspace_elements(SUMS.buffers[4], {"rows": 6}) == 64


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("7", 7),
        ("a + 2 * b", 13),
        ("(a + 2) * b", 25),
        ("a - b - 1", -3),
        ("(a + 63) / 64 * 64", 64),
        ("-a / 2", -1),
    ],
)
def test_expressions_are_evaluated_as_in_c(expression: str, value: int) -> None:
    workspace = Buffer("w", "workspace", "float32", (expression,))
    assert calls.workspace_elements(workspace, {"a": 3, "b": 5}) == value


@pytest.mark.parametrize("expression", ["a ** 2", "f(a)", "a // 2", "1.5", "a if b else 0"])
def test_other_expressions_are_refused(expression: str) -> None:
    workspace = Buffer("w", "workspace", "float32", (expression,))
    with pytest.raises(CompilerBug, match="not an expression"):
        calls.workspace_elements(workspace, {"a": 3, "b": 5})


def test_phases_that_cannot_be_bound_are_refused() -> None:
    x = Buffer("x", "input", "float32", ("b", 4), optional=True)
    phase = Phase("e", (x,), (Size("b", ("b",)),), (Call("f", ("x",), "b", "4"),))
    with pytest.raises(CompilerBug, match="axes"):
        entry.entry_ir(phase)
    workspace = Buffer("w", "workspace", "float32", ("rows",))
    with pytest.raises(CompilerBug, match="rows"):
        entry.entry_ir(phase._replace(buffers=(x._replace(optional=False), workspace)))


def test_entries_are_the_same_text_every_time() -> None:
    assert entry.entry_ir(SUMS) == entry.entry_ir(SUMS)
