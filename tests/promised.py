"""The norms that promises are held to, whatever their pattern: a table with one line for each.

All that a test wants to know of an entry follows from its pattern: which arrays it takes, what a group is
(the elements that share their statistics: one position along every batch axis), which axes a call may cut.
"""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import numpy as np
import reference

import lncompile as lnc
from lncompile import axes as ax
from lncompile.norm import dispatcher_of

Array = np.ndarray[Any, np.dtype[Any]]


def _batch_norm(x, weight=1.0, bias=0.0, *, eps=1e-5):  # type: ignore[no-untyped-def]
    mean = lnc.mean(x)
    var = lnc.mean(lnc.square(x - mean))
    return (x - mean) * lnc.rsqrt(var + eps) * weight + bias, mean, var


def _normalize(x, weight=1.0, bias=0.0, *, eps=1e-5):  # type: ignore[no-untyped-def]
    mean = lnc.mean(x)
    var = lnc.mean(lnc.square(x - mean))
    return (x - mean) * lnc.rsqrt(var + eps) * weight + bias


def _root_mean_square(x, weight=1.0, *, eps=1e-5):  # type: ignore[no-untyped-def]
    return x * lnc.rsqrt(lnc.mean(lnc.square(x)) + eps) * weight


def _adaptive(x, scale, shift, *, eps=1e-5):  # type: ignore[no-untyped-def]
    mean = lnc.mean(x)
    var = lnc.mean(lnc.square(x - mean))
    return (x - mean) * lnc.rsqrt(var + eps) * (1.0 + scale) + shift


class Entry(NamedTuple):
    """A norm and the sizes of its axes; ``exact`` is its formula in wider arithmetic, for a group a row."""

    name: str
    norm: Any
    sizes: ax.Sizes
    exact: Any = None

    @property
    def pattern(self) -> ax.Pattern:
        """The pattern of the first argument."""
        return dispatcher_of(self.norm).equation.pattern

    @property
    def options(self) -> dict[str, int]:
        """Sizes of split axes, as a call is given them."""
        split = {name for dim in self.pattern.dims if len(dim) > 1 for name in dim}
        return {name: ax.count(name, self.sizes) for name in self.pattern.axes if name in split}

    @property
    def batch(self) -> tuple[str, ...]:
        """The batch axes of which a call may have any number: those that are no part of a split."""
        return self._free(features=False)

    @property
    def features(self) -> tuple[str, ...]:
        """The feature axes that are no part of a split."""
        return self._free(features=True)

    def _free(self, features: bool) -> tuple[str, ...]:
        return tuple(
            name
            for dim in self.pattern.dims
            for name in dim
            if len(dim) == 1
            and (name in self.pattern.features) == features
            # The dots may stand for no dimension at all.
            and self.sizes[name] != ()
        )

    def with_size(self, axis: str, size: int) -> Entry:
        """The same with another size of an axis; of the dots, of their first dimension."""
        old = self.sizes[axis]
        new = (size, *old[1:]) if isinstance(old, tuple) else size
        return self._replace(sizes={**self.sizes, axis: new})

    def large(self, elements: int) -> Entry:
        """The same with more of its first batch axis, so that there are so many elements."""
        axis = self.batch[0]
        rest = prod(ax.count(name, self.sizes) for name in self.sizes if name != axis)
        old = self.sizes[axis]
        rest *= prod(old[1:]) if isinstance(old, tuple) else 1
        return self.with_size(axis, elements // rest)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the first argument."""
        return ax.array_shape(self.pattern.dims, self.sizes)

    def arguments(self, dtype: Any = np.float32) -> list[Array]:
        """The first argument and all parameters."""
        arguments = dispatcher_of(self.norm).equation.arguments
        return [
            np.random.default_rng(at)
            .uniform(0.5 if at else -1.5, 1.5, ax.array_shape(argument.dims, self.sizes))
            .astype(dtype)
            for at, argument in enumerate(arguments)
        ]

    def entering(self, outputs: tuple[Array, ...]) -> list[Array]:
        """Gradients that come in through the outputs."""
        return [
            np.random.default_rng(50 + at).standard_normal(y.shape).astype(y.dtype)
            for at, y in enumerate(outputs)
        ]

    def run(self, *arguments: Any, entering: Any = None) -> list[Array]:
        """All outputs and all gradients."""
        outputs, ctx = self.norm.forward(*arguments, **self.options)
        made = outputs if isinstance(outputs, tuple) else (outputs,)
        entering = tuple(self.entering(made)) if entering is None else tuple(entering)
        gradients = self.norm.backward(entering if isinstance(outputs, tuple) else entering[0], ctx)
        return [*made, *(gradient for gradient in gradients if gradient is not None)]

    def dims_of(self, array: int) -> tuple[ax.Dim, ...]:
        """The dimensions of an argument, by its place."""
        return dispatcher_of(self.norm).equation.arguments[array].dims

    def cut(self, array: Array, dims: tuple[ax.Dim, ...], axis: str, part: slice) -> Array:
        """A part of an array along one axis; all of it where it does not vary along that."""
        if (axis,) not in dims:
            return array
        at = dims.index((axis,))
        before = sum(len(self.sizes[dim[0]]) if dim == (ax.ELLIPSIS,) else 1 for dim in dims[:at])
        return array[(slice(None),) * before + (part,)]

    def groups(self, array: Array) -> Array:
        """An array like the first argument as one row for each group (a copy)."""
        names = self.pattern.axes
        counts = [ax.count(name, self.sizes) for name in names]
        order = sorted(range(len(names)), key=lambda at: names[at] in self.pattern.features)
        features = prod(n for name, n in zip(names, counts, strict=True) if name in self.pattern.features)
        return array.reshape(counts).transpose(order).reshape(-1, features)

    def from_groups(self, rows: Array) -> Array:
        """The inverse of :meth:`groups`."""
        names = self.pattern.axes
        order = sorted(range(len(names)), key=lambda at: names[at] in self.pattern.features)
        counts = [ax.count(names[at], self.sizes) for at in order]
        back = [order.index(at) for at in range(len(names))]
        return np.ascontiguousarray(rows.reshape(counts).transpose(back)).reshape(self.shape)


LAYER, RMS = reference.layer_norm, reference.rms_norm
_channels = {"weight": "c", "bias": "c"}
_groups = {"weight": "(g c)", "bias": "(g c)"}

#: Batch axes outside, feature axes inside.
_ROWS = (
    Entry("layer_norm", lnc.layer_norm, {"...": (7,), "d": 133}, LAYER),
    Entry("layer_norm of long rows", lnc.layer_norm, {"...": (7,), "d": 301}, LAYER),
    Entry("layer_norm of short rows", lnc.layer_norm, {"...": (7,), "d": 33}, LAYER),
    Entry("layer_norm of three", lnc.layer_norm, {"...": (2, 3, 2), "d": 64}, LAYER),
    Entry("rms_norm", lnc.rms_norm, {"...": (7,), "d": 133}, RMS),
    Entry("rms_norm of long rows", lnc.rms_norm, {"...": (7,), "d": 1100}, RMS),
    Entry("rms_norm of short rows", lnc.rms_norm, {"...": (7,), "d": 33}, RMS),
    Entry("layer_norm of two", lnc.layer_norm.over("n [h w]"), {"n": 7, "h": 5, "w": 8}, LAYER),
    Entry("heads", lnc.rms_norm.over("n (h [d])"), {"n": 7, "h": 4, "d": 9}, RMS),
    Entry("add_layer_norm", lnc.add_layer_norm, {"...": (7,), "d": 33}),
    Entry("softmax", lnc.softmax, {"...": (7,), "d": 133}),
    Entry("softmax of short rows", lnc.softmax, {"...": (7,), "d": 33}),
    Entry("dyt", lnc.dyt, {"...": (7,), "d": 33}),
)
#: Everything else.
_OTHERS = (
    Entry(
        "batch_norm",
        lnc.norm("[n] c [...]", **_channels)(_batch_norm),
        {"n": 7, "c": 5, "...": (3, 4)},
        LAYER,
    ),
    Entry(
        "batch_norm, channels last",
        lnc.norm("[n h w] c", **_channels)(_batch_norm),
        {"n": 5, "h": 3, "w": 4, "c": 17},
        LAYER,
    ),
    Entry(
        "batch_norm of a matrix",
        lnc.norm("[n] c", **_channels)(_batch_norm),
        {"n": 33, "c": 65},
        LAYER,
    ),
    Entry(
        "group_norm",
        lnc.norm("n (g [c]) [...]", **_groups)(_normalize),
        {"n": 7, "g": 2, "c": 3, "...": (4, 5)},
        LAYER,
    ),
    Entry(
        "group_norm, channels last",
        lnc.norm("n [h w] (g [c])", **_groups)(_normalize),
        {"n": 7, "h": 3, "w": 4, "g": 2, "c": 8},
        LAYER,
    ),
    Entry(
        "instance_norm",
        lnc.norm("n c [...]", **_channels)(_normalize),
        {"n": 7, "c": 5, "...": (4, 5)},
        LAYER,
    ),
    Entry(
        "instance_norm of large images",
        lnc.norm("n c [...]", **_channels)(_normalize),
        {"n": 7, "c": 2, "...": (16, 17)},
        LAYER,
    ),
    Entry(
        "instance_norm, channels last",
        lnc.norm("n [h w] c", **_channels)(_normalize),
        {"n": 7, "h": 3, "w": 4, "c": 17},
        LAYER,
    ),
    Entry(
        "layer_norm over channels",
        lnc.norm("n [c] h w", **_channels)(_normalize),
        {"n": 7, "c": 16, "h": 3, "w": 5},
        LAYER,
    ),
    Entry(
        "rms_norm over columns",
        lnc.norm("[d] ...", weight="d")(_root_mean_square),
        {"d": 33, "...": (7,)},
        RMS,
    ),
    Entry(
        "a weight for each head",
        lnc.norm("n h [d]", weight="h d")(_root_mean_square),
        {"n": 7, "h": 4, "d": 9},
        RMS,
    ),
    Entry(
        "ada_layer_norm", lnc.norm("b t [d]", scale="b d", shift="b d")(_adaptive), {"b": 4, "t": 3, "d": 33}
    ),
)

TABLE = (*_ROWS, *_OTHERS)
#: Those whose formula is known in wider arithmetic.
EXACT = tuple(entry for entry in TABLE if entry.exact)
