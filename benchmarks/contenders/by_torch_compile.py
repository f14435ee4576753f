"""PyTorch's compiler: the functions of ``by_torch`` through ``torch.compile``, a graph for each shape."""

from __future__ import annotations

from typing import Any

from ..grid import Case
from . import Prepared
from .by_torch import prepare_with
from .by_torch import start as start_torch


def start(threads: int) -> dict[str, str]:
    """Import it, set its threads, and let a recorded forward serve many backwards."""
    versions = start_torch(threads)
    import torch._functorch.config

    # Buffers that the backward reuses for its results could be read once alone.
    torch._functorch.config.donated_buffer = False
    return versions


def prepare(case: Case, mode: str) -> Prepared:
    """The case, compiled for its shape."""
    import torch

    torch._dynamo.reset()

    def compiled(function: Any) -> Any:
        return torch.compile(function, dynamic=False, fullgraph=True)

    return prepare_with(case, mode, compiled)
