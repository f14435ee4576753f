"""Floating-point arithmetic with PTX's roundings: one rounding for an fma, directed modes, flush to zero.

The exact result of an operation on float32 is a float64 and what that lost (error-free transformations;
Dekker 1971, Knuth 4.2.2). Rounding to odd in float64 and once more to the target is one rounding (Boldo and
Melquiond 2008).
"""

from __future__ import annotations

import numpy as np

from .scalars import Array

TINY32 = np.float32(2.0**-126)


def two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """The float64 sum and exactly what it lacks."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def two_product(a: Array, b: Array) -> tuple[Array, Array]:
    """The float64 product and exactly what it lacks, where neither over- nor underflows."""
    product = a * b
    split_a, split_b = a * 134217729.0, b * 134217729.0
    high_a = split_a - (split_a - a)
    high_b = split_b - (split_b - b)
    low_a, low_b = a - high_a, b - high_b
    return product, ((high_a * high_b - product) + high_a * low_b + low_a * high_b) + low_a * low_b


def to_odd(value: Array, rest: Array) -> Array:
    """``value + rest`` as a float64 rounded to odd, where ``value`` is it rounded to nearest."""
    bits = value.view(np.int64)
    away = np.where((rest > 0) == (value > 0), 1, -1)
    inexact = (rest != 0) & np.isfinite(rest) & np.isfinite(value) & ((bits & 1) == 0)
    return np.where(inexact, bits + away, bits).view(np.float64)


def to_odd_float32(value: Array) -> Array:
    """A float64 as a float32 rounded to odd."""
    nearest = value.astype(np.float32)
    wide = nearest.astype(np.float64)
    bits = nearest.view(np.uint32)
    bits = np.where(np.abs(wide) > np.abs(value), bits - np.uint32(1), bits)
    return np.where((wide != value) & ~np.isnan(value), bits | np.uint32(1), bits).view(np.float32)


def direct(nearest: Array, rest: Array, mode: str) -> Array:
    """A result rounded to nearest and the sign of what it lacks, as rounded toward zero, down or up."""
    if mode == "rz":
        toward = np.where(nearest > 0, rest < 0, rest > 0)
        goal = np.zeros_like(nearest)
    elif mode == "rm":
        toward, goal = rest < 0, np.full_like(nearest, -np.inf)
    else:
        toward, goal = rest > 0, np.full_like(nearest, np.inf)
    overflowed = np.isinf(nearest) & np.isnan(rest)
    return np.where(toward & (nearest != goal) & ~overflowed, np.nextafter(nearest, goal), nearest)


def narrow(value: Array, rest: Array | None, dtype: np.dtype[np.floating], mode: str = "rn") -> Array:
    """``value + rest``, float64s, rounded once to float16 or float32."""
    if mode == "rn":
        return (value if rest is None else to_odd(value, rest)).astype(dtype)
    nearest = (value if rest is None else to_odd(value, rest)).astype(dtype)
    gap = value - nearest.astype(np.float64)
    lacking = gap if rest is None else np.where(gap != 0, gap, rest)
    return direct(nearest, lacking, mode)


def fma(a: Array, b: Array, c: Array, mode: str = "rn") -> Array:
    """``a * b + c`` rounded once, in the type of the arguments."""
    if a.dtype == np.float32:
        return _fma32(a, b, c, mode)
    if a.dtype == np.float16:
        product = a.astype(np.float64) * b.astype(np.float64)
        return narrow(*two_sum(product, c.astype(np.float64)), np.dtype(np.float16), mode)
    return _fma64(a, b, c, mode)


def _fma32(a: Array, b: Array, c: Array, mode: str) -> Array:
    # The product of two float32 is exact in float64.
    product = a.astype(np.float64)
    product = product * b
    total = product + c
    if mode == "rn":
        # A second rounding differs only where the first result lies half-way between two float32.
        result = total.astype(np.float32)
        halfway = (total.view(np.uint64) & np.uint64(0x1FFFFFFF)) == np.uint64(0x10000000)
        if not halfway.any() and not ((np.abs(result) < TINY32) & (total != 0)).any():
            return result
    return narrow(*two_sum(product, c.astype(np.float64)), np.dtype(np.float32), mode)


def _fma64(a: Array, b: Array, c: Array, mode: str) -> Array:
    a, b, c = np.broadcast_arrays(a, b, c)
    product, product_rest = two_product(a, b)
    low, low_rest = two_sum(c, product_rest)
    high, high_rest = two_sum(product, low)
    rest = to_odd(*two_sum(low_rest, high_rest))
    plain = a * b + c
    result = high + rest
    # Splitting overflows from 2^996 on, and what a product below 2^-969 lacks is no float64.
    exact = (
        np.isfinite(result) & ((np.abs(product) > 2.0**-960) | (product == 0)) & (np.abs(product) < 2.0**990)
    )
    result = np.where(exact, result, plain)
    if mode == "rn":
        return result
    return direct(result, (high - result) + rest, mode)


def add(a: Array, b: Array, mode: str = "rn") -> Array:
    if mode == "rn":
        return np.asarray(a + b)
    if a.dtype == np.float64:
        return direct(*two_sum(a, b), mode)
    return narrow(*two_sum(a.astype(np.float64), b.astype(np.float64)), a.dtype, mode)


def multiply(a: Array, b: Array, mode: str = "rn") -> Array:
    if mode == "rn":
        return np.asarray(a * b)
    if a.dtype == np.float64:
        return direct(*two_product(a, b), mode)
    return narrow(a.astype(np.float64) * b.astype(np.float64), None, a.dtype, mode)


def divide(a: Array, b: Array, mode: str = "rn") -> Array:
    quotient = np.asarray(a / b)
    if mode == "rn":
        return quotient
    remainder = _remainder(a, quotient, b)
    return direct(quotient, np.where(b < 0, -remainder, remainder), mode)


def square_root(a: Array, mode: str = "rn") -> Array:
    root = np.sqrt(a)
    return root if mode == "rn" else direct(root, _remainder(a, root, root), mode)


def _remainder(a: Array, quotient: Array, b: Array) -> Array:
    """``a - quotient * b`` with its right sign."""
    if a.dtype == np.float64:
        return _fma64(-quotient, b, a, "rn")
    return a.astype(np.float64) - quotient.astype(np.float64) * b.astype(np.float64)


def flush(values: Array) -> Array:
    """Subnormal float32 as zeros of their sign (``.ftz``)."""
    if values.dtype != np.float32:
        return values
    small = np.abs(values) < TINY32
    if not small.any():
        return values
    return np.where(small, np.copysign(np.float32(0), values), values)


def saturate(values: Array) -> Array:
    """Clamped to [0, 1], NaN as 0 (``.sat``)."""
    return np.where(np.isnan(values), values.dtype.type(0), np.clip(values, 0, 1)).astype(values.dtype)
