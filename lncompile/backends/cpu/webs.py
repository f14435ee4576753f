"""Variables that a kernel sets several times, taken apart into webs: what is set and read together.

    x_i = load(x_row, i, 16)                        x_i = load(x_row, i, 16)
    store(y_row, i, x_i)                            store(y_row, i, x_i)
    for i in range(16, stop, 64):           -->     for i_1 in range(16, stop, 64):
        x_i = load(x_row, i, 64)                        x_i_1 = load(x_row, i_1, 64)
        store(y_row, i, x_i)                            store(y_row, i_1, x_i_1)

Numba gives a variable one type, and a kernel's loops have vectors of several lengths under one name. Numba's
own pass for this, static single assignment, goes over all blocks once for each variable: a tenth of the time
to compile a layer norm, a third of it where an equation has many loops. Webs (Muchnick, Advanced Compiler
Design and Implementation, 1997, 16.3.3) take one walk over the blocks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from numba.core import ir, ir_utils
from numba.core.analysis import compute_cfg_from_blocks
from numba.core.compiler_machinery import FunctionPass, register_pass


@register_pass(mutates_CFG=False, analysis_only=False)
class SplitIntoWebs(FunctionPass):
    """Gives each web of a variable a name of its own."""

    _name = "split_into_webs"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        """Rename variables in ``state.func_ir``, and renew what typing and lowering read of them.

        How long variables live, which Numba finds out besides, only generators and objects need.
        """
        _split(state.func_ir.blocks)
        state.func_ir._definitions = ir_utils.build_definitions(state.func_ir.blocks)
        return True


class _Web:
    """What is set and read together; ``joined`` is the web that this one has become a part of."""

    def __init__(self) -> None:
        self.joined: _Web | None = None
        self.variable: Any = None

    def whole(self) -> _Web:
        found = self
        while found.joined is not None:
            found = found.joined
        if found is not self:
            self.joined = found
        return found


class _Step(NamedTuple):
    """A statement, the webs of the variables that it reads, and that of the one that it sets."""

    statement: Any
    read: dict[str, _Web]
    set: _Web | None


class _Block:
    """The steps of a block, and the webs of variables where it begins and where it ends."""

    def __init__(self, block: Any, several: set[str]) -> None:
        self.first: dict[str, _Web] = {}
        self.last: dict[str, _Web] = {}
        self.steps: list[_Step] = []
        for statement in block.body:
            read = {name: self.current(name) for name in _names_read(statement) if name in several}
            new = None
            if isinstance(statement, ir.Assign) and statement.target.name in several:
                new = self.last[statement.target.name] = _Web()
            self.steps.append(_Step(statement, read, new))

    def current(self, name: str) -> _Web:
        """The web of ``name`` after the steps so far: where none sets it, it comes from the blocks before."""
        if name not in self.last:
            self.first[name] = self.last[name] = _Web()
        return self.last[name]


def _names_read(statement: Any) -> list[str]:
    source = statement.value if isinstance(statement, ir.Assign) else statement
    if isinstance(source, ir.Var):
        return [source.name]
    return [variable.name for variable in source.list_vars()] if isinstance(source, ir.Inst) else []


def _split(blocks: Mapping[int, Any]) -> None:
    assigned = (assign.target.name for block in blocks.values() for assign in block.find_insts(ir.Assign))
    several = {name for name, times in Counter(assigned).items() if times > 1}
    split = {label: _Block(block, several) for label, block in blocks.items()}
    _join(split, compute_cfg_from_blocks(blocks))
    taken: set[str] = set()
    for label, block in split.items():
        scope = blocks[label].scope
        for step in block.steps:
            _rename(step, scope, taken)


def _join(blocks: Mapping[int, _Block], flow: Any) -> None:
    """Join the webs that a block begins with to those that the blocks before it end with."""
    pending = [(label, name) for label, block in blocks.items() for name in block.first]
    while pending:
        label, name = pending.pop()
        for before, _ in flow.predecessors(label):
            passes = name not in blocks[before].last
            one, other = blocks[before].current(name).whole(), blocks[label].first[name].whole()
            if one is not other:
                one.joined = other
            if passes:
                pending.append((before, name))


def _rename(step: _Step, scope: Any, taken: set[str]) -> None:
    """Give a step the variables of its webs: the first web of a name keeps it."""

    def variable(web: _Web, name: str) -> Any:
        whole = web.whole()
        if whole.variable is None:
            known = scope.get_exact(name)
            whole.variable = scope.redefine(name, known.loc) if name in taken else known
            taken.add(name)
        return whole.variable

    statement = step.statement
    read = {name: variable(web, name) for name, web in step.read.items()}
    read = {name: new for name, new in read.items() if new.name != name}
    if not isinstance(statement, ir.Assign):
        ir_utils.replace_vars_stmt(statement, read)
        return
    if read:
        statement.value = ir_utils.replace_vars_inner(statement.value, read)
    if step.set is not None:
        statement.target = variable(step.set, statement.target.name)
