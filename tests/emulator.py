"""AArch64 libraries on any machine: loaded into an emulator's memory and called there.

The libraries need nothing of a system, so that all there is to do is what a dynamic loader does with segments
and relative relocations.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import unicorn
from unicorn import arm64_const as arm64

Array = np.ndarray[Any, np.dtype[Any]]

_PAGE = 0x10000
_LIBRARY, _STACK, _ARRAYS, _RETURN = 0x1000_0000, 0x2000_0000, 0x3000_0000, 0x0F00_0000
_PT_LOAD, _PT_DYNAMIC, _DT_STRTAB, _DT_SYMTAB, _DT_RELA, _DT_RELASZ, _DT_HASH = 1, 2, 5, 6, 7, 8, 4
_R_AARCH64_RELATIVE = 1027
_ENABLE_VECTORS = 3 << 20


class AArch64:
    """A library in the memory of an emulated processor."""

    def __init__(self, library: bytes) -> None:
        self._cpu = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
        self._cpu.reg_write(arm64.UC_ARM64_REG_CPACR_EL1, _ENABLE_VECTORS)
        self._cpu.mem_map(_STACK, 16 * _PAGE)
        self._cpu.mem_map(_RETURN, _PAGE)
        self._cpu.mem_map(_LIBRARY, 64 * _PAGE)
        self._symbols = self._load(library)

    def call(self, name: str, *arguments: Array | int | None) -> int:
        """Call a C function; arrays are copied in, and back when it has returned. Gives its status."""
        places, arrays, at = [], [], _ARRAYS
        for argument in arguments:
            if isinstance(argument, np.ndarray):
                arrays.append((at, argument))
                places.append(at)
                at += (argument.nbytes // _PAGE + 1) * _PAGE
            else:
                places.append(argument or 0)
        self._cpu.mem_map(_ARRAYS, at - _ARRAYS + _PAGE)
        for place, array in arrays:
            self._cpu.mem_write(place, array.tobytes())
        stack = _STACK + 8 * _PAGE
        for number, place in enumerate(places[:8]):
            self._cpu.reg_write(getattr(arm64, f"UC_ARM64_REG_X{number}"), place)
        self._cpu.mem_write(stack, struct.pack(f"<{len(places[8:])}q", *places[8:]))
        self._cpu.reg_write(arm64.UC_ARM64_REG_SP, stack)
        self._cpu.reg_write(arm64.UC_ARM64_REG_LR, _RETURN)
        self._cpu.emu_start(self._symbols[name], _RETURN)
        for place, array in arrays:
            array[...] = np.frombuffer(bytes(self._cpu.mem_read(place, array.nbytes)), array.dtype).reshape(
                array.shape
            )
        self._cpu.mem_unmap(_ARRAYS, at - _ARRAYS + _PAGE)
        return int(self._cpu.reg_read(arm64.UC_ARM64_REG_W0))

    def _load(self, library: bytes) -> dict[str, int]:
        start, count = struct.unpack_from("<Q", library, 32)[0], struct.unpack_from("<H", library, 56)[0]
        dynamic: dict[int, int] = {}
        for number in range(count):
            kind, _, offset, address, _, size, _, _ = struct.unpack_from(
                "<IIQQQQQQ", library, start + 56 * number
            )
            if kind == _PT_LOAD:
                self._cpu.mem_write(_LIBRARY + address, library[offset : offset + size])
            elif kind == _PT_DYNAMIC:
                dynamic = dict(struct.iter_unpack("<qQ", library[offset : offset + size]))
        relocations = self._read(dynamic.get(_DT_RELA, 0), dynamic.get(_DT_RELASZ, 0))
        for place, info, addend in struct.iter_unpack("<QQq", relocations):
            assert info == _R_AARCH64_RELATIVE
            self._cpu.mem_write(_LIBRARY + place, struct.pack("<Q", _LIBRARY + addend))
        return self._names(dynamic)

    def _names(self, dynamic: dict[int, int]) -> dict[str, int]:
        _, symbols = struct.unpack("<II", self._read(dynamic[_DT_HASH], 8))
        found = {}
        for name_at, *_, value, _ in struct.iter_unpack(
            "<IBBHQQ", self._read(dynamic[_DT_SYMTAB], 24 * symbols)
        ):
            name = self._read(dynamic[_DT_STRTAB] + name_at, 200)
            found[name[: name.index(b"\0")].decode()] = _LIBRARY + value
        return found

    def _read(self, address: int, size: int) -> bytes:
        return bytes(self._cpu.mem_read(_LIBRARY + address, size))
