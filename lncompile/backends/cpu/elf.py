"""Relocatable objects to a shared library, without an external linker.

LLVM emits ELF64 objects that define every symbol that one of them refers to; a library made of them needs no
PLT and no GOT, so what is left of linking is small: place the sections in segments, apply the relocations
that depend on the distance of two sections, and write the tables that the dynamic loader reads.

The file comes out as::

    segment 0  R    headers  .hash .dynsym .dynstr .rela.dyn  constants  .eh_frame .eh_frame_hdr
    segment 1  RX   code
    segment 2  RW   .data.rel.ro (tables of addresses)  .dynamic      read-only once loaded (RELRO)
    segment 3  RW   .data, where the library may have it
    -               .shstrtab, section headers                        not loaded: for ld, nm, objdump, gdb

Segments follow one another in the file without padding: the address of what lies at file offset ``x`` of
segment ``k`` is ``x + k * page``, which is congruent to ``x`` as loaders require and puts no two segments
on one page.

Source: System V ABI, gABI chapters 4 and 5, with its x86-64 and AArch64 (AAELF64) supplements; Linux
Standard Base Core 5.0, chapter 10.6, for ``.eh_frame_hdr``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from lncompile.errors import CompilerBug

_FILE_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION_HEADER = struct.Struct("<IIQQQQIIQQ")
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QQq")
_DYNAMIC = struct.Struct("<qQ")
_IDENT = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")  # 64 bits, little-endian, version 1

_ET_REL, _ET_DYN = 1, 3
_SHT_PROGBITS, _SHT_SYMTAB, _SHT_STRTAB, _SHT_RELA, _SHT_HASH, _SHT_DYNAMIC = 1, 2, 3, 4, 5, 6
_SHT_REL, _SHT_DYNSYM, _SHT_X86_64_UNWIND = 9, 11, 0x70000001
_SHF_WRITE, _SHF_ALLOC, _SHF_EXECINSTR, _SHF_MERGE, _SHF_STRINGS, _SHF_GROUP = 1, 2, 4, 0x10, 0x20, 0x200
_SHN_UNDEF, _SHN_ABS = 0, 0xFFF1
_STB_LOCAL, _STB_GLOBAL = 0, 1
_STT_FUNC = 2
_STT_PLAIN = {0, 1, 2, 3}  # no type, data, function, section: those whose address is just their value
_PT_LOAD, _PT_DYNAMIC = 1, 2
_PT_GNU_EH_FRAME, _PT_GNU_STACK, _PT_GNU_RELRO = 0x6474E550, 0x6474E551, 0x6474E552
_PF_R, _PF_RX, _PF_RW = 4, 5, 6
_DT_NULL, _DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_RELA, _DT_RELASZ, _DT_RELAENT = 0, 4, 5, 6, 7, 8, 9
_DT_STRSZ, _DT_SYMENT, _DT_SONAME, _DT_RELACOUNT = 10, 11, 14, 0x6FFFFFF9

_READ, _EXECUTE, _RELRO, _DATA = 0, 1, 2, 3  # the segments
_FRAMES = ".eh_frame"


def link(
    object_file: bytes,
    exports: Sequence[str],
    soname: str,
    *,
    further: Sequence[bytes] = (),
    data: bool = False,
) -> bytes:
    """Make a shared library of object files of LLVM.

    Args:
        object_file: a little-endian ELF64 relocatable object for x86-64 or AArch64, compiled position
            independent. It may hold code, constants and ``.data.rel.ro``; calls between its functions, also
            to exported ones, are bound directly.
        further: more such objects for the same processor; global symbols of one are seen by all.
        data: whether the objects may have writable data (``.data``) as well.
        exports: the global symbols that the library offers, in the order of its symbol table. They may have
            hidden visibility in the object, which keeps references to them free of a GOT.
        soname: the name under which programs linked against the library look for it.

    Returns:
        The library's bytes: the same for the same arguments.

    Raises:
        CompilerBug: for what such a library cannot have (undefined symbols, writable data, thread-local
            storage), an export that is not a global symbol, or a relocation that is unknown or out of range.
    """
    obj = _joined([_parse(one, data) for one in (object_file, *further)])
    exported = [_exported(obj, name) for name in dict.fromkeys(exports)]
    image = _lay_out(obj, exported, soname)
    _relocate(obj, image)
    _fill_tables(image, exported, soname)
    return _write(obj, image)


def code_sizes(object_file: bytes) -> dict[str, int]:
    """The bytes of code of each function of an object file, by name."""
    obj = _parse(object_file, writable=True)
    return {symbol.name: symbol.size for symbol in obj.symbols if symbol.kind == _STT_FUNC}


def defined(object_file: bytes) -> list[str]:
    """The global symbols that an object file defines, in order."""
    obj = _parse(object_file, writable=True)
    return [s.name for s in obj.symbols if s.binding != _STB_LOCAL and s.section != _SHN_UNDEF]


# ---- parse -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Symbol:
    name: str
    binding: int
    kind: int
    section: int
    value: int
    size: int


@dataclass(frozen=True)
class _Relocation:
    offset: int
    type: int
    symbol: _Symbol
    addend: int


@dataclass(frozen=True)
class _Input:
    """A section of the object that goes into the library."""

    name: str
    flags: int
    align: int
    data: bytes
    relocations: list[_Relocation] = field(default_factory=list)


@dataclass(frozen=True)
class _Object:
    machine: _Machine
    flags: int
    sections: dict[int, _Input]
    symbols: list[_Symbol]


def _parse(data: bytes, writable: bool) -> _Object:
    if data[:7] != _IDENT[:7] or len(data) < _FILE_HEADER.size:
        raise CompilerBug("elf.link: not a little-endian ELF64 file")
    _, kind, machine, _, _, _, table, flags, *_, count, names = _FILE_HEADER.unpack_from(data)
    if kind != _ET_REL or machine not in _MACHINES:
        raise CompilerBug(
            f"elf.link: expected an object for x86-64 or AArch64, got type {kind}, machine {machine}"
        )
    headers = [_SECTION_HEADER.unpack_from(data, table + i * _SECTION_HEADER.size) for i in range(count)]

    def content(section: int) -> bytes:
        offset, size = headers[section][4:6]
        return data[offset : offset + size]

    sections: dict[int, _Input] = {}
    for index, (name_at, kind, section_flags, _, _, size, _, _, align, _) in enumerate(headers):
        if section_flags & _SHF_ALLOC and size:
            name = _string(content(names), name_at)
            _check_section(name, kind, section_flags, writable)
            sections[index] = _Input(name, section_flags, max(align, 1), content(index))

    symbols: list[_Symbol] = []
    for index, header in enumerate(headers):
        if header[1] == _SHT_SYMTAB:
            strings = content(header[6])
            for name_at, info, _, section, value, size in _SYMBOL.iter_unpack(content(index)):
                symbols.append(_Symbol(_string(strings, name_at), info >> 4, info & 15, section, value, size))
    for index, header in enumerate(headers):
        target = sections.get(header[7])
        if header[1] == _SHT_REL and target:
            raise CompilerBug(f"elf.link: relocations of {target.name} have no addends")
        if header[1] == _SHT_RELA and target:
            for offset, info, addend in _RELOCATION.iter_unpack(content(index)):
                target.relocations.append(_Relocation(offset, info & 0xFFFFFFFF, symbols[info >> 32], addend))
    return _Object(_MACHINES[machine], flags, sections, symbols)


def _joined(objects: Sequence[_Object]) -> _Object:
    """All objects as one: sections numbered through, references bound to definitions of global symbols."""
    first = objects[0]
    sections: dict[int, _Input] = {}
    symbols: list[_Symbol] = []
    for obj in objects:
        if (obj.machine, obj.flags) != (first.machine, first.flags):
            raise CompilerBug("elf.link: the objects are for different processors")
        base = max(sections, default=0)

        def moved(symbol: _Symbol, obj: _Object = obj, base: int = base) -> _Symbol:
            if symbol.section == _SHN_UNDEF:
                return symbol
            return replace(
                symbol, section=symbol.section + base if symbol.section in obj.sections else _SHN_ABS
            )

        for index, section in obj.sections.items():
            relocations = [replace(r, symbol=moved(r.symbol)) for r in section.relocations]
            sections[index + base] = replace(section, relocations=relocations)
        symbols += [moved(symbol) for symbol in obj.symbols]
    defined: dict[str, _Symbol] = {}
    for symbol in symbols:
        if symbol.binding != _STB_LOCAL and symbol.section != _SHN_UNDEF:
            if symbol.name in defined:
                raise CompilerBug(f"elf.link: {symbol.name} is defined twice")
            defined[symbol.name] = symbol
    # The first symbol of a table is empty, and undefined, by definition.
    if undefined := sorted({s.name for s in symbols if s.section == _SHN_UNDEF and s.name} - set(defined)):
        raise CompilerBug(f"elf.link: undefined symbols: {', '.join(undefined)}")
    for section in sections.values():
        section.relocations[:] = [
            replace(r, symbol=defined[r.symbol.name]) if _is_reference(r.symbol) else r
            for r in section.relocations
        ]
    return _Object(first.machine, first.flags, sections, symbols)


def _is_reference(symbol: _Symbol) -> bool:
    return symbol.section == _SHN_UNDEF and bool(symbol.name)


def _string(table: bytes, offset: int) -> str:
    return table[offset : table.index(b"\0", offset)].decode()


def _check_section(name: str, kind: int, flags: int, writable: bool) -> None:
    """Refuse sections that hold state: the library is shared by threads and has nothing to initialise."""
    if flags & _SHF_WRITE and not _is_relro(name) and not (writable and name == ".data"):
        raise CompilerBug(f"elf.link: writable section {name}")
    # Sections of constants that a linker may merge are left as they are; there are few.
    known = _SHF_ALLOC | _SHF_WRITE | _SHF_EXECINSTR | _SHF_MERGE | _SHF_STRINGS | _SHF_GROUP
    if kind not in (_SHT_PROGBITS, _SHT_X86_64_UNWIND) or flags & ~known:
        raise CompilerBug(
            f"elf.link: section {name} has type {kind:#x} and flags {flags:#x}, which are not supported"
        )


def _is_relro(name: str) -> bool:
    return name == ".data.rel.ro" or name.startswith(".data.rel.ro.")


def _exported(obj: _Object, name: str) -> _Symbol:
    for symbol in obj.symbols:
        if symbol.name == name and symbol.binding != _STB_LOCAL and symbol.section != _SHN_UNDEF:
            if symbol.section not in obj.sections or symbol.kind not in _STT_PLAIN:
                raise CompilerBug(f"elf.link: {name} is neither code nor constant data")
            return symbol
    raise CompilerBug(f"elf.link: no global symbol {name} to export")


# ---- layout ------------------------------------------------------------------------------------------------


@dataclass
class _Output:
    """A section of the library; ``link`` names another one, as its kind requires."""

    name: str
    kind: int
    flags: int
    align: int
    data: bytearray
    segment: int
    link: str = ""
    info: int = 0
    entry_size: int = 0
    offset: int = 0
    address: int = 0


@dataclass(frozen=True)
class _Relative:
    """An address in a table, to which the loader adds where it has put the library."""

    section: int
    relocation: _Relocation


@dataclass(frozen=True)
class _Image:
    outputs: list[_Output]
    placed: dict[int, _Output]  # by the index of the section in the object
    named: dict[str, _Output]  # the linker's own
    strings: dict[str, int]  # offsets in .dynstr
    relative: list[_Relative]
    programs: int

    def address(self, symbol: _Symbol) -> int:
        if symbol.section not in self.placed or symbol.kind not in _STT_PLAIN:
            raise CompilerBug(
                f"elf.link: relocation against {symbol.name!r}, which is not code or constant data"
            )
        return self.placed[symbol.section].address + symbol.value

    def segment(self, number: int) -> list[_Output]:
        return [o for o in self.outputs if o.segment == number]


def _lay_out(obj: _Object, exported: list[_Symbol], soname: str) -> _Image:
    machine = obj.machine
    relative = [
        _Relative(index, relocation)
        for index, section in obj.sections.items()
        for relocation in section.relocations
        if relocation.type == machine.absolute
    ]
    strings, string_table = _string_table([soname, *(s.name for s in exported)])

    placed: dict[int, _Output] = {}
    for index, section in obj.sections.items():
        if section.align > machine.page:
            raise CompilerBug(f"elf.link: {section.name} is aligned to {section.align}, more than a page")
        flags = section.flags & (_SHF_ALLOC | _SHF_WRITE | _SHF_EXECINSTR)
        segment = _EXECUTE if flags & _SHF_EXECINSTR else _READ
        if flags & _SHF_WRITE:
            segment = _RELRO if _is_relro(section.name) else _DATA
        data = bytearray(section.data)
        placed[index] = _Output(section.name, _SHT_PROGBITS, flags, section.align, data, segment)
    frames = [output for output in placed.values() if output.name == _FRAMES]
    if frames:
        for follower in frames[1:]:
            follower.align = 1  # an unwinder reads them as one, without gaps
        frames[-1].data += bytes(4)  # a record of length zero ends its search

    def table(name: str, kind: int, entry_size: int, entries: int, link: str, info: int = 0) -> _Output:
        data = bytearray(entry_size * entries)
        return _Output(name, kind, _SHF_ALLOC, 8, data, _READ, link, info, entry_size)

    hash_table = bytearray(_hash_table([s.name for s in exported]))
    own = [
        _Output(".hash", _SHT_HASH, _SHF_ALLOC, 8, hash_table, _READ, ".dynsym", entry_size=4),
        table(".dynsym", _SHT_DYNSYM, _SYMBOL.size, 1 + len(exported), ".dynstr", info=1),
        _Output(".dynstr", _SHT_STRTAB, _SHF_ALLOC, 1, bytearray(string_table), _READ),
    ]
    if relative:
        own.append(table(".rela.dyn", _SHT_RELA, _RELOCATION.size, len(relative), ".dynsym"))
    outputs = [*own, *placed.values()]
    if frames:
        own.append(_Output(".eh_frame_hdr", _SHT_PROGBITS, _SHF_ALLOC, 4, bytearray(8), _READ))
        outputs.append(own[-1])
    dynamic = table(".dynamic", _SHT_DYNAMIC, _DYNAMIC.size, 11 if relative else 7, ".dynstr")
    dynamic.flags, dynamic.segment = _SHF_ALLOC | _SHF_WRITE, _RELRO
    own.append(dynamic)
    outputs.append(dynamic)

    last = (_FRAMES, ".eh_frame_hdr")
    outputs.sort(key=lambda o: (o.segment, last.index(o.name) + 1 if o.name in last else 0))
    named = {o.name: o for o in own}
    segments = len({o.segment for o in outputs})
    # One program header a segment, and PT_DYNAMIC, PT_GNU_STACK, PT_GNU_RELRO, perhaps PT_GNU_EH_FRAME.
    programs = segments + 3 + (".eh_frame_hdr" in named)
    offset = _FILE_HEADER.size + programs * _PROGRAM_HEADER.size
    for output in outputs:
        offset = _align(offset, output.align)
        output.offset = offset
        output.address = offset + output.segment * machine.page
        offset += len(output.data)
    return _Image(outputs, placed, named, strings, relative, programs)


def _align(value: int, to: int) -> int:
    return (value + to - 1) // to * to


def _string_table(names: Sequence[str]) -> tuple[dict[str, int], bytes]:
    offsets, table = {"": 0}, b"\0"
    for name in names:
        if name not in offsets:
            offsets[name] = len(table)
            table += name.encode() + b"\0"
    return offsets, table


def _hash_table(names: Sequence[str]) -> bytes:
    """The symbol hash table of the System V ABI: buckets of chains of symbol numbers."""
    buckets, chains = [0] * max(len(names), 1), [0] * (1 + len(names))
    for number, name in enumerate(names, 1):
        bucket = _hash(name) % len(buckets)
        chains[number] = buckets[bucket]
        buckets[bucket] = number
    return struct.pack(f"<{2 + len(buckets) + len(chains)}I", len(buckets), len(chains), *buckets, *chains)


def _hash(name: str) -> int:
    value = 0
    for byte in name.encode():
        value = (value << 4) + byte
        high = value & 0xF0000000
        value = (value ^ high >> 24) & ~high
    return value


# ---- relocate ----------------------------------------------------------------------------------------------

# Writes ``value`` into ``data`` at ``offset``, for an instruction or word whose own address is ``place``.
_Apply = Callable[[bytearray, int, int, int], None]


@dataclass(frozen=True)
class _Machine:
    """What differs between processors.

    ``absolute`` is the relocation of a 64-bit address, ``relative`` the one that replaces it in the library.
    """

    number: int
    page: int
    absolute: int
    relative: int
    apply: dict[int, _Apply]


def _fits(value: int, bits: int, what: str) -> int:
    """``value`` as an unsigned field of ``bits`` bits, if it is a signed number of that size."""
    if not -(1 << bits - 1) <= value < 1 << bits - 1:
        raise CompilerBug(f"elf.link: {what} of {value:#x} does not fit in {bits} bits")
    return value & ((1 << bits) - 1)


def _distance(bits: int) -> _Apply:
    def apply(data: bytearray, offset: int, value: int, place: int) -> None:
        size = bits // 8
        data[offset : offset + size] = _fits(value - place, bits, "distance").to_bytes(size, "little")

    return apply


def _patch(data: bytearray, offset: int, mask: int, bits: int) -> None:
    """Replace the bits of ``mask`` in the AArch64 instruction at ``offset``."""
    word = int.from_bytes(data[offset : offset + 4], "little") & ~mask | bits
    data[offset : offset + 4] = word.to_bytes(4, "little")


def _page_distance(data: bytearray, offset: int, value: int, place: int) -> None:
    pages = _fits((value >> 12) - (place >> 12), 21, "distance in pages")
    _patch(data, offset, 0x60FFFFE0, (pages & 3) << 29 | pages >> 2 << 5)


def _page_offset(scale: int) -> _Apply:
    """The low 12 bits of an address, counted in accesses of ``1 << scale`` bytes."""

    def apply(data: bytearray, offset: int, value: int, place: int) -> None:
        low = value & 0xFFF
        if low & ((1 << scale) - 1):
            raise CompilerBug(
                f"elf.link: address {value:#x} of an access of {1 << scale} bytes is not aligned"
            )
        _patch(data, offset, 0xFFF << 10, low >> scale << 10)

    return apply


def _branch(data: bytearray, offset: int, value: int, place: int) -> None:
    if (value - place) & 3:
        raise CompilerBug(f"elf.link: branch to {value:#x}, which is no instruction's address")
    _patch(data, offset, 0x3FFFFFF, _fits((value - place) >> 2, 26, "branch distance in instructions"))


_X86_64 = _Machine(
    number=62,
    page=0x1000,
    absolute=1,  # R_X86_64_64
    relative=8,  # R_X86_64_RELATIVE
    apply={
        2: _distance(32),  # PC32
        4: _distance(32),  # PLT32: the callee is in this library, so no PLT
        24: _distance(64),  # PC64
    },
)
_AARCH64 = _Machine(
    number=183,
    page=0x10000,  # kernels with 64 KiB pages exist
    absolute=257,  # R_AARCH64_ABS64
    relative=1027,  # R_AARCH64_RELATIVE
    apply={
        260: _distance(64),  # PREL64
        261: _distance(32),  # PREL32
        275: _page_distance,  # ADR_PREL_PG_HI21
        277: _page_offset(0),  # ADD_ABS_LO12_NC
        278: _page_offset(0),  # LDST8_ABS_LO12_NC
        284: _page_offset(1),  # LDST16_ABS_LO12_NC
        285: _page_offset(2),  # LDST32_ABS_LO12_NC
        286: _page_offset(3),  # LDST64_ABS_LO12_NC
        299: _page_offset(4),  # LDST128_ABS_LO12_NC
        282: _branch,  # JUMP26
        283: _branch,  # CALL26
    },
)
_MACHINES = {machine.number: machine for machine in (_X86_64, _AARCH64)}


def _relocate(obj: _Object, image: _Image) -> None:
    for index, section in obj.sections.items():
        output = image.placed[index]
        for relocation in section.relocations:
            value = image.address(relocation.symbol) + relocation.addend
            if relocation.type == obj.machine.absolute:
                if output.segment not in (_RELRO, _DATA):
                    raise CompilerBug(
                        f"elf.link: address of {relocation.symbol.name!r} in read-only {section.name}"
                    )
            elif apply := obj.machine.apply.get(relocation.type):
                apply(output.data, relocation.offset, value, output.address + relocation.offset)
            else:
                raise CompilerBug(
                    f"elf.link: relocation type {relocation.type} against {relocation.symbol.name!r} in"
                    f" {section.name} is not supported (internal or hidden symbols need no GOT)"
                )
    if image.relative:
        image.named[".rela.dyn"].data[:] = b"".join(
            _RELOCATION.pack(
                image.placed[entry.section].address + entry.relocation.offset,
                obj.machine.relative,
                image.address(entry.relocation.symbol) + entry.relocation.addend,
            )
            for entry in image.relative
        )


# ---- write -------------------------------------------------------------------------------------------------


def _fill_tables(image: _Image, exported: list[_Symbol], soname: str) -> None:
    """The contents that depend on addresses: all sizes are settled by the layout."""
    numbers = {id(output): number for number, output in enumerate(image.outputs, 1)}
    image.named[".dynsym"].data[:] = bytes(_SYMBOL.size) + b"".join(
        _SYMBOL.pack(
            image.strings[symbol.name],
            _STB_GLOBAL << 4 | symbol.kind,
            0,
            numbers[id(image.placed[symbol.section])],
            image.address(symbol),
            symbol.size,
        )
        for symbol in exported
    )
    if header := image.named.get(".eh_frame_hdr"):
        frames = next(o for o in image.placed.values() if o.name == _FRAMES)
        # Version 1, the address of .eh_frame as a 32-bit distance (0x1b), no search table (0xff, 0xff):
        # unwinders then go through the frames one by one, which for a handful of functions is as good.
        header.data[:] = struct.pack("<4Bi", 1, 0x1B, 0xFF, 0xFF, frames.address - (header.address + 4))
    entries = _dynamic_entries(image, soname)
    image.named[".dynamic"].data[:] = b"".join(_DYNAMIC.pack(*entry) for entry in entries)


def _dynamic_entries(image: _Image, soname: str) -> Iterator[tuple[int, int]]:
    named = image.named
    yield _DT_SONAME, image.strings[soname]
    yield _DT_HASH, named[".hash"].address
    yield _DT_STRTAB, named[".dynstr"].address
    yield _DT_STRSZ, len(named[".dynstr"].data)
    yield _DT_SYMTAB, named[".dynsym"].address
    yield _DT_SYMENT, _SYMBOL.size
    if image.relative:
        yield _DT_RELA, named[".rela.dyn"].address
        yield _DT_RELASZ, len(named[".rela.dyn"].data)
        yield _DT_RELAENT, _RELOCATION.size
        yield _DT_RELACOUNT, len(image.relative)
    yield _DT_NULL, 0


def _write(obj: _Object, image: _Image) -> bytes:
    section_names, name_table = _string_table([*(o.name for o in image.outputs), ".shstrtab"])
    end = image.outputs[-1].offset + len(image.outputs[-1].data)
    table_at = _align(end + len(name_table), 8)
    library = bytearray(table_at)
    count = len(image.outputs) + 2

    sizes = (_FILE_HEADER.size, _PROGRAM_HEADER.size, image.programs, _SECTION_HEADER.size, count, count - 1)
    header = (_IDENT, _ET_DYN, obj.machine.number, 1, 0, _FILE_HEADER.size, table_at, obj.flags, *sizes)
    _FILE_HEADER.pack_into(library, 0, *header)
    for number, program in enumerate(_program_headers(obj.machine, image)):
        _PROGRAM_HEADER.pack_into(library, _FILE_HEADER.size + number * _PROGRAM_HEADER.size, *program)
    for o in image.outputs:
        library[o.offset : o.offset + len(o.data)] = o.data
    library[end : end + len(name_table)] = name_table

    numbers = {o.name: number for number, o in enumerate(image.outputs, 1)}
    library += bytes(_SECTION_HEADER.size)
    for o in image.outputs:
        place = (o.flags, o.address, o.offset, len(o.data))
        rest = (numbers.get(o.link, 0), o.info, o.align, o.entry_size)
        library += _SECTION_HEADER.pack(section_names[o.name], o.kind, *place, *rest)
    shstrtab = (section_names[".shstrtab"], _SHT_STRTAB, 0, 0, end, len(name_table), 0, 0, 1, 0)
    library += _SECTION_HEADER.pack(*shstrtab)
    return bytes(library)


def _program_headers(machine: _Machine, image: _Image) -> Iterator[tuple[int, ...]]:
    def covering(kind: int, flags: int, outputs: Sequence[_Output], align: int) -> tuple[int, ...]:
        # The first segment also holds the headers, from offset and address 0 on.
        start = outputs[0].offset if outputs[0] is not image.outputs[0] else 0
        address = start + outputs[0].segment * machine.page
        size = outputs[-1].offset + len(outputs[-1].data) - start
        # Loaders protect whole pages after relocation: the segment is filled up with zeros to a page's end,
        # so that no page of the library stays writable.
        writable = outputs[0].segment == _RELRO and kind in (_PT_LOAD, _PT_GNU_RELRO)
        memory = _align(address + size, machine.page) - address if writable else size
        return kind, flags, start, address, address, size, memory, align

    for number, flags in ((_READ, _PF_R), (_EXECUTE, _PF_RX), (_RELRO, _PF_RW), (_DATA, _PF_RW)):
        if outputs := image.segment(number):
            yield covering(_PT_LOAD, flags, outputs, machine.page)
    yield covering(_PT_DYNAMIC, _PF_RW, [image.named[".dynamic"]], 8)
    yield covering(_PT_GNU_RELRO, _PF_R, image.segment(_RELRO), 1)
    if ".eh_frame_hdr" in image.named:
        yield covering(_PT_GNU_EH_FRAME, _PF_R, [image.named[".eh_frame_hdr"]], 4)
    yield _PT_GNU_STACK, _PF_RW, 0, 0, 0, 0, 0, 16
