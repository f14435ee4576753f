"""Permutation-invariant digits, section 6.6 of the paper: 64-1000-1000-10, or 784-1000-1000-10 on MNIST."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .. import images
from ..nets import build
from .classify import COLUMNS, Job, curve

__all__ = ["COLUMNS", "EPOCHS", "RATES", "SEEDS", "jobs", "load", "run"]

WIDTH = 1000
#: By the batch size: about as long for every size, until the training loss is small.
EPOCHS = {128: 30, 4: 8, 1: 3}
#: The paper names none; each norm is shown at the one that leads it to the least training loss.
RATES = (1e-4, 3e-4, 1e-3)
SEEDS = (0, 1)

_QUICK_SAMPLES = 128


def jobs(
    norms: Sequence[str],
    batches: Sequence[int],
    rates: Sequence[float],
    seeds: Sequence[int],
    epochs: int | None,
    data: str,
    quick: bool,
) -> list[Job]:
    """A curve for each combination; batch norm has no statistics of one sample."""
    return [
        Job(
            norm,
            batch,
            rate,
            seed,
            epochs or (2 if quick else EPOCHS.get(batch, EPOCHS[4])),
            data,
            _QUICK_SAMPLES if quick else None,
        )
        for batch in batches
        for norm in norms
        for rate in rates
        for seed in seeds
        if (norm, batch) != ("batch", 1)
    ]


def load(data: str) -> images.Images:
    """MNIST's files in a folder, or scikit-learn's digits."""
    return images.mnist(Path(data)) if data else images.digits()


def run(job: Job) -> list[tuple[object, ...]]:
    """The rows of one curve."""
    found = load(job.data)
    sizes = (found.inputs.shape[1], WIDTH, WIDTH, 10)
    return curve(job, lambda: build.dense(sizes, job.norm, job.seed), found)
