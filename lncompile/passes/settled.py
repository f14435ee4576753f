"""Sweeps over a program until nothing changes."""

from __future__ import annotations

from collections.abc import Callable

from lncompile.errors import CompilerBug
from lncompile.ir import Program

#: Layer norm's gradient takes 7 sweeps of ``simplify`` over 26 values; means of means take more the deeper
#: they are, twelve of them 92 over 146. Many more mean that two rules undo each other.
_MOST_SWEEPS_A_VALUE = 4


def settled(program: Program, sweep: Callable[[Program], Program], name: str) -> Program:
    """What is left of ``program`` after sweeps; ``CompilerBug``, with ``name``, where they do not end."""
    for _ in range(_MOST_SWEEPS_A_VALUE * len(program.nodes)):
        swept = sweep(program)
        if all(new.value is old.value for new, old in zip(swept.outputs, program.outputs, strict=True)):
            return program
        program = swept
    raise CompilerBug(f"{name} does not settle on {program.name}")
