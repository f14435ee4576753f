"""Permutation-invariant digits, section 6.6 of the paper: 64-1000-1000-10, or 784-1000-1000-10 on MNIST."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .. import images
from ..nets import build
from .classify import Job, curve

WIDTH = 1000
#: By the batch size: about as long for every size, until the training loss is small.
EPOCHS = {128: 30, 4: 8, 1: 3}
#: The paper names none; each norm is shown at the one that leads it to the least training loss. By the batch
#: size: the smaller it is, the smaller are the rates that work.
RATES = {128: (3e-4, 1e-3, 3e-3, 1e-2, 3e-2), 4: (1e-4, 3e-4, 1e-3), 1: (3e-5, 1e-4, 3e-4, 1e-3)}
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
    """A curve for each combination; batch norm has no statistics of one sample.

    Without ``rates`` and ``epochs`` they are those of the batch size, or of the next one that is listed.
    """
    return [
        Job(
            norm,
            batch,
            rate,
            seed,
            epochs or (2 if quick else EPOCHS[_listed(batch)]),
            data,
            _QUICK_SAMPLES if quick else None,
        )
        for batch in batches
        for norm in norms
        for rate in rates or RATES[_listed(batch)][: 1 if quick else None]
        for seed in seeds
        if (norm, batch) != ("batch", 1)
    ]


def _listed(batch: int) -> int:
    return max(size for size in EPOCHS if size <= batch)


def load(data: str) -> images.Images:
    """MNIST's files in a folder, or scikit-learn's digits."""
    return images.mnist(Path(data)) if data else images.digits()


def run(job: Job) -> list[tuple[object, ...]]:
    """The rows of one curve."""
    found = load(job.data)
    sizes = (found.inputs.shape[1], WIDTH, WIDTH, 10)
    return curve(job, lambda: build.dense(sizes, job.norm, job.seed), found)
