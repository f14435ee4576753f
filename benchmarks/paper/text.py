"""Text that ships with Python: the reference pages behind ``help("keyword")``, as characters or sentences."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pydoc_data.topics import topics

import numpy as np

from lncompile.cli.demo.data import Array

#: What stands for every character or word that is not in the vocabulary.
UNKNOWN = 0
#: The word after the last of a sentence, and before the first.
END = 1

_LEAST_OCCURRENCES = 50
_WORDS = (2, 30)
_UNSEEN_SHARE = 0.05


@dataclass(frozen=True)
class Characters:
    """Numbers of characters, int64, to learn from and unseen; ``vocabulary`` is how many there are."""

    seen: Array
    unseen: Array
    vocabulary: int


@dataclass(frozen=True)
class Sentences:
    """Triples of neighbours [triples, 3]: numbers of sentences, to learn from and unseen.

    Sentence i is ``words[i]``, numbers of words, int64, filled up with ``END``, of which ``lengths[i]``
    count: those of the sentence and one ``END``.
    """

    words: Array
    lengths: Array
    seen: Array
    unseen: Array
    vocabulary: int


def characters() -> Characters:
    """All pages in the order of their names; rare characters are one."""
    text = "\n".join(topics[name] for name in sorted(topics))
    known = sorted(letter for letter, count in Counter(text).items() if count >= _LEAST_OCCURRENCES)
    numbers = {letter: number for number, letter in enumerate(known, start=UNKNOWN + 1)}
    tokens = np.array([numbers.get(letter, UNKNOWN) for letter in text], np.int64)
    at = int(len(tokens) * (1 - _UNSEEN_SHARE))
    return Characters(tokens[:at], tokens[at:], len(known) + 1)


def windows(tokens: Array, length: int, count: int, rng: np.random.Generator) -> Array:
    """Random places in the text: [length, count], the time first."""
    starts = rng.integers(len(tokens) - length + 1, size=count)
    found: Array = tokens[starts + np.arange(length)[:, None]]
    return found


def sentences(vocabulary: int) -> Sentences:
    """Sentences of 2 to 30 words in triples that follow each other; the most frequent words are known."""
    runs = [run for name in sorted(topics) for run in _runs(topics[name])]
    counted = Counter(word for run in runs for sentence in run for word in sentence)
    # Ties by the alphabet, so that the vocabulary does not depend on the order of the pages.
    ordered = sorted(counted, key=lambda word: (-counted[word], word))[: vocabulary - END - 1]
    numbers = {word: number for number, word in enumerate(ordered, start=END + 1)}
    words: list[list[int]] = []
    triples = []
    for run in runs:
        first = len(words)
        words += [[numbers.get(word, UNKNOWN) for word in sentence] + [END] for sentence in run]
        triples += [(at, at + 1, at + 2) for at in range(first, len(words) - 2)]
    lengths = np.array([len(sentence) for sentence in words])
    filled = np.full((len(words), lengths.max()), END)
    for row, sentence in zip(filled, words, strict=True):
        row[: len(sentence)] = sentence
    at = int(len(triples) * (1 - _UNSEEN_SHARE))
    return Sentences(filled, lengths, np.array(triples[:at]), np.array(triples[at:]), len(ordered) + END + 1)


def _runs(page: str) -> list[list[Sequence[str]]]:
    """Neighbouring sentences of the right length, each as its words and marks in lower case."""
    runs: list[list[Sequence[str]]] = [[]]
    for paragraph in re.split(r"\n\s*\n", page):
        for sentence in re.split(r"(?<=[.!?:])\s+", paragraph.strip()):
            words = re.findall(r"[a-z]+|[.,;:()]", sentence.lower())
            if _WORDS[0] <= len(words) <= _WORDS[1]:
                runs[-1].append(words)
            elif runs[-1]:
                runs.append([])
    return runs
