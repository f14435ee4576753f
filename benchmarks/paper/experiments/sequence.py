"""A language model of characters, and how far gradients reach in its cells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import text
from ..nets.language import LanguageModel
from ..nets.words import PAIRS
from . import dynamics, generate
from .generate import Job, curve, prepared

CELLS = tuple(name for pair in PAIRS.items() for name in pair)
STEPS = 600
RATES = (1e-3, 3e-3, 1e-2, 3e-2)
SEEDS = (0,)
LENGTH = 50
BATCH = 32
HIDDEN = 128
VECTOR = 64

_EVERY = 20
_QUICK_STEPS = 4
_QUICK_LENGTH = 6
_QUICK_HIDDEN = 16
_UNSEEN_WINDOWS = 64

Rows = list[tuple[object, ...]]


def jobs(
    cells: Sequence[str], rates: Sequence[float], seeds: Sequence[int], steps: int | None, quick: bool
) -> list[Job]:
    """A curve for each combination."""
    steps = steps or (_QUICK_STEPS if quick else STEPS)
    return generate.jobs(cells, rates, seeds, steps, _EVERY, quick)


def run(job: Job) -> tuple[Rows, Rows]:
    """The rows of one curve, and those of ``dynamics`` for what was learned."""
    found = text.characters()
    length, hidden = (_QUICK_LENGTH, _QUICK_HIDDEN) if job.quick else (LENGTH, HIDDEN)

    def build() -> LanguageModel:
        return LanguageModel(job.cell, found.vocabulary, VECTOR, hidden, job.seed)

    # The same windows for every cell and rate.
    rng = np.random.default_rng(job.seed)
    unseen = text.windows(found.unseen, length + 1, _UNSEEN_WINDOWS, np.random.default_rng(0))
    batches = (text.windows(found.seen, length + 1, BATCH, rng) for _ in range(job.steps))
    model = prepared(build, unseen[:, :BATCH])
    rows = curve(job, model, batches, unseen)
    longer = text.windows(
        found.unseen, 2 * length if job.quick else dynamics.STEPS, BATCH, np.random.default_rng(0)
    )
    return rows, dynamics.rows(job, model, longer)
