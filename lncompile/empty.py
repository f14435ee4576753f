"""Norms over zero features: there is nothing to compile, and NumPy says what a mean of nothing is.

Gradients are interpreted as they are derived: sums over nothing, which are zero. A kernel's, simplified, are
such sums times statistics::

    dweight = sum[n](dy * ((x - mean) * rstd)) = 0      sum[n](dy * (x - mean)) * rstd = 0 * NaN
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING

from lncompile.buffers import batch_sizes
from lncompile.dtypes import rounded
from lncompile.interface import Phase
from lncompile.interpret import interpret
from lncompile.kernel import Kernel, Signature, refuse
from lncompile.passes.gradient import gradient
from lncompile.passes.unstack import unstack

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
        # Kernels rename what they need the word of; the order stays.
        self._buffers: dict[str, str] = {}
        for role in {array.role for array in program.arrays}:
            names = dict.fromkeys(array.array for array in program.arrays if array.role == role)
            self._buffers |= zip(names, (b.name for b in phase.buffers if b.role == role), strict=True)

    def run(self, arrays: Sequence[Array | None]) -> None:
        """Fill the written arrays with the interpreter's results."""
        by_name = {
            b.name: array for b, array in zip(self._phase.buffers, arrays, strict=True) if array is not None
        }
        sizes = self._sizes(by_name[self._phase.buffers[0].name].shape)
        inputs = {
            node.array: by_name[self._buffers[node.array]].reshape(
                [dim if isinstance(dim, int) else sizes[dim] for dim in node.layout]
            )
            for node in self._program.inputs
        }
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
            results = interpret(self._program, inputs)
        dtypes = {buffer.name: buffer.dtype for buffer in self._phase.buffers}
        for name, result in results.items():
            buffer = self._buffers[name]
            if buffer in by_name:
                array = by_name[buffer]
                array[...] = rounded(result, dtypes[buffer]).reshape(array.shape)

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
    offered, fixed = compilation.lowered.interface, compilation.request.sizes
    joint = gradient(unstack(compilation.program))
    gradients = tuple(output for output in joint.outputs if output.role == "gradient")
    return Kernel(
        signature,
        offered,
        compilation.target.name,
        compilation.program.returns_tuple,
        _Interpreted(offered.forward, compilation.lowered.pair.forward, fixed),
        _Interpreted(offered.backward, replace(joint, outputs=gradients), fixed),
        stages,
    )
