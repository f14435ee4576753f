"""What is imported when: nothing heavy by ``import lncompile``, nor by calls that the cache serves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

#: None of these is needed before something is compiled, asked on the command line, or run on a GPU.
HEAVY = ["numba", "llvmlite", "click", "rich", "torch", "cupy", "scipy"]


def imported_by(program: str, cache: Path) -> set[str]:
    """Which of the heavy packages a new process has imported when ``program`` has run."""
    text = f"{program}\nimport sys\nprint(*(set({HEAVY!r}) & sys.modules.keys()))"
    result = subprocess.run(
        [sys.executable, "-c", text],
        capture_output=True,
        text=True,
        timeout=100,
        env=os.environ | {"LNCOMPILE_CACHE_DIR": str(cache)},
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


def test_import(tmp_path: Path) -> None:
    assert imported_by("import lncompile", tmp_path) == set()
    assert imported_by("import lncompile.functional", tmp_path) == set()
    assert not any(tmp_path.iterdir()), "an import needs no cache"


def test_the_definition_of_a_norm(tmp_path: Path) -> None:
    assert imported_by(DEFINITION, tmp_path) == set()


DEFINITION = """
import numpy as np
import lncompile as lnc

@lnc.norm("... [d]", weight="d")
def centred(x, weight=1.0):
    return (x - lnc.mean(x)) * weight

x = np.ones((2, 8), np.float32)
"""

CALLS = {
    "call": "lnc.layer_norm(x)",
    "forward and backward": "y, ctx = centred.forward(x, x[0].copy()); centred.backward(y, ctx)",
    "out": "lnc.rms_norm(x, out=x)",
    "odd arrays": "lnc.rms_norm(x[:, ::2].astype('>f4'))",
    "options": "lnc.layer_norm(x, eps=0.5, out_dtype='float64')",
    "functional": "import lncompile.functional as F; F.layer_norm(x, (2, 8))",
    "compile": "k = lnc.compile(lnc.layer_norm, shape=(2, 8)); k(x, x[0].copy(), x[0].copy())",
    "threads": "lnc.set_num_threads(2); lnc.layer_norm(np.ones((9000, 8), np.float32))",
}


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that every call has filled."""
    cache = tmp_path_factory.mktemp("warm")
    assert "numba" in imported_by(DEFINITION + "\n".join(CALLS.values()), cache)
    return cache


@pytest.mark.parametrize("name", CALLS)
def test_a_first_call_from_a_warm_cache(name: str, warm: Path) -> None:
    assert imported_by(DEFINITION + CALLS[name], warm) == set()


_COMPILED = "import numpy as np, lncompile as lnc; lnc.rms_norm(np.ones((3, 8), np.float32))"
_OF_NUMBA = """
import numba
@numba.njit
def summed(a):
    names = {"x" + str(i): a[i] for i in range(a.size)}
    return names["x1"] + np.linalg.norm(a) + min([2.0, a.sum()])
assert summed(np.array([3.0, 4.0])) == 11.0
"""


@pytest.mark.parametrize("first", ["ours", "Numba's"])
def test_what_numba_compiles_beside(first: str, tmp_path: Path) -> None:
    # Kernels take a part of Numba that loads neither arrays nor SciPy; other functions have all of it.
    alone = imported_by(_COMPILED, tmp_path)
    assert "numba" in alone
    theirs, ours = "import numpy as np" + _OF_NUMBA, f"{_COMPILED.replace('8', '16')}\n"
    imported_by(ours + theirs if first == "ours" else f"{theirs}\n{ours}\n{theirs}", tmp_path)


def test_a_compile_does_not_load_numbas_arrays(tmp_path: Path) -> None:
    imported_by(f"{_COMPILED}\nimport sys; assert 'numba.np.arraymath' not in sys.modules", tmp_path)
