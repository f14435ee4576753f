"""What an equation's signature says: read once, when it is decorated.

@lnc.norm("... [d]", weight="d")
def rms_norm(x, weight=1.0, *, eps=1e-5): ...     -->   Equation(x [... d], weight [d] = 1.0; eps = 1e-5)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from lncompile import axes as ax
from lncompile.arrays import described
from lncompile.errors import LncError, LncTypeError

_REQUIRED = inspect.Parameter.empty


class Argument(NamedTuple):
    """An array argument: its dimensions, and the number that it is when left out (or ``required``)."""

    name: str
    dims: tuple[ax.Dim, ...]
    default: object
    required: bool


class Equation(NamedTuple):
    """A norm as the user wrote it: the function, its pattern and what its parameters are."""

    name: str
    function: Callable[..., Any]
    pattern: ax.Pattern
    arguments: tuple[Argument, ...]
    constants: Mapping[str, object]

    @property
    def where(self) -> str:
        """File and line of the function, as errors begin with it."""
        code = self.function.__code__
        return f"{code.co_filename}:{code.co_firstlineno}"

    @property
    def split(self) -> frozenset[str]:
        """The axes that an array has as part of a split dimension."""
        dims = (dim for argument in self.arguments for dim in argument.dims if len(dim) > 1)
        return frozenset(name for dim in dims for name in dim)

    @property
    def fixed(self) -> tuple[str, ...]:
        """The axes whose sizes are compiled in: features, and those in split dimensions."""
        return tuple(name for name in self.pattern.axes if name in self.pattern.features | self.split)


def read_equation(function: Callable[..., Any], pattern: object, axes: Mapping[str, object]) -> Equation:
    """What ``lnc.norm`` decorates; ``LncError`` with file and line says what is wrong with it."""
    code = getattr(function, "__code__", None)
    if code is None:
        raise LncTypeError(f"lnc.norm decorates a Python function; got {function!r}")
    try:
        return _read_equation(function, ax.parse(pattern), axes)
    except LncError as error:
        raise type(error)(
            f"{code.co_filename}:{code.co_firstlineno}: in {function.__name__}: {error}"
        ) from None


def _read_equation(function: Callable[..., Any], pattern: ax.Pattern, axes: Mapping[str, object]) -> Equation:
    arguments: list[Argument] = []
    constants: dict[str, object] = {}
    for parameter in inspect.signature(function).parameters.values():
        name, default = parameter.name, parameter.default
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise LncTypeError(f"parameter {name!r}: an equation has named parameters only, no * or **")
        if parameter.kind is parameter.KEYWORD_ONLY:
            constants[name] = default
            continue
        if not arguments:
            if default is not _REQUIRED:
                raise LncTypeError(f"{name}: the first argument carries the pattern and cannot be optional")
            dims = pattern.dims
        elif name not in axes:
            raise LncTypeError(
                f'{name}: its axes are not given; say lnc.norm({pattern.text!r}, {name}="...")'
            )
        else:
            dims = ax.parse_argument(axes[name], name, pattern)
        if default is not _REQUIRED and not isinstance(default, int | float):
            raise LncTypeError(
                f"{name}: the default of an array argument is a plain number; got {described(default)}"
            )
        arguments.append(
            Argument(name, dims, None if default is _REQUIRED else default, default is _REQUIRED)
        )
    if not arguments:
        raise LncTypeError("an equation needs an array argument, the one that the pattern describes")
    names = [argument.name for argument in arguments]
    for name in axes:
        if name not in names:
            raise LncTypeError(f"{name}: axes are given for it, but the equation has no such array argument")
        if name == names[0]:
            raise LncTypeError(f"{name}: the pattern gives its axes already")
    for name in pattern.axes:
        if name in names or name in constants or name == "out":
            raise LncTypeError(
                f"axis {name!r} has the name of an argument; sizes are passed by name, so rename one"
            )
    return Equation(function.__name__, function, pattern, tuple(arguments), constants)
