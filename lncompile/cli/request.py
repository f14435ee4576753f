"""Kernels that a build is asked for, and errors that are wrong usage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click

from lncompile.aot.target import full_name
from lncompile.aot.wanted import Wanted
from lncompile.errors import LncError
from lncompile.norm import Dispatcher, dispatcher_of
from lncompile.requested import requested

#: Culprits of an LncError that are options of commands.
_OPTIONS = ("shape", "dtype", "target")


@dataclass(frozen=True)
class Request:
    """A norm, the name that its kernels are to have, and everything to build it for: each with each.

    ``source`` says where the request was read, if not on the command line.
    """

    norm: Any
    name: str
    shapes: Sequence[tuple[int, ...]]
    dtypes: Sequence[Any]
    targets: Sequence[str]
    constants: Mapping[str, Any]
    source: str = ""

    def wanted(self) -> list[Wanted]:
        """One kernel for each shape and dtype.

        Raises:
            LncError: one does not fit the norm.
            click.UsageError: the same where it was read from a file, or there is no shape.
        """
        try:
            return self._wanted()
        except (LncError, click.UsageError) as error:
            if not self.source:
                raise
            raise click.BadParameter(str(error), param_hint=self.source) from error

    def _wanted(self) -> list[Wanted]:
        if not self.shapes:
            raise click.UsageError("Missing option '--shape'.")
        targets = tuple(dict.fromkeys(map(full_name, self.targets)))
        dispatcher = dispatcher_of(self.norm)
        check_names(self.norm, self.constants)
        return [
            self._one(dispatcher, shape, dtype, targets) for shape in self.shapes for dtype in self.dtypes
        ]

    def _one(
        self, dispatcher: Dispatcher, shape: tuple[int, ...], dtype: object, targets: tuple[str, ...]
    ) -> Wanted:
        special, sizes = requested(dispatcher, shape, dtype, targets[0], None, self.constants)
        return Wanted(self.name, dispatcher, special, sizes, targets)


def check_names(norm: Any, constants: Mapping[str, Any]) -> None:
    """Refuse constants that the norm does not have; sizes of its axes may stand among them."""
    equation = dispatcher_of(norm).equation
    known = [*equation.constants, *(name for name in equation.pattern.axes if name.isidentifier())]
    for name in constants:
        if name not in known:
            raise click.BadParameter(
                f"{equation.name} has no constant and no axis {name!r}; it has {', '.join(known)}",
                param_hint="--constant",
            )


@contextmanager
def wrong_usage(constants: Mapping[str, Any]) -> Iterator[None]:
    """Turn an ``LncError`` whose culprit is an option of the command into wrong usage of that option."""
    try:
        yield
    except LncError as error:
        culprit, _, rest = str(error).partition(": ")
        if culprit in _OPTIONS:
            raise click.BadParameter(rest, param_hint=f"--{culprit}") from error
        if culprit in constants:
            raise click.BadParameter(str(error), param_hint="--constant") from error
        raise
