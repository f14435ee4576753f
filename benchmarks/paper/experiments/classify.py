"""A classifier of images, by epoch: what the experiments with dense and convolutional networks share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..images import Images
from ..nets.adam import Adam
from ..nets.layers import Classifier
from ..nets.training import shuffled, train, warm

#: ``nll`` is the mean negative log-likelihood of the epoch's samples, each before its update; ``error`` the
#: share of unseen images told wrong after the epoch.
COLUMNS = ("norm", "batch", "rate", "seed", "epoch", "updates", "nll", "error")


@dataclass(frozen=True)
class Job:
    """One curve: ``data`` is where the images come from, as the experiment understands it."""

    norm: str
    batch: int
    rate: float
    seed: int
    epochs: int
    data: str = ""
    samples: int | None = None


def curve(job: Job, build: Callable[[], Classifier], images: Images) -> list[tuple[object, ...]]:
    """Train, and tell after every epoch. The samples come in an order that depends on the seed alone."""
    images = images.first(job.samples)
    warm(build(), (images.inputs[: job.batch], images.labels[: job.batch]))
    model = build()
    optimizer = Adam(model.params, job.rate)
    rng = np.random.default_rng(job.seed)
    rows: list[tuple[object, ...]] = []
    for epoch in range(1, job.epochs + 1):
        batches = shuffled(images.inputs, images.labels, job.batch, rng)
        done = list(train(model, batches, optimizer))
        nll = float(np.mean([update.loss for update in done]))
        error = model.error(images.test_inputs, images.test_labels)
        rows.append((job.norm, job.batch, job.rate, job.seed, epoch, optimizer.steps, nll, error))
    return rows
