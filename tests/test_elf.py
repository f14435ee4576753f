"""The linker: libraries that the loader, binutils and gcc accept, and refusals of what cannot be linked."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import struct
import subprocess
from pathlib import Path

import llvmlite.binding as llvm
import pytest

from lncompile.backends.cpu import elf
from lncompile.backends.cpu.archive import archive
from lncompile.errors import CompilerBug

X86_64, AARCH64 = "x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"

try:
    llvm.parse_assembly("declare void @f(ptr)")
except RuntimeError:
    pytest.skip("llvmlite 0.44 needs LLVMLITE_ENABLE_OPAQUE_POINTERS=1", allow_module_level=True)

on_x86_64 = pytest.mark.skipif(platform.machine() != "x86_64", reason="runs x86-64 code")

# Functions that call one another, a table of constants, a table of addresses, and a switch whose cases have
# enough to do that they stay a jump table.
MODULE = """
@table = internal constant [4 x double] [double 1.5, double 2.5, double 4.0, double 8.0], align 64
@callees = internal unnamed_addr constant [2 x ptr] [ptr @plus, ptr @times], align 8

define hidden double @plus(double %x) noinline { %y = fadd double %x, 3.25  ret double %y }
define internal double @times(double %x) noinline { %y = fmul double %x, 0.7  ret double %y }

define double @lookup(double %x, i64 %i) uwtable {
  %p = getelementptr double, ptr @table, i64 %i
  %v = load double, ptr %p
  %s = call double @plus(double %v)
  %y = fadd double %s, %x
  ret double %y
}

define double @indirect(double %x, i64 %i) uwtable {
  %p = getelementptr ptr, ptr @callees, i64 %i
  %f = load ptr, ptr %p
  %y = call double %f(double %x)
  ret double %y
}

define i32 @jump(i32 %i, ptr %p) {
  switch i32 %i, label %none [
    i32 0, label %a  i32 1, label %b  i32 2, label %c  i32 3, label %d  i32 4, label %e
  ]
a: store i32 7, ptr %p  ret i32 10
b: store i16 7, ptr %p  ret i32 21
c: %v = load i32, ptr %p  ret i32 %v
d: store i8 9, ptr %p  ret i32 -5
e: store i64 0, ptr %p  ret i32 99
none: ret i32 -1
}

define void @call_back(ptr %f) uwtable { call void %f()  ret void }

define void @add_vector(ptr %p) {
  %x = load <16 x float>, ptr %p, align 4
  %y = fadd <16 x float> %x, <
    float 0.0, float 1.0, float 2.0, float 3.0, float 4.0, float 5.0, float 6.0, float 7.0,
    float 8.0, float 9.0, float 10.0, float 11.0, float 12.0, float 13.0, float 14.0, float 15.0>
  store <16 x float> %y, ptr %p, align 4
  ret void
}
"""
EXPORTS = ["lookup", "indirect", "jump", "call_back", "add_vector", "plus"]
SONAME = "libsample.so.1"


def compiled(ir: str, triple: str = X86_64, cpu: str = "", reloc: str = "pic") -> bytes:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    target = llvm.Target.from_triple(triple)
    machine = target.create_target_machine(cpu=cpu, opt=3, reloc=reloc, codemodel="default")
    module = llvm.parse_assembly(ir)
    module.triple = triple
    module.verify()
    return machine.emit_object(module)


@pytest.fixture
def library(tmp_path: Path) -> Path:
    path = tmp_path / SONAME
    path.write_bytes(elf.link(compiled(MODULE), EXPORTS, SONAME))
    return path


def output(*command: str | Path) -> str:
    """What a tool prints, which must find nothing to complain of."""
    if not shutil.which(str(command[0])):
        pytest.skip(f"no {command[0]}")
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


@on_x86_64
def test_functions_and_tables(library: Path) -> None:
    lib = ctypes.CDLL(str(library))
    for function in (lib.lookup, lib.indirect):
        function.restype, function.argtypes = ctypes.c_double, [ctypes.c_double, ctypes.c_int64]
    lib.plus.restype, lib.plus.argtypes = ctypes.c_double, [ctypes.c_double]
    assert [lib.lookup(0.5, i) for i in range(4)] == [v + 3.25 + 0.5 for v in (1.5, 2.5, 4.0, 8.0)]
    assert [lib.indirect(2.0, i) for i in range(2)] == [5.25, 2.0 * 0.7]
    assert lib.plus(1.0) == 4.25
    assert not hasattr(lib, "times")


CALLER = """
declare hidden double @times(double)
@chosen = internal global ptr @first, align 8

define double @twice(double %x) uwtable {
  %f = load ptr, ptr @chosen
  %y = call double %f(double %x)
  ret double %y
}

define internal double @first(double %x) noinline uwtable {
  store ptr @times, ptr @chosen
  %y = call double @times(double %x)
  %z = fadd double %y, 1.0
  ret double %z
}
"""
CALLEE = """
@factors = internal constant [2 x double] [double 3.5, double 2.0], align 64
define hidden double @times(double %x) uwtable {
  %f = load double, ptr getelementptr inbounds ([2 x double], ptr @factors, i64 0, i64 1)
  %y = fmul double %x, %f
  ret double %y
}
"""


@on_x86_64
def test_objects_that_call_each_other_and_writable_data(tmp_path: Path) -> None:
    path = tmp_path / SONAME
    caller, callee = compiled(CALLER), compiled(CALLEE)
    path.write_bytes(elf.link(caller, ["twice"], SONAME, further=[callee], data=True))
    lib = ctypes.CDLL(str(path))
    lib.twice.restype, lib.twice.argtypes = ctypes.c_double, [ctypes.c_double]
    # The first call goes through the pointer that the loader relocated, the second to what was stored there.
    assert [lib.twice(3.0), lib.twice(3.0)] == [7.0, 6.0]
    assert "twice" in output("readelf", "--dyn-syms", "--wide", path)
    assert elf.defined(caller) == ["twice"]
    assert elf.code_sizes(callee)["times"] > 0


def test_objects_that_do_not_fit_together() -> None:
    caller, callee = compiled(CALLER), compiled(CALLEE)
    for refused, said in (
        (lambda: elf.link(caller, ["twice"], SONAME, data=True), "undefined symbols: times"),
        (lambda: elf.link(caller, ["twice"], SONAME, further=[callee]), "writable section .data"),
        (lambda: elf.link(callee, [], SONAME, further=[callee]), "times is defined twice"),
        (lambda: elf.link(callee, [], SONAME, further=[compiled(CALLEE, AARCH64)]), "different processors"),
    ):
        with pytest.raises(CompilerBug, match=said):
            refused()


def test_static_libraries(tmp_path: Path) -> None:
    members = {"a rather long name.o": compiled(CALLER), "callee.o": compiled(CALLEE)}
    path = tmp_path / "libsample.a"
    path.write_bytes(archive(members, {name: elf.defined(data) for name, data in members.items()}))
    assert output("ar", "t", path).splitlines() == list(members)
    index = output("nm", "--print-armap", path)
    assert "twice in a rather long name.o" in index
    assert "times in callee.o" in index


@on_x86_64
def test_jump_table(library: Path) -> None:
    lib = ctypes.CDLL(str(library))
    assert b".rela.rodata" in compiled(MODULE), "the switch was to become a jump table"
    cell = ctypes.c_int64(1234)
    cell_is = []
    for case, expected in ((2, 1234), (0, 10), (1, 21), (3, -5), (4, 99), (5, -1), (-1, -1)):
        assert lib.jump(case, ctypes.byref(cell)) == expected
        cell_is.append(cell.value)
    assert cell_is == [1234, 7, 7, 9, 0, 0, 0]


@on_x86_64
@pytest.mark.parametrize("cpu", ["x86-64", "x86-64-v3", "x86-64-v4"])
def test_aligned_vector_constant(cpu: str, tmp_path: Path) -> None:
    # Prefixing a one-byte constant puts the vector's section at an offset that is not aligned by chance.
    ir = MODULE + '@odd = constant [3 x i8] c"abc", section ".rodata.cst1"\n'
    path = tmp_path / "lib.so"
    path.write_bytes(elf.link(compiled(ir, cpu=cpu), ["add_vector", "odd"], "lib.so"))
    cpu_flags = Path("/proc/cpuinfo").read_text()
    if {"x86-64-v3": "avx2", "x86-64-v4": "avx512vl"}.get(cpu, "") not in cpu_flags:
        pytest.skip(f"this processor is no {cpu}")
    lib = ctypes.CDLL(str(path))
    values = (ctypes.c_float * 16)(*[0.5] * 16)
    lib.add_vector(values)
    assert list(values) == [i + 0.5 for i in range(16)]
    assert bytes((ctypes.c_char * 3).in_dll(lib, "odd")) == b"abc"


@on_x86_64
def test_no_page_is_writable(library: Path) -> None:
    lib = ctypes.CDLL(str(library))
    maps = [line for line in Path("/proc/self/maps").read_text().splitlines() if str(library) in line]
    assert lib.jump
    assert sorted({line.split()[1] for line in maps}) == ["r--p", "r-xp"]


@on_x86_64
def test_symbols_and_sections(library: Path) -> None:
    symbols = [line.split()[1:] for line in output("nm", "-D", library).splitlines()]
    assert sorted(symbols) == sorted(["T", name] for name in EXPORTS)
    sections = output("readelf", "-SW", library)
    for name in (
        ".dynsym",
        ".dynstr",
        ".hash",
        ".rela.dyn",
        ".text",
        ".data.rel.ro",
        ".dynamic",
        ".eh_frame",
    ):
        assert f" {name} " in sections
    headers = output("readelf", "-lW", library)
    assert [line.split()[-2] for line in headers.splitlines() if "GNU_STACK" in line] == ["RW"]
    assert "RWE" not in headers
    dynamic = output("readelf", "-dW", library)
    assert SONAME in dynamic
    assert "NEEDED" not in dynamic
    assert "TEXTREL" not in dynamic
    assert "<lookup>:" in output("objdump", "-d", library)
    assert output("readelf", "--debug-dump=frames", library).count(" FDE ") == 7


@on_x86_64
def test_linked_from_c(library: Path, tmp_path: Path) -> None:
    (tmp_path / "main.c").write_text("""
        #include <execinfo.h>
        #include <stdio.h>
        double lookup(double, long);
        void call_back(void (*)(void));
        static void *frames[64];
        static int depth;
        static void look(void) { depth = backtrace(frames, 64); }
        int main(void) {
            look();
            int here = depth;
            call_back(look);
            printf("%g %d\\n", lookup(0.5, 2), depth - here);
        }
    """)
    (tmp_path / "libsample.so").symlink_to(SONAME)
    program = tmp_path / "main"
    output(
        "gcc", "-O0", tmp_path / "main.c", "-o", program, "-L", tmp_path, "-lsample", f"-Wl,-rpath,{tmp_path}"
    )
    # One more frame in between: the unwinder found its way through the library.
    assert output(program).split() == ["7.75", "1"]


@pytest.mark.parametrize("triple", [X86_64, AARCH64])
def test_same_bytes(triple: str) -> None:
    first, second = (elf.link(compiled(MODULE, triple), EXPORTS, SONAME) for _ in range(2))
    assert first == second
    assert first != elf.link(compiled(MODULE, triple), EXPORTS[1:], SONAME)


def sections_of(library: bytes | bytearray) -> dict[str, tuple[int, int, int]]:
    """Name to address, file offset and size."""
    table, count, names = struct.unpack_from("<Q", library, 40)[0], *struct.unpack_from("<HH", library, 60)
    headers = [struct.unpack_from("<IIQQQQ", library, table + 64 * i) for i in range(count)]
    strings = headers[names][4]
    found = {}
    for name, _, _, address, offset, size in headers:
        start = strings + name
        found[library[start : library.index(b"\0", start)].decode()] = (address, offset, size)
    return found


def symbols_of(library: bytes) -> dict[str, int]:
    sections = sections_of(library)
    _, at, size = sections[".dynsym"]
    strings = sections[".dynstr"][1]
    found = {}
    for offset in range(at + 24, at + size, 24):
        name, *_, value, _ = struct.unpack_from("<IBBHQQ", library, offset)
        found[library[strings + name : library.index(b"\0", strings + name)].decode()] = value
    return found


def file_offset(sections: dict[str, tuple[int, int, int]], address: int) -> int:
    """Where constants of this address lie in the file."""
    for name, (start, offset, size) in sections.items():
        if name.startswith(".rodata") and start <= address < start + size:
            return offset + address - start
    raise AssertionError(f"no constants at {address:#x}")


def signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


def test_aarch64_addresses() -> None:
    """Decodes what was relocated: a call, an address as page and offset, a load, a table of addresses."""
    ir = """
    @table = internal constant [4 x double] [double 1.5, double 2.5, double 4.0, double 8.0], align 64
    @callees = constant [2 x ptr] [ptr @first, ptr @second], align 8
    define i32 @first(i32 %x) noinline { ret i32 %x }
    define i32 @second(i32 %x) noinline { %y = call i32 @first(i32 %x)  %z = add i32 %y, 1  ret i32 %z }
    define ptr @address() { ret ptr @table }
    define <4 x float> @constant() { ret <4 x float> <float 1.0, float 3.0, float 5.0, float 7.5> }
    """
    library = elf.link(compiled(ir, AARCH64), ["first", "second", "address", "constant", "callees"], "lib.so")
    sections, symbols = sections_of(library), symbols_of(library)
    text, text_at, _ = sections[".text"]

    def instruction(address: int) -> int:
        return int(struct.unpack_from("<I", library, text_at + address - text)[0])

    def page(address: int) -> int:
        word = instruction(address)
        assert word & 0x9F000000 == 0x90000000, "adrp"
        return (address & ~0xFFF) + (signed((word >> 5 & 0x7FFFF) << 2 | word >> 29 & 3, 21) << 12)

    calls = [a for a in range(symbols["second"], symbols["address"], 4) if instruction(a) >> 26 == 0x25]
    assert [a + 4 * signed(instruction(a) & 0x3FFFFFF, 26) for a in calls] == [symbols["first"]]

    address = symbols["address"]
    add = instruction(address + 4)
    assert add & 0xFFC00000 == 0x91000000, "add, immediate"
    table = page(address) + (add >> 10 & 0xFFF)
    assert struct.unpack_from("<4d", library, file_offset(sections, table)) == (1.5, 2.5, 4.0, 8.0)
    assert table % 64 == 0

    load = instruction(symbols["constant"] + 4)
    assert load & 0xFFC00000 == 0x3DC00000, "ldr of 128 bits"
    literal = page(symbols["constant"]) + (load >> 10 & 0xFFF) * 16
    assert struct.unpack_from("<4f", library, file_offset(sections, literal)) == (1.0, 3.0, 5.0, 7.5)

    _, at, size = sections[".rela.dyn"]
    relative = [struct.unpack_from("<QQq", library, o) for o in range(at, at + size, 24)]
    callees = symbols["callees"]
    assert relative == [(callees, 1027, symbols["first"]), (callees + 8, 1027, symbols["second"])]


def test_undefined_symbols_are_named() -> None:
    ir = """
    declare double @exp(double)
    declare double @log(double)
    define double @f(double %x) {
      %y = call double @exp(double %x)
      %z = call double @log(double %y)
      ret double %z
    }
    """
    with pytest.raises(CompilerBug, match="undefined symbols: exp, log"):
        elf.link(compiled(ir), ["f"], "lib.so")


@pytest.mark.parametrize(
    ("ir", "message"),
    [
        ("@state = global i32 7", r"writable section \.data"),
        ("@state = global i32 0", r"writable section \.bss"),
        ("@state = thread_local global i32 1", r"writable section \.tdata"),
        ("@big = constant i32 7, align 65536", "more than a page"),
        ("define ptr @g() { ret ptr @f }", r"relocation type \d+ against 'f' .* need no GOT"),
    ],
)
def test_refusals(ir: str, message: str) -> None:
    with pytest.raises(CompilerBug, match=message):
        elf.link(compiled(ir + "\ndefine void @f() { ret void }"), ["f"], "lib.so")


def test_position_dependent_code_is_refused() -> None:
    ir = """
    @callees = constant [1 x ptr] [ptr @f]
    define void @f() { ret void }
    """
    with pytest.raises(CompilerBug, match=r"address of 'f' in read-only \.rodata"):
        elf.link(compiled(ir, reloc="static"), ["f"], "lib.so")


def test_exports_must_exist() -> None:
    with pytest.raises(CompilerBug, match="no global symbol times"):
        elf.link(compiled(MODULE), ["times"], "lib.so")


def test_not_an_object() -> None:
    for data in (b"", bytes(64), compiled(MODULE, "i686-unknown-linux-gnu")):
        with pytest.raises(CompilerBug, match="not a little-endian ELF64"):
            elf.link(data, [], "lib.so")
    with pytest.raises(CompilerBug, match="expected an object for x86-64 or AArch64"):
        elf.link(compiled("define void @f() { ret void }", "riscv64-unknown-linux-gnu"), ["f"], "lib.so")


@pytest.mark.parametrize(("triple", "message"), [(X86_64, "in 32 bits"), (AARCH64, "in 21 bits")])
def test_distance_that_does_not_fit(triple: str, message: str) -> None:
    obj = bytearray(compiled(MODULE, triple))
    _, relocations, _ = sections_of(obj)[".rela.text"]
    struct.pack_into("<q", obj, relocations + 16, 1 << 34)  # the addend of the first one
    with pytest.raises(CompilerBug, match=f"does not fit {message}"):
        elf.link(bytes(obj), EXPORTS, "lib.so")


@on_x86_64
def test_many_exports(tmp_path: Path) -> None:
    names = [f"function_{i}" for i in range(100)]
    ir = "\n".join(f"define i32 @{name}() {{ ret i32 {i} }}" for i, name in enumerate(names))
    path = tmp_path / "lib.so"
    path.write_bytes(elf.link(compiled(ir), names, "lib.so"))
    lib = ctypes.CDLL(os.fspath(path))
    assert [getattr(lib, name)() for name in names] == list(range(100))
