"""All norms in a small convolutional network on the digits; section 6.7 of the paper has no figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .. import images
from ..nets import build
from .classify import Job, curve

BATCH = 32
EPOCHS = 12
RATES = (1e-3, 3e-3, 1e-2, 3e-2)
SEEDS = (0, 1)
CHANNELS = (16, 32)

_SIDE = 8
_QUICK_SAMPLES = 64


def jobs(
    norms: Sequence[str],
    batches: Sequence[int],
    rates: Sequence[float],
    seeds: Sequence[int],
    epochs: int | None,
    quick: bool,
) -> list[Job]:
    """A curve for each combination."""
    samples = _QUICK_SAMPLES if quick else None
    return [
        Job(norm, batch, rate, seed, epochs or (2 if quick else EPOCHS), samples=samples)
        for batch in batches
        for norm in norms
        for rate in rates
        for seed in seeds
    ]


def run(job: Job) -> list[tuple[object, ...]]:
    """The rows of one curve."""
    found = images.digits()
    shape = (-1, 1, _SIDE, _SIDE)
    squares = replace(found, inputs=found.inputs.reshape(shape), test_inputs=found.test_inputs.reshape(shape))
    return curve(job, lambda: build.convolutional(_SIDE, CHANNELS, 10, job.norm, job.seed), squares)
