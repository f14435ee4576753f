"""The process around compiled code: the number of threads, OpenMP, Python threads, forks, the self-test."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tiny_phases
from tiny_phases import ROWS, SUMS

from lncompile.backends.cpu import calls, runtime
from lncompile.backends.cpu.calls import PhaseRunner
from lncompile.errors import LncError, LncTypeError, LncValueError

LARGE = 1 << 15  # rows of 64: above every threshold


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return tiny_phases.build(tmp_path_factory.mktemp("library"), ROWS, SUMS)


@pytest.fixture(autouse=True)
def _threads_put_back() -> Iterator[None]:
    before = runtime.get_num_threads()
    yield
    runtime.set_num_threads(before)


@pytest.fixture
def no_openmp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_fill_openmp", lambda: False)


needs_openmp = pytest.mark.skipif(not runtime._fill_openmp(), reason="needs an OpenMP runtime")


def rows_arrays(rows: int) -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(rows)
    x, weight, bias = (rng.standard_normal(shape).astype(np.float32) for shape in ((rows, 64), 64, 64))
    return [x, weight, bias, np.empty_like(x), np.empty(rows, np.float32), np.empty(rows, np.float32)]


def expected_rows(arrays: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    return (arrays[0] * np.float32(2) + arrays[1]) + arrays[2]


def shares(arrays: list[np.ndarray[Any, Any]]) -> list[int]:
    """Where the ranges began that the rows were done in."""
    return [int(begin) for begin in np.unique(arrays[5])]


def in_new_process(code: str, **environment: str) -> str:
    clean = {k: v for k, v in os.environ.items() if k not in ("LNCOMPILE_NUM_THREADS", "OMP_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


# The self-test


def test_the_self_test_holds_here() -> None:
    assert runtime.self_test()


@pytest.mark.parametrize(
    ("name", "value"),
    [("ARRAY_DATA", 24), ("ARRAY_NDIM", 28), ("ARRAY_DIMS", 40), ("ARRAY_FLAGS", 72), ("HEADER", 32)],
)
def test_the_self_test_notices_other_offsets(monkeypatch: pytest.MonkeyPatch, name: str, value: int) -> None:
    monkeypatch.setattr(runtime, name, value)
    assert not runtime.self_test.__wrapped__()


def test_the_self_test_fails_on_other_interpreters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "byteorder", "big")
    assert not runtime.self_test.__wrapped__()


def test_loading_imports_no_compiler() -> None:
    unwanted = "{'numba', 'llvmlite', 'concurrent', 'sysconfig'}"
    code = f"import sys, lncompile.backends.cpu.calls; print({unwanted} & {{*sys.modules}})"
    assert in_new_process(code) == "set()"


# The number of threads


@pytest.mark.parametrize(
    ("environment", "threads"),
    [
        ({"LNCOMPILE_NUM_THREADS": "3"}, 3),
        ({"LNCOMPILE_NUM_THREADS": " 3 ", "OMP_NUM_THREADS": "5"}, 3),
        ({"LNCOMPILE_NUM_THREADS": "", "OMP_NUM_THREADS": "5"}, 5),
        ({"OMP_NUM_THREADS": "6,2,1"}, 6),
        ({"OMP_NUM_THREADS": "1"}, 1),
    ],
)
def test_the_environment_gives_the_number_of_threads(environment: dict[str, str], threads: int) -> None:
    assert runtime._default_threads(environment) == threads


def test_else_it_is_the_number_of_usable_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    assert runtime._default_threads({}) == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")
    assert runtime._default_threads({}) == os.cpu_count()


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", "1e3", "999999", "2 2", "٣"])
@pytest.mark.parametrize("variable", ["LNCOMPILE_NUM_THREADS", "OMP_NUM_THREADS"])
def test_a_wrong_variable_is_named(variable: str, text: str) -> None:
    with pytest.raises(LncValueError, match=rf"{variable}: expected .*{text}"):
        runtime._default_threads({variable: text})


def test_a_wrong_variable_does_not_break_the_import() -> None:
    code = """
from lncompile.backends.cpu import runtime
try:
    runtime.get_num_threads()
except ValueError as error:
    print(error)
runtime.set_num_threads(2)
print(runtime.get_num_threads())
"""
    message, threads = in_new_process(code, LNCOMPILE_NUM_THREADS="many").splitlines()
    assert message == "LNCOMPILE_NUM_THREADS: expected a number of threads from 1 to 4096; got 'many'"
    assert threads == "2"


@pytest.mark.parametrize("n", [0, -1, 10**6])
def test_a_wrong_number_of_threads_is_a_value_error(n: int) -> None:
    with pytest.raises(LncValueError, match=f"n: expected .* got {n}"):
        runtime.set_num_threads(n)


@pytest.mark.parametrize("n", [None, "2", 2.0, True, np.bool_(True), np.ones(2, int)])
def test_another_type_is_a_type_error(n: Any) -> None:
    with pytest.raises(LncTypeError, match="n: expected"):
        runtime.set_num_threads(n)
    assert issubclass(LncTypeError, LncError)


def test_numpy_integers_are_integers() -> None:
    runtime.set_num_threads(np.int64(3))  # type: ignore[arg-type]
    assert runtime.get_num_threads() == 3


# OpenMP


@needs_openmp
@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_openmp_splits_large_calls_evenly_with_the_same_bits(library: ctypes.CDLL, threads: int) -> None:
    runtime.set_num_threads(threads)
    arrays = rows_arrays(LARGE)
    assert PhaseRunner(library, ROWS).entry(*arrays) is None
    assert shares(arrays) == [LARGE * t // threads for t in range(threads)]
    np.testing.assert_array_equal(arrays[3], expected_rows(arrays))


@needs_openmp
def test_small_calls_are_serial(library: ctypes.CDLL) -> None:
    runtime.set_num_threads(2)
    arrays = rows_arrays(100)
    assert PhaseRunner(library, ROWS).entry(*arrays) is None
    assert shares(arrays) == [0]


@needs_openmp
def test_later_calls_see_all_of_earlier_ones(library: ctypes.CDLL) -> None:
    runtime.set_num_threads(3)
    rows = LARGE * 8 - 3
    dy, x = np.ones((rows, 8), np.float32), np.full((rows, 8), 2, np.float32)
    dx, dw, partial = np.empty_like(x), np.empty(8, np.float32), np.empty(rows * 8 + 24, np.float32)
    assert PhaseRunner(library, SUMS).entry(dy, x, dx, dw, partial) is None
    assert (dx == 2).all()
    assert dw[0] == 2 * rows


def test_python_threads_calling_at_once_do_not_disturb_each_other(library: ctypes.CDLL) -> None:
    runtime.set_num_threads(2)
    runner = PhaseRunner(library, ROWS)
    wrong = []

    def work(rows: int) -> None:
        arrays = rows_arrays(rows)
        expected = expected_rows(arrays)
        for _ in range(20):
            arrays[3].fill(0)
            runner.run(arrays)
            if not np.array_equal(arrays[3], expected):
                wrong.append(rows)

    workers = [threading.Thread(target=work, args=(rows,)) for rows in (3, 500, 5_000, 20_000)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_the_gil_is_released_for_long_calls(library: ctypes.CDLL) -> None:
    runtime.set_num_threads(1)
    runner, arrays = PhaseRunner(library, ROWS), rows_arrays(LARGE)
    started, ran = threading.Event(), threading.Event()

    def wait_and_run() -> None:
        started.wait()
        ran.set()

    other = threading.Thread(target=wait_and_run)
    other.start()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)  # the other thread can only run while a call has released the GIL
    try:
        started.set()
        attempts = 0
        while not ran.is_set() and attempts < 200:
            assert runner.entry(*arrays) is None
            attempts += 1
        assert ran.is_set()
    finally:
        sys.setswitchinterval(interval)
        other.join()


@needs_openmp
def test_the_runtime_that_is_loaded_already_is_used(tmp_path: Any) -> None:
    code = """
import ctypes, os
from lncompile.backends.cpu import runtime
ctypes.CDLL(os.environ["LIBRARY"])
found = runtime._loaded_openmp()
library = runtime._find_openmp()
print(found == [os.environ["LIBRARY"]] and library._name == found[0])
"""
    origin = runtime._find_openmp()
    assert origin is not None
    copy = tmp_path / "libgomp-0a1b2c3d.so.1.0.0"
    shutil.copyfile(runtime._loaded_openmp()[0], copy)
    assert in_new_process(code, LIBRARY=os.fspath(copy)) == "True"


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("libgomp.so.1.0.0", True),
        ("libgomp-a34b3233.so.1", True),
        ("libomp.so.5", True),
        ("libiomp5.so", True),
        ("libomptarget.so", False),
        ("libcompress.so", False),
    ],
)
def test_names_of_openmp_runtimes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, name: str, is_one: bool
) -> None:
    path = f"/opt/some where/{name}"
    maps = tmp_path / "maps"
    line = "7f00-7f01 r-xp 00000000 08:01 12"
    maps.write_text(
        f"{line}      {path}\n7f02-7f03 rw-p 00000000 00:00 0 \n{line} {path}\n7f04-7f05 rw-p 0 0 0 [heap]\n"
    )
    monkeypatch.setattr("builtins.open", lambda name, mode, real=open: real(maps, mode))
    assert runtime._loaded_openmp() == [path] * is_one


# Python threads


@pytest.mark.usefixtures("no_openmp")
def test_without_openmp_python_threads_split_large_calls(library: ctypes.CDLL) -> None:
    runtime.set_num_threads(3)
    runner, arrays = PhaseRunner(library, ROWS), rows_arrays(LARGE)
    assert runner.entry(*arrays) is NotImplemented
    runner.run(arrays)
    assert shares(arrays) == [LARGE * t // 3 for t in range(3)]
    np.testing.assert_array_equal(arrays[3], expected_rows(arrays))


@pytest.mark.usefixtures("no_openmp")
def test_without_openmp_small_calls_are_serial_and_native(library: ctypes.CDLL) -> None:
    runtime.set_num_threads(3)
    runner, arrays = PhaseRunner(library, ROWS), rows_arrays(100)
    assert runner.entry(*arrays) is None
    runner.run(arrays)
    assert shares(arrays) == [0]


@pytest.mark.usefixtures("no_openmp")
def test_without_openmp_one_thread_is_serial_and_native(library: ctypes.CDLL) -> None:
    runtime.set_num_threads(1)
    arrays = rows_arrays(LARGE)
    assert PhaseRunner(library, ROWS).entry(*arrays) is None
    assert shares(arrays) == [0]


def test_where_the_self_test_fails_python_threads_do_it(
    library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "self_test", lambda: False)
    runtime.set_num_threads(2)
    arrays = rows_arrays(LARGE)
    assert PhaseRunner(library, ROWS).entry(*arrays) is None
    assert shares(arrays) == [0, LARGE // 2]


@pytest.mark.usefixtures("no_openmp")
def test_a_share_keeps_its_arrays_when_the_caller_is_interrupted(
    library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime.set_num_threads(2)
    runner, arrays = PhaseRunner(library, ROWS), rows_arrays(LARGE)
    go, done = threading.Event(), threading.Event()
    real = calls._share
    held = []

    def slow(function: Any, arguments: Any, kept: Any, begin: int, end: int) -> None:
        go.wait()
        held.append([array is mine for array, mine in zip(kept, arrays, strict=True)])
        real(function, arguments, kept, begin, end)
        done.set()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(calls, "_share", slow)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(KeyboardInterrupt):
            runner.run(arrays)
    finally:
        signal.signal(signal.SIGALRM, before)
        go.set()
    assert done.wait(10)
    assert all(held[0])


# Forks


def forked(work: Callable[[], bool]) -> bool:
    """Whether ``work`` is true in a forked child, False if it hangs there for ten seconds."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if work() else 1)
        finally:
            os._exit(2)
    for _ in range(1000):
        finished, status = os.waitpid(child, os.WNOHANG)
        if finished:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("with_openmp", [True, False])
def test_a_forked_child_is_serial(
    library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch, with_openmp: bool
) -> None:
    if not with_openmp:
        monkeypatch.setattr(runtime, "_fill_openmp", lambda: False)
    runtime.set_num_threads(2)
    runner, arrays = PhaseRunner(library, ROWS), rows_arrays(LARGE)
    runner.run(arrays)
    assert len(shares(arrays)) == 2

    def work() -> bool:
        one = runtime.get_num_threads() == 1
        runner.run(arrays)
        serial = shares(arrays) == [0]
        runtime.set_num_threads(2)
        runner.run(arrays)
        return one and serial and shares(arrays) == [0] and runtime.get_num_threads() == 1

    assert forked(work)
    assert runtime.get_num_threads() == 2
    runner.run(arrays)
    np.testing.assert_array_equal(arrays[3], expected_rows(arrays))
