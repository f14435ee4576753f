"""Norms over zero features: there is nothing to compile, and NumPy says what a mean of nothing is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING

from lncompile.interface import Phase
from lncompile.interpret import interpret
from lncompile.kernel import Kernel, Signature

if TYPE_CHECKING:
    from lncompile.arrays import Array
    from lncompile.compiler import Compilation
    from lncompile.ir import Program


class _Interpreted:
    """Runs a phase by the interpreter."""

    def __init__(self, phase: Phase, program: Program) -> None:
        self.phase = phase
        self._program = program

    def entry(self, *_: object) -> object:
        """Never takes a call directly."""
        return NotImplemented

    def run(self, arrays: Sequence[Array | None]) -> None:
        """Fill the written arrays with the interpreter's results."""
        padded = [*arrays, *[None] * (len(self.phase.buffers) - len(arrays))]
        by_name = {b.name: array for b, array in zip(self.phase.buffers, padded, strict=True) if array is not None}
        inputs = {node.name: _collapsed(by_name[node.name], len(node.dims)) for node in self._program.inputs}
        results = interpret(self._program, inputs)
        for name, value in results.items():
            if name in by_name:
                by_name[name][...] = value.reshape(by_name[name].shape)


def empty_kernel(signature: Signature, compilation: Compilation, stages: Mapping[str, str]) -> Kernel:
    """A kernel that interprets: the same interface, no library."""
    from lncompile.emit.names import legal

    offered = compilation.lowered.interface
    pair = legal(compilation.pair)
    return Kernel(
        signature,
        offered,
        compilation.target.name,
        compilation.program.returns_tuple,
        _Interpreted(offered.forward, pair.forward),  # type: ignore[arg-type]
        _Interpreted(offered.backward, pair.backward),  # type: ignore[arg-type]
        stages,
    )


def _collapsed(array: Array, dims: int) -> Array:
    """The array with one dimension for each collapsed axis: batch axes first, then features."""
    if dims == array.ndim:
        return array
    if dims == 1:
        return array.reshape(prod(array.shape))
    # Rows and features; features are innermost and empty, so the batch is what the other dimensions tell.
    return array.reshape(prod(array.shape[:-1]), array.shape[-1])
