"""The libraries of one kernel: which CPU levels share one, and what is called how in it."""

from __future__ import annotations

import platform
from dataclasses import dataclass

from lncompile.aot.wanted import Wanted
from lncompile.backends.cpu.levels import RANKS, Level
from lncompile.builders import CpuBuilder, traced
from lncompile.compiler import Compilation
from lncompile.errors import LncValueError
from lncompile.interface import Interface, Phase, to_json

#: What the files for a kind of processor end in, beside those of the most common one.
_SUFFIXES = {"x86_64": "", "aarch64": "_aarch64"}


@dataclass(frozen=True)
class Library:
    """One library: a kernel's levels for one kind of processor, all with the same arrays and calls.

    ``stem`` begins the names of files, ``c_stem`` those of functions. ``interface`` has the exported names.
    """

    wanted: Wanted
    stem: str
    c_stem: str
    levels: tuple[Compilation, ...]

    @property
    def interface(self) -> Interface:
        """What the library exports; units are those of the last level, which has the fewest."""
        return renamed(self.levels[-1].lowered.interface, self.c_stem)

    @property
    def processor(self) -> str:
        """The kind of processor, as ``uname -m`` names it."""
        return self.levels[0].target.triple.partition("-")[0]

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of the targets that it serves, the least demanding first."""
        return tuple(level.target.name for level in self.levels)

    def level_names(self, level: Compilation) -> dict[str, str]:
        """The C functions of a level by the names that the compiler gave them."""
        own, there = level.lowered.interface, self.level_interface(level)
        return {
            call.function: renamed.function
            for phase, other in ((own.forward, there.forward), (own.backward, there.backward))
            for call, renamed in zip(phase.calls, other.calls, strict=True)
        }

    def level_interface(self, level: Compilation) -> Interface:
        """The interface of a level with the names that its functions have within the library."""
        label = level.target.name.partition(":")[2].replace("-", "_")
        return renamed(level.lowered.interface, self.c_stem, f"__{label}")

    def phases(self) -> list[tuple[Phase, list[Level]]]:
        """Both phases as exported, each with those of the levels."""
        there = [(RANKS[level.target.name], self.level_interface(level)) for level in self.levels]
        return [
            (self.interface.forward, [Level(rank, one.forward) for rank, one in there]),
            (self.interface.backward, [Level(rank, one.backward) for rank, one in there]),
        ]


def libraries(wanted: Wanted) -> list[Library]:
    """The libraries that serve the targets of what is wanted."""
    equation = wanted.dispatcher.equation
    program = traced(equation, wanted.special)
    groups: dict[tuple[str, str], list[Compilation]] = {}
    for target in sorted(wanted.targets, key=list(RANKS).index):
        level = CpuBuilder(equation, wanted.at(target)).compilation(program)
        processor = level.target.triple.partition("-")[0]
        groups.setdefault((processor, _shared(level.lowered.interface)), []).append(level)
    found: list[Library] = []
    for (processor, _), levels in groups.items():
        _check_assembler(levels[0])
        stem = wanted.stem
        if any(library.processor == processor for library in found):
            # Levels that need other arrays cannot stand behind the same functions.
            stem += "_" + levels[0].target.name.partition(":")[2].replace("-", "_")
        found.append(Library(wanted, stem + _SUFFIXES[processor], stem, tuple(levels)))
    return found


def _check_assembler(level: Compilation) -> None:
    """Libraries for x86-64 ask the CPU in assembly, and llvmlite reads that of its own machine alone."""
    if RANKS[level.target.name] and platform.machine().lower() not in ("x86_64", "amd64"):
        raise LncValueError(
            f"target: libraries for {level.target.name} are built on x86-64; this is {platform.machine()}"
        )


def _shared(interface: Interface) -> str:
    """What levels behind the same functions have in common: all but the units of work."""
    data = to_json(interface)
    for phase in ("forward", "backward"):
        for call in data[phase]["calls"]:
            del call["units"], call["unit_work"]
    return repr(data)


def renamed(interface: Interface, c_stem: str, suffix: str = "") -> Interface:
    """``interface`` with ``lnc_STEM_forward``, ``lnc_STEM_forward_2``, ... as the names of functions."""

    def phase(old: Phase, name: str) -> Phase:
        calls = tuple(
            call._replace(function=f"lnc_{c_stem}_{name}{_ordinal(at)}{suffix}")
            for at, call in enumerate(old.calls)
        )
        return old._replace(entry=f"lnc_{c_stem}_{name}_entry", calls=calls)

    return interface._replace(
        forward=phase(interface.forward, "forward"), backward=phase(interface.backward, "backward")
    )


def run_function(c_stem: str, phase: str) -> str:
    """The name of the function that does a whole phase."""
    return f"lnc_{c_stem}_{phase}_run"


def _ordinal(at: int) -> str:
    return "" if at == 0 else f"_{at + 1}"


def exports_of(library: Library) -> list[str]:
    """The symbols that the library offers: for C, then for Python."""
    interface = library.interface
    phases = (interface.forward, interface.backward)
    calls = [call.function for phase in phases for call in phase.calls]
    runs = [run_function(library.c_stem, name) for name in ("forward", "backward")]
    return [*calls, *runs, *(phase.entry for phase in phases)]
