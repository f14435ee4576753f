"""Kernels built ahead of time: how long the build takes, and a call from C.

    python benchmarks/ahead.py [--rounds 5]

Builds layer norm for three CPU levels in two dtypes with two processes, the compiler being imported already,
and calls forward on 1x64 in a loop of a C program (needs a C compiler). Prints the median of the rounds, with
the least and the largest.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from time import perf_counter

import lncompile as lnc
from lncompile.aot import directory
from lncompile.aot.build import build
from lncompile.aot.cpu.product import import_compiler
from lncompile.aot.workers import compiled
from lncompile.cli.request import Request

LEVELS = ("cpu:x86-64-v2", "cpu:x86-64-v3", "cpu:x86-64-v4")
CALLS = 200_000
PROGRAM = f"""
#include <stdio.h>
#include <time.h>
#include "layer_norm_64_float32.h"

static double now(void) {{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}}

int main(void) {{
    static float x[64], weight[64], bias[64], y[64], mu_high[1], mu_low[1], rstd[1];
    for (int i = 0; i < 64; i++) x[i] = i * 0.37f;
    double start = now();
    for (int i = 0; i < {CALLS}; i++)
        lnc_layer_norm_64_float32_forward(x, weight, bias, y, mu_high, mu_low, rstd, 1, 0, 1);
    printf("%f", (now() - start) / {CALLS});
    return 0;
}}
"""


def build_seconds() -> float:
    """Layer norm of 1024 features: three levels, two dtypes."""
    start = perf_counter()
    request = Request(lnc.layer_norm, "layer_norm", ((4096, 1024),), ("float32", "bfloat16"), LEVELS, {})
    build(request.wanted(), lambda parts: compiled(parts, 2, nullcontext(lambda: None)))
    return perf_counter() - start


def program(work: Path, compiler: str) -> Path:
    """The program that times calls."""
    request = Request(lnc.layer_norm, "layer_norm", ((1, 64),), ("float32",), LEVELS, {})
    built = build(request.wanted(), lambda parts: compiled(parts, 2, nullcontext(lambda: None)))
    directory.write(work / "dist", built.files)
    (work / "main.c").write_text(PROGRAM)
    library = work / "dist" / "layer_norm_64_float32.so"
    options = ["-O2", f"-I{work / 'dist'}", f"-Wl,-rpath,{work / 'dist'}", "-o", str(work / "main")]
    subprocess.run([compiler, str(work / "main.c"), str(library), *options], check=True)
    return work / "main"


def shown(what: str, values: list[float], unit: str) -> None:
    print(f"{what:<44} {median(values):.3g} ({min(values):.3g}–{max(values):.3g}) {unit}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    start = perf_counter()
    import_compiler()
    print(f"{'imports':<44} {perf_counter() - start:.3g} s")
    shown("build, 3 levels, 2 dtypes, 2 processes", [build_seconds() for _ in range(rounds)], "s")
    compiler = shutil.which("cc")
    if compiler is None:
        print("no C compiler: no calls")
        return
    with tempfile.TemporaryDirectory() as work:
        path = program(Path(work), compiler)
        times = [float(subprocess.check_output([path])) for _ in range(rounds)]
    shown("forward 1x64 called from C", times, "ns")


if __name__ == "__main__":
    main()
