"""Launches of a kernel as `k.launches` and `k.buffers` describe them."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from . import OutOfBounds, PtxError, UninitialisedRead, run
from .kernels import HEADER

#: y = 2 x and the sums of pairs, then y's gradient times those: a row of 64 elements for each block.
FORWARD = (
    HEADER
    + """
.visible .entry double(.param .u64 p0, .param .u64 p1, .param .u64 p2, .param .u32 p3, .param .f32 p4)
{
    .reg .pred %p<3>; .reg .b32 %r<9>; .reg .f32 %f<9>; .reg .b64 %d<9>;
    mov.u32 %r1, %tid.x; mov.u32 %r2, %ctaid.x; ld.param.u32 %r3, [p3]; ld.param.f32 %f4, [p4];
    setp.ge.u32 %p1, %r2, %r3; @%p1 ret;
    mad.lo.u32 %r4, %r2, 32, %r1;
    ld.param.u64 %d1, [p0]; ld.param.u64 %d2, [p1]; ld.param.u64 %d3, [p2];
    mul.wide.u32 %d4, %r4, 8; add.u64 %d1, %d1, %d4; add.u64 %d2, %d2, %d4;
    mul.wide.u32 %d5, %r4, 4; add.u64 %d3, %d3, %d5;
    ld.global.v2.f32 {%f1, %f2}, [%d1]; add.f32 %f3, %f1, %f2; st.global.f32 [%d3], %f3;
    mul.f32 %f1, %f1, %f4; mul.f32 %f2, %f2, %f4; st.global.v2.f32 [%d2], {%f1, %f2};
}
"""
)
BACKWARD = (
    HEADER
    + """
.visible .entry back(.param .u64 p0, .param .u64 p1, .param .u64 p2)
{
    .reg .b32 %r<9>; .reg .f32 %f<9>; .reg .b64 %d<9>;
    mov.u32 %r1, %tid.x; mov.u32 %r2, %ctaid.x; mad.lo.u32 %r4, %r2, 32, %r1;
    ld.param.u64 %d1, [p0]; ld.param.u64 %d2, [p1]; ld.param.u64 %d3, [p2]; mul.wide.u32 %d4, %r4, 4;
    add.u64 %d1, %d1, %d4; add.u64 %d2, %d2, %d4; mul.wide.u32 %d5, %r4, 2; add.u64 %d3, %d3, %d5;
    ld.global.f32 %f1, [%d1]; ld.global.f32 %f2, [%d2]; mul.f32 %f1, %f1, %f2;
    { .reg .b16 h; cvt.rn.bf16.f32 h, %f1; st.global.b16 [%d3], h; }
}
"""
)
BUFFERS: dict[str, dict[str, Any]] = {
    "x": {"role": "input", "dtype": "float32", "shape": (3, 64)},
    "y": {"role": "output", "dtype": "float32", "shape": (3, 64)},
    "s": {"role": "saved", "dtype": "float32", "shape": (3, 32)},
    "ds": {"role": "cotangent", "of": "y", "dtype": "float32", "shape": (3, 32)},
    "dx": {"role": "gradient", "of": "x", "dtype": "bfloat16", "shape": (3, 32)},
    "w": {"role": "workspace", "dtype": "float32", "shape": (3, 32)},
}


def launch(phase: str, entry: str, ptx: str, args: list[Any], **other: Any) -> dict[str, Any]:
    named = [{"buffer": arg} if isinstance(arg, str) else {"value": arg} for arg in args]
    shape = {"grid": (3, 1, 1), "block": (32, 1, 1), "cluster": (1, 1, 1), "shared": 0}
    return {"phase": phase, "entry": entry, "ptx": ptx, "cubin": b"", "args": named} | shape | other


LAUNCHES = (
    launch("forward", "double", FORWARD, ["x", "y", "s", 3, 2.0]),
    launch("backward", "back", BACKWARD, ["s", "ds", "dx"]),
)
ARRAYS = {
    "x": np.arange(192, dtype=np.float32).reshape(3, 64),
    "ds": np.full((3, 32), 0.5, np.float32),
}


def test_both_phases() -> None:
    """Launches and buffers may be mappings or objects."""
    objects = [SimpleNamespace(**each) for each in LAUNCHES]
    described = {name: SimpleNamespace(**{"of": None} | buffer) for name, buffer in BUFFERS.items()}
    for launches, buffers in ((LAUNCHES, BUFFERS), (objects, described)):
        forward = run(launches, buffers, ARRAYS, "forward")
        assert forward.keys() == {"y", "s"}
        np.testing.assert_array_equal(forward["y"], 2 * ARRAYS["x"])
        np.testing.assert_array_equal(forward["s"], ARRAYS["x"].reshape(3, 32, 2).sum(2))
        backward = run(launches, buffers, ARRAYS | forward, "backward")
        assert backward["dx"].dtype == np.uint16
        wide = (backward["dx"].astype(np.uint32) << 16).view(np.float32)
        np.testing.assert_allclose(wide, forward["s"] / 2, rtol=2**-8)
    assert ARRAYS["x"][0, 1] == 1


def test_launches_follow_one_another() -> None:
    """A workspace of one launch is the next one's to read, and written by one before it is read."""
    copy = BACKWARD.replace("cvt.rn.bf16.f32 h, %f1; st.global.b16 [%d3], h;", "st.global.f32 [%d3], %f1;")
    copy = copy.replace("mul.wide.u32 %d5, %r4, 2", "mul.wide.u32 %d5, %r4, 4")
    first = launch("backward", "back", copy, ["s", "ds", "w"])
    second = launch("backward", "back", BACKWARD, ["w", "ds", "dx"])
    arrays = ARRAYS | {"s": np.full((3, 32), 8, np.float32)}
    found = run([first, second], BUFFERS, arrays, "backward")
    assert (found["w"] == 4).all()
    assert (found["dx"] == np.float32(2).view(np.uint32) >> 16).all()
    with pytest.raises(UninitialisedRead):
        run([second, first], BUFFERS, arrays, "backward")
    filled = BUFFERS | {"w": BUFFERS["w"] | {"fill": 0}}
    assert (run([second], filled, arrays, "backward")["dx"] == 0).all()


def test_traffic() -> None:
    """Counted for each thread: 96 threads load and store 64 bits of x and y, and store 32 bits of s."""
    traffic: Counter[tuple[str, str, str, int]] = Counter()
    run(LAUNCHES, BUFFERS, ARRAYS, "forward", traffic)
    assert traffic == {
        ("double", "x", "load", 64): 96,
        ("double", "y", "store", 64): 96,
        ("double", "s", "store", 32): 96,
    }


def test_what_a_launch_must_not_do() -> None:
    backward = ARRAYS | {"s": np.zeros((3, 32), np.float32)}
    for args, error in (
        (["s", "ds", "ds"], OutOfBounds),
        (["s", "s", "s"], OutOfBounds),
        (["dx", "ds", "s"], OutOfBounds),
    ):
        with pytest.raises(error):
            run([launch("backward", "back", BACKWARD, args)], BUFFERS, backward, "backward")
    with pytest.raises(UninitialisedRead, match="128 bytes of s, 256 bytes of y are never written"):
        run([launch("forward", "double", FORWARD, ["x", "y", "s", 2, 2.0])], BUFFERS, ARRAYS, "forward")
    with pytest.raises(UninitialisedRead, match="12 bytes of s, 24 bytes of y"):
        run([LAUNCHES[0] | {"block": (31, 1, 1)}], BUFFERS, ARRAYS, "forward")


def test_descriptions_that_do_not_fit() -> None:
    for changed, message in (
        ({"args": [{"buffer": "x"}]}, "5 parameters, the launch gives 1"),
        ({"args": [{"buffer": name} for name in "xysxy"]}, "a pointer for the .u32"),
        ({"args": [*LAUNCHES[0]["args"][:3], {"value": 2.5}, {"value": 1}]}, "2.5 for the .u32"),
        ({"args": [{"buffer": "nothing"}]}, "do not exist: nothing"),
        ({"entry": "other"}, "no .entry other, but double"),
        ({"block": (2048, 1, 1)}, "a block of 2048 threads"),
        ({"cluster": (2, 1, 1)}, "no whole clusters"),
        ({"ptx": FORWARD.replace("p4)", "p4)\n.maxntid 16, 1, 1")}, "32 threads, .maxntid allows 16"),
        (
            {"ptx": FORWARD.replace("p4)", "p4)\n.reqntid 64")},
            r".reqntid asks for \(64, 1, 1\)",
        ),
        (
            {"ptx": FORWARD.replace("p4)", "p4) .reqnctapercluster 3, 1, 1")},
            ".reqnctapercluster",
        ),
    ):
        with pytest.raises(PtxError, match=message):
            run([LAUNCHES[0] | changed], BUFFERS, ARRAYS, "forward")
    with pytest.raises(PtxError, match=r"x: expected float32 \(3, 64\), got float32 \(3, 32\)"):
        run(LAUNCHES, BUFFERS, {"x": ARRAYS["ds"]}, "forward")
    with pytest.raises(PtxError, match="x, which is not given"):
        run(LAUNCHES, BUFFERS, {}, "forward")
