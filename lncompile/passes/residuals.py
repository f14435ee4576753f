"""Cuts the joint program in two: what the forward computes and keeps, what the backward computes from it.

    y  = c * rstd                         forward:   y, rstd        backward:   c  = x - mean (again, from x)
    dx = f(dy, c, rstd)            -->    mean kept                             dx = f(dy, c, rstd)

A value that has been reduced over features and still varies over batch axes is one number a row: it is saved.
Element-sized values are computed again from the inputs, which costs arithmetic that the memory traffic hides;
values without batch axes are computed again because that is cheaper than passing them on. Maxima that the
backward looks for among its elements are taken again among these (``maxima.py``). What may overflow where
the inputs do not, as a variance does, is saved as float64 (``powers.py``).
"""

from __future__ import annotations

from dataclasses import replace

from lncompile.ir import Input, Node, Output, Program, Reduce, depending_on, operands, rebuilt
from lncompile.passes.maxima import told_by_meetings
from lncompile.passes.powers import fitting
from lncompile.printer import names_of


def residuals(joint: Program) -> tuple[Program, Program]:
    """The forward program, with saved outputs, and the backward program, with the same as inputs."""
    order = joint.nodes
    from_cotangent = depending_on(order, lambda node: isinstance(node, Input) and node.role == "cotangent")
    reduced = depending_on(order, lambda node: isinstance(node, Reduce))
    saved = _frontier(joint, from_cotangent, reduced)
    names = names_of(joint, frozenset({"row", "rows"}))
    fits = fitting(joint)
    stand_ins = {
        node: _saved_input(node, names[node], joint, joint.compute if node in fits else "float64")
        for node in saved
    }

    gradients = tuple(output for output in joint.outputs if output.role == "gradient")
    forward = replace(
        joint,
        inputs=tuple(node for node in joint.inputs if node.role == "input"),
        outputs=tuple(output for output in joint.outputs if output.role == "output")
        + tuple(Output(s.name, node, s.dims, s.dtype, "saved") for node, s in stand_ins.items()),
    )
    mapped = rebuilt(order, stand_ins)
    backward = replace(
        joint,
        inputs=joint.inputs + tuple(stand_ins.values()),
        outputs=tuple(replace(output, value=mapped[output.value]) for output in gradients),
    )
    return forward, backward


def _frontier(joint: Program, from_cotangent: set[Node], reduced: set[Node]) -> list[Node]:
    """The row-sized values at which the walk from the gradients to the inputs stops, in program order."""
    found: set[Node] = set()
    seen: set[Node] = set()
    taken_again = told_by_meetings(joint)
    stack = [output.value for output in joint.outputs if output.role == "gradient"]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        row_sized = bool(node.axes) and node.axes <= joint.batch
        known = node in reduced and node not in from_cotangent and node not in taken_again
        if row_sized and node.kind == "real" and known:
            found.add(node)
        else:
            stack.extend(operands(node))
    return _fewest(joint, found, taken_again)


def _fewest(joint: Program, found: set[Node], taken_again: set[Node]) -> list[Node]:
    """``found``, or the reductions that give it where those are fewer: the variance for 1/std and std."""
    reductions: set[Node] = set()
    stack = list(found)
    while stack:
        node = stack.pop()
        if isinstance(node, Reduce) and node.axes:
            reductions.add(node)
        else:
            stack.extend(operands(node))
    direct = {node for node in found if not _follows_from(node, found)}
    fewer = len(reductions) < len(direct) and reductions.isdisjoint(taken_again)
    saved = reductions if fewer else direct
    return [node for node in joint.nodes if node in saved]


def _follows_from(node: Node, found: set[Node]) -> bool:
    """Whether other saved values give this one: the square of a saved value is not saved."""
    if isinstance(node, Reduce | Input):
        return False
    return all(operand in found or _follows_from(operand, found) for operand in operands(node))


def _saved_input(node: Node, name: str, joint: Program, dtype: str) -> Input:
    dims = joint.ordered(node.axes)
    while name in joint.names:
        name += "_saved"
    return Input(name, dims, dtype, "saved")
