"""The way to CUDA from end to end: a traced program in, an artifact out. Never imported on a cache hit.

program --passes--> forward, backward --schedule--> --emit--> source --Numba--> PTX --nvJitLink--> cubin
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from lncompile import __version__, interface
from lncompile.backends.cuda.packed import Code, packed
from lncompile.backends.cuda.target import CudaTarget
from lncompile.cache import Artifact
from lncompile.compiler import passed
from lncompile.dumped import dump_if_asked
from lncompile.emit.cuda import launches
from lncompile.emit.cuda.lower import Function, LoweredCuda, lower_cuda
from lncompile.emit.lower import Request
from lncompile.errors import LncValueError
from lncompile.interrupts import interrupts_held
from lncompile.ir import Program
from lncompile.passes import Pair
from lncompile.printer import show
from lncompile.schedule.changes import Changes
from lncompile.schedule.cuda import Room, Schedule, heuristic


@dataclass(frozen=True)
class CudaCompilation:
    """One specialization on its way through the stages; each is computed when it is first asked for.

    ``tuned`` is what a tuner has changed of the heuristic's schedules, of both phases alike. The kernels
    named in ``unheld`` read rows again that the schedules would hold in registers.
    """

    program: Program
    target: CudaTarget
    request: Request
    tuned: Changes | None = None
    unheld: frozenset[str] = frozenset()

    @cached_property
    def pair(self) -> Pair:
        """Forward and backward programs."""
        return passed(self.program)

    @cached_property
    def schedules(self) -> tuple[Schedule, Schedule]:
        """How the kernels of the forward and of the backward are laid out."""
        room = Room(self.target.shared_bytes, self.target.cluster_blocks)
        programs = self.pair.forward, self.pair.backward
        forward, backward = (replace(heuristic(program, room), **(self.tuned or {})) for program in programs)
        return forward, backward

    @cached_property
    def lowered(self) -> LoweredCuda:
        """The emitted source and what is launched."""
        return lower_cuda(self.pair, self.request, self.schedules, self.unheld)

    @cached_property
    def source(self) -> str:
        """The source of :attr:`codes`."""
        unheld = frozenset(code.entry for code in self.codes if code.unheld)
        return replace(self, unheld=unheld).lowered.source if unheld else self.lowered.source

    def stages(self) -> dict[str, Callable[[], str]]:
        """Every stage as text, computed on demand; the same bytes in every process."""
        return {
            "ir": lambda: show(self.pair.forward),
            "grad": lambda: show(self.pair.backward),
            "schedule": self._schedules,
            "source": lambda: self.source,
            "ptx": lambda: "\n".join(code.ptx for code in self.codes),
            "sass": lambda: "\n".join(map(self._disassembled, self.codes)),
        }

    def _schedules(self) -> str:
        forward, backward = (schedule.show() for schedule in self.schedules)
        return f"forward\n{forward}\nbackward\n{backward}"

    @staticmethod
    def _disassembled(code: Code) -> str:
        from lncompile.backends.cuda.link import disassembled

        return disassembled(code.cubin)

    @cached_property
    def codes(self) -> tuple[Code, ...]:
        """The code of every kernel."""
        return tuple(map(self.code, self.lowered.functions))

    def code(self, function: Function) -> Code:
        """The code of one kernel, compiled anew; ``LncError`` where the compiler is not installed.

        Where a kernel spills, rows are read again instead, out of the first cache. Backward with 512 threads
        a block, bytes of spills and registers: layer norm of 5120 in float16, sm_80, 136 and 128, or 0 and
        94; DyT of 8192 in float32, sm_90, 168 and 128, or 0 and 100.
        """
        self.import_compiler()
        made = self._compiled(function)
        if not made.spills:
            return made
        leaner = replace(self, unheld=self.unheld | {function.name})
        return min(made, leaner._compiled(function)._replace(unheld=True), key=lambda code: code.spills)

    def _compiled(self, function: Function) -> Code:
        from lncompile.backends.cuda import frontend, link

        with interrupts_held():
            ptx = frontend.ptx_of(self._functions, function, self.target)
            made = link.link(ptx, self.target)
        return Code(function.name, ptx, made.cubin, made.registers, made.shared, made.spills)

    @cached_property
    def _functions(self) -> dict[str, Any]:
        from lncompile.backends.cuda.frontend import executed

        return executed(self.lowered.source)

    def import_compiler(self) -> None:
        """Import what makes the code; ``LncError`` naming the extra to install where it is not there."""
        try:
            with interrupts_held():
                from lncompile.backends.cuda import frontend, link  # noqa: F401

                link.load_libraries()
        except ImportError as error:
            raise LncValueError(
                f"target: {self.target.name} needs a compiler that is not installed; "
                f"pip install 'lncompile[cuda13]', or [cuda12], brings it ({error})"
            ) from error

    def artifact(self) -> Artifact:
        """Compile; also writes every stage but SASS to ``LNCOMPILE_DUMP`` where that is set."""
        library, contents = packed(self.codes)
        lowered = self.lowered
        meta = {
            "norm": self.program.name,
            "target": self.target.name,
            "interface": interface.to_json(lowered.interface),
            "forward": launches.to_json(lowered.forward),
            "backward": launches.to_json(lowered.backward),
            "contents": contents,
            "returns_tuple": self.program.returns_tuple,
            "lncompile": __version__,
        }
        # SASS needs a tool of its own.
        without_sass = {name: text for name, text in self.stages().items() if name != "sass"}
        dump_if_asked(self.program.name, without_sass, interface.CUDA_STAGES)
        return Artifact(library, self.source, meta)
