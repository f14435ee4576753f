"""The code of several kernels as one file of the cache: PTX and cubins, one behind the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class Code(NamedTuple):
    """One kernel: its entry, its PTX module, and that as machine code."""

    entry: str
    ptx: str
    cubin: bytes


def packed(codes: Sequence[Code]) -> tuple[bytes, list[dict[str, Any]]]:
    """The bytes of all, and how many belong to what, which survives a trip through JSON."""
    parts = [(code.entry, code.ptx.encode(), code.cubin) for code in codes]
    contents = [{"entry": entry, "ptx": len(ptx), "cubin": len(cubin)} for entry, ptx, cubin in parts]
    return b"".join(ptx + cubin for _, ptx, cubin in parts), contents


def unpacked(library: bytes, contents: Sequence[dict[str, Any]]) -> dict[str, Code]:
    """The code of every entry by its name."""
    codes: dict[str, Code] = {}
    start = 0
    for part in contents:
        middle = start + part["ptx"]
        end = middle + part["cubin"]
        codes[part["entry"]] = Code(part["entry"], library[start:middle].decode(), library[middle:end])
        start = end
    return codes
