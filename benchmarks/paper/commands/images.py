"""``digits`` and ``convnet``: classifiers of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from .. import images
from ..experiments import classify, convnet, digits
from ..nets.normalize import OF_FEATURES, OF_IMAGES
from .options import Usual, epochs_option, finish, names_option, run_jobs, table, usual_options


def _batch_option(usual: Sequence[int]) -> Callable[[Any], Any]:
    return click.option(
        "--batch",
        "batches",
        type=click.IntRange(min=1),
        multiple=True,
        default=usual,
        show_default=True,
        metavar="N",
        help="Samples of an update. Repeat for more.",
    )


@click.command("digits")
@click.option(
    "--mnist",
    "data",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The folder with MNIST's four idx files, packed by gzip or not; else scikit-learn's digits of 8x8.",
)
@names_option("--norm", "norms", OF_FEATURES)
@_batch_option(tuple(digits.EPOCHS))
@epochs_option
@usual_options
def digits_command(
    usual: Usual, data: Path | None, norms: list[str], batches: tuple[int, ...], epochs: int | None
) -> None:
    """Permutation-invariant digits: layer norm, batch norm and none, in batches of 128, 4 and 1."""
    path = "" if data is None else str(data)
    jobs = digits.jobs(
        norms or OF_FEATURES,
        batches,
        usual.rates,
        usual.seeds_or(digits.SEEDS),
        epochs,
        path,
        usual.quick,
    )
    if not jobs:
        raise click.UsageError(
            "--norm batch --batch 1: one sample has no statistics, so nothing is left to run"
        )
    _run("digits", digits.run, jobs, usual, _checked(lambda: digits.load(path), jobs))


@click.command("convnet")
@names_option("--norm", "norms", OF_IMAGES)
@_batch_option((convnet.BATCH,))
@epochs_option
@usual_options
def convnet_command(usual: Usual, norms: list[str], batches: tuple[int, ...], epochs: int | None) -> None:
    """A small convolutional network on the digits: layer, batch, group and instance norm, and none."""
    jobs = convnet.jobs(
        norms or OF_IMAGES,
        batches,
        usual.rates_or(convnet.RATES),
        usual.seeds_or(convnet.SEEDS),
        epochs,
        usual.quick,
    )
    _run("convnet", convnet.run, jobs, usual, _checked(images.digits, jobs))


def _checked(load: Callable[[], images.Images], jobs: Sequence[classify.Job]) -> images.Images:
    """The images, or wrong usage if there are none, or too few for a batch."""
    try:
        found = load()
    except images.NotImages as error:
        raise click.UsageError(str(error)) from error
    for job in jobs:
        count = len(found.first(job.samples).labels)
        if job.batch > count:
            raise click.UsageError(f"--batch: expected at most the {count} images; got {job.batch}")
    return found


def _run(
    name: str, run: Callable[[Any], Any], jobs: Sequence[classify.Job], usual: Usual, found: images.Images
) -> None:
    curves = run_jobs(run, jobs, usual.processes, name)
    finish([table(name, classify.COLUMNS, curves, data=found.title)], usual.out, usual.plots)
