"""The kernel of one stage: unit after unit, in each one row or a block of rows.

A row is read at least twice: for its statistics, and where elements are written. Sums that later stages
finish go to workspaces: one number a row, one a step of the loops, or, for a block of rows, one a lane.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from lncompile.dtypes import TABLE
from lncompile.emit.loops import Left, Row, loaded, looped, over_features, prefetched, stored
from lncompile.emit.nest import AxisNames, Nest, as_python, product
from lncompile.emit.scope import Scope, Width
from lncompile.emit.statistics import statistics
from lncompile.emit.templates import fill
from lncompile.ir import Input, Node, Output, Program, Reduce, depending_on
from lncompile.passes.loops import Loops
from lncompile.passes.stages import Stage
from lncompile.schedule.cpu import Schedule, fitting


@dataclass(frozen=True)
class StageKernel:
    """A stage of a phase, the phase's size variables, and the schedule."""

    stage: Stage
    axis_names: AxisNames
    schedule: Schedule

    @property
    def program(self) -> Program:
        """What the kernel computes."""
        return self.stage.program

    @property
    def loops(self) -> Loops:
        """How it goes over its axes."""
        return self.stage.loops

    @cached_property
    def nest(self) -> Nest:
        """Its loops, and where its arrays lie."""
        return Nest(self.stage, self.axis_names)

    @cached_property
    def _scope(self) -> Scope:
        return Scope(self.program, self.loops, frozenset(self.nest.words))

    def lines(self) -> list[str]:
        """The body of the kernel."""
        nodes = [node for node in self.program.nodes if not self._is_partial(node)]
        rows = set(self.loops.row_axes)
        reduced = depending_on(nodes, lambda node: isinstance(node, Reduce))
        once = [node for node in nodes if not node.axes & rows and node not in reduced]
        each = [node for node in nodes if node.axes & rows or node in reduced]
        fast = self._row_of(self.schedule.statistics_lanes)
        before = [*self._reads(once, fast), *statistics(fast, once)]
        saved = [out for out in self.program.outputs if out.role == "saved"]
        if saved:
            before.append(f"keep = is_given({saved[0].name})")
        row = self._row(fast, each)
        last: list[str] = []
        if self._streamed:
            before += self._decide_streaming()
            last = ["if streamed:", "    fence()"]
        unit, indices = self.nest.indices()
        start = [*indices, *self._tile(), *self.nest.lengths(of_rows=False)]
        holes = {"once": before, "unit": [*start, *self._rows_of_unit(row)], "last": last}
        if not self.nest.counts:
            return fill("cpu/units.py", "only_unit", holes)
        return fill("cpu/units.py", "units", holes, UNIT=unit)

    def _row_of(self, lanes: int) -> Row:
        """How rows are computed first."""
        loops, size = self.loops, self.nest.vector.size if self.nest.vector else 1
        lanes = loops.lanes if loops.across else fitting(lanes, size)
        pivot = min(self.schedule.pivot_lanes, 1 << max(size or 1, 1).bit_length() - 1)
        width = Width(self.program.compute, lanes)
        return Row(self._scope, self.nest, width, pivot, self.schedule.steps_to_total)

    def _tile(self) -> list[str]:
        vector = self.nest.vector
        if vector is None:
            return ["i = 0"]
        if not self.loops.across:
            return []
        lanes = self.loops.lanes
        lines = [f"i = tile * {lanes}"]
        if vector.size is None or vector.size % lanes:
            lines.append(f"count = min({lanes}, {as_python(self.nest.size(vector.name))} - i)")
        return lines

    def _rows_of_unit(self, row: list[str]) -> list[str]:
        """The rows of a block, one after another, or the one row that a unit is."""
        block = self.stage.block_axis
        if block is None:
            return row
        row = looped(row, [(self.nest.index(name), self.nest.size(name)) for name in self.nest.within])
        opened = [line for out in self._kept_in_blocks if self._blocks(out) for line in self._zeroed(out)]
        if self.loops.group > 1:
            return [*opened, *row]
        return fill(
            "cpu/units.py",
            "rows_of_block",
            {"open": opened, "row": row},
            BLOCK=self.nest.block_index,
            PER=self.loops.block,
            ROW=self.nest.index(block),
            ROWS=as_python(self.nest.size(block)),
        )

    # One row

    def _row(self, fast: Row, nodes: list[Node]) -> list[str]:
        used = [
            n for n in nodes if isinstance(n, Input) and self._scope.is_vector(n) and self._scope.is_wide(n)
        ]
        arrays: list[Input | Output] = [
            *(n for n in used if not n.at_start),
            *filter(self._is_streak, self._element_outputs),
        ]
        fixed = [array for array in arrays if not self._differs_in_group(array)]
        pointers = self.nest.lengths(of_rows=True) + self.nest.row_pointers(fixed)
        for out in self._kept_in_blocks:
            if not self._blocks(out):
                pointers += self._zeroed(out)
        lines = [*self._reads(nodes, fast), *statistics(fast, nodes)]
        lanes = self._row_of(self.schedule.element_lanes).width.lanes
        elements = replace(fast, width=replace(fast.width, lanes=lanes))
        lines += elements.narrow([self._contribution(out) for out in self._element_outputs])
        written = self._elements_streamed_or_not(elements)
        holes = {"pointers": pointers, "results": self._results(fast)}
        if not fast.conditions:
            return fill("cpu/row.py", "row", holes | {"statistics": lines, "elements": written})
        careful_lanes = fitting(self.schedule.careful_lanes, self.nest.vector.size if self.nest.vector else 1)
        across = self.loops.across
        wide = Width("float64", self.loops.lanes if across else careful_lanes, "_wide")
        careful = replace(fast, width=wide, careful=True, conditions=[], narrowed=set())
        mixed = replace(careful, ordinary_row=elements) if across else careful
        holes |= {
            "statistics": [*lines, f"ordinary = {fast.ordinary}"],
            "elements": written or ["pass"],
            "careful": self._of_all_lanes([*statistics(careful, nodes), *self._elements(mixed)]),
        }
        ordinary = "everywhere(ordinary)" if across else "ordinary"
        return fill("cpu/row_with_fallback.py", "row_with_fallback", holes, ORDINARY=ordinary)

    def _of_all_lanes(self, careful: list[str]) -> list[str]:
        """``careful``, after which those of rows side by side that are ordinary have their results back."""
        if not self.loops.across:
            return careful
        results = {self._contribution(out) for out in self._row_outputs}
        computed = [node for node in self.program.nodes if node in results and not isinstance(node, Input)]
        names = [self._scope.names[node] for node in computed]
        before = [f"{name}_first = {name}" for name in names]
        return [*before, *careful, *(f"{name} = where(ordinary, {name}_first, {name})" for name in names)]

    def _reads(self, nodes: list[Node], row: Row) -> list[str]:
        inputs = [node for node in nodes if isinstance(node, Input) and not self._scope.is_vector(node)]
        return [f"{self._scope.names[node]} = {row.row_value(node)}" for node in inputs]

    # Elements

    @cached_property
    def _element_outputs(self) -> list[Output]:
        """Outputs that the loop over elements writes or adds to."""
        inside = self.loops.inside
        return [
            out
            for out in self.program.outputs
            if set(out.dims) & inside
            or (self._contribution(out).axes & inside and self._is_partial(out.value))
        ]

    @property
    def _row_outputs(self) -> list[Output]:
        """Outputs that the results of rows are written or added to."""
        return [out for out in self.program.outputs if out not in self._element_outputs]

    @cached_property
    def _kept_in_blocks(self) -> list[Output]:
        """Partial sums with a number for each lane."""
        return [out for out in self._element_outputs if self._is_partial(out.value) and self._is_streak(out)]

    @cached_property
    def _step_sums(self) -> list[Output]:
        """Partial sums with a number for each step of the loops around the vectors."""
        return [
            out for out in self._element_outputs if self._is_partial(out.value) and not self._is_streak(out)
        ]

    def _is_streak(self, out: Output) -> bool:
        """Whether an array has the axis that lies in the lanes."""
        return self.loops.vector in out.dims

    def _blocks(self, out: Output) -> bool:
        """Whether a sum is kept over a block of rows, not over one row."""
        return any(name not in self.loops.domain for name in out.dims)

    def _is_partial(self, node: Node) -> bool:
        """Whether a node is a reduction that later stages finish."""
        return isinstance(node, Reduce) and node.over != self.loops.inside

    def _contribution(self, out: Output) -> Node:
        """What an element or a row contributes to an output."""
        value = out.value
        return value.operand if isinstance(value, Reduce) and self._is_partial(value) else value

    def _elements(self, row: Row) -> list[str]:
        """The loop that writes element-sized outputs and adds to sums."""
        outputs = self._element_outputs
        if not outputs:
            return []
        if self.loops.group > 1:
            return self._groups(row, stream=False)
        roots = [self._contribution(out) for out in outputs]
        start = row.step_start(roots, [out for out in outputs if self._is_streak(out)])
        if self.loops.across or self.loops.vector is None:
            left = row.rest if self.loops.across else None
            body = [*self._element_step(row, left, stream=False), *self._step_totals(row, left)]
            return [*row.over_steps(start, body), *self._tiles_written()]
        start += [f"{self._lanes(out, row)} = {row.width.filled(_neutral(out))}" for out in self._step_sums]

        def step(left: Left) -> list[str]:
            return self._element_step(row, left, stream=False)

        body = over_features(row.length, row.width.lanes, step)
        return row.over_steps(start, [*body, *self._step_totals(row, None)])

    def _tiles_written(self) -> list[str]:
        lines = []
        for out in self._element_outputs:
            if self.nest.is_tiled(out):
                line = f"store_rows({out.name}, {self.nest.tile(out)}, {self.nest.row_pointer(out)})"
                lines += ["if keep:", f"    {line}"] if out.role == "saved" else [line]
        return lines

    def _elements_streamed_or_not(self, row: Row) -> list[str]:
        """The loop twice where results may be large: past the caches, and through them."""
        plain = self._elements(row)
        if not self._streamed:
            return plain
        if self.loops.group > 1:
            streamed = self._groups(row, stream=True)
            return fill("cpu/features.py", "streamed_or_not", {"streamed": streamed, "plain": plain})
        holes = {
            "head": self._element_step(row, "start", stream=False),
            "whole": self._element_step(row, None, stream=True),
            "partial": self._element_step(row, "left", stream=False),
        }
        names = {"FEATURES": row.length, "LANES": row.width.lanes, "BYTES": self.schedule.stream_bytes}
        target = self.nest.step_pointer(self._streamed[0])
        body = fill("cpu/features.py", "features_streamed", holes, TARGET=target, **names)
        roots = [self._contribution(out) for out in self._element_outputs]
        streamed = row.over_steps(row.step_start(roots, self._element_outputs), body)
        return fill("cpu/features.py", "streamed_or_not", {"streamed": streamed, "plain": plain})

    def _element_step(self, row: Row, left: Left, stream: bool) -> list[str]:
        values = [self._contribution(out) for out in self._element_outputs]
        lines: list[str] = []
        if stream and self._prefetch:
            read = [
                node
                for node in row.scope.vectors_for(values)
                if isinstance(node, Input) and set(node.dims) == set(self.loops.domain)
            ]
            lines += prefetched(row, read, self._prefetch)
        lines += row.vectors(values, row.width, left)
        for out in self._element_outputs:
            if out in self._step_sums:
                if not self.loops.across:
                    lines.append(self._accumulated(row, out, left))
            elif out in self._kept_in_blocks:
                lines += self._add_to_sum(row, out, left)
            else:
                lines += self._written(row, out, left, stream=stream)
        return lines

    # Groups of rows

    def _differs_in_group(self, array: Input | Output) -> bool:
        """Whether rows of a group have different parts of an array."""
        return self.loops.group > 1 and self.stage.block_axis in array.dims

    def _groups(self, row: Row, *, stream: bool) -> list[str]:
        """The rows of a block in groups: at each place, the vectors of all rows of a group."""
        nest, block = self.nest, self.stage.block_axis or ""
        head: list[str] = []
        if stream:
            # Rows lie alike: where a vector of the first begins on a boundary, those of the others do.
            head = [f"{nest.index(block)} = from_row", *nest.row_pointers(self._streamed[:1])]
            holes = {
                "head": self._group_step(row, "start", stream=False),
                "whole": self._group_step(row, None, stream=True),
                "partial": self._group_step(row, "left", stream=False),
            }
            names = {"FEATURES": row.length, "LANES": row.width.lanes, "BYTES": self.schedule.stream_bytes}
            target = nest.row_pointer(self._streamed[0])
            body = fill("cpu/features.py", "features_streamed", holes, TARGET=target, **names)
        else:
            body = over_features(
                row.length, row.width.lanes, lambda left: self._group_step(row, left, stream=False)
            )
        return fill(
            "cpu/units.py",
            "groups_of_rows",
            {"body": [*head, *body]},
            BLOCK=nest.block_index,
            PER=self.loops.block,
            ROWS=as_python(nest.size(block)),
            GROUP=self.loops.group,
        )

    def _group_step(self, row: Row, left: Left, *, stream: bool) -> list[str]:
        block = self.stage.block_axis or ""
        values = [self._contribution(out) for out in self._element_outputs]
        inputs = [node for node in row.scope.vectors_for(values) if isinstance(node, Input)]
        differing = [array for array in inputs if block in array.axes]
        written = [out for out in self._element_outputs if self._differs_in_group(out)]
        each = self.nest.row_pointers([*differing, *written])
        for array in differing:
            ahead = product([str(self.loops.group), self.nest.stride(array, block)])
            each += prefetched(row, [array], as_python(ahead))
        each += row.vectors(values, row.width, left, lambda node: block in node.axes)
        lines = row.vectors(values, row.width, left, lambda node: block not in node.axes)
        for out in self._element_outputs:
            if out in self._kept_in_blocks:
                lines.append(f"{self._sum(row, out)} = {self._sum_so_far(row, out, left)}")
                each.append(f"{self._sum(row, out)} = {self._sum_with(row, out)}")
            else:
                each += self._written(row, out, left, stream=stream)
        lines += fill("cpu/units.py", "rows_of_group", {"row": each}, ROW=self.nest.index(block))
        return lines + [self._stored(row, out, self._sum(row, out), left) for out in self._kept_in_blocks]

    def _written(self, row: Row, out: Output, left: Left, *, stream: bool) -> list[str]:
        text = row.repeated(out.value)
        if stream and out in self._streamed:
            return [f"stream({self.nest.step_pointer(out)}, i, {text}, {self.schedule.stream_bytes})"]
        line = self._stored(row, out, text, left)
        return ["if keep:", f"    {line}"] if out.role == "saved" else [line]

    def _stored(self, row: Row, out: Output, text: str, left: Left) -> str:
        if self.nest.is_tiled(out):
            return f"store({self.nest.step_pointer(out)}, 0, {text})"
        stride = self.nest.stride(out, self.loops.vector or "")
        return stored(self.nest.step_pointer(out), stride, text, left, row.width.lanes)

    # Sums that later stages finish

    def _lanes(self, out: Output, row: Row) -> str:
        return f"{out.name}{row.width.suffix}_lanes"

    def _accumulated(self, row: Row, out: Output, left: Left) -> str:
        lanes, value = self._lanes(out, row), self._contribution(out)
        if _operation(out) == "sum" and left is None:
            return f"{lanes} = {row.scope.added(value, lanes, row.width)}"
        text = row.kept(row.repeated(value), left, _neutral(out))
        return f"{lanes} += {text}" if _operation(out) == "sum" else f"{lanes} = maximum({lanes}, {text})"

    def _step_totals(self, row: Row, left: Left) -> list[str]:
        """What a step of the loops around the vectors adds up to, written."""
        lines = []
        for out in self._step_sums:
            value = self._contribution(out)
            assert isinstance(out.value, Reduce)
            finish = "total" if _operation(out) == "sum" else "largest"
            if self.loops.vector not in out.value.over:
                text = row.repeated(value)
            elif self.loops.across:
                kept = row.repeated(value)
                if left is not None:
                    kept = f"keep_first({kept}, {left}, {_neutral(out)})"
                text = f"{finish}({kept})"
            else:
                text = f"{finish}({self._lanes(out, row)})"
            axes = {*self.nest.unit_axes(out), *self.nest.steps}
            lines.append(f"write({out.name}, {self.nest.offset(out, axes)}, {text})")
        return lines

    def _add_to_sum(self, row: Row, out: Output, left: Left) -> list[str]:
        return [
            f"{self._sum(row, out)} = {self._sum_so_far(row, out, left)}",
            self._stored(row, out, self._sum_with(row, out), left),
        ]

    def _sum(self, row: Row, out: Output) -> str:
        return f"{out.name}{row.width.suffix}_i"

    def _sum_so_far(self, row: Row, out: Output, left: Left) -> str:
        stride = self.nest.stride(out, self.loops.vector or "")
        return loaded(self.nest.step_pointer(out), stride, row.width, left, out.dtype)

    def _sum_with(self, row: Row, out: Output) -> str:
        name, value = self._sum(row, out), self._contribution(out)
        if _operation(out) == "sum":
            fused = row.scope.added(value, name, row.width)
            return f"{name} + {row.repeated(value)}" if row.ordinary_row else fused
        return f"maximum({name}, {row.repeated(value)})"

    def _zeroed(self, out: Output) -> list[str]:
        """Lines that set the sums of a block, or of a row, to what nothing adds up to."""
        nest, loops = self.nest, self.loops
        outer = [name for name in nest.unit_axes(out) if name not in nest.within or not self._blocks(out)]
        inner = [name for name in out.dims if name not in outer and name != loops.vector]
        row = self._row_of(self.schedule.element_lanes)
        filled = row.width.filled(_neutral(out))
        if loops.across:
            stride = nest.stride(out, loops.vector or "")
            terms = nest.offset(out, {*outer, *inner})
            lines = [
                f"sums = advance({out.name}, {terms})",
                stored("sums", stride, filled, row.rest, row.width.lanes),
            ]
            return looped(lines, [(nest.index(name), self._extent(name, outer)) for name in inner])
        sizes = product(self._extent(name, outer) for name in nest.whole(out.dims) if name not in outer)
        length = int(sizes) if sizes.isdigit() else as_python(f"({sizes})")
        lanes = fitting(self.schedule.element_lanes, length if isinstance(length, int) else None)
        filled = replace(row.width, lanes=lanes).filled(_neutral(out))
        lines = [f"sums = advance({out.name}, {nest.offset(out, outer)})"]
        return lines + over_features(length, lanes, lambda left: [stored("sums", "1", filled, left, lanes)])

    def _extent(self, name: str, outer: list[str]) -> str:
        """The positions along an axis that a unit has where those along ``outer`` are fixed."""
        stretch = self.nest.stretch_of(name)
        return (
            self.nest.size(name) if stretch is None or stretch.name not in outer else self.nest.length(name)
        )

    # Row-sized results

    def _results(self, row: Row) -> list[str]:
        """Row-sized outputs, and what a row contributes to sums over rows."""
        lines: list[str] = []
        kept: list[str] = []
        row = replace(row, width=Width("float64", row.width.lanes))
        for out in self._row_outputs:
            offset = self.nest.offset(out, self.nest.unit_axes(out))
            value = self._contribution(out)
            if self.loops.across:
                pointer = out.name if offset == "0" else f"advance({out.name}, {offset})"
                stride = self.nest.stride(out, self.loops.vector or "")
                line = stored(pointer, stride, row.repeated(value), row.rest, row.width.lanes)
            else:
                line = f"write({out.name}, {offset}, {row.scope.row_operand(value)})"
            (kept if out.role == "saved" else lines).append(line)
        if kept:
            lines += ["if keep:", *("    " + line for line in kept)]
        return lines

    # Results past the caches

    @cached_property
    def _streamed(self) -> list[Output]:
        """Outputs that may be written past the caches: whole aligned vectors of long streaks."""
        schedule, vector = self.schedule, self.nest.vector
        if vector is None or self.loops.across or not schedule.stream_from or self._step_sums:
            return []
        row = self._row_of(schedule.element_lanes)
        itemsize = TABLE[self.program.compute].itemsize
        if isinstance(row.length, int):
            if row.length < schedule.element_lanes or row.length % self._alike:
                return []
            if self.nest.steps and row.length * itemsize < schedule.prefetch_from:
                return []
        return [
            out
            for out in self._element_outputs
            if not self._is_partial(out.value)
            and out.role != "saved"
            and row.width.lanes * TABLE[out.dtype].itemsize % schedule.stream_bytes == 0
            and self.nest.stride(out, vector.name) == "1"
        ]

    @property
    def _alike(self) -> int:
        """What a row's number of elements must be a multiple of: rows of a group begin alike."""
        if self.loops.group == 1:
            return 1
        return self.schedule.stream_bytes // min(TABLE[out.dtype].itemsize for out in self.program.outputs)

    @property
    def _row_size(self) -> int | None:
        """The number of elements of a row, where that is known when compiling."""
        size = product(self.nest.size(name) for name in self.loops.inside)
        return int(size) if size.isdigit() else None

    @property
    def _prefetch(self) -> int:
        """How many elements ahead inputs are prefetched: one row, if rows lie one behind the other."""
        length = self._row_of(self.schedule.element_lanes).length
        itemsize = TABLE[self.program.compute].itemsize
        if not isinstance(length, int) or self.nest.steps or length * itemsize < self.schedule.prefetch_from:
            return 0
        return length

    def _decide_streaming(self) -> list[str]:
        bytes_ = self.schedule.stream_bytes
        first, *others = self._streamed
        alike = "".join(f" and same_alignment({first.name}, {out.name}, {bytes_})" for out in others)
        size = self._row_size or 1
        counted = self.loops.units
        if self._row_size is None:
            # Rows of a length that only a call tells: as many elements, and no row shorter than some vectors.
            counted = self.nest.whole(self.loops.domain)
            length = as_python(self.nest.size(self.loops.vector or ""))
            shortest = self.schedule.prefetch_from // TABLE[self.program.compute].itemsize
            if self.loops.group > 1:
                alike += f" and {length} % {self._alike} == 0"
            else:
                alike += f" and {length} >= {shortest}"
        least = max(1, self.schedule.stream_from // (size * TABLE[first.dtype].itemsize))
        sizes = as_python(product(self.nest.size(name) for name in counted))
        return [f"streamed = {sizes} >= {least}{alike}"]


def _operation(out: Output) -> str:
    assert isinstance(out.value, Reduce)
    return out.value.op


def _neutral(out: Output) -> str:
    return "0.0" if _operation(out) == "sum" else "-INFINITY"
