"""The pieces of PTX text: names, numbers, lists, declarations of variables."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field

from .syntax import Immediate, PtxError, UnknownPtx, Variable

NAME = r"[A-Za-z_$%][\w$]*"

SPACES = ("global", "shared", "local", "const", "param")

#: The bits of a type.
WIDTHS = {"pred": 1} | {f"{kind}{bits}": bits for kind in "busf" for bits in (8, 16, 32, 64)}
WIDTHS |= {"f16x2": 32, "bf16": 16, "bf16x2": 32, "b128": 128}


@dataclass(frozen=True)
class Function:
    """The text of an entry or a function and where its body begins."""

    name: str
    results: tuple[str, ...]
    parameters: tuple[str, ...]
    directives: tuple[str, ...]
    text: str
    start: int
    end: int


@dataclass
class Module:
    """What stands at the top level."""

    entries: dict[str, Function] = field(default_factory=dict)
    functions: dict[str, Function] = field(default_factory=dict)
    variables: list[Variable] = field(default_factory=list)


def line_of(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def matching(text: str, start: int) -> int:
    """The place of the brace that closes the one at ``start``."""
    depth = 0
    for brace in re.compile(r"[{}]").finditer(text, start):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return brace.start()
    raise PtxError(f"line {line_of(text, start)}: no brace closes the one here")


def listed(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def split_operands(text: str) -> list[str]:
    """Operands at commas outside of braces and brackets."""
    if not any(bracket in text for bracket in "{[("):
        return [part.strip() for part in text.split(",")] if text.strip() else []
    parts, depth, start = [], 0, 0
    for place, character in enumerate(text):
        depth += (character in "{[(") - (character in "}])")
        if character == "," and depth == 0:
            parts.append(text[start:place].strip())
            start = place + 1
    last = text[start:].strip()
    return [*parts, last] if last else parts


DECLARATION = re.compile(
    rf"((?:\.\w+(?:\s+\d+)?\s+)*?)\.(pred|[busf]\d+|f16x2|bf16x2|bf16)\s+({NAME}.*)$", re.DOTALL
)


def variables_of(text: str) -> list[Variable]:
    """``.shared .align 16 .b8 name[256]``, with an initialiser or several names."""
    match = DECLARATION.match(text.strip())
    space = next((part for part in SPACES if f".{part}" in text), None)
    if match is None or space is None:
        raise UnknownPtx(f"cannot read the declaration {text.strip()[:80]!r}")
    bytes_each = WIDTHS[match[2]] // 8
    align = re.search(r"\.align\s+(\d+)", match[1])
    found = []
    for part in re.split(r",(?![^{]*\})", match[3]):
        name, _, value = (piece.strip() for piece in part.partition("="))
        sizes = [int(size or "0", 0) for size in re.findall(r"\[\s*(\w*)\s*\]", name)]
        count = 1
        for size in sizes:
            count *= size
        data = None
        if value:
            data = b"".join(
                _constant(item.strip(), match[2]).to_bytes(bytes_each, "little")
                for item in re.sub(r"[{}]", " ", value).split(",")
            ).ljust(count * bytes_each, b"\0")
        elif space in ("global", "const"):
            data = bytes(count * bytes_each)
        bare = name.partition("[")[0].strip()
        found.append(Variable(bare, space, count * bytes_each, int(align[1]) if align else bytes_each, data))
    return found


def _constant(text: str, kind: str) -> int:
    """An initialiser's bits."""
    value = immediate_of(text)
    if value is None:
        raise UnknownPtx(f"cannot read the initialiser {text!r}")
    return value.bits & ((1 << WIDTHS[kind]) - 1)


def immediate_of(text: str) -> Immediate | None:
    if re.fullmatch(r"0[fF][0-9a-fA-F]{8}", text):
        return Immediate(int(text[2:], 16), 32)
    if re.fullmatch(r"0[dD][0-9a-fA-F]{16}", text):
        return Immediate(int(text[2:], 16), 64)
    if re.fullmatch(r"-?\d+U?|-?0[xX][0-9a-fA-F]+U?|-?0[bB][01]+U?", text):
        bare = text.rstrip("U")
        return Immediate(int(bare, 10) if re.fullmatch(r"-?\d+", bare) else int(bare, 0))
    if re.fullmatch(r"-?\d+\.\d*([eE][-+]?\d+)?", text):
        return Immediate(struct.unpack("<Q", struct.pack("<d", float(text)))[0], 64)
    return None
