"""The normalizations of ``torch.nn.functional`` on NumPy and CuPy arrays: its names, order and defaults.

More parameters stand at the end only: ``out`` receives the result and is returned. ``eps`` and ``momentum``
are finite, ``eps`` is not negative, and ``training`` and ``use_input_stats`` are bools. These functions
compute results alone; gradients are where the equations are: ``lncompile.layer_norm.forward`` and
``.backward``, and so on.

``batch_norm``, ``group_norm`` and ``instance_norm`` take arrays [n c ...]. One whose channels are innermost
in memory, such as ``x.transpose(0, 3, 1, 2)`` of an array [n h w c], is read as it lies; results are like it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from lncompile import arrays as arr
from lncompile import norms
from lncompile.channels import Running, check_out, checked_channels, epsilon, flag, run, tracked
from lncompile.dtypes import compute_dtype
from lncompile.errors import LncTypeError, LncValueError
from lncompile.integers import integer
from lncompile.kernel import access_to
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
    eps = epsilon(eps)
    check_out(out, input=input, weight=weight, bias=bias)
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
    check_out(out, input=input, weight=weight)
    if eps is None:
        arrays = {"input": input, "weight": weight}
        given = [arr.dtype_name(name, array) for name, array in arrays.items() if array is not None]
        eps = _EPSILON[compute_dtype(given)]
    eps = epsilon(eps)
    return _over_last(norms.rms_norm, count)(input, weight, eps=eps, out=out)


def batch_norm(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    out: Any = None,
) -> Any:
    """Batch normalization of every channel of ``input`` [n c ...] (arXiv 1502.03167, algorithms 1 and 2).

    With ``training`` it is by the statistics of ``input``; ``running_mean`` and ``running_var`` [c], unless
    they are None, become (1 - momentum) times themselves plus momentum times the mean and the unbiased
    variance of ``input``. Without, it is by the running statistics. These have dtypes of their own and are
    changed when all else is done; an empty ``input`` leaves them as they are. ``weight`` and ``bias`` [c].

    Raises ``LncError``: shapes or dtypes do not fit, one running statistic is None or both are needed, a
    channel has one value alone to take statistics of, or ``eps`` is 0 in training.
    """
    x, channels = checked_channels(input, weight=weight, bias=bias)
    training = flag("training", training)
    eps = epsilon(eps, positive=training)
    running = Running(
        running_mean, running_var, x, channels, momentum, None if training else "training=False"
    )
    check_out(out, running, input=x, weight=weight, bias=bias)
    if not training:
        return run(norms.batch_norm_inference, x, *running.arrays, weight, bias, eps=eps, out=out)
    count = prod(x.shape[:1] + x.shape[2:])
    if count == 1:
        raise LncValueError(f"input: expected more than 1 value per channel when training; got {x.shape}")
    return tracked(norms.batch_norm, x, weight, bias, eps, out, running, channels, count)


def group_norm(
    input: Any,
    num_groups: int,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    *,
    out: Any = None,
) -> Any:
    """Group normalization of ``input`` [n c ...], its channels in ``num_groups`` groups (arXiv 1803.08494).

    ``weight`` and ``bias`` [c]. Raises ``LncError``: shapes do not fit, the number of channels is no multiple
    of ``num_groups``, or ``input`` has one value alone.
    """
    x, (channels,) = checked_channels(input, weight=weight, bias=bias)
    try:
        groups = integer(num_groups)
    except TypeError:
        raise LncTypeError(f"num_groups: expected an int; got {arr.described(num_groups)}") from None
    if groups < 1 or channels % groups:
        raise LncValueError(f"num_groups: expected a divisor of the {channels} channels; got {groups}")
    if x.shape[0] * channels // groups * prod(x.shape[2:]) == 1:
        raise LncValueError(
            f"input: expected more than 1 value per group; got {x.shape}, num_groups={groups}"
        )
    eps = epsilon(eps)
    check_out(out, input=x, weight=weight, bias=bias)
    return run(norms.group_norm, x, weight, bias, eps=eps, g=groups, out=out)


def instance_norm(
    input: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    out: Any = None,
) -> Any:
    """Instance normalization: of each channel of each n of ``input`` [n c ...] (arXiv 1607.08022).

    With ``use_input_stats`` it is by the statistics of ``input``; the running statistics [c] follow their
    averages over n as in :func:`batch_norm`. Without, it is by the running statistics. ``weight`` and
    ``bias`` [c].

    Raises ``LncError``: shapes or dtypes do not fit, one running statistic is None or both are needed, or a
    channel has one value alone to take statistics of.
    """
    x, channels = checked_channels(input, weight=weight, bias=bias)
    use_input_stats = flag("use_input_stats", use_input_stats)
    eps = epsilon(eps)
    needed = None if use_input_stats else "use_input_stats=False"
    running = Running(running_mean, running_var, x, channels, momentum, needed)
    check_out(out, running, input=x, weight=weight, bias=bias)
    if not use_input_stats:
        return run(norms.batch_norm_inference, x, *running.arrays, weight, bias, eps=eps, out=out)
    count = prod(x.shape[2:])
    if count == 1:
        raise LncValueError(f"input: expected more than 1 spatial element when training; got {x.shape}")
    if not running.arrays:
        return run(norms.instance_norm, x, weight, bias, eps=eps, out=out)
    each = norms.batch_norm.over("n c [...]")
    return tracked(each, x, weight, bias, eps, out, running, x.shape[:2], count)


def _check_shapes(input: object, normalized_shape: Sequence[int], **parameters: object) -> int:
    """The number of normalized dimensions; ``LncError`` where an array does not end in them."""
    try:
        shape = tuple(map(integer, normalized_shape))
    except TypeError:
        got = arr.described(normalized_shape)
        raise LncTypeError(f"normalized_shape: expected a sequence of ints; got {got}") from None
    if not shape:
        raise LncValueError("normalized_shape: expected at least one dimension; got ()")
    x = access_to(input).checked("input", input)
    if x.shape[-len(shape) :] != shape:
        raise LncValueError(f"input: expected a shape that ends in normalized_shape {shape}; got {x.shape}")
    for name, value in parameters.items():
        if value is not None:
            array = access_to(value).checked(name, value)
            if array.shape != shape:
                raise LncValueError(f"{name}: expected normalized_shape {shape}; got shape {array.shape}")
    return len(shape)


def _over_last(norm: Norm, count: int) -> Norm:
    """A norm of the last dimension as one of the last ``count``."""
    return norm if count == 1 else norm.over(f"... [{' '.join(f'd{at}' for at in range(count))}]")
