"""The pipeline: from the program of an equation to the two programs that kernels are made of.

    trace --> unstack --> simplify --> gradient --> simplify --> moments --> residuals
                                                                                 |
                                        forward, backward programs <-- collapse <-- factored

Each is a pure function from programs to programs, legal (``verify.py``) and with the same meaning
(``interpret.py``) before and after.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lncompile.ir import Program
from lncompile.passes.collapse import collapse
from lncompile.passes.factors import factored
from lncompile.passes.gradient import gradient
from lncompile.passes.moments import moments
from lncompile.passes.residuals import residuals
from lncompile.passes.simplify import simplify
from lncompile.passes.unstack import unstack


@dataclass(frozen=True, eq=False)
class Pair:
    """The forward program and the backward program that belongs to it."""

    forward: Program
    backward: Program


def run_passes(program: Program, check: Callable[[Program], Program]) -> Pair:
    """Derive, simplify and split ``program``; ``check`` sees what every pass returns."""
    joint = check(moments(check(simplify(check(gradient(check(simplify(check(unstack(program))))))))))
    forward, backward = (check(part) for part in factored(*map(check, residuals(joint))))
    return Pair(check(collapse(forward)), check(collapse(backward)))
