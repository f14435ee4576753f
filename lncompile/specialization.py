"""What the code of a norm is specialised on: dtypes, the sizes of feature axes, constants, the target."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lncompile.arrays import described
from lncompile.equation import Equation
from lncompile.errors import LncTypeError


class Specialization(NamedTuple):
    """What code is specialised on: two calls with the same ``key`` share a kernel.

    ``dtypes`` names the arguments that are present; ``sizes`` are those of feature axes and of axes in split
    dimensions. ``dots`` are the dimensions that ``...`` stands for where it is a feature axis.
    """

    dtypes: tuple[tuple[str, str], ...]
    sizes: tuple[tuple[str, int], ...]
    constants: tuple[tuple[str, Any], ...]
    out_dtype: str | None
    target: str
    dots: tuple[int, ...] = ()

    @property
    def key(self) -> tuple[object, ...]:
        """Everything, hashable; ``LncError`` names a constant that is not.

        Python finds 1, 1.0 and True equal, and 0.0 and -0.0; an equation may tell them apart.
        """
        return *self[:2], exactly(self.constants), *self[3:]


def exactly(options: Sequence[tuple[str, object]]) -> tuple[object, ...]:
    """Named values as a hashable tuple that equals another only where values and their types are the same.

    Raises ``LncError`` naming a value that cannot be hashed.
    """
    options = [(name, plain(value)) for name, value in options]
    key = tuple(
        (name, value.__class__, value.hex() if isinstance(value, float) else value) for name, value in options
    )
    try:
        hash(key)
    except TypeError:
        for name, value in options:
            try:
                hash(value)
            except TypeError:
                got = described(value)
                raise LncTypeError(f"{name}: expected a constant, which can be hashed; got {got}") from None
        raise
    return key


def constants_of(equation: Equation, given: Mapping[str, object]) -> tuple[tuple[str, Any], ...]:
    """The value of every compile-time constant; ``LncError`` names one that is missing or of a wrong type."""
    return tuple(
        (name, _constant(equation, name, given.get(name, default), default))
        for name, default in equation.constants.items()
    )


def _constant(equation: Equation, name: str, value: object, default: object) -> object:
    if value is inspect.Parameter.empty:
        raise LncTypeError(f"{name}: {equation.name} needs this constant")
    value = plain(value)
    if _is_number(default) and not _is_number(value):
        raise LncTypeError(f"{name}: expected a number; got {value!r}")
    return value


def plain(value: Any) -> Any:
    """A scalar of NumPy's, or an array without dimensions, as the Python value that it holds."""
    return value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
