"""Skip-thoughts (Kiros et al. 2015, arXiv 1506.06726), small: a sentence tells its neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np

from lncompile.cli.demo.data import Array

from ..text import END, Sentences
from .layers import Gradients
from .words import Words, cell, named

_DECODERS = ("before", "after")


class SkipThought:
    """The encoder's last state is the thought; two decoders read it at every step beside the word before."""

    def __init__(
        self, kind: str, text: Sentences, size: int, hidden: int, seed: int, dtype: str = "float32"
    ) -> None:
        """``kind`` names the cell of all three; all else is the same for the same seed."""
        self.text = text
        self.words = Words(text.vocabulary, size, hidden, np.random.default_rng(seed), dtype)
        self.encoder = cell(kind, size, hidden, seed, dtype)
        self.decoders = {
            name: cell(kind, size + hidden, hidden, seed + place, dtype)
            for place, name in enumerate(_DECODERS, start=1)
        }
        self.params = {**self.words.params, **named("encoder", self.encoder.params)}
        for name, decoder in self.decoders.items():
            self.params |= named(name, decoder.params)

    def loss(self, triples: Array) -> tuple[float, Gradients]:
        """``triples`` [batch, 3], numbers of sentences: the mean loss of a word of the first and the last."""
        read, thought, encoded = self._encode(triples[:, 1])
        vectors = np.zeros_like(self.words.params["vectors"])
        dthought = np.zeros_like(thought)
        loss, gradients = 0.0, {"vectors": vectors}
        for name, numbers in zip(_DECODERS, triples[:, ::2].T, strict=True):
            hs, written, context, words = self._decode(name, numbers, thought)
            half, dflat, found = self.words.write(hs[written], words[written])
            loss += half / 2
            dhs = np.zeros_like(hs)
            dhs[written] = dflat / 2
            of_cell, dxs = self.decoders[name].backward(dhs, context)
            size = vectors.shape[1]
            vectors += self.words.read_gradient(_shifted(words), np.ascontiguousarray(dxs[..., :size]))
            dthought += dxs[..., size:].sum(axis=0)
            gradients |= named(name, of_cell)
            for part, array in found.items():
                gradients[part] = gradients.get(part, 0) + array / 2
        dhs = np.zeros_like(encoded[0])
        dhs[encoded[1]] = dthought
        of_cell, dxs = self.encoder.backward(dhs, encoded[2])
        vectors += self.words.read_gradient(read, dxs)
        return loss, {**gradients, **named("encoder", of_cell)}

    def unseen_loss(self, triples: Array) -> float:
        """The mean loss of ``triples`` without gradients."""
        _, thought, _ = self._encode(triples[:, 1])
        loss = 0.0
        for name, numbers in zip(_DECODERS, triples[:, ::2].T, strict=True):
            hs, written, _, words = self._decode(name, numbers, thought)
            loss += self.words.write(hs[written], words[written])[0] / 2
        return loss

    def _encode(self, numbers: Array) -> tuple[Array, Array, tuple[Array, Any, Any]]:
        """The words read, the state after each sentence's last, and what the backward needs."""
        lengths = self.text.lengths[numbers]
        words = np.ascontiguousarray(self.text.words[numbers, : lengths.max()].T)
        hs, context = self.encoder.forward(self.words.read(words))
        # What a cell reads after the end of a sentence changes nothing: no gradient comes from there.
        last = (lengths - 1, np.arange(len(numbers)))
        return words, hs[last], (hs, last, context)

    def _decode(self, name: str, numbers: Array, thought: Array) -> tuple[Array, Array, Any, Array]:
        """The states, which of them write a word of the sentence, what the backward needs, and the words."""
        lengths = self.text.lengths[numbers]
        words = np.ascontiguousarray(self.text.words[numbers, : lengths.max()].T)
        read = self.words.read(_shifted(words))
        thoughts = np.broadcast_to(thought, (*words.shape, thought.shape[1]))
        hs, context = self.decoders[name].forward(np.concatenate([read, thoughts], axis=-1))
        written = np.arange(len(words))[:, None] < lengths
        return hs, written, context, words


def _shifted(words: Array) -> Array:
    """What a decoder reads: each word one step later, ``END`` at the first."""
    return np.concatenate([np.full_like(words[:1], END), words[:-1]])
