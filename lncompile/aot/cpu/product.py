"""One CPU library from its plan to its files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from lncompile.aot.cpu.describe import described
from lncompile.aot.cpu.header import header
from lncompile.aot.cpu.library import Library, exports_of, libraries, run_function
from lncompile.aot.cpu.report import reported
from lncompile.aot.packages import Member
from lncompile.aot.part import Output, Part
from lncompile.aot.python import python_record
from lncompile.aot.wanted import Wanted
from lncompile.backends.cpu.target import BASELINES
from lncompile.compiler import Compilation
from lncompile.interrupts import interrupts_held
from lncompile.keys import abi


def planned(wanted: Wanted) -> list[CpuProduct]:
    """The libraries that serve a kernel's targets."""
    return [CpuProduct(library) for library in libraries(wanted)]


def import_compiler() -> None:
    """Import what compiles for CPUs."""
    from lncompile.backends.cpu import entry, frontend, pipeline, whole  # noqa: F401

    frontend.prepare()


@dataclass(frozen=True)
class CpuProduct:
    """A library, its header and its entry in the manifest."""

    library: Library

    @cached_property
    def parts(self) -> Sequence[Part]:
        """An object file a level, and that of the functions over all levels."""
        stem = self.library.stem
        levels = [
            Part(f"{stem} for {level.target.name}", partial(self._level, level), import_compiler)
            for level in self.library.levels
        ]
        return [*levels, Part(f"{stem}, entry points", self._front, import_compiler)]

    def finish(self, made: Sequence[bytes], static: bool) -> Output:
        """Link the objects."""
        with interrupts_held():
            from lncompile.backends.cpu.archive import archive
            from lncompile.backends.cpu.elf import defined, link

        library, stem = self.library, self.library.stem
        *levels, front = made
        record = described(library)
        files = {
            f"{stem}.so": link(front, exports_of(library), f"{stem}.so", further=levels, data=True),
            f"{stem}.h": header(record, stem).encode(),
        }
        if static:
            labels = ["front", *(name.partition(":")[2] for name in library.targets)]
            members = {f"{stem}.{label}.o": obj for label, obj in zip(labels, (front, *levels), strict=True)}
            files[f"{stem}.a"] = archive(members, {name: defined(obj) for name, obj in members.items()})
        record |= {"library": f"{stem}.so", "header": f"{stem}.h"}
        program = library.levels[0].program
        record |= {"python": python_record(library.wanted, library.interface, program, abi())}
        report = reported(library, levels, len(files[f"{stem}.so"]))
        return Output(files, record, report, Member(stem, library.processor, static))

    def _level(self, level: Compilation) -> bytes:
        return level.level(self.library.level_names(level)).object_file()

    def _front(self) -> bytes:
        with interrupts_held():
            from lncompile.backends.cpu.entry import entry_ir
            from lncompile.backends.cpu.levels import front_ir
            from lncompile.backends.cpu.pipeline import assemble
            from lncompile.backends.cpu.whole import whole_ir

        library, interface = self.library, self.library.interface
        phases, levels = zip(*library.phases(), strict=True)
        modules: list[Any] = [front_ir(phases, levels)]
        for name, phase in (("forward", interface.forward), ("backward", interface.backward)):
            modules += [whole_ir(phase, run_function(library.c_stem, name)), entry_ir(phase)]
        target = BASELINES[library.levels[0].target.triple]
        return assemble(modules, exports_of(library), target).object_file()
