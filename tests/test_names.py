"""Equations whose names are those that CUDA's kernels use themselves: the same kernels, under other names."""

from __future__ import annotations

import ast
import keyword
from collections.abc import Callable, Iterator
from functools import cache
from itertools import islice
from typing import Any

import pytest
from cuda_kernels import check, cuda_compilation_of, needs_compiler
from helpers import equation

import lncompile as lnc
from lncompile.emit.cuda.words import WORDS

#: Kernels that together have every form: in registers, in loops, in clusters, of columns, of several stages.
KERNELS: list[tuple[Any, dict[str, int]]] = [
    (lnc.layer_norm, {"...": 3, "d": 1002}),
    (lnc.softmax, {"...": 3, "d": 64}),
    (lnc.rms_norm, {"...": 3, "d": 32768}),
    (lnc.batch_norm, {"n": 4, "c": 3, "...": 40}),
    (lnc.batch_norm.over("[n h w] c"), {"n": 300, "h": 4, "w": 2, "c": 24}),
    (lnc.group_norm, {"n": 2, "g": 2, "c": 3, "...": 24}),
]


def identifiers(code: ast.AST) -> Iterator[str]:
    """All names in it, in order, those of functions and arguments too."""
    for node in ast.walk(code):
        for field in ("id", "arg", "name"):
            if isinstance(name := getattr(node, field, None), str):
                yield name


@cache
def words() -> tuple[str, ...]:
    """All names in those kernels, and in kernels of as many values under names of no meaning."""
    sources = [cuda_compilation_of(norm, sizes).lowered.source for norm, sizes in KERNELS]
    sources.append(emitted(locals_of(neutral(12))))
    found = {name for source in sources for name in identifiers(ast.parse(source))}
    return tuple(sorted(name for name in found - {"x", "lnc", "norm"} if not name.startswith("lnc_")))


def batched(names: tuple[str, ...], count: int) -> list[tuple[str, ...]]:
    return [names[at : at + count] for at in range(0, len(names), count)]


def neutral(count: int) -> tuple[str, ...]:
    return tuple(f"plain{chr(ord('a') + at // 26)}{chr(ord('a') + at % 26)}" for at in range(count))


def defined(text: str, pattern: str = "... [d]", **axes: str) -> Any:
    """The equation of a function by its source."""
    namespace: dict[str, Any] = {"lnc": lnc}
    exec(text, namespace)
    return equation(pattern, **axes)(namespace["norm"])


def locals_of(names: tuple[str, ...]) -> Any:
    """An equation with these names for values of rows and of elements by turns."""
    lines = ["def norm(x):"]
    vector, row = "x", "lnc.mean(x)"
    for at, name in enumerate(names):
        if at % 2:
            lines.append(f"    {name} = {vector} * {row} + {at}.5")
            vector = name
        else:
            lines.append(
                f"    {name} = lnc.square({row}) + {at}.25" + (f" + lnc.sum({vector})" * (at % 8 == 0))
            )
            row = name
    return defined("\n".join([*lines, f"    return {vector} * {row}"]))


def arguments_of(names: tuple[str, ...]) -> Any:
    """An equation with these names for arguments, every other one of which has a number a row."""
    used = " + ".join(f"x * {name}" for name in names)
    axes = {name: "... d" if at % 2 else "..." for at, name in enumerate(names)}
    return defined(f"def norm(x, {', '.join(names)}):\n    return lnc.mean(x) * ({used})", **axes)


def axes_of(names: tuple[str, ...]) -> Any:
    """An equation over axes of these names."""
    one, two, three, four = names
    text = "def norm(x, a):\n    return (x - lnc.mean(x)) * a"
    return defined(text, f"{one} [{two}] {three} [{four}]", a=three)


def emitted(norm: Any, sizes: dict[str, int] | None = None) -> str:
    return cuda_compilation_of(norm, sizes or {"...": 3, "d": 64}).lowered.source


def assert_same_but_names(source: str, other: str) -> None:
    """Every kernel is the same where each name in one stands for one in the other, a word for itself."""
    for kernel, same in zip(ast.parse(source).body, ast.parse(other).body, strict=True):
        if isinstance(kernel, ast.FunctionDef):
            pairs = list(zip(identifiers(kernel), identifiers(same), strict=True))
            there, back = dict(pairs), {b: a for a, b in pairs}
            assert [(a, b) for a, b in pairs if there[a] != b or back[b] != a] == []
            assert [(a, b) for a, b in pairs if (a in WORDS or b in WORDS) and a != b] == []


MAKERS: dict[str, tuple[Callable[[tuple[str, ...]], Any], int]] = {
    "locals": (locals_of, 12),
    "arguments": (arguments_of, 10),
}


in_parts = pytest.mark.parametrize("part", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))])


@in_parts
@pytest.mark.parametrize("kind", MAKERS)
def test_kernels_are_the_same_but_for_names(kind: str, part: int) -> None:
    make, count = MAKERS[kind]
    for some in islice(batched(words(), count), part, None, 3):
        names = tuple(name for name in some if not keyword.iskeyword(name))
        assert_same_but_names(emitted(make(neutral(len(names)))), emitted(make(names)))


@in_parts
def test_axes(part: int) -> None:
    for some in islice(batched(words(), 4), part, None, 3):
        names = (*some, *neutral(4 - len(some)))
        plain = neutral(4)
        assert_same_but_names(
            emitted(axes_of(plain), dict(zip(plain, (2, 3, 4, 5), strict=True))),
            emitted(axes_of(names), dict(zip(names, (2, 3, 4, 5), strict=True))),
        )


@needs_compiler
def test_words_of_the_language_as_values() -> None:
    @equation("... [d]", put="d")
    def norm(x: Any, put: Any) -> Any:
        keep = lnc.mean(x)
        member = x - keep
        first = lnc.mean(lnc.square(member))
        i_0 = lnc.rsqrt(first + 1.0)
        x_wide_i0 = member * i_0
        return x_wide_i0 * put

    assert {"keep", "put", "member", "first", "i_0", "x_wide_i0"} <= set(words())
    check(norm, {"...": 3, "d": 300}, tolerance=1e-6)
