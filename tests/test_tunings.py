"""Schedules as records, the store's records of tuning, and kernels that follow them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import arrays_for, compilation_of, run_emitted

import lncompile as lnc
from lncompile import cache, cache_tools, keys, machine, tunings
from lncompile.builders import CpuBuilder, traced
from lncompile.errors import LncValueError
from lncompile.norm import dispatcher_of
from lncompile.requested import requested
from lncompile.schedule.cpu import Schedule, heuristic, space

SPEC = {"norm": "any", "sizes": {"d": 8}}
TUNING = {"schedule": {"lanes": 4}, "trials": [1, 2.5, None]}


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "store"
    monkeypatch.setenv("LNCOMPILE_CACHE_DIR", str(root))
    return root


@pytest.fixture
def start() -> Schedule:
    """The heuristic's schedule of a norm."""
    return compilation_of(lnc.layer_norm, {"...": 2, "d": 64}, "float32").schedule


# Schedules


def test_a_schedule_survives_json(start: Schedule) -> None:
    assert Schedule.from_json(json.loads(json.dumps(start.to_json()))) == start


def without(data: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key != name}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: None,
        lambda data: [*data.items()],
        lambda data: {},
        lambda data: without(data, "element_lanes"),
        lambda data: {**data, "other": 1},
        lambda data: {**data, "element_lanes": 0},
        lambda data: {**data, "element_lanes": 12},
        lambda data: {**data, "element_lanes": 1 << 20},
        lambda data: {**data, "element_lanes": 16.0},
        lambda data: {**data, "element_lanes": True},
        lambda data: {**data, "element_lanes": "16"},
        lambda data: {**data, "stream_bytes": 33},
        lambda data: {**data, "stream_from": -1},
        lambda data: {**data, "prefetch_level": 3},
        lambda data: {**data, "block_rows": 0},
        lambda data: {**data, "block_rows": 1 << 60},
    ],
)
def test_what_is_no_schedule_is_refused(spoil: Callable[[Any], Any], start: Schedule) -> None:
    with pytest.raises(LncValueError, match="schedule: "):
        Schedule.from_json(spoil(start.to_json()))


@pytest.mark.parametrize("any_bits", [False, True])
@pytest.mark.parametrize("result_bytes", [4, 1 << 10, 1 << 30])
def test_the_space(any_bits: bool, result_bytes: int, start: Schedule) -> None:
    schedules = list(space(start, result_bytes, any_bits=any_bits))
    assert schedules[0] == start
    assert len(set(schedules)) == len(schedules)
    assert 5 < len(schedules) < 200
    changed = [
        sum(getattr(s, field.name) != getattr(start, field.name) for field in fields(s)) for s in schedules
    ]
    assert changed == sorted(changed)
    assert max(changed) == 2
    for schedule in schedules:
        assert Schedule.from_json(schedule.to_json()) == schedule
    # One of them decides otherwise about writing past the caches.
    assert {0 < s.stream_from <= result_bytes for s in schedules} == {False, True}


def test_every_heuristic_is_a_schedule_of_the_space() -> None:
    for features in (1, 3, 64, 100_000):
        program = compilation_of(lnc.rms_norm, {"...": 2, "d": features}, "float32").pair.forward
        for vector_bytes in (16, 32, 64):
            found = heuristic(program, vector_bytes)
            assert next(iter(space(found, 4096))) == found == Schedule.from_json(found.to_json())


# Records


def test_what_is_kept_is_found() -> None:
    assert tunings.find(SPEC) is None
    path = tunings.keep(SPEC, TUNING)
    assert path is not None
    assert list(tunings.paths()) == [path]
    assert tunings.find(SPEC) == TUNING == tunings.read(path)
    assert tunings.schedule_for(SPEC) == {"lanes": 4}
    assert tunings.find({**SPEC, "norm": "other"}) is None
    tunings.keep(SPEC, {**TUNING, "schedule": None})
    assert tunings.schedule_for(SPEC) is None
    assert len(list(tunings.paths())) == 1


def test_without_records_nothing_is_asked_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunings, "machine", lambda: pytest.fail("asked"))
    assert tunings.find(SPEC) is None


def test_another_machine_has_records_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    tunings.keep(SPEC, TUNING)
    other = {**machine.machine(), "cores": 1000}
    monkeypatch.setattr(tunings, "machine", lambda: other)
    assert tunings.find(SPEC) is None
    tunings.keep(SPEC, {"schedule": None})
    monkeypatch.undo()
    assert len(list(tunings.paths())) in (0, 2)


def test_the_machine_is_told_by_its_cpu_caches_and_cores() -> None:
    found = machine.machine()
    assert set(found) == {"cpu", "caches", "cores"}
    assert found["cores"] == os.cpu_count()
    assert json.loads(json.dumps(found)) == found
    assert machine._start("/no/such/file") == ""


def test_any_flipped_bit_makes_a_record_none() -> None:
    path = tunings.keep(SPEC, TUNING)
    assert path is not None
    sound = Path(path).read_bytes()
    for position in range(len(sound)):
        damaged = bytearray(sound)
        damaged[position] ^= 1 << (position % 8)
        Path(path).write_bytes(damaged)
        assert tunings.find(SPEC) is None
    assert [damage.path for damage in cache_tools.verify().damaged] == [path]
    assert tunings.keep(SPEC, TUNING) == path
    assert Path(path).read_bytes() == sound
    assert cache_tools.verify().damaged == ()


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"machine":{},"spec":{},"tuning":{}}'])
def test_a_sealed_record_of_something_else_is_none(body: bytes) -> None:
    path = tunings.keep(SPEC, TUNING)
    assert path is not None
    Path(path).write_bytes(cache.seal(body))
    assert tunings.find(SPEC) is None
    assert len(cache_tools.verify().damaged) == 1


def test_records_that_others_may_write_to_are_not_used(store: Path) -> None:
    tunings.keep(SPEC, TUNING)
    (store / "v1" / "tuning").chmod(0o777)
    assert tunings.find(SPEC) is None
    assert tunings.keep(SPEC, TUNING) is None


def test_a_store_that_cannot_be_written_keeps_nothing(store: Path) -> None:
    store.parent.mkdir(exist_ok=True)
    store.write_text("a file")
    assert tunings.keep(SPEC, TUNING) is None
    assert tunings.find(SPEC) is None


def test_readers_see_one_of_the_records_whole() -> None:
    stop = threading.Event()

    def write(number: int) -> None:
        while not stop.is_set():
            tunings.keep(SPEC, {"schedule": {"lanes": number}, "padding": "x" * 5000 * number})

    writers = [threading.Thread(target=write, args=(number,)) for number in (1, 2)]
    tunings.keep(SPEC, {"schedule": {"lanes": 1}})
    for writer in writers:
        writer.start()
    try:
        for _ in range(100):
            assert tunings.schedule_for(SPEC) in ({"lanes": 1}, {"lanes": 2})
    finally:
        stop.set()
        for writer in writers:
            writer.join()


def test_the_tools_know_records(store: Path) -> None:
    path = tunings.keep(SPEC, TUNING)
    assert path is not None
    leftover = Path(f"{path}.1-0123456789abcdef.tmp")
    leftover.write_bytes(b"half")
    (store / "v1" / "tuning" / "notes.txt").write_text("not the store's")
    info = cache_tools.info()
    assert (info.entries, info.tunings, info.leftovers) == (0, 1, 1)
    assert info.bytes == os.path.getsize(path) + 4
    assert cache_tools.verify() == cache_tools.Verification(0, (), (str(leftover),), tunings=1)
    old = time.time() - 10 * 86400
    os.utime(path, (old, old))
    assert cache_tools.prune(max_bytes=0, max_age_days=11).tunings == 0
    assert tunings.find(SPEC) == TUNING
    # That was a use.
    assert cache_tools.prune(max_age_days=5).tunings == 0
    os.utime(path, (old, old))
    assert cache_tools.prune(max_age_days=5).tunings == 1
    tunings.keep(SPEC, TUNING)
    removal = cache_tools.clear()
    assert (removal.tunings, removal.leftovers, removal.kept) == (1, 1, 0)
    assert os.listdir(store / "v1" / "tuning") == ["notes.txt"]


# Kernels


def spec_and_start(norm: Any, shape: tuple[int, ...]) -> tuple[dict[str, object], Schedule]:
    """What a kernel's key has without the schedule, and the heuristic's schedule."""
    dispatcher = dispatcher_of(norm)
    special, _ = requested(dispatcher, shape, "float32", "cpu", None, {})
    builder = CpuBuilder(dispatcher.equation, special)
    program = traced(dispatcher.equation, special)
    return builder.spec(lambda: program), builder.compilation(program).schedule


def fresh() -> Any:
    """A norm that has no kernel in memory yet, the same in every process."""

    @lnc.norm("... [d]", weight="d")
    def centred(x: Any, weight: Any = 1.0) -> Any:
        return (x - lnc.mean(x)) * weight

    return centred


def schedule_of(norm: Any) -> str:
    return str(lnc.compile(norm, shape=(2, 80)).stages["schedule"])


def test_a_kernel_follows_its_record() -> None:
    spec, start = spec_and_start(fresh(), (2, 80))
    x = np.random.default_rng(0).standard_normal((5, 80), np.float32)
    weight = x[1].copy()
    before, ctx = (norm := fresh()).forward(x, weight)
    gradients = norm.backward(x, ctx)
    tuned = replace(start, element_lanes=start.element_lanes // 2, stream_from=1)
    tunings.keep(spec, {"schedule": tuned.to_json()})
    assert schedule_of(fresh()) == tuned.show()
    after, ctx = (norm := fresh()).forward(x, weight)
    np.testing.assert_array_equal(after, before)
    for a, b in zip(norm.backward(x, ctx), gradients, strict=True):
        np.testing.assert_array_equal(a, b)
    # One entry for each schedule.
    assert cache_tools.info().entries == 2
    # Whatever the batch.
    for rows in (1, 2, 3):
        np.testing.assert_array_equal(norm(x[:rows], weight), before[:rows])


def test_a_record_that_is_stale_leaves_the_heuristic() -> None:
    spec, start = spec_and_start(fresh(), (2, 80))
    for schedule in ([], {}, {"element_lanes": 8}, {"element_lanes": {"a": [1]}}, 5, "fast"):
        tunings.keep(spec, {"schedule": schedule})
        assert schedule_of(fresh()) == start.show()
    tunings.keep(spec, {})
    assert schedule_of(fresh()) == start.show()
    assert cache_tools.info().entries == 1


def test_records_are_of_one_version_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    spec, start = spec_and_start(fresh(), (2, 80))
    tunings.keep(spec, {"schedule": replace(start, stream_from=1).to_json()})
    monkeypatch.setattr(keys, "versions", lambda: {"lncompile": "other"})
    assert schedule_of(fresh()) == start.show()


HIT = """
import sys
import numpy as np
import lncompile as lnc
x = np.ones((2, 80), np.float32)
lnc.rms_norm(x, x[0].copy())
print(*sorted({"numba", "llvmlite", "click", "rich", "lncompile.ir"} & sys.modules.keys()))
"""


def imported_by_a_call() -> list[str]:
    done = subprocess.run([sys.executable, "-c", HIT], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_a_tuned_kernel_out_of_the_cache_imports_nothing_heavy() -> None:
    spec, start = spec_and_start(lnc.rms_norm, (2, 80))
    tunings.keep(spec, {"schedule": replace(start, stream_from=1).to_json()})
    assert "numba" in imported_by_a_call()
    assert imported_by_a_call() == []


# Bits

NORMS: list[tuple[Any, dict[str, int]]] = [
    (lnc.layer_norm, {"...": 5, "d": 80}),
    (lnc.rms_norm, {"...": 3, "d": 7}),
    (lnc.softmax, {"...": 4, "d": 70}),
    (lnc.batch_norm, {"n": 5, "c": 6, "...": 9}),
    (lnc.group_norm, {"n": 2, "g": 2, "c": 3, "...": 9}),
    (lnc.group_norm, {"n": 2, "g": 2, "c": 3, "...": 150}),
    (lnc.batch_norm.over("[n h] c"), {"n": 5, "h": 7, "c": 80}),  # type: ignore[attr-defined]
]


@pytest.mark.parametrize(("norm", "sizes"), NORMS, ids=lambda value: getattr(value, "__name__", None))
def test_the_space_keeps_bits(norm: Any, sizes: dict[str, int]) -> None:
    compilation = compilation_of(norm, sizes, "float32")
    pair = compilation.pair
    cotangents = tuple(node for node in pair.backward.inputs if node.role == "cotangent")
    arrays = arrays_for((*compilation.program.inputs, *cotangents), sizes)
    schedules = space(compilation.schedule, 256)
    expected = run_emitted(compilation, arrays, sizes, next(schedules))
    for schedule in list(schedules)[:8]:
        found = run_emitted(compilation, arrays, sizes, schedule)
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array, err_msg=f"{name} {schedule}")


def test_other_bits_are_still_those_of_the_row_alone() -> None:
    spec, start = spec_and_start(fresh(), (2, 80))
    tuned = replace(start, statistics_lanes=start.statistics_lanes // 4, block_rows=8)
    tunings.keep(spec, {"schedule": tuned.to_json()})
    norm = fresh()
    x = np.random.default_rng(0).standard_normal((300, 80), np.float32)
    y = norm(x)
    for rows in (slice(0, 1), slice(7, 8), slice(3, 200)):
        np.testing.assert_array_equal(norm(x[rows]), y[rows])
