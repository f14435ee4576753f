"""Option values as the commands share them: click callbacks that turn text into what the compiler takes."""

from __future__ import annotations

import ast
import math
import os
import re
from typing import Any

import click

from lncompile.aot.target import full_name
from lncompile.dtypes import TABLE
from lncompile.errors import LncError

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_UNITS |= {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def shape(ctx: click.Context | None, param: click.Parameter | None, value: str) -> tuple[int, ...]:
    """``4096x1024``: sizes joined by x."""
    # No array has a size of more digits.
    if not re.fullmatch(r"[0-9]{1,19}(x[0-9]{1,19})*", value):
        raise click.BadParameter(f"expected sizes joined by x, such as 4096x1024; got {value!r}", ctx, param)
    return tuple(int(size) for size in value.split("x"))


def dtype(
    ctx: click.Context | None, param: click.Parameter | None, value: str
) -> str | dict[str, str | None]:
    """``float32``, or by argument: ``x=bfloat16,weight=float32,bias=none``."""
    named = [part.rpartition("=") for part in value.split(",")]
    for _, _, name in named:
        if name not in (*TABLE, "none"):
            raise click.BadParameter(f"expected one of {', '.join(TABLE)}; got {name!r}", ctx, param)
    if "=" not in value:
        return value
    arguments = [argument for argument, _, _ in named]
    for argument in arguments:
        if arguments.count(argument) > 1:
            raise click.BadParameter(f"expected one dtype for {argument}; got {value!r}", ctx, param)
    return {argument: None if name == "none" else name for argument, _, name in named}


def target(ctx: click.Context | None, param: click.Parameter | None, value: str) -> str:
    """``cpu`` (this machine), ``cuda`` (the current device), a level of CPUs or an architecture by name."""
    # Whether this machine is one of the supported ones is not a question of usage.
    if value != "cpu":
        try:
            full_name(value)
        except LncError as error:
            raise click.BadParameter(str(error).removeprefix("target: "), ctx, param) from error
    return value


def shapes(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[int, ...], ...]:
    """``512x1024,512x4096``, repeated."""
    return tuple(shape(ctx, param, part) for value in values for part in value.split(","))


def dtypes(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> tuple[str | dict[str, str | None], ...]:
    """``float32,bfloat16`` or ``x=bfloat16,weight=float32``, repeated."""
    parts = (part for value in values for part in ([value] if "=" in value else value.split(",")))
    return tuple(dtype(ctx, param, part) for part in parts)


def targets(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """``cpu:x86-64-v3,cuda:sm_90``, repeated."""
    return tuple(target(ctx, param, part) for value in values for part in value.split(","))


def identifier(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """Letters, digits and underscores."""
    if not (value.isascii() and value.isidentifier()):
        raise click.BadParameter(f"expected letters, digits and underscores; got {value!r}", ctx, param)
    return value


def constants(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, Any]:
    """``eps=1e-6``, repeated: constants of the equation and sizes of split axes, as Python literals."""
    found: dict[str, Any] = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name.isidentifier():
            raise click.BadParameter(f"expected name=value, such as eps=1e-6; got {value!r}", ctx, param)
        if name in found:
            raise click.BadParameter(f"expected one value of {name}; got {value!r} too", ctx, param)
        try:
            found[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            # A word without its quotes, which the shell took away.
            found[name] = text
    return found


def size_in_bytes(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """``500MB``, ``2GiB`` or a plain number of bytes."""
    if value is None:
        return None
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) *([kmgt]?i?)b?", value.lower())
    if match is None or match[2] not in _UNITS:
        raise click.BadParameter(f"expected a size such as 500MB or 2GiB; got {value!r}", ctx, param)
    size = float(match[1]) * _UNITS[match[2]]
    if math.isinf(size):
        raise click.BadParameter(f"expected a size of fewer digits; got {value!r}", ctx, param)
    return int(size)


class FiniteRange(click.FloatRange):
    """Numbers between bounds, and neither infinite nor NaN, which no bound keeps out."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number; ``BadParameter`` where it is another."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class Directory(click.Path):
    """Directories by name; an empty one, such as a variable of the shell that is not set, is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path; ``BadParameter`` where it has no name."""
        if not os.fspath(value):
            self.fail("expected a directory; got ''", param, ctx)
        return super().convert(value, param, ctx)
