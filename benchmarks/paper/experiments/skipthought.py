"""Skip-thoughts, section 6.3 of the paper, small: a GRU with and without layer norm, loss by step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import text
from ..nets.skipthought import SkipThought
from . import generate
from .generate import Job, curve, prepared

CELLS = ("LNGRU", "GRU")
STEPS = 300
RATES = (1e-3, 3e-3, 1e-2, 3e-2)
SEEDS = (0,)
BATCH = 32
HIDDEN = 128
VECTOR = 64
VOCABULARY = 1000

_EVERY = 10
_QUICK_STEPS = 4
_QUICK_HIDDEN = 16
_QUICK_BATCH = 4


def jobs(
    cells: Sequence[str], rates: Sequence[float], seeds: Sequence[int], steps: int | None, quick: bool
) -> list[Job]:
    """A curve for each combination."""
    steps = steps or (_QUICK_STEPS if quick else STEPS)
    return generate.jobs(cells, rates, seeds, steps, _EVERY, quick)


def run(job: Job) -> list[tuple[object, ...]]:
    """The rows of one curve."""
    found = text.sentences(VOCABULARY)
    batch, hidden = (_QUICK_BATCH, _QUICK_HIDDEN) if job.quick else (BATCH, HIDDEN)

    def build() -> SkipThought:
        return SkipThought(job.cell, found, VECTOR, hidden, job.seed)

    rng = np.random.default_rng(job.seed)
    batches = (found.seen[rng.integers(len(found.seen), size=batch)] for _ in range(job.steps))
    unseen = found.unseen[:batch] if job.quick else found.unseen
    return curve(job, prepared(build, found.seen[:batch]), batches, unseen)
