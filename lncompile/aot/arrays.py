"""The arrays of a kernel as a manifest lists them: those of both phases, each under one name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from lncompile.aot.extent import Extent, Extents, shapes
from lncompile.backends.cpu.calls import may_coincide
from lncompile.buffers import with_role
from lncompile.interface import Buffer, Interface, Phase


class Arrays(NamedTuple):
    """``listed``: what the manifest says of each array; ``names``: a phase's buffer -> its name there."""

    listed: dict[str, dict[str, Any]]
    names: tuple[dict[str, str], dict[str, str]]


def arrays_of(
    interface: Interface,
    arguments: tuple[str, ...],
    extents: Extents,
    numbers: tuple[Mapping[str, Extent], Mapping[str, Extent]],
) -> Arrays:
    """All arrays of a kernel; ``arguments`` are the equation's names of the inputs.

    ``numbers`` are those of both phases that sizes of workspaces depend on, by name.

    An array that both phases use is listed once; a workspace of the backward that is called like another
    array of the forward gets a name of its own.
    """
    phases = (interface.forward, interface.backward)
    outputs = [buffer.name for buffer in with_role(interface.forward, "output")]
    inputs = {buffer.name: name for buffer, name in zip(interface.forward.buffers, arguments, strict=False)}
    listed: dict[str, dict[str, Any]] = {}
    names: list[dict[str, str]] = []
    for phase, given in zip(phases, numbers, strict=True):
        shape = shapes(phase, extents, given)
        cotangents = iter(outputs)
        named: dict[str, str] = {}
        for buffer in phase.buffers:
            if buffer.role == "absent":
                continue
            entry: dict[str, Any] = {"role": buffer.role}
            if buffer.role == "cotangent":
                entry["of"] = next(cotangents)
            elif buffer.role == "gradient":
                entry["of"] = buffer.of
            entry |= {"dtype": buffer.dtype, "shape": shape[buffer.name]}
            name = inputs.get(buffer.name, buffer.name) if buffer.role == "input" else buffer.name
            while name in listed and listed[name] != entry:
                name += "_backward" if phase is interface.backward else "_"
            listed[name] = entry
            named[buffer.name] = name
        names.append(named)
    for phase, named in zip(phases, names, strict=True):
        for buffer in phase.buffers:
            if shared := _may_be(phase, buffer, named):
                listed[named[buffer.name]]["may_be"] = shared
    return Arrays(listed, (names[0], names[1]))


def _may_be(phase: Phase, written: Buffer, named: dict[str, str]) -> list[str]:
    """The arrays that ``written`` may be the very same as, when no one needs them afterwards."""
    return [named[read.name] for read in phase.buffers if may_coincide(phase, written, read)]
