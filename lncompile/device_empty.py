"""Norms over zero features on a device: nothing is launched, and what there is to write is copied there.

What is written is what :mod:`lncompile.empty` makes of the same arguments on the host: gradients of
parameters, statistics of nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lncompile import interface
from lncompile.backends.cuda import device
from lncompile.backends.cuda.target import CudaTarget
from lncompile.device_kernel import DeviceKernel
from lncompile.device_runner import PhaseRunner
from lncompile.emit.cuda.launches import Launches, to_json
from lncompile.interface import WRITTEN, Phase
from lncompile.kernel import Kernel, Runner

_NOTHING = Launches((), ())


class EmptyDeviceKernel(DeviceKernel):
    """A kernel that computes on the host: ``kernel`` is the one for arrays of NumPy's."""

    def __init__(self, kernel: Kernel, stages: Mapping[str, str], target: CudaTarget) -> None:
        offered = kernel.interface
        meta = {
            "interface": interface.to_json(offered),
            "returns_tuple": kernel.returns_tuple,
            "forward": to_json(_NOTHING),
            "backward": to_json(_NOTHING),
            "contents": [],
        }
        super().__init__(kernel.signature, b"", meta, stages, target)
        self._forward = _OnHost(offered.forward, kernel.forward_runner)
        self._backward = _OnHost(offered.backward, kernel.backward_runner)

    def _become_quick(self) -> None:
        """Never: there is nothing that a repeated call could leave out."""


class _OnHost(PhaseRunner):
    """One phase, with a runner for arrays of NumPy's."""

    def __init__(self, phase: Phase, runner: Runner) -> None:
        super().__init__(phase, _NOTHING, {})
        self._runner = runner

    def run(self, arrays: Sequence[Any], number: int, *, keep: bool = False) -> None:
        """Fill what is written; the device is the current one."""
        cupy = device.cupy()
        workspaces = [None] * (len(self.phase.buffers) - len(self.buffers))
        written = [buffer.role in WRITTEN for buffer in self.buffers]
        here = [
            None if array is None else np.empty(array.shape, array.dtype) if fills else cupy.asnumpy(array)
            for array, fills in zip(arrays, written, strict=True)
        ]
        self._runner.run([*here, *workspaces])
        for array, made, fills in zip(arrays, here, written, strict=True):
            if fills and array is not None and array.size:
                array.set(made)
