"""The normalizations of ``torch.nn.functional`` on NumPy arrays: the same names, argument order and defaults.

More parameters stand at the end only: ``out`` receives the result and is returned.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import cache
from typing import Any

from lncompile import arrays as arr
from lncompile import norms
from lncompile.dtypes import compute_dtype
from lncompile.errors import LncTypeError, LncValueError
from lncompile.norm import Norm

_EPSILON = {"float32": 2.0**-23, "float64": 2.0**-52}


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
    count = _check_shapes(input, normalized_shape, weight=weight, bias=bias)
    return _over_last(norms.layer_norm, count)(input, weight, bias, eps=eps, out=out)


def rms_norm(
    input: Any,
    normalized_shape: Sequence[int],
    weight: Any = None,
    eps: float | None = None,
    *,
    out: Any = None,
) -> Any:
    """RMS normalization over the last ``len(normalized_shape)`` dimensions (arXiv 1910.07467).

    ``eps=None`` is the machine epsilon of the type that is computed in: float32, or float64 once ``input``
    or ``weight`` is. Raises ``LncError`` where shapes do not fit.
    """
    count = _check_shapes(input, normalized_shape, weight=weight)
    if eps is None:
        arrays = {"input": input, "weight": weight}
        given = [arr.dtype_name(name, array) for name, array in arrays.items() if array is not None]
        eps = _EPSILON[compute_dtype(given)]
    return _over_last(norms.rms_norm, count)(input, weight, eps=eps, out=out)


def _check_shapes(input: object, normalized_shape: Sequence[int], **parameters: object) -> int:
    """The number of normalized dimensions; ``LncError`` where an array does not end in them."""
    try:
        shape = tuple(map(operator.index, normalized_shape))
    except TypeError:
        got = arr.described(normalized_shape)
        raise LncTypeError(f"normalized_shape: expected a sequence of ints; got {got}") from None
    if not shape:
        raise LncValueError("normalized_shape: expected at least one dimension; got ()")
    x = arr.checked("input", input)
    if x.shape[-len(shape) :] != shape:
        raise LncValueError(f"input: expected a shape that ends in normalized_shape {shape}; got {x.shape}")
    for name, value in parameters.items():
        if value is not None:
            array = arr.checked(name, value)
            if array.shape != shape:
                raise LncValueError(f"{name}: expected normalized_shape {shape}; got shape {array.shape}")
    return len(shape)


def _over_last(norm: Norm, count: int) -> Norm:
    """A norm of the last dimension as one of the last ``count``."""
    return norm if count == 1 else _over_several(norm, count)  # type: ignore[arg-type]


@cache
def _over_several(norm: Any, count: int) -> Norm:
    made: Norm = norm.over(f"... [{' '.join(f'd{at}' for at in range(count))}]")
    return made
