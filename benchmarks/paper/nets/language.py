"""A language model: vectors of characters, one recurrent cell, the next character."""

from __future__ import annotations

import numpy as np

from lncompile.cli.demo.data import Array

from .layers import Gradients
from .words import Words, cell, named


class LanguageModel:
    """Tells every character of a window from those before it in the window."""

    def __init__(
        self, kind: str, vocabulary: int, size: int, hidden: int, seed: int, dtype: str = "float32"
    ) -> None:
        """``kind`` names the cell; all else is the same for the same seed."""
        self.words = Words(vocabulary, size, hidden, np.random.default_rng(seed), dtype)
        self.cell = cell(kind, size, hidden, seed, dtype)
        self.params = {**self.words.params, **named("cell", self.cell.params)}

    def loss(self, tokens: Array) -> tuple[float, Gradients]:
        """``tokens`` [length + 1, batch]: the mean of length * batch characters."""
        before, after = tokens[:-1], tokens[1:].reshape(-1)
        hs, context = self.cell.forward(self.words.read(before))
        loss, dhs, gradients = self.words.write(hs.reshape(len(after), -1), after)
        of_cell, dxs = self.cell.backward(dhs.reshape(hs.shape), context)
        vectors = self.words.read_gradient(before, dxs)
        return loss, {**gradients, "vectors": vectors, **named("cell", of_cell)}

    def unseen_loss(self, tokens: Array) -> float:
        """The mean loss of ``tokens`` without gradients."""
        hs, _ = self.cell.forward(self.words.read(tokens[:-1]))
        return self.words.write(hs.reshape(-1, hs.shape[-1]), tokens[1:].reshape(-1))[0]
