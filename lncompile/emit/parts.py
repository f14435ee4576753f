"""Stages that go over the outermost axes part by part, so that one finds in the cache what the last one read.

stage 1  n [h w] c   sums of x        every image n          image 0: stages 1, 2 and 4
stage 2  n c         statistics       every image      -->   image 1: stages 1, 2 and 4
stage 3  [n] c       dweight          all images at once     ...
stage 4  n h w c     dx               every image            then stage 3

The parts of a stage depend on nothing but themselves, so cutting a phase this way changes no bit of a result.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import takewhile

from lncompile.emit.nest import Array, AxisNames, product
from lncompile.ir import Axis, Input
from lncompile.passes.stages import Stage


def in_parts(stages: Sequence[Stage], names: AxisNames) -> list[tuple[Stage, str]]:
    """The stages in the order in which they run, each with the number of its parts as a C expression.

    Neighbours with the same expression run part by part. It is empty for a stage that runs as a whole.
    """
    ordered: list[tuple[Stage, str]] = []
    run: list[Stage] = []
    waiting: list[Stage] = []
    common: tuple[str, ...] = ()
    for stage in stages:
        own = _outermost(stage, names)
        shared = _shared(common, own)
        if shared and not _reads(stage, waiting):
            run.append(stage)
            common = shared
        elif len(run) > 1 and _adds_up_workspaces(stage):
            waiting.append(stage)
        else:
            ordered += [*_together(run, common, names), *((late, "") for late in waiting)]
            run, waiting, common = [stage], [], own
    return [*ordered, *_together(run, common, names), *((late, "") for late in waiting)]


def _together(run: list[Stage], common: tuple[str, ...], names: AxisNames) -> list[tuple[Stage, str]]:
    parts = ""
    if len(run) > 1:
        leaves = {leaf.name: leaf for axis in run[0].program.axes for leaf in _leaves(axis, names)}
        parts = product(names.size(leaves[name]) for name in common)
    return [(stage, parts) for stage in run]


def _outermost(stage: Stage, names: AxisNames) -> tuple[str, ...]:
    """The axes, outer to inner, of which a unit has one position and touches no other."""
    counting = takewhile(lambda name: name != stage.block_axis, stage.loops.units)
    outer = tuple(takewhile(lambda name: name != "", _leaf_names(stage, counting, names)))
    while not _is_local(stage, outer, names):
        outer = outer[:-1]
    return outer


def _leaf_names(stage: Stage, axes: Iterable[str], names: AxisNames) -> list[str]:
    """The names of what axes are made of; nothing for one that counts stretches of another."""
    known = {axis.name: axis for axis in stage.program.axes}
    return ["" if leaf.of else leaf.name for name in axes for leaf in _leaves(known[name], names)]


def _leaves(axis: Axis, names: AxisNames) -> list[Axis]:
    if not axis.parts or axis.name in {whole.name for whole in names.sizes.values()}:
        return [axis]
    return [leaf for part in axis.parts for leaf in _leaves(part, names)]


def _shared(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    """What both begin with."""
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    return tuple(name for name, _ in pairs)


def _is_local(stage: Stage, outer: tuple[str, ...], names: AxisNames) -> bool:
    """Whether units touch nothing outside of their part of an array, but arrays without parts to read."""
    inputs = [node for node in stage.program.nodes if isinstance(node, Input)]
    arrays: list[Array] = [*inputs, *stage.program.outputs]
    for array in arrays:
        leaves = _leaf_names(stage, array.dims, names)
        if isinstance(array, Input):
            if not set(outer) & set(leaves):
                continue
            if set(outer) & set(_leaf_names(stage, array.at_start, names)):
                return False
        if tuple(leaves[: len(outer)]) != outer:
            return False
    return True


def _reads(stage: Stage, others: list[Stage]) -> bool:
    written = {out.name for other in others for out in other.program.outputs}
    return any(array.name in written for array in stage.program.inputs)


def _adds_up_workspaces(stage: Stage) -> bool:
    """Whether a stage can run later: results may be written over arguments, but not over workspaces."""
    return all(array.role == "workspace" for array in stage.program.inputs)
