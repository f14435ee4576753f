"""The normalizations of ``torch.nn.functional``, on NumPy arrays: the same names, argument order and defaults.

More parameters stand at the end only: ``out`` receives the result and is returned.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from lncompile import arrays as arr
from lncompile import norms
from lncompile.dtypes import TABLE, compute_dtype
from lncompile.errors import LncTypeError, LncValueError


def layer_norm(
    input: Any,
    normalized_shape: Sequence[int],
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    *,
    out: Any = None,
) -> Any:
    """Layer normalization over the last ``len(normalized_shape)`` dimensions (arXiv 1607.06450).

    ``weight`` and ``bias`` have the shape ``normalized_shape``. Raises ``LncError`` where shapes do not fit.
    """
    flat = _flattened(input, normalized_shape, {"weight": weight, "bias": bias}, out)
    return _restored(norms.layer_norm(flat.x, flat.weight, flat.bias, out=flat.out, eps=eps), flat, out)


def rms_norm(
    input: Any, normalized_shape: Sequence[int], weight: Any = None, eps: float | None = None, *, out: Any = None
) -> Any:
    """RMS normalization over the last ``len(normalized_shape)`` dimensions (arXiv 1910.07467).

    ``eps=None`` is the machine epsilon of the type that is computed in: float32, or float64 for float64 arrays.
    """
    flat = _flattened(input, normalized_shape, {"weight": weight}, out)
    if eps is None:
        given = [("input", flat.x)] + ([] if flat.weight is None else [("weight", flat.weight)])
        compute = compute_dtype(arr.dtype_name(name, array) for name, array in given)
        eps = float(np.finfo(TABLE[compute].numpy).eps)
    return _restored(norms.rms_norm(flat.x, flat.weight, out=flat.out, eps=eps), flat, out)


class _Flat:
    """Arrays with their normalized dimensions made one, and the shape to go back to."""

    def __init__(self, x: arr.Array, weight: Any, bias: Any, out: Any) -> None:
        self.x = x
        self.weight = weight
        self.bias = bias
        self.out = out


def _flattened(input: Any, normalized_shape: Sequence[int], parameters: dict[str, Any], out: Any) -> _Flat:
    x = arr.checked("input", input)
    try:
        shape = tuple(operator.index(size) for size in normalized_shape)
    except TypeError:
        raise LncTypeError(f"normalized_shape: expected a sequence of ints; got {normalized_shape!r}") from None
    if not shape:
        raise LncValueError("normalized_shape: expected at least one dimension; got ()")
    if x.shape[len(x.shape) - len(shape) :] != shape or x.ndim < len(shape):
        raise LncValueError(f"input: expected a shape that ends in normalized_shape={shape}; got {x.shape}")
    count = int(np.prod(shape, dtype=np.int64))
    flat: dict[str, Any] = {}
    for name, value in parameters.items():
        if value is not None:
            value = arr.checked(name, value)
            if value.shape != shape:
                raise LncValueError(f"{name}: expected shape {shape}, that of normalized_shape; got {value.shape}")
            value = value.reshape(count)
        flat[name] = value
    if out is not None:
        out = arr.check_output("out", out, x.shape, arr.dtype_name("input", x))
    if len(shape) == 1:
        return _Flat(x, flat["weight"], flat.get("bias"), out)
    batch = x.shape[: x.ndim - len(shape)]
    return _Flat(x.reshape(*batch, count), flat["weight"], flat.get("bias"), None)


def _restored(result: arr.Array, flat: _Flat, out: Any) -> Any:
    if out is None or result is out:
        return result
    return result
