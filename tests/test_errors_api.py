"""Wrong input: every kind is refused with an error that names the culprit, what was expected and what came.

And nothing has been written to any argument.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Decimal
from functools import cache
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

import lncompile as lnc
from lncompile import functional

FEATURES = 33


@lnc.norm("... [d]", residual="... d")
def add(x, residual):  # type: ignore[no-untyped-def]
    total = x + residual
    return total - lnc.mean(total), total


@lnc.norm("n (g [c])", weight="g")
def grouped(x, weight=1.0, *, eps=1e-5):  # type: ignore[no-untyped-def]
    return (x - lnc.mean(x)) * lnc.rsqrt(lnc.mean(lnc.square(x)) + eps)


@lnc.norm("... [d]")
def without_default(x, *, slope):  # type: ignore[no-untyped-def]
    return (x - lnc.mean(x)) * slope


# Of ``np.matrix``, which is refused, NumPy says at each use that it should not be used.
pytestmark = pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")

KERNEL: Any = lnc.compile(lnc.layer_norm, shape=(4, FEATURES), dtype="float32")
ADD_KERNEL: Any = lnc.compile(add, shape=(4, FEATURES), dtype="float32")


def arguments() -> SimpleNamespace:
    """New arrays that fit, and contexts of them."""
    rng = np.random.default_rng(0)

    def floats(*shape: int) -> Any:
        return rng.standard_normal(shape).astype(np.float32)

    a = SimpleNamespace(
        x=floats(4, FEATURES),
        weight=floats(FEATURES),
        bias=floats(FEATURES),
        dy=floats(4, FEATURES),
        out=floats(4, FEATURES),
        other=floats(4, FEATURES),
        wide=floats(8, FEATURES),
        readonly=floats(4, FEATURES),
        double=rng.standard_normal((4, FEATURES)),
        dweight=floats(FEATURES),
        dbias=floats(FEATURES),
    )
    a.readonly.flags.writeable = False
    a.masked = np.ma.MaskedArray(a.x, a.x > 0)
    a.matrix = np.matrix(a.x)
    a.ctx = KERNEL.forward(a.x, a.weight, a.bias)[1]
    a.ctx_absent = lnc.layer_norm.forward(a.x, a.weight)[1]
    a.ctx_rms = lnc.rms_norm.forward(a.x, a.weight)[1]
    a.ctx_add = ADD_KERNEL.forward(a.x, a.other)[1]
    return a


class Wrong(NamedTuple):
    """A call that fails, the error's class beside ``LncError``, and what its message holds, in that order."""

    call: Callable[[Any], Any]
    kind: type[Exception]
    words: tuple[str, ...]


def wrong(call: Callable[[Any], Any], kind: type[Exception], *words: str) -> Wrong:
    return Wrong(call, kind, words)


# Wrong types are the point here, so none are checked.
LN: Any = lnc.layer_norm
RMS: Any = lnc.rms_norm
F: Any = functional
compiled: Any = lnc.compile
norm: Any = lnc.norm


def cast_to(dtype: str) -> Callable[[Any], Any]:
    return lambda a: LN(np.zeros((4, FEATURES)).astype(dtype))


ARRAYS = {
    f"{dtype} array": wrong(cast_to(dtype), TypeError, "x:", "float32", text)
    for dtype, text in {
        "int32": "int32",
        "uint8": "uint8",
        "bool": "bool",
        "complex64": "complex64",
        "longdouble": str(np.dtype(np.longdouble)),
        "object": "object",
        "U3": "<U",
        "S3": "|S",
        "M8[s]": "datetime64[s]",
        "f4,f4": "[('f0'",
        "complex128": "complex128",
        "m8[s]": "timedelta64[s]",
        "V4": "|V4",
        "uint64": "uint64",
        ">i4": ">i4",
    }.items()
} | {
    "list": wrong(lambda a: LN([[1.0, 2.0]]), TypeError, "x:", "NumPy array", "list"),
    "tuple of numbers": wrong(lambda a: LN((1.0, 2.0)), TypeError, "x:", "NumPy array", "tuple"),
    "Python number": wrong(lambda a: LN(1.0), TypeError, "x:", "NumPy array", "float"),
    "bytes": wrong(lambda a: LN(b"abc"), TypeError, "x:", "NumPy array", "bytes b'abc'"),
    "memoryview": wrong(lambda a: LN(memoryview(a.x)), TypeError, "x:", "NumPy array", "memoryview"),
    "mapping": wrong(lambda a: LN({"x": a.x}), TypeError, "x:", "NumPy array", "dict"),
    "a dtype": wrong(lambda a: LN(np.float32), TypeError, "x:", "NumPy array", "numpy.float32"),
    "records": wrong(
        lambda a: LN(np.rec.array([(1.0, 2.0)], dtype="f4,f4")), TypeError, "x:", "float32", "record"
    ),
    "masked x in forward": wrong(lambda a: LN.forward(a.masked), TypeError, "x:", "array", "MaskedArray"),
    "string": wrong(lambda a: LN("x"), TypeError, "x:", "NumPy array", "str 'x'"),
    "None for x": wrong(lambda a: LN(None), TypeError, "x:", "NumPy array", "None"),
    "None for a required argument": wrong(lambda a: add(a.x, None), TypeError, "residual:", "array", "None"),
    "masked array": wrong(lambda a: LN(a.masked), TypeError, "x:", "NumPy array", "MaskedArray"),
    "matrix": wrong(lambda a: LN(a.matrix), TypeError, "x:", "NumPy array", "matrix"),
    "masked weight": wrong(
        lambda a: LN(a.x, np.ma.MaskedArray(a.weight)), TypeError, "weight:", "array", "MaskedArray"
    ),
    "integer weight": wrong(
        lambda a: LN(a.x, np.ones(FEATURES, int)), TypeError, "weight:", "float32", "int64"
    ),
    "list as bias": wrong(lambda a: LN(a.x, a.weight, [1.0]), TypeError, "bias:", "array", "list"),
    "number as weight": wrong(lambda a: LN(a.x, 2.0), TypeError, "weight:", "array", "float 2.0"),
    "integer scalar": wrong(lambda a: LN(a.x, np.int64(2)), TypeError, "weight:", "float32", "int64"),
    "wrong dtype in forward": wrong(
        lambda a: LN.forward(a.x.astype(int)), TypeError, "x:", "float32", "int64"
    ),
}

SHAPES = {
    "no dimensions": wrong(lambda a: LN(np.float32(1)), ValueError, "x:", "at least 1 dimension", "()"),
    "weight of size 1": wrong(lambda a: LN(a.x, a.weight[:1]), ValueError, "weight:", "(33,)", "(1,)"),
    "weight too short": wrong(lambda a: LN(a.x, a.weight[:-1]), ValueError, "weight:", "(33,)", "(32,)"),
    "bias too long": wrong(
        lambda a: LN(a.x, None, np.zeros(34, "f4")), ValueError, "bias:", "(33,)", "(34,)"
    ),
    "weight of two dimensions": wrong(
        lambda a: LN(a.x, a.weight[None]), ValueError, "weight:", "1 dimension", "(1, 33)"
    ),
    "weight without dimensions": wrong(
        lambda a: LN(a.x, np.float32(1)), ValueError, "weight:", "1 dimension", "()"
    ),
    "residual that would broadcast": wrong(
        lambda a: add(a.x, a.other[:1]), ValueError, "residual:", "(4, 33)", "(1, 33)"
    ),
    "residual of fewer dimensions": wrong(
        lambda a: add(a.x, a.other[0]), ValueError, "residual:", "33", "(33,)"
    ),
    "rank of a pattern without dots": wrong(
        lambda a: LN.over("n h [c]")(a.x), ValueError, "x:", "3 dimensions", "n h c", "(4, 33)"
    ),
    "wrong shape in forward": wrong(
        lambda a: LN.forward(a.x, a.weight[:1]), ValueError, "weight:", "(33,)", "(1,)"
    ),
}

OPTIONS = {
    "eps=None": wrong(lambda a: LN(a.x, eps=None), TypeError, "eps:", "number", "None"),
    "eps as text": wrong(lambda a: LN(a.x, eps="1e-5"), TypeError, "eps:", "number", "'1e-5'"),
    "eps=True": wrong(lambda a: LN(a.x, eps=True), TypeError, "eps:", "number", "True"),
    "eps as array": wrong(lambda a: LN(a.x, eps=np.ones(2)), TypeError, "eps:", "array"),
    "eps as an array of one": wrong(lambda a: LN(a.x, eps=np.ones(1)), TypeError, "eps:", "(1,)"),
    "eps complex": wrong(lambda a: LN(a.x, eps=1j), TypeError, "eps:", "number", "1j"),
    "eps a type": wrong(lambda a: LN(a.x, eps=float), TypeError, "eps:", "number", "float"),
    "eps a Decimal": wrong(lambda a: LN(a.x, eps=Decimal(1)), TypeError, "eps:", "number", "Decimal"),
    "eps as list": wrong(lambda a: LN(a.x, eps=[1e-5]), TypeError, "eps:", "hashed", "list (float 1e-05)"),
    "eps=None in forward": wrong(lambda a: LN.forward(a.x, eps=None), TypeError, "eps:", "number", "None"),
    "unknown option": wrong(lambda a: LN(a.x, epsilon=1e-5), TypeError, "layer_norm", "'epsilon'"),
    "unknown option in forward": wrong(lambda a: LN.forward(a.x, gain=1), TypeError, "layer_norm", "'gain'"),
    "the dots as a size": wrong(lambda a: LN(a.x, **{"...": 4}), TypeError, "layer_norm", "'...'"),
    "constant without default": wrong(lambda a: without_default(a.x), TypeError, "slope:", "constant"),
    "out_dtype unknown": wrong(
        lambda a: LN(a.x, out_dtype="float33"), TypeError, "out_dtype:", "float32", "'float33'"
    ),
    "out_dtype of integers": wrong(
        lambda a: LN(a.x, out_dtype=int), TypeError, "out_dtype:", "float32", "int"
    ),
    "g missing": wrong(lambda a: grouped(a.x), ValueError, "g", "size", "g=..."),
    "g=0": wrong(lambda a: grouped(a.x, g=0), ValueError, "g:", "positive int", "0"),
    "g=-1": wrong(lambda a: grouped(a.x, g=-1), ValueError, "g:", "positive int", "-1"),
    "g=True": wrong(lambda a: grouped(a.x, g=True), TypeError, "g:", "positive int", "True"),
    "g=True after g=1": wrong(
        lambda a: (grouped(a.x, g=1), grouped(a.x, g=True)), TypeError, "g:", "positive int", "True"
    ),
    "g=1.0": wrong(lambda a: grouped(a.x, g=1.0), TypeError, "g:", "positive int", "1.0"),
    "g=None": wrong(lambda a: grouped(a.x, g=None), TypeError, "g:", "positive int", "None"),
    "g as text": wrong(lambda a: grouped(a.x, g="3"), TypeError, "g:", "positive int", "'3'"),
    "g as a NumPy float": wrong(
        lambda a: grouped(a.x, g=np.float64(3)), TypeError, "g:", "positive int", "3.0"
    ),
    "g as an array": wrong(lambda a: grouped(a.x, g=np.array([3, 3])), TypeError, "g:", "(2,)"),
    "g beyond all sizes": wrong(lambda a: grouped(a.x, g=2**70), ValueError, "x:", "33", f"g={2**70}"),
    "g and c that disagree": wrong(lambda a: grouped(a.x, g=3, c=10), ValueError, "x:", "(4, 30)", "(4, 33)"),
    "n that is not the shape's": wrong(
        lambda a: grouped(a.x, g=3, n=5), ValueError, "x:", "(5, 33)", "(4, 33)"
    ),
    "out_dtype that out lacks": wrong(
        lambda a: LN(a.x, out=a.out, out_dtype="f8"), TypeError, "out:", "float64", "float32"
    ),
    "g as a list": wrong(lambda a: grouped(a.x, g=[3]), TypeError, "g:", "list"),
    "g that does not divide": wrong(lambda a: grouped(a.x, g=4), ValueError, "x:", "33", "g=4"),
    "g and a parameter that disagree": wrong(
        lambda a: grouped(a.x, a.weight[:3], g=11), ValueError, "weight:", "(11,)", "(3,)"
    ),
    "size of an axis that the shape tells": wrong(lambda a: LN(a.x, d=32), ValueError, "x:", "32", "33"),
}

OUT = {
    "a list": wrong(lambda a: LN(a.x, out=[1.0]), TypeError, "out:", "array", "list"),
    "a tuple for one output": wrong(lambda a: LN(a.x, out=(a.out,)), TypeError, "out:", "array", "tuple"),
    "a longer tuple for one output": wrong(
        lambda a: LN(a.x, out=(a.out, a.x[:, 0].copy())), TypeError, "out:", "array", "tuple"
    ),
    "room for what a forward saves": wrong(
        lambda a: LN(a.x, out=(a.out, *(np.zeros(4, "f4") for _ in range(3)))), TypeError, "out:", "tuple"
    ),
    "another dtype": wrong(lambda a: LN(a.x, out=a.double), TypeError, "out:", "float32", "float64"),
    "an integer array": wrong(lambda a: LN(a.x, out=a.x.astype("i4")), TypeError, "out:", "float32", "int32"),
    "another shape": wrong(lambda a: LN(a.x, out=a.wide), ValueError, "out:", "(4, 33)", "(8, 33)"),
    "another rank": wrong(lambda a: LN(a.x, out=a.out[0]), ValueError, "out:", "(4, 33)", "(33,)"),
    "size 1": wrong(lambda a: LN(a.x, out=a.out[:1]), ValueError, "out:", "(4, 33)", "(1, 33)"),
    "read-only": wrong(lambda a: LN(a.x, out=a.readonly), ValueError, "out:", "write", "read-only"),
    "masked": wrong(lambda a: LN(a.x, out=a.masked), TypeError, "out:", "NumPy array", "MaskedArray"),
    "matrix": wrong(lambda a: LN(a.x, out=a.matrix), TypeError, "out:", "NumPy array", "matrix"),
    "partly over x": wrong(
        lambda a: LN(a.wide[:4], out=a.wide[2:6]), ValueError, "out:", "exactly the array x", "partly"
    ),
    "x with its rows reversed": wrong(lambda a: LN(a.x, out=a.x[::-1]), ValueError, "out:", "x", "partly"),
    "off x by an element": wrong(
        lambda a: LN(a.wide.ravel()[:66].reshape(2, 33), out=a.wide.ravel()[1:67].reshape(2, 33)),
        ValueError,
        "out:",
        "exactly the array x",
        "partly",
    ),
    "over a weight in part": wrong(
        lambda a: LN(a.x, a.out[1], out=a.out), ValueError, "out:", "exactly the array weight", "partly"
    ),
    "elements that share memory": wrong(
        lambda a: LN(a.x, out=as_strided(a.out, (4, 33), (4, 4))),
        ValueError,
        "out:",
        "share memory",
        "(4, 4)",
    ),
    "a broadcast array": wrong(
        lambda a: LN(a.x, out=as_strided(a.out, (4, 33), (0, 4))),
        ValueError,
        "out:",
        "share memory",
        "(0, 4)",
    ),
    "in forward, read-only": wrong(
        lambda a: LN.forward(a.x, out=a.readonly), ValueError, "out:", "read-only"
    ),
    "in forward, partly over x": wrong(
        lambda a: LN.forward(a.wide[:4], out=a.wide[2:6]), ValueError, "out:", "x", "partly"
    ),
    "in forward, a tuple": wrong(
        lambda a: LN.forward(a.x, out=(a.out,)), TypeError, "out:", "array", "tuple"
    ),
    "one array for two outputs": wrong(
        lambda a: add(a.x, a.other, out=(a.out, a.out)), ValueError, "out[1]:", "overlaps out[0]"
    ),
    "two that overlap": wrong(
        lambda a: add(a.x, a.other, out=(a.wide[:4], a.wide[3:7])), ValueError, "out[1]:", "overlaps out[0]"
    ),
    "one array for a tuple": wrong(
        lambda a: add(a.x, a.other, out=a.out), TypeError, "out:", "tuple of 2", "ndarray"
    ),
    "too few": wrong(lambda a: add(a.x, a.other, out=(a.out,)), TypeError, "out:", "tuple of 2", "tuple"),
    "too many": wrong(
        lambda a: add(a.x, a.other, out=(a.out, a.wide, a.x)), TypeError, "out:", "tuple of 2", "tuple"
    ),
    "None among them": wrong(
        lambda a: add(a.x, a.other, out=(a.out, None)), TypeError, "out[1]:", "array", "None"
    ),
    "the second of another shape": wrong(
        lambda a: add(a.x, a.other, out=(a.out, a.wide)), ValueError, "out[1]:", "(4, 33)", "(8, 33)"
    ),
}

BACKWARD = {
    "ctx=None": wrong(lambda a: LN.backward(a.dy, None), TypeError, "ctx:", "forward of layer_norm", "None"),
    "an array as ctx": wrong(lambda a: LN.backward(a.dy, a.x), TypeError, "ctx:", "forward", "ndarray"),
    "ctx of another norm": wrong(
        lambda a: LN.backward(a.dy, a.ctx_rms), TypeError, "ctx:", "layer_norm", "rms_norm"
    ),
    "ctx of the same norm over another pattern": wrong(
        lambda a: LN.over("n [d]").backward(a.dy, a.ctx), TypeError, "ctx:", "forward"
    ),
    "ctx of another kernel": wrong(
        lambda a: KERNEL.backward(a.dy, a.ctx_absent), TypeError, "ctx:", "layer_norm"
    ),
    "dy=None": wrong(lambda a: LN.backward(None, a.ctx), TypeError, "dy:", "array", "None"),
    "dy a list": wrong(lambda a: LN.backward([1.0], a.ctx), TypeError, "dy:", "array", "list"),
    "dy a tuple": wrong(lambda a: LN.backward((a.dy,), a.ctx), TypeError, "dy:", "array", "tuple"),
    "dy of another dtype": wrong(
        lambda a: LN.backward(a.double, a.ctx), TypeError, "dy:", "float32", "output", "float64"
    ),
    "dy of integers": wrong(
        lambda a: LN.backward(a.dy.astype(int), a.ctx), TypeError, "dy:", "float32", "int64"
    ),
    "dy of another shape": wrong(
        lambda a: LN.backward(a.wide, a.ctx), ValueError, "dy:", "(4, 33)", "output", "(8, 33)"
    ),
    "dy that would broadcast": wrong(
        lambda a: LN.backward(a.dy[:1], a.ctx), ValueError, "dy:", "(4, 33)", "(1, 33)"
    ),
    "dy masked": wrong(lambda a: LN.backward(a.masked, a.ctx), TypeError, "dy:", "array", "MaskedArray"),
    "one dy for two outputs": wrong(
        lambda a: add.backward(a.dy, a.ctx_add), TypeError, "dy:", "tuple of 2", "ndarray"
    ),
    "dy of other rows than the context": wrong(
        lambda a: LN.backward(a.dy[:2], a.ctx), ValueError, "dy:", "(4, 33)", "(2, 33)"
    ),
    "dy a number": wrong(lambda a: LN.backward(np.float32(1), a.ctx), ValueError, "dy:", "(4, 33)", "()"),
    "ctx of other dtypes": wrong(
        lambda a: LN.backward(a.dy, LN.forward(a.double)[1]), TypeError, "dy:", "float64", "float32"
    ),
    "out over what the context keeps": wrong(
        lambda a: LN.backward(a.dy, a.ctx, out=(a.x[::-1], a.dweight, a.dbias)),
        ValueError,
        "out.x:",
        "exactly the array x",
        "partly",
    ),
    "out self-overlapping": wrong(
        lambda a: LN.backward(a.dy, a.ctx, out=(a.out, as_strided(a.dweight, (33,), (0,)), a.dbias)),
        ValueError,
        "out.weight:",
        "share memory",
        "(0,)",
    ),
    "too few dy": wrong(lambda a: add.backward((a.dy,), a.ctx_add), TypeError, "dy:", "tuple of 2", "tuple"),
    "too many dy": wrong(
        lambda a: add.backward((a.dy, a.dy, a.dy), a.ctx_add), TypeError, "dy:", "tuple of 2", "tuple"
    ),
    "the second dy of another shape": wrong(
        lambda a: add.backward((a.dy, a.wide), a.ctx_add), ValueError, "dy[1]:", "(4, 33)", "(8, 33)"
    ),
    "dy=None among two, wrongly typed other": wrong(
        lambda a: add.backward((None, a.double), a.ctx_add), TypeError, "dy[1]:", "float32", "float64"
    ),
    "out an array": wrong(
        lambda a: LN.backward(a.dy, a.ctx, out=a.out),
        TypeError,
        "out:",
        "3 gradients (x, weight, bias)",
        "ndarray",
    ),
    "out too short": wrong(
        lambda a: LN.backward(a.dy, a.ctx, out=(a.out,)), TypeError, "out:", "3 gradients", "tuple"
    ),
    "out None for a gradient": wrong(
        lambda a: LN.backward(a.dy, a.ctx, out=(a.out, None, a.dbias)),
        TypeError,
        "out.weight:",
        "array",
        "None",
    ),
    "out for an argument that was left out": wrong(
        lambda a: LN.backward(a.dy, a.ctx_absent, out=(a.out, a.dweight, a.dbias)),
        TypeError,
        "out.bias:",
        "None",
        "ndarray",
    ),
    "out of another shape": wrong(
        lambda a: LN.backward(a.dy, a.ctx, out=(a.wide, a.dweight, a.dbias)),
        ValueError,
        "out.x:",
        "(4, 33)",
        "(8, 33)",
    ),
    "out of another dtype": wrong(
        lambda a: LN.backward(a.dy, a.ctx, out=(a.double, a.dweight, a.dbias)),
        TypeError,
        "out.x:",
        "float32",
        "float64",
    ),
    "out read-only": wrong(
        lambda a: LN.backward(a.dy, a.ctx, out=(a.readonly, a.dweight, a.dbias)),
        ValueError,
        "out.x:",
        "read-only",
    ),
    "one array for two gradients": wrong(
        lambda a: LN.backward(a.dy, a.ctx, out=(a.out, a.dweight, a.dweight)),
        ValueError,
        "out.bias:",
        "overlaps out.weight",
    ),
    "out partly over dy": wrong(
        lambda a: LN.backward(a.wide[:4], a.ctx, out=(a.wide[1:5], a.dweight, a.dbias)),
        ValueError,
        "out.x:",
        "dy",
        "partly",
    ),
    "out.weight inside x": wrong(
        lambda a: LN.backward(a.dy, a.ctx, out=(a.out, a.x[0], a.dbias)),
        ValueError,
        "out.weight:",
        "x",
        "partly",
    ),
}

COMPILED = {
    "other features": wrong(lambda a: KERNEL(a.x[:, :32]), TypeError, "weight:", "compiled with", "None"),
    "other features in all": wrong(
        lambda a: KERNEL(a.x[:, :32], a.weight[:32], a.bias[:32]), ValueError, "x:", "d = 33", "32"
    ),
    "another dtype": wrong(
        lambda a: KERNEL(a.double, a.weight, a.bias), TypeError, "x:", "compiled for float32", "float64"
    ),
    "another dtype of a parameter": wrong(
        lambda a: KERNEL(a.x, a.weight.astype("f8"), a.bias), TypeError, "weight:", "float32", "float64"
    ),
    "an argument left out": wrong(
        lambda a: KERNEL(a.x, a.weight), TypeError, "bias:", "compiled with", "None"
    ),
    "an argument too many": wrong(
        lambda a: compiled(lnc.layer_norm, shape=(1, FEATURES), dtype={"x": "f4", "bias": None})(
            a.x, a.weight, a.bias
        ),
        TypeError,
        "bias:",
        "without",
        "array",
    ),
    "a constant": wrong(lambda a: KERNEL(a.x, a.weight, a.bias, eps=1.0), TypeError, "eps:", "compiled in"),
    "a read-only out": wrong(
        lambda a: KERNEL(a.x, a.weight, a.bias, out=a.readonly), ValueError, "out:", "read-only"
    ),
    "an option": wrong(lambda a: KERNEL(a.x, a.weight, a.bias, gain=1), TypeError, "gain:", "arrays alone"),
    "an out_dtype": wrong(
        lambda a: KERNEL(a.x, a.weight, a.bias, out_dtype="f8"), TypeError, "out_dtype:", "compiled in"
    ),
    "no dimensions": wrong(
        lambda a: KERNEL(a.x[0, 0], a.weight, a.bias), ValueError, "x:", "at least 1 dimension", "()"
    ),
    "out a tuple": wrong(
        lambda a: KERNEL(a.x, a.weight, a.bias, out=(a.out,)), TypeError, "out:", "array", "tuple"
    ),
    "dy of another dtype": wrong(
        lambda a: KERNEL.backward(a.double, a.ctx), TypeError, "dy:", "float32", "float64"
    ),
    "shape None": wrong(lambda a: compiled(LN, shape=None), TypeError, "shape:", "sequence of ints", "None"),
    "dtypes as a list": wrong(
        lambda a: compiled(LN, shape=(4, 33), dtype=["f4"]), TypeError, "dtype:", "float32", "['f4']"
    ),
    "size of an unknown axis": wrong(
        lambda a: compiled(LN, shape=(4, 33), q=3), TypeError, "layer_norm", "'q'"
    ),
    "not a norm": wrong(lambda a: compiled(len, shape=(4,)), TypeError, "norm:", "lnc.norm", "len"),
    "shape a number": wrong(lambda a: compiled(LN, shape=33), TypeError, "shape:", "sequence of ints", "33"),
    "shape of floats": wrong(lambda a: compiled(LN, shape=(4, 33.0)), TypeError, "shape:", "ints", "33.0"),
    "shape of bools": wrong(lambda a: compiled(LN, shape=(True, 33)), TypeError, "shape:", "ints", "True"),
    "shape negative": wrong(lambda a: compiled(LN, shape=(4, -1)), ValueError, "shape:", "negative", "-1"),
    "shape beyond 64 bits": wrong(
        lambda a: compiled(LN, shape=(4, 2**80)), ValueError, "shape:", "2**63", f"d={2**80}"
    ),
    "shape of too many elements": wrong(
        lambda a: compiled(LN.over("n [h c]"), shape=(0, 2**40, 2**40)), ValueError, "shape:", "2**63"
    ),
    "shape empty": wrong(lambda a: compiled(LN, shape=()), ValueError, "shape:", "at least 1", "()"),
    "shape as text": wrong(lambda a: compiled(LN, shape="4x33"), TypeError, "shape:", "ints", "'4x33'"),
    "shape of another rank": wrong(
        lambda a: compiled(LN.over("n h [c]"), shape=(4, 33)),
        ValueError,
        "shape:",
        "3 dimensions",
        "(4, 33)",
    ),
    "dtype unknown": wrong(
        lambda a: compiled(LN, shape=(4, 33), dtype="float33"), TypeError, "dtype:", "float32", "'float33'"
    ),
    "dtype of integers": wrong(
        lambda a: compiled(LN, shape=(4, 33), dtype=np.int32), TypeError, "dtype:", "float32", "int32"
    ),
    "dtype None": wrong(lambda a: compiled(LN, shape=(4, 33), dtype=None), TypeError, "dtype:", "None"),
    "dtype of an unknown argument": wrong(
        lambda a: compiled(LN, shape=(4, 33), dtype={"x": "f4", "gamma": "f4"}),
        TypeError,
        "dtype:",
        "'gamma'",
    ),
    "dtype of x missing": wrong(
        lambda a: compiled(LN, shape=(4, 33), dtype={"weight": "f4"}), TypeError, "dtype:", "'x'"
    ),
    "dtype None for a required argument": wrong(
        lambda a: compiled(add, shape=(4, 33), dtype={"x": "f4", "residual": None}),
        TypeError,
        "dtype:",
        "'residual'",
    ),
    "dtype of an argument unknown": wrong(
        lambda a: compiled(LN, shape=(4, 33), dtype={"x": "f4", "weight": "i4"}),
        TypeError,
        "dtype",
        "weight",
        "i4",
    ),
    "target unknown": wrong(
        lambda a: compiled(LN, shape=(4, 33), target="cpu:z80"),
        ValueError,
        "target:",
        "x86-64-v3",
        "'cpu:z80'",
    ),
    "target no text": wrong(
        lambda a: compiled(LN, shape=(4, 33), target=3), TypeError, "target:", "string", "3"
    ),
    "out_dtype unknown": wrong(
        lambda a: compiled(LN, shape=(4, 33), out_dtype="i4"), TypeError, "out_dtype:", "float32", "i4"
    ),
    "option unknown": wrong(lambda a: compiled(LN, shape=(4, 33), ep=1), TypeError, "layer_norm", "'ep'"),
    "eps=None": wrong(lambda a: compiled(LN, shape=(4, 33), eps=None), TypeError, "eps:", "number", "None"),
    "size missing": wrong(lambda a: compiled(grouped, shape=(4, 33)), ValueError, "g", "g=..."),
    "size beyond 64 bits": wrong(
        lambda a: compiled(grouped, shape=(4, 0), g=2**80), ValueError, "2**63", f"g={2**80}"
    ),
    "size that does not divide": wrong(
        lambda a: compiled(grouped, shape=(4, 33), g=4), ValueError, "shape:", "33", "g=4"
    ),
}

FUNCTIONAL = {
    "normalized_shape a number": wrong(
        lambda a: F.layer_norm(a.x, 33), TypeError, "normalized_shape:", "sequence of ints", "33"
    ),
    "normalized_shape empty": wrong(
        lambda a: F.layer_norm(a.x, ()), ValueError, "normalized_shape:", "at least one", "()"
    ),
    "normalized_shape of floats": wrong(
        lambda a: F.layer_norm(a.x, (33.0,)), TypeError, "normalized_shape:", "ints", "33.0"
    ),
    "normalized_shape of bools": wrong(
        lambda a: F.layer_norm(a.x[:, :1], (True,)), TypeError, "normalized_shape:", "ints", "True"
    ),
    "num_groups=True": wrong(lambda a: F.group_norm(a.x, True), TypeError, "num_groups:", "int", "True"),
    "another normalized_shape": wrong(
        lambda a: F.layer_norm(a.x, (4,)), ValueError, "input:", "(4,)", "(4, 33)"
    ),
    "a longer normalized_shape": wrong(
        lambda a: F.rms_norm(a.x, (2, 4, 33)), ValueError, "input:", "(2, 4, 33)", "(4, 33)"
    ),
    "input a list": wrong(lambda a: F.layer_norm([[1.0]], (1,)), TypeError, "input:", "array", "list"),
    "input of integers": wrong(
        lambda a: F.rms_norm(a.x.astype(int), (33,)), TypeError, "input:", "float32", "int64"
    ),
    "weight of another shape": wrong(
        lambda a: F.layer_norm(a.x, (4, 33), a.weight), ValueError, "weight:", "(4, 33)", "(33,)"
    ),
    "bias of another shape": wrong(
        lambda a: F.layer_norm(a.x, (33,), None, a.bias[:1]), ValueError, "bias:", "(33,)", "(1,)"
    ),
    "weight a list": wrong(lambda a: F.rms_norm(a.x, (33,), [1.0]), TypeError, "weight:", "array", "list"),
    "eps=None for layer_norm": wrong(
        lambda a: F.layer_norm(a.x, (33,), eps=None), TypeError, "eps:", "number", "None"
    ),
    "eps as text": wrong(
        lambda a: F.rms_norm(a.x, (33,), eps="small"), TypeError, "eps:", "number", "'small'"
    ),
    "out of another shape": wrong(
        lambda a: F.layer_norm(a.x, (4, 33), out=a.wide), ValueError, "out:", "(4, 33)", "(8, 33)"
    ),
    "out read-only": wrong(lambda a: F.rms_norm(a.x, (33,), out=a.readonly), ValueError, "out:", "read-only"),
    "out partly over the input": wrong(
        lambda a: F.layer_norm(a.wide[:4], (4, 33), out=a.wide[2:6]), ValueError, "out:", "partly"
    ),
}


def named(name: str) -> Callable[[Any], Any]:
    """Defines a norm one of whose parameters has this name."""
    namespace: dict[str, Any] = {"lnc": lnc}
    exec(f"def f(x, {name}=1.0):\n    return x * {name}", namespace)
    return lambda a: norm("... [d]", **{name: "d"})(namespace["f"])


DEFINITIONS = {
    "an argument called out": wrong(named("out"), ValueError, "in f", "'out'"),
    "an argument called out_dtype": wrong(named("out_dtype"), ValueError, "in f", "'out_dtype'"),
    "an argument that begins with an underscore": wrong(
        named("_w"), ValueError, "in f", "'_w'", "underscore"
    ),
    "no pattern": wrong(lambda a: norm(lambda x: x), TypeError, "test_errors_api", "@lnc.norm", "[d]"),
    "a pattern that is no text": wrong(lambda a: norm(3)(lambda x: x), TypeError, "pattern", "string", "int"),
    "over a pattern that is no text": wrong(lambda a: LN.over(3), TypeError, "pattern", "string", "int"),
    "over a pattern that lacks the parameters' axis": wrong(
        lambda a: grouped.over("n [c]"), ValueError, "weight", "'g'", "'n [c]'"
    ),
    "decorating no function": wrong(lambda a: norm("... [d]")(3), TypeError, "function", "3"),
    "control flow on a value": wrong(
        lambda a: norm("... [d]")(lambda x: x if lnc.mean(x) > 0 else -x)(a.x), TypeError, "where"
    ),
    "a NumPy function on a value": wrong(
        lambda a: norm("... [d]")(lambda x: np.exp(x))(a.x), TypeError, "traced value", "lncompile"
    ),
    "threads": wrong(lambda a: lnc.set_num_threads(0), ValueError, "n:", "1", "0"),
}


def body(function: Callable[[Any], Any], pattern: str = "n [d]") -> Callable[[Any], Any]:
    """Calls a norm with this equation."""
    return lambda a: norm(pattern)(function)(a.x)


@cache
def leaked() -> Any:
    """A traced value whose equation has returned; what is in the cache is not traced again."""
    kept: list[Any] = []

    def leaking(x: Any) -> Any:
        kept.append(lnc.mean(x))
        return x - kept[0]

    norm("... [d]")(leaking)(np.ones((2, 3), np.float32))
    return kept[0]


EQUATIONS = {
    name: wrong(body(function), kind, "test_errors_api.py:", *words)
    for name, (function, kind, *words) in {
        "an array on the left": (lambda x: np.ones(33) + x, TypeError, "np.add"),
        "an array on the right": (lambda x: x + np.ones(33), TypeError, "plain number", "(33,)"),
        "a list": (lambda x: x * [1], TypeError, "plain number", "list [1]"),
        "None": (lambda x: x + None, TypeError, "plain number", "None"),
        "a complex number": (lambda x: x * 1j, TypeError, "plain number", "complex 1j"),
        "a string": (lambda x: x * "a", TypeError, "plain number", "str 'a'"),
        "an int beyond all floats": (lambda x: x * 10**400, ValueError, "too large", "401 digits"),
        "returns None": (lambda x: None, ValueError, "output", "traced value", "None"),
        "returns a list": (lambda x: [x, x], ValueError, "output", "traced value", "list"),
        "returns a number": (lambda x: 1.0, ValueError, "output", "no array", "1.0"),
        "returns an array": (lambda x: np.ones(33), ValueError, "output", "traced value", "ndarray"),
        "returns a mapping": (lambda x: {"y": x}, ValueError, "output", "traced value", "dict"),
        "returns a tuple in a tuple": (lambda x: (x, (x, x)), ValueError, "output 1", "tuple"),
        "returns nothing in a tuple": (lambda x: (), ValueError, "empty tuple"),
        "is a generator": (lambda x: (yield x), ValueError, "output", "generator"),
        "over an unknown axis": (
            lambda x: lnc.sum(x, over="q"),
            ValueError,
            "over='q'",
            "unknown axis",
            "n d",
        ),
        "over a batch axis": (lambda x: lnc.sum(x, over="n"), ValueError, "over='n'", "batch axis", "[n]"),
        "over an axis in brackets": (lambda x: lnc.sum(x, over="[d]"), ValueError, "over='[d]'", "brackets"),
        "over a number": (lambda x: lnc.sum(x, over=1), TypeError, "over:", "string", "int"),
        "over a tuple": (lambda x: lnc.sum(x, over=("d",)), TypeError, "over:", "string", "tuple"),
        "over nothing": (lambda x: lnc.sum(x, over=""), ValueError, "no axis", "over=''"),
        "over an axis twice": (lambda x: lnc.sum(x, over="d d"), ValueError, "over", "'d' occurs twice"),
        "over an axis that is gone": (
            lambda x: lnc.sum(lnc.mean(x), over="d"),
            ValueError,
            "over='d'",
            "[n] does not vary over 'd'",
        ),
        "over no feature that is left": (lambda x: lnc.sum(lnc.mean(x)), ValueError, "no axis", "[n]"),
        "a sum of a number": (lambda x: x * lnc.sum(2.0), TypeError, "lnc.sum", "traced value", "2.0"),
        "a cast to integers": (lambda x: lnc.cast(x, "i4"), TypeError, "lnc.cast", "dtype", "'i4'"),
        "a choice by a number": (lambda x: lnc.where(x, x, x), TypeError, "lnc.where", "comparison"),
        "a choice by a plain number": (
            lambda x: lnc.where(1, x, x),
            TypeError,
            "lnc.where",
            "comparison",
            "1",
        ),
        "'&' with a number": (lambda x: (x > 0) & 1, TypeError, "combine comparisons", "int 1"),
        "'~' of a number": (lambda x: ~x, TypeError, "combine comparisons", "traced value"),
        "an attribute": (lambda x: x.T, TypeError, "attribute 'T'"),
        "a method": (lambda x: x.mean(), TypeError, "attribute 'mean'"),
        "the shape": (lambda x: x / x.shape[-1], TypeError, "attribute 'shape'"),
        "a root by **": (lambda x: x**0.5, TypeError, "'**'", "integer", "0.5"),
        "a power of a number": (lambda x: 2.0**x, TypeError, "'**'", "lnc.exp"),
        "a matrix product": (lambda x: x @ x, TypeError, "no '//', '%', '@'"),
        "a remainder": (lambda x: x % 2, TypeError, "no '//', '%', '@'"),
        "float()": (lambda x: x * float(lnc.mean(x)), TypeError, "no number"),
        "math.exp": (lambda x: math.exp(x), TypeError, "no number", "lnc.exp"),
        "max of Python": (lambda x: max(x, 0.0), TypeError, "no truth value", "lnc.where"),
        "sum of Python": (lambda x: sum(x), TypeError, "iterated", "lnc.sum"),
        "len of Python": (lambda x: x / len(x), TypeError, "no length"),
        "a chained comparison": (lambda x: lnc.where(0 < x < 1, x, 0.0), TypeError, "chained", "lnc.where"),
        "'and'": (lambda x: lnc.where(x > 0 and x < 1, x, 0.0), TypeError, "'and'", "lnc.where"),
        "'not'": (lambda x: not x, TypeError, "'not'"),
        "an index": (lambda x: x[0], TypeError, "indexed"),
        "a call": (lambda x: x(1), TypeError, "called"),
        "np.where": (lambda x: np.where(x > 0, x, 0), TypeError, "np.where cannot take traced values"),
        "np.mean": (lambda x: np.mean(x), TypeError, "np.mean cannot take traced values"),
        "np.asarray": (lambda x: np.asarray(x), TypeError, "NumPy functions cannot take traced values"),
    }.items()
} | {
    "a value that left its equation": wrong(
        lambda a: leaked() + 1, TypeError, "leaking", "after the equation has returned"
    ),
    "a value of another equation": wrong(
        lambda a: norm("n [d]")(lambda x: x + leaked())(a.x), TypeError, "another equation", "leaking"
    ),
    "another norm in the body": wrong(
        lambda a: norm("n [d]")(lambda x: LN(x))(a.x), TypeError, "x:", "traced x"
    ),
    "a form of gelu": wrong(
        lambda a: norm("n [d]")(lambda x: lnc.gelu(x, "fast"))(a.x),
        ValueError,
        "approximate:",
        "'tanh'",
        "'fast'",
    ),
    "the logarithm of zero": wrong(
        lambda a: norm("n [d]")(lambda x: x * lnc.log(0.0))(a.x), ValueError, "lnc.log(0.0)"
    ),
    "lnc.exp of an array": wrong(lambda a: lnc.exp(a.x), TypeError, "lnc.exp", "traced value", "(4, 33)"),
}

PATTERNS = {
    f"{pattern!r}": wrong(
        lambda a, pattern=pattern: norm(pattern)(lambda x: x), ValueError, "pattern", pattern, *words
    )
    for pattern, words in {
        "n [d": ("'['", "closed"),
        "n d]": ("']' without",),
        "n [[d]]": ("nested",),
        "n []": ("empty brackets",),
        "n ()": ("empty parentheses",),
        "n (g (c))": ("nested",),
        "n (g [c)]": ("overlap",),
        "n [(g] c)": ("overlap",),
        "n (g c": ("'('", "closed"),
        "n g c)": ("')' without",),
        "n n": ("'n'", "twice"),
        "... ... [d]": ("'...'", "once"),
        "n (... c)": ("'...'", "split"),
        "n*c": ("'*'", "names"),
        "n, [d]": ("','", "names"),
        "n 3": ("'3'", "names"),
        "n .. d": ("'.'", "names"),
        "n -> d": ("'-'", "names"),
    }.items()
}

PARAMETERS = {
    name: wrong(lambda a, define=define: define(), kind, "test_errors_api.py", *words)
    for name, (define, kind, *words) in {
        "an unknown axis": (
            lambda: norm("n [d]", w="q")(lambda x, w: x),
            ValueError,
            "w 'q'",
            "unknown axis",
        ),
        "no axes": (lambda: norm("n [d]")(lambda x, w: x), TypeError, "w:", "not given", 'w="..."'),
        "axes of no argument": (lambda: norm("n [d]", b="d")(lambda x: x), TypeError, "b:", "no such"),
        "brackets": (lambda: norm("n [d]", w="[d]")(lambda x, w: x), ValueError, "w '[d]'", "brackets"),
        "an axis twice": (lambda: norm("n [d]", w="d d")(lambda x, w: x), ValueError, "w 'd d'", "twice"),
        "axes None": (lambda: norm("n [d]", w=None)(lambda x, w: x), TypeError, "w:", "string", "NoneType"),
        "axes a tuple": (lambda: norm("n [d]", w=("d",))(lambda x, w: x), TypeError, "w:", "string", "tuple"),
        "axes of the first": (lambda: norm("n [d]", x="d")(lambda x: x), TypeError, "x:", "pattern"),
        "a first that is optional": (lambda: norm("n [d]")(lambda x=1.0: x), TypeError, "x:", "optional"),
        "any number": (lambda: norm("n [d]")(lambda *x: x), TypeError, "'x'", "no * or **"),
        "any keywords": (lambda: norm("n [d]")(lambda x, **k: x), TypeError, "'k'", "no * or **"),
        "a default of None": (
            lambda: norm("n [d]", w="d")(lambda x, w=None: x),
            TypeError,
            "w:",
            "plain number",
            "None",
        ),
        "no argument": (lambda: norm("n [d]")(lambda: 1), TypeError, "array argument"),
        "an axis called as one": (lambda: norm("n [x]")(lambda x: x), TypeError, "'x'", "rename"),
        "an axis called as a constant": (
            lambda: norm("n [eps]")(lambda x, *, eps=1: x),
            TypeError,
            "'eps'",
            "rename",
        ),
    }.items()
}

CASES = [
    pytest.param(case, id=f"{topic}: {name}")
    for topic, table in {
        "arrays": ARRAYS,
        "shapes": SHAPES,
        "options": OPTIONS,
        "out": OUT,
        "backward": BACKWARD,
        "compiled": COMPILED,
        "functional": FUNCTIONAL,
        "definitions": DEFINITIONS,
        "equations": EQUATIONS,
        "patterns": PATTERNS,
        "parameters": PARAMETERS,
    }.items()
    for name, case in table.items()
]


@pytest.mark.parametrize("case", CASES)
def test_wrong_input_is_refused(case: Wrong) -> None:
    a = arguments()
    before = {name: value.tobytes() for name, value in vars(a).items() if isinstance(value, np.ndarray)}
    with pytest.raises(lnc.LncError) as caught:
        case.call(a)
    assert isinstance(caught.value, case.kind)
    message = str(caught.value)
    at = 0
    for word in case.words:
        found = message.find(word, at)
        assert found >= 0, f"{word!r} is not in {message!r} where it should be"
        at = found
    # A message is one readable sentence, not the text of an array.
    assert len(message) < 400
    assert not re.search(r"array\(", message)
    for name, value in vars(a).items():
        if isinstance(value, np.ndarray):
            assert value.tobytes() == before[name], f"{name} was written to"


def test_a_wrong_python_signature_is_a_type_error() -> None:
    a = arguments()
    calls: list[Callable[[], Any]] = [
        lambda: LN(),
        lambda: LN(a.x, a.weight, a.bias, a.bias),
        lambda: LN(a.x, x=a.x),
        lambda: LN.forward(),
        lambda: LN.forward(a.x, a.weight, a.bias, a.bias),
        lambda: LN.backward(a.dy),
        lambda: KERNEL(),
    ]
    for call in calls:
        with pytest.raises(TypeError):
            call()


def test_after_an_error_calls_go_on() -> None:
    a = arguments()
    expected = LN(a.x, a.weight, a.bias)
    for bad in (a.x.astype(int), a.x[:, :0].astype(int), None):
        with pytest.raises(lnc.LncError):
            LN(bad, a.weight, a.bias)
        assert np.array_equal(LN(a.x, a.weight, a.bias), expected)


def test_an_error_of_the_equation_says_where_and_leaves_the_norm_usable() -> None:
    fail = [True]

    @lnc.norm("... [d]")
    def sometimes(x):  # type: ignore[no-untyped-def]
        if fail[0]:
            raise RuntimeError("from the equation")
        return x - lnc.mean(x)

    a = arguments()
    with pytest.raises(RuntimeError, match="from the equation"):
        sometimes(a.x)
    fail[0] = False
    assert sometimes(a.x).shape == a.x.shape
