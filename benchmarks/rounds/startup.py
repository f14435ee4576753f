"""What a process pays once: the import, the first call with the kernel in the cache, compiling a pair.

Each is measured in new processes, one a round.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

from .processes import Contender, environment

_WARM = """
import sys, time
sys.path[:] = [path for path in sys.path if path]
import numpy as np
begin = time.perf_counter()
import lncompile as lnc
imported = time.perf_counter()
x = np.ones((1, 64), np.float32)
weight, bias = np.ones(64, np.float32), np.zeros(64, np.float32)
ready = time.perf_counter()
lnc.layer_norm(x, weight, bias)
called = time.perf_counter()
assert not {"numba", "llvmlite"} & set(sys.modules), "the kernel was not in the cache"
print([(imported - begin) * 1e3, (called - ready) * 1e3])
"""

_COLD = """
import sys, time
sys.path[:] = [path for path in sys.path if path]
import numpy, numba
import lncompile as lnc
begin = time.perf_counter()
lnc.compile(lnc.layer_norm, shape=(4096, 1024), dtype="float32")
print([time.perf_counter() - begin])
"""


class CannotRun(Exception):
    """A process of lncompile failed; the message is its last line."""


def measure(contender: Contender, rounds: int, advance: Callable[[str], None]) -> dict[str, dict[str, Any]]:
    """Milliseconds of the import and the first call, seconds of compiling, with least and largest.

    Raises:
        CannotRun: a process ended with an error.
    """
    found: dict[str, list[float]] = {"import_ms": [], "first_call_ms": [], "compile_s": []}
    with tempfile.TemporaryDirectory(prefix="lncompile-bench-") as cache:
        warm = {"LNCOMPILE_CACHE_DIR": os.path.join(cache, "warm")}
        # Fills the cache; the bytecode of modules too.
        _output(contender, _WARM.partition("assert")[0] + "print([])", warm)
        for index in range(rounds):
            advance("import and first call")
            imported, called = _output(contender, _WARM, warm)
            found["import_ms"].append(imported)
            found["first_call_ms"].append(called)
            advance("compile")
            cold = {"LNCOMPILE_CACHE_DIR": os.path.join(cache, str(index))}
            found["compile_s"] += _output(contender, _COLD, cold)
    return {
        name: {
            "median": statistics.median(values),
            "least": min(values),
            "largest": max(values),
            "rounds": [float(f"{value:.4g}") for value in values],
        }
        for name, values in found.items()
    }


def _output(contender: Contender, program: str, settings: Mapping[str, str]) -> list[float]:
    variables = environment(contender, 1, "called", os.environ | settings)
    # An import from source is not what a second process pays.
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        [contender.python, "-c", program],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise CannotRun((done.stderr.strip().splitlines() or ["no output"])[-1])
    values: list[float] = json.loads(done.stdout)
    return values
