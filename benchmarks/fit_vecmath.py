"""Fits the polynomials of ``lncompile/backends/cpu/vecmath.py`` and prints them with their errors.

Run as ``python benchmarks/fit_vecmath.py`` with mpmath installed; it takes some seconds. Each fit minimises
the largest weighted error over an interval with the exchange algorithm of Remez (E. W. Cheney, Introduction
to Approximation Theory, chapter 3), on a grid dense enough for polynomials of these degrees. tanh needs no
fit: its coefficients are those of a continued fraction.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import mpmath as mp

mp.mp.dps = 50
POINTS = 1500

Function = Callable[[mp.mpf], mp.mpf]


def rounded(value: mp.mpf, name: str) -> float:
    """``value`` as the nearest number of the type."""
    return float(struct.unpack("f", struct.pack("f", value))[0]) if name == "float32" else float(value)


def remez(rows: list[list[mp.mpf]], target: list[mp.mpf]) -> list[mp.mpf]:
    """The ``c`` for which the largest ``|rows @ c - target|`` is smallest; rows in order of the argument."""
    count = len(rows[0])
    # The extrema of a Chebyshev polynomial are where an exchange starts best.
    at = [round((1 - mp.cos(mp.pi * i / count)) / 2 * (len(rows) - 1)) for i in range(count + 1)]
    for _ in range(30):
        system = mp.matrix([[*rows[i], (-1) ** j] for j, i in enumerate(at)])
        *solution, level = mp.lu_solve(system, mp.matrix([target[i] for i in at]))
        errors = [mp.fdot(row, solution) - value for row, value in zip(rows, target, strict=True)]
        # One extremum for each run of errors of the same sign.
        runs: list[int] = []
        for i, error in enumerate(errors):
            if not runs or mp.sign(error) != mp.sign(errors[runs[-1]]):
                runs.append(i)
            elif abs(error) > abs(errors[runs[-1]]):
                runs[-1] = i
        while len(runs) > len(at):
            runs.pop(0 if abs(errors[runs[0]]) < abs(errors[runs[-1]]) else -1)
        if len(runs) < len(at) or abs(errors[max(runs, key=lambda i: abs(errors[i]))]) < abs(level) * 1.001:
            break
        at = runs
    return [*solution]


def fit(
    what: str, name: str, function: Function, weight: Function, low: float, high: float, degree: int
) -> None:
    """Print the polynomial in ``x`` that is closest to ``function`` on [low, high] in the weighted sense."""
    xs = [low + (high - low) * (1 - mp.cos(mp.pi * (i + mp.mpf(0.5)) / POINTS)) / 2 for i in range(POINTS)]
    weights = [weight(x) for x in xs]
    values = [function(x) for x in xs]
    rows = [[w * x**k for k in range(degree + 1)] for w, x in zip(weights, xs, strict=True)]
    best = remez(rows, [w * v for w, v in zip(weights, values, strict=True)])
    done = [rounded(c, name) for c in best]
    error = max(abs(w * (mp.polyval(done[::-1], x) - v)) for w, x, v in zip(weights, xs, values, strict=True))
    print(f"{what}, {name}: error {mp.nstr(error, 2)} on [{low:.4g}, {high:.4g}]")
    for coefficient in done:
        print(f"    {coefficient!r},")


def exp_tail(r: mp.mpf) -> mp.mpf:
    return (mp.expm1(r) - r) / r**2


def atanh_tail(z: mp.mpf) -> mp.mpf:
    s = mp.sqrt(z)
    return (2 * mp.atanh(s) - 2 * s) / (s * z)


def erf_ratio(z: mp.mpf) -> mp.mpf:
    return mp.erf(mp.sqrt(z)) / mp.sqrt(z) - 1


def log_erfc(u: mp.mpf) -> mp.mpf:
    return mp.log(mp.erfc(1 + u))


def main() -> None:
    half_ln2, largest_s2 = float(mp.log(2) / 2), float((3 - 2 * mp.sqrt(2)) ** 2)
    for name, exp, log, erf, erfc, last in (
        ("float32", 4, 2, 6, 6, 4.0),
        ("float64", 9, 6, 11, 18, 6.0),
    ):
        fit(
            "exp",
            name,
            exp_tail,
            lambda r: abs(r**2 / mp.expm1(r)),
            -half_ln2 * 1.0001,
            half_ln2 * 1.0001,
            exp,
        )
        fit("log", name, atanh_tail, lambda z: z / 2, 0.0, largest_s2, log)
        fit("erf below 1", name, erf_ratio, lambda z: 1 / (1 + erf_ratio(z)), 0.0, 1.0, erf)
        fit("erf above 1", name, log_erfc, lambda u: mp.erfc(1 + u), 0.0, last - 1, erfc)


if __name__ == "__main__":
    main()
