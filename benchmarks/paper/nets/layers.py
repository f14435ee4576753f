"""Layers without a state of their own, and one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from lncompile.cli.demo.data import Array
from lncompile.cli.demo.network import cross_entropy

Gradients = dict[str, Array]


class Layer(Protocol):
    """``forward`` gives y and what ``backward`` needs, ``backward`` dx and the gradients of ``params``."""

    params: dict[str, Array]

    def forward(self, x: Array, training: bool) -> tuple[Array, Any]:
        """The output; batch norm alone does something else in training."""

    def backward(self, dy: Array, context: Any) -> tuple[Array, Gradients]:
        """The gradients, given that of the output."""


class Dense:
    """x [batch, inputs] times a matrix; what is added is the next layer's."""

    def __init__(self, inputs: int, outputs: int, rng: np.random.Generator, dtype: str = "float32") -> None:
        """Weights drawn by He's rule (arXiv 1502.01852)."""
        weight = rng.standard_normal((inputs, outputs)) * np.sqrt(2 / inputs)
        self.params = {"weight": weight.astype(dtype)}

    def forward(self, x: Array, training: bool) -> tuple[Array, Any]:
        """[batch, outputs]."""
        return x @ self.params["weight"], x

    def backward(self, dy: Array, context: Any) -> tuple[Array, Gradients]:
        """dx [batch, inputs]."""
        return dy @ self.params["weight"].T, {"weight": context.T @ dy}


class Convolution:
    """3x3 with zeros around: x [n, c, h, w] becomes [n, channels, h, w]."""

    def __init__(self, inputs: int, outputs: int, rng: np.random.Generator, dtype: str = "float32") -> None:
        """Weights [inputs * 9, outputs] drawn by He's rule."""
        weight = rng.standard_normal((inputs * 9, outputs)) * np.sqrt(2 / (inputs * 9))
        self.params = {"weight": weight.astype(dtype)}

    def forward(self, x: Array, training: bool) -> tuple[Array, Any]:
        """Every 3x3 neighbourhood is a row of one matrix product."""
        n, c, h, w = x.shape
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
        rows = windows.transpose(0, 2, 3, 1, 4, 5).reshape(n * h * w, c * 9)
        y = (rows @ self.params["weight"]).reshape(n, h, w, -1)
        return np.ascontiguousarray(y.transpose(0, 3, 1, 2)), (rows, x.shape)

    def backward(self, dy: Array, context: Any) -> tuple[Array, Gradients]:
        """dx [n, c, h, w]: what each neighbourhood gives is added where it was read."""
        rows, (n, c, h, w) = context
        flat = dy.transpose(0, 2, 3, 1).reshape(n * h * w, -1)
        windows = (flat @ self.params["weight"].T).reshape(n, h, w, c, 3, 3)
        padded = np.zeros((n, c, h + 2, w + 2), dy.dtype)
        for row in range(3):
            for column in range(3):
                part = windows[..., row, column].transpose(0, 3, 1, 2)
                padded[:, :, row : row + h, column : column + w] += part
        return np.ascontiguousarray(padded[:, :, 1:-1, 1:-1]), {"weight": rows.T @ flat}


class Relu:
    """The larger of x and 0."""

    def __init__(self) -> None:
        """Nothing is learned."""
        self.params: dict[str, Array] = {}

    def forward(self, x: Array, training: bool) -> tuple[Array, Any]:
        """Of x's shape."""
        return np.maximum(x, 0), x > 0

    def backward(self, dy: Array, context: Any) -> tuple[Array, Gradients]:
        """Nothing comes through where x was not positive."""
        return dy * context, {}


class MeanPool:
    """The means of 2x2 blocks: [n, c, h, w] becomes [n, c, h/2, w/2], flat if it is the last of its kind."""

    def __init__(self, flat: bool = False) -> None:
        """Nothing is learned."""
        self.params: dict[str, Array] = {}
        self.flat = flat

    def forward(self, x: Array, training: bool) -> tuple[Array, Any]:
        """The means."""
        n, c, h, w = x.shape
        y = x.reshape(n, c, h // 2, 2, w // 2, 2).mean(axis=(3, 5))
        return y.reshape(n, -1) if self.flat else y, x.shape

    def backward(self, dy: Array, context: Any) -> tuple[Array, Gradients]:
        """A quarter each."""
        n, c, h, w = context
        quarter = (dy / 4).reshape(n, c, h // 2, 1, w // 2, 1)
        return np.broadcast_to(quarter, (n, c, h // 2, 2, w // 2, 2)).reshape(context), {}


class Classifier:
    """Layers in their order, and the cross entropy of the softmax of what comes out."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        """Parameters are named by the layer's place and their own name."""
        self.layers = layers
        self.params = {
            f"{place}.{name}": array
            for place, layer in enumerate(layers)
            for name, array in layer.params.items()
        }

    def logits(self, x: Array, training: bool = False) -> tuple[Array, list[Any]]:
        """[batch, classes], and what the backward needs."""
        contexts = []
        for layer in self.layers:
            x, context = layer.forward(x, training)
            contexts.append(context)
        return x, contexts

    def loss(self, batch: tuple[Array, Array]) -> tuple[float, Gradients]:
        """The mean negative log-likelihood of labels given inputs, and the gradients of all parameters."""
        inputs, labels = batch
        logits, contexts = self.logits(inputs, training=True)
        loss, dy = cross_entropy(logits, labels)
        gradients: Gradients = {}
        for place in reversed(range(len(self.layers))):
            dy, found = self.layers[place].backward(dy, contexts[place])
            gradients |= {f"{place}.{name}": array for name, array in found.items()}
        return loss, gradients

    def error(self, inputs: Array, labels: Array) -> float:
        """The share of samples that are told wrong."""
        return float((self.logits(inputs)[0].argmax(axis=1) != labels).mean())
