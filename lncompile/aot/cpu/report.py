"""What was built, in numbers: code size and vector width of each level, arithmetic and traffic a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lncompile.aot.cpu.library import Library
from lncompile.aot.work import bytes_per_row, flops_per_row
from lncompile.interface import Phase
from lncompile.ir import Program


def reported(library: Library, objects: Sequence[bytes], file_bytes: int) -> list[dict[str, Any]]:
    """For each level and phase of a library: bytes of the file and of the code, vector width, work a row."""
    from lncompile.backends.cpu.elf import code_sizes

    rows = []
    for level, data in zip(library.levels, objects, strict=True):
        sizes = code_sizes(data)
        there = library.level_interface(level)
        for name in ("forward", "backward"):
            phase: Phase = getattr(there, name)
            program: Program = getattr(level.lowered.pair, name)
            rows.append(
                {
                    "library": f"{library.stem}.so",
                    "file_bytes": file_bytes,
                    "target": level.target.name,
                    "phase": name,
                    "code_bytes": sum(sizes[call.function] for call in phase.calls),
                    "vector_bits": 8 * level.target.vector_bytes,
                    "flops_per_row": flops_per_row(program),
                    "bytes_per_row": bytes_per_row(phase, library.wanted),
                }
            )
    return rows
