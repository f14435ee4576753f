"""The code of several kernels as one file of the cache: PTX and cubins, one behind the other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple


class Code(NamedTuple):
    """One kernel: its entry, its PTX module, and that as machine code.

    ``registers`` are those of a thread, ``shared`` the bytes of shared memory that a block has in any case,
    ``spills`` those that a thread writes to local memory and reads from there. A kernel that is ``unheld``
    reads rows again that registers could hold.
    """

    entry: str
    ptx: str
    cubin: bytes
    registers: int = 0
    shared: int = 0
    spills: int = 0
    unheld: bool = False


def packed(codes: Sequence[Code]) -> tuple[bytes, list[dict[str, Any]]]:
    """The bytes of all, and how many belong to what, which survives a trip through JSON."""
    texts = [code.ptx.encode() for code in codes]
    contents = [
        code._asdict() | {"ptx": len(ptx), "cubin": len(code.cubin)}
        for code, ptx in zip(codes, texts, strict=True)
    ]
    return b"".join(ptx + code.cubin for code, ptx in zip(codes, texts, strict=True)), contents


def unpacked(library: bytes, contents: Sequence[dict[str, Any]]) -> dict[str, Code]:
    """The code of every entry by its name."""
    codes: dict[str, Code] = {}
    start = 0
    for part in contents:
        middle = start + part["ptx"]
        end = middle + part["cubin"]
        pieces = {"ptx": library[start:middle].decode(), "cubin": library[middle:end]}
        codes[part["entry"]] = Code(**part | pieces)
        start = end
    return codes


def encoded(code: Code) -> bytes:
    """One kernel's code as bytes alone."""
    library, contents = packed([code])
    return json.dumps(contents).encode() + b"\n" + library


def decoded(data: bytes) -> Code:
    """The inverse of :func:`encoded`."""
    contents, _, library = data.partition(b"\n")
    (code,) = unpacked(library, json.loads(contents)).values()
    return code
