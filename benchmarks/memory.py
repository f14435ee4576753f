"""Calls that allocate their results, ``y = layer_norm(x, weight, bias)`` in a loop, with the pool and without

    python benchmarks/memory.py [--threads 1,2] [--rounds 5] [--seconds 0.2]

In one process, the ways in turn: results written to an array that is there (``out=``), from the pool, and
fresh from NumPy (``LNCOMPILE_POOL_BYTES=0``). The median over rounds, with the least and the largest.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import lncompile as lnc

_SHAPES = ((1024, 1024), (4096, 1024), (32768, 1024), (64, 65536))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", default=f"1,{os.cpu_count()}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.2)
    options = parser.parse_args()
    pool = lnc.get_pool_bytes()
    print(f"{'':<24}{'out=':>24}{'pool':>24}{'no pool':>24}  µs, median (least .. largest)")
    for threads in (int(text) for text in options.threads.split(",")):
        lnc.set_num_threads(threads)
        for shape in _SHAPES:
            for name, into, fresh in _ways(shape):
                times: dict[str, list[float]] = {"out=": [], "pool": [], "no pool": []}
                for _ in range(options.rounds):
                    times["out="].append(_seconds_each(into, options.seconds))
                    lnc.set_pool_bytes(pool)
                    times["pool"].append(_seconds_each(fresh, options.seconds))
                    lnc.set_pool_bytes(0)
                    times["no pool"].append(_seconds_each(fresh, options.seconds))
                texts = [
                    f"{statistics.median(t) * 1e6:.0f} ({min(t) * 1e6:.0f} .. {max(t) * 1e6:.0f})"
                    for t in times.values()
                ]
                print(
                    f"{threads} {'x'.join(map(str, shape)):<12} {name:<9}"
                    + "".join(f"{t:>24}" for t in texts)
                )


def _ways(shape: tuple[int, int]) -> list[tuple[str, Callable[[], Any], Callable[[], Any]]]:
    """For forward and backward: into arrays that are there, and into new ones."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape, np.float32)
    weight, bias = (rng.standard_normal(shape[1], np.float32) for _ in "wb")
    y, ctx = lnc.layer_norm.forward(x, weight, bias)
    g = lnc.layer_norm.backward(x, ctx)
    return [
        ("forward", lambda: lnc.layer_norm(x, weight, bias, out=y), lambda: lnc.layer_norm(x, weight, bias)),
        ("backward", lambda: lnc.layer_norm.backward(x, ctx, out=g), lambda: lnc.layer_norm.backward(x, ctx)),
    ]


def _seconds_each(run: Callable[[], Any], seconds: float) -> float:
    """The median time of a call; each result replaces the one before, as in a loop of a user's."""
    times: list[float] = []
    result = run()
    end = time.perf_counter() + seconds
    while (begin := time.perf_counter()) < end or len(times) < 3:
        result = run()
        times.append(time.perf_counter() - begin)
    del result
    return statistics.median(times)


if __name__ == "__main__":
    main()
