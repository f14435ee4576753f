"""``lncompile demo``: a network learns with the compiled layer norm; how right and how fast that is."""

from __future__ import annotations

import os
from pathlib import Path

import click
import numpy as np

from lncompile.cli.demo import data, kernel, measure, network, report
from lncompile.cli.output import console, json_option, print_json, progress_bar, status
from lncompile.norms import layer_norm

_SEED = 0


@click.command()
@click.option(
    "--input",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE.npy",
    help="Learn from patches of this image: (h, w) or (n, h, w), integers or floats.",
)
@click.option("--epochs", type=click.IntRange(min=1), default=8, show_default=True)
@json_option
def demo(path: Path | None, epochs: int, as_json: bool) -> None:
    """Train a network with layer norm on real data, check it against float64, time it.

    Without --input it learns the handwritten digits of scikit-learn (install lncompile[demo]), or, without
    scikit-learn, from an image that ships with lncompile.
    """
    # Where matrix products and kernels take turns, NumPy's threads and OpenMP's would each spin while the
    # other's have work: 12 ms instead of 0.1 ms for a kernel of 128x1000. OpenMP reads this when loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    out = console(quiet=as_json)
    problem = data.load(path)
    report.show_problem(out, problem)
    with status("compiling"):
        compiled, origin = kernel.made(layer_norm, (network.BATCH, network.WIDTH))
    equation, excerpt = kernel.equation_text(layer_norm), kernel.excerpt(compiled.stages["source"])
    report.show_kernel(out, equation, excerpt, compiled.target, origin)

    normalized = network.Network(_SEED, normalized=True)
    plain = network.Network(_SEED, normalized=False)
    statistics = _statistics(problem, normalized)
    report.show_statistics(out, statistics)
    with progress_bar("training", 2 * epochs) as advance:
        with_norm = network.train(problem, normalized, _SEED, epochs, advance)
        without = network.train(problem, plain, _SEED, epochs, advance)
    report.show_training(out, with_norm, without)

    cases = _cases(problem, normalized)
    deviations = {layer: measure.deviations(compiled, case) for layer, case in enumerate(cases, start=1)}
    report.show_deviations(out, deviations)
    with progress_bar("timing", measure.ROUNDS + 1) as advance:
        timings = measure.timings(compiled, cases[-1], advance)
    report.show_timings(out, cases[-1].x.shape, timings)

    if as_json:
        results = report.Results(
            problem, compiled.target, origin, statistics, with_norm, without, deviations, timings
        )
        print_json(report.as_json(results))


def _statistics(problem: data.Problem, net: network.Network) -> list[report.LayerStatistics]:
    """What normalization does to the activations of each hidden layer, for all samples."""

    def mean(values: data.Array) -> float:
        return float(np.sqrt(np.mean(np.square(values.mean(axis=-1, dtype=np.float64)))))

    def std(values: data.Array) -> float:
        return float(values.std(axis=-1, dtype=np.float64).mean())

    layers = net.forward(problem.inputs)[1][:-1]
    return [
        report.LayerStatistics(
            index, mean(layer.before), std(layer.before), mean(layer.after), std(layer.after)
        )
        for index, layer in enumerate(layers, start=1)
    ]


def _cases(problem: data.Problem, net: network.Network) -> list[measure.Case]:
    """The activations of each hidden layer for all samples, and the gradients that come back to them."""
    logits, layers = net.forward(problem.inputs)
    _, gradient = network.cross_entropy(logits, problem.labels)
    _, incoming = net.backward(gradient, layers)
    return [
        measure.Case(layer.before, net.scales[index], net.biases[index], incoming[index])
        for index, layer in enumerate(layers[:-1])
    ]
