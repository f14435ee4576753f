"""``lncompile tune``: the best schedule for this machine, searched and kept, and what was tried."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import click
from click.core import ParameterSource
from rich.table import Table

from lncompile import tunings
from lncompile.autotune import tune as run
from lncompile.autotune.record import Trial, Tuning, from_json
from lncompile.cache import Damaged
from lncompile.cli import loader, options
from lncompile.cli.output import Failure, console, json_option, print_json, report_bar
from lncompile.cli.request import check_names, wrong_usage


def _norm(ctx: click.Context, param: click.Parameter, value: str | None) -> Any:
    return None if value is None else loader.norm(ctx, param, value)


def _shape(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    return None if value is None else options.shape(ctx, param, value)


@click.command()
@click.argument("norm", callback=_norm, required=False)
@click.option("--shape", callback=_shape, metavar="NxD", help="Shape of the first argument, batch included.")
@click.option(
    "--dtype",
    callback=options.dtype,
    default="float32",
    show_default=True,
    metavar="DTYPE",
    help="For all arrays, or by argument: x=bfloat16,weight=float32,bias=none.",
)
@click.option("--target", callback=options.target, default="cpu", show_default=True, metavar="TARGET")
@click.option(
    "-c",
    "--constant",
    "constants",
    callback=options.constants,
    multiple=True,
    metavar="NAME=VALUE",
    help="A constant of the equation or the size of a split axis, such as eps=1e-6.",
)
@click.option("--any-bits", is_flag=True, help="Try schedules that round differently too.")
@click.option("--show", is_flag=True, help="Print what earlier runs tried, of NORM if it is given, and stop.")
@json_option
def tune(
    norm: Any,
    shape: tuple[int, ...] | None,
    dtype: Any,
    target: str,
    constants: dict[str, Any],
    any_bits: bool,
    show: bool,
    as_json: bool,
) -> None:
    """Search the schedule with which NORM is fastest on this machine, and use it from now on.

    Kernels that are tried keep the heuristic's results to the bit, unless --any-bits is given. Ctrl-C keeps
    what is known by then; the next run goes on from there. NORM is as for `lncompile explain`.
    """
    if show:
        given = click.get_current_context().get_parameter_source("dtype")
        of_dtype = dtype if given is ParameterSource.COMMANDLINE else None
        found = [t for t in _records() if _is_wanted(t, norm, shape, of_dtype)]
        if not found:
            raise Failure("nothing was tuned here; `lncompile tune NORM --shape NxD` does")
        if as_json:
            print_json([tuning.to_json() for tuning in found])
        else:
            for tuning in found:
                _print(tuning)
        return
    if norm is None or shape is None:
        raise click.UsageError("expected NORM and --shape, or --show")
    check_names(norm, constants)
    try:
        with wrong_usage(constants), report_bar() as report:
            tuning = run(norm, shape, dtype, target=target, any_bits=any_bits, progress=report, **constants)
    except KeyboardInterrupt:
        raise Failure("interrupted; the next run goes on from what the store could keep") from None
    if as_json:
        print_json(tuning.to_json())
    else:
        _print(tuning)
    if tuning.path is None:
        raise Failure("the store could not keep the result; `lncompile cache info` may say why")


def _records() -> Iterator[Tuning]:
    """The sound records of this and other machines that share the store."""
    for path in tunings.paths():
        with suppress(Damaged):
            data = tunings.read(path) if path.endswith(".json") else None
            tuning = None if data is None else from_json(data, path)
            if tuning is not None:
                yield tuning


def _is_wanted(tuning: Tuning, norm: Any, shape: tuple[int, ...] | None, dtype: Any) -> bool:
    if isinstance(dtype, dict):
        same = dtype.items() <= tuning.dtypes.items()
    else:
        same = dtype is None or set(tuning.dtypes.values()) == {dtype}
    return same and (norm is None or tuning.norm == norm.__name__) and shape in (None, tuning.shape)


def _print(tuning: Tuning) -> None:
    out = console()
    shape = "x".join(map(str, tuning.shape))
    dtypes = ", ".join(f"{name} {dtype}" for name, dtype in tuning.dtypes.items())
    if len(set(tuning.dtypes.values())) == 1:
        (dtypes,) = set(tuning.dtypes.values())
    threads = "" if tuning.threads is None else f", {tuning.threads} thread{'s' * (tuning.threads != 1)}"
    out.print(f"{tuning.norm} {shape}, {dtypes}, {tuning.target}{threads}", soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    for name in ("schedule", "verdict", "forward µs", "backward µs", "time"):
        table.add_column(name, justify="left" if name in ("schedule", "verdict") else "right", no_wrap=True)
    for trial in tuning.trials:
        table.add_row(*_row(trial))
    # Rows are not cut at the width that a pipe is taken to have.
    if not out.is_terminal:
        out.width = 200
    out.print(table)
    out.print(_conclusion(tuning), soft_wrap=True)


def _row(trial: Trial) -> tuple[str, ...]:
    changes = ", ".join(f"{name}={value}" for name, value in trial.changes.items()) or "heuristic"
    times = ("" if time is None else f"{time:.1f}" for time in (trial.forward_us, trial.backward_us))
    verdict = "" if trial.verdict == "heuristic" else trial.verdict
    return changes, verdict, *times, "" if trial.ratio is None else f"{trial.ratio:.3f}"


def _conclusion(tuning: Tuning) -> str:
    if not tuning.complete:
        return "interrupted; the next run goes on from here"
    if tuning.schedule is None:
        return "the heuristic's schedule is kept: none is faster beyond doubt"
    ratio = tuning.chosen.ratio or 1.0
    return f"the fastest is used from now on: {(1 - ratio) * 100:.0f}% less time than the heuristic's"
