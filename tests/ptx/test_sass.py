"""Counts from machine code: both disassemblers' texts, and a cubin's own account of its registers."""

from __future__ import annotations

import struct

import pytest

from .sass import Budget, Code, Resources, read_cubin, read_sass

NVDISASM = """
	.target	sm_90
//--------------------- .text.forward --------------------------
	.section	.text.forward,"ax",@progbits
	.align	128
        .global         forward
forward:
.text.forward:
        /*0000*/                   LDC R1, c[0x0][0x28] ;
        /*00a0*/               @P0 EXIT ;
        /*00d0*/                   ULDC.64 UR4, c[0x0][0x218] ;
.L_x_1:
        /*01f0*/                   LDG.E.EF.128 R4, desc[UR4][R4.64] ;
        /*0200*/              @!P1 LDG.E.128.CONSTANT R8, desc[UR4][R4.64+0x10] ;
        /*0210*/             @!UP2 LDG.E R9, desc[UR4][R6.64] ;
        /*0220*/                   LDG.E.U16.CONSTANT R9, desc[UR4][R6.64] ;
        /*0230*/                   LDGSTS.E.BYPASS.LTC128B.128 [R9], desc[UR4][R6.64] ;
        /*0240*/                   UBLKCP.S.G [UR8], [UR4], UR6 ;
        /*0250*/                   STS.128 [R39], R32 ;
        /*0260*/                   LDS R33, [R33+0x20] ;
        /*0b10*/                   STG.E.EF.128 desc[UR12][R32.64], R20 ;
        /*0b20*/               @P3 STG.E.64 desc[UR12][R32.64], R20 ;
        /*0b30*/                   BRA `(.L_x_1) ;
	.section	.text.second,"ax",@progbits
.text.second:
        /*0000*/                   STL.64 [R1], R2 ;
        /*0010*/                   LDL R2, [R1+0x4] ;
        /*0020*/                   LDG.E.ENL2.256 R12, R8, desc[UR4][R4.64] ;
        /*0030*/                   RED.E.ADD.F32.FTZ.RN.STRONG.GPU desc[UR4][R2.64], R5 ;
"""

CUOBJDUMP = """
	code for sm_90
		Function : _Z3lnc
	.headerflags	@"EF_CUDA_SM90"
        /*0008*/                   MOV R1, c[0x0][0x28] ;                /* 0x00000a0000017a02 */
                                                                         /* 0x000fe40000000f00 */
        /*0010*/              @!P0 LDG.E.64 R2, desc[UR4][R2.64] ;       /* 0x0000000402020981 */
"""


def test_accesses_by_width() -> None:
    code = read_sass(NVDISASM)
    assert list(code) == ["forward", "second"]
    assert code["forward"].accesses == {
        ("global", "load", 128): 2,
        ("global", "load", 32): 1,
        ("global", "load", 16): 1,
        ("global", "copy", 128): 1,
        ("global", "bulk load", 0): 1,
        ("shared", "store", 128): 1,
        ("shared", "load", 32): 1,
        ("global", "store", 128): 1,
        ("global", "store", 64): 1,
    }
    assert code["forward"].narrow("load") == 2
    assert code["forward"].opcodes["LDG"] == 4
    assert code["second"].count("local") == 2
    assert code["second"].count("global", bits=256) == 1
    assert code["second"].count("global", "atomic") == 1


def test_the_other_disassembler() -> None:
    code = read_sass(CUOBJDUMP)
    assert code == {"_Z3lnc": Code({("global", "load", 64): 1}, {"MOV": 1, "LDG": 1})}


def test_budgets() -> None:
    code = read_sass(NVDISASM)
    resources = Resources(registers=70, stack=0, shared=1152)
    kept = Budget(wide_loads=4, wide_stores=1, narrow_loads=2, narrow_stores=1, shared=2, registers=72)
    kept.check(code["forward"], resources)
    tight = Budget(wide_loads=5, wide_stores=3, narrow_loads=1, narrow_stores=0, shared=1, registers=64)
    assert tight.exceeded(code["forward"], resources) == [
        "wide_loads: 4, at least 5 wanted",
        "wide_stores: 1, at least 3 wanted",
        "narrow_loads: 2, at most 1 allowed",
        "narrow_stores: 1, at most 0 allowed",
        "shared: 2, at most 1 allowed",
        "registers: 70, at most 64 allowed",
    ]
    with pytest.raises(
        AssertionError, match=r"(?s)local: 2, at most 0 .*atomics: 1.*1 x local store of 64 bits"
    ):
        Budget().check(code["second"])
    with pytest.raises(AssertionError, match="stack: 8, at most 0 allowed"):
        Budget().check(code["forward"], Resources(32, 8, 0))


def cubin_of(kernels: dict[str, Resources]) -> bytes:
    """An ELF file with the sections of a cubin that tell of its kernels."""
    strings, symbols, info = b"\0", bytes(24), b""
    sections: list[tuple[str, int, bytes]] = [("", 0, b"")]
    for number, (name, resources) in enumerate(kernels.items(), 1):
        symbols += struct.pack("<IBBHQQ", len(strings), 0x12, 0, 0, 0, 0)
        strings += name.encode() + b"\0"
        for attribute, value in ((0x11, resources.stack), (0x2F, resources.registers)):
            info += struct.pack("<BBHII", 4, attribute, 8, number, value)
        sections += [(f".text.{name}", 1, bytes(16))]
        if resources.shared:
            sections += [(f".nv.shared.{name}", 1, bytes(resources.shared))]
    # An attribute whose value lies in its head.
    info += struct.pack("<BBH", 3, 0x1B, 255)
    sections += [(".nv.info", 0x70000000, info), (".strtab", 3, strings), (".symtab", 2, symbols)]
    names, places = b"", []
    for name, _, _ in [*sections, (".shstrtab", 3, b"")]:
        places.append(len(names))
        names += name.encode() + b"\0"
    sections.append((".shstrtab", 3, names))
    content, rows = bytes(64), b""
    for place, (name, kind, data) in enumerate(sections):
        link = len(sections) - 3 if name == ".symtab" else 0
        rows += struct.pack("<IIQQQQIIQQ", places[place], kind, 0, 0, len(content), len(data), link, 0, 1, 0)
        content += data
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQ", 2, 190, 1, 0, 0, len(content))
    head += struct.pack("<IHHHHHH", 0, 64, 0, 0, 64, len(sections), len(sections) - 1)
    return head + content[64:] + rows


def test_resources_of_a_cubin() -> None:
    kernels = {"forward": Resources(40, 0, 0), "backward": Resources(72, 16, 1152)}
    assert read_cubin(cubin_of(kernels)) == kernels
    with pytest.raises(ValueError, match="no 64-bit ELF"):
        read_cubin(b"nothing")
