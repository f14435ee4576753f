"""Control flow, what the lanes of a warp do together, barriers, clusters."""

from __future__ import annotations

import numpy as np
import pytest

from . import Deadlock, Divergence, PtxError, UnknownPtx, execute
from .kernels import lanewise, module
from .scalars import Array
from .test_arithmetic import RNG, same

#: A thread's number in its block in %r0, and the address of its element of ``q`` in %d1.
PLACE = """
    mov.u32 %r0, %tid.x;
    mov.u32 %r40, %ctaid.x; mov.u32 %r41, %ntid.x; mad.lo.u32 %r42, %r40, %r41, %r0;
    ld.param.u64 %d0, [k_q]; cvta.to.global.u64 %d0, %d0;
    mad.wide.u32 %d1, %r42, 4, %d0;
"""


def threads(
    body: str, *, block: int = 64, grid: int = 1, cluster: int = 1, before: str = "", shared: int = 0
) -> Array:
    """What each thread stores to its element of ``q``."""
    q = np.zeros(block * grid, np.uint32)
    return execute(
        module("u64 q", PLACE + body, before),
        {"q": q},
        ["q"],
        grid=(grid, 1, 1),
        block=(block, 1, 1),
        cluster=(cluster, 1, 1),
        shared=shared,
    )["q"]


def test_threads_part_and_meet() -> None:
    """Collatz: every thread loops as often as its number needs; odd and even take different ways."""
    body = """
    add.u32 %r1, %r0, 1; mov.u32 %r2, 0;
LOOP:
    setp.eq.u32 %p1, %r1, 1; @%p1 bra DONE;
    and.b32 %r3, %r1, 1; setp.eq.u32 %p2, %r3, 0; @%p2 bra EVEN;
    mad.lo.u32 %r1, %r1, 3, 1; bra.uni NEXT;
EVEN:
    shr.u32 %r1, %r1, 1;
NEXT:
    add.u32 %r2, %r2, 1; bra.uni LOOP;
DONE:
    activemask.b32 %r4; setp.ne.b32 %p3, %r4, -1; @%p3 trap;
    st.global.u32 [%d1], %r2;"""
    expected = []
    for number in range(1, 65):
        steps = 0
        while number != 1:
            number, steps = (number // 2 if number % 2 == 0 else 3 * number + 1), steps + 1
        expected.append(steps)
    same(threads(body), np.array(expected, "u4"))


def test_guards_leave_other_lanes_alone() -> None:
    body = """
    mov.u32 %r1, 5; setp.lt.u32 %p1, %r0, 10;
    @%p1 mov.u32 %r1, %r0; @!%p1 add.u32 %r1, %r1, 2;
    st.global.u32 [%d1], %r1;"""
    lane = np.arange(64)
    same(threads(body), np.where(lane < 10, lane, 7).astype("u4"))


def test_threads_that_end_early() -> None:
    body = (
        "setp.ge.u32 %p1, %r0, 40; @%p1 exit; st.global.u32 [%d1], 1; bar.sync 0; "
        "setp.lt.u32 %p2, %r0, 3; @%p2 ret;"
    )
    same(threads(body), (np.arange(64) < 40).astype("u4"))


def test_a_uniform_branch_must_be_uniform() -> None:
    body = "setp.lt.u32 %p1, %r0, {}; @%p1 bra.uni L; st.global.u32 [%d1], 1; L:"
    same(threads(body.format(32)), (np.arange(64) >= 32).astype("u4"))
    with pytest.raises(Divergence, match="uniform branch"):
        threads(body.format(33))


def test_tables_of_labels() -> None:
    body = """
    and.b32 %r1, %r0, 3; mov.u32 %r2, 0;
    table: .branchtargets A, B, C, D;
    brx.idx %r1, table;
A:  add.u32 %r2, %r2, 1;
B:  add.u32 %r2, %r2, 10;
C:  add.u32 %r2, %r2, 100;
D:  st.global.u32 [%d1], %r2;"""
    same(threads(body), np.tile(np.array([111, 110, 100, 0], "u4"), 16))


def test_scopes() -> None:
    """Registers and labels between braces are their own, as inline PTX has them."""
    body = """
    mov.u32 %r1, 1;
    { .reg .b32 t; .reg .pred p; mov.b32 t, 3; L: add.u32 %r1, %r1, t; setp.lt.u32 p, %r1, 10; @p bra L; }
    { .reg .b32 t; .reg .pred p; mov.b32 t, 20; L: add.u32 %r1, %r1, t; setp.lt.u32 p, %r1, 50; @p bra L; }
    st.global.u32 [%d1], %r1;"""
    same(threads(body), np.full(64, 50, "u4"))


def test_calls() -> None:
    before = """
.func (.param .b32 out) square(.param .b32 x)
{
    .reg .b32 %r<3>; .reg .pred %p<2>;
    ld.param.b32 %r1, [x]; setp.lt.u32 %p1, %r1, 4; @%p1 bra SMALL;
    mul.lo.u32 %r2, %r1, %r1; st.param.b32 [out], %r2; ret;
SMALL:
    st.param.b32 [out], %r1; ret;
}
"""
    body = """
    { .param .b32 a; .param .b32 b; st.param.b32 [a], %r0; call.uni (b), square, (a); ld.param.b32 %r1, [b]; }
    { .param .b32 a; .param .b32 b; st.param.b32 [a], %r1; call.uni (b), square, (a); ld.param.b32 %r1, [b]; }
    st.global.u32 [%d1], %r1;"""
    lane = np.arange(64)
    same(threads(body, before=before), np.where(lane < 4, lane, lane**4).astype("u4"))


def test_special_registers() -> None:
    body = "mov.u32 %r1, {}; st.global.u32 [%d1], %r1;"
    lane = np.arange(64) % 32
    for name, expected in {
        "%laneid": lane,
        "%warpid": np.arange(64) // 32,
        "%ntid.x": np.full(64, 64),
        "%lanemask_lt": (1 << lane) - 1,
        "%lanemask_ge": (0xFFFFFFFF << lane) & 0xFFFFFFFF,
        "%tid.y": np.zeros(64),
    }.items():
        same(threads(body.format(name)), expected.astype("u4"))


def test_three_dimensions() -> None:
    text = PLACE.replace(
        "mov.u32 %r0, %tid.x;", "mov.u32 %r1, %tid.x; mov.u32 %r2, %tid.y; mov.u32 %r3, %tid.z;"
    )
    text = text.replace("%r40, %ctaid.x", "%r40, %ctaid.y").replace(
        "mov.u32 %r41, %ntid.x;", "mov.u32 %r41, 24;"
    )
    text = text.replace(
        "mad.lo.u32 %r42", "mad.lo.u32 %r0, %r2, 4, %r1; mad.lo.u32 %r0, %r3, 12, %r0; mad.lo.u32 %r42"
    )
    ptx = module("u64 q", text + "st.global.u32 [%d1], %r42;")
    q = execute(ptx, {"q": np.zeros(72, "u4")}, ["q"], grid=(1, 3, 1), block=(4, 3, 2), unwritten=["q"])["q"]
    same(q, np.arange(72, dtype="u4"))


@pytest.mark.parametrize("width", [32, 8])
def test_shuffles(width: int) -> None:
    lane = np.arange(64) % 32
    segment, place = lane // width * width, lane % width
    c = (32 - width) << 8
    cases = {
        ("bfly", 3, c | 31): (place ^ 3) + segment,
        ("down", 5, c | 31): np.where(place + 5 < width, lane + 5, lane),
        ("up", 2, c): np.where(place >= 2, lane - 2, lane),
        ("idx", 6, c | 31): segment + 6,
    }
    for (mode, by, clamp), source in cases.items():
        text = f"shfl.sync.{mode}.b32 %q|%p1, %a, {by}, {clamp}, -1;"
        values = RNG.integers(0, 2**32, 64).astype("u4")
        expected = values.reshape(2, 32)[np.arange(64) // 32, source]
        same(lanewise(text, values, result="u4"), expected)
    inside = lanewise(
        f"shfl.sync.down.b32 %r1|%p1, %a, 5, {c | 31}, -1; selp.b32 %q, 1, 0, %p1;", values, result="u4"
    )
    same(inside, (place + 5 < width).astype("u4"))


def test_shuffles_wait_for_the_lanes_of_their_mask() -> None:
    """Two halves of a warp on different ways, each with a mask of its own, and together behind."""
    body = """
    setp.lt.u32 %p1, %r0, 16; @%p1 bra LOW;
    shfl.sync.bfly.b32 %r1, %r0, 1, 31, 0xFFFF0000; add.u32 %r1, %r1, 100; bra JOIN;
LOW:
    shfl.sync.bfly.b32 %r1, %r0, 2, 31, 0x0000FFFF;
JOIN:
    shfl.sync.idx.b32 %r2, %r1, 20, 31, -1; add.u32 %r1, %r1, %r2; st.global.u32 [%d1], %r1;"""
    lane = np.arange(32)
    first = np.where(lane < 16, lane ^ 2, (lane ^ 1) + 100)
    same(threads(body, block=32), (first + first[20]).astype("u4"))


def test_shuffle_of_lanes_that_never_come() -> None:
    body = (
        "setp.lt.u32 %p1, %r0, 16; @!%p1 bra L; shfl.sync.bfly.b32 %r1, %r0, 1, 31, -1; "
        "st.global.u32 [%d1], %r1; L: bar.sync 0;"
    )
    with pytest.raises(Deadlock, match=r"16 threads, first thread 0 of block 0, at line \d+: shfl"):
        threads(body, block=32)


def test_shuffle_outside_of_its_mask() -> None:
    with pytest.raises(Divergence, match="its own mask does not name"):
        threads("shfl.sync.bfly.b32 %r1, %r0, 1, 31, 0xFFFF;", block=32)
    body = "setp.ge.u32 %p1, %r0, 16; @%p1 bra L; shfl.sync.idx.b32 %r1, %r0, 20, 31, 0xFFFF; L:"
    with pytest.raises(Divergence, match="does not take part"):
        threads(body, block=32)
    body = (
        "setp.ge.u32 %p1, %r0, 16; selp.b32 %r2, 0xFFFFFFFF, 0x0000FFFF, %p1; "
        "shfl.sync.idx.b32 %r1, %r0, 0, 31, %r2;"
    )
    with pytest.raises(Divergence, match="different masks"):
        threads(body, block=32)


def test_votes() -> None:
    body = (
        "setp.{}.u32 %p1, %r0, {}; vote.sync.{} %p2, %p1, -1; selp.b32 %r1, 1, 0, %p2; "
        "st.global.u32 [%d1], %r1;"
    )
    warps = np.arange(64) // 32
    same(threads(body.format("lt", 40, "all.pred")), (warps == 0).astype("u4"))
    same(threads(body.format("ge", 40, "any.pred")), (warps == 1).astype("u4"))
    same(threads(body.format("ge", 40, "uni.pred")), (warps == 0).astype("u4"))
    ballot = "setp.lt.u32 %p1, %r0, 40; vote.sync.ballot.b32 %r1, %p1, -1; st.global.u32 [%d1], %r1;"
    same(threads(ballot), np.where(warps == 0, 0xFFFFFFFF, 0xFF).astype("u4"))


def test_matches_and_reductions() -> None:
    values = RNG.integers(0, 4, 32).astype("u4")
    expected = np.array([sum(1 << j for j in range(32) if values[j] == v) for v in values], "u4")
    same(lanewise("match.any.sync.b32 %q, %a, -1;", values, result="u4"), expected)
    text = "match.all.sync.b32 %r1|%p1, %a, -1; selp.b32 %q, %r1, 7, %p1;"
    same(lanewise(text, values, result="u4"), np.full(32, 7, "u4"))
    same(lanewise(text, values * 0, result="u4"), np.full(32, 0xFFFFFFFF, "u4"))
    wide = RNG.integers(-(2**31), 2**31, 64).astype("i4")
    rows = wide.reshape(2, 32)
    for name, expected in {"add": rows.sum(1, dtype="i4"), "min": rows.min(1), "max": rows.max(1)}.items():
        same(lanewise(f"redux.sync.{name}.s32 %q, %a, -1;", wide, result="i4"), expected.repeat(32))
    found = lanewise("redux.sync.xor.b32 %q, %a, -1;", wide, result="i4")
    same(found, np.bitwise_xor.reduce(rows, axis=1).repeat(32))
    body = "elect.sync %r1|%p1, -1; selp.b32 %r2, 1, 0, %p1; st.global.u32 [%d1], %r2;"
    same(threads(body), (np.arange(64) % 32 == 0).astype("u4"))


SHARED = ".shared .align 16 .b8 tile[1024];\n"
#: Writes a thread's number to its word of the tile, and reads that of the thread that many further on.
REVERSE = """
    mov.u32 %r10, tile; shl.b32 %r11, %r0, 2; add.u32 %r12, %r10, %r11; st.shared.u32 [%r12], %r0;
    {barrier}
    xor.b32 %r13, %r11, {mask}; add.u32 %r14, %r10, %r13;
    ld.shared.u32 %r15, [%r14]; st.global.u32 [%d1], %r15;
"""


def test_shared_memory_and_barriers() -> None:
    for barrier in ("bar.sync 0;", "barrier.sync 0;", "barrier.cta.sync.aligned 0;", "bar.sync 1, 128;"):
        found = threads(SHARED + REVERSE.format(barrier=barrier, mask=127 * 4), block=128, grid=3)
        same(found, np.tile(np.arange(128, dtype="u4") ^ 127, 3))
    found = threads(SHARED + REVERSE.format(barrier="bar.warp.sync -1;", mask=31 * 4), block=128)
    same(found, np.arange(128, dtype="u4") ^ 31)


def test_dynamic_shared_memory() -> None:
    before = ".extern .shared .align 16 .b8 tile[];\n"
    found = threads(REVERSE.format(barrier="bar.sync 0;", mask=252), before=before, shared=256)
    same(found, np.arange(64, dtype="u4") ^ 63)
    with pytest.raises(PtxError, match="outside of the block's shared memory"):
        threads(REVERSE.format(barrier="bar.sync 0;", mask=252), before=before, shared=128)


def test_barriers_for_some_warps() -> None:
    """Each pair of warps at a barrier of its own."""
    body = SHARED + "shr.u32 %r20, %r0, 6; add.u32 %r20, %r20, 1;"
    found = threads(body + REVERSE.format(barrier="bar.sync %r20, 64;", mask=63 * 4), block=128)
    same(found, np.arange(128, dtype="u4") ^ 63)


def test_reducing_barrier() -> None:
    body = "setp.lt.u32 %p1, %r0, 40; barrier.cta.red.popc.aligned.u32 %r1, 0, %p1; st.global.u32 [%d1], %r1;"
    with pytest.raises(UnknownPtx):
        threads(body.replace("red.popc", "red.sum"))
    same(threads(body.replace(".u32 %r1, 0", ".u32 %r1, 0")), np.full(64, 40, "u4"))


def test_divergent_barriers() -> None:
    """Threads of a block at two barriers in the code, part of a warp at one, and threads that never come."""
    two = "setp.lt.u32 %p1, %r0, {}; @%p1 bra L; bar.sync 0; bra M; L: bar.sync 0; M: st.global.u32 [%d1], 1;"
    for bound in (16, 32):
        with pytest.raises((Divergence, Deadlock)):
            threads(two.format(bound))
    with pytest.raises(Deadlock, match="48 threads, first thread 16 of block 0"):
        threads("setp.lt.u32 %p1, %r0, 16; @%p1 bra L; bar.sync 0; L: bar.warp.sync -1;")


def test_a_kernel_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ptx.machine.MOST_TURNS", 1000)
    with pytest.raises(Deadlock, match="no end"):
        threads("setp.lt.u32 %p1, %r0, 16; L: @%p1 bra L;")


def test_threads_that_spin_let_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thread 0 waits, at a place before the others', for what thread 63 writes."""
    monkeypatch.setattr("ptx.machine.PATIENCE", 100)
    body = """
    setp.ne.u32 %p1, %r0, 0; @%p1 bra REST;
SPIN:
    ld.acquire.gpu.global.u32 %r1, [%d0+252]; setp.eq.u32 %p2, %r1, 0; @%p2 bra SPIN;
    st.global.u32 [%d1], 9; ret;
REST:
    setp.ne.u32 %p1, %r0, 63; @%p1 ret; st.release.gpu.global.u32 [%d1], 5;"""
    found = threads(body)
    assert (found[0], found[63]) == (9, 5)


CLUSTER = (
    SHARED
    + """
    mov.u32 %r1, %cluster_ctarank; mov.u32 %r2, %cluster_nctarank;
    mov.u32 %r10, tile; shl.b32 %r11, %r0, 2; add.u32 %r12, %r10, %r11; mad.lo.u32 %r3, %r1, 1000, %r0;
    st.shared.u32 [%r12], %r3;
    barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;
    add.u32 %r4, %r1, 1; rem.u32 %r4, %r4, %r2; mapa.shared::cluster.u32 %r5, %r12, %r4;
    ld.shared::cluster.u32 %r6, [%r5]; st.global.u32 [%d1], %r6;
    {last}
"""
)
MEET = "barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;"


def test_clusters_read_each_others_shared_memory() -> None:
    found = threads(CLUSTER.format(last=MEET), block=32, grid=8, cluster=4)
    block, lane = np.divmod(np.arange(256), 32)
    same(found, ((block % 4 + 1) % 4 * 1000 + lane).astype("u4"))


def test_clusters_store_and_count_in_each_others_shared_memory() -> None:
    body = (
        SHARED
        + """
    mov.u32 %r10, tile; setp.eq.u32 %p1, %r0, 0; @%p1 st.shared.u32 [%r10], 0;
    barrier.cluster.arrive; barrier.cluster.wait;
    mov.u32 %r1, 0; mapa.shared::cluster.u32 %r5, %r10, %r1;
    red.relaxed.cluster.shared::cluster.add.u32 [%r5], 1;
    barrier.cluster.arrive; barrier.cluster.wait;
    ld.shared::cluster.u32 %r6, [%r5]; st.global.u32 [%d1], %r6;
    barrier.cluster.arrive; barrier.cluster.wait;"""
    )
    same(threads(body, block=32, grid=4, cluster=2), np.full(128, 64, "u4"))


def test_shared_memory_of_a_block_that_has_ended() -> None:
    body = CLUSTER.format(last="").replace(
        "ld.shared::cluster", "setp.eq.u32 %p1, %r1, 1; @%p1 exit; bar.sync 0; ld.shared::cluster"
    )
    with pytest.raises(PtxError, match="a block that has ended"):
        threads(body, block=32, grid=2, cluster=2)


def test_unknown_code_is_refused_before_it_runs() -> None:
    for text in (
        "wgmma.fence.sync.aligned;",
        "add.weird.f32 %f1, %f1, %f1;",
        "ld.global.f8 %r1, [%d1];",
        "frob %r1;",
        "add.u32 %r1, %nothing, 1;",
    ):
        with pytest.raises(UnknownPtx, match="line"):
            threads("setp.ne.u32 %p1, %r0, %r0; @!%p1 ret;" + text)
    with pytest.raises(PtxError, match="no label"):
        threads("bra NOWHERE;")
    with pytest.raises(PtxError, match="never written"):
        threads("add.u32 %r1, %r2, 1;")
