"""exp, log, tanh, sigmoid and erf as inline LLVM IR: no call, no branch, no table, any number of lanes.

A kernel library has no undefined symbols, so libm is out of reach, and a loop with a call is no vector code.
Each public function has the form ``f(builder, x) -> y`` where ``x`` is a float, a double or a vector of them
and ``y`` is of the same type. The code is the same for scalars and vectors, so lanes and remainders of a loop
agree to the bit. Fused multiply-add is used where the processor has it: bits may differ between processors.

Only operations that every target has as instructions appear: arithmetic, comparisons, selects, integers of
the same width, and ``llvm.fmuladd``, which becomes two instructions where there is no fused one
(``llvm.fma``, and ``llvm.rint`` or ``llvm.floor`` on x86-64 before SSE 4.1, become calls). Rounding to an
integer adds and subtracts 1.5 * 2^mantissa instead, which assumes the default rounding mode.

The methods are textbook: J.-M. Muller, Elementary Functions (3rd edition), chapter 11 on argument reduction;
for log the arrangement of FreeBSD's e_log.c, as its comments explain it. ``benchmarks/fit_vecmath.py`` makes
the coefficients. The error bounds in the docstrings are in units in the last place (ulp) of the exact result,
with and without fused multiply-add, and ``tests/test_vecmath.py`` asserts them.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

# ---- the numbers that depend on the type -------------------------------------------------------------------


@dataclass(frozen=True)
class _Format:
    """A floating-point type, and the constants and coefficients of the functions in it.

    Polynomials begin with their lowest order. Fits minimise the largest error over the interval; it is given
    after rounding of the coefficients, as a share of the result.
    """

    float_type: ir.Type
    int_type: ir.Type
    code: str  # of struct.pack, to tell bits
    mantissa: int
    bias: int
    # ln 2 in two parts. The first has so few bits that its product with any exponent is exact.
    ln2_high: float
    ln2_low: float
    exp_lowest: float  # below, exp is less than half of the smallest subnormal
    exp_highest: float  # above, exp overflows
    tanh_one: float  # from here on tanh rounds to 1, and erf from erf_one
    erf_one: float
    tanh_numerator: Sequence[float]
    tanh_denominator: Sequence[float]
    exp_tail: Sequence[float]
    log_tail: Sequence[float]
    erf_ratio: Sequence[float]
    log_erfc: Sequence[float]

    def bits(self, number: float) -> int:
        return int.from_bytes(struct.pack("<" + self.code, number), "little")


_FLOAT32 = _Format(
    float_type=ir.FloatType(),
    int_type=ir.IntType(32),
    code="f",
    mantissa=23,
    bias=127,
    ln2_high=355 / 512,
    ln2_low=math.log(2) - 355 / 512,
    exp_lowest=-104.0,
    exp_highest=89.0,
    tanh_one=10.0,
    erf_one=4.0,
    # Lambert's continued fraction up to 9, its error 2.6e-10 at 0.55: x^2 times the first over the second
    # polynomial is what it adds to 1.
    tanh_numerator=(-315.0, -14.0),
    tanh_denominator=(945.0, 420.0, 15.0),
    # (expm1(r) - r) / r^2 for |r| <= ln(2) / 2: expm1 to 1.7e-8
    exp_tail=(
        0.4999999701976776,
        0.1666654348373413,
        0.04166720062494278,
        0.008366520516574383,
        0.0013882530620321631,
    ),
    # (2 atanh(s) - 2 s) / s^3 in s^2, for |s| <= 3 - 2 sqrt(2): log(1 + f) to 8.7e-10
    log_tail=(
        0.6666677594184875,
        0.3997754156589508,
        0.29871729016304016,
    ),
    # erf(x) / x - 1 in x^2, for |x| <= 1: erf to 4.4e-9
    erf_ratio=(
        0.12837916612625122,
        -0.3761262595653534,
        0.1128358542919159,
        -0.026853810995817184,
        0.00518832728266716,
        -0.0008010189631022513,
        7.853846909711137e-05,
    ),
    # log(erfc(1 + u)) for 0 <= u <= 3: erf to 7.9e-9
    log_erfc=(
        -1.8496055603027344,
        -2.6389667987823486,
        -0.8431183099746704,
        -0.04150068759918213,
        0.009890889748930931,
        -0.001826161751523614,
        0.00018557363364379853,
    ),
)

_FLOAT64 = _Format(
    float_type=ir.DoubleType(),
    int_type=ir.IntType(64),
    code="d",
    mantissa=52,
    bias=1023,
    ln2_high=0.6931471805598903,
    ln2_low=5.497923018708371e-14,
    exp_lowest=-746.0,
    exp_highest=710.0,
    tanh_one=20.0,
    erf_one=6.0,
    # Up to 17, its error 1e-21.
    tanh_numerator=(-11486475.0, -810810.0, -12870.0, -44.0),
    tanh_denominator=(34459425.0, 16216200.0, 945945.0, 13860.0, 45.0),
    # The same fits as for float32: expm1 to 3.4e-17
    exp_tail=(
        0.5000000000000006,
        0.16666666666666588,
        0.04166666666657676,
        0.008333333333389549,
        0.0013888888931564694,
        0.00019841269719014627,
        2.4801505273986966e-05,
        2.755740753598852e-06,
        2.762603781926261e-07,
        2.50537770731996e-08,
    ),
    # log(1 + f) to 1.8e-18
    log_tail=(
        0.6666666666666734,
        0.3999999999941468,
        0.2857142874238741,
        0.22222198573209812,
        0.18183564324691906,
        0.1531405059083467,
        0.14795949294470953,
    ),
    # erf to 2.9e-17
    erf_ratio=(
        0.12837916709551256,
        -0.3761263890318352,
        0.11283791670944185,
        -0.02686617064311148,
        0.005223977606118576,
        -0.0008548325929319783,
        0.00012055293577066666,
        -1.4924712305310657e-05,
        1.6447131613087269e-06,
        -1.6206314085345138e-07,
        1.371098183503464e-08,
        -7.779471205814214e-10,
    ),
    # The interval is 0 <= u <= 5 here: erf to 4.8e-18
    log_erfc=(
        -1.8496055099332482,
        -2.638967514234788,
        -0.8431072563586768,
        -0.041561098041808596,
        0.010033825374411293,
        -0.0019779025679348,
        0.00023732248156026014,
        2.6277874850335505e-05,
        -2.715911201053999e-05,
        9.60890058545436e-06,
        -2.059772907021941e-06,
        1.4287645952938647e-07,
        9.754657478640018e-08,
        -5.2037476884689164e-08,
        1.4911312839124327e-08,
        -2.8640080370323753e-09,
        3.682432991170414e-10,
        -2.881515931387098e-11,
        1.039085195197977e-12,
    ),
)
_FORMATS = {"float": _FLOAT32, "double": _FLOAT64}


# ---- formulas instead of builder calls ---------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Term:
    """A scalar or vector value within a formula, and the builder that makes what follows from it."""

    builder: ir.IRBuilder
    value: Any
    format: _Format

    def _constant(self, scalar_type: ir.Type, number: float) -> ir.Constant:
        kind = self._like(scalar_type)
        return ir.Constant(kind, [number] * kind.count if isinstance(kind, ir.VectorType) else number)

    def _like(self, scalar_type: ir.Type) -> ir.Type:
        """The type of as many lanes of ``scalar_type``."""
        if not isinstance(self.value.type, ir.VectorType):
            return scalar_type
        return ir.VectorType(scalar_type, self.value.type.count)


class _Real(_Term):
    """A floating-point value with Python's operators; numbers stand for constants of its type."""

    def _of(self, other: _Real | float) -> Any:
        return other.value if isinstance(other, _Real) else self._constant(self.format.float_type, other)

    def _new(self, value: Any) -> _Real:
        return _Real(self.builder, value, self.format)

    def constant(self, number: float) -> _Real:
        """``number`` in every lane of a value like this one."""
        return self._new(self._of(number))

    def __neg__(self) -> _Real:
        # Not fneg, which NVVM's older dialect does not have.
        return self.constant(-0.0) - self

    def __add__(self, other: _Real | float) -> _Real:
        return self._new(self.builder.fadd(self.value, self._of(other)))

    def __sub__(self, other: _Real | float) -> _Real:
        return self._new(self.builder.fsub(self.value, self._of(other)))

    def __rsub__(self, other: float) -> _Real:
        return self._new(self.builder.fsub(self._of(other), self.value))

    def __mul__(self, other: _Real | float) -> _Real:
        return self._new(self.builder.fmul(self.value, self._of(other)))

    def __truediv__(self, other: _Real) -> _Real:
        return self._new(self.builder.fdiv(self.value, other.value))

    def __lt__(self, other: _Real | float) -> _Mask:
        return _Mask(self.builder, self.builder.fcmp_ordered("<", self.value, self._of(other)))

    def __gt__(self, other: _Real | float) -> _Mask:
        return _Mask(self.builder, self.builder.fcmp_ordered(">", self.value, self._of(other)))

    def is_zero(self) -> _Mask:
        return _Mask(self.builder, self.builder.fcmp_ordered("==", self.value, self._of(0.0)))

    def times_plus(self, factor: _Real | float, addend: _Real | float) -> _Real:
        """``self * factor + addend``, rounded once where the processor can."""
        kind = self.value.type
        lanes = f"v{kind.count}" if isinstance(kind, ir.VectorType) else ""
        name = f"llvm.fmuladd.{lanes}{self.format.float_type.intrinsic_name}"
        function = self.builder.module.declare_intrinsic(name, (), ir.FunctionType(kind, [kind] * 3))
        return self._new(self.builder.call(function, [self.value, self._of(factor), self._of(addend)]))

    def polynomial(self, coefficients: Sequence[float]) -> _Real:
        """By Horner's rule, the lowest order first."""
        result: _Real | float = coefficients[-1]
        for coefficient in coefficients[-2::-1]:
            result = self.times_plus(result, coefficient)
        assert isinstance(result, _Real)
        return result

    def at_least(self, bound: float) -> _Real:
        """The larger one; NaN stays."""
        return (self < bound).select(bound, self)

    def at_most(self, bound: float) -> _Real:
        """The smaller one; NaN stays."""
        return (self > bound).select(bound, self)

    def bits(self) -> _Bits:
        value = self.builder.bitcast(self.value, self._like(self.format.int_type))
        return _Bits(self.builder, value, self.format)

    def magnitude(self) -> _Real:
        """|x|, by bits."""
        return (self.bits() & ~self.format.bits(-0.0)).real()

    def minus_magnitude(self) -> _Real:
        """-|x|, by bits."""
        return (self.bits() | self.format.bits(-0.0)).real()

    def with_sign_of(self, other: _Real) -> _Real:
        """For ``self`` that is not negative."""
        return (self.bits() | (other.bits() & self.format.bits(-0.0))).real()


class _Bits(_Term):
    """The bits of a floating-point value, as an unsigned integer."""

    def _of(self, other: _Bits | int) -> Any:
        if isinstance(other, _Bits):
            return other.value
        width = self.format.int_type.width
        return self._constant(self.format.int_type, other & ((1 << width) - 1))

    def _new(self, value: Any) -> _Bits:
        return _Bits(self.builder, value, self.format)

    def __add__(self, other: _Bits | int) -> _Bits:
        return self._new(self.builder.add(self.value, self._of(other)))

    def __sub__(self, other: _Bits | int) -> _Bits:
        return self._new(self.builder.sub(self.value, self._of(other)))

    def __and__(self, other: _Bits | int) -> _Bits:
        return self._new(self.builder.and_(self.value, self._of(other)))

    def __or__(self, other: _Bits | int) -> _Bits:
        return self._new(self.builder.or_(self.value, self._of(other)))

    def __lshift__(self, count: int) -> _Bits:
        return self._new(self.builder.shl(self.value, self._of(count)))

    def __rshift__(self, count: int) -> _Bits:
        return self._new(self.builder.lshr(self.value, self._of(count)))

    def real(self) -> _Real:
        value = self.builder.bitcast(self.value, self._like(self.format.float_type))
        return _Real(self.builder, value, self.format)


@dataclass(frozen=True)
class _Mask:
    """The outcome of a comparison."""

    builder: ir.IRBuilder
    value: Any

    def select(self, true: _Real | float, false: _Real) -> _Real:
        """``true`` in the lanes where the comparison holds, ``false`` in the others."""
        return false._new(self.builder.select(self.value, false._of(true), false.value))


def _real(builder: ir.IRBuilder, x: ir.Value) -> _Real:
    scalar = x.type.element if isinstance(x.type, ir.VectorType) else x.type
    return _Real(builder, x, _FORMATS[str(scalar)])


# ---- exp and what is made of it ----------------------------------------------------------------------------


def exp(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """e^x to 1.1 ulp, subnormal results included."""
    v = _real(builder, x)
    return _exp(v.at_least(v.format.exp_lowest).at_most(v.format.exp_highest)).value


def sigmoid(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """1 / (1 + e^-x) to 1.9 ulp, also where it underflows.

    With e = e^-|x|, which cannot overflow, it is 1 / (1 + e) for positive and e / (1 + e) for negative x.
    Where e is below 1/2, the roundings of e and 1 + e would add up to 2.3 ulp: e - e^2 / (1 + e) is better
    there, with e as the sum of its power of two and the rest.
    """
    v = _real(builder, x)
    first, second, p = _exp_parts(v.minus_magnitude().at_least(v.format.exp_lowest))
    power = first * second
    e = p.times_plus(power, power)
    small = v < -0.7
    start = small.select(power, e.constant(0.0))
    numerator = small.select(-(e * e), (v < 0.0).select(e, e.constant(1.0)))
    return (start + p.times_plus(start, numerator / (e + 1.0))).value


def tanh(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """tanh(x) to 1.6 ulp, the sign of zero kept: 1 - 2 / (e^2|x| + 1), and a continued fraction below 0.55.

    There, J. H. Lambert's x / (1 + x^2 / (3 + x^2 / (5 + ...))) cut after some terms is
    x + x^3 P(x^2) / Q(x^2). Both halves have a division, so they share one.
    """
    v = _real(builder, x)
    a = v.magnitude().at_most(v.format.tanh_one)
    z = a * a
    small = a < 0.55
    start = small.select(a, a.constant(1.0))
    numerator = small.select(a * z * z.polynomial(v.format.tanh_numerator), a.constant(-2.0))
    denominator = small.select(z.polynomial(v.format.tanh_denominator), _exp_normal(a * 2.0) + 1.0)
    return (start + numerator / denominator).with_sign_of(v).value


def _reduce(x: _Real, offset: int) -> tuple[_Bits, _Real]:
    """k and r of x = k ln 2 + r with |r| <= ln(2) / 2. The low bits hold k + offset, the others noise."""
    f = x.format
    # Between 2^mantissa and 2^(mantissa + 1) floating-point numbers are the integers.
    magic = 1.5 * 2.0**f.mantissa + offset
    shifted = x.times_plus(1 / math.log(2), magic)
    k = shifted - magic
    return shifted.bits(), k.times_plus(-f.ln2_low, k.times_plus(-f.ln2_high, x))


def _exp(x: _Real) -> _Real:
    """e^x between exp_lowest and exp_highest, where 2^k need not be a number but is the product of two."""
    first, second, p = _exp_parts(x)
    return p.times_plus(first, first) * second


def _exp_parts(x: _Real) -> tuple[_Real, _Real, _Real]:
    """e^x = (1 + p) first second, where the product of the powers of two may overflow or underflow."""
    f = x.format
    k, r = _reduce(x, 2 * f.bias)
    # Half of k + 2 bias rounded down, and what is left, are both exponents of normal numbers.
    first = (k << (f.mantissa - 1)) & (-1 << f.mantissa)
    second = (k << f.mantissa) - first
    return first.real(), second.real(), _expm1_of_remainder(r)


def _exp_normal(x: _Real) -> _Real:
    """e^x where it is neither subnormal nor near overflow."""
    f = x.format
    k, r = _reduce(x, f.bias)
    power = (k << f.mantissa).real()
    return _expm1_of_remainder(r).times_plus(power, power)


def _expm1_of_remainder(r: _Real) -> _Real:
    """e^r - 1, to be multiplied by 2^k, which is then added: its own rounding hardly counts any more."""
    return (r * r).times_plus(r.polynomial(r.format.exp_tail), r)


# ---- log ---------------------------------------------------------------------------------------------------


def log(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """The natural logarithm to 0.9 ulp, of subnormal numbers too; -inf at zero of either sign, NaN below.

    x = 2^k (1 + f) with 1 + f between sqrt(1/2) and sqrt(2). With s = f / (2 + f), log(1 + f) = 2 atanh(s) =
    2 s + s R(s^2), and 2 s = f - f^2 / 2 + s f^2 / 2 keeps the leading term exact.
    """
    v = _real(builder, x)
    fmt = v.format
    subnormal = v < 2.0 ** (1 - fmt.bias)
    lift = fmt.mantissa + 1
    normal = subnormal.select(v * 2.0**lift, v)

    # Moves the boundary between two exponents from 1 to sqrt(1/2).
    root_half = fmt.bits(math.sqrt(0.5))
    moved = normal.bits() + (fmt.bits(1.0) - root_half)
    mantissa = moved & ((1 << fmt.mantissa) - 1)
    # A conversion from 64-bit integers is not everywhere a vector instruction: the exponent is put at the end
    # of the mantissa of 2^mantissa, and that is subtracted again.
    one = 2.0**fmt.mantissa
    exponent = ((moved >> fmt.mantissa) | fmt.bits(one)).real()
    k = subnormal.select(exponent - (one + fmt.bias + lift), exponent - (one + fmt.bias))

    f = (mantissa + root_half).real() - 1.0
    s = f / (f + 2.0)
    z = s * s
    half_square = f * f * 0.5
    tail = s.times_plus(z.times_plus(z.polynomial(fmt.log_tail), half_square), k * fmt.ln2_low)
    y = k.times_plus(fmt.ln2_high, f - (half_square - tail))

    y = (v < math.inf).select(y, v)
    return (v > 0.0).select(y, v.is_zero().select(-math.inf, v.constant(math.nan))).value


# ---- erf ---------------------------------------------------------------------------------------------------


def erf(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """The error function to 1.6 ulp: x + x R(x^2) below 1, 1 - e^q(|x| - 1) above, where q fits log(erfc)."""
    v = _real(builder, x)
    fmt = v.format
    magnitude = v.magnitude()
    below = v.times_plus((v * v).polynomial(fmt.erf_ratio), v)
    above = 1.0 - _exp_normal((magnitude.at_most(fmt.erf_one) - 1.0).polynomial(fmt.log_erfc))
    return (magnitude < 1.0).select(below, above.with_sign_of(v)).value
