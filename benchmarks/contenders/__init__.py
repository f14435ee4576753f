"""The contenders: a module for each, which only its own processes import.

A module has ``start(threads)``, which imports the library, limits it to so many threads and returns versions
by name, and ``prepare(case, mode)``, which returns a :class:`Prepared`. Nothing here may need lncompile or
anything of the driver: a contender runs in the Python that has its library.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

OURS = "lncompile"
LIMIT = "limit"

#: Name of the contender, and of its module.
MODULES = {
    OURS: "by_lncompile",
    LIMIT: "by_copy",
    "numpy": "by_numpy",
    "torch": "by_torch",
    "torch.compile": "by_torch_compile",
    "jax": "by_jax",
    "onnxruntime": "by_onnxruntime",
}

#: The package without which a contender is missing.
PACKAGES = {LIMIT: "llvmlite", "torch.compile": "torch"}


class NotOffered(Exception):
    """The library has no such operation; the message says which."""


@dataclass(frozen=True)
class Prepared:
    """A case, ready to be timed.

    ``variants`` are Python statements by name; where a library has several ways to the result, a cell counts
    the best. ``names`` are the globals of the statements. One execution does the work ``repeats`` times.
    ``results`` gives, after an execution, the arrays that it made in the order y or dx, dweight, dbias (None
    for what is not offered), as NumPy arrays in the order of memory.
    """

    variants: Mapping[str, str]
    names: Mapping[str, Any]
    results: Callable[[], list[Any]]
    repeats: int = 1
