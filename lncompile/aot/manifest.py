"""``manifest.json``: what a directory of libraries holds, with a digest of every file and of itself.

Without imports of the compiler, since a loaded kernel needs it too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from lncompile import __version__
from lncompile.digest import digest
from lncompile.specialize import versions

FORMAT = 1
NAME = "manifest.json"

_RULES = {
    "alignment": "Arrays are aligned to their elements alone.",
    "overlap": "Arrays of a call do not overlap where one is written. An array may be the very array of its "
    "may_be, if no later call and no later phase reads that.",
    "units": "A call does the units begin <= i < end of 0 .. extent, cut at any multiples of multiple.",
    "threads": "Functions keep no state and may be called from any threads at once; all pieces of a call "
    "come before the next call.",
}
_RETURNS = {"0": "success", "1": "this CPU lacks instructions; nothing was written"}


def manifest(records: Sequence[Mapping[str, Any]], files: Mapping[str, bytes], package: str) -> bytes:
    """The text of the manifest for the entries of a directory's libraries and all its files."""
    norms = list(dict.fromkeys(record["norm"] for record in records))
    found = versions()
    body = {
        "format": FORMAT,
        "norm": norms[0] if len(norms) == 1 else None,
        "package": package,
        "versions": {"lncompile": __version__, **{name: found[name] for name in ("numba", "llvmlite")}},
        "rules": _RULES,
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
