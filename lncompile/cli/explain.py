"""``lncompile explain``: what an equation becomes, stage by stage."""

from __future__ import annotations

from typing import Any

import click

from lncompile.ahead import compile
from lncompile.cli import loader, options
from lncompile.cli.output import console, json_option, print_code, print_json, status
from lncompile.cli.request import check_names, wrong_usage
from lncompile.interface import CUDA_STAGES, STAGES

_LEXERS = {"source": "python", "llvm": "llvm", "asm": "gas", "ptx": "ptx", "sass": "nasm"}

_CHOICES = [*(STAGES | CUDA_STAGES), "all"]


@click.command()
@click.argument("norm", callback=loader.norm)
@click.option(
    "--shape",
    callback=options.shape,
    required=True,
    metavar="NxD",
    help="Shape of the first argument, such as 4096x1024.",
)
@click.option(
    "--dtype",
    callback=options.dtype,
    default="float32",
    show_default=True,
    metavar="DTYPE",
    help="For all arrays, or by argument: x=bfloat16,weight=float32,bias=none.",
)
@click.option("--target", callback=options.target, default="cpu", show_default=True, metavar="TARGET")
@click.option("--stage", type=click.Choice(_CHOICES), default="source", show_default=True)
@click.option(
    "-c",
    "--constant",
    "constants",
    callback=options.constants,
    multiple=True,
    metavar="NAME=VALUE",
    help="A constant of the equation or the size of a split axis, such as eps=1e-6.",
)
@json_option
def explain(
    norm: Any,
    shape: tuple[int, ...],
    dtype: Any,
    target: str,
    stage: str,
    constants: dict[str, Any],
    as_json: bool,
) -> None:
    """Show what the compiler makes of NORM at any stage.

    NORM is a norm of lncompile (layer_norm), package.module:name or file.py:name.
    """
    check_names(norm, constants)
    with status("compiling"), wrong_usage(constants):
        stages = compile(norm, shape=shape, dtype=dtype, target=target, **constants).stages
        if stage != "all" and stage not in stages:
            raise click.BadParameter(f"{target} has the stages {', '.join(stages)}", param_hint="--stage")
        texts = {name: stages[name] for name in (stages if stage == "all" else (stage,))}
    if as_json:
        print_json({"norm": norm.__name__, "shape": shape, "target": target, "stages": texts})
        return
    for name, text in texts.items():
        if stage == "all":
            _heading(name)
        print_code(text, _LEXERS.get(name, "text"))


def _heading(name: str) -> None:
    out = console()
    if out.is_terminal:
        out.rule(name, align="left")
    else:
        click.echo(f"==== {name}")
