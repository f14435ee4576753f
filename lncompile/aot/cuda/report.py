"""What was built for a device, in numbers: size, registers, shared memory, arithmetic and traffic a row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lncompile.aot.wanted import Wanted
from lncompile.aot.work import bytes_per_row, flops_per_row
from lncompile.backends.cuda.packed import Code
from lncompile.device_compiler import CudaCompilation


def reported(
    wanted: Wanted, compilation: CudaCompilation, codes: Mapping[str, Code], cubins: Mapping[str, str]
) -> list[dict[str, Any]]:
    """For each phase: how many launches, bytes of all its cubins, and the most that one of them takes.

    Registers are those of a thread; shared memory is that of a block, in bytes.
    """
    lowered = compilation.lowered
    interface, pair = lowered.interface, lowered.pair
    rows = []
    for name, phase, launched, program in (
        ("forward", interface.forward, lowered.forward, pair.forward),
        ("backward", interface.backward, lowered.backward, pair.backward),
    ):
        there = [(kernel, codes[kernel.entry]) for kernel in launched.kernels]
        rows.append(
            {
                "library": cubins[launched.kernels[0].entry],
                "target": compilation.target.name,
                "phase": name,
                "launches": len(there),
                "file_bytes": sum(len(code.cubin) for _, code in there),
                "registers": max(code.registers for _, code in there),
                "shared_bytes": max(kernel.shared + code.shared for kernel, code in there),
                "flops_per_row": flops_per_row(program),
                "bytes_per_row": bytes_per_row(phase, wanted),
            }
        )
    return rows
