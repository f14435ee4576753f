"""What a manifest says of a kernel for a device: its arrays, and its launches with every parameter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lncompile.aot.arrays import arrays_of
from lncompile.aot.cuda.numbers import grid_of, numbers_of
from lncompile.aot.extent import Extent, Extents
from lncompile.aot.wanted import Wanted
from lncompile.backends.cuda.target import CudaTarget
from lncompile.device_arrays import ALIGNMENT
from lncompile.emit.cuda.launches import Kernel, Launches, shared_bytes
from lncompile.interface import Interface, Phase

Record = dict[str, Any]


def described(
    wanted: Wanted,
    target: CudaTarget,
    offered: Interface,
    launches: tuple[Launches, Launches],
    cubins: Mapping[str, str],
) -> Record:
    """The part of the manifest's entry that programs in any language need.

    ``launches`` are those of the forward and the backward, ``cubins`` the files by the name of their entry.
    """
    extents = Extents(wanted)
    phases = (offered.forward, offered.backward)
    forward, backward = (numbers_of(*phase, extents) for phase in zip(phases, launches, strict=True))
    arrays = arrays_of(offered, wanted.dispatcher.signature.arguments, extents, (forward, backward))
    given = zip(phases, launches, arrays.names, (forward, backward), strict=True)
    first, second = (
        [_launch(kernel, phase, cubins[kernel.entry], named, numbers) for kernel in launched.kernels]
        for phase, launched, named, numbers in given
    )
    return {
        **wanted.record([target.name]),
        "alignment": ALIGNMENT,
        "multiprocessors": target.multiprocessors,
        "shared_bytes": shared_bytes(*launches),
        "buffers": arrays.listed,
        "forward": first,
        "backward": second,
    }


def _launch(
    kernel: Kernel, phase: Phase, cubin: str, named: Mapping[str, str], numbers: dict[str, Extent]
) -> Record:
    optional = {buffer.name for buffer in phase.buffers if buffer.optional}
    args: list[Record] = [
        {"buffer": named[name]} | ({"optional": True} if name in optional else {}) for name in kernel.buffers
    ]
    for name in kernel.numbers:
        kind = "value" if isinstance(numbers[name], int) else "size"
        args.append({kind: numbers[name], "ctype": "int64_t"})
    return {
        "entry": kernel.entry,
        "cubin": cubin,
        "grid": [grid_of(kernel, numbers), 1, 1],
        "block": [kernel.threads * kernel.teams, 1, 1],
        "cluster": [kernel.cluster, 1, 1],
        "shared": kernel.shared,
        "args": args,
    }
