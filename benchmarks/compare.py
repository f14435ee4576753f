"""The figures of the README: calls, start-up and large arrays, side by side with PyTorch and a copy.

    python benchmarks/compare.py [--torch PYTHON] [--threads 1,2] [--json FILE]

Every contender runs in processes of its own (two OpenMP pools in one process fight over the cores), which are
started in turn, ``--rounds`` times; a figure is the median over rounds of each process' median, with the
least and the largest beside it. ``--torch`` names a Python that has PyTorch; without it that column is empty.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROWS, FEATURES = 4096, 1024

TIMER = """
import time, statistics, json, sys
def median_us(run, repeats=15, inner=1):
    run(); run()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        for _ in range(inner):
            run()
        times.append((time.perf_counter() - begin) / inner * 1e6)
    return statistics.median(times)
"""

_LNCOMPILE = (
    TIMER
    + f"""
import numpy as np
begin = time.perf_counter(); import lncompile as lnc; imported = time.perf_counter() - begin
small = np.ones((1, 64), np.float32); weight, bias = np.ones(64, np.float32), np.zeros(64, np.float32)
begin = time.perf_counter(); lnc.layer_norm(small, weight, bias); first = time.perf_counter() - begin
light = not {{"numba", "llvmlite"}} & set(sys.modules)
target = np.empty_like(small)
calls = 20000
result = {{"import ms": imported * 1e3, "first call ms": first * 1e3, "first call is a cache hit": light}}
into = lambda: lnc.layer_norm(small, weight, bias, out=target)
result["call 1x64 out= ns"] = 1e3 * median_us(into, 9, calls)
result["call 1x64 ns"] = 1e3 * median_us(lambda: lnc.layer_norm(small, weight, bias), 9, calls)
rng = np.random.default_rng(0)
x, dy = (rng.standard_normal(({ROWS}, {FEATURES}), np.float32) for _ in "xd")
w, b = (rng.standard_normal({FEATURES}, np.float32) for _ in "wb")
y = np.empty_like(x)
result["forward us"] = median_us(lambda: lnc.layer_norm(x, w, b))
result["forward out= us"] = median_us(lambda: lnc.layer_norm(x, w, b, out=y))
_, ctx = lnc.layer_norm.forward(x, w, b)
g = lnc.layer_norm.backward(dy, ctx)
result["backward us"] = median_us(lambda: lnc.layer_norm.backward(dy, ctx))
result["backward out= us"] = median_us(lambda: lnc.layer_norm.backward(dy, ctx, out=g))
result["copy us"] = median_us(lambda: np.copyto(y, x))
print(json.dumps(result))
"""
)

_TORCH = (
    TIMER
    + f"""
import torch
torch.set_num_threads(int(sys.argv[1]))
F = torch.nn.functional.layer_norm
result = {{}}
small, weight, bias = torch.ones(1, 64), torch.ones(64), torch.zeros(64)
with torch.no_grad():
    result["call 1x64 ns"] = 1e3 * median_us(lambda: F(small, (64,), weight, bias), 9, 5000)
x = torch.randn({ROWS}, {FEATURES}, requires_grad=True)
w, b = (torch.randn({FEATURES}, requires_grad=True) for _ in "wb")
dy = torch.randn({ROWS}, {FEATURES})
with torch.no_grad():
    result["forward us"] = median_us(lambda: F(x, ({FEATURES},), w, b))
y = F(x, ({FEATURES},), w, b)
result["backward us"] = median_us(lambda: torch.autograd.grad(y, (x, w, b), dy, retain_graph=True))
print(json.dumps(result))
"""
)


def measure(python: str, program: str, threads: int, cache: str) -> dict[str, float] | None:
    """What one process of a contender reports; None if it cannot run."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "LNCOMPILE_CACHE_DIR": cache}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        [python, "-c", program, str(threads)], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.stderr.write(done.stderr.strip().splitlines()[-1] + "\n")
        return None
    report: dict[str, float] = json.loads(done.stdout)
    return report


def spread(reports: list[dict[str, float]]) -> dict[str, tuple[float, float, float]]:
    """Each figure's median, least and largest value."""
    return {
        name: (statistics.median(values), min(values), max(values))
        for name in (reports[0] if reports else {})
        for values in [[report[name] for report in reports]]
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--torch", default=sys.executable)
    parser.add_argument("--threads", default=f"1,{os.cpu_count()}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results: dict[str, object] = {"machine": machine(), "shape": [ROWS, FEATURES], "rounds": options.rounds}
    with tempfile.TemporaryDirectory() as cache:
        measure(sys.executable, _LNCOMPILE, 1, cache)  # compiles; what follows starts from a warm cache
        for threads in dict.fromkeys(int(text) for text in options.threads.split(",")):
            ours, torch = [], []
            for _ in range(options.rounds):
                ours.append(measure(sys.executable, _LNCOMPILE, threads, cache))
                torch.append(measure(options.torch, _TORCH, threads, cache))
            table = {
                "lncompile": spread([report for report in ours if report]),
                "torch": spread([report for report in torch if report]),
            }
            results[f"{threads} threads"] = table
            _print(threads, table)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(results, indent=1) + "\n")


def _print(threads: int, table: dict[str, dict[str, tuple[float, float, float]]]) -> None:
    print(f"\n{threads} thread(s), layer_norm float32, {ROWS}x{FEATURES}: median (least .. largest)")
    for name, (median, least, largest) in table["lncompile"].items():
        against = table["torch"].get(name.replace(" out=", ""))
        torch = f"   torch {against[0]:9.1f} ({against[1]:.1f} .. {against[2]:.1f})" if against else ""
        print(f"  {name:<26} {median:9.1f} ({least:.1f} .. {largest:.1f}){torch}")


def machine() -> str:
    """The CPU and its number of cores."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor()
    return f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}"


if __name__ == "__main__":
    main()
