"""A model of text, by step: what the experiments with recurrent networks share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from lncompile.cli.demo.data import Array

from ..nets.adam import Adam
from ..nets.training import Model, train, warm

#: ``nll`` is the mean loss of the steps since the row before, ``unseen`` that of unseen text after the step,
#: ``seconds`` what all updates took of the processor so far.
COLUMNS = ("cell", "rate", "seed", "step", "nll", "unseen", "seconds")


class TextModel(Model, Protocol):
    """What can be trained, and judged by unseen text."""

    def unseen_loss(self, tokens: Array) -> float:
        """The mean loss without gradients."""


Trained = TypeVar("Trained", bound=TextModel)


@dataclass(frozen=True)
class Job:
    """One curve, with a row after every ``every`` steps."""

    cell: str
    rate: float
    seed: int
    steps: int
    every: int
    quick: bool = False


def jobs(
    cells: Sequence[str],
    rates: Sequence[float],
    seeds: Sequence[int],
    steps: int,
    every: int,
    quick: bool,
) -> list[Job]:
    """A curve for each combination, with at least two rows."""
    every = min(every, max(1, steps // 2))
    return [Job(cell, rate, seed, steps, every, quick) for cell in cells for rate in rates for seed in seeds]


def curve(job: Job, model: TextModel, batches: Iterable[Any], unseen: Array) -> list[tuple[object, ...]]:
    """Train ``model``, whose kernels are compiled, and tell after some steps."""
    rows: list[tuple[object, ...]] = []
    losses: list[float] = []
    seconds = 0.0
    for step, update in enumerate(train(model, batches, Adam(model.params, job.rate)), start=1):
        losses.append(update.loss)
        seconds += update.seconds
        if step % job.every == 0 or step == job.steps:
            nll, losses = float(np.mean(losses)), []
            rows.append((job.cell, job.rate, job.seed, step, nll, model.unseen_loss(unseen), seconds))
    return rows


def prepared(build: Callable[[], Trained], batch: Any) -> Trained:
    """A model whose kernels are compiled and whose parameters are those of its seed."""
    warm(build(), batch)
    return build()
