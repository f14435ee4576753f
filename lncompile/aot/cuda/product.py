"""A kernel for one architecture, from its plan to its cubins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

from lncompile.aot.cuda.describe import Record, described
from lncompile.aot.cuda.opener import abi
from lncompile.aot.cuda.report import reported
from lncompile.aot.part import Output, Part
from lncompile.aot.python import python_record
from lncompile.aot.wanted import Wanted
from lncompile.backends.cuda.packed import decoded, encoded
from lncompile.builders import CudaBuilder, traced
from lncompile.device_compiler import CudaCompilation
from lncompile.emit.cuda import launches
from lncompile.emit.cuda.lower import Function


def planned(wanted: Wanted) -> list[CudaProduct]:
    """What serves a kernel's targets: one product each."""
    equation = wanted.dispatcher.equation
    program = traced(equation, wanted.special)
    return [
        CudaProduct(wanted, CudaBuilder(equation, wanted.at(target)).compilation(program))
        for target in wanted.targets
    ]


@dataclass(frozen=True)
class CudaProduct:
    """The cubins of a kernel, one for each launch, and its entry in the manifest."""

    wanted: Wanted
    compilation: CudaCompilation

    @cached_property
    def cubins(self) -> dict[str, str]:
        """The file of every kernel by the name of its entry, those of the forward first."""
        lowered, stem = self.compilation.lowered, f"{self.wanted.stem}_{self.compilation.target.arch}"
        return {
            kernel.entry: f"{stem}_{phase}{f'_{at}' if at > 1 else ''}.cubin"
            for phase, launched in (("forward", lowered.forward), ("backward", lowered.backward))
            for at, kernel in enumerate(launched.kernels, 1)
        }

    @cached_property
    def parts(self) -> Sequence[Part]:
        """Each kernel's code."""
        return [
            Part(
                self.cubins[function.name],
                partial(self._encoded, function),
                self.compilation.import_compiler,
            )
            for function in self.compilation.lowered.functions
        ]

    def _encoded(self, function: Function) -> bytes:
        return encoded(self.compilation.code(function))

    def finish(self, made: Sequence[bytes], static: bool) -> Output:
        """Write the cubins; there is nothing to link in statically."""
        codes = {code.entry: code for code in map(decoded, made)}
        files = {name: codes[entry].cubin for entry, name in self.cubins.items()}
        return Output(files, self.record(), reported(self.wanted, self.compilation, codes, self.cubins))

    def record(self) -> Record:
        """The entry of the manifest, which does not depend on the code."""
        lowered, target = self.compilation.lowered, self.compilation.target
        plans = (lowered.forward, lowered.backward)
        forward, backward = map(launches.to_json, plans)
        python = python_record(self.wanted, lowered.interface, self.compilation.program, abi())
        record = described(self.wanted, target, lowered.interface, plans, self.cubins)
        return record | {"python": python | {"forward": forward, "backward": backward}}
