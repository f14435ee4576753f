"""Loads, stores and atomics of every space; wrong accesses; data races."""

from __future__ import annotations

import numpy as np
import pytest

from . import DataRace, Fault, MisalignedAccess, OutOfBounds, UninitialisedRead, execute
from .kernels import module
from .scalars import Array
from .test_arithmetic import same
from .test_execution import CLUSTER, MEET, REVERSE, SHARED, threads

PLACE = """
    mov.u32 %r0, %tid.x; ld.param.u64 %d0, [k_x]; ld.param.u64 %d1, [k_q]; mul.wide.u32 %d2, %r0, {};
    add.u64 %d3, %d0, %d2; add.u64 %d4, %d1, %d2;
"""


def copy(text: str, x: Array, stride: int, **settings: object) -> Array:
    """What moves ``x`` from [%d3] to [%d4], ``stride`` bytes a thread."""
    arrays = {"x": x, "q": np.zeros_like(x)}
    ptx = module("u64 x, u64 q", PLACE.format(stride) + text)
    options: dict = {"block": (32, 1, 1), "read_only": ["x"], "unwritten": ["q"]} | settings
    return execute(ptx, arrays, ["x", "q"], **options)["q"]


X = np.arange(32 * 8, dtype=np.uint32) * np.uint32(77777)


@pytest.mark.parametrize(
    ("text", "stride"),
    [
        ("ld.global.u8 %r1, [%d3]; st.global.u8 [%d4], %r1;", 1),
        ("ld.global.nc.u16 %h1, [%d3]; st.global.u16 [%d4], %h1;", 2),
        ("ld.global.s16 %r1, [%d3]; st.global.b16 [%d4], %r1;", 2),
        ("ld.f32 %f1, [%d3]; st.f32 [%d4], %f1;", 4),
        ("ld.global.cs.v2.f32 {%f1, %f2}, [%d3]; st.global.cs.v2.f32 [%d4], {%f1, %f2};", 8),
        ("ld.global.v4.u16 {%h1, %h2, %h3, %h4}, [%d3]; st.global.v4.b16 [%d4], {%h1, %h2, %h3, %h4};", 8),
        ((
            "ld.global.nc.L1::no_allocate.L2::128B.v4.b32 {%r1, %r2, %r3, %r4}, [%d3+0]; "
            "st.global.wt.v4.b32 [%d4], {%r1, %r2, %r3, %r4};"
        ), 16),
        ((
            "createpolicy.fractional.L2::evict_first.b64 %d5, 1.0; "
            "ld.global.L1::evict_first.L2::cache_hint.v2.b64 {%d6, %d7}, [%d3], %d5; "
            "st.global.L2::cache_hint.v2.b64 [%d4], {%d6, %d7}, %d5;"
        ), 16),
        ("ld.global.v4.b64 {%d5, %d6, %d7, %d8}, [%d3]; st.global.v4.b64 [%d4], {%d5, %d6, %d7, %d8};", 32),
    ],
)  # fmt: skip
def test_widths_and_hints(text: str, stride: int) -> None:
    x = X[: 8 * stride]
    same(copy(text, x, stride), x)


def test_extension_of_narrow_loads() -> None:
    x = np.array([-1, 5] * 16, np.int16)
    q = np.zeros(32, np.int32)
    text = PLACE.format(2) + (
        "ld.global.s16 %r1, [%d3]; mul.wide.u32 %d5, %r0, 4; add.u64 %d5, %d1, %d5; st.global.s32 [%d5], %r1;"
    )
    ptx = module("u64 x, u64 q", text)
    same(execute(ptx, {"x": x, "q": q}, ["x", "q"])["q"], x.astype(np.int32))
    ptx = module("u64 x, u64 q", text.replace("ld.global.s16", "ld.global.u16"))
    same(execute(ptx, {"x": x, "q": q}, ["x", "q"])["q"], x.view("u2").astype(np.int32))


def test_local_memory_and_tables() -> None:
    text = """
    .local .align 8 .b8 depot[32]; .reg .b64 %SP; .reg .b64 %SPL;
    mov.u64 %SPL, depot; cvta.local.u64 %SP, %SPL;
    st.local.u32 [%SPL+8], %r0; ld.u32 %r1, [%SP+8];
    mov.u64 %d5, squares; and.b32 %r2, %r0, 3; mad.wide.u32 %d5, %r2, 4, %d5; ld.const.u32 %r3, [%d5];
    add.u32 %r1, %r1, %r3; st.global.u32 [%d1], %r1;"""
    found = threads(text, before=".const .align 4 .u32 squares[4] = {0, 1, 4, 9};\n", block=32)
    same(found, np.arange(32, dtype="u4") + np.tile(np.array([0, 1, 4, 9], "u4"), 8))
    with pytest.raises(OutOfBounds, match="local memory"):
        threads(
            text.replace("[%SPL+8]", "[%SPL+32]"), before=".const .align 4 .u32 squares[4] = {0, 1, 4, 9};\n"
        )
    with pytest.raises(OutOfBounds, match="only be read"):
        threads("mov.u64 %d5, one; st.global.u32 [%d5], 1;", before=".const .u32 one = 1;\n")


def test_generic_addresses_of_shared_memory() -> None:
    body = SHARED + (
        "mov.u64 %d5, tile; cvta.shared.u64 %d5, %d5; mad.wide.u32 %d5, %r0, 4, %d5; "
        "st.u32 [%d5], %r0; ld.u32 %r1, [%d5]; st.global.u32 [%d1], %r1; "
        "isspacep.shared %p1, %d5; isspacep.global %p2, %d1; and.pred %p1, %p1, %p2; "
        "@!%p1 trap;"
    )
    same(threads(body), np.arange(64, dtype="u4"))


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("add", "u32", lambda n: 1 + n * (n - 1) // 2),
        ("max", "u32", lambda n: n - 1),
        ("min", "s32", lambda n: 0),
        ("or", "b32", lambda n: 2 * n - 1 if n & (n - 1) == 0 else None),
        ("inc", "u32", lambda n: 0),
    ],
)
def test_atomics(name: str, kind: str, expected: object) -> None:
    """All threads on one word, in shared memory and in global memory."""
    n = 64
    operand = "1000000" if name == "inc" else "%r0"
    value = 1 + n if name == "inc" else n - 1 if name == "or" else expected(n)  # type: ignore[operator]
    for space, address in (("shared", "%r10"), ("global", "%d0")):
        start = (
            SHARED + "mov.u32 %r10, tile; setp.eq.u32 %p1, %r0, 0; @%p1 st.shared.u32 [%r10], 1; bar.sync 0;"
        )
        body = start + (
            f"red.{space}.{name}.{kind} [{address}], {operand}; bar.sync 0; "
            f"ld.{space}.u32 %r5, [{address}]; bar.sync 0; st.global.u32 [%d1], %r5;"
        )
        if space == "global":
            body = body.replace("st.shared.u32 [%r10]", "st.global.u32 [%d0]")
        same(threads(body, block=n), np.full(n, value, "u4"))


def test_atomics_return_what_they_found() -> None:
    """Tickets: each thread its own; a lock by compare and swap: one wins."""
    start = SHARED + "mov.u32 %r10, tile; setp.eq.u32 %p1, %r0, 0; @%p1 st.shared.u32 [%r10], 0; bar.sync 0;"
    found = threads(start + "atom.shared.add.u32 %r5, [%r10], 1; st.global.u32 [%d1], %r5;")
    same(np.sort(found), np.arange(64, dtype="u4"))
    found = threads(start + "atom.shared.cas.b32 %r5, [%r10], 0, 7; st.global.u32 [%d1], %r5;")
    assert sorted(found) == [0] + [7] * 63
    found = threads(
        start + "add.u32 %r1, %r0, 1; atom.shared.exch.b32 %r5, [%r10], %r1; st.global.u32 [%d1], %r5;"
    )
    assert len(set(found)) == 64


def test_vector_reductions() -> None:
    x = np.arange(128, dtype=np.float32)
    text = (
        PLACE.format(16)
        + "ld.global.v4.f32 {%f1, %f2, %f3, %f4}, [%d3]; red.global.v4.f32.add [%d1], {%f1, %f2, %f3, %f4};"
    )
    found = execute(module("u64 x, u64 q", text), {"x": x, "q": np.zeros(4, np.float32)}, ["x", "q"])["q"]
    same(found, x.reshape(32, 4).sum(0))


def test_misaligned() -> None:
    with pytest.raises(
        MisalignedAccess,
        match=r"no multiple of 16 bytes\n  k, line \d+: ld.global.v4.*\n  thread 1 of block 0 and 23 more",
    ):
        copy("ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%d3];", X, 4)
    with pytest.raises(MisalignedAccess):
        threads(SHARED + "mov.u32 %r10, tile; st.shared.u32 [%r10+2], 1;")


def test_outside_of_the_arrays() -> None:
    for text in (
        "ld.global.u32 %r1, [%d3+4];",
        "ld.global.u32 %r1, [%d0+-4];",
        "cvt.u32.u64 %r1, %d3; cvt.u64.u32 %d5, %r1; ld.global.u32 %r2, [%d5];",
        "mov.u64 %d5, 0; ld.global.u32 %r1, [%d5];",
        "mov.u64 %d5, 0; ld.u32 %r1, [%d5];",
        "st.global.u32 [%d3], 1;",
    ):
        with pytest.raises(OutOfBounds):
            copy(text, X[:32], 4)
    with pytest.raises(OutOfBounds, match="names"):
        execute(
            module("u64 x", "ld.param.u64 %d0, [k_x]; ld.global.u32 %r1, [%d0+8192];"),
            {"x": X, "y": X},
            ["x"],
        )


def test_a_vector_that_reaches_beyond_the_end() -> None:
    with pytest.raises(OutOfBounds, match="names"):
        copy("ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%d3];", X[:126], 16)


def test_reads_of_what_nothing_wrote() -> None:
    with pytest.raises(UninitialisedRead):
        copy("ld.global.u32 %r1, [%d4];", X[:32], 4)
    with pytest.raises(UninitialisedRead):
        copy("st.global.u16 [%d4], 1; ld.global.u32 %r1, [%d4];", X[:32], 4)
    with pytest.raises(UninitialisedRead):
        threads(SHARED + "mov.u32 %r10, tile; ld.shared.u32 %r1, [%r10];")


RACES = {
    "no barrier": REVERSE.format(barrier="", mask=252),
    "a warp's barrier for two warps": REVERSE.format(barrier="bar.warp.sync -1;", mask=252),
    "lockstep in a warp": REVERSE.format(barrier="", mask=4),
    "a shuffle orders nothing": REVERSE.format(barrier="shfl.sync.bfly.b32 %r30, %r0, 1, 31, -1;", mask=4),
    "two writers in one instruction": "mov.u32 %r10, tile; st.shared.u32 [%r10], 1;",
    "overwritten before all have read": REVERSE.format(barrier=(
        "bar.sync 0;"
    ), mask=4) + "st.shared.u32 [%r12], 5;",
    "read by many, then written": (
        "mov.u32 %r10, tile; setp.eq.u32 %p1, %r0, 0; @%p1 st.shared.u32 [%r10], 1; "
        "bar.sync 0; ld.shared.u32 %r1, [%r10]; @%p1 st.shared.u32 [%r10], 2;"
    ),
    "atomic and ordinary": (
        "mov.u32 %r10, tile; setp.eq.u32 %p1, %r0, 0; @%p1 st.shared.u32 [%r10], 1; "
        "atom.shared.add.u32 %r1, [%r10], 1;"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RACES)
def test_races_in_shared_memory(name: str) -> None:
    with pytest.raises(DataRace, match=r"thread \d+ of block 0"):
        threads(SHARED + RACES[name])


def test_races_in_global_memory() -> None:
    with pytest.raises(DataRace):
        threads("bar.sync 0; st.global.u32 [%d0], 1;", grid=2, block=1)
    ordered = "setp.eq.u32 %p1, %r0, 0; @%p1 st.global.u32 [%d0], 3; bar.sync 0; ld.global.u32 %r1, [%d0];"
    threads(ordered)
    with pytest.raises(DataRace):
        threads(ordered, grid=2)


def test_bytes_of_one_word_do_not_race() -> None:
    body = SHARED + (
        "mov.u32 %r10, tile; add.u32 %r11, %r10, %r0; st.shared.u8 [%r11], %r0; bar.sync 0; "
        "shl.b32 %r12, %r0, 2; add.u32 %r12, %r12, %r10; setp.lt.u32 %p1, %r0, 16; "
        "@%p1 ld.shared.u32 %r13, [%r12]; @%p1 st.global.u32 [%d1], %r13;"
    )
    same(threads(body)[:16], np.arange(64, dtype="u1").view("u4"))


def test_double_buffers_need_one_barrier_a_round() -> None:
    """As a reduction over rows in turns does it; with one buffer alone the same is a race."""
    body = (
        SHARED
        + """
    mov.u32 %r10, tile; shl.b32 %r11, %r0, 2; mov.u32 %r20, 0; mov.u32 %r21, 0;
LOOP:
    shl.b32 %r22, %r20, {shift}; and.b32 %r22, %r22, 256; add.u32 %r23, %r10, %r22; add.u32 %r24, %r23, %r11;
    st.shared.u32 [%r24], %r20; bar.sync 0; xor.b32 %r25, %r11, 128; add.u32 %r25, %r25, %r23;
    ld.shared.u32 %r26, [%r25]; add.u32 %r21, %r21, %r26;
    add.u32 %r20, %r20, 1; setp.lt.u32 %p1, %r20, 5; @%p1 bra LOOP;
    st.global.u32 [%d1], %r21;"""
    )
    same(threads(body.format(shift=8)), np.full(64, 10, "u4"))
    with pytest.raises(DataRace):
        threads(body.format(shift=0))


def test_races_in_a_cluster() -> None:
    late = CLUSTER.format(last="st.shared.u32 [%r12], 1;" + MEET)
    with pytest.raises(DataRace):
        threads(late, block=32, grid=2, cluster=2)
    early = CLUSTER.format(last=MEET).replace(
        "barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;", "bar.sync 0;"
    )
    with pytest.raises((DataRace, UninitialisedRead)):
        threads(early, block=32, grid=2, cluster=2)
    after = CLUSTER.format(last=MEET + "st.shared.u32 [%r12], 1;")
    threads(after, block=32, grid=2, cluster=2)


def test_what_a_thread_knows_it_passes_on() -> None:
    """Within a warp by its barrier, then to the block by the block's: the third thread knows of the first."""
    body = (
        SHARED
        + """
    mov.u32 %r10, tile; setp.eq.u32 %p1, %r0, 5; @%p1 st.shared.u32 [%r10], 1; bar.warp.sync -1;
    setp.eq.u32 %p2, %r0, 6; @%p2 st.shared.u32 [%r10], 2; bar.sync 0;
    ld.shared.u32 %r1, [%r10]; st.global.u32 [%d1], %r1;"""
    )
    same(threads(body), np.full(64, 2, "u4"))


def test_a_fault_names_thread_and_block() -> None:
    with pytest.raises(Fault, match=r"thread 3 of block 2"):
        threads("setp.eq.u32 %p1, %r42, 67; @%p1 trap;", grid=4, block=32)
