"""What machine code does to memory and what it needs: counts from SASS text, registers from a cubin.

The text is that of ``nvdisasm -c`` or ``cuobjdump -sass``. An access counts once for each place in the code,
under a predicate or not.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

#: Opcode -> (space, what it does); `generic` may be any space.
_OPCODES = {
    "LDG": ("global", "load"),
    "STG": ("global", "store"),
    "LD": ("generic", "load"),
    "ST": ("generic", "store"),
    "LDL": ("local", "load"),
    "STL": ("local", "store"),
    "LDS": ("shared", "load"),
    "STS": ("shared", "store"),
    "LDSM": ("shared", "load"),
    "STSM": ("shared", "store"),
    "STAS": ("shared", "store"),
    "ATOM": ("generic", "atomic"),
    "ATOMG": ("global", "atomic"),
    "ATOMS": ("shared", "atomic"),
    "RED": ("global", "atomic"),
    "REDG": ("global", "atomic"),
    "REDAS": ("shared", "atomic"),
    "LDGSTS": ("global", "copy"),
}
#: Bulk copies name the space that they write to, then the one that they read.
_BULK = {"G": "bulk store", "S": "bulk load"}
_FUNCTION = re.compile(r"^\s*(?:\.section\s+\.text\.([\w$.]+)|Function\s*:\s*([\w$.]+))")
_INSTRUCTION = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_]*)((?:\.[\w:]+)*)")
_WIDTHS = {"U8": 8, "S8": 8, "U16": 16, "S16": 16, "64": 64, "128": 128, "256": 256}


@dataclass(frozen=True)
class Code:
    """What one function's code holds.

    ``accesses`` counts by space, deed and bits a thread; bulk copies, whose size is a value, have 0 bits.
    ``opcodes`` counts all instructions by opcode without its modifiers.
    """

    accesses: Mapping[tuple[str, str, int], int]
    opcodes: Mapping[str, int]

    def count(self, space: str, does: str | None = None, bits: int | None = None) -> int:
        """Accesses to a space, of one kind, of one width."""
        return sum(
            number
            for (where, what, width), number in self.accesses.items()
            if where == space and does in (None, what) and bits in (None, width)
        )

    def narrow(self, does: str) -> int:
        """Loads or stores of global memory that move less than 128 bits a thread."""
        return sum(
            number
            for (where, what, width), number in self.accesses.items()
            if where in ("global", "generic") and what == does and width < 128
        )


def read_sass(text: str) -> dict[str, Code]:
    """Each function's code, by name."""
    found: dict[str, tuple[Counter[tuple[str, str, int]], Counter[str]]] = {}
    for name, opcode, modifiers in _instructions(text):
        accesses, opcodes = found.setdefault(name, (Counter(), Counter()))
        opcodes[opcode] += 1
        if opcode in _OPCODES:
            space, does = _OPCODES[opcode]
            accesses[space, does, next((_WIDTHS[m] for m in modifiers if m in _WIDTHS), 32)] += 1
        elif opcode == "UBLKCP":
            accesses["global", next(_BULK[m] for m in modifiers if m in _BULK), 0] += 1
    return {name: Code(dict(accesses), dict(opcodes)) for name, (accesses, opcodes) in found.items()}


def _instructions(text: str) -> Iterator[tuple[str, str, list[str]]]:
    """Of every instruction the function, the opcode and its modifiers."""
    function = ""
    for line in text.splitlines():
        header = _FUNCTION.match(line)
        if header is not None:
            function = header[1] or header[2]
            continue
        instruction = _INSTRUCTION.match(line)
        if instruction is not None:
            yield function, instruction[1], instruction[2].split(".")[1:]


@dataclass(frozen=True)
class Resources:
    """What a kernel takes for each thread, and its static shared memory, in bytes.

    From sm_90 on that includes 1024 bytes that the hardware keeps for itself.
    """

    registers: int
    stack: int
    shared: int


_REGISTERS, _FRAME = 0x2F, 0x11
_SYMBOLS, _TEXT_NAME, _SHARED_NAME = 2, ".text.", ".nv.shared."


def read_cubin(cubin: bytes) -> dict[str, Resources]:
    """Each kernel's resources, from the sections ``.nv.info`` and ``.nv.shared`` of its ELF file."""
    if cubin[:4] != b"\x7fELF" or cubin[4] != 2:
        raise ValueError("no 64-bit ELF file")
    (table,) = struct.unpack_from("<Q", cubin, 0x28)
    entry_size, count, names_at = struct.unpack_from("<HHH", cubin, 0x3A)
    rows = [struct.unpack_from("<IIQQQQIIQQ", cubin, table + place * entry_size) for place in range(count)]

    def text(strings: tuple[int, ...], offset: int) -> str:
        start = strings[4] + offset
        return cubin[start : cubin.index(b"\0", start)].decode()

    sections = {text(rows[names_at], row[0]): row for row in rows}
    symbols = next(row for row in rows if row[1] == _SYMBOLS)
    strings = rows[symbols[6]]

    def symbol(number: int) -> str:
        (name,) = struct.unpack_from("<I", cubin, symbols[4] + number * 24)
        return text(strings, name)

    values: dict[int, dict[str, int]] = {_REGISTERS: {}, _FRAME: {}}
    info = sections[".nv.info"]
    for attribute, payload in _attributes(cubin[info[4] : info[4] + info[5]]):
        if attribute in values:
            number, value = struct.unpack("<II", payload)
            values[attribute][symbol(number)] = value
    return {
        name.removeprefix(_TEXT_NAME): Resources(
            values[_REGISTERS][name.removeprefix(_TEXT_NAME)],
            values[_FRAME].get(name.removeprefix(_TEXT_NAME), 0),
            sections[_SHARED_NAME + name.removeprefix(_TEXT_NAME)][5]
            if _SHARED_NAME + name.removeprefix(_TEXT_NAME) in sections
            else 0,
        )
        for name in sections
        if name.startswith(_TEXT_NAME)
    }


def _attributes(info: bytes) -> Iterator[tuple[int, bytes]]:
    """Of ``.nv.info``: each attribute with its payload; formats below 4 have their value in the head."""
    position = 0
    while position < len(info):
        kind, attribute, size = struct.unpack_from("<BBH", info, position)
        position += 4
        if kind == 4:
            yield attribute, info[position : position + size]
            position += size


#: The bounds of a budget that are the least; all others are the most.
_LEAST = ("wide_loads", "wide_stores")


@dataclass(frozen=True)
class Budget:
    """What a kernel's code may hold; `None` is no bound.

    ``wide_loads`` and ``wide_stores`` are the least number of global accesses of 128 bits or more. All others
    are the most: ``narrow_loads`` and ``narrow_stores`` of global accesses below that, ``local``, ``shared``
    and ``atomics`` of accesses to local and shared memory and of atomic operations on global memory,
    ``registers`` and ``stack`` (bytes) for each thread.
    """

    wide_loads: int | None = None
    wide_stores: int | None = None
    narrow_loads: int | None = None
    narrow_stores: int | None = None
    local: int | None = 0
    atomics: int | None = 0
    shared: int | None = None
    registers: int | None = None
    stack: int | None = 0

    def exceeded(self, code: Code, resources: Resources | None = None) -> list[str]:
        """A line for every bound that the code breaks."""
        found = {
            "wide_loads": _wide(code, "load") + _wide(code, "copy") + code.count("global", "bulk load"),
            "wide_stores": _wide(code, "store") + code.count("global", "bulk store"),
            "narrow_loads": code.narrow("load") + code.narrow("copy"),
            "narrow_stores": code.narrow("store"),
            "local": code.count("local"),
            "atomics": code.count("global", "atomic") + code.count("generic", "atomic"),
            "shared": code.count("shared"),
        }
        if resources is not None:
            found |= {"registers": resources.registers, "stack": resources.stack}
        lines = []
        for name in found:
            bound = getattr(self, name)
            if bound is None:
                continue
            if name in _LEAST and found[name] < bound:
                lines.append(f"{name}: {found[name]}, at least {bound} wanted")
            elif name not in _LEAST and found[name] > bound:
                lines.append(f"{name}: {found[name]}, at most {bound} allowed")
        return lines

    def check(self, code: Code, resources: Resources | None = None) -> None:
        """Raise an `AssertionError` that lists what exceeds the budget, and all accesses."""
        lines = self.exceeded(code, resources)
        if lines:
            shown = [
                f"{number} x {space} {does} of {bits} bits"
                for (space, does, bits), number in sorted(code.accesses.items())
            ]
            raise AssertionError("\n  ".join(["over the budget:", *lines, "the code has:", *shown]))


def _wide(code: Code, does: str) -> int:
    return code.count("global", does, 128) + code.count("global", does, 256)
