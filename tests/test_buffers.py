"""Shapes of buffers from that of the first argument, and the functions that allocate them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lncompile.buffers import allocator, batch_sizes, shape_of, with_role
from lncompile.interface import Buffer, Phase, Size


def phase(dims: tuple[int | str, ...], *others: Buffer, sizes: tuple[Size, ...] = ()) -> Phase:
    return Phase("entry", (Buffer("x", "input", "float32", dims), *others), sizes, ())


def output(*dims: int | str, dtype: str = "float32") -> Buffer:
    return Buffer("y", "output", dtype, dims)


#: The first argument's dimensions, a shape, another array's dimensions and what its shape must be.
CASES: list[tuple[Any, Any, Any, Any]] = [
    (("...", 8), (2, 3, 8), ("...", 8), (2, 3, 8)),
    (("...", 8), (2, 3, 8), ("...",), (2, 3)),
    (("...", 8), (8,), ("...",), ()),
    (("...", 8), (2, 3, 8), (8,), (8,)),
    (("...", 8), (2, 3, 8), (), ()),
    (("n", 8), (5, 8), ("n",), (5,)),
    (("n", "...", 8), (5, 2, 3, 8), ("n", 8), (5, 8)),
    (("n", "...", 8), (5, 8), ("...",), ()),
    (("n", "...", "h", 8), (5, 2, 3, 4, 8), ("h", "..."), (4, 2, 3)),
    (("n", "...", "h"), (5, 2, 3), ("h", "n"), (3, 5)),
    (("...",), (2, 3), ("...", 4), (2, 3, 4)),
    (("n", 6, "..."), (5, 6, 7, 8), ("n", 2), (5, 2)),
    (("n", 6, "..."), (5, 6, 7, 8), ("...",), (7, 8)),
    ((), (), (), ()),
]


@pytest.mark.parametrize(("dims", "shape", "other", "expected"), CASES)
def test_shapes(dims: Any, shape: Any, other: Any, expected: Any) -> None:
    first, buffer = Buffer("x", "input", "float32", dims), output(*other, dtype="float64")
    assert shape_of(buffer, first, shape) == expected
    x = np.empty(shape, np.float32)
    (y,) = allocator(phase(dims, buffer), [buffer])(x)
    assert (y.shape, y.dtype) == (expected, np.float64)
    bare = allocator(phase(dims, buffer), [buffer], single=True)(x)
    assert bare.shape == expected


def test_batch_sizes() -> None:
    first = Buffer("x", "input", "float32", ("n", "...", "h", 8))
    assert batch_sizes(first, (5, 2, 3, 4, 8)) == {"n": (5,), "...": (2, 3), "h": (4,)}


@pytest.mark.parametrize(
    ("axes", "factor", "expected"), [(("...",), 1, 6), (("n", "..."), 2, 60), (("h",), 1, 4), ((), 3, 3)]
)
def test_workspaces_are_as_large_as_their_expression(axes: Any, factor: int, expected: int) -> None:
    workspace = Buffer("w", "workspace", "float64", ("(rows + 2) / 3 * 7",))
    made = phase(("n", "...", "h", 8), workspace, sizes=(Size("rows", axes, factor),))
    (w,) = allocator(made, with_role(made, "workspace"))(np.empty((5, 2, 3, 4, 8), np.float32))
    room = 64 // 8  # to begin on a boundary
    assert w.shape == ((expected + 2) // 3 * 7 + room,)


def test_a_none_keeps_its_place() -> None:
    buffer = output("...")
    assert allocator(phase(("...", 8)), [None, None])(np.empty(8)) == (None, None)
    none, y = allocator(phase(("...", 8), buffer), [None, buffer])(np.empty((2, 8)))
    assert none is None
    assert y.shape == (2,)
    assert allocator(phase(("...", 8)), [])(np.empty(8)) == ()


@pytest.mark.parametrize("x", [None, 3, [1.0], np.float32(1), np.empty(()), np.empty(8).view(np.recarray)])
def test_what_is_no_plain_array_or_has_too_few_dimensions_is_not_served(x: object) -> None:
    buffer = output("n")
    assert allocator(phase(("n", "...", 8), buffer), [buffer])(x) is None
    assert allocator(phase(("n", 8), buffer), [buffer])(x) is None


def test_a_fixed_number_of_dimensions_is_asked_for() -> None:
    buffer = output("n")
    assert allocator(phase(("n", 8), buffer), [buffer])(np.empty((2, 3, 8))) is None


def test_arrays_like_the_first_need_no_number_of_dimensions() -> None:
    buffer = output("n", 8)
    (y,) = allocator(phase(("n", 8), buffer), [buffer])(np.empty((2, 3, 8)))
    assert y.shape == (2, 3, 8)
