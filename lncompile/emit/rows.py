"""The kernel of a rows program: row after row, gradients of parameters summed in blocks of rows."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lncompile.emit.loops import Left, Row, loaded, over_features, prefetched, repeated, stored
from lncompile.emit.scope import Scope, Width
from lncompile.emit.statistics import statistics
from lncompile.emit.templates import fill
from lncompile.ir import Input, Node, Output, Program, Reduce
from lncompile.schedule.cpu import RowsSchedule


@dataclass(frozen=True)
class RowsKernel:
    """A rows program over at most one batch axis and at most one feature axis, with its schedule."""

    program: Program
    schedule: RowsSchedule

    @property
    def features(self) -> int:
        """The number of features of a row; 1 where the program has no feature axis."""
        return self.program.count(self.program.features)

    @property
    def sums(self) -> tuple[Output, ...]:
        """Sums over rows with one value a feature, in the order in which a block keeps them."""
        return tuple(out for out in self.program.outputs if out.role == "workspace" and out.dims)

    @property
    def scalar_sums(self) -> tuple[Output, ...]:
        """Sums over rows that are one number."""
        return tuple(out for out in self.program.outputs if out.role == "workspace" and not out.dims)

    def lines(self) -> list[str]:
        """The body of the kernel."""
        program, schedule = self.program, self.schedule
        vector_axis = next(iter(program.features), None)
        scope = Scope(program, vector_axis)
        kernel_nodes = [node for node in program.nodes if not _is_batch_sum(node, program)]
        once = [node for node in kernel_nodes if not node.axes & program.batch]
        each = [node for node in kernel_nodes if node.axes & program.batch]
        fast = Row(
            scope,
            self.features,
            Width(program.compute, schedule.statistics_lanes),
            schedule.pivot_lanes,
            schedule.steps_to_total,
            _load,
        )
        before = [*_reads([n for n in once if isinstance(n, Input)], scope, "0"), *statistics(fast, once)]
        if any(out.role == "saved" for out in program.outputs):
            saved = next(out for out in program.outputs if out.role == "saved")
            before.append(f"keep = is_given({saved.name})")
        row = self._row(fast, each)
        last: list[str] = []
        if self._streamed:
            before += self._decide_streaming()
            last = ["if streamed:", "    fence()"]
        holes = {"once": before, "row": row, "last": last}
        if not (self.sums or self.scalar_sums):
            return fill("cpu/rows.py", "rows", holes)
        holes |= {"open_block": self._open_block(), "close_block": self._close_block()}
        return fill("cpu/rows_in_blocks.py", "rows_in_blocks", holes, BLOCK_ROWS=schedule.block_rows)

    def _row(self, fast: Row, nodes: list[Node]) -> list[str]:
        scope, program = fast.scope, self.program
        pointers = [
            f"{array.name}_row = advance({array.name}, row * {self.features})"
            for array in program.arrays
            if set(array.dims) == program.batch | program.features and program.features
        ]
        pointers += _reads([node for node in nodes if isinstance(node, Input)], scope, "row")
        lines = statistics(fast, nodes)
        elements = replace(fast, width=Width(program.compute, self.schedule.element_lanes))
        lines += elements.narrow([_summed(out) for out in self._element_outputs])
        written = self._elements_streamed_or_not(elements)
        if not fast.conditions:
            holes = {
                "pointers": pointers,
                "statistics": lines,
                "elements": written,
                "results": self._results(scope),
            }
            return fill("cpu/row.py", "row", holes)
        careful = replace(
            fast,
            width=Width("float64", self.schedule.careful_lanes, "_wide"),
            careful=True,
            conditions=[],
            narrowed=set(),
        )
        holes = {
            "pointers": pointers,
            "statistics": [*lines, *_ordinary(fast.conditions)],
            "elements": written or ["pass"],
            "careful": [*statistics(careful, nodes), *self._elements(careful)],
            "results": self._results(scope),
        }
        return fill("cpu/row_with_fallback.py", "row_with_fallback", holes)

    @property
    def _element_outputs(self) -> list[Output]:
        return [out for out in self.program.outputs if self.program.features & set(out.dims)]

    def _elements(self, row: Row) -> list[str]:
        """The loop that writes element-sized outputs and adds to the block's sums."""
        if not self._element_outputs:
            return []
        return row.loop(lambda left: self._element_step(row, left, stream=False))

    def _elements_streamed_or_not(self, row: Row) -> list[str]:
        """The loop twice where results may be large: past the caches, and through them."""
        plain = self._elements(row)
        if not self._streamed:
            return plain
        holes = {
            "head": self._element_step(row, "start", stream=False),
            "whole": self._element_step(row, None, stream=True),
            "partial": self._element_step(row, "left", stream=False),
        }
        names = {"FEATURES": self.features, "LANES": row.width.lanes, "BYTES": self.schedule.stream_bytes}
        target = f"{self._streamed[0].name}_row"
        streamed = fill("cpu/features.py", "features_streamed", holes, TARGET=target, **names)
        return fill("cpu/features.py", "streamed_or_not", {"streamed": streamed, "plain": plain})

    def _element_step(self, row: Row, left: Left, stream: bool) -> list[str]:
        outputs = self._element_outputs
        values = [_summed(out) for out in outputs]
        lines: list[str] = []
        if stream and self.schedule.prefetch:
            read = [n for n in row.scope.vectors_for(values) if isinstance(n, Input) and len(n.dims) == 2]
            lines += prefetched(row, read, self.schedule.prefetch)
        lines += row.vectors(values, row.width, left)
        for out, value in zip(outputs, values, strict=True):
            place, text = f"{out.name}_row, i", repeated(row, value)
            if out in self.sums:
                lines += self._add_to_sum(row, out, left)
            elif stream and out in self._streamed:
                lines.append(f"stream({place}, {text}, {self.schedule.stream_bytes})")
            else:
                lines.append(stored(place, text, left))
        return lines

    @property
    def _streamed(self) -> list[Output]:
        """Outputs that may be written past the caches: in the compute type, so that their vectors align."""
        if not self.schedule.stream_rows or self.features < self.schedule.element_lanes:
            return []
        dtype = self.program.compute
        return [out for out in self._element_outputs if out not in self.sums and out.dtype == dtype]

    def _decide_streaming(self) -> list[str]:
        bytes_ = self.schedule.stream_bytes
        first, *others = self._streamed
        alike = "".join(f" and same_alignment({first.name}, {out.name}, {bytes_})" for out in others)
        return [f"streamed = rows >= {self.schedule.stream_rows}{alike}"]

    def _add_to_sum(self, row: Row, out: Output, left: Left) -> list[str]:
        index = self.sums.index(out)
        place = f"sums, i + {index * self.features}" if index else "sums, i"
        name = f"{out.name}{row.width.suffix}"
        return [
            f"{name} = {loaded(place, row.width, left, self.program.compute)}",
            stored(place, row.scope.added(_summed(out), name, row.width), left),
        ]

    def _open_block(self) -> list[str]:
        lines = []
        if self.sums:
            size = len(self.sums) * self.features
            lines.append(f"sums = advance(partial, block * {size})")
            width = Width(self.program.compute, self.schedule.element_lanes)
            lines += over_features(
                size, width.lanes, lambda left: [stored("sums, i", width.filled("0.0"), left)]
            )
        return lines + [f"{out.name} = 0.0" for out in self.scalar_sums]

    def _close_block(self) -> list[str]:
        count = len(self.scalar_sums)
        return [
            f"write(partial_scalars, block * {count} + {index}, {out.name})"
            for index, out in enumerate(self.scalar_sums)
        ]

    def _results(self, scope: Scope) -> list[str]:
        """Row-sized outputs, and sums over rows of row-sized values."""
        lines: list[str] = []
        kept: list[str] = []
        for out in self.program.outputs:
            if out in self._element_outputs:
                continue
            value = scope.names[_summed(out)]
            if out.role == "workspace":
                lines.append(f"{out.name} += {value}")
            else:
                (kept if out.role == "saved" else lines).append(f"write({out.name}, row, {value})")
        if kept:
            lines += ["if keep:", *("    " + line for line in kept)]
        return lines


def _is_batch_sum(node: Node, program: Program) -> bool:
    return isinstance(node, Reduce) and bool(node.over & program.batch)


def _summed(out: Output) -> Node:
    """What a row contributes to an output: for a sum over rows, the value that is summed."""
    return out.value.operand if out.role == "workspace" and isinstance(out.value, Reduce) else out.value


def _reads(inputs: list[Input], scope: Scope, index: str) -> list[str]:
    return [
        f"{scope.names[node]} = read({node.name}, {index})" for node in inputs if not scope.is_vector(node)
    ]


def _load(node: Input, name: str, width: Width, left: Left) -> list[str]:
    pointer = node.name if len(node.dims) == 1 else f"{node.name}_row"
    return [f"{name} = {loaded(f'{pointer}, i', width, left, node.dtype)}"]


def _ordinary(conditions: list[str]) -> list[str]:
    return [f"ordinary = {' and '.join(conditions)}"]
