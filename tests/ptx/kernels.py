"""Small kernels for the interpreter's own tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import execute
from .scalars import Array

HEADER = ".version 8.8\n.target sm_90\n.address_size 64\n"


def module(parameters: str, body: str, before: str = "") -> str:
    """A module of one entry ``k`` with registers of every width; ``parameters`` like ``u64 x, u32 n``."""
    declared = ",\n".join(
        ".param .{} k_{}".format(*parameter.split())
        for parameter in parameters.split(",")
        if parameter.strip()
    )
    return f"""{HEADER}{before}
.visible .entry k({declared})
{{
    .reg .pred %p<10>;
    .reg .b16 %h<30>;
    .reg .b32 %r<60>;
    .reg .f32 %f<60>;
    .reg .b64 %d<60>;
    .reg .f64 %g<20>;
{body}
    ret;
}}
"""


def lanewise(instructions: str, *inputs: Array, result: Any) -> Array:
    """What instructions leave in %q, for each element of inputs in %a, %b and %c; one thread an element."""
    count = len(inputs[0])
    out = np.zeros(count, result)
    widths = {name: 8 * array.dtype.itemsize for name, array in zip("abcq", [*inputs, out], strict=False)}
    widths["q"] = 8 * out.dtype.itemsize
    names = [*"abc"[: len(inputs)]]
    lines = [f"    .reg .b{widths[name]} %{name};" for name in [*names, "q"]]
    lines += ["    mov.u32 %r50, %tid.x;", "    mov.u32 %r51, %ctaid.x;", "    mov.u32 %r52, %ntid.x;"]
    lines += ["    mad.lo.u32 %r50, %r51, %r52, %r50;"]
    for name in [*names, "q"]:
        lines += [f"    ld.param.u64 %d50, [k_{name}];", f"    mul.wide.u32 %d51, %r50, {widths[name] // 8};"]
        lines += [f"    add.u64 %d5{'abcq'.index(name) + 2}, %d50, %d51;"]
        if name != "q":
            lines += [f"    ld.global.b{widths[name]} %{name}, [%d5{'abcq'.index(name) + 2}];"]
    lines += [instructions, f"    st.global.b{widths['q']} [%d55], %q;"]
    ptx = module(", ".join(f"u64 {name}" for name in [*names, "q"]), "\n".join(lines))
    arrays = dict(zip(names, inputs, strict=True)) | {"q": out}
    block = 32 if count % 32 == 0 else count
    return execute(
        ptx,
        arrays,
        [*names, "q"],
        grid=(count // block, 1, 1),
        block=(block, 1, 1),
        read_only=names,
        unwritten=["q"],
    )["q"]
