"""Moments of a value over a row, in one pass.

The pass sums x - pivot and its square. The mean of x - pivot corrects the pivot, so the mean is known as a
pair of numbers, and turns the mean square about the pivot into a variance (Chan, Golub, LeVeque 1983):

    shift    = sum(x - pivot) / n
    mean     = pivot + shift
    variance = sum((x - pivot)^2) / n - shift^2

The pivot is near the mean, so that little cancels, and equal to every element of a constant row, so that its
variance is exactly zero. Where it turns out to be far off, the row is computed again about its true mean.
That of a fifth of the row's elements and more is never far off: the mean of m of n numbers is within
sqrt((n - m) / m) deviations of that of all.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from lncompile.emit.loops import Condition, Left, Row, looped
from lncompile.emit.scope import Width
from lncompile.ir import MOMENTS, Node, Reduce


@dataclass
class Moments:
    """The parts of the moments of one value, computed together."""

    value: Node
    parts: dict[str, Reduce] = field(default_factory=dict)

    def base(self, row: Row) -> str:
        """What the names of its sums begin with."""
        return row.scope.stem(self.value, row.width)


def grouped(reductions: list[Reduce]) -> list[Moments]:
    """The moments among ``reductions``, those of the same value together."""
    groups: dict[tuple[Node, frozenset[str]], Moments] = {}
    for reduction in reductions:
        if reduction.op in MOMENTS:
            group = groups.setdefault((reduction.operand, reduction.over), Moments(reduction.operand))
            group.parts[reduction.op] = reduction
    return list(groups.values())


def _pivot_elements(row: Row) -> int:
    """How many of a row's first elements the pivot is the mean of; in the careful path, all."""
    across = row.nest.loops.across
    if row.careful or (across and len(row.nest.steps) != 1):
        return row.count
    return min(row.pivot_lanes, row.count) if across else row.pivot_lanes


def pivot(row: Row, moments: Moments) -> list[str]:
    """The pivot: the mean of the first elements; in the careful path, of all."""
    base, name = moments.base(row), row.scope.names[moments.value]
    elements = _pivot_elements(row)
    start = Width(row.width.dtype, row.pivot_lanes, row.width.suffix)
    value = row.scope.vector_operand(moments.value, start)
    across = row.nest.loops.across
    if across:
        start, value = row.width, row.scope.vector_operand(moments.value, row.width)
    steps = [f"{row.nest.index(step)} = 0" for step in row.nest.steps]
    rounded = f"as_{row.width.dtype}"
    few = not row.careful and (not across or elements < row.count)
    lines = [
        f"# moments of {name} about {f'the mean of its first {elements}' if few else 'its mean'}",
        *steps,
        *row.step_start([moments.value]),
        *([] if across else ["i = 0"]),
        *row.vectors([moments.value], start, row.rest if across else None),
        f"{base}_first = {value}" if across else f"{base}_first = {rounded}(first({value}))",
    ]
    if few and not across:
        mean_offset = f"total({value} - {base}_first) / {float(elements)!r}"
        return [*lines, f"{base}_pivot = {rounded}({base}_first + {mean_offset})"]
    offsets, roots = f"{base}_offsets", [moments.value]
    if few:
        body = [*row.step_start(roots), *_summed_offsets(row, moments, row.rest)]
        lines.append(f"{offsets} = {row.width.filled('0.0')}")
        lines += looped(body, [(row.nest.index(row.nest.steps[0]), str(elements))])
        return [*lines, f"{base}_pivot = {base}_first + {offsets} * {1 / elements!r}"]
    lines += row.summing_loop(roots, [offsets], lambda left: _summed_offsets(row, moments, left))
    if across and not row.careful and not row.in_blocks:
        # Near the mean is near enough, and float32 has twice the lanes.
        return [*lines, f"{base}_pivot = {base}_first + {offsets} * {1 / row.count!r}"]
    mean_offset = f"{row.total(offsets, moments.value)} / {float(row.count)!r}"
    mean = f"{row.as_row_sized(f'{base}_first')} + {mean_offset}"
    return [*lines, f"{base}_pivot = {mean if row.width.dtype == 'float64' else f'{rounded}({mean})'}"]


def kept(row: Row, moments: Moments) -> list[str]:
    """What a row, one of those together, keeps of its pivot."""
    return [row.together.kept(f"{moments.base(row)}_pivot")] if row.together else []


def sums(row: Row, moments: Moments) -> list[str]:
    """The names of the sums: of offsets from the pivot, and of their squares where those are needed."""
    base = moments.base(row)
    return [f"{base}_sums", f"{base}_squares"] if _needs_squares(row, moments) else [f"{base}_sums"]


def _needs_squares(row: Row, moments: Moments) -> bool:
    return "variance" in moments.parts or bool(_checks(row, moments))


def _checks(row: Row, moments: Moments) -> list[str]:
    """Under which conditions the moments can be trusted."""
    if row.careful:
        return []
    base, checks = moments.base(row), []
    if row.count > 5 * _pivot_elements(row):
        # A pivot two deviations off costs the variance two bits; one farther off costs more.
        checks.append(f"{base}_shift * {base}_shift <= 4.0 * {base}_spread")
    if row.width.dtype == "float32":
        checks.append(f"is_finite({base}_spread)")
    return checks


def _summed_offsets(row: Row, moments: Moments, left: Left) -> list[str]:
    base = moments.base(row)
    offset = row.kept(f"{row.repeated(moments.value)} - {base}_first", left)
    return [*row.vectors([moments.value], row.width, left), f"{base}_offsets += {offset}"]


def step(row: Row, moments: Moments, left: Left) -> list[str]:
    """What one vector adds to the sums."""
    base = moments.base(row)
    offset = row.kept(f"{row.repeated(moments.value)} - {base}_pivot", left)
    lines = [f"{base}_offset = {offset}", f"{base}_sums += {base}_offset"]
    if _needs_squares(row, moments):
        lines.append(f"{base}_squares = fma({base}_offset, {base}_offset, {base}_squares)")
    return lines


def results(row: Row, moments: Moments) -> list[str]:
    """The parts of the moments from the sums."""
    base, count = moments.base(row), repr(float(row.count))
    beside = [row.together.side_by_side(f"{base}_pivot")] if row.together else []
    lines = [*beside, f"{base}_shift = {row.total(f'{base}_sums', moments.value)} / {count}"]
    if _needs_squares(row, moments):
        mean_square = f"{row.total(f'{base}_squares', moments.value)} / {count}"
        lines.append(f"{base}_spread = {mean_square} - {base}_shift * {base}_shift")
    is_wide = row.scope.is_wide(moments.value)
    row.conditions.extend(Condition(check, is_wide) for check in _checks(row, moments))
    centre = row.as_row_sized(f"{base}_pivot")
    mean = f"{centre} + {base}_shift"
    rounded = mean if row.scope.program.compute == "float64" else f"as_float64(as_float32({mean}))"
    texts = {
        "mean_high": rounded,
        "mean_low": f"{centre} - ({rounded}) + {base}_shift",
        "variance": f"maximum({base}_spread, 0.0)",
    }
    if "mean_high" in moments.parts:
        texts["mean_low"] = f"{centre} - {row.scope.names[moments.parts['mean_high']]} + {base}_shift"
    for op in MOMENTS:
        if op in moments.parts:
            part = moments.parts[op]
            lines += [row.scope.comment(part), f"{row.scope.names[part]} = {texts[op]}"]
    return lines
