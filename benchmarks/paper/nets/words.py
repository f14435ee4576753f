"""What models of text share: cells by name, tables of vectors, the layer that tells the next token."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lncompile import rnn
from lncompile.cli.demo.data import Array
from lncompile.cli.demo.network import cross_entropy

from . import cells
from .cells import Cell
from .layers import Gradients

#: Each with the plain cell that it is compared with.
PAIRS = {"LNGRU": "GRU", "LNLSTM": "LSTM"}


def cell(name: str, inputs: int, hidden: int, seed: int, dtype: str) -> Cell:
    """One of ``PAIRS``, normalized or plain."""
    module = rnn if name in PAIRS else cells
    made: Cell = getattr(module, name)(inputs, hidden, seed=seed, dtype=dtype)
    return made


def named(prefix: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The arrays of a part, by their names in the whole."""
    return {f"{prefix}.{name}": array for name, array in arrays.items()}


class Words:
    """A vector for each of ``vocabulary`` tokens to read, and a layer for the logits of one to write."""

    def __init__(self, vocabulary: int, size: int, hidden: int, rng: np.random.Generator, dtype: str) -> None:
        """Vectors of length about 1."""
        self.params = {
            "vectors": (rng.standard_normal((vocabulary, size)) / np.sqrt(size)).astype(dtype),
            "weight": (rng.standard_normal((hidden, vocabulary)) / np.sqrt(hidden)).astype(dtype),
            "bias": np.zeros(vocabulary, dtype),
        }

    def read(self, tokens: Array) -> Array:
        """The vectors of tokens [...]: [..., size]."""
        found: Array = self.params["vectors"][tokens]
        return found

    def read_gradient(self, tokens: Array, dy: Array) -> Array:
        """The gradient of all vectors, a product with ones where a token stands."""
        vectors = self.params["vectors"]
        ones = np.zeros((tokens.size, len(vectors)), dy.dtype)
        ones[np.arange(tokens.size), tokens.reshape(-1)] = 1
        return ones.T @ dy.reshape(tokens.size, -1)

    def write(self, hs: Array, tokens: Array) -> tuple[float, Array, Gradients]:
        """The mean loss of ``tokens`` [n] given hs [n, hidden], the gradient of hs and those of the layer."""
        weight = self.params["weight"]
        loss, dlogits = cross_entropy(hs @ weight + self.params["bias"], tokens)
        return loss, dlogits @ weight.T, {"weight": hs.T @ dlogits, "bias": dlogits.sum(axis=0)}
