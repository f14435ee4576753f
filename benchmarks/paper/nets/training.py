"""One loop for every model: losses, and what updates cost."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from lncompile.cli.demo.data import Array

from .adam import Adam
from .layers import Gradients


class Model(Protocol):
    """What can be trained."""

    params: dict[str, Array]

    def loss(self, batch: Any) -> tuple[float, Gradients]:
        """The mean loss of a batch and the gradients by the names of ``params``."""


@dataclass(frozen=True)
class Update:
    """The loss of a batch before its update, and the seconds of the processor that the update took.

    Those of the processor, since curves run side by side: with one thread, what an update takes on a free
    core.
    """

    loss: float
    seconds: float


def train(model: Model, batches: Iterable[Any], optimizer: Adam) -> Iterator[Update]:
    """One update for each batch. What happens between updates is not in the seconds."""
    for batch in batches:
        start = time.process_time()
        loss, gradients = model.loss(batch)
        optimizer.step(gradients)
        yield Update(loss, time.process_time() - start)


def warm(model: Model, batch: Any) -> None:
    """Compile the kernels of such a model, so that no update's time counts that; the model is changed."""
    for _ in train(model, [batch], Adam(model.params)):
        pass


def shuffled(
    inputs: Array, labels: Array, size: int, rng: np.random.Generator
) -> Iterator[tuple[Array, Array]]:
    """One epoch: samples in random order, each at most once, in batches of ``size``.

    What is left for a smaller batch is left out: a kernel of batch norm is compiled for the size of the
    batch.
    """
    order = rng.permutation(len(labels))
    for start in range(0, len(order) - size + 1, size):
        chosen = order[start : start + size]
        yield inputs[chosen], labels[chosen]
