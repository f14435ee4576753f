"""A network of 64-1000-1000-10 in NumPy, its hidden layers normalized by lncompile or not at all.

x -> W1 -> layer norm -> relu -> W2 -> layer norm -> relu -> W3 + b -> cross entropy
x -> W1 + b            -> relu -> W2 + b           -> relu -> W3 + b -> cross entropy
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from lncompile.cli.demo.data import CLASSES, SIDE, Array, Problem
from lncompile.norms import layer_norm

WIDTH = 1000
SIZES = (SIDE * SIDE, WIDTH, WIDTH, CLASSES)
BATCH = 128
LEARNING_RATE = 3e-4
_TRAINING_SHARE = 5 / 6


@dataclass
class Hidden:
    """What a hidden layer leaves behind for the backward: its input, and before and after normalization."""

    entered: Array
    before: Array
    after: Array
    context: Any


class Network:
    """Weights [inputs, outputs] and biases of each layer, and a scale for each normalized one."""

    def __init__(self, seed: int, normalized: bool) -> None:
        """Weights drawn by He's rule (arXiv 1502.01852), the same ones for the same seed."""
        rng = np.random.default_rng(seed)
        self.normalized = normalized
        self.weights = [
            (rng.standard_normal(shape, np.float32) * np.sqrt(2 / shape[0], dtype=np.float32))
            for shape in pairwise(SIZES)
        ]
        self.biases = [np.zeros(size, np.float32) for size in SIZES[1:]]
        self.scales = [np.ones(size, np.float32) for size in SIZES[1:-1]] if normalized else []

    @property
    def parameters(self) -> list[Array]:
        """All that is learned."""
        return [*self.weights, *self.biases, *self.scales]

    def forward(self, x: Array) -> tuple[Array, list[Hidden]]:
        """The logits [batch, 10], and what each hidden layer did."""
        layers = []
        for index, weight in enumerate(self.weights[:-1]):
            before = x @ weight
            if self.normalized:
                after, context = layer_norm.forward(before, self.scales[index], self.biases[index])
            else:
                after, context = before + self.biases[index], None
            layers.append(Hidden(x, before, after, context))
            x = np.maximum(after, 0)
        layers.append(Hidden(x, x, x, None))
        return x @ self.weights[-1] + self.biases[-1], layers

    def backward(self, gradient: Array, layers: list[Hidden]) -> tuple[list[Array], list[Array]]:
        """The gradients of all parameters, and those that came in behind each normalization."""
        weights, biases, scales, incoming = [], [], [], []
        for index in reversed(range(len(self.weights))):
            layer = layers[index]
            if index == len(self.weights) - 1:
                biases.append(gradient.sum(axis=0))
            else:
                gradient = gradient * (layer.after > 0)
                incoming.append(gradient)
                if self.normalized:
                    gradient, scale, bias = layer_norm.backward(gradient, layer.context)
                    scales.append(scale)
                    biases.append(bias)
                else:
                    biases.append(gradient.sum(axis=0))
            weights.append(layer.entered.T @ gradient)
            gradient = gradient @ self.weights[index].T
        return [*weights[::-1], *biases[::-1], *scales[::-1]], incoming[::-1]


class Adam:
    """Adam (arXiv 1412.6980), with its authors' constants."""

    def __init__(self, parameters: Sequence[Array]) -> None:
        self.parameters = parameters
        self.means = [np.zeros_like(p) for p in parameters]
        self.squares = [np.zeros_like(p) for p in parameters]
        self.steps = 0

    def step(self, gradients: Sequence[Array]) -> None:
        """Change the parameters in place."""
        self.steps += 1
        rate = np.float32(LEARNING_RATE * np.sqrt(1 - 0.999**self.steps) / (1 - 0.9**self.steps))
        for p, g, mean, square in zip(self.parameters, gradients, self.means, self.squares, strict=True):
            mean += np.float32(0.1) * (g - mean)
            square += np.float32(0.001) * (g * g - square)
            p -= rate * mean / (np.sqrt(square) + np.float32(1e-8))


@dataclass
class Run:
    """One training: the mean loss of each epoch, and the share of unseen samples right at the end."""

    losses: list[float] = field(default_factory=list)
    accuracy: float = 0.0
    seconds: float = 0.0


def train(
    problem: Problem, network: Network, seed: int, epochs: int, after_epoch: Callable[[], object]
) -> Run:
    """Train in batches, in an order that depends on the seed alone."""
    rng = np.random.default_rng(seed)
    count = int(len(problem.labels) * _TRAINING_SHARE)
    optimizer, run, start = Adam(network.parameters), Run(), time.perf_counter()
    for _ in range(epochs):
        order, total = rng.permutation(count), 0.0
        for batch in np.array_split(order, -(-count // BATCH)):
            logits, layers = network.forward(problem.inputs[batch])
            loss, gradient = cross_entropy(logits, problem.labels[batch])
            optimizer.step(network.backward(gradient, layers)[0])
            total += loss * len(batch)
        run.losses.append(total / count)
        after_epoch()
    run.seconds = time.perf_counter() - start
    logits, _ = network.forward(problem.inputs[count:])
    run.accuracy = float((logits.argmax(axis=1) == problem.labels[count:]).mean())
    return run


def cross_entropy(logits: Array, labels: Array) -> tuple[float, Array]:
    """The mean cross entropy of softmax(logits), and its gradient."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    totals = exponentials.sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    loss = float((np.log(totals[:, 0]) - shifted[rows, labels]).mean())
    gradient = exponentials / totals
    gradient[rows, labels] -= 1
    return loss, gradient / np.float32(len(labels))
