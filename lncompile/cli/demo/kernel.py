"""The kernel of the demo's layers: where it came from, and what is worth showing of it."""

from __future__ import annotations

import ast
import inspect
import os
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lncompile.ahead import CompiledKernel, compile
from lncompile.cache import SCHEMA, cache_dir
from lncompile.norm import dispatcher_of


@dataclass(frozen=True)
class Origin:
    """Whether a kernel was compiled just now, the seconds until it was there, its library in the cache."""

    compiled: bool
    seconds: float
    library: str | None


def made(norm: Any, shape: tuple[int, ...]) -> tuple[CompiledKernel, Origin]:
    """The kernel for arrays like ``shape``, float32, compiled if need be."""
    begin, start = time.time_ns(), time.perf_counter()
    kernel = compile(norm, shape=shape)
    seconds = time.perf_counter() - start
    library = _library_of(kernel.stages["source"])
    compiled = library is None or library.stat().st_mtime_ns >= begin
    return kernel, Origin(compiled, seconds, None if library is None else str(library))


def _library_of(source: str) -> Path | None:
    """The newest library that was made from ``source``; None where the cache could not keep it."""
    try:
        sources = (Path(cache_dir()) / SCHEMA).glob("*/*.py")
        found = [path.with_suffix(".so") for path in sources if path.read_text(encoding="utf-8") == source]
        return max(found, key=lambda path: os.stat(path).st_mtime_ns, default=None)
    except OSError:
        return None


def equation_text(norm: Any) -> str:
    """The source of a norm's equation without its docstring."""
    lines = textwrap.dedent(inspect.getsource(dispatcher_of(norm).equation.function)).splitlines()
    (function,) = ast.parse("\n".join(lines)).body
    assert isinstance(function, ast.FunctionDef)
    if ast.get_docstring(function) is not None:
        first = function.body[0]
        del lines[first.lineno - 1 : first.end_lineno]
    return "\n".join(lines)


def excerpt(source: str) -> str:
    """Of the first emitted function the head, the first loop, and the one that writes the result."""
    lines = source.splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith("def "))
    head = next(i for i in range(begin, len(lines)) if lines[i].endswith("):")) + 1
    loops = _innermost_loops(lines[head:])
    writing = [loop for loop in loops if any(line.lstrip().startswith("store(") for line in loop)]
    shown = lines[begin:head]
    for loop in (*loops[:1], *writing[:1]):
        shown += ["        ...", *loop]
    return "\n".join([*shown, "        ..."])


def _innermost_loops(lines: list[str]) -> list[list[str]]:
    found = []
    for start, line in enumerate(lines):
        if line.lstrip().startswith("for "):
            end = start + 1
            while end < len(lines) and _indent(lines[end]) > _indent(line):
                end += 1
            loop = lines[start:end]
            if not any(inner.lstrip().startswith("for ") for inner in loop[1:]):
                found.append(loop)
    return found


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
