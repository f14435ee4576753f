"""The compiler from end to end: a traced program in, an artifact out. Never imported on a cache hit.

program --passes--> forward, backward --schedule--> --emit--> source --Numba--> LLVM IR --LLVM--> library
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from lncompile import __version__, interface
from lncompile.backends.cpu.target import CpuTarget
from lncompile.cache import Artifact
from lncompile.digest import short_digest
from lncompile.dumped import dump_if_asked
from lncompile.emit.lower import Lowered, Request, lower
from lncompile.errors import LncValueError
from lncompile.interrupts import interrupts_held
from lncompile.ir import Program
from lncompile.passes import Pair, run_passes
from lncompile.printer import show
from lncompile.schedule.cpu import Schedule, heuristic
from lncompile.verify import verify

if TYPE_CHECKING:
    from lncompile.backends.cpu.pipeline import Built


@dataclass(frozen=True)
class Compilation:
    """One specialization on its way through the stages; each is computed when it is first asked for.

    Where ``LNCOMPILE_OVERRIDE`` names a directory with a file ``NORM.source.py`` or ``NORM.llvm.ll``, that
    file takes the stage's place; other stages cannot be replaced.
    """

    program: Program
    target: CpuTarget
    request: Request
    tuned: Schedule | None = None

    @cached_property
    def pair(self) -> Pair:
        """Forward and backward programs."""
        return passed(self.program)

    @cached_property
    def schedule(self) -> Schedule:
        """How the loops are laid out: as tuned, else by the heuristic."""
        target = self.target
        return self.tuned or heuristic(self.pair.forward, target.vector_bytes, target.cache_bytes)

    @cached_property
    def lowered(self) -> Lowered:
        """The emitted source and its interface."""
        lowered = lower(self.pair, self.schedule, self.request)
        replaced = _override(self.program.name, "source")
        return lowered if replaced is None else replace(lowered, source=replaced)

    def stages(self) -> dict[str, Callable[[], str]]:
        """Every stage as text, computed on demand; the same bytes in every process."""
        return {
            "ir": lambda: show(self.pair.forward),
            "grad": lambda: show(self.pair.backward),
            "schedule": lambda: self.schedule.show(),
            "source": lambda: self.lowered.source,
            "llvm": lambda: self._optimised.llvm,
            "asm": lambda: self._optimised.asm,
        }

    @cached_property
    def _optimised(self) -> Built:
        with interrupts_held():
            from lncompile.backends.cpu.entry import entry_ir
            from lncompile.backends.cpu.frontend import raw_ir
            from lncompile.backends.cpu.pipeline import assemble, optimise

        replaced = _override(self.program.name, "llvm")
        if replaced is not None:
            return optimise([replaced], self.exports, self.target)
        offered = self.lowered.interface
        kernels = optimise([raw_ir(self.lowered, self.target)], self._functions, self.target).llvm
        entries = [entry_ir(offered.forward), entry_ir(offered.backward)]
        return assemble([kernels, *entries], self.exports, self.target)

    @contextmanager
    def _blamed_on_overrides(self) -> Iterator[None]:
        """Say that it was a stage of ``LNCOMPILE_OVERRIDE`` where one cannot be compiled."""
        try:
            yield
        except Exception as error:
            if not override_digest(self.program.name):
                raise
            what = f"{type(error).__name__}: {error}"
            raise LncValueError(
                f"LNCOMPILE_OVERRIDE: a stage of {self.program.name} in it does not compile: {what}"
            ) from error

    def level(self, names: Mapping[str, str]) -> Built:
        """The C functions alone under other ``names``, for a library of several levels."""
        with interrupts_held():
            from lncompile.backends.cpu.frontend import raw_ir
            from lncompile.backends.cpu.pipeline import optimise

        with self._blamed_on_overrides():
            replaced = _override(self.program.name, "llvm")
            modules = [raw_ir(self.lowered, self.target) if replaced is None else replaced]
            return optimise(modules, list(names), self.target, names)

    @property
    def exports(self) -> list[str]:
        """The symbols of the library."""
        offered = self.lowered.interface
        return [*self._functions, offered.forward.entry, offered.backward.entry]

    @property
    def _functions(self) -> list[str]:
        """The C functions of the kernels."""
        offered = self.lowered.interface
        return [call.function for phase in (offered.forward, offered.backward) for call in phase.calls]

    def artifact(self) -> Artifact:
        """Compile; also writes every stage to ``LNCOMPILE_DUMP`` where that is set."""
        with self._blamed_on_overrides():
            library = self._optimised.library(self.exports, f"lnc_{short_digest(self.lowered.source)}.so")
        meta = {
            "norm": self.program.name,
            "target": self.target.name,
            "interface": interface.to_json(self.lowered.interface),
            "returns_tuple": self.program.returns_tuple,
            "lncompile": __version__,
        }
        dump_if_asked(self.program.name, self.stages(), interface.STAGES)
        return Artifact(library, self.lowered.source, meta)


@lru_cache(maxsize=1)
def passed(program: Program) -> Pair:
    """Both programs after all passes: 40 ms that targets of one build and candidates of a tuner share."""
    return run_passes(verify(program), verify)


def override_digest(norm: str) -> Mapping[str, str]:
    """What ``LNCOMPILE_OVERRIDE`` replaces for a norm, as part of the key: the hash of each file."""
    found = {stage: _override(norm, stage) for stage in ("source", "llvm")}
    return {stage: short_digest(text) for stage, text in found.items() if text is not None}


def _override(norm: str, stage: str) -> str | None:
    directory = os.environ.get("LNCOMPILE_OVERRIDE")
    if not directory:
        return None
    if not os.path.isdir(directory):
        raise LncValueError(f"LNCOMPILE_OVERRIDE: expected a directory; got {directory!r}")
    path = Path(directory) / f"{norm}.{stage}.{interface.STAGES[stage]}"
    if not path.exists():
        return None
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LncValueError(f"LNCOMPILE_OVERRIDE: cannot read {path}: {error}") from None
