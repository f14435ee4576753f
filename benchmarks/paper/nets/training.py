"""One loop for every model: losses, and the time that updates take."""

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
    """The loss of a batch before its update, and the seconds that the update took."""

    loss: float
    seconds: float


def train(model: Model, batches: Iterable[Any], optimizer: Adam) -> Iterator[Update]:
    """One update for each batch. What happens between updates is not in the seconds."""
    for batch in batches:
        start = time.perf_counter()
        loss, gradients = model.loss(batch)
        optimizer.step(gradients)
        yield Update(loss, time.perf_counter() - start)


def warm(model: Model, batch: Any) -> None:
    """Compile the kernels that such a model needs, so that no update's time counts that; the model is changed."""
    for _ in train(model, [batch], Adam(model.params)):
        pass


def shuffled(inputs: Array, labels: Array, size: int, rng: np.random.Generator) -> Iterator[tuple[Array, Array]]:
    """One epoch: every sample once, in random order, in batches of ``size``, the last of what is left.

    A last batch of one sample is left out where batches are larger: no batch norm has statistics of it.
    """
    order = rng.permutation(len(labels))
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        if len(chosen) > 1 or size == 1:
            yield inputs[chosen], labels[chosen]
