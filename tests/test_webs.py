"""Variables are taken apart where their values have nothing to do with each other, and nowhere else."""

# mypy: disallow-untyped-defs=False

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from numba.core import compiler, ir

from lncompile.backends.cpu.webs import SplitIntoWebs


def two_loops(n, load):
    total = 0
    for i in range(n):
        value = load(i)
        total += value
    for i in range(n, 2 * n):
        value = load(i)
        total += value
    return total


def branches(n, load):
    value = load(n)
    if n > 3:
        value = load(0)
    else:
        n = value + 1
    return value + n


def set_again(n, load):
    value = load(n)
    other = value * 2
    value = load(other)
    return value + value


def carried(n, load):
    before = load(0)
    for i in range(n):
        now = load(i)
        if now > before:
            before = now
    before_all = before
    before = load(n)
    return before_all + before


def nested(n, load):
    kept = load(0)
    for i in range(n):
        last = kept
        for j in range(i):
            kept = load(j) + last
    return kept


#: Function -> how many variables each of its names is afterwards.
FUNCTIONS: list[tuple[Callable[..., Any], dict[str, int]]] = [
    (two_loops, {"i": 2, "value": 2, "total": 1}),
    (branches, {"value": 1, "n": 1}),
    (set_again, {"value": 2, "other": 1}),
    (carried, {"before": 2, "now": 1, "i": 1}),
    (nested, {"kept": 1, "last": 1, "i": 1, "j": 1}),
]


@pytest.mark.parametrize(("function", "webs"), FUNCTIONS, ids=[f.__name__ for f, _ in FUNCTIONS])
def test_a_name_is_as_many_variables_as_it_has_webs(
    function: Callable[..., Any], webs: dict[str, int]
) -> None:
    blocks = split(function).blocks
    found = defaultdict(set)
    for name in assigned(blocks):
        found[name.partition(".")[0]].add(name)
    assert {name: len(found[name]) for name in webs} == webs


@pytest.mark.parametrize("function", [f for f, _ in FUNCTIONS])
def test_all_that_is_read_is_set(function: Callable[..., Any]) -> None:
    blocks = split(function).blocks
    read = {
        variable.name for block in blocks.values() for step in block.body for variable in step.list_vars()
    }
    assert read == set(assigned(blocks))


def split(function: Callable[..., Any]) -> Any:
    """Numba's representation of ``function``, its variables taken apart."""
    represented = compiler.run_frontend(function)
    SplitIntoWebs().run_pass(SimpleNamespace(func_ir=represented))
    return represented


def assigned(blocks: dict[int, Any]) -> list[str]:
    return [assign.target.name for block in blocks.values() for assign in block.find_insts(ir.Assign)]
