"""Every arithmetic opcode against NumPy, Python's integers and exact fractions."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from .kernels import lanewise
from .scalars import Array, round_to_bfloat16, widen_bfloat16

RNG = np.random.default_rng(7)
COUNT = 96


def integers(dtype: str) -> Array:
    """All sizes, and the corners of the type."""
    bounds = np.iinfo(dtype)
    values = RNG.integers(bounds.min, bounds.max, COUNT, dtype=dtype, endpoint=True)
    values >>= RNG.integers(0, bounds.bits - 1, COUNT).astype(dtype)
    corners = [bounds.min, bounds.max, 0, 1, bounds.max - 1]
    values[: len(corners)] = np.array(corners, dtype)
    return RNG.permutation(values)


def reals(dtype: str, spread: float = 8) -> Array:
    """Both signs over many powers of two, with zeros, infinities, NaN and subnormals."""
    with np.errstate(all="ignore"):
        values = (RNG.standard_normal(COUNT) * 2.0 ** RNG.integers(-spread, spread, COUNT)).astype(dtype)
        tiny = np.finfo(dtype).smallest_subnormal
        special = [0.0, -0.0, np.inf, -np.inf, np.nan, tiny, -tiny, 3 * tiny]
        values[: len(special)] = np.array(special, dtype)
    return RNG.permutation(values)


def same(found: Array, expected: Array) -> None:
    """The same bits, but any NaN for a NaN."""
    if expected.dtype.kind == "f":
        nan = np.isnan(expected)
        assert (np.isnan(found) == nan).all()
        found, expected = (np.where(nan, 0, each).astype(expected.dtype) for each in (found, expected))
        found, expected = (each.view(f"u{each.dtype.itemsize}") for each in (found, expected))
    np.testing.assert_array_equal(found, expected)


def wrapped(function: Callable[..., int], *arrays: Array, dtype: str) -> Array:
    """A function of Python integers on each element, cut to the type."""
    bits = np.iinfo(dtype).bits
    cut = [function(*(int(value) for value in row)) & ((1 << bits) - 1) for row in zip(*arrays, strict=True)]
    return np.array(cut, f"u{bits // 8}").view(dtype)


NAMES = {"u2": "u16", "i2": "s16", "u4": "u32", "i4": "s32", "u8": "u64", "i8": "s64"}


def truncated(a: int, b: int) -> int:
    return 0 if b == 0 else abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


@pytest.mark.parametrize("dtype", NAMES)
def test_integer_arithmetic(dtype: str) -> None:
    a, b, c, name = integers(dtype), integers(dtype), integers(dtype), NAMES[dtype]
    b[b == 0] = 1
    functions: dict[str, Callable[[int, int], int]] = {
        "add": lambda x, y: x + y,
        "sub": lambda x, y: x - y,
        "mul.lo": lambda x, y: x * y,
        "mul.hi": lambda x, y: x * y >> np.iinfo(dtype).bits,
        "min": min,
        "max": max,
        "div": truncated,
        "rem": lambda x, y: x - truncated(x, y) * y,
    }
    for opcode, function in functions.items():
        same(
            lanewise(f"{opcode}.{name} %q, %a, %b;", a, b, result=dtype), wrapped(function, a, b, dtype=dtype)
        )
    found = lanewise(f"mad.lo.{name} %q, %a, %b, %c;", a, b, c, result=dtype)
    same(found, wrapped(lambda x, y, z: x * y + z, a, b, c, dtype=dtype))
    found = lanewise(f"sad.{name} %q, %a, %b, %c;", a, b, c, result=dtype)
    same(found, wrapped(lambda x, y, z: abs(x - y) + z, a, b, c, dtype=dtype))


@pytest.mark.parametrize("dtype", ["u2", "i2", "u4", "i4"])
def test_wide_products(dtype: str) -> None:
    a, b = integers(dtype), integers(dtype)
    wide = f"{dtype[0]}{2 * int(dtype[1])}"
    c = integers(wide)
    found = lanewise(f"mul.wide.{NAMES[dtype]} %q, %a, %b;", a, b, result=wide)
    same(found, wrapped(lambda x, y: x * y, a, b, dtype=wide))
    found = lanewise(f"mad.wide.{NAMES[dtype]} %q, %a, %b, %c;", a, b, c, result=wide)
    same(found, wrapped(lambda x, y, z: x * y + z, a, b, c, dtype=wide))


def test_saturating_sums() -> None:
    a, b = integers("i4"), integers("i4")
    low, high = -(2**31), 2**31 - 1
    found = lanewise("add.sat.s32 %q, %a, %b;", a, b, result="i4")
    same(found, wrapped(lambda x, y: min(max(x + y, low), high), a, b, dtype="i4"))


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_logic_and_shifts(bits: int) -> None:
    dtype, signed = f"u{bits // 8}", f"i{bits // 8}"
    a, b, c = integers(dtype), integers(dtype), RNG.integers(0, bits + 8, COUNT).astype("u4")
    same(lanewise(f"and.b{bits} %q, %a, %b;", a, b, result=dtype), a & b)
    same(lanewise(f"or.b{bits} %q, %a, %b;", a, b, result=dtype), a | b)
    same(lanewise(f"xor.b{bits} %q, %a, %b;", a, b, result=dtype), a ^ b)
    same(lanewise(f"not.b{bits} %q, %a;", a, result=dtype), ~a)
    same(lanewise(f"cnot.b{bits} %q, %a;", a, result=dtype), (a == 0).astype(dtype))
    found = lanewise(f"shl.b{bits} %q, %a, %b;", a, c, result=dtype)
    same(found, wrapped(lambda x, n: x << n, a, c, dtype=dtype))
    found = lanewise(f"shr.u{bits} %q, %a, %b;", a, c, result=dtype)
    same(found, wrapped(lambda x, n: x >> n, a, c, dtype=dtype))
    found = lanewise(f"shr.s{bits} %q, %a, %b;", a.view(signed), c, result=signed)
    same(found, wrapped(lambda x, n: x >> n, a.view(signed), c, dtype=signed))


@pytest.mark.parametrize("bits", [32, 64])
def test_counts_of_bits(bits: int) -> None:
    dtype = f"u{bits // 8}"
    a = integers(dtype)
    same(lanewise(f"popc.b{bits} %q, %a;", a, result="u4"), wrapped(int.bit_count, a, dtype="u4"))
    same(
        lanewise(f"clz.b{bits} %q, %a;", a, result="u4"),
        wrapped(lambda x: bits - x.bit_length(), a, dtype="u4"),
    )
    found = lanewise(f"brev.b{bits} %q, %a;", a, result=dtype)
    same(found, wrapped(lambda x: int(f"{x:0{bits}b}"[::-1], 2), a, dtype=dtype))
    found = lanewise(f"bfind.u{bits} %q, %a;", a, result="u4")
    same(found, wrapped(lambda x: x.bit_length() - 1, a, dtype="u4"))
    s = a.view(f"i{bits // 8}")
    found = lanewise(f"bfind.s{bits} %q, %a;", s, result="u4")
    same(found, wrapped(lambda x: (x if x >= 0 else ~x).bit_length() - 1, s, dtype="u4"))


@pytest.mark.parametrize("bits", [32, 64])
def test_bit_fields(bits: int) -> None:
    dtype, signed = f"u{bits // 8}", f"i{bits // 8}"
    a, b = integers(dtype), integers(dtype)
    for start, count in [(0, 8), (5, 11), (bits - 4, 4), (bits - 4, 9), (3, 0), (0, bits), (bits, 3)]:
        found = lanewise(f"bfe.u{bits} %q, %a, {start}, {count};", a, result=dtype)
        same(found, wrapped(lambda x, s=start, n=count: x >> s & ((1 << n) - 1), a, dtype=dtype))

        def signed_field(x: int, s: int = start, n: int = count) -> int:
            if n == 0:
                return 0
            sign = x >> min(s + n - 1, bits - 1) & 1
            field = x >> s & ((1 << n) - 1)
            kept = max(0, min(n, bits - s))
            return field & ((1 << kept) - 1) | (-1 << kept if sign else 0)

        found = lanewise(f"bfe.s{bits} %q, %a, {start}, {count};", a, result=signed)
        same(found, wrapped(signed_field, a, dtype=signed))
        mask = (((1 << count) - 1) << start) & ((1 << bits) - 1)
        found = lanewise(f"bfi.b{bits} %q, %a, %b, {start}, {count};", a, b, result=dtype)
        same(found, wrapped(lambda x, y, m=mask, s=start: y & ~m | (x << s) & m, a, b, dtype=dtype))


def test_three_way_logic_and_funnel_shifts() -> None:
    a, b, c = integers("u4"), integers("u4"), integers("u4")
    same(lanewise("lop3.b32 %q, %a, %b, %c, 0x96;", a, b, c, result="u4"), a ^ b ^ c)
    same(lanewise("lop3.b32 %q, %a, %b, %c, 0xca;", a, b, c, result="u4"), (a & b) | (~a & c))
    count = RNG.integers(0, 70, COUNT).astype("u4")

    def funnel(low: int, high: int, n: int) -> int:
        return high << 32 | low

    for mode, cut in (("wrap", lambda n: n & 31), ("clamp", lambda n: min(n, 32))):
        left = wrapped(lambda x, y, n, f=cut: funnel(x, y, n) << f(n) >> 32, a, b, count, dtype="u4")
        right = wrapped(lambda x, y, n, f=cut: funnel(x, y, n) >> f(n), a, b, count, dtype="u4")
        same(lanewise(f"shf.l.{mode}.b32 %q, %a, %b, %c;", a, b, count, result="u4"), left)
        same(lanewise(f"shf.r.{mode}.b32 %q, %a, %b, %c;", a, b, count, result="u4"), right)


def test_byte_permutations() -> None:
    a, b = integers("u4"), integers("u4")

    def permuted(selector: int) -> Array:
        rows = np.stack([a, b], axis=1).view(np.uint8).reshape(COUNT, 8)
        picked = [rows[:, selector >> 4 * place & 7] for place in range(4)]
        signed = [
            np.where(byte >> 7, 255, 0).astype(np.uint8) if selector >> 4 * place & 8 else byte
            for place, byte in enumerate(picked)
        ]
        return np.ascontiguousarray(np.stack(signed, axis=1)).view(np.uint32).reshape(-1)

    for selector in (0x5410, 0x7632, 0x3210, 0xC8FA):
        same(lanewise(f"prmt.b32 %q, %a, %b, {selector};", a, b, result="u4"), permuted(selector))
    for mode, case, selector in [
        ("f4e", 1, 0x4321),
        ("b4e", 1, 0x6701),
        ("rc8", 2, 0x2222),
        ("ecl", 2, 0x3222),
        ("ecr", 1, 0x1110),
        ("rc16", 1, 0x3232),
    ]:
        same(lanewise(f"prmt.b32.{mode} %q, %a, %b, {case};", a, b, result="u4"), permuted(selector))


FLOATS = {"f2": "f16", "f4": "f32", "f8": "f64"}


@pytest.mark.parametrize("dtype", FLOATS)
def test_float_arithmetic(dtype: str) -> None:
    a, b, name = reals(dtype), reals(dtype), FLOATS[dtype]
    with np.errstate(all="ignore"):
        same(lanewise(f"add.rn.{name} %q, %a, %b;", a, b, result=dtype), a + b)
        same(lanewise(f"sub.{name} %q, %a, %b;", a, b, result=dtype), a - b)
        same(lanewise(f"mul.{name} %q, %a, %b;", a, b, result=dtype), a * b)
        same(lanewise(f"neg.{name} %q, %a;", a, result=dtype), -a)
        same(lanewise(f"abs.{name} %q, %a;", a, result=dtype), np.abs(a))
        if dtype != "f2":
            same(lanewise(f"div.rn.{name} %q, %a, %b;", a, b, result=dtype), a / b)
            same(lanewise(f"sqrt.rn.{name} %q, %a;", a, result=dtype), np.sqrt(a))
            same(lanewise(f"rcp.rn.{name} %q, %a;", a, result=dtype), 1 / a)
            same(lanewise(f"copysign.{name} %q, %a, %b;", a, b, result=dtype), np.copysign(b, a))


def exactly_rounded(a: Array, b: Array, c: Array, mode: str) -> Array:
    """``a * b + c`` of finite values by fractions."""
    dtype = a.dtype
    results = []
    for row in zip(a, b, c, strict=True):
        x, y, z = (Fraction(float(value)) for value in row)
        exact = x * y + z
        nearest = dtype.type(float(exact)) if dtype != np.float32 else _nearest_float32(exact)
        value = Fraction(float(nearest))
        goal = {"rz": 0.0, "rm": -math.inf, "rp": math.inf}.get(mode)
        beyond = {
            "rn": False,
            "rz": abs(value) > abs(exact),
            "rm": value > exact,
            "rp": value < exact,
        }[mode]
        results.append(np.nextafter(nearest, dtype.type(goal)) if beyond else nearest)
    return np.array(results, dtype)


def _nearest_float32(exact: Fraction) -> np.float32:
    guess = np.float32(float(exact))
    near = [np.nextafter(guess, np.float32(-np.inf)), guess, np.nextafter(guess, np.float32(np.inf))]
    gaps = [abs(Fraction(float(value)) - exact) for value in near]
    best = [value for value, gap in zip(near, gaps, strict=True) if gap == min(gaps)]
    return min(best, key=lambda value: int(value.view(np.uint32)) & 1)


@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_fma_rounds_once(dtype: str, mode: str) -> None:
    a, b = (RNG.standard_normal(COUNT).astype(dtype) for _ in range(2))
    # Sums that cancel to a few digits, and addends far below half a unit in the last place.
    cancelling = -(a * b) * dtype_of(dtype, 1 + RNG.integers(-2, 3, COUNT) * np.finfo(dtype).eps)
    for c in (cancelling, (RNG.standard_normal(COUNT) * 2.0**-40).astype(dtype)):
        found = lanewise(f"fma.{mode}.{FLOATS[dtype]} %q, %a, %b, %c;", a, b, c, result=dtype)
        same(found, exactly_rounded(a, b, c, mode))


def dtype_of(dtype: str, values: Array) -> Array:
    return np.asarray(values).astype(dtype)


def test_fma_at_a_tie() -> None:
    """The float64 sum lies half-way between two float32, the exact one just above."""
    a, b = np.full(32, 1 + 2.0**-12, np.float32), np.full(32, 1 + 2.0**-12, np.float32)
    c = np.full(32, 2.0**-80, np.float32)
    found = lanewise("fma.rn.f32 %q, %a, %b, %c;", a, b, c, result="f4")
    same(found, exactly_rounded(a, b, c, "rn"))
    assert found[0] == np.float32(1 + 2.0**-11 + 2.0**-23)


@pytest.mark.parametrize("mode", ["rz", "rm", "rp"])
def test_directed_roundings(mode: str) -> None:
    for dtype in ("f4", "f8"):
        name = FLOATS[dtype]
        a, b = (RNG.standard_normal(COUNT).astype(dtype) for _ in range(2))
        zero, one = np.zeros_like(a), np.ones_like(a)
        found = lanewise(f"add.{mode}.{name} %q, %a, %b;", a, b, result=dtype)
        same(found, exactly_rounded(a, one, b, mode))
        found = lanewise(f"mul.{mode}.{name} %q, %a, %b;", a, b, result=dtype)
        same(found, exactly_rounded(a, b, zero, mode))
        quotient = lanewise(f"div.{mode}.{name} %q, %a, %b;", a, b, result=dtype)
        for x, y, q in zip(a, b, quotient, strict=True):
            exact = Fraction(float(x)) / Fraction(float(y))
            step = abs(Fraction(float(np.spacing(q))))
            error = Fraction(float(q)) - exact
            assert abs(error) < step
            low, high = {"rz": (-1, 0) if exact > 0 else (0, 1), "rm": (-1, 0), "rp": (0, 1)}[mode]
            assert low * step <= error <= high * step


def test_flush_and_saturate() -> None:
    a, b = reals("f4"), np.full(COUNT, 2.0**-100, np.float32)
    tiny = np.float32(2.0**-126)
    flushed = np.where(np.abs(a) < tiny, np.copysign(np.float32(0), a), a)
    with np.errstate(all="ignore"):
        product = flushed * b
    expected = np.where(np.abs(product) < tiny, np.copysign(np.float32(0), product), product)
    same(lanewise("mul.ftz.f32 %q, %a, %b;", a, b, result="f4"), expected)
    found = lanewise("add.sat.f32 %q, %a, %b;", a, b, result="f4")
    with np.errstate(all="ignore"):
        same(found, np.where(np.isnan(a), np.float32(0), np.clip(a + b, 0, 1)))


def test_minimum_and_maximum() -> None:
    a, b = reals("f4"), reals("f4")
    a[:4], b[:4] = [0.0, -0.0, np.nan, 1], [-0.0, 0.0, 2, np.nan]
    low = lanewise("min.f32 %q, %a, %b;", a, b, result="f4")
    high = lanewise("max.NaN.f32 %q, %a, %b;", a, b, result="f4")
    assert np.signbit(low[:2]).all()
    assert not np.signbit(high[:2]).any()
    same(low[2:], np.fmin(a, b)[2:])
    same(high[2:], np.maximum(a, b)[2:])


def test_approximate_functions() -> None:
    a = np.abs(RNG.standard_normal(COUNT)).astype("f4") * 4
    wide = a.astype(np.float64)
    for opcode, exact in {
        "ex2.approx.ftz": np.exp2(wide),
        "lg2.approx": np.log2(wide),
        "rsqrt.approx": 1 / np.sqrt(wide),
        "rcp.approx.ftz": 1 / wide,
        "sqrt.approx": np.sqrt(wide),
        "sin.approx": np.sin(wide),
        "cos.approx": np.cos(wide),
        "tanh.approx": np.tanh(wide),
    }.items():
        same(lanewise(f"{opcode}.f32 %q, %a;", a, result="f4"), exact.astype(np.float32))
    b = a[::-1].copy()
    same(lanewise("div.full.f32 %q, %a, %b;", a, b, result="f4"), a / b)
    same(lanewise("div.approx.f32 %q, %a, %b;", a, b, result="f4"), a / b)


def pairs(dtype: str) -> Array:
    """float16 or bfloat16 values two and two in words."""
    values = RNG.standard_normal(2 * COUNT).astype(np.float32)
    narrow = values.astype(np.float16).view(np.uint16) if dtype == "f16" else round_to_bfloat16(values)
    return narrow.view(np.uint32)


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
def test_packed_arithmetic(dtype: str) -> None:
    a, b, c = pairs(dtype), pairs(dtype), pairs(dtype)

    def wide(words: Array) -> Array:
        halves = words.view(np.uint16)
        return (
            halves.view(np.float16).astype(np.float64)
            if dtype == "f16"
            else widen_bfloat16(halves).astype(float)
        )

    def narrow(values: Array) -> Array:
        if dtype == "f16":
            return values.astype(np.float16).view(np.uint16).view(np.uint32)
        return round_to_bfloat16(values.astype(np.float32)).view(np.uint32)

    for opcode, expected in {
        "add": wide(a) + wide(b),
        "mul": wide(a) * wide(b),
        "sub": wide(a) - wide(b),
    }.items():
        same(lanewise(f"{opcode}.{dtype}x2 %q, %a, %b;", a, b, result="u4"), narrow(expected))
    found = lanewise(f"fma.rn.{dtype}x2 %q, %a, %b, %c;", a, b, c, result="u4")
    same(found, narrow(wide(a) * wide(b) + wide(c)))
    same(lanewise(f"neg.{dtype}x2 %q, %a;", a, result="u4"), narrow(-wide(a)))
    same(lanewise(f"max.{dtype}x2 %q, %a, %b;", a, b, result="u4"), narrow(np.maximum(wide(a), wide(b))))


def test_packed_float32() -> None:
    a, b, c = (RNG.standard_normal(2 * COUNT).astype("f4") for _ in range(3))
    found = lanewise("fma.rn.f32x2 %q, %a, %b, %c;", *(each.view("u8") for each in (a, b, c)), result="u8")
    same(found.view("f4"), exactly_rounded(a, b, c, "rn"))


def test_properties() -> None:
    a = reals("f4")
    for name, expected in {
        "finite": np.isfinite(a),
        "notanumber": np.isnan(a),
        "subnormal": (np.abs(a) < np.finfo("f4").tiny) & (a != 0),
    }.items():
        found = lanewise(f"testp.{name}.f32 %p1, %a; selp.u32 %q, 1, 0, %p1;", a, result="u4")
        same(found, expected.astype("u4"))
