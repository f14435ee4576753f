"""The page that sets what was measured beside what the paper claims, in markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..experiments import convnet, digits, dynamics, invariances, sequence, skipthought
from ..records import Table
from ..records import load as load_table
from .claims import Claim, claims
from .curves import KINDS
from .summary import of_table

_COLUMNS = {
    **{name: kind.columns for name, kind in KINDS.items()},
    "dynamics": dynamics.COLUMNS,
    "invariances": invariances.COLUMNS,
}

_HEAD = """\
# Layer Normalization: the paper's claims, measured

The experiments of Ba, Kiros, Hinton, "Layer Normalization" (arXiv 1607.06450), small enough for two cores,
with every normalization computed by lncompile's kernels, forward and backward. `python -m benchmarks.paper
report` writes this page from the CSV files beside it; every verdict is computed from them.

Every contender sees the same batches in the same order; dense and convolutional networks start from the same
weights whatever the norm, recurrent cells from their own. Each is shown at the one of several learning rates
that leads it to the least training loss (the paper does not name its rates), and losses are means over the
seeds. A share such as 40% means: layer norm is where the baseline ends after 40% of what the baseline took.
"""

_CHANNELS = " and ".join(map(str, convnet.CHANNELS))

_SECTIONS = {
    "digits": (
        "Permutation-invariant digits (section 6.6)",
        f"A network of 64-{digits.WIDTH}-{digits.WIDTH}-10 (784 inputs on MNIST) with ReLU, by Adam. Layer "
        "norm is on the hidden layers alone, batch norm on all. Loss is the mean over an epoch.",
    ),
    "convnet": (
        "Convolutional network (section 6.7)",
        f"Convolutions of 3x3 with {_CHANNELS} channels, each with its norm, ReLU and a pooling of 2x2 by "
        "the mean, then one full layer. The paper gives no figures for this.",
    ),
    "sequence": (
        "Language model of characters (recurrent networks, section 3.1)",
        f"The next character from those before it in windows of {sequence.LENGTH}, batches of "
        f"{sequence.BATCH}, one cell of {sequence.HIDDEN} units. `lncompile.rnn` beside plain cells in "
        "NumPy: steps compare the methods, seconds compare these implementations. Seconds are those "
        "of the processor, with one thread.",
    ),
    "dynamics": (
        "Hidden-to-hidden dynamics (section 3.1)",
        "The gradient of one moment's loss at the input of earlier steps, in the cells trained above, "
        "with their recurrent matrices multiplied by a factor after training; relative to the gradient at "
        "the last step. Shown for the first rate and seed.",
    ),
    "skipthought": (
        "Skip-thoughts (section 6.3)",
        f"A GRU of {skipthought.HIDDEN} units reads a sentence; two others tell the sentence before and "
        f"the one after. Batches of {skipthought.BATCH}, the {skipthought.VOCABULARY} most frequent words. "
        "The paper's figures are of other tasks that use the vectors; here it is the loss itself.",
    ),
    "invariances": (
        "Invariances (table 1)",
        "The largest change of an output in units of the largest output, in float64; below "
        f"{invariances.TOLERANCE:g} counts as invariant.",
    ),
}


def load(folder: Path) -> dict[str, Table]:
    """The tables that are there, by name.

    Raises:
        OSError: one cannot be read.
        NotRecords: one is something else.
    """
    found = {}
    for name in _SECTIONS:
        path = folder / f"{name}.csv"
        if path.exists():
            found[name] = load_table(path, _COLUMNS[name])
    return found


def page(tables: Mapping[str, Table], folder: Path) -> str:
    """The whole page; plots that are in the folder are linked."""
    found = claims(tables)
    missing = [name for name in _SECTIONS if name not in tables]
    parts = [_HEAD, "## Claims\n", _verdicts(found)]
    if missing:
        parts.append(f"Not measured: {', '.join(missing)}.\n")
    for name, table in tables.items():
        title, text = _SECTIONS[name]
        parts += [f"## {title}\n", f"{text}\n", _about(table), _markdown(*of_table(table))]
        if (folder / f"{name}.png").exists():
            parts.append(f"![{title}]({name}.png)\n")
    return "\n".join(parts)


def _verdicts(found: Sequence[Claim]) -> str:
    agreeing = sum(claim.agrees for claim in found)
    rows = [
        [claim.claim, claim.where, claim.found, "agrees" if claim.agrees else "**disagrees**"]
        for claim in found
    ]
    table = _markdown(["claim", "where", "measured", "verdict"], rows)
    return f"{agreeing} of {len(found)} comparisons agree with the paper.\n\n{table}"


def _about(table: Table) -> str:
    seeds = ", ".join(str(seed) for seed in table.different("seed"))
    about = "; ".join(f"{key}: {value}" for key, value in table.about.items())
    return f"Seeds {seeds}; {about}.\n"


def _markdown(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
