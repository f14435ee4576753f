"""Layer norm and RMS norm in Triton, as its users write them: a row a program, gradients by autograd.

Forward, a program has a row in registers. Backward, each of a few hundred programs takes every so many-th row
and adds up its gradients of the parameters, and a second kernel adds up theirs, without locks.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

#: Bytes of a row at most, as Triton's own examples have it: registers hold no more.
_ROW_BYTES = 65536
#: Programs of the backward for each multiprocessor.
_PROGRAMS = 4


def layer_norm(x: Any, weight: Any, bias: Any, eps: float = 1e-5) -> Any:
    """Layer norm of x [rows, features], differentiable."""
    return _Norm.apply(x, weight, bias, eps)


def rms_norm(x: Any, weight: Any, eps: float = 1e-5) -> Any:
    """RMS norm of x [rows, features], differentiable."""
    return _Norm.apply(x, weight, None, eps)


def _forward(  # type: ignore[no-untyped-def]
    x, y, weight, bias, mean, rstd, features, eps, BLOCK: tl.constexpr, CENTRED: tl.constexpr
):
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    there = at < features
    start = tl.cast(row, tl.int64) * features
    value = tl.load(x + start + at, mask=there, other=0.0).to(tl.float32)
    if CENTRED:
        middle = tl.sum(value, 0) / features
        tl.store(mean + row, middle)
        value = tl.where(there, value - middle, 0.0)
    scale = 1.0 / tl.sqrt(tl.sum(value * value, 0) / features + eps)
    tl.store(rstd + row, scale)
    value = value * scale * tl.load(weight + at, mask=there, other=0.0).to(tl.float32)
    if CENTRED:
        value += tl.load(bias + at, mask=there, other=0.0).to(tl.float32)
    tl.store(y + start + at, value, mask=there)


def _backward(  # type: ignore[no-untyped-def]
    x, dy, dx, weight, mean, rstd, dweight, dbias, rows, features, BLOCK: tl.constexpr, CENTRED: tl.constexpr
):
    first = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    there = at < features
    factor = tl.load(weight + at, mask=there, other=0.0).to(tl.float32)
    of_weight = tl.zeros((BLOCK,), tl.float32)
    of_bias = tl.zeros((BLOCK,), tl.float32)
    for row in range(first, rows, tl.num_programs(0)):
        start = tl.cast(row, tl.int64) * features
        value = tl.load(x + start + at, mask=there, other=0.0).to(tl.float32)
        gradient = tl.load(dy + start + at, mask=there, other=0.0).to(tl.float32)
        scale = tl.load(rstd + row)
        if CENTRED:
            value = tl.where(there, value - tl.load(mean + row), 0.0)
            of_bias += gradient
        value *= scale
        of_weight += gradient * value
        gradient *= factor
        left = gradient - value * (tl.sum(gradient * value, 0) / features)
        if CENTRED:
            left -= tl.sum(gradient, 0) / features
        tl.store(dx + start + at, left * scale, mask=there)
    tl.store(dweight + first * features + at, of_weight, mask=there)
    if CENTRED:
        tl.store(dbias + first * features + at, of_bias, mask=there)


def _columns(  # type: ignore[no-untyped-def]
    parts, total, count, features, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    at = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    sums = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, count, ROWS):
        row = start + tl.arange(0, ROWS)
        there = (row[:, None] < count) & (at[None, :] < features)
        sums += tl.load(parts + row[:, None] * features + at[None, :], mask=there, other=0.0)
    tl.store(total + at, tl.sum(sums, 0), mask=at < features)


_forward_kernel, _backward_kernel, _columns_kernel = map(triton.jit, (_forward, _backward, _columns))


class _Norm(torch.autograd.Function):  # type: ignore[misc]
    """Both norms; the one without a bias is not centred."""

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, bias: Any, eps: float) -> Any:
        rows, features = x.shape
        if features * x.element_size() > _ROW_BYTES:
            raise ValueError(f"expected rows of at most {_ROW_BYTES} bytes; got {features} features")
        y = torch.empty_like(x)
        mean, rstd = (torch.empty(rows, dtype=torch.float32, device=x.device) for _ in range(2))
        sizes = _sizes(features, bias)
        _forward_kernel[(rows,)](x, y, weight, bias, mean, rstd, features, eps, **sizes)
        ctx.save_for_backward(x, weight, bias, mean, rstd)
        return y

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        x, weight, bias, mean, rstd = ctx.saved_tensors
        (dy,) = cotangents
        rows, features = x.shape
        programs = min(rows, _PROGRAMS * _multiprocessors(x))
        dx = torch.empty_like(x)
        parts = [
            torch.empty((programs, features), dtype=torch.float32, device=x.device) for _ in (weight, bias)
        ]
        sizes = _sizes(features, bias)
        _backward_kernel[(programs,)](x, dy, dx, weight, mean, rstd, *parts, rows, features, **sizes)
        summed = [
            None if like is None else _summed(part, like)
            for part, like in zip(parts, (weight, bias), strict=True)
        ]
        return dx, *summed, None


def _summed(parts: Any, like: Any) -> Any:
    """The sum of the rows, as a parameter's gradient."""
    count, features = parts.shape
    total = torch.empty_like(like)
    columns = 64
    grid = (triton.cdiv(features, columns),)
    _columns_kernel[grid](parts, total, count, features, ROWS=32, COLUMNS=columns)
    return total


def _sizes(features: int, bias: Any) -> dict[str, Any]:
    """What the kernels are compiled for: a warp for every 256 elements of a row, 16 at most."""
    block = triton.next_power_of_2(features)
    return {"BLOCK": block, "CENTRED": bias is not None, "num_warps": min(max(block // 256, 1), 16)}


def _multiprocessors(x: Any) -> int:
    return int(torch.cuda.get_device_properties(x.device).multi_processor_count)
