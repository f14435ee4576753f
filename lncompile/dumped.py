"""The stages of what is compiled as files, where ``LNCOMPILE_DUMP`` names a directory for them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from lncompile.errors import LncValueError


def dump_if_asked(norm: str, stages: Mapping[str, Callable[[], str]], extensions: Mapping[str, str]) -> None:
    """Write ``stages``, text made on demand, as ``NORM.STAGE.EXTENSION``; ``LncError`` where that fails."""
    directory = os.environ.get("LNCOMPILE_DUMP")
    if not directory:
        return
    try:
        Path(directory).mkdir(parents=True, exist_ok=True)
        for stage, text in stages.items():
            (Path(directory) / f"{norm}.{stage}.{extensions[stage]}").write_text(text(), encoding="utf-8")
    except OSError as error:
        raise LncValueError(
            f"LNCOMPILE_DUMP: expected a directory to write to; got {directory!r}: {error.strerror}"
        ) from error
