"""The way to CUDA from end to end: a traced program in, an artifact out. Never imported on a cache hit.

program --passes--> forward, backward --schedule--> --emit--> source --Numba--> PTX --nvJitLink--> cubin
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lncompile import __version__, interface
from lncompile.backends.cuda.packed import Code, packed
from lncompile.backends.cuda.target import CudaTarget
from lncompile.cache import Artifact
from lncompile.dumped import dump_if_asked
from lncompile.emit.cuda import launches
from lncompile.emit.cuda.lower import Function, LoweredCuda, lower_cuda
from lncompile.emit.lower import Request
from lncompile.errors import LncValueError
from lncompile.interrupts import interrupts_held
from lncompile.ir import Program
from lncompile.passes import Pair, run_passes
from lncompile.printer import show
from lncompile.schedule.cuda import Room
from lncompile.verify import verify


@dataclass(frozen=True)
class CudaCompilation:
    """One specialization on its way through the stages; each is computed when it is first asked for."""

    program: Program
    target: CudaTarget
    request: Request

    @cached_property
    def pair(self) -> Pair:
        """Forward and backward programs."""
        return run_passes(verify(self.program), verify)

    @cached_property
    def lowered(self) -> LoweredCuda:
        """The emitted source and what is launched."""
        return lower_cuda(self.pair, self.request, Room(self.target.shared_bytes, self.target.cluster_blocks))

    def stages(self) -> dict[str, Callable[[], str]]:
        """Every stage as text, computed on demand; the same bytes in every process."""
        return {
            "ir": lambda: show(self.pair.forward),
            "grad": lambda: show(self.pair.backward),
            "schedule": self._schedules,
            "source": lambda: self.lowered.source,
            "ptx": lambda: "\n".join(code.ptx for code in self.codes),
            "sass": lambda: "\n".join(map(self._disassembled, self.codes)),
        }

    def _schedules(self) -> str:
        forward, backward = (schedule.show() for schedule in self.lowered.schedules)
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
        """The code of one kernel, compiled anew; ``LncError`` where the compiler is not installed."""
        self.import_compiler()
        from lncompile.backends.cuda import frontend, link

        with interrupts_held():
            ptx = frontend.ptx_of(self._functions, function, self.target)
            made = link.link(ptx, self.target)
        return Code(function.name, ptx, made.cubin, made.registers, made.shared)

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
        return Artifact(library, lowered.source, meta)
