"""Conversions, comparisons, moves."""

from __future__ import annotations

import numpy as np
import pytest

from .kernels import lanewise
from .scalars import round_to_bfloat16, widen_bfloat16
from .test_arithmetic import COUNT, RNG, integers, reals, same


@pytest.mark.parametrize(("source", "dtype"), [("f32", "f4"), ("f64", "f8")])
def test_floats_to_integers(source: str, dtype: str) -> None:
    """Clamped to the range, NaN as 0, rounded as the modifier says."""
    values = np.concatenate(
        [reals(dtype, 40), np.array([0.5, -0.5, 1.5, 2.5, -2.5, 3e9, -3e9, 1e20] * 4, dtype)]
    )
    wide = np.where(np.isnan(values), 0, values).astype(np.longdouble)
    for mode, rounding in {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}.items():
        for name, result in {"s32": "i4", "u32": "u4", "s64": "i8", "u64": "u8", "s16": "i2"}.items():
            bounds = np.iinfo(result)
            exact = [
                min(
                    max(
                        int(rounding(v)) if np.isfinite(v) else (bounds.max if v > 0 else bounds.min),
                        bounds.min,
                    ),
                    bounds.max,
                )
                for v in wide
            ]
            found = lanewise(f"cvt.{mode}.{name}.{source} %q, %a;", values, result=result)
            same(found, np.array(exact, result))


@pytest.mark.parametrize("dtype", ["u4", "i4", "u8", "i8"])
def test_integers_to_floats(dtype: str) -> None:
    values, name = integers(dtype), {"u": "u", "i": "s"}[dtype[0]] + str(8 * int(dtype[1]))
    same(lanewise(f"cvt.rn.f32.{name} %q, %a;", values, result="f4"), values.astype("f4"))
    same(lanewise(f"cvt.rn.f64.{name} %q, %a;", values, result="f8"), values.astype("f8"))


def test_between_integers() -> None:
    """Registers may be wider than the type; what they hold is cut and extended."""
    values = integers("i4")
    same(lanewise("cvt.s64.s32 %q, %a;", values, result="i8"), values.astype("i8"))
    same(lanewise("cvt.u64.u32 %q, %a;", values, result="u8"), values.view("u4").astype("u8"))
    same(lanewise("cvt.s32.s8 %q, %a;", values, result="i4"), values.astype("i1").astype("i4"))
    same(lanewise("cvt.u32.u16 %q, %a;", values, result="u4"), values.astype("u2").astype("u4"))
    same(lanewise("cvt.sat.u8.s32 %q, %a;", values, result="u4"), np.clip(values, 0, 255).astype("u4"))
    same(lanewise("cvt.u16.u32 %q, %a;", values, result="u2"), values.astype("u2"))


def test_between_floats() -> None:
    single, double, half = reals("f4", 30), reals("f8", 200), reals("f2", 6)
    with np.errstate(all="ignore"):
        same(lanewise("cvt.rn.f32.f64 %q, %a;", double, result="f4"), double.astype("f4"))
        same(lanewise("cvt.f64.f32 %q, %a;", single, result="f8"), single.astype("f8"))
        same(lanewise("cvt.rn.f16.f32 %q, %a;", single, result="f2"), single.astype("f2"))
        same(lanewise("cvt.f32.f16 %q, %a;", half, result="f4"), half.astype("f4"))
        same(lanewise("cvt.rni.f32.f32 %q, %a;", single, result="f4"), np.rint(single))
        same(lanewise("cvt.rzi.ftz.f32.f32 %q, %a;", single, result="f4"), np.trunc(single))
    toward_zero = lanewise("cvt.rz.f16.f32 %q, %a;", single, result="f2")
    finite = np.isfinite(single)
    assert (np.abs(toward_zero[finite].astype("f8")) <= np.abs(single[finite].astype("f8"))).all()


def test_bfloat16() -> None:
    single = reals("f4", 30)
    rounded = round_to_bfloat16(single)
    finite = np.isfinite(single) & np.isfinite(widen_bfloat16(rounded))
    exact, nearest = single[finite], rounded[finite]
    for neighbour in (nearest + np.uint16(1), nearest - np.uint16(1)):
        gap = np.abs(widen_bfloat16(neighbour).astype(float) - exact)
        # Next to zero and to the largest value lie NaNs.
        assert (np.abs(widen_bfloat16(nearest) - exact) <= np.where(np.isnan(gap), np.inf, gap)).all()
    same(lanewise("cvt.rn.bf16.f32 %q, %a;", single, result="u2"), rounded)
    same(lanewise("cvt.f32.bf16 %q, %a;", rounded, result="f4"), widen_bfloat16(rounded))
    cut = (single.view("u4") >> np.uint32(16)).astype("u2")
    same(
        lanewise("cvt.rz.bf16.f32 %q, %a;", single, result="u2"),
        np.where(np.isnan(single), np.uint16(0x7FFF), cut),
    )


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
def test_pairs_put_the_first_in_the_upper_half(dtype: str) -> None:
    high, low = reals("f4", 4), reals("f4", 4)

    def narrow(values: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            bits = values.astype(np.float16).view("u2") if dtype == "f16" else round_to_bfloat16(values)
        return np.where(np.isnan(values), 0, bits).astype("u4")

    found = lanewise(f"cvt.rn.{dtype}x2.f32 %q, %a, %b;", high, low, result="u4")
    nan = np.isnan(high) | np.isnan(low)
    same(found[~nan], (narrow(high) << np.uint32(16) | narrow(low))[~nan])
    clamped = lanewise(f"cvt.rn.relu.{dtype}x2.f32 %q, %a, %b;", high, low, result="u4")
    positive = narrow(np.maximum(high, 0)) << np.uint32(16) | narrow(np.maximum(low, 0))
    same(clamped[~nan], positive[~nan])


def test_float_comparisons_and_nan() -> None:
    a, b = reals("f4"), reals("f4")
    a[:8] = b[:8]
    either_nan = np.isnan(a) | np.isnan(b)
    plain = {"eq": a == b, "lt": a < b, "le": a <= b, "gt": a > b, "ge": a >= b}
    cases = plain | {f"{name}u": truth | either_nan for name, truth in plain.items()}
    cases |= {"ne": (a != b) & ~either_nan, "neu": a != b, "num": ~either_nan, "nan": either_nan}
    for name, expected in cases.items():
        found = lanewise(f"setp.{name}.f32 %p1, %a, %b; selp.b32 %q, 1, 0, %p1;", a, b, result="u4")
        same(found, expected.astype("u4"))


def test_integer_comparisons() -> None:
    a, b = integers("i4"), integers("i4")
    a[:8] = b[:8]
    for name, signed, unsigned in (
        ("lt", a < b, a.view("u4") < b.view("u4")),
        ("ge", a >= b, a.view("u4") >= b.view("u4")),
    ):
        found = lanewise(f"setp.{name}.s32 %p1, %a, %b; selp.b32 %q, 1, 0, %p1;", a, b, result="u4")
        same(found, signed.astype("u4"))
        found = lanewise(f"setp.{name}.u32 %p1, %a, %b; selp.b32 %q, 1, 0, %p1;", a, b, result="u4")
        same(found, unsigned.astype("u4"))
    found = lanewise("set.lo.u32.u32 %q, %a, %b;", a, b, result="u4")
    same(found, np.where(a.view("u4") < b.view("u4"), 0xFFFFFFFF, 0).astype("u4"))
    found = lanewise("set.eq.f32.s32 %q, %a, %b;", a, b, result="f4")
    same(found, (a == b).astype("f4"))


def test_predicates_combine() -> None:
    a, b = integers("i4"), integers("i4")
    text = """setp.gt.s32 %p1, %a, 0; setp.lt.and.s32 %p2|%p3, %a, %b, %p1;
    selp.b32 %r1, 1, 0, %p2; selp.b32 %r2, 2, 0, %p3; add.u32 %r1, %r1, %r2;
    not.pred %p4, %p1; and.pred %p5, %p4, %p2; or.pred %p5, %p5, !%p1; selp.b32 %r2, 4, 0, %p5;
    add.u32 %q, %r1, %r2;"""
    positive, less = a > 0, a < b
    expected = (less & positive) * 1 + (~less & positive) * 2 + ~positive * 4
    same(lanewise(text, a, b, result="u4"), expected.astype("u4"))
    found = lanewise("slct.f32.s32 %q, %a, 0f3F800000, %b;", reals("f4"), b, result="f4")
    assert (found[b < 0] == 1).all()


def test_packing() -> None:
    a, b = RNG.integers(0, 2**16, COUNT).astype("u2"), RNG.integers(0, 2**16, COUNT).astype("u2")
    same(lanewise("mov.b32 %q, {%a, %b};", a, b, result="u4"), np.stack([a, b], 1).view("u4").reshape(-1))
    words = integers("u8")
    text = "mov.b64 {%r1, %r2}, %a; mov.b32 {%h1, _}, %r2; cvt.u32.u16 %q, %h1;"
    same(lanewise(text, words, result="u4"), (words >> np.uint64(32)).astype("u2").astype("u4"))


def test_immediates() -> None:
    a = np.zeros(32, "u4")
    assert (lanewise("mov.f32 %q, 0fBF800000;", a, result="f4") == -1).all()
    assert (lanewise("mov.f64 %q, 0dC000000000000000;", a, result="f8") == -2).all()
    assert (lanewise("mov.b32 %q, -7;", a, result="i4") == -7).all()
    assert (lanewise("add.s32 %q, %a, 0x7fffffff;", a, result="i4") == 2**31 - 1).all()
    assert (lanewise("mov.u32 %q, WARP_SZ;", a, result="u4") == 32).all()
