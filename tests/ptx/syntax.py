"""What a PTX entry is once it is read: instructions with their operands resolved, variables, parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


class PtxError(Exception):
    """What a kernel does wrong, or what the interpreter does not know."""


class UnknownPtx(PtxError):
    """An opcode, modifier or form that the interpreter does not have."""


@dataclass(frozen=True, slots=True)
class Register:
    """A register of one entry; ``width`` in bits, 1 for a predicate."""

    index: int
    name: str
    width: int


@dataclass(frozen=True, slots=True)
class Immediate:
    """A constant as bits: of a double or a float where it was written as one, else an integer of any size."""

    bits: int
    width: int | None = None


@dataclass(frozen=True, slots=True)
class Special:
    """``%tid.x`` and its like."""

    name: str


@dataclass(frozen=True, slots=True)
class Symbol:
    """The address of a variable or a parameter, ``offset`` bytes on."""

    name: str
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Target:
    """The instruction that a label stands before."""

    pc: int


@dataclass(frozen=True, slots=True)
class Address:
    """``[base + offset]``."""

    base: Register | Immediate | Symbol
    offset: int


@dataclass(frozen=True, slots=True)
class Vector:
    """``{a, b}``."""

    items: tuple[Operand, ...]


@dataclass(frozen=True, slots=True)
class Both:
    """``a|b``: two results."""

    first: Operand
    second: Operand


@dataclass(frozen=True, slots=True)
class Negated:
    """``!p``."""

    register: Register


@dataclass(frozen=True, slots=True)
class Sink:
    """``_``: a result that nobody wants."""


Operand: TypeAlias = (
    Register | Immediate | Special | Symbol | Target | Address | Vector | Both | Negated | Sink
)


@dataclass(frozen=True, slots=True)
class Instruction:
    """One statement, its labels resolved; ``guard`` is the predicate that it runs under."""

    opcode: str
    modifiers: tuple[str, ...]
    operands: tuple[Operand, ...]
    guard: Register | Negated | None
    line: int
    text: str

    @property
    def name(self) -> str:
        return ".".join((self.opcode, *self.modifiers))


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of a module or a function; ``size`` 0 is ``extern``: as much as the launch gives."""

    name: str
    space: str
    size: int
    align: int
    data: bytes | None = None


@dataclass(frozen=True, slots=True)
class Parameter:
    """A scalar argument of an entry."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A kernel: its code flat, functions inlined, ends of code at ``len(code)``."""

    name: str
    parameters: tuple[Parameter, ...]
    variables: tuple[Variable, ...]
    code: tuple[Instruction, ...]
    registers: tuple[Register, ...]
    directives: tuple[str, ...]
