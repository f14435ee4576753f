"""Axis patterns: ``"n (g [c]) [...]"`` to named axes with roles, and array shapes to axis sizes.

A pattern names the dimensions of an array in order. Brackets mark feature axes, parentheses split one
dimension into several axes as in einops, and ``...`` stands for any number of dimensions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import prod
from typing import NamedTuple

from lncompile.errors import LncTypeError, LncValueError
from lncompile.integers import integer

ELLIPSIS = "..."
_TOKEN = re.compile(r"\.\.\.|[^\W\d]\w*|[\[\]()]|\S")

#: One array dimension: the axes that it is made of, outermost first; ``("...",)`` is any number of them.
Dim = tuple[str, ...]
#: Sizes by axis name. The ellipsis has a tuple: one size for each dimension that it stands for.
Sizes = dict[str, "int | tuple[int, ...]"]


class Pattern(NamedTuple):
    """The dimensions of one array, and which of their axes are features."""

    text: str
    dims: tuple[Dim, ...]
    features: frozenset[str]

    @property
    def axes(self) -> tuple[str, ...]:
        """The names of all axes, in their order in memory."""
        return tuple(name for dim in self.dims for name in dim)

    def restricted(self, names: frozenset[str]) -> tuple[Dim, ...]:
        """The dimensions of an array that varies over ``names`` alone, in pattern order."""
        kept = (tuple(name for name in dim if name in names) for dim in self.dims)
        return tuple(dim for dim in kept if dim)


def parse(text: object, culprit: str = "pattern") -> Pattern:
    """Read a pattern; ``LncError`` says what in it cannot be read."""
    if not isinstance(text, str):
        raise LncTypeError(f"{culprit}: expected a string such as '... [d]'; got {type(text).__name__}")

    def wrong(what: str) -> LncValueError:
        return LncValueError(f"{culprit} {text!r}: {what}")

    dims: list[Dim] = []
    features: set[str] = set()
    seen: set[str] = set()
    split: list[str] | None = None
    bracket_from: int | None = None
    bracket_within: list[str] | None = None
    for token in _TOKEN.findall(text):
        if token == "[":
            if bracket_from is not None:
                raise wrong("brackets cannot be nested")
            bracket_from, bracket_within = len(seen), split
        elif token == "]":
            if bracket_from is None:
                raise wrong("a ']' without its '['")
            if bracket_from == len(seen):
                raise wrong("empty brackets mark no axis")
            if bracket_within is not split:
                raise wrong("a split dimension and a pair of brackets overlap")
            bracket_from = None
        elif token == "(":
            if split is not None:
                raise wrong("parentheses cannot be nested")
            split = []
        elif token == ")":
            if split is None:
                raise wrong("a ')' without its '('")
            if not split:
                raise wrong("empty parentheses name no axis")
            if bracket_from is not None and bracket_within is split:
                raise wrong("a split dimension and a pair of brackets overlap")
            dims.append(tuple(split))
            split = None
        elif token == ELLIPSIS or token.isidentifier():
            if token != ELLIPSIS and not token.isascii():
                raise wrong(f"axis {token!r}: expected letters from a to z, digits and underscores")
            if token in seen:
                raise wrong(
                    "'...' can stand once only" if token == ELLIPSIS else f"axis {token!r} occurs twice"
                )
            if token == ELLIPSIS and split is not None:
                raise wrong("'...' cannot be part of a split dimension")
            seen.add(token)
            if bracket_from is not None:
                features.add(token)
            if split is None:
                dims.append((token,))
            else:
                split.append(token)
        else:
            raise wrong(f"cannot read {token!r}; axes are names, '...', '[features]' and '(splits)'")
    if bracket_from is not None:
        raise wrong("a '[' is never closed")
    if split is not None:
        raise wrong("a '(' is never closed")
    return Pattern(text, tuple(dims), frozenset(features))


def parse_argument(text: object, culprit: str, pattern: Pattern) -> tuple[Dim, ...]:
    """Read the axes of an argument beside the first one: names of ``pattern``, without roles."""
    parsed = parse(text, culprit)
    if parsed.features:
        raise LncValueError(f"{culprit} {text!r}: brackets belong to the pattern, not to an argument's axes")
    for name in parsed.axes:
        if name not in pattern.axes:
            raise LncValueError(f"{culprit} {text!r}: unknown axis {name!r}; the pattern is {pattern.text!r}")
    return parsed.dims


def show(dims: tuple[Dim, ...]) -> str:
    """``(("n",), ("g", "c"))`` as ``n (g c)``."""
    return " ".join(dim[0] if len(dim) == 1 else f"({' '.join(dim)})" for dim in dims)


def solve(
    arrays: Mapping[str, tuple[tuple[Dim, ...], tuple[int, ...]]],
    given: Mapping[str, int],
    axes: tuple[str, ...],
) -> Sizes:
    """The size of every axis in ``axes`` from the shapes of all arrays and the sizes given by name.

    ``arrays`` maps an argument's name to its dimensions and its shape. Raises ``LncError`` naming the
    argument that does not fit, or the axis whose size nothing tells.
    """
    sizes: Sizes = {name: _given_size(name, size) for name, size in given.items()}
    pairs = [
        (argument, dim, extent)
        for argument, (dims, shape) in arrays.items()
        for dim, extent in _matched(argument, dims, shape)
    ]
    unsolved = True
    while unsolved:
        unsolved = False
        for argument, dim, extent in pairs:
            missing = [name for name in dim if name not in sizes]
            if len(missing) == 1 and _solve_dim(argument, dim, extent, missing[0], sizes):
                unsolved = True
    for argument, dim, extent in pairs:
        if _known(dim, sizes) and _dim_size(dim, sizes) != extent:
            raise _misfit(argument, *arrays[argument], sizes)
    for name in axes:
        if name not in sizes:
            raise LncValueError(f"{name}: the shapes do not tell the size of axis {name!r}; pass {name}=...")
    return sizes


def _given_size(name: str, size: object) -> int:
    try:
        number = integer(size)
    except TypeError:
        raise LncTypeError(f"{name}: expected a positive int, the size of an axis; got {size!r}") from None
    if number < 1:
        raise LncValueError(f"{name}: expected a positive int, the size of an axis; got {size!r}")
    return number


def _misfit(argument: str, dims: tuple[Dim, ...], shape: tuple[int, ...], sizes: Sizes) -> LncValueError:
    known = (_dim_size(dim, sizes) if _known(dim, sizes) else -1 for dim in dims)
    expected = _shape_text(tuple(size for extent in known for size in _expand(extent)))
    return LncValueError(f"{argument}: expected shape [{show(dims)}] = {expected}; got {_shape_text(shape)}")


def array_shape(dims: tuple[Dim, ...], sizes: Sizes) -> tuple[int, ...]:
    """The shape of an array with these dimensions."""
    return tuple(size for dim in dims for size in _expand(_dim_size(dim, sizes)))


def count(name: str, sizes: Sizes) -> int:
    """The number of positions along one axis; for the ellipsis, of all its dimensions together."""
    size = sizes[name]
    return prod(size) if isinstance(size, tuple) else size


def _matched(
    argument: str, dims: tuple[Dim, ...], shape: tuple[int, ...]
) -> list[tuple[Dim, int | tuple[int, ...]]]:
    if (ELLIPSIS,) in dims:
        at = dims.index((ELLIPSIS,))
        after = len(dims) - at - 1
        if len(shape) < len(dims) - 1:
            expected = f"at least {len(dims) - 1} dimensions [{show(dims)}]"
            raise LncValueError(f"{argument}: expected {expected}; got shape {_shape_text(shape)}")
        middle = tuple(shape[at : len(shape) - after])
        return [
            *zip(dims[:at], shape[:at], strict=True),
            ((ELLIPSIS,), middle),
            *zip(dims[at + 1 :], shape[len(shape) - after :], strict=True),
        ]
    if len(shape) != len(dims):
        expected = f"{len(dims)} dimensions [{show(dims)}]" if dims else "an array without dimensions"
        raise LncValueError(f"{argument}: expected {expected}; got shape {_shape_text(shape)}")
    return list(zip(dims, shape, strict=True))


def _solve_dim(argument: str, dim: Dim, size: int | tuple[int, ...], name: str, sizes: Sizes) -> bool:
    if isinstance(size, tuple):
        sizes[name] = size
        return True
    known = prod(count(other, sizes) for other in dim if other != name)
    if known == 0:
        return False
    if size % known:
        others = "*".join(other for other in dim if other != name)
        raise LncValueError(
            f"{argument}: the dimension ({' '.join(dim)}) of size {size} is no multiple of {others}={known}"
        )
    sizes[name] = size // known
    return True


def _known(dim: Dim, sizes: Sizes) -> bool:
    return all(name in sizes for name in dim)


def _dim_size(dim: Dim, sizes: Sizes) -> int | tuple[int, ...]:
    return sizes[ELLIPSIS] if dim == (ELLIPSIS,) else prod(count(name, sizes) for name in dim)


def _expand(size: int | tuple[int, ...]) -> tuple[int, ...]:
    return size if isinstance(size, tuple) else (size,)


def _shape_text(shape: tuple[int, ...]) -> str:
    texts = ["?" if size < 0 else str(size) for size in shape]
    return f"({', '.join(texts)}{',' if len(texts) == 1 else ''})"
