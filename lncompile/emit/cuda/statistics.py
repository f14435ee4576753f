"""Every row-sized value of a stage, in as few passes over the row as its dependencies allow.

Moments take two passes, which are over registers where the row is held there: the first finds the mean, the
second sums the deviations from it and their squares. The sum of deviations is what rounding lost of the mean,
so the mean is a pair, and its square over the count corrects the variance (Chan, Golub, LeVeque 1983)::

    pivot    = first + sum(x - first) / n
    shift    = sum(x - pivot) / n
    variance = sum((x - pivot)^2) / n - shift^2
"""

from __future__ import annotations

from lncompile.emit.cuda.row import Part, TeamRow, Work
from lncompile.emit.moments import Moments, grouped
from lncompile.emit.statistics import levels_of
from lncompile.ir import MOMENTS, Const, Input, Node, Reduce

_NEUTRAL = {"sum": "0.0", "mean": "0.0", "max": "-INFINITY"}


def statistics(row: TeamRow, nodes: list[Node]) -> list[str]:
    """Lines that compute the reductions over features and the row-sized values among ``nodes``, in order."""
    levels = levels_of(nodes)
    lines: list[str] = []
    for level in range(max(levels.values(), default=0) + 1):
        now = [node for node in nodes if levels[node] == level]
        reductions = [node for node in now if isinstance(node, Reduce)]
        if reductions:
            lines += _pass(row, reductions)
        for node in now:
            if not row.scope.is_vector(node) and not isinstance(node, Const | Input | Reduce):
                name = row.scope.row_name(node, row.width)
                lines += [row.scope.comment(node), f"{name} = {row.scope.row_text(node, row.row_width)}"]
    return lines


def _pass(row: TeamRow, reductions: list[Reduce]) -> list[str]:
    groups = grouped(reductions)
    plain = [reduction for reduction in reductions if reduction.op not in MOMENTS]
    row.check([reduction.operand for reduction in reductions])
    lines = _pivots(row, groups) if groups else []
    names = [(_sum(row, reduction), "max" if reduction.op == "max" else "sum") for reduction in plain]
    for group in groups:
        names += [(f"{_base(row, group)}_sums", "sum"), (f"{_base(row, group)}_squares", "sum")]

    def body(part: Part) -> list[str]:
        made = row.vectors([reduction.operand for reduction in reductions], part)
        for reduction in plain:
            made.append(_accumulated(row, reduction, part))
        for group in groups:
            base, value = _base(row, group), row.scope.vector_operand(group.value, part.width(row.width))
            made += [
                f"{base}_offset = {row.kept(f'{value} - {base}_pivot', part, '0.0')}",
                f"{base}_sums = {base}_sums + total({base}_offset)",
                f"{base}_squares = {base}_squares + total(square({base}_offset))",
            ]
        return made

    lines += [f"{name} = {row.row_width.filled(_zero(op))}" for name, op in names]
    lines += row.over([reduction.operand for reduction in reductions], Work(body))
    lines += row.together(names)
    for group in groups:
        lines += _results(row, group)
    for reduction in plain:
        name, found = row.scope.row_name(reduction, row.width), _sum(row, reduction)
        text = f"{found} / {row.count!r}" if reduction.op == "mean" else found
        lines += [row.scope.comment(reduction), f"{name} = {text}"]
    return lines


def _pivots(row: TeamRow, groups: list[Moments]) -> list[str]:
    """The mean of each value, to the last bit or two."""
    values = [group.value for group in groups]
    start = Part("0")
    lines = [f"# moments of {', '.join(row.scope.names[value] for value in values)}"]
    inputs = [n for n in row.scope.vectors_for(values) if isinstance(n, Input) and not n.at_start]
    lines += [f"{row.nest.index(step)} = 0" for step in row.nest.steps]
    lines += row.nest.step_pointers(inputs)
    lines += [*(row.read(values, start) if row.careful else []), *row.vectors(values, start)]
    for group in groups:
        value = row.scope.vector_operand(group.value, row.width)
        lines += [f"{_base(row, group)}_first = first({value})"]
        lines += [f"{_base(row, group)}_offsets = {row.row_width.filled('0.0')}"]

    def body(part: Part) -> list[str]:
        made = row.vectors(values, part)
        for group in groups:
            base, value = _base(row, group), row.scope.vector_operand(group.value, part.width(row.width))
            offset = row.kept(f"total({value} - {base}_first)", part, "0.0")
            made.append(f"{base}_offsets = {base}_offsets + {offset}")
        return made

    lines += row.over(values, Work(body))
    lines += row.together([(f"{_base(row, group)}_offsets", "sum") for group in groups])
    for group in groups:
        base = _base(row, group)
        lines.append(f"{base}_pivot = {base}_first + {base}_offsets / {row.count!r}")
    return lines


def _results(row: TeamRow, group: Moments) -> list[str]:
    base, scope = _base(row, group), row.scope
    lines = [
        f"{base}_shift = {base}_sums / {row.count!r}",
        f"{base}_spread = {base}_squares / {row.count!r} - square({base}_shift)",
    ]
    if row.width.dtype == "float32":
        row.conditions.append(f"is_finite({base}_spread)")
        row.finite.update(group.parts.values())
    high, low = f"{base}_pivot + {base}_shift", f"rounding_error({base}_pivot, {base}_shift)"
    if row.careful:
        high = f"as_float64(as_float32({high}))"
        low = f"{base}_pivot - {high} + {base}_shift"
    texts = {"mean_high": high, "mean_low": low, "variance": f"maximum({base}_spread, 0.0)"}
    for op in MOMENTS:
        if op in group.parts:
            part = group.parts[op]
            lines += [scope.comment(part), f"{scope.row_name(part, row.width)} = {texts[op]}"]
    return lines


def _base(row: TeamRow, group: Moments) -> str:
    """What the names of a value's sums begin with."""
    return row.scope.stem(group.value, row.width)


def _sum(row: TeamRow, reduction: Reduce) -> str:
    return f"{row.scope.row_name(reduction, row.width)}_lanes"


def _zero(op: str) -> str:
    return _NEUTRAL[op]


def _accumulated(row: TeamRow, reduction: Reduce, part: Part) -> str:
    name, width = _sum(row, reduction), part.width(row.width)
    value = row.scope.filled(reduction.operand, width)
    if reduction.op == "max":
        return f"{name} = maximum({name}, {row.kept(f'largest({value})', part, '-INFINITY')})"
    return f"{name} = {name} + {row.kept(f'total({value})', part, '0.0')}"
