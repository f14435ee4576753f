"""The networks of the experiments with images."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from .layers import Classifier, Convolution, Dense, Layer, MeanPool, Relu
from .normalize import Bias, of_features, of_images


def dense(sizes: Sequence[int], norm: str, seed: int, dtype: str = "float32") -> Classifier:
    """Fully connected, with ReLU. The same seed gives the same weights whatever the norm.

    As in the paper, batch norm is on all layers and layer norm on the hidden ones alone.
    """
    rng = np.random.default_rng(seed)
    layers: list[Layer] = []
    for inputs, outputs in pairwise(sizes[:-1]):
        layers += [Dense(inputs, outputs, rng, dtype), of_features(norm, outputs, dtype), Relu()]
    last = "batch" if norm == "batch" else "none"
    layers += [Dense(sizes[-2], sizes[-1], rng, dtype), of_features(last, sizes[-1], dtype)]
    return Classifier(layers)


def convolutional(
    side: int, channels: Sequence[int], classes: int, norm: str, seed: int, dtype: str = "float32"
) -> Classifier:
    """Convolutions with a norm and ReLU each, halving the side after every one, then one full layer.

    The images are [n, 1, side, side].
    """
    rng = np.random.default_rng(seed)
    layers: list[Layer] = []
    for inputs, outputs in pairwise((1, *channels)):
        flat = outputs == channels[-1]
        layers += [
            Convolution(inputs, outputs, rng, dtype),
            of_images(norm, (outputs, side, side), dtype),
            Relu(),
            MeanPool(flat),
        ]
        side //= 2
    features = channels[-1] * side * side
    return Classifier([*layers, Dense(features, classes, rng, dtype), Bias((classes,), dtype)])
