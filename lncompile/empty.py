"""Norms over zero features: there is nothing to compile, and NumPy says what a mean of nothing is."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING

from lncompile.buffers import batch_sizes
from lncompile.dtypes import rounded
from lncompile.interface import Phase
from lncompile.interpret import interpret
from lncompile.kernel import Kernel, Signature, refuse

if TYPE_CHECKING:
    from lncompile.arrays import Array
    from lncompile.compiler import Compilation
    from lncompile.ir import Program


class _Interpreted:
    """Runs a phase by the interpreter."""

    entry = staticmethod(refuse)

    def __init__(self, phase: Phase, program: Program, fixed: Mapping[str, int]) -> None:
        self._phase = phase
        self._program = program
        self._fixed = fixed

    def run(self, arrays: Sequence[Array | None]) -> None:
        """Fill the written arrays with the interpreter's results."""
        by_name = {
            b.name: array for b, array in zip(self._phase.buffers, arrays, strict=True) if array is not None
        }
        sizes = self._sizes(by_name[self._phase.buffers[0].name].shape)
        inputs = {
            node.array: by_name[node.array].reshape(
                [dim if isinstance(dim, int) else sizes[dim] for dim in node.layout]
            )
            for node in self._program.inputs
        }
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
            results = interpret(self._program, inputs)
        for buffer in self._phase.buffers:
            if buffer.name in results and buffer.name in by_name:
                array = by_name[buffer.name]
                array[...] = rounded(results[buffer.name], buffer.dtype).reshape(array.shape)

    def _sizes(self, shape: tuple[int, ...]) -> dict[str, int]:
        """The sizes of the program's axes, each of which may be several (``n*h``), for x of ``shape``."""
        # A merged axis may have parts whose sizes are compiled in: n*g of "n (g [c])".
        batch: dict[str, tuple[int, ...]] = {name: (size,) for name, size in self._fixed.items()}
        batch |= batch_sizes(self._phase.buffers[0], shape)
        return {
            axis.name: prod(size for part in axis.name.split("*") for size in batch[part])
            if axis.size is None
            else axis.size
            for axis in self._program.axes
        }


def empty_kernel(signature: Signature, compilation: Compilation, stages: Mapping[str, str]) -> Kernel:
    """A kernel that interprets: the same interface, no library."""
    offered, pair = compilation.lowered.interface, compilation.lowered.pair
    return Kernel(
        signature,
        offered,
        compilation.target.name,
        compilation.program.returns_tuple,
        _Interpreted(offered.forward, pair.forward, compilation.request.sizes),
        _Interpreted(offered.backward, pair.backward, compilation.request.sizes),
        stages,
    )
