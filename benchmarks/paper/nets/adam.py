"""Adam as an equation: one compiled kernel reads and writes everything once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

import lncompile as lnc
from lncompile.cli.demo.data import Array

RATE = 1e-3


@lnc.norm("n", gradient="n", mean="n", square="n", rate="")
def adam_step(
    x: Any,
    gradient: Any,
    mean: Any,
    square: Any,
    rate: Any,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
) -> Any:
    """One update (Kingma, Ba 2014, arXiv 1412.6980, algorithm 1, with the corrections inside ``rate``).

    x, gradient, mean and square [n]; rate one number. Returns the new x, mean and square. 1.1 million numbers
    take 0.5 to 1.7 ms on two cores, and 4.3 ms as one writes it in NumPy.
    """
    mean = mean + (1 - beta1) * (gradient - mean)
    square = square + (1 - beta2) * (gradient * gradient - square)
    return x - rate * mean / (lnc.sqrt(square) + eps), mean, square


class Adam:
    """Changes parameters in place; they must be contiguous, and keep their places."""

    def __init__(self, params: Mapping[str, Array], rate: float = RATE) -> None:
        """Starts with the means of no update."""
        self.rate = rate
        self.steps = 0
        # Flat views, so that one kernel serves parameters of any shape.
        self.flat = {name: p.reshape(-1) for name, p in params.items()}
        assert all(np.shares_memory(self.flat[name], p) for name, p in params.items())
        self.means = {name: np.zeros_like(p) for name, p in self.flat.items()}
        self.squares = {name: np.zeros_like(p) for name, p in self.flat.items()}

    def step(self, gradients: Mapping[str, Array]) -> None:
        """One update of every parameter by its gradient."""
        self.steps += 1
        rate = self.rate * np.sqrt(1 - 0.999**self.steps) / (1 - 0.9**self.steps)
        for name, p in self.flat.items():
            mean, square = self.means[name], self.squares[name]
            gradient = gradients[name].reshape(-1)
            adam_step(p, gradient, mean, square, np.array(rate, p.dtype), out=(p, mean, square))
