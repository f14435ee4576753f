"""The same results as PyTorch, where it is installed."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import lncompile as lnc
import lncompile.functional as F

torch = pytest.importorskip("torch")

#: Both sides are off by some dozens of roundings, of values of about ten at most.
TOLERANCE = {np.float32: 64 * 2.0**-24 * 10, np.float64: 64 * 2.0**-53 * 10}


def floats(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("shape", "count"), [((4, 33), 1), ((2, 3, 5), 2)])
def test_forward(shape: tuple[int, ...], count: int, dtype: Any) -> None:
    x = floats(*shape, dtype=dtype)
    last = shape[-count:]
    weight, bias = floats(*last, seed=1, dtype=dtype), floats(*last, seed=2, dtype=dtype)
    theirs = torch.nn.functional
    t = [torch.from_numpy(a) for a in (x, weight, bias)]
    for ours, others in (
        (F.layer_norm(x, last, weight, bias), theirs.layer_norm(t[0], last, t[1], t[2])),
        (F.layer_norm(x, last, eps=0.1), theirs.layer_norm(t[0], last, eps=0.1)),
        (F.rms_norm(x, last, weight), theirs.rms_norm(t[0], last, t[1])),
        (F.rms_norm(x, last, eps=0.1), theirs.rms_norm(t[0], last, eps=0.1)),
    ):
        np.testing.assert_allclose(ours, others.numpy(), rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_backward(name: str, dtype: Any) -> None:
    x, weight, bias, dy = (
        floats(*shape, seed=at, dtype=dtype) for at, shape in enumerate([(4, 33), (33,), (33,), (4, 33)])
    )
    rest = [weight, bias][: 2 if name == "layer_norm" else 1]
    _, ctx = getattr(lnc, name).forward(x, *rest)
    tensors = [torch.from_numpy(a).requires_grad_() for a in (x, *rest)]
    y = getattr(torch.nn.functional, name)(tensors[0], (33,), *tensors[1:], eps=1e-5)
    y.backward(torch.from_numpy(dy))
    for ours, tensor in zip(getattr(lnc, name).backward(dy, ctx), tensors, strict=True):
        np.testing.assert_allclose(ours, tensor.grad.numpy(), rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("name", [n for n in F.__dict__ if n.endswith("_norm")])
def test_parameters_have_torchs_names_and_order(name: str) -> None:
    ours = list(inspect.signature(getattr(F, name)).parameters)
    theirs = list(inspect.signature(getattr(torch.nn.functional, name)).parameters)
    assert ours[: len(theirs)] == theirs
