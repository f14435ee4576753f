"""Emitted kernels as files: a change of the compiler shows as a change of the code that it writes.

``pytest tests/test_golden.py --update-golden`` rewrites them; read the difference before it is committed.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import pytest
from cuda_kernels import cuda_compilation_of
from helpers import compilation_of

import lncompile as lnc

DIRECTORY = Path(__file__).parent / "golden"

#: File -> what it is compiled for: a usual size, and one that no vector length divides.
KERNELS: dict[str, tuple[Any, int, str, str]] = {
    "layer_norm_1024_float32.py": (lnc.layer_norm, 1024, "float32", "cpu:x86-64-v3"),
    "layer_norm_13_float64.py": (lnc.layer_norm, 13, "float64", "cpu:x86-64-v3"),
    "rms_norm_64_float32.py": (lnc.rms_norm, 64, "float32", "cpu:x86-64-v3"),
    "rms_norm_1024_float32.py": (lnc.rms_norm, 1024, "float32", "cpu:x86-64-v3"),
    "rms_norm_13_float64.py": (lnc.rms_norm, 13, "float64", "cpu:x86-64-v3"),
    "layer_norm_1024_bfloat16_cuda.py": (lnc.layer_norm, 1024, "bfloat16", "cuda:sm_90"),
    "rms_norm_33_float32_cuda.py": (lnc.rms_norm, 33, "float32", "cuda:sm_90"),
}


@pytest.mark.parametrize("file", KERNELS)
def test_emitted_source_is_what_it_was(file: str, update_golden: bool) -> None:
    norm, features, dtype, target = KERNELS[file]
    compilation = cuda_compilation_of if target.startswith("cuda") else compilation_of
    source = compilation(norm, {"d": features}, dtype, target=target).lowered.source
    path = DIRECTORY / file
    if update_golden:
        path.write_text(source, encoding="utf-8")
    golden = path.read_text(encoding="utf-8")
    changed = difflib.unified_diff(golden.splitlines(), source.splitlines(), file, "emitted now", lineterm="")
    assert source == golden, "\n".join(changed)


def test_no_other_file_is_among_them() -> None:
    assert {path.name for path in DIRECTORY.glob("*.py")} == set(KERNELS)
