"""What a manifest says of one library: its arrays, and its C functions with every parameter."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lncompile.aot.arrays import arrays_of
from lncompile.aot.cpu.library import Library, run_function
from lncompile.aot.extent import Extent, Extents, over_rows
from lncompile.aot.wanted import c_parameters
from lncompile.dtypes import TABLE
from lncompile.interface import WRITTEN, Buffer, Call, Phase

Record = dict[str, Any]


def described(library: Library) -> Record:
    """The part of the manifest's entry that programs in any language need."""
    interface, wanted = library.interface, library.wanted
    extents = Extents(wanted)
    phases = (interface.forward, interface.backward)
    sizes = (extents.of_sizes(interface.forward), extents.of_sizes(interface.backward))
    arrays = arrays_of(interface, wanted.dispatcher.signature.arguments, extents, sizes)
    forward, backward = map(_Phase, phases, arrays.names, sizes)
    return {
        **wanted.record(library.targets),
        "buffers": arrays.listed,
        "forward": forward.calls(),
        "backward": backward.calls(),
        "run": {
            "forward": forward.run(run_function(library.c_stem, "forward")),
            "backward": backward.run(run_function(library.c_stem, "backward")),
        },
    }


class _Phase:
    """The functions of a phase."""

    def __init__(self, phase: Phase, named: dict[str, str], sizes: dict[str, Extent]) -> None:
        self._phase = phase
        self._named = named
        self._sizes = sizes
        self._buffers = {buffer.name: buffer for buffer in phase.buffers if buffer.role != "absent"}

    def calls(self) -> list[Record]:
        """The calls in order."""
        return [self._call(call) for call in self._phase.calls]

    def run(self, function: str) -> Record:
        """The function that does all of them."""
        last = {"name": "openmp", "ctype": "const lnc_openmp *", "openmp": True, "optional": True}
        params = [*self._arrays(self._buffers), *self._numbers(), last]
        return {"function": function, "returns": "int32_t", "params": _legal(params)}

    def _call(self, call: Call) -> Record:
        extent = over_rows(call.units, self._sizes)
        # Where a unit is a row, its name says so.
        begin, end = ("row_begin", "row_end") if extent == "rows" else ("begin", "end")
        edges = [
            {"name": begin, "ctype": "int64_t", "range": "begin"},
            {"name": end, "ctype": "int64_t", "range": "end"},
        ]
        params = [*self._arrays(call.buffers), *self._numbers(), *edges]
        return {
            "function": call.function,
            "returns": "int32_t",
            "params": _legal(params),
            "extent": extent,
            "multiple": 1,
        }

    def _arrays(self, names: Iterable[str]) -> list[Record]:
        params = []
        for name in names:
            buffer = self._buffers[name]
            param = {"name": self._named[name], "ctype": self._ctype(buffer), "buffer": self._named[name]}
            params.append(param | ({"optional": True} if buffer.optional else {}))
        return params

    def _numbers(self) -> list[Record]:
        params: list[Record] = []
        for name, extent in self._sizes.items():
            kind = "value" if isinstance(extent, int) else "size"
            params.append({"name": name, "ctype": "int64_t", kind: extent})
        return params

    def _ctype(self, buffer: Buffer) -> str:
        # What the forward saves, it may be told not to; the backward reads it.
        read = buffer.role not in WRITTEN or (buffer.role == "saved" and not buffer.optional)
        return f"{'const ' if read else ''}{TABLE[buffer.dtype].ctype} *"


def _legal(params: list[Record]) -> list[Record]:
    legal = c_parameters(param["name"] for param in params)
    return [param | {"name": name} for param, name in zip(params, legal, strict=True)]
