"""LLVM IR to a shared library for one CPU: optimise, emit, link. Nothing here runs on a cache hit."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import llvmlite.binding as llvm

from lncompile.backends.cpu.elf import link
from lncompile.backends.cpu.target import CpuTarget
from lncompile.interrupts import interrupts_held


@dataclass(frozen=True)
class Built:
    """A module optimised for a target, as LLVM IR; the library and its assembly are made on demand.

    Each is made from the text anew: emitting code changes a module, and what is made of it the next time.
    """

    llvm: str
    machine: Any

    @property
    @interrupts_held()
    def asm(self) -> str:
        """The assembly of the module."""
        return str(self.machine.emit_assembly(llvm.parse_assembly(self.llvm)))

    def library(self, exports: Sequence[str], soname: str) -> bytes:
        """The module as a shared library."""
        return link(self.object_file(), exports, soname)

    @interrupts_held()
    def object_file(self) -> bytes:
        """The module as an object file, to be linked with others."""
        return bytes(self.machine.emit_object(llvm.parse_assembly(self.llvm)))


@interrupts_held()
def optimise(
    modules: Sequence[str],
    exports: Sequence[str],
    target: CpuTarget,
    hidden: Mapping[str, str] | None = None,
) -> Built:
    """:func:`assemble` ``modules``, and let LLVM's passes work on them, which kernels need.

    ``hidden`` gives exports other names, under which further modules of the same library alone see them.
    """
    whole, machine = _linked(modules, exports, target, hidden)
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    # Copies of the last columns, which fill no vector; all other loops are made of vectors.
    options.loop_vectorization = True
    # Kernels have no scalars that lie side by side, and looking for them takes a while.
    options.slp_vectorization = False
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(whole, builder)
    whole.verify()
    return Built(str(whole), machine)


@interrupts_held()
def assemble(
    modules: Sequence[str],
    exports: Sequence[str],
    target: CpuTarget,
) -> Built:
    """Link ``modules`` (LLVM IR) and take the code as it is, for ``target``; all but ``exports`` is private.

    It does for what checks arguments and calls kernels. That has no loops to speak of, but many comparisons:
    passes would take 0.25 s (layer norm, forward and backward) and make it a twentieth shorter.
    """
    whole, machine = _linked(modules, exports, target)
    return Built(str(whole), machine)


def _linked(
    modules: Sequence[str],
    exports: Sequence[str],
    target: CpuTarget,
    hidden: Mapping[str, str] | None = None,
) -> tuple[Any, Any]:
    machine = _machine(target)
    whole, *others = (llvm.parse_assembly(_retargeted(text, target, machine)) for text in modules)
    for module in others:
        whole.link_in(module)
    for function in whole.functions:
        if not function.is_declaration:
            function.linkage = "external" if function.name in exports else "internal"
            function.visibility = "default"
            if hidden and function.name in hidden:
                function.visibility = "hidden"
                function.name = hidden[function.name]
    for variable in whole.global_variables:
        if not variable.is_declaration:
            variable.linkage = "internal"
    whole.verify()
    return whole, machine


def _retargeted(text: str, target: CpuTarget, machine: Any) -> str:
    text = re.sub(r"^target (triple|datalayout) = .*\n", "", text, flags=re.M)
    # Else a loop that stores zeros becomes a call of memset, and the library may call nothing.
    text = re.sub(r"^(define [^{]*)\{", r'\1"no-builtins" {', text, flags=re.M)
    return f'target datalayout = "{machine.target_data}"\ntarget triple = "{target.triple}"\n{text}'


@cache
def _machine(target: CpuTarget) -> Any:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    llvm.initialize_native_asmparser()  # for asking the CPU what it can do
    return llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features, opt=3, reloc="pic", codemodel="default"
    )
