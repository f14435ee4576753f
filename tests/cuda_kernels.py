"""Runs what is compiled for CUDA without a device: the real PTX, thread by thread, on NumPy arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import pytest
from helpers import Arrays, Sizes, arrays_for, compilation_of, run_pair
from ptx import run

from lncompile.backends.cuda.described import arrays, launches
from lncompile.backends.cuda.packed import Code
from lncompile.backends.cuda.plan import plan_of
from lncompile.backends.cuda.target import find
from lncompile.device_compiler import CudaCompilation
from lncompile.dtypes import TABLE
from lncompile.interface import Phase


@contextmanager
def standing_in() -> Iterator[None]:
    """Texts in the place of machine code: what is compiled here must not get into a cache."""

    def code(self: CudaCompilation, function: Any) -> Code:
        return Code(function.name, "", f"{self.target.name} {function.name}".encode(), 40, 96)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CudaCompilation, "code", code)
        patch.setattr(CudaCompilation, "import_compiler", lambda self: None)
        yield


def _installed(*packages: str) -> bool:
    try:
        return bool([version(package) for package in packages])
    except PackageNotFoundError:
        return False


#: Compiling takes numba-cuda, NVVM and nvJitLink, but neither a device nor a driver.
COMPILES = _installed("numba-cuda", "nvidia-nvvm", "nvidia-nvjitlink", "cuda-core")
needs_compiler = pytest.mark.skipif(
    not COMPILES,
    reason="the extra cuda13 is not installed",
)
needs_disassembler = pytest.mark.skipif(
    not _installed("nvidia-cuda-nvdisasm"), reason="nvidia-cuda-nvdisasm is not installed"
)


def cuda_compilation_of(
    norm: Any,
    sizes: Sizes,
    dtype: Any = "float32",
    target: str = "cuda:sm_90",
    unheld: frozenset[str] = frozenset(),
    **options: Any,
) -> CudaCompilation:
    """The way of ``norm`` to CUDA."""
    other = compilation_of(norm, sizes, dtype, **options)
    request = replace(other.request, header=(*other.request.header[:-1], f"target {target}"))
    return CudaCompilation(other.program, find(target), request, unheld=unheld)


def results_of(
    compilation: CudaCompilation,
    given: Mapping[str, Any],
    sizes: Sizes,
    multiprocessors: int = 4,
    same: Mapping[str, str] | None = None,
) -> Arrays:
    """All that the launches of both phases write but workspaces, for these inputs and cotangents.

    ``same`` tells of arrays that are written which of those that their phase reads they are.
    """
    lowered = compilation.lowered
    codes = {code.entry: code for code in compilation.codes}
    known = {name: np.asarray(array) for name, array in given.items()}
    written: Arrays = {}
    phases = (("forward", lowered.interface.forward), ("backward", lowered.interface.backward))
    for name, phase in phases:
        launched = lowered.forward if name == "forward" else lowered.backward
        axes = _axes(phase, sizes)
        plan = plan_of(phase, launched, axes, multiprocessors)
        buffers = arrays(phase, plan, axes)
        reads = {
            key: _bits(known[key], buffer.dtype, buffer.shape)
            for key, buffer in buffers.items()
            if buffer.role in ("input", "cotangent") or (buffer.role == "saved" and name == "backward")
        }
        described = {key: buffer._asdict() for key, buffer in buffers.items()}
        in_place = {key: read for key, read in (same or {}).items() if key in buffers}
        made = run(launches(name, plan, codes), described, reads, name, same=in_place)
        for key, array in made.items():
            if buffers[key].role != "workspace":
                dtype = TABLE[buffers[key].dtype].numpy
                known[key] = written[key] = array.view(dtype)
    return written


def check(
    norm: Any,
    sizes: Sizes,
    dtype: Any = "float32",
    *,
    arrays: Mapping[str, Any] | None = None,
    tolerance: float,
    multiprocessors: int = 4,
    only: tuple[str, ...] = (),
    least: float = 1.0,
    **options: Any,
) -> Arrays:
    """Compare results with the interpreter's; errors are relative to the largest element, or ``least``."""
    compilation = cuda_compilation_of(norm, sizes, dtype, **options)
    pair = compilation.lowered.pair
    nodes = (*pair.forward.inputs, *pair.backward.inputs)
    inputs = {node.name: node for node in nodes if node.role != "saved"}
    given = arrays_for(tuple(inputs.values()), sizes)
    for name, array in (arrays or {}).items():
        given[name] = np.asarray(array).astype(given[name].dtype).reshape(given[name].shape)
    found = results_of(compilation, given, sizes, multiprocessors)
    expected = run_pair(pair, given, sizes)
    for name, array in found.items():
        if only and name not in only:
            continue
        want, array = expected[name].reshape(array.shape), array.astype(np.float64)
        scale = max(least, float(np.nanmax(np.abs(want), initial=0.0)))
        np.testing.assert_allclose(array, want, rtol=0, atol=tolerance * scale, err_msg=name)
    return found


def _axes(phase: Phase, sizes: Sizes) -> dict[str, tuple[int, ...]]:
    names = {dim for buffer in phase.buffers if buffer.role != "workspace" for dim in buffer.dims}
    return {name: (sizes[name],) for name in names if isinstance(name, str)}


def _bits(array: Any, dtype: str, shape: tuple[int, ...]) -> Any:
    array = np.ascontiguousarray(array, TABLE[dtype].numpy).reshape(shape)
    return array.view(np.uint16) if dtype == "bfloat16" else array
