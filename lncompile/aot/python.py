"""What Python needs to know of a library to call it: written by a build, read by ``lnc.load``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lncompile import axes as ax
from lncompile import interface as offered
from lncompile.equation import Argument, Equation
from lncompile.errors import LncTypeError
from lncompile.interface import Interface
from lncompile.keys import identities
from lncompile.specialization import Specialization

if TYPE_CHECKING:
    from lncompile.aot.wanted import Wanted
    from lncompile.ir import Program


def python_record(
    wanted: Wanted, interface: Interface, program: Program, abi: Sequence[object]
) -> dict[str, Any]:
    """The part of a manifest's entry for Python, built for ``abi``; survives a trip through JSON."""
    equation, special = wanted.dispatcher.equation, wanted.special
    return {
        "abi": abi,
        "name": equation.name,
        "pattern": equation.pattern.text,
        "arguments": [[a.name, a.dims, a.required] for a in equation.arguments],
        "dtypes": special.dtypes,
        "sizes": special.sizes,
        "dots": special.dots,
        "out_dtype": special.out_dtype,
        "returns_tuple": program.returns_tuple,
        "interface": offered.to_json(interface),
        "identities": list(identities(equation, special, lambda: program)),
    }


def equation_of(record: Mapping[str, Any], name: str) -> Equation:
    """What is left of the equation: its arguments. Nothing can be traced or compiled from it."""

    def gone(*_: object) -> object:
        raise LncTypeError(f"{name} was loaded from a library; its equation is not there")

    arguments = tuple(
        Argument(argument, tuple(tuple(dim) for dim in dims), None, required)
        for argument, dims, required in record["arguments"]
    )
    return Equation(name, gone, ax.parse(record["pattern"]), arguments, {})


def specialization_of(record: Mapping[str, Any], target: str) -> Specialization:
    """What the library was compiled for, but for constants: they are in its code."""
    return Specialization(
        tuple((name, dtype) for name, dtype in record["dtypes"]),
        tuple((name, size) for name, size in record["sizes"]),
        (),
        record["out_dtype"],
        target,
        tuple(record["dots"]),
    )
