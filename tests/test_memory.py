"""The pool of large results: used again when nobody can tell, bounded, and off by a setting."""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import lncompile as lnc
from lncompile import memory
from lncompile.errors import LncTypeError, LncValueError

F32 = np.dtype(np.float32)
MIB = 1 << 20
#: float32 elements of an array that the pool serves.
LARGE = memory.POOLED_FROM // 4


@pytest.fixture(autouse=True)
def _pool() -> Iterator[None]:
    """An empty pool of 64 MiB; afterwards the pool that the environment asks for."""
    before = lnc.get_pool_bytes()
    lnc.set_pool_bytes(0)
    lnc.set_pool_bytes(64 * MIB)
    yield
    lnc.set_pool_bytes(0)
    lnc.set_pool_bytes(before)


def address(array: np.ndarray[Any, Any]) -> int:
    return int(array.__array_interface__["data"][0])


def test_a_block_is_used_again_when_its_array_is_gone() -> None:
    first = memory.empty(LARGE, F32)
    place = address(first)
    other = memory.empty(LARGE, F32)
    assert address(other) != place
    del first
    assert address(memory.empty((LARGE // 4, 4), F32)) == place


@pytest.mark.parametrize(
    "hold",
    [
        lambda y: y[5:7],
        lambda y: y.reshape(-1, 2).T[0],
        lambda y: y.view(np.uint8)[::3],
        memoryview,
        lambda y: y.view(np.recarray),
        lambda y: np.lib.stride_tricks.as_strided(y, (1,), (4,)),
        lambda y: [iter(y)],
        lambda y: np.asarray(memoryview(y)),
    ],
)
def test_whatever_holds_the_memory_keeps_it(hold: Any) -> None:
    first = memory.empty(LARGE, F32)
    place, held = address(first), hold(first)
    del first
    others = [memory.empty(LARGE, F32) for _ in range(3)]
    assert place not in [address(other) for other in others]
    del held
    assert address(memory.empty(LARGE, F32)) == place


def test_small_arrays_are_numpys_own() -> None:
    small = memory.empty(LARGE - 1, F32)
    assert small.flags.owndata
    assert small.base is None


@pytest.mark.parametrize(
    ("shape", "dtype"), [((3, LARGE), "float32"), ((LARGE, 1, 5), "float16"), (LARGE + 1, "float64")]
)
def test_arrays_are_like_numpys(shape: Any, dtype: str) -> None:
    made, expected = memory.empty(shape, np.dtype(dtype)), np.empty(shape, dtype)
    assert type(made) is np.ndarray
    assert (made.shape, made.dtype, made.strides) == (expected.shape, expected.dtype, expected.strides)
    assert made.flags.carray
    assert made.flags.aligned
    assert address(made) % 64 == 0
    made[...] = np.arange(made.size).reshape(made.shape) % 7
    for copy in (made.copy(), pickle.loads(pickle.dumps(made)), np.resize(made, made.shape)):
        np.testing.assert_array_equal(copy, made)
        assert not np.shares_memory(copy, made)
    made.shape = (made.size,)
    assert weakref.ref(made)() is made


def test_what_is_written_stays_within_the_array() -> None:
    arrays = [memory.empty(LARGE + extra, F32) for extra in (0, 1, 15, 16, LARGE // 8)]
    for number, array in enumerate(arrays):
        array[...] = number
    for number, array in enumerate(arrays):
        assert (array == number).all()


def test_sizes_within_an_eighth_share_blocks() -> None:
    first = memory.empty(LARGE + 1, F32)
    place = address(first)
    del first
    assert address(memory.empty(LARGE * 9 // 8, F32)) == place


def kept() -> int:
    """The bytes of all blocks; every one has its place in both orders."""
    blocks = {block for equal in memory._blocks.values() for block in equal}
    assert blocks == set(memory._order)
    return sum(block.capacity for block in blocks)


def test_the_pool_is_bounded() -> None:
    lnc.set_pool_bytes(4 * MIB)
    held = [memory.empty(LARGE, F32) for _ in range(7)]
    assert kept() == 4 * MIB
    assert len({address(array) for array in held}) == 7
    assert memory.empty(5 * LARGE, F32).flags.owndata
    # The most recent ones are kept.
    places = {address(array) for array in held[3:]}
    del held
    assert {address(array) for array in [memory.empty(LARGE, F32) for _ in range(4)]} == places


def test_what_was_used_least_recently_goes_first() -> None:
    lnc.set_pool_bytes(4 * MIB)
    a, b = memory.empty(LARGE, F32), memory.empty(LARGE, F32)
    gone = weakref.ref(b.base)
    del a, b
    # The first one again, so that the second one is the oldest.
    used = memory.empty(LARGE, F32)
    assert gone() is not None
    memory.empty(3 * LARGE, F32)
    assert gone() is None
    assert np.shares_memory(memory._blocks[MIB][0].memory, used)
    assert kept() == 4 * MIB


def test_off() -> None:
    y = memory.empty(LARGE, F32)
    lnc.set_pool_bytes(0)
    assert kept() == 0
    y[...] = 1
    assert memory.empty(LARGE, F32).flags.owndata
    assert (y == 1).all()
    assert lnc.get_pool_bytes() == 0


def test_memory_that_is_short_is_taken_from_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    idle = weakref.ref(memory.empty(LARGE, F32).base)

    class Short(memory._Block):
        __slots__ = ()

        def __init__(self, capacity: int) -> None:
            if idle() is not None:
                raise MemoryError
            super().__init__(capacity)

    monkeypatch.setattr(memory, "_Block", Short)
    assert memory.empty(2 * LARGE, F32).size == 2 * LARGE
    assert idle() is None


@pytest.mark.parametrize("n", [1.5, "1", None, True])
def test_a_limit_that_is_no_integer(n: Any) -> None:
    with pytest.raises(LncTypeError, match="n: expected an integer number of bytes"):
        lnc.set_pool_bytes(n)


def test_a_negative_limit() -> None:
    with pytest.raises(LncValueError, match="got -1"):
        lnc.set_pool_bytes(-1)


@pytest.mark.parametrize(("text", "limit"), [("0", 0), (" 12345 ", 12345)])
def test_the_environment_decides(text: str, limit: int) -> None:
    assert memory._default_limit({"LNCOMPILE_POOL_BYTES": text}) == limit
    assert 0 < memory._default_limit({"LNCOMPILE_POOL_BYTES": ""}) <= 1 << 30


@pytest.mark.parametrize("text", ["-1", "1GB", "1.5", "off", "²"])
def test_an_environment_that_is_wrong(text: str) -> None:
    with pytest.raises(LncValueError, match="LNCOMPILE_POOL_BYTES: expected a number of bytes"):
        memory._default_limit({"LNCOMPILE_POOL_BYTES": text})


def test_threads_never_share_a_block() -> None:
    def work(number: int) -> bool:
        same = True
        for turn in range(60):
            array = memory.empty(LARGE, F32)
            array[::1000] = number * 1000 + turn
            same = same and bool((array[::1000] == number * 1000 + turn).all())
        return same

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))
    assert kept() <= 64 * MIB


def test_a_finalizer_may_call_from_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink = memory._shrink

    def interrupted(limit: int) -> None:
        if not threading.current_thread().name.startswith("inner"):
            monkeypatch.setattr(memory, "_shrink", shrink)
            memory.empty(LARGE, F32)[...] = 0
        shrink(limit)

    monkeypatch.setattr(memory, "_shrink", interrupted)
    y, z = memory.empty(LARGE, F32), memory.empty(LARGE, F32)
    assert address(y) != address(z)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_in_the_middle() -> None:
    """In a process of its own, since pytest's has threads: the lock is held by another one."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], timeout=100, check=False)
    assert done.returncode == 0


FORK = """
import os, threading, time
import numpy as np
from lncompile import memory
f32 = np.dtype("f4")
y = memory.empty(1 << 20, f32); y[...] = 1
inside, leave = threading.Event(), threading.Event()
def hold():
    with memory._lock:
        inside.set()
        leave.wait()
thread = threading.Thread(target=hold); thread.start(); inside.wait()
child = os.fork()
if child == 0:
    z = memory.empty(1 << 20, f32); z[...] = 2
    os._exit(0 if (y == 1).all() else 1)
leave.set(); thread.join()
assert os.waitpid(child, 0)[1] == 0
assert (y == 1).all()
kept_to_the_end = [memory.empty(1 << 20, f32)[3:]]
"""


def test_norms_use_the_pool() -> None:
    x = np.random.default_rng(0).standard_normal((600, 1024), np.float32)
    weight, bias = x[0].copy(), x[1].copy()
    y, ctx = lnc.layer_norm.forward(x, weight, bias)
    g = lnc.layer_norm.backward(x, ctx)
    expected = y.copy(), g.x.copy()
    places = {address(y), address(g.x)}
    del y, g
    again = lnc.layer_norm(x, weight, bias), lnc.layer_norm.backward(x, ctx).x
    assert {address(array) for array in again} == places
    assert not again[0].flags.owndata
    for array, wanted in zip(again, expected, strict=True):
        np.testing.assert_array_equal(array, wanted)
    # The copies of arrays that kernels cannot read come from it too; nothing else is held meanwhile.
    held = []
    for _ in range(4):
        lnc.layer_norm(x[::-1], weight, bias)
        held.append(kept())
    assert held == held[:1] * 4


def test_nothing_is_lost_where_a_call_fails() -> None:
    x = np.ones((600, 1024), np.float32)
    counts = []
    for _ in range(4):
        with pytest.raises(LncValueError):
            lnc.layer_norm(x, x[0, :5].copy())
        gc.collect()
        blocks = [block for equal in memory._blocks.values() for block in equal]
        assert all(memory._references(block) == memory._IDLE for block in blocks)
        counts.append(len(blocks))
    assert counts == counts[:1] * 4
