"""Batch, group and instance norm on images, channels first and last, side by side with PyTorch eager.

    python benchmarks/family.py [--torch PYTHON] [--threads 1,2] [--rounds 5] [--json FILE]

Forward and backward in float32, both sides writing into memory that is mapped already where they can: ours
with ``out=``. Every contender runs in processes of its own, in turn; a figure is the median over rounds of
each process' median, with the least and the largest beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from compare import TIMER, machine, measure, spread

_SHAPES = ((32, 64, 56, 56), (8, 256, 28, 28), (64, 2048))

_LNCOMPILE = (
    TIMER
    + f"""
import numpy as np
import lncompile as lnc
rng = np.random.default_rng(0)
result = {{}}
def run(name, norm, x, dy, several, **sizes):
    c = x.shape[-1] if "last" in name else x.shape[1]
    w, b = (rng.standard_normal(c, np.float32) for _ in "wb")
    y, ctx = norm.forward(x, w, b, **sizes)
    entering = (dy, None, None) if several else dy
    g = norm.backward(entering, ctx)
    result[name + " forward us"] = median_us(lambda: norm(x, w, b, out=y, **sizes))
    result[name + " backward us"] = median_us(lambda: norm.backward(entering, ctx, out=g))
for shape in {_SHAPES}:
    text = "x".join(map(str, shape))
    x, dy = (rng.standard_normal(shape, np.float32) for _ in "xd")
    run(f"batch norm {{text}} first", lnc.batch_norm, x, dy, True)
    run(f"group norm {{text}} first", lnc.group_norm, x, dy, False, g=32)
    if len(shape) == 2:
        continue
    run(f"instance norm {{text}} first", lnc.instance_norm, x, dy, False)
    x, dy = (np.ascontiguousarray(array.transpose(0, 2, 3, 1)) for array in (x, dy))
    run(f"batch norm {{text}} last", lnc.batch_norm.over("[n h w] c"), x, dy, True)
    run(f"group norm {{text}} last", lnc.group_norm.over("n [h w] (g [c])"), x, dy, False, g=32)
    run(f"instance norm {{text}} last", lnc.instance_norm.over("n [h w] c"), x, dy, False)
print(json.dumps(result))
"""
)

_TORCH = (
    TIMER
    + f"""
import torch
import torch.nn.functional as F
torch.set_num_threads(int(sys.argv[1]))
result = {{}}
norms = {{
    "batch": lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
    "group": lambda x, w, b: F.group_norm(x, 32, w, b),
    "instance": lambda x, w, b: F.instance_norm(x, None, None, w, b),
}}
for shape in {_SHAPES}:
    for layout in ("first", "last")[: len(shape) - 1]:
        for name, norm in norms.items():
            if len(shape) == 2 and (name == "instance" or layout == "last"):
                continue
            order = torch.channels_last if layout == "last" else torch.contiguous_format
            x, dy = (torch.randn(shape).contiguous(memory_format=order) for _ in "xd")
            w, b = torch.randn(shape[1]), torch.randn(shape[1])
            text = f"{{name}} norm {{'x'.join(map(str, shape))}} {{layout}}"
            with torch.no_grad():
                result[text + " forward us"] = median_us(lambda: norm(x, w, b))
            leaves = [leaf.detach().requires_grad_() for leaf in (x, w, b)]
            y = norm(*leaves)
            backward = lambda: torch.autograd.grad(y, leaves, dy, retain_graph=True)
            result[text + " backward us"] = median_us(backward)
print(json.dumps(result))
"""
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--torch", default=sys.executable)
    parser.add_argument("--threads", default=f"1,{os.cpu_count()}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results: dict[str, object] = {"machine": machine(), "rounds": options.rounds}
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
            print(f"\n{threads} thread(s), float32: median (least .. largest)")
            for name, (median, least, largest) in table["lncompile"].items():
                line = f"  {name:<44} {median:9.0f} ({least:.0f} .. {largest:.0f})"
                if name in table["torch"]:
                    against = table["torch"][name]
                    line += f"   torch {against[0]:9.0f} ({against[1]:.0f} .. {against[2]:.0f})"
                    line += f"   {against[0] / median:5.2f} times as fast"
                print(line)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
