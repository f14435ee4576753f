"""Object files to a static library (``.a``): the common ``ar`` format of System V and GNU.

A header of 60 characters before each member; the first member, ``/``, is the index that linkers search: the
number of symbols, the offset of the member that defines each (big-endian, 32 bits), then their names; ``//``
holds the names of members. Times and owners are zero, so that the same objects give the same bytes.

Source: the manual page ar(5), and "COFF: Archive Library" of System V ABI, chapter 7.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from lncompile.errors import CompilerBug

_MAGIC = b"!<arch>\n"


def archive(members: Mapping[str, bytes], symbols: Mapping[str, Sequence[str]]) -> bytes:
    """The library of ``members``, in order; ``symbols`` are the global names that each of them defines."""
    names, places = b"", {}
    for name in members:
        places[name] = len(names)
        names += name.encode() + b"/\n"
    listed = [(symbol, name) for name in members for symbol in symbols[name]]
    text = b"".join(symbol.encode() + b"\0" for symbol, _ in listed)
    offset = len(_MAGIC) + len(_member("/", bytes(4 + 4 * len(listed)) + text)) + len(_member("//", names))
    offsets = {}
    for name, data in members.items():
        offsets[name] = offset
        offset += len(_member(f"/{places[name]}", data))
    if offset >= 1 << 32:
        raise CompilerBug(f"a static library of {offset} bytes is too large for its index")
    index = struct.pack(f">{1 + len(listed)}I", len(listed), *(offsets[name] for _, name in listed)) + text
    content = b"".join(_member(f"/{places[name]}", data) for name, data in members.items())
    return _MAGIC + _member("/", index) + _member("//", names) + content


def _member(name: str, data: bytes) -> bytes:
    header = f"{name:<16}{0:<12}{0:<6}{0:<6}{644:<8}{len(data):<10}`\n".encode()
    return header + data + b"\n" * (len(data) % 2)
