"""Instructions to steps: operands become readers and writers of a wave, opcodes are looked up in a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from .faults import Fault
from .machine import Outcome, Program, Step, Wave, shared_address
from .memory import GLOBAL_BASE, LOCAL_WINDOW, SHARED_WINDOW
from .scalars import KINDS, STORAGE, Array, Kind, elements, packed
from .syntax import (
    Both,
    Entry,
    Immediate,
    Instruction,
    Negated,
    Operand,
    Register,
    Sink,
    Special,
    Symbol,
    UnknownPtx,
    Variable,
    Vector,
)

Reader: TypeAlias = Callable[[Wave], Array]
Writer: TypeAlias = Callable[[Wave, Array], None]
Builder: TypeAlias = "Callable[[Instruction, Decoder], Step]"

#: What each opcode does; the files of `opcodes` fill it.
OPCODES: dict[str, Builder] = {}


def opcode(*names: str) -> Callable[[Builder], Builder]:
    """Register what makes the step of some opcodes."""

    def register(builder: Builder) -> Builder:
        for name in names:
            assert name not in OPCODES, name
            OPCODES[name] = builder
        return builder

    return register


class Decoder:
    """Makes steps of one entry's instructions."""

    def __init__(self, places: Mapping[str, tuple[str, int]]) -> None:
        #: Variable -> its space and its address there.
        self.places = places

    def step(self, instruction: Instruction) -> Step:
        if instruction.opcode not in OPCODES:
            raise UnknownPtx(f"line {instruction.line}: no opcode {instruction.name}: {instruction.text}")
        try:
            step = OPCODES[instruction.opcode](instruction, self)
        except (UnknownPtx, ValueError, IndexError, KeyError, AttributeError) as error:
            raise UnknownPtx(f"line {instruction.line}: {instruction.text}: {error}") from error
        if instruction.guard is None or instruction.opcode == "bra":
            return step
        return guarded(step, self.predicate(instruction.guard))

    def predicate(self, operand: Operand) -> Reader:
        return self.bits(operand, KINDS["pred"])

    # ---- reading

    def bits(self, operand: Operand, kind: Kind) -> Reader:
        """A value's bits, as unsigned integers as wide as the type."""
        if isinstance(operand, Register):
            return _read_register(operand, kind.storage)
        if isinstance(operand, Negated):
            inner = _read_register(operand.register, kind.storage)
            return lambda wave: ~inner(wave)
        if isinstance(operand, Immediate):
            constant = immediate(operand, kind)
            return lambda wave: constant
        if isinstance(operand, Special):
            name = operand.name
            return lambda wave: wave.special(name).astype(kind.storage)
        if isinstance(operand, Symbol):
            address = np.array([self.places[operand.name][1] + operand.offset]).astype(kind.storage)
            return lambda wave: address
        if isinstance(operand, Vector):
            return self._pack(operand, kind)
        raise UnknownPtx(f"cannot read {operand}")

    def values(self, operand: Operand, kind: Kind) -> Reader:
        """A value as the type that arithmetic is done in."""
        bits = self.bits(operand, kind)
        if kind.count == 1 and not kind.is_bfloat16:
            if kind.dtype == kind.storage:
                return bits
            dtype = kind.dtype
            return lambda wave: bits(wave).view(dtype)
        return lambda wave: elements(bits(wave), kind)

    def _pack(self, vector: Vector, kind: Kind) -> Reader:
        """``{a, b}`` as one value, the first in the lowest bits."""
        part = STORAGE[kind.bits // len(vector.items)]
        readers = [_read_register_like(self, item, part) for item in vector.items]
        storage = kind.storage

        def read(wave: Wave) -> Array:
            rows = np.stack(np.broadcast_arrays(*(reader(wave) for reader in readers)), axis=1)
            return np.ascontiguousarray(rows).view(storage).reshape(-1)

        return read

    # ---- writing

    def write_bits(self, operand: Operand, kind: Kind) -> Writer:
        """Takes unsigned integers as wide as the type; a wider register gets them extended."""
        if isinstance(operand, Sink):
            return lambda wave, bits: None
        if isinstance(operand, Vector):
            return self._unpack(operand, kind)
        if not isinstance(operand, Register):
            raise UnknownPtx(f"cannot write {operand}")
        index, storage = operand.index, STORAGE[operand.width]
        if storage == kind.storage:
            return lambda wave, bits: wave.store(index, bits)
        if operand.width < kind.bits:
            raise UnknownPtx(f"{operand.name} is narrower than .{kind.name}")
        signed, narrow = kind.name.startswith("s"), np.dtype(f"i{kind.bits // 8}")
        wide = np.dtype(f"i{operand.width // 8}")

        def write(wave: Wave, bits: Array) -> None:
            wave.store(
                index, bits.view(narrow).astype(wide).view(storage) if signed else bits.astype(storage)
            )

        return write

    def write_values(self, operand: Operand, kind: Kind) -> Writer:
        """Takes values of the type that arithmetic is done in."""
        write = self.write_bits(operand, kind)
        if kind.count == 1 and not kind.is_bfloat16:
            dtype, storage = kind.dtype, kind.storage

            def write_plain(wave: Wave, values: Array) -> None:
                write(wave, values.astype(dtype, copy=False).view(storage))

            return write_plain
        return lambda wave, values: write(wave, packed(values, kind))

    def _unpack(self, vector: Vector, kind: Kind) -> Writer:
        part = KINDS[f"b{kind.bits // len(vector.items)}"]
        writers = [self.write_bits(item, part) for item in vector.items]
        count = len(writers)

        def write(wave: Wave, bits: Array) -> None:
            columns = np.ascontiguousarray(bits).view(part.storage).reshape(-1, count)
            for place, writer in enumerate(writers):
                writer(wave, np.ascontiguousarray(columns[:, place]))

        return write

    def both(self, operand: Operand, first: Kind, second: Kind) -> tuple[Writer, Writer]:
        """Writers of ``a|b``, or of ``a`` alone."""
        if isinstance(operand, Both):
            return self.write_bits(operand.first, first), self.write_bits(operand.second, second)
        return self.write_bits(operand, first), lambda wave, bits: None


def _read_register(register: Register, storage: np.dtype) -> Reader:
    index, name = register.index, register.name

    def read(wave: Wave) -> Array:
        bits = wave.registers[index]
        if bits is None:
            raise Fault(f"{name} is read and was never written")
        return bits

    if STORAGE[register.width] == storage:
        return read
    if register.width < 8 * storage.itemsize or storage == np.bool_:
        raise UnknownPtx(f"{name} has {register.width} bits")
    return lambda wave: read(wave).astype(storage)


def _read_register_like(decoder: Decoder, operand: Operand, storage: np.dtype) -> Reader:
    return decoder.bits(operand, KINDS[f"b{8 * storage.itemsize}"])


def immediate(operand: Immediate, kind: Kind) -> Array:
    """A constant's bits as an array of one, which stands for every lane."""
    bits, width = operand.bits, operand.width
    if kind.name == "pred":
        return np.array([bits != 0])
    if width == 64 and kind.is_float and kind.bits == 32:
        bits = int(np.array([bits], np.uint64).view(np.float64).astype(np.float32).view(np.uint32)[0])
    elif width == 32 and kind.name == "f64":
        bits = int(np.array([bits], np.uint32).view(np.float32).astype(np.float64).view(np.uint64)[0])
    return np.array([bits & ((1 << kind.bits) - 1)], np.uint64).astype(kind.storage)


def guarded(step: Step, predicate: Reader) -> Step:
    """The step for those lanes alone whose predicate holds."""

    def run(wave: Wave) -> Outcome:
        wanted = predicate(wave)
        active, written = wave.active, wave.written
        if active is None and wanted.all():
            return step(wave)
        mask = np.array(np.broadcast_to(wanted, (wave.lanes,))) if active is None else wanted & active
        if not mask.any():
            return None
        wave.active, wave.written = mask, mask
        outcome = step(wave)
        wave.active, wave.written = active, written
        if outcome is None:
            return None
        others = ~mask if active is None else active & ~mask
        moved = [(outcome, mask)] if isinstance(outcome, int) else outcome
        return [*moved, (wave.pc + 1, others)] if others.any() else moved

    return run


def prepare(entry: Entry, constants: Mapping[str, int]) -> Program:
    """An entry's steps; ``constants`` are the addresses of its module's `.global` and `.const` variables."""
    # Imported for what they put into the table.
    from .opcodes import (  # noqa: F401
        access,
        barriers,
        bits,
        compare,
        control,
        conversion,
        copies,
        floating,
        integer,
        mbarriers,
        move,
        warp,
    )

    places: dict[str, tuple[str, int]] = {parameter.name: ("param", 0) for parameter in entry.parameters}
    places |= {name: ("global", address) for name, address in constants.items()}
    shared_size, shared = _lay_out([variable for variable in entry.variables if variable.space == "shared"])
    local_size, local = _lay_out([variable for variable in entry.variables if variable.space == "local"])
    places |= {name: ("shared", shared_address(place)) for name, place in shared.items()}
    places |= {name: ("local", place) for name, place in local.items()}
    decoder = Decoder(places)
    return Program(
        entry,
        tuple(decoder.step(instruction) for instruction in entry.code),
        shared_size,
        local_size,
        {"global": granule_of(entry, "global"), "shared": granule_of(entry, "shared")},
    )


def _lay_out(variables: Sequence[Variable]) -> tuple[int, dict[str, int]]:
    """Places of variables one behind the other; those without a size lie behind all others."""
    position, places = 0, {}
    for variable in sorted(variables, key=lambda each: each.size == 0):
        position = -(-position // variable.align) * variable.align
        places[variable.name] = position
        position += variable.size
    return position, places


#: Opcodes that touch memory by elements of their type.
_ACCESSES = ("ld", "st", "atom", "red")


def granule_of(entry: Entry, space: str) -> int:
    """The bytes of the narrowest access to a space, or to what may be it."""
    others = {"global", "shared", "local", "param", "const"} - {space}
    widths = [16]
    for instruction in entry.code:
        bases = {modifier.partition("::")[0] for modifier in instruction.modifiers}
        if instruction.opcode in _ACCESSES and not bases & others:
            widths += [KINDS[name].bits // 8 for name in instruction.modifiers if name in KINDS]
        elif instruction.opcode in ("cp", "mbarrier"):
            widths.append(4)
    return min(widths)


def generic_space(address: int) -> str:
    """The space that a generic address lies in."""
    if address >= GLOBAL_BASE:
        return "global"
    if address >= LOCAL_WINDOW:
        return "local"
    return "shared" if address >= SHARED_WINDOW else "none"
