"""``manifest.json``: what a directory of libraries holds, with a digest of every file and of itself.

Without imports of the compiler, since a loaded kernel needs it too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from lncompile import __version__
from lncompile.aot.target import kind_of
from lncompile.digest import digest
from lncompile.keys import device_versions, versions

FORMAT = 1
NAME = "manifest.json"

_OVERLAP = (
    "Arrays of a call do not overlap where one is written. An array may be the very array of its "
    "may_be, if no later call and no later phase reads that."
)
#: What callers keep to, by the kind of targets.
_RULES = {
    "cpu": {
        "alignment": "Arrays are aligned to their elements alone.",
        "overlap": _OVERLAP,
        "units": "A call does the units begin <= i < end of 0 .. extent, cut at any multiples of multiple.",
        "threads": "Functions keep no state and may be called from any threads at once; all pieces of a call "
        "come before the next call.",
    },
    "cuda": {
        "devices": "A target's cubins run on devices of its major compute capability and its minor one "
        "or a later, whose blocks can have shared_bytes of shared memory "
        "(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN): 166912 bytes on 8.0, 101376 on 8.6, 8.9 "
        "and 12.0, 232448 on 9.0 and 10.0.",
        "names": "Expressions are over rows, the product of the batch axes of the first input, and "
        "multiprocessors, in C's integer arithmetic; max(a, b) is the larger one. Any number of "
        "multiprocessors from 1 on gives right results, the device's own the quickest; that of the kernel "
        "is the usual device's.",
        "launches": "The launches of a phase go to one stream in order, without those that have a 0 in their "
        "grid. shared is the dynamic shared memory of a block in bytes; where it is not 0, set "
        "CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES to it: unasked a driver gives 49152 less what is "
        "static. grid counts blocks, of which so many as cluster says are one cluster.",
        "args": "All parameters in order: a buffer is the 64-bit address of its first element, 0 for an "
        "optional one that is not wanted; a size or value is a number of its ctype. Workspaces may hold "
        "anything before their phase.",
        "alignment": "Every array begins at a multiple of alignment bytes; there is no code for others.",
        "overlap": _OVERLAP,
        "bits": "The same launches give the same bits. With another number of multiprocessors, sums over "
        "rows, such as gradients of parameters, are in another order.",
    },
}
_RETURNS = {"0": "success", "1": "this CPU lacks instructions; nothing was written"}


def manifest(records: Sequence[Mapping[str, Any]], files: Mapping[str, bytes], package: str) -> bytes:
    """The text of the manifest for the entries of a directory's libraries and all its files."""
    norms = list(dict.fromkeys(record["norm"] for record in records))
    kinds = dict.fromkeys(kind_of(target) for record in records for target in record["targets"])
    found = versions() | (device_versions() if "cuda" in kinds else {})
    # That of this package is the one below; the other is a stamp of its files.
    made_by = {name: version for name, version in found.items() if version and name != "lncompile"}
    body = {
        "format": FORMAT,
        "norm": norms[0] if len(norms) == 1 else None,
        "package": package,
        "versions": {"lncompile": __version__} | made_by,
        "rules": {kind: _RULES[kind] for kind in kinds},
        "returns": _RETURNS,
        "kernels": [
            {**record, "constants": {name: _plain(value) for name, value in record["constants"].items()}}
            for record in records
        ],
        "files": {name: {"bytes": len(data), "sha256": digest(data)} for name, data in sorted(files.items())},
    }
    return (json.dumps({**body, "sha256": digest_of(body)}, indent=2) + "\n").encode()


def digest_of(body: Mapping[str, Any]) -> str:
    """The digest of a manifest without its own: that of its canonical JSON."""
    return digest(json.dumps(body, sort_keys=True, separators=(",", ":")).encode())


def _plain(value: object) -> object:
    """A constant as JSON has it: numbers, texts and truth values as such, all else as Python writes it."""
    known = value is None or isinstance(value, bool | int | str)
    return value if known or (isinstance(value, float) and math.isfinite(value)) else repr(value)
