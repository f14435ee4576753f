"""The body of an entry: scopes of names resolved, calls inlined, labels turned into places in the code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from .syntax import (
    Address,
    Both,
    Entry,
    Immediate,
    Instruction,
    Negated,
    Operand,
    Parameter,
    PtxError,
    Register,
    Sink,
    Special,
    Symbol,
    Target,
    UnknownPtx,
    Variable,
    Vector,
)
from .text import NAME, WIDTHS, Function, Module, immediate_of, line_of, listed, split_operands, variables_of

LABEL = re.compile(rf"({NAME})\s*:(?!:)")

SPECIAL = re.compile(
    r"%(tid|ntid|ctaid|nctaid|clusterid|nclusterid|cluster_ctaid|cluster_nctaid)\.[xyz]$"
    r"|%(laneid|warpid|nwarpid|cluster_ctarank|cluster_nctarank|is_explicit_cluster|lanemask_\w+|smid|nsmid"
    r"|clock|clock64|globaltimer|gridid|dynamic_smem_size|total_smem_size|envreg\d+)$|WARP_SZ$"
)

#: The name of the place behind a function's last instruction; no label can be called so.
RETURN = "(return)"


@dataclass
class _Scope:
    """The names between two braces."""

    parent: _Scope | None
    registers: dict[str, Register] = field(default_factory=dict)
    families: dict[str, int] = field(default_factory=dict)
    symbols: dict[str, str] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    tables: dict[str, tuple[str, ...]] = field(default_factory=dict)
    slots: dict[str, dict[int, Register]] = field(default_factory=dict)

    def up(self) -> Iterator[_Scope]:
        scope: _Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.parent


@dataclass(frozen=True, slots=True)
class _Jump:
    """A label that may stand further down."""

    name: str
    scope: _Scope


class Body:
    """Reads an entry's body; a call reads the function's body in its place."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.code: list[Instruction] = []
        self.jumps: dict[int, list[_Jump]] = {}
        self.registers: list[Register] = []
        self.variables: list[Variable] = list(module.variables)
        self.calls: list[str] = []

    def entry(self, function: Function) -> Entry:
        scope = _Scope(None)
        scope.symbols.update({variable.name: variable.name for variable in self.module.variables})
        parameters = []
        for text in function.parameters:
            match = re.fullmatch(rf"\.param\s+\.(\w+)((?:\s+\.\w+(?:\s+\d+)?)*)\s+({NAME})(\[\d+\])?", text)
            if match is None or match[4]:
                raise UnknownPtx(f"entry {function.name}: a parameter that is no scalar: {text!r}")
            parameters.append(Parameter(match[3], match[1]))
            scope.symbols[match[3]] = match[3]
        self.read(function, scope)
        code = [self.resolve(place, instruction) for place, instruction in enumerate(self.code)]
        return Entry(
            function.name,
            tuple(parameters),
            tuple(self.variables),
            tuple(code),
            tuple(self.registers),
            function.directives,
        )

    def resolve(self, place: int, instruction: Instruction) -> Instruction:
        """The instruction with the places of its labels as its last operands."""
        jumps = self.jumps.get(place)
        if jumps is None:
            return instruction
        targets = []
        for jump in jumps:
            found = [scope.labels[jump.name] for scope in jump.scope.up() if jump.name in scope.labels]
            if not found:
                raise PtxError(f"line {instruction.line}: no label {jump.name} for {instruction.text}")
            targets.append(Target(found[0]))
        return replace(instruction, operands=(*instruction.operands, *targets))

    def read(self, function: Function, scope: _Scope) -> None:
        """Append a body's instructions."""
        text, position = function.text, function.start
        line, counted = line_of(text, position), position
        outermost = scope
        statement = re.compile(r"[^;]*;")
        while position < function.end:
            if text[position].isspace():
                position += 1
            elif text[position] == "{":
                scope = _Scope(scope)
                position += 1
            elif text[position] == "}":
                assert scope.parent is not None
                scope = scope.parent
                position += 1
            elif (label := LABEL.match(text, position)) is not None:
                position = label.end()
                table = re.compile(r"\s*\.(branchtargets|calltargets|callprototype)\s+([^;]*);").match(
                    text, position
                )
                if table is not None:
                    scope.tables[label[1]] = listed(table[2])
                    position = table.end()
                else:
                    scope.labels[label[1]] = len(self.code)
            elif (location := re.compile(r"\.(loc|pragma)\b[^\n]*").match(text, position)) is not None:
                position = location.end()
            else:
                match = statement.match(text, position, function.end)
                if match is None:
                    raise PtxError(f"line {line_of(text, position)}: a statement without end")
                line += text.count("\n", counted, position)
                counted = position
                self.statement(match[0][:-1].strip(), line, scope)
                position = match.end()
        outermost.labels[RETURN] = len(self.code)

    def statement(self, text: str, line: int, scope: _Scope) -> None:
        if not text:
            return
        if text.startswith(".reg"):
            self.declare_registers(text, scope)
        elif text.startswith(".param"):
            scope.slots[variables_of(text)[0].name] = {}
        elif text.startswith((".shared", ".local")):
            for variable in variables_of(text):
                unique = f"{variable.name}#{len(self.variables)}"
                scope.symbols[variable.name] = unique
                self.variables.append(replace(variable, name=unique))
        elif text.startswith("."):
            raise UnknownPtx(f"line {line}: {text}")
        else:
            self.instruction(text, line, scope)

    def declare_registers(self, text: str, scope: _Scope) -> None:
        match = re.fullmatch(r"\.reg\s+(?:\.v[24]\s+)?\.(\w+)\s+(.*)", text, re.DOTALL)
        if match is None or match[1] not in WIDTHS:
            raise UnknownPtx(f"cannot read {text!r}")
        for name in listed(match[2]):
            family = re.fullmatch(rf"({NAME})<(\d+)>", name)
            if family is not None:
                scope.families[family[1]] = WIDTHS[match[1]]
            else:
                scope.registers[name] = self.new_register(name, WIDTHS[match[1]])

    def new_register(self, name: str, width: int) -> Register:
        register = Register(len(self.registers), name, width)
        self.registers.append(register)
        return register

    def register(self, name: str, scope: _Scope) -> Register | None:
        family = name.rstrip("0123456789")
        for level in scope.up():
            if name in level.registers:
                return level.registers[name]
            if family in level.families and family != name:
                return level.registers.setdefault(name, self.new_register(name, level.families[family]))
        return None

    def instruction(self, text: str, line: int, scope: _Scope) -> None:
        match = re.fullmatch(rf"(?:@(!?)({NAME})\s+)?([a-z]\w*)((?:\.[\w:]+)*)\s*(.*)", text, re.DOTALL)
        if match is None:
            raise UnknownPtx(f"line {line}: {text}")
        guard = None
        if match[2]:
            register = self.register(match[2], scope)
            if register is None:
                raise PtxError(f"line {line}: no register {match[2]}")
            guard = Negated(register) if match[1] else register
        opcode, modifiers = match[3], tuple(match[4].split(".")[1:])
        shown = " ".join(text.split())
        if opcode == "call":
            self.call(match[5], line, scope, guard)
            return
        parts = split_operands(match[5])
        if opcode in ("bra", "brx"):
            names = parts[-1:]
            if opcode == "brx":
                tables = [level.tables[parts[1]] for level in scope.up() if parts[1] in level.tables]
                names = list(tables[0])
            self.jumps[len(self.code)] = [_Jump(name, scope) for name in names]
            parts = parts[:1] if opcode == "brx" else []
        elif opcode == "ret" and self.calls:
            opcode, modifiers = "bra", ()
            outermost = next(level for level in scope.up() if RETURN in level.symbols)
            self.jumps[len(self.code)] = [_Jump(RETURN, outermost)]
        operands = tuple(self.operand(part, line, scope) for part in parts)
        if opcode in ("ld", "st") and "param" in modifiers[:1]:
            opcode, modifiers, operands = self.slot_access(opcode, modifiers, operands, scope)
        self.code.append(Instruction(opcode, modifiers, operands, guard, line, shown))

    def slot_access(
        self, opcode: str, modifiers: tuple[str, ...], operands: tuple[Operand, ...], scope: _Scope
    ) -> tuple[str, tuple[str, ...], tuple[Operand, ...]]:
        """A load or store of a call's argument as a move of the register that holds it."""
        place = operands[1 if opcode == "ld" else 0]
        assert isinstance(place, Address)
        if not isinstance(place.base, Symbol):
            return opcode, modifiers, operands
        name = place.base.name
        slots = next((level.slots[name] for level in scope.up() if name in level.slots), None)
        if slots is None:
            return opcode, modifiers, operands
        value = operands[0 if opcode == "ld" else 1]
        kind = modifiers[-1]
        width = WIDTHS[kind]
        values = value.items if isinstance(value, Vector) else (value,)
        registers = []
        for index in range(len(values)):
            at = place.offset + place.base.offset + index * width // 8
            if at not in slots:
                slots[at] = self.new_register(f"{name}+{at}", width)
            registers.append(slots[at])
        if len(values) > 1:
            raise UnknownPtx("vectors of arguments of a call")
        operands = (values[0], registers[0]) if opcode == "ld" else (registers[0], values[0])
        # `ld` and `st` extend and cut what they move; so does a conversion of the type to itself.
        return ("mov", (kind,), operands) if not kind.endswith("8") else ("cvt", (kind, kind), operands)

    def call(self, text: str, line: int, scope: _Scope, guard: Register | Negated | None) -> None:
        match = re.fullmatch(
            rf"(?:\(([^)]*)\)\s*,\s*)?({NAME})\s*(?:,\s*\(([^)]*)\))?(?:\s*,\s*{NAME})?", text
        )
        function = self.module.functions.get(match[2]) if match else None
        if match is None or function is None:
            raise UnknownPtx(f"line {line}: a call of what the module does not have: {text}")
        if match[2] in self.calls:
            raise UnknownPtx(f"line {line}: {match[2]} calls itself")
        if guard is not None:
            raise UnknownPtx(f"line {line}: a call under a predicate")
        inner = _Scope(None)
        inner.symbols.update({variable.name: variable.name for variable in self.module.variables})
        inner.symbols[RETURN] = RETURN
        for formals, actuals in (
            (function.results, listed(match[1])),
            (function.parameters, listed(match[3])),
        ):
            for formal, actual in zip(formals, actuals, strict=True):
                self.bind(formal, actual, inner, scope)
        self.calls.append(match[2])
        self.read(function, inner)
        self.calls.pop()

    def bind(self, formal: str, actual: str, inner: _Scope, scope: _Scope) -> None:
        """Let a function's parameter be the caller's argument."""
        name = re.sub(r"\[\d+\]$", "", formal.split()[-1])
        if formal.startswith(".reg"):
            register = self.register(actual, scope)
            if register is None:
                raise UnknownPtx(f"an argument of a call that is no register: {actual}")
            inner.registers[name] = register
        else:
            inner.slots[name] = next(level.slots[actual] for level in scope.up() if actual in level.slots)

    def operand(self, text: str, line: int, scope: _Scope) -> Operand:
        if text == "_":
            return Sink()
        if text.startswith("{"):
            return Vector(tuple(self.operand(part, line, scope) for part in split_operands(text[1:-1])))
        if text.startswith("["):
            return self.address(text, line, scope)
        if "|" in text:
            first, _, second = text.partition("|")
            return Both(self.operand(first.strip(), line, scope), self.operand(second.strip(), line, scope))
        if text.startswith("!"):
            register = self.register(text[1:], scope)
            if register is not None:
                return Negated(register)
        register = self.register(text, scope)
        if register is not None:
            return register
        if SPECIAL.match(text):
            return Special(text)
        immediate = immediate_of(text)
        if immediate is not None:
            return immediate
        symbol = self.symbol(text, scope)
        if symbol is not None:
            return symbol
        raise UnknownPtx(f"line {line}: cannot read the operand {text!r}")

    def symbol(self, text: str, scope: _Scope) -> Symbol | None:
        name, _, offset = text.partition("+")
        name = name.strip()
        for level in scope.up():
            if name in level.symbols:
                return Symbol(level.symbols[name], int(offset or "0", 0))
            if name in level.slots:
                return Symbol(name, int(offset or "0", 0))
        return None

    def address(self, text: str, line: int, scope: _Scope) -> Address:
        match = re.fullmatch(r"\[\s*([^+\s]+)\s*(?:\+\s*(-?\w+))?\s*\]", text)
        if match is None:
            raise UnknownPtx(f"line {line}: cannot read the address {text!r}")
        base = self.operand(match[1], line, scope)
        if not isinstance(base, Register | Immediate | Symbol):
            raise UnknownPtx(f"line {line}: cannot read the address {text!r}")
        return Address(base, int(match[2] or "0", 0))
