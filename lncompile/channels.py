"""Norms of arrays [n c ...]: their running statistics, and channels that are innermost in memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import isfinite
from typing import Any

import numpy as np

from lncompile import arrays as arr
from lncompile import axes as ax
from lncompile.dtypes import TABLE, rounded
from lncompile.errors import LncTypeError, LncValueError
from lncompile.kernel import access_to
from lncompile.language import mean, square
from lncompile.norm import dispatcher_of, norm
from lncompile.specialization import plain


def _of_channels(array: Any) -> Any:
    """[... c] averaged to float64 [c]."""
    return (
        array.mean(tuple(range(array.ndim - 1)), np.float64) if array.ndim > 1 else array.astype(np.float64)
    )


class Running:
    """Running statistics beside ``x``, checked: nothing is left that can fail when they are updated.

    ``arrays`` is empty where they are not given. ``needed`` says why they must be: they are read then, and
    otherwise ``written`` to.
    """

    def __init__(
        self,
        mean: object,
        var: object,
        x: Any,
        channels: tuple[int, ...],
        momentum: object,
        needed: str | None,
    ) -> None:
        given = {"running_mean": mean, "running_var": var}
        missing = [name for name, value in given.items() if value is None]
        if missing and needed:
            raise LncValueError(f"{missing[0]}: expected an array, since {needed}; got None")
        if len(missing) == 1:
            raise LncValueError(
                f"{missing[0]}: expected an array, like the other's, or None for both; got None"
            )
        self.written = not needed
        self.momentum = number("momentum", momentum)
        self.named: dict[str, Any] = {}
        access = access_to(x)
        for name, value in given.items() if not missing else ():
            self.named[name] = access.checked(name, value)
            dtype = arr.dtype_name(name, self.named[name])
            access.check_like(name, self.named[name], channels, dtype, _CHANNELS)
            if self.written:
                access.check_output(name, self.named[name], channels, dtype)
        if self.named:
            access.check_device([("input", x), *self.named.items()])

    @property
    def arrays(self) -> tuple[Any, ...]:
        """Mean and variance, or nothing."""
        return tuple(self.named.values())

    def update(self, mean: Any, var: Any, count: int) -> None:
        """Move them towards the mean and the biased variance [... c] of ``count`` values."""
        keep = 1.0 - self.momentum
        with np.errstate(all="ignore"), access_to(mean).device_of(mean):
            batch = _of_channels(mean), _of_channels(var) * (count / (count - 1))
            for (name, running), value in zip(self.named.items(), batch, strict=True):
                moved = keep * running.astype(np.float64) + self.momentum * value
                running[...] = rounded(moved, arr.dtype_name(name, running))


#: What the size of a parameter or a statistic comes from, for error messages.
_CHANNELS = "one number for each channel of input"


def checked_channels(input: object, **parameters: object) -> tuple[Any, tuple[int]]:
    """``input`` as an array [n c ...], and the shape (c,); ``LncError`` where it or a parameter is none."""
    access = access_to(input)
    x = access.checked("input", input)
    if x.ndim < 2:
        raise LncValueError(f"input: expected at least 2 dimensions [n c ...]; got shape {x.shape}")
    channels = (x.shape[1],)
    for name, value in parameters.items():
        if value is not None:
            array = access.checked(name, value)
            access.check_like(name, array, channels, arr.dtype_name(name, array), _CHANNELS)
    return x, channels


def check_out(out: object, running: Running | None = None, **inputs: Any) -> None:
    """Refuse an ``out`` that is not like ``input``, and arrays to write to that overlap others."""
    x = inputs["input"]
    access = access_to(x)
    if access is not arr:
        if running is None:
            # The norm checks its own, and nothing else is written to.
            return
        # Parameters may be arrays that CuPy only looks at.
        inputs = {n: None if value is None else access.checked(n, value) for n, value in inputs.items()}
    written: list[tuple[str, Any]] = []
    if running and running.written:
        written += running.named.items()
    elif running:
        inputs |= running.named
    if out is not None:
        written.append(("out", access.check_output("out", out, x.shape, arr.dtype_name("input", x))))
    access.check_distinct(written, [(name, array) for name, array in inputs.items() if array is not None])


def tracked(
    channel_norm: Any,
    x: Any,
    weight: object,
    bias: object,
    eps: float,
    out: object,
    running: Running,
    shape: tuple[int, ...],
    count: int,
) -> Any:
    """The first output of a norm that returns y, mean and variance, each of ``shape``, for ``running``."""
    wider = None
    if running.arrays and x.dtype.itemsize < TABLE["float32"].itemsize:
        # The norm's have the dtype of x, too narrow for small steps. First, since ``out`` may be x.
        moments = _moments.over(dispatcher_of(channel_norm).equation.pattern.text)
        wider = run(moments, x, out_dtype="float32")
    written = None if out is None else (out, *(access_to(x).empty(shape, x) for _ in range(2)))
    y, *statistics = run(channel_norm, x, weight, bias, eps=eps, out=written)
    if running.arrays and x.size:
        mean, var = wider or statistics
        running.update(mean, var, count)
    return y


@norm("[n] c [...]")
def _moments(x: Any) -> Any:
    """Mean and biased variance of every channel."""
    mu = mean(x)
    return mu, mean(square(x - mu))


def run(channel_norm: Any, x: Any, *parameters: object, out: Any = None, **options: Any) -> Any:
    """The outputs of a norm of arrays [n c ...], computed where the channels are innermost as they lie.

    What is like x then lies in memory as x does; ``out``, an array or a tuple, may lie in any way.
    """
    if not _is_channels_last(x):
        return channel_norm(x, *parameters, out=out, **options)
    last = channel_norm.over(_channels_last(dispatcher_of(channel_norm).equation.pattern))

    def each(made: Any, moved: Callable[[Any], Any]) -> Any:
        if isinstance(made, tuple):
            return tuple(each(array, moved) for array in made)
        return moved(made) if made.ndim == x.ndim else made

    made = last(_last(x), *parameters, out=None if out is None else each(out, _last), **options)
    return each(made, _second) if out is None else out


def _is_channels_last(x: Any) -> bool:
    """Whether the array [n c ...] is contiguous with c as its last dimension, and not as it is."""
    return bool(x.ndim > 2 and not x.flags.c_contiguous and _last(x).flags.c_contiguous)


def _last(x: Any) -> Any:
    """[n c ...] as [n ... c]."""
    return x.transpose(0, *range(2, x.ndim), 1)


def _second(x: Any) -> Any:
    """[n ... c] as [n c ...]."""
    return x.transpose(0, x.ndim - 1, *range(1, x.ndim - 1))


@cache
def _channels_last(pattern: ax.Pattern) -> str:
    """``n (g [c]) [...]`` as ``n [...] (g [c])``: the second dimension becomes the last."""
    names = {name: f"[{name}]" if name in pattern.features else name for name in pattern.axes}
    first, channels, *rest = (tuple(names[name] for name in dim) for dim in pattern.dims)
    return ax.show((first, *rest, channels))


def number(name: str, value: object) -> float:
    """``value`` as a finite float; ``LncError`` where it is none."""
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise LncTypeError(f"{name}: expected a number; got {arr.described(value)}")
    try:
        found = float(value)
    except OverflowError:
        raise LncValueError(f"{name}: expected a number that a float holds; got a larger one") from None
    if not isfinite(found):
        raise LncValueError(f"{name}: expected a finite number; got {found}")
    return found


def epsilon(value: object, *, positive: bool = False) -> float:
    """``value`` as what is added to a variance; ``LncError`` where it cannot be."""
    eps = number("eps", value)
    if eps < 0 or (positive and not eps):
        least = "a positive number in training" if positive else "a number of at least 0"
        raise LncValueError(f"eps: expected {least}; got {eps!r}")
    return eps


def flag(name: str, value: object) -> bool:
    """``value`` as a bool; ``LncError`` where it is none: arrays and texts have a truth value too."""
    if not isinstance(value, bool | np.bool_):
        raise LncTypeError(f"{name}: expected True or False; got {arr.described(value)}")
    return bool(value)
