"""The normalizations as layers of a network: which one is a word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import lncompile as lnc
from lncompile.cli.demo.data import Array
from lncompile.norm import Norm

from .layers import Gradients, Layer

#: Over the features of a sample, [n, d].
OF_FEATURES = ("layer", "batch", "none")
#: Over channels and places, [n, c, h, w].
OF_IMAGES = ("layer", "batch", "group", "instance", "none")

#: As torch and most networks have it: a running statistic keeps 0.9 of itself.
_MOMENTUM = 0.1
_CHANNELS_A_GROUP = 4
_LAYER_NORM_OF_IMAGES = lnc.layer_norm.over("n [c h w]")


class Normalize:
    """One of lncompile's norms, with gains from 1 and biases from 0."""

    def __init__(self, norm: Norm, shape: Sequence[int], dtype: str, **sizes: int) -> None:
        """``shape`` is that of gains and biases; ``sizes`` are those that the shape of x does not tell."""
        self.norm, self.sizes = norm, sizes
        self.params = {"gain": np.ones(shape, dtype), "bias": np.zeros(shape, dtype)}

    def forward(self, x: Array, training: bool) -> tuple[Array, Any]:
        """Normalized; the same in training."""
        y, context = self.norm.forward(x, self.params["gain"], self.params["bias"], **self.sizes)
        return y, context

    def backward(self, dy: Array, context: Any) -> tuple[Array, Gradients]:
        """From the equation, by the compiler."""
        found = self.norm.backward(np.ascontiguousarray(dy), context)
        return found.x, {"gain": found.weight, "bias": found.bias}


class BatchNormalize:
    """Batch norm: by the statistics of the batch in training, by running ones otherwise."""

    def __init__(self, channels: int, dtype: str) -> None:
        """Running statistics start at mean 0 and variance 1."""
        self.params = {"gain": np.ones(channels, dtype), "bias": np.zeros(channels, dtype)}
        self.mean = np.zeros(channels, dtype)
        self.var = np.ones(channels, dtype)

    def forward(self, x: Array, training: bool) -> tuple[Array, Any]:
        """x [n, c, ...]; in training the running statistics follow those of x."""
        gain, bias = self.params["gain"], self.params["bias"]
        if not training:
            return lnc.batch_norm_inference(x, self.mean, self.var, gain, bias), None
        (y, mean, var), context = lnc.batch_norm.forward(x, gain, bias)
        count = x.size // len(mean)
        self.mean += _MOMENTUM * (mean - self.mean)
        self.var += _MOMENTUM * (var * (count / (count - 1)) - self.var)
        return y, context

    def backward(self, dy: Array, context: Any) -> tuple[Array, Gradients]:
        """Through the statistics of the batch too."""
        found = lnc.batch_norm.backward((np.ascontiguousarray(dy), None, None), context)
        return found.x, {"gain": found.weight, "bias": found.bias}


class Bias:
    """What stands where nothing is normalized: one number is added to a feature or a channel."""

    def __init__(self, shape: Sequence[int], dtype: str) -> None:
        """``shape`` is that of x without the batch, 1 where the number is shared."""
        self.params = {"bias": np.zeros(shape, dtype)}

    def forward(self, x: Array, training: bool) -> tuple[Array, Any]:
        """The sum."""
        return x + self.params["bias"], None

    def backward(self, dy: Array, context: Any) -> tuple[Array, Gradients]:
        """Summed over everything that shares the number."""
        shape = self.params["bias"].shape
        shared = tuple(axis + 1 for axis, size in enumerate(shape) if size == 1)
        return dy, {"bias": dy.sum(axis=(0, *shared)).reshape(shape)}


def of_features(kind: str, features: int, dtype: str = "float32") -> Layer:
    """One of ``OF_FEATURES`` for x [n, features]."""
    if kind == "layer":
        return Normalize(lnc.layer_norm, (features,), dtype)
    if kind == "batch":
        return BatchNormalize(features, dtype)
    return Bias((features,), dtype)


def of_images(kind: str, shape: tuple[int, int, int], dtype: str = "float32") -> Layer:
    """One of ``OF_IMAGES`` for x [n, *shape].

    As in the paper, layer norm is over all hidden units of a layer, each with a gain of its own; the others
    have one for each channel.
    """
    channels = shape[:1]
    if kind == "layer":
        return Normalize(_LAYER_NORM_OF_IMAGES, shape, dtype)
    if kind == "batch":
        return BatchNormalize(*channels, dtype)
    if kind == "group":
        return Normalize(lnc.group_norm, channels, dtype, g=channels[0] // _CHANNELS_A_GROUP)
    if kind == "instance":
        return Normalize(lnc.instance_norm, channels, dtype)
    return Bias((*channels, 1, 1), dtype)
