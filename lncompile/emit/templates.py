"""Kernel skeletons: valid Python with statement holes, filled at the holes' indentation.

for i in range(0, FULL, LANES):              for i in range(0, 1024, 64):
    hole("whole")                    -->         x_i = load(x_row, i, 64)
                                                 x_sum += x_i
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from lncompile.errors import CompilerBug

_HOLE = re.compile(r'^( *)hole\("(\w+)"\)$')
_PACKAGE = Path(__file__).resolve().parent.parent


@cache
def directory() -> Path:
    """Where the templates are: inside the installed package, or at the top of a checkout."""
    inside = _PACKAGE / "templates"
    return inside if inside.is_dir() else _PACKAGE.parent / "templates"


@cache
def body(file: str, function: str) -> tuple[str, ...]:
    """The lines of a template function's body, unindented and without lint directives."""
    path = directory() / file
    text = path.read_text(encoding="utf-8")
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            lines = text.splitlines()[node.body[0].lineno - 1 : node.end_lineno]
            return tuple(re.sub(r"  # noqa.*$", "", line)[4:] for line in lines)
    raise CompilerBug(f"{path} has no template {function}")


def fill(file: str, function: str, holes: Mapping[str, list[str]], **names: object) -> list[str]:
    """The template's body with every hole replaced by its lines and every name in ``names`` by its value.

    A hole that gets no lines disappears. Raises :class:`CompilerBug` when holes and lines do not match.
    """
    filled: list[str] = []
    unused = set(holes)
    for line in body(file, function):
        match = _HOLE.match(line)
        if match is None:
            filled.append(re.sub(r"\b[A-Za-z_]\w*\b", lambda word: str(names.get(word[0], word[0])), line))
            continue
        indent, name = match.groups()
        if name not in holes:
            raise CompilerBug(f"{file}:{function}: nothing fills hole {name!r}")
        unused.discard(name)
        filled.extend(indent + part if part else part for part in holes[name])
    if unused:
        raise CompilerBug(f"{file}:{function} has no hole {sorted(unused)}")
    return filled
