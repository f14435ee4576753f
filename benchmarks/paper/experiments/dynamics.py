"""Hidden-to-hidden dynamics of trained cells, section 3.1 of the paper.

The loss of one moment, its gradient a random direction of the last state, is taken back through the steps;
how much of it reaches the input of a step before says whether gradients vanish or explode. The same with the
recurrent matrices of the trained cell multiplied by some factors: without normalization these decide.
"""

from __future__ import annotations

import numpy as np

from lncompile.cli.demo.data import Array

from ..nets.cells import Cell
from ..nets.language import LanguageModel
from .generate import Job

#: ``gradient`` is the norm of the gradient of the input ``lag`` steps before the last, ``state`` the root
#: mean square of the hidden state at that step.
COLUMNS = ("cell", "rate", "seed", "factor", "lag", "gradient", "state")

STEPS = 100
FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)

#: The recurrent matrices, by the names that they have in all cells.
_RECURRENT = ("Wh", "U")


def rows(job: Job, model: LanguageModel, tokens: Array) -> list[tuple[object, ...]]:
    """Every factor and lag, for ``tokens`` [steps, batch]."""
    xs = model.words.read(tokens)
    found: list[tuple[object, ...]] = []
    for factor in FACTORS:
        gradients, states = measured(model.cell, xs, factor, job.seed)
        for lag, (gradient, state) in enumerate(zip(gradients[::-1], states[::-1], strict=True)):
            found.append((job.cell, job.rate, job.seed, factor, lag, float(gradient), float(state)))
    return found


def measured(cell: Cell, xs: Array, factor: float, seed: int) -> tuple[Array, Array]:
    """By step: the norm of the gradient of the input, and the root mean square of the state.

    The cell's parameters are as before when this returns.
    """
    recurrent = {name: cell.params[name] for name in _RECURRENT if name in cell.params}
    before = {name: array.copy() for name, array in recurrent.items()}
    try:
        for array in recurrent.values():
            array *= factor
        hs, context = cell.forward(xs)
        dhs = np.zeros_like(hs)
        direction = np.random.default_rng(seed).standard_normal(hs.shape[1:])
        dhs[-1] = direction / np.linalg.norm(direction)
        _, dxs = cell.backward(dhs, context)
    finally:
        for name, array in recurrent.items():
            array[...] = before[name]
    gradients = np.sqrt(np.square(dxs, dtype=np.float64).sum(axis=(1, 2)))
    return gradients, np.sqrt(np.square(hs, dtype=np.float64).mean(axis=(1, 2)))
