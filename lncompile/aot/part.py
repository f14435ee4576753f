"""What a build consists of: parts that are compiled on their own, and products made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from lncompile.aot.packages import Member


def _nothing() -> None:
    """Prepare nothing."""


class Part(NamedTuple):
    """Something to compile on its own; ``label`` says what, for people. The result is bytes: it travels.

    ``prepare`` imports what ``compile`` needs, and raises ``LncError`` where that is not installed.
    """

    label: str
    compile: Callable[[], bytes]
    prepare: Callable[[], object] = _nothing


class Output(NamedTuple):
    """What a product comes to: files by name, its entry in the manifest, and what ``--report`` shows.

    ``member`` is what build tools are told of, if it is a library that programs link with.
    """

    files: dict[str, bytes]
    record: dict[str, Any]
    report: list[dict[str, Any]]
    member: Member | None = None


class Product(Protocol):
    """A part of a build that ends as one entry of the manifest."""

    @property
    def parts(self) -> Sequence[Part]:
        """What has to be compiled."""

    def finish(self, made: Sequence[bytes], static: bool) -> Output:
        """Make the files of what the parts gave, in order; with ``static``, libraries to link in too."""
