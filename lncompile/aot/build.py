"""A build from what is wanted to the files of a directory, all in memory: nothing is written here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from lncompile.aot.backend import products_for
from lncompile.aot.manifest import manifest
from lncompile.aot.packages import package_files
from lncompile.aot.part import Part
from lncompile.aot.wanted import Wanted, c_name, distinct
from lncompile.errors import LncValueError

#: The package that build tools find where no other name is given.
PACKAGE = "lnc_kernels"


class Built(NamedTuple):
    """The files of a build by name, ``manifest.json`` among them, and the rows of its report."""

    files: dict[str, bytes]
    report: list[dict[str, Any]]


def build(
    wanted: Sequence[Wanted],
    compile_all: Callable[[Sequence[Part]], Sequence[bytes]],
    *,
    package: str = PACKAGE,
    static: bool = False,
) -> Built:
    """Build all that is wanted; ``compile_all`` compiles the parts, here or in other processes.

    Raises ``LncError`` where two files or functions would have the same name, and whatever compiling raises.
    """
    if c_name(package) != package or not package:
        raise LncValueError(f"package: expected letters, digits and underscores; got {package!r}")
    kernels = distinct(kernel for one in wanted for kernel in one.kinds())
    products = [product for kernel in kernels for product in products_for(kernel)]
    made = iter(compile_all([part for product in products for part in product.parts]))
    outputs = [product.finish([next(made) for _ in product.parts], static) for product in products]
    files: dict[str, bytes] = {}
    texts = package_files(package, [output.member for output in outputs if output.member is not None])
    for group in (*(output.files for output in outputs), {k: v.encode() for k, v in texts.items()}):
        for name, data in group.items():
            if name in files:
                raise LncValueError(f"package: two files would be called {name}; choose another name")
            files[name] = data
    files["manifest.json"] = manifest([output.record for output in outputs], files, package)
    return Built(files, [row for output in outputs for row in output.report])


def here(parts: Sequence[Part]) -> list[bytes]:
    """Compile all parts in this process, one after the other."""
    for part in parts:
        part.prepare()
    return [part.compile() for part in parts]
