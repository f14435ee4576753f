"""Several CPU levels behind one set of C functions: which level this CPU has is found at the first call.

A library of kernels has each of its functions once a level. What it exports goes through a pointer, which at
first leads to a resolver::

    NAME(...)          load NAME.chosen, go there
    NAME.first(...)    ask the CPU, store the best level's function in NAME.chosen, go there
    NAME.refuse(...)   the CPU has none of the levels: return ``UNSUPPORTED_CPU``

All threads store the same pointer, so that no lock is needed. A call through the pointer takes 1 to 2 ns.

Levels may cut a call into different numbers of units. What is exported counts those of one of them; any
monotone map of its units to another's gives the same result, since it does not matter how units are cut.

Source: x86-64 psABI, table 3.1 (levels); Intel SDM volume 2, CPUID and XGETBV, volume 1, 13.2 (XCR0).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lncompile.backends.cpu.calls import fold
from lncompile.interface import Call, Phase

#: What C functions return where the CPU lacks the instructions of every level.
UNSUPPORTED_CPU = 1

#: How many of the psABI's levels above the first a target needs; AArch64's target needs what every CPU has.
RANKS = {"cpu:x86-64-v2": 1, "cpu:x86-64-v3": 2, "cpu:x86-64-v4": 3, "cpu:aarch64": 0}


def _bits(*numbers: int) -> int:
    return sum(1 << number for number in numbers)


# Registers as the function below names them: of CPUID's leaves 1, 0x80000001 and 7, and XCR0.
_NEEDED = (
    # SSE3, SSSE3, CMPXCHG16B, SSE4.1, SSE4.2, POPCNT; LAHF
    {"leaf1": _bits(0, 9, 13, 19, 20, 23), "extended": _bits(0)},
    # FMA, MOVBE, OSXSAVE, AVX, F16C; LZCNT; BMI1, AVX2, BMI2; the system saves SSE and AVX registers
    {
        "leaf1": _bits(12, 22, 27, 28, 29),
        "extended": _bits(5),
        "leaf7": _bits(3, 5, 8),
        "xcr0": _bits(1, 2),
    },
    # AVX512F, DQ, CD, BW, VL; the system saves masks and the upper halves
    {"leaf7": _bits(16, 17, 28, 30, 31), "xcr0": _bits(1, 2, 5, 6, 7)},
)

_CLOBBERS = "~{dirflag},~{fpsr},~{flags}"
_REGISTERS = "{i32, i32, i32, i32}"
_CPUID = f"""\
define internal {_REGISTERS} @lnc.cpuid(i32 %leaf) noinline {{
  %r = call {_REGISTERS} asm sideeffect "cpuid",
    "={{ax}},={{bx}},={{cx}},={{dx}},{{ax}},{{cx}},{_CLOBBERS}"(i32 %leaf, i32 0)
  ret {_REGISTERS} %r
}}

define internal i32 @lnc.rank() noinline {{
entry:
  %r0 = call {_REGISTERS} @lnc.cpuid(i32 0)
  %leaves = extractvalue {_REGISTERS} %r0, 0
  %r1 = call {_REGISTERS} @lnc.cpuid(i32 1)
  %leaf1 = extractvalue {_REGISTERS} %r1, 2
  %r2 = call {_REGISTERS} @lnc.cpuid(i32 {(1 << 31) + 1})
  %extended = extractvalue {_REGISTERS} %r2, 2
  %r3 = call {_REGISTERS} @lnc.cpuid(i32 7)
  %r3.1 = extractvalue {_REGISTERS} %r3, 1
  %has7 = icmp uge i32 %leaves, 7
  %leaf7 = select i1 %has7, i32 %r3.1, i32 0
  %osxsave = and i32 %leaf1, {_bits(27)}
  %saves = icmp ne i32 %osxsave, 0
  br i1 %saves, label %ask, label %judge
ask:
  %x = call {{i32, i32}} asm sideeffect "xgetbv", "={{ax}},={{dx}},{{cx}},{_CLOBBERS}"(i32 0)
  %low = extractvalue {{i32, i32}} %x, 0
  br label %judge
judge:
  %xcr0 = phi i32 [ 0, %entry ], [ %low, %ask ]
"""


class Level(NamedTuple):
    """One level of a library: its target's rank, and a phase with the names and units that it has there."""

    rank: int
    phase: Phase


def front_ir(phases: Sequence[Phase], levels: Sequence[Sequence[Level]]) -> str:
    """LLVM IR of the C functions that a library exports, over those of its levels.

    ``phases`` have the exported names and units; for each of them ``levels`` are its levels in ascending
    order. The text names no target. With levels of x86-64 it needs an assembler, for asking the CPU.
    """
    text = [_rank_ir()] if levels[0][0].rank else []
    for phase, own in zip(phases, levels, strict=True):
        for index, call in enumerate(phase.calls):
            text.append(_exported(call, phase, [(level.rank, level.phase.calls[index]) for level in own]))
    return "\n".join(text)


def _rank_ir() -> str:
    """``lnc.rank``: how many levels above the first this CPU has, one after the other."""
    lines = [_CPUID.rstrip("\n")]
    has, rank = "true", "0"
    for number, needed in enumerate(_NEEDED, 1):
        for register, bits in needed.items():
            lines += [
                f"  %{register}.{number} = and i32 %{register}, {bits}",
                f"  %{register}.{number}.has = icmp eq i32 %{register}.{number}, {bits}",
                f"  %has.{register}.{number} = and i1 {has}, %{register}.{number}.has",
            ]
            has = f"%has.{register}.{number}"
        lines += [
            f"  %one.{number} = zext i1 {has} to i32",
            f"  %rank.{number} = add i32 {rank}, %one.{number}",
        ]
        rank = f"%rank.{number}"
    return "\n".join([*lines, f"  ret i32 {rank}", "}", ""])


def _exported(call: Call, phase: Phase, at_levels: Sequence[tuple[int, Call]]) -> str:
    """The public function of a call, and what stands behind it."""
    name, form = call.function, _Form(call, phase)
    text, targets = [], []
    for rank, own in at_levels:
        text.append(f"declare hidden i32 @{own.function}({form.types})\n")
        targets.append((rank, own.function))
        if own.units != call.units:
            text.append(_scaled(own, call.units, form))
            targets[-1] = (rank, f"{own.function}.scaled")
    if not at_levels[0][0]:
        text.append(f"define i32 @{name}({form.parameters}) {{\n{_go(targets[0][1], form)}}}\n")
        return "\n".join(text)
    select, best = [], f"@{name}.refuse"
    for rank, target in targets:
        select += [
            f"  %has.{rank} = icmp sge i32 %rank, {rank}",
            f"  %best.{rank} = select i1 %has.{rank}, ptr @{target}, ptr {best}",
        ]
        best = f"%best.{rank}"
    lines = "\n".join(select)
    text.append(
        f"""\
@{name}.chosen = internal global ptr @{name}.first, align 8

define i32 @{name}({form.parameters}) {{
  %chosen = load atomic ptr, ptr @{name}.chosen monotonic, align 8
  %status = tail call i32 %chosen({form.arguments})
  ret i32 %status
}}

define internal i32 @{name}.first({form.parameters}) noinline {{
  %rank = call i32 @lnc.rank()
{lines}
  store atomic ptr {best}, ptr @{name}.chosen monotonic, align 8
  %status = tail call i32 {best}({form.arguments})
  ret i32 %status
}}

define internal i32 @{name}.refuse({form.parameters}) noinline {{
  ret i32 {UNSUPPORTED_CPU}
}}
"""
    )
    return "\n".join(text)


class _Form:
    """The parameters of a call as LLVM writes them; all calls of a phase have its sizes."""

    def __init__(self, call: Call, phase: Phase) -> None:
        sizes = [size.name for size in phase.sizes]
        named = [("ptr", f"%b.{name}") for name in call.buffers] + [("i64", f"%s.{name}") for name in sizes]
        self.shared = named
        self.sizes = {name: f"%s.{name}" for name in sizes}
        whole = [*named, ("i64", "%begin"), ("i64", "%end")]
        self.types = ", ".join(kind for kind, _ in whole)
        self.parameters = self.arguments = ", ".join(f"{kind} {value}" for kind, value in whole)

    def over(self, begin: str, end: str) -> str:
        """The arguments with another range."""
        return ", ".join(f"{kind} {value}" for kind, value in (*self.shared, ("i64", begin), ("i64", end)))


def _go(function: str, form: _Form) -> str:
    return f"  %status = tail call i32 @{function}({form.arguments})\n  ret i32 %status\n"


def _scaled(own: Call, public_units: str, form: _Form) -> str:
    """The level's function for public units: unit ``i`` of these begins at ``i * own / public``."""
    lines: list[str] = []

    def operate(operator: str, left: str, right: str) -> str:
        instruction = {"+": "add", "-": "sub", "*": "mul", "/": "sdiv"}[operator]
        lines.append(f"  %t.{len(lines)} = {instruction} i64 {left}, {right}")
        return f"%t.{len(lines) - 1}"

    def leaf(value: int | str) -> str:
        return form.sizes[value] if isinstance(value, str) else str(value)

    mine, public = fold(own.units, leaf, operate), fold(public_units, leaf, operate)
    begin, end = operate("*", "%begin", mine), operate("*", "%end", mine)
    # Where there are no units there is nothing to divide.
    lines += [f"  %none = icmp slt i64 {public}, 1", f"  %public = select i1 %none, i64 1, i64 {public}"]
    begin, end = operate("/", begin, "%public"), operate("/", end, "%public")
    arguments = form.over(begin, end)
    lines += [f"  %status = tail call i32 @{own.function}({arguments})", "  ret i32 %status"]
    body = "\n".join(lines)
    return f"define internal i32 @{own.function}.scaled({form.parameters}) noinline {{\n{body}\n}}\n"
