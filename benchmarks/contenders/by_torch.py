"""PyTorch, eager: the functions of ``torch.nn.functional``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..grid import EPS, GROUPS, Case
from . import Prepared
from .data import arrays

Function = Callable[..., Any]


def start(threads: int) -> dict[str, str]:
    """Import it and set its threads."""
    import torch

    torch.set_num_threads(threads)
    return {"torch": torch.__version__}


def prepare(case: Case, mode: str) -> Prepared:
    """The case in eager mode."""
    return prepare_with(case, mode, lambda function: function)


def prepare_with(case: Case, mode: str, wrap: Callable[[Function], Function]) -> Prepared:
    """The case, its function put through ``wrap``.

    Backward is ``torch.autograd.grad``, the forward having been recorded once.
    """
    import torch

    given = arrays(case, mode)
    leaves = [_tensor(array) for array in (given.x, *given.parameters)]
    if case.layout == "last":
        leaves[0] = leaves[0].permute(0, 3, 1, 2)
    names: dict[str, Any] = {"f": wrap(_function(case)), "torch": torch}
    names |= dict(zip(("x", "weight", "bias"), leaves, strict=False))
    arguments = "x, weight, bias" if case.has_bias else "x, weight"
    if case.phase == "forward":
        torch.set_grad_enabled(False)
        return Prepared({"": f"f({arguments})"}, names, lambda: [_array(names["f"](*leaves), case)])
    torch.set_grad_enabled(True)
    for leaf in leaves:
        leaf.requires_grad_()
    dy = _tensor(given.dy)
    names["dy"] = dy.permute(0, 3, 1, 2) if case.layout == "last" else dy
    names["y"] = names["f"](*leaves)
    statement = f"torch.autograd.grad(y, ({arguments}), dy, retain_graph=True)"

    def results() -> list[Any]:
        gradients = torch.autograd.grad(names["y"], leaves, names["dy"], retain_graph=True)
        return [_array(gradients[0], case), *(_array(g, None) for g in gradients[1:])]

    return Prepared({"": statement}, names, results)


def _function(case: Case) -> Function:
    import torch.nn.functional as F

    features = (case.channels,)
    functions: dict[str, Function] = {
        "layer_norm": lambda x, weight, bias: F.layer_norm(x, features, weight, bias, EPS),
        "rms_norm": lambda x, weight: F.rms_norm(x, features, weight, EPS),
        "batch_norm": lambda x, weight, bias: F.batch_norm(
            x, None, None, weight, bias, training=True, eps=EPS
        ),
        "group_norm": lambda x, weight, bias: F.group_norm(x, GROUPS, weight, bias, EPS),
        "instance_norm": lambda x, weight, bias: F.instance_norm(x, None, None, weight, bias, eps=EPS),
    }
    return functions[case.norm]


def _tensor(array: Any) -> Any:
    """The array's memory as a tensor."""
    import torch

    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view("uint16")).view(torch.bfloat16)
    return torch.from_numpy(array)


def _array(tensor: Any, case: Case | None) -> Any:
    """A result as an array in the order of memory."""
    tensor = tensor.detach().float()
    if case is not None and case.layout == "last":
        tensor = tensor.permute(0, 2, 3, 1)
    return tensor.numpy()
