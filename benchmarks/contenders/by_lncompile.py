"""lncompile, as imported in this process."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from ..grid import GROUPS, Case
from . import Prepared
from .data import aligned, arrays

#: The patterns of channels last.
_LAST = {
    "batch_norm": "[n h w] c",
    "group_norm": "n [h w] (g [c])",
    "instance_norm": "n [h w] c",
}


def start(threads: int) -> dict[str, str]:
    """Import it; its version, and the digest of its sources, by which results of other sources are told."""
    import numpy

    import lncompile

    lncompile.set_num_threads(threads)
    return {
        "lncompile": lncompile.__version__,
        "sources": _digest(Path(lncompile.__file__).parent),
        "numpy": numpy.__version__,
    }


def prepare(case: Case, mode: str) -> Prepared:
    """The case as a call of the norm."""
    norm, sizes = _norm(case)
    given = arrays(case, mode)
    inputs = (given.x, *given.parameters)
    names: dict[str, Any] = {"norm": norm, "x": given.x, "weight": given.weight, "bias": given.bias}
    outputs, ctx = norm.forward(*inputs, **sizes)
    several = isinstance(outputs, tuple)
    if case.phase == "forward":
        if mode == "mapped":
            y = aligned(given.x.shape, given.x.dtype)
            outputs = (y, *outputs[1:]) if several else y
            norm(*inputs, out=outputs, **sizes)
        names |= {"out": outputs}
        arguments = "x, weight, bias" if case.has_bias else "x, weight"
        arguments += "".join(f", {name}={size}" for name, size in sizes.items())
        arguments += ", out=out" if mode == "mapped" else ""
        return Prepared({"": f"norm({arguments})"}, names, lambda: [outputs[0] if several else outputs])
    names |= {"dy": (given.dy, *(None for _ in outputs[1:])) if several else given.dy, "ctx": ctx}
    gradients = norm.backward(names["dy"], ctx)
    if mode == "mapped":
        gradients = gradients._replace(x=aligned(given.x.shape, given.x.dtype))
        norm.backward(names["dy"], ctx, out=gradients)
    names |= {"gradients": gradients}
    out = ", out=gradients" if mode == "mapped" else ""
    return Prepared({"": f"norm.backward(dy, ctx{out})"}, names, lambda: list(gradients))


def memory(case: Case) -> dict[str, int]:
    """Bytes of x, of the arrays that the forward keeps for the backward, and of the phase's workspaces."""
    from lncompile.buffers import allocator, with_role

    norm, sizes = _norm(case)
    given = arrays(case, "called")
    _, ctx = norm.forward(given.x, *given.parameters, **sizes)
    offered = ctx.kernel.interface
    phase = offered.forward if case.phase == "forward" else offered.backward
    workspaces = allocator(phase, with_role(phase, "workspace"))(given.x)
    return {
        "x": given.x.nbytes,
        "saved": sum(array.nbytes for array in ctx.saved if array is not None),
        "workspace": sum(array.nbytes for array in workspaces),
    }


def _norm(case: Case) -> tuple[Any, dict[str, int]]:
    """The norm on the case's layout, and the sizes that calls give by name."""
    import lncompile

    norm = getattr(lncompile, case.norm)
    if case.layout == "last":
        norm = norm.over(_LAST[case.norm])
    return norm, {"g": GROUPS} if case.norm == "group_norm" else {}


def _digest(package: Path) -> str:
    """The first digits of the SHA-256 of the package's Python files and its templates."""
    folders = [package, package.parent / "templates"] if not (package / "templates").is_dir() else [package]
    total = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            total.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return total.hexdigest()[:12]
