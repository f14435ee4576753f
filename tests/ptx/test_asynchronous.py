"""Copies that run beside the threads, and the mbarriers that tell when they are complete."""

from __future__ import annotations

import numpy as np
import pytest

from . import DataRace, Deadlock, Divergence, MisalignedAccess, OutOfBounds, UninitialisedRead, execute
from .kernels import module
from .scalars import Array
from .test_arithmetic import same

X = np.arange(256, dtype=np.uint32) * np.uint32(99991)

#: %r0 the thread, %r10 the tile, %r11 an mbarrier, %d1 and %d2 the thread's 16 bytes of ``x`` and ``q``.
START = """
    .shared .align 128 .b8 tile[1024]; .shared .align 8 .b64 bar; .shared .align 8 .b64 other;
    mov.u32 %r0, %tid.x; mov.u32 %r10, tile; mov.u32 %r11, bar; shl.b32 %r1, %r0, 4; add.u32 %r12, %r10, %r1;
    ld.param.u64 %d10, [k_x]; ld.param.u64 %d20, [k_q];
    mul.wide.u32 %d3, %r0, 16; add.u64 %d1, %d10, %d3; add.u64 %d2, %d20, %d3;
    setp.eq.u32 %p1, %r0, 0;
"""
#: Each thread writes the 16 bytes of the tile that belong to another thread's.
FINISH = """
    xor.b32 %r2, %r1, {}; add.u32 %r13, %r10, %r2; ld.shared.v4.u32 {{%r20, %r21, %r22, %r23}}, [%r13];
    st.global.v4.u32 [%d2], {{%r20, %r21, %r22, %r23}};
"""


def run(body: str, swapped: int = 0, **settings: object) -> Array:
    ptx = module("u64 x, u64 q", START + body + FINISH.format(16 * swapped))
    arrays = {"x": X, "q": np.zeros_like(X)}
    options: dict[str, object] = {"block": (64, 1, 1), "read_only": ["x"], "unwritten": ["q"]} | settings
    return execute(ptx, arrays, ["x", "q"], **options)["q"]  # type: ignore[arg-type]


COPY = "cp.async.cg.shared.global [%r12], [%d1], 16;"
BLOCKS = X.reshape(64, 4)


def test_copies_by_threads() -> None:
    same(run(COPY + "cp.async.commit_group; cp.async.wait_group 0;"), X)
    same(run(COPY + "cp.async.wait_all;"), X)
    found = run(COPY + "cp.async.commit_group; cp.async.wait_group 0; bar.sync 0;", swapped=63)
    same(found, BLOCKS[np.arange(64) ^ 63].reshape(-1))


def test_copies_that_nobody_waited_for() -> None:
    for end in ("", "cp.async.wait_group 0;", "cp.async.commit_group; cp.async.wait_group 1;", "bar.sync 0;"):
        with pytest.raises(UninitialisedRead, match="a copy not yet"):
            run(COPY + end)
    with pytest.raises(DataRace):
        run(COPY + "cp.async.wait_all;", swapped=63)


def test_groups_complete_in_order() -> None:
    second = "cp.async.ca.shared.global [%r12+0], [%d10], 16; cp.async.commit_group;"
    two = COPY + "cp.async.commit_group; cp.async.wait_group 0;" + second
    with pytest.raises(UninitialisedRead):
        run(two + "cp.async.wait_group 1;")
    same(run(two + "cp.async.wait_group 0;"), np.tile(X[:4], 64))


def test_copies_fill_with_zeros() -> None:
    body = "mov.u32 %r30, 4; cp.async.cg.shared.global [%r12], [%d1], 16, %r30; cp.async.wait_all;"
    expected = np.zeros_like(BLOCKS)
    expected[:, 0] = BLOCKS[:, 0]
    same(run(body), expected.reshape(-1))


INIT = "@%p1 mbarrier.init.shared::cta.b64 [%r11], {}; fence.mbarrier_init.release.cluster; bar.sync 0;"
LOAD = """
    @!%p1 bra WAIT;
    mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r11], 1024;
    cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r10], [%d10], 1024, [%r11];
WAIT:
"""
WAIT = """
    {{ .reg .pred done; AGAIN: mbarrier.{}.parity.shared::cta.b64 done, [%r11], {};
    @done bra DONE; bra AGAIN; DONE: }}
"""


def test_bulk_copies() -> None:
    """One thread loads for all; who waits for the mbarrier may read without another barrier."""
    for test in ("try_wait", "test_wait"):
        found = run(INIT.format(1) + LOAD + WAIT.format(test, 0), swapped=63)
        same(found, BLOCKS[np.arange(64) ^ 63].reshape(-1))


def test_bulk_copies_that_not_all_wait_for() -> None:
    one_waits = INIT.format(1) + LOAD + "@!%p1 bra OVER;" + WAIT.format("try_wait", 0) + "OVER:"
    with pytest.raises(DataRace, match="an asynchronous copy wrote"):
        run(one_waits)
    same(run(one_waits + "bar.sync 0;"), X)
    with pytest.raises(UninitialisedRead):
        run(INIT.format(2) + LOAD)
    with pytest.raises(Deadlock, match="try_wait"):
        run(INIT.format(2) + LOAD + WAIT.format("try_wait", 0))
    with pytest.raises(Deadlock):
        run(INIT.format(1) + LOAD.replace("_, [%r11], 1024", "_, [%r11], 2048") + WAIT.format("try_wait", 0))


def test_bulk_copies_are_aligned() -> None:
    for before, after in (("[%d10], 1024", "[%d10], 1020"), ("[%r10], [%d10]", "[%r10+8], [%d10]")):
        with pytest.raises(MisalignedAccess):
            run(INIT.format(1) + LOAD.replace(before, after) + WAIT.format("try_wait", 0))


def test_bulk_stores() -> None:
    body = """
    ld.global.v4.u32 {%r20, %r21, %r22, %r23}, [%d1]; st.shared.v4.u32 [%r12], {%r20, %r21, %r22, %r23};
    fence.proxy.async.shared::cta; bar.sync 0; @!%p1 ret;
    cp.async.bulk.global.shared::cta.bulk_group [%d20], [%r10], 1024; cp.async.bulk.commit_group;
    """
    wait = "cp.async.bulk.wait_group.read 0;"
    arrays = {"x": X, "q": np.zeros_like(X)}
    for end in (wait, wait + "st.shared.u32 [%r10], 1;"):
        ptx = module("u64 x, u64 q", START + body + end)
        same(execute(ptx, arrays, ["x", "q"], block=(64, 1, 1), unwritten=["q"])["q"], X)
    with pytest.raises(OutOfBounds, match="only be read"):
        execute(
            module("u64 x, u64 q", START + body + "st.shared.u32 [%r10], 1;"),
            arrays,
            ["x", "q"],
            block=(64, 1, 1),
        )


def test_mbarriers_order_what_threads_write() -> None:
    """All arrive, all wait: as good as a block's barrier; with a missing arrival no one goes on."""
    store = """
    ld.global.v4.u32 {%r20, %r21, %r22, %r23}, [%d1]; st.shared.v4.u32 [%r12], {%r20, %r21, %r22, %r23};
    """
    arrive = "mbarrier.arrive.shared::cta.b64 %d30, [%r11];"
    wait = "{ .reg .pred p; L: mbarrier.try_wait.shared::cta.b64 p, [%r11], %d30; @!p bra L; }"
    found = run(INIT.format(64) + store + arrive + wait, swapped=63)
    same(found, BLOCKS[np.arange(64) ^ 63].reshape(-1))
    with pytest.raises(DataRace):
        run(INIT.format(64) + arrive + wait + store, swapped=63)
    with pytest.raises(Deadlock):
        run(INIT.format(65) + store + arrive + wait)
    with pytest.raises(Divergence, match="arrivals at an mbarrier that awaits"):
        run(INIT.format(4) + "@%p1 mbarrier.arrive.shared::cta.b64 _, [%r11], 5;")
    with pytest.raises(Divergence, match="not initialised"):
        run("@%p1 st.shared.u64 [%r11], 0; bar.sync 0;" + store + arrive)


def test_phases_alternate() -> None:
    """Two rounds over one tile: its readers arrive at a second mbarrier before it is loaded again."""
    body = (
        INIT.format(1)
        + "@%p1 mbarrier.init.shared::cta.b64 [other], 64; bar.sync 0;"
        + """
    mov.u32 %r40, 0; mov.u32 %r41, 0;
ROUND:
    @!%p1 bra READ;
    setp.eq.u32 %p2, %r40, 0; @%p2 bra ISSUE;
    { .reg .pred p; L: mbarrier.try_wait.parity.shared::cta.b64 p, [other], 0; @!p bra L; }
ISSUE:
    mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r11], 1024;
    cp.async.bulk.shared::cta.global.mbarrier::complete_tx::bytes [%r10], [%d10], 1024, [%r11];
READ:
    { .reg .pred p; L: mbarrier.try_wait.parity.shared::cta.b64 p, [%r11], %r40; @!p bra L; }
    ld.shared.u32 %r42, [%r12]; add.u32 %r41, %r41, %r42;
    mbarrier.arrive.shared::cta.b64 _, [other];
    add.u32 %r40, %r40, 1; setp.lt.u32 %p3, %r40, 2; @%p3 bra ROUND;
    bar.sync 0;
    mul.wide.u32 %d3, %r0, 4; add.u64 %d20, %d20, %d3; st.global.u32 [%d20], %r41; ret;
    """
    )
    arrays = {"x": X, "q": np.zeros(64, np.uint32)}
    found = execute(module("u64 x, u64 q", START + body), arrays, ["x", "q"], block=(64, 1, 1))["q"]
    same(found, 2 * BLOCKS[:, 0])
    hasty = body.replace("@!p bra L; }\nISSUE", "}\nISSUE").replace("[other], 0;", "[%r11], 1;")
    with pytest.raises((DataRace, Deadlock)):
        execute(module("u64 x, u64 q", START + hasty), arrays, ["x", "q"], block=(64, 1, 1))


def test_stores_to_other_blocks() -> None:
    """Each thread of a block sends its number to the other block, whose threads wait for all 128 bytes."""
    body = """
    @%p1 mbarrier.init.shared::cta.b64 [%r11], 1;
    @%p1 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r11], 128;
    barrier.cluster.arrive; barrier.cluster.wait;
    mov.u32 %r30, %cluster_ctarank; xor.b32 %r31, %r30, 1; shl.b32 %r32, %r0, 2; add.u32 %r33, %r10, %r32;
    mad.lo.u32 %r34, %r30, 100, %r0;
    mapa.shared::cluster.u32 %r35, %r33, %r31; mapa.shared::cluster.u32 %r36, %r11, %r31;
    st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.u32 [%r35], %r34, [%r36];
    { .reg .pred p; L: mbarrier.try_wait.parity.shared::cta.b64 p, [%r11], 0; @!p bra L; }
    ld.shared.u32 %r37, [%r33]; mad.lo.u32 %r38, %r30, 32, %r0;
    mul.wide.u32 %d3, %r38, 4; add.u64 %d20, %d20, %d3; st.global.u32 [%d20], %r37;
    barrier.cluster.arrive; barrier.cluster.wait; ret;
    """
    arrays = {"x": X, "q": np.zeros(64, np.uint32)}
    settings: dict[str, tuple[int, int, int]] = {"grid": (2, 1, 1), "cluster": (2, 1, 1), "block": (32, 1, 1)}
    found = execute(module("u64 x, u64 q", START + body), arrays, ["x", "q"], **settings)["q"]
    same(found, np.concatenate([np.arange(100, 132), np.arange(32)]).astype(np.uint32))
    hasty = body.replace("{ .reg .pred p; L: mbarrier.try_wait", "{ .reg .pred p; L: mbarrier.test_wait")
    hasty = hasty.replace("@!p bra L;", "")
    with pytest.raises((UninitialisedRead, DataRace)):
        execute(module("u64 x, u64 q", START + hasty.replace("128;", "132;")), arrays, ["x", "q"], **settings)
