"""The kernel language in NumPy: what an emitted kernel means, and what it runs on before it is compiled.

A vector is a one-dimensional array of its lanes, a row-sized value a float64, a pointer an array and an
offset.
``lncompile/backends/cpu/frontend.py`` gives compiled kernels the same names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from lncompile import interpret
from lncompile.dtypes import name_of, rounded

#: The kernel language: everything that an emitted kernel may call.
__all__ = [
    "absolute",
    "advance",
    "as_bfloat16",
    "as_float16",
    "as_float32",
    "as_float64",
    "columns",
    "columns_for",
    "elements_to_boundary",
    "erf",
    "everywhere",
    "exp",
    "f32_memory",
    "f32x",
    "f64_memory",
    "f64x",
    "fence",
    "first",
    "fits_float32",
    "fma",
    "gather",
    "is_finite",
    "is_given",
    "is_moderate",
    "keep_first",
    "largest",
    "largests",
    "load",
    "load_partial",
    "log",
    "maximum",
    "minimum",
    "partial_largest",
    "partial_total",
    "prefetch",
    "read",
    "rsqrt",
    "same_alignment",
    "scatter",
    "sigmoid",
    "signal_fence",
    "sqrt",
    "square",
    "store",
    "store_partial",
    "store_rows",
    "store_window",
    "stream",
    "stream_rows",
    "tanh",
    "total",
    "totals",
    "where",
    "window",
    "window_for",
    "write",
]

Array = np.ndarray[Any, np.dtype[Any]]


class Pointer(NamedTuple):
    """The address of an element; ``array`` is flat, None is NULL."""

    array: Array | None
    offset: int = 0


def hole(name: str) -> None:
    """A place in a template that generated statements replace."""
    raise AssertionError(f"hole {name!r} was not filled")


def load(p: Pointer, i: int, lanes: int) -> Array:
    """The ``lanes`` elements from ``p[i]`` on."""
    return load_partial(p, i, lanes, lanes)


def load_partial(p: Pointer, i: int, count: int, lanes: int) -> Array:
    """The ``count`` elements from ``p[i]`` on, then zeros up to ``lanes``; none past them is touched."""
    assert p.array is not None
    start = p.offset + i
    assert start in range(p.array.size - count + 1), "read outside the array"
    vector = np.zeros(lanes, p.array.dtype)
    vector[:count] = p.array[start : start + count]
    return vector


def gather(p: Pointer, i: int, stride: int, count: int, lanes: int) -> Array:
    """The ``count`` elements ``p[i * stride]``, ``p[(i + 1) * stride]``, ..., then zeros up to ``lanes``."""
    assert p.array is not None
    vector = np.zeros(lanes, p.array.dtype)
    for lane in range(count):
        vector[lane] = load(p, (i + lane) * stride, 1)[0]
    return vector


def scatter(p: Pointer, i: int, stride: int, count: int, value: Any) -> None:
    """Write the first ``count`` lanes to ``p[i * stride]``, ``p[(i + 1) * stride]``, ..."""
    for lane in range(count):
        store(p, (i + lane) * stride, value[lane])


def columns(p: Pointer, start: int, count: int, length: int, lanes: int) -> Pointer:
    """Scratch memory with ``count`` rows of ``length`` elements from ``p[start]`` on, column after column.

    Lanes past ``count`` hold the last row again.
    """
    rows = load(p, start, count * length).reshape(count, length)
    return Pointer(rows[np.minimum(np.arange(lanes), count - 1)].T.flatten())


def columns_for(p: Pointer, length: int, lanes: int) -> Pointer:
    """Scratch memory for ``length`` columns of elements like those of ``p``."""
    assert p.array is not None
    return Pointer(np.empty(length * lanes, p.array.dtype))


def store_rows(p: Pointer, start: int, count: int, length: int, lanes: int, scratch: Pointer) -> None:
    """Write ``count`` rows from ``p[start]`` on, which lie in ``scratch`` as columns."""
    assert scratch.array is not None
    store(p, start, scratch.array.reshape(length, lanes).T[:count].flatten())


def stream_rows(p: Pointer, start: int, length: int, lanes: int, scratch: Pointer, boundary: int) -> None:
    """Like :func:`store_rows` of ``lanes`` rows, past the caches; ``p[start]`` lies on a boundary."""
    assert elements_to_boundary(advance(p, start), boundary) == 0, "an unaligned stream"
    store_rows(p, start, lanes, length, lanes, scratch)


def window(p: Pointer, start: int, count: int, row: int, rows: int, lanes: int, packed: bool) -> Pointer:
    """The ``count`` columns from ``p[start]`` on, of ``rows`` that lie ``row`` elements apart.

    ``packed`` they lie ``lanes`` apart in scratch memory, with zeros in the lanes past ``count``.
    """
    if not packed:
        return advance(p, start)
    vectors = [load_partial(p, start + n * row, count, lanes) for n in range(rows)]
    return Pointer(np.concatenate(vectors))


def window_for(p: Pointer, start: int, count: int, row: int, rows: int, lanes: int, packed: bool) -> Pointer:
    """Memory for what :func:`store_window` writes: where it belongs, or scratch memory."""
    assert p.array is not None
    return Pointer(np.empty(rows * lanes, p.array.dtype)) if packed else advance(p, start)


def store_window(
    p: Pointer, start: int, count: int, row: int, rows: int, lanes: int, scratch: Pointer
) -> None:
    """Write what lies in ``scratch`` ``lanes`` apart as ``count`` columns from ``p[start]`` on."""
    for n in range(rows):
        store_partial(p, start + n * row, count, load(scratch, n * lanes, lanes))


def store(p: Pointer, i: int, value: Any) -> None:
    """Write a vector or a scalar from ``p[i]`` on, rounded to the element type."""
    store_partial(p, i, np.size(value), value)


def store_partial(p: Pointer, i: int, count: int, value: Any) -> None:
    """Write the first ``count`` lanes from ``p[i]`` on."""
    assert p.array is not None
    start = p.offset + i
    assert start in range(p.array.size - count + 1), "write outside the array"
    dtype = name_of(p.array.dtype)
    assert dtype is not None
    p.array[start : start + count] = rounded(np.atleast_1d(value)[:count], dtype)


def read(p: Pointer, i: int) -> np.float64:
    """``p[i]`` as a row-sized value."""
    return np.float64(load(p, i, 1)[0])


write = store


def stream(p: Pointer, i: int, value: Any, boundary: int) -> None:
    """Like :func:`store`, past the caches; ``p[i]`` lies on a boundary of so many bytes."""
    assert elements_to_boundary(advance(p, i), boundary) == 0, "an unaligned stream"
    store(p, i, value)


def signal_fence() -> None:
    """What is loaded before is loaded before anything after is stored; compilers alone are told."""


def fence() -> None:
    """Let no later write of this thread overtake what was streamed."""


def prefetch(p: Pointer, i: int, count: int, level: int) -> None:
    """Bring ``count`` elements from ``p[i]`` on into the cache of a level; they may lie outside the array."""


def elements_to_boundary(p: Pointer, boundary: int) -> int:
    """How many elements lie before the next address that is a multiple of ``boundary`` bytes."""
    assert p.array is not None
    return -(p.array.ctypes.data // p.array.itemsize + p.offset) % (boundary // p.array.itemsize)


def same_alignment(p: Pointer, q: Pointer, boundary: int) -> bool:
    """Whether two addresses are equally far from a multiple of ``boundary`` bytes."""
    assert p.array is not None
    assert q.array is not None
    distances = [a.array.ctypes.data + a.offset * a.array.itemsize for a in (p, q) if a.array is not None]
    return (distances[0] - distances[1]) % boundary == 0


def advance(p: Pointer, elements: int) -> Pointer:
    """The pointer ``elements`` further."""
    return Pointer(p.array, p.offset + elements)


def is_given(p: Pointer) -> bool:
    """Whether the pointer is not NULL."""
    return p.array is not None


def everywhere(condition: Any) -> bool:
    """Whether all lanes are true."""
    return bool(np.all(condition))


def f32_memory(length: int) -> Pointer:
    """Scratch memory for ``length`` float32 numbers."""
    return Pointer(np.empty(length, np.float32))


def f64_memory(length: int) -> Pointer:
    """Scratch memory for ``length`` float64 numbers."""
    return Pointer(np.empty(length))


def f32x(value: float, lanes: int) -> Array:
    """A float32 vector of equal lanes."""
    return np.full(lanes, value, np.float32)


def f64x(value: float, lanes: int) -> Array:
    """A float64 vector of equal lanes."""
    return np.full(lanes, value, np.float64)


def as_bfloat16(v: Any) -> Any:
    """Rounded to bfloat16."""
    return rounded(v, "bfloat16")[()]


def as_float16(v: Any) -> Any:
    """Rounded to float16."""
    return rounded(v, "float16")[()]


def as_float32(v: Any) -> Any:
    """Rounded to float32."""
    return np.asarray(v).astype(np.float32)[()]


def as_float64(v: Any) -> Any:
    """Converted to float64."""
    return np.asarray(v).astype(np.float64)[()]


def keep_first(v: Array, count: int, fill: float) -> Array:
    """The first ``count`` lanes, ``fill`` in the others."""
    return np.where(np.arange(v.size) < count, v, v.dtype.type(fill))


def fma(a: Any, b: Any, c: Any) -> Any:
    """a * b + c; compiled, it is rounded once where the CPU can."""
    return a * b + c


square = np.square
sqrt = np.sqrt
exp = np.exp
log = np.log
tanh = np.tanh
absolute = np.abs
maximum = np.maximum
minimum = np.minimum


def where(condition: Any, chosen: Any, other: Any) -> Any:
    """``chosen`` in the lanes where the condition holds, else ``other``; one of them tells the type."""
    logical = np.asarray(chosen).dtype == np.bool_
    typed = logical or np.ndim(condition) <= max(np.ndim(chosen), np.ndim(other))
    assert typed, "lanes chosen between two numbers"
    return np.where(condition, chosen, other)


def _in_own_type(function: Callable[[Array], Array]) -> Callable[[Any], Any]:
    def apply(v: Any) -> Any:
        return np.asarray(function(np.asarray(v, np.float64))).astype(np.asarray(v).dtype)[()]

    return apply


rsqrt = _in_own_type(interpret.UNARY["rsqrt"])
sigmoid = _in_own_type(interpret.UNARY["sigmoid"])
erf = _in_own_type(interpret.UNARY["erf"])


def total(v: Array) -> np.float64:
    """The sum of all lanes."""
    return np.float64(_folded(v, np.add, 1)[0])


def largest(v: Array) -> np.float64:
    """The largest lane; NaN if any is."""
    return np.float64(_folded(v, np.maximum, 1)[0])


def partial_total(v: Array, lanes: int) -> Array:
    """Sums of lanes, ``lanes`` of them if there are more: their :func:`total` is that of all."""
    return _folded(v, np.add, lanes)


def partial_largest(v: Array, lanes: int) -> Array:
    """The largest of lanes, ``lanes`` of them if there are more."""
    return _folded(v, np.maximum, lanes)


def totals(p: Pointer, rows: int, lanes: int) -> Array:
    """The sum of each of ``rows`` vectors of ``lanes`` that lie one behind the other, side by side."""
    return np.array([total(load(p, row * lanes, lanes)) for row in range(rows)])


def largests(p: Pointer, rows: int, lanes: int) -> Array:
    """The largest lane of each of ``rows`` vectors of ``lanes``, side by side."""
    return np.array([largest(load(p, row * lanes, lanes)) for row in range(rows)])


def _folded(v: Array, combine: Callable[[Array, Array], Array], lanes: int) -> Array:
    while v.size > lanes:
        v = combine(v[: v.size // 2], v[v.size // 2 :])
    return v


def first(v: Array) -> np.float64:
    """The first lane."""
    return np.float64(v[0])


def fits_float32(v: Any) -> Any:
    """Zero, or a normal float32: row-sized values that lose nothing but their last bits by rounding."""
    return (v == 0) | (np.finfo(np.float32).tiny <= abs(v)) & (abs(v) <= np.finfo(np.float32).max)


def is_moderate(v: Any) -> Any:
    """Zero, or of a size whose products with ordinary float32 numbers neither overflow nor underflow."""
    return (v == 0) | (abs(v) >= 2.0**-40) & (abs(v) <= 2.0**40)


def is_finite(v: Any) -> Any:
    """Neither infinite nor NaN."""
    return np.isfinite(v)
