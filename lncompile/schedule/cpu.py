"""How the CPU's kernels are laid out: a frozen dataclass, and the heuristic that fills it.

Every constant stands beside its reason; ``benchmarks/NOTES.md`` holds the measurements.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace

from lncompile.dtypes import TABLE
from lncompile.errors import LncValueError
from lncompile.ir import Program, Reduce
from lncompile.schedule.changes import changes

#: No heuristic is near them; a record with more in it was not written by the tuner.
_MOST_LANES = 512
_MOST = 1 << 48


@dataclass(frozen=True)
class Schedule:
    """The widths and limits of a program's kernels; a stage takes no wider vectors than it can fill.

    ``statistics_lanes`` and ``element_lanes`` are the widths of the vectors in the loops that reduce and in
    the loop that writes; ``held_lanes`` how many elements of all inputs it loads before it writes any;
    ``careful_lanes`` that of the float64 path; ``pivot_lanes`` how many of a row's
    first elements give the pivot of its moments. Where the features do not lie in the lanes, ``column_lanes``
    columns are computed side by side, if they have ``column_rows`` elements at most; else
    ``column_block_rows`` rows add up into one partial sum of each column, and ``column_group`` rows have
    their vectors at one place computed together. Rows side by side, and what is computed in float64, have
    ``short_lanes``. Features that lie innermost and are fewer than
    ``shortest_vector`` share vectors with the batch axis around them; rows of at most ``short_row`` elements
    are computed side by side, too, or ``short_summing_row`` where each adds to sums over rows. Of rows of at
    most ``together_elements`` that are not, ``row_lanes`` have their row-sized values computed side by side.
    ``block_rows`` rows add up into one partial sum of the gradients of parameters, or up to
    ``most_block_rows``, the more rows there are. A unit of work has at most ``unit_elements``; larger
    reductions are cut into stretches of ``chunk_elements``. From ``stream_from`` bytes on results are written
    past the caches, in vectors aligned to ``stream_bytes``, and the row that is ``rows_ahead`` is prefetched
    meanwhile, if it has ``prefetch_from`` bytes; prefetches go to the cache of ``prefetch_level``. Rows of
    ``overlap_from`` elements overlap: while one is written, the next is read, and of that what lies
    ``ahead_elements`` farther goes to the first cache. After
    ``steps_to_total`` additions a lane is added to a float64 total.
    """

    statistics_lanes: int
    element_lanes: int
    held_lanes: int
    careful_lanes: int
    pivot_lanes: int
    short_lanes: int
    column_lanes: int
    shortest_vector: int
    short_row: int
    short_summing_row: int
    column_rows: int
    column_block_rows: int
    column_group: int
    row_lanes: int
    together_elements: int
    block_rows: int
    most_block_rows: int
    unit_elements: int
    chunk_elements: int
    stream_from: int
    stream_bytes: int
    prefetch_from: int
    prefetch_level: int
    rows_ahead: int
    overlap_from: int
    ahead_elements: int
    steps_to_total: int

    def show(self) -> str:
        """The schedule as text, a line a field."""
        return "".join(f"{name:<17} {value}\n" for name, value in asdict(self).items())

    def to_json(self) -> dict[str, int]:
        """The schedule as plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: object) -> Schedule:
        """The inverse of :meth:`to_json`; ``LncValueError`` where ``data`` is none that kernels can have.

        The end of a field's name says what it takes: ``lanes`` and ``bytes`` a power of two, ``from`` 0 too,
        ``level`` 1 or 2.
        """
        names = [field.name for field in fields(cls)]
        if not isinstance(data, Mapping) or sorted(data) != sorted(names):
            raise LncValueError(f"schedule: expected the fields {', '.join(names)}; got {data!r}")
        for name in names:
            value = data[name]
            if type(value) is not int or not _takes(name, value):
                raise LncValueError(f"schedule: {name} cannot be {value!r}")
        return cls(**data)


def heuristic(program: Program, vector_bytes: int, cache_bytes: int = 0) -> Schedule:
    """The schedule of ``program`` on a CPU with registers of ``vector_bytes``.

    Of ``cache_bytes`` is its last cache; 0 where that is not known.
    """
    features = program.count(program.features)
    register = vector_bytes // TABLE[program.compute].itemsize
    doubles = max(2, vector_bytes // 8)
    return Schedule(
        # Additions take 4 cycles and two start in each, so 8 are in flight: two sums in 4 registers each.
        statistics_lanes=4 * register,
        # Two registers a step hide the loop's own instructions; more would spill where an equation is long.
        element_lanes=2 * register,
        # Inputs that are loaded before results are stored: half of the registers, of which AVX-512 has 32.
        # What that is for, and what it gains, is said in ``emit/elements.py``.
        held_lanes=(16 if vector_bytes >= 64 else 8) * register,
        careful_lanes=doubles,
        pivot_lanes=16,
        short_lanes=_short_lanes(features, doubles),
        # Two sums in 4 registers each, and 256 bytes of each row with AVX-512. Rows a power of two apart have
        # their lines in few sets of the caches, so the more of each at once the better: batch norm in the
        # caches of an EPYC (Zen 4), 128 bytes of a row, 256 and 512, in ns an element, forward and backward,
        # 64x2048 0.61, 0.35 and 0.26, 1.10, 0.61 and 0.43; 128x512 0.30, 0.22 and 0.18, 0.63, 0.40 and 0.36;
        # 64x2000 0.18, 0.19 and 0.24, 0.30, 0.36 and 0.38; 48x768 0.23 and 0.21, 0.42 and 0.39; instance norm
        # 32x7x7x512 with channels last 0.33 and 0.25, 0.58 and 0.37; from memory no difference.
        column_lanes=4 * register,
        # Two more small stages cost less than vectors of a few elements.
        shortest_vector=16,
        short_row=_short_row(program, vector_bytes),
        # Backward, where side by side every column is added up across the lanes: 12 features 0.63 and 1.01,
        # 20 0.64 and 0.77, 24 0.67 and 0.60, 33 0.59 and 0.49, 48 0.65 and 0.41. Registers of 32 bytes (Zen
        # 1), on memory: 8 features 3.04 and 3.30, 10 3.04 and 2.55, 16 2.66 and 1.73, 20 2.96 and 1.60; RMS
        # norm 8 features 1.82 and 1.66, 10 1.94 and 1.70, 16 1.70 and 1.16, 20 2.02 and 1.17.
        short_summing_row=20 if vector_bytes >= 64 else 8,
        # Vectors of a column lie one row apart, each in another page. Going row by row, with sums in the L1
        # cache instead of registers: 6272 rows of 256 took 890 µs against 2000, but 64 rows of 2048 took 80
        # against 55, where the second pass finds everything in the cache.
        column_rows=128,
        # Two float64 sums a column against so many float32 elements: a percent and a half.
        column_block_rows=256,
        # What rows share stays in registers, the rows of a group in the L1 cache. Sums of 6272 rows of 256 on
        # a Xeon: 317 µs in groups of 16 with the next one prefetched into the first cache, 473 without, 342
        # in groups of 8, 447 row by row. Batch norm on an EPYC (Zen 4), groups of 16 and the first cache, 16
        # and the second, 8 and the second, in ns an element: 6272 rows of 256 forward 0.85, 0.59 and 0.56,
        # backward 1.65, 0.97 and 0.90; 100352 of 64 0.46, 0.40 and 0.41, 1.19, 0.69 and 0.57; 1568 of 1024
        # 0.88, 0.60 and 0.49, 1.93, 1.10 and 0.92. Rows a page apart take an entry of the TLB each.
        column_group=8,
        # One register of float64. Twice as many took the same in the caches, and longer on memory.
        row_lanes=doubles,
        # As above, against rows one after another: 64 features 0.54 and 0.27 forward, 0.54 and 0.40 backward,
        # 256 0.28 and 0.18, 0.56 and 0.42; but 512 0.18 and 0.17, 0.39 and 0.50.
        together_elements=256,
        block_rows=_block_rows(features),
        most_block_rows=_MOST_BLOCK_ROWS,
        # 1 MiB of float32: half of the L2 cache of the CPUs measured.
        unit_elements=1 << 18,
        chunk_elements=1 << 16,
        stream_from=_stream_from(cache_bytes),
        stream_bytes=vector_bytes,
        # While a row is written past the caches the next one is prefetched, else memory waits during its
        # statistics: with 16 MiB of results 1435 µs against 1664. In cache it costs a tenth.
        prefetch_from=1024,
        # Layer norm on memory, one thread of an EPYC (Zen 4), 1 row ahead into the first cache and 2 rows
        # into the second, in ns an element: forward, 256 features 0.29 and 0.23, 1024 0.20 and 0.17, 2048
        # 0.23 and 0.22; backward, 256 0.65 and 0.58, 768 0.53 and 0.47, 1024 0.56 and 0.46, 2048 0.69 and
        # 0.53; 3, 4 and 8 rows were no better. RMS norm backward, 1024: 0.40 to 0.50 and 0.44 to 0.46. On a
        # Xeon, 1 row ahead into the first cache and into the second: forward, 1024 0.49 and 0.48, 2048 0.56
        # and 0.47, 8192 0.59 and 0.45; backward the same, or a tenth slower; 2 rows were not measured there.
        prefetch_level=2,
        rows_ahead=2,
        # Shorter rows are computed together. What overlapping gains is said in ``emit/overlapped.py``.
        overlap_from=2,
        # Layer norm on memory, a Xeon with AVX-512, in ns an element: 512 elements ahead into the first
        # cache, 512, 1024 and 2048 into the second, 4096x1024 forward 0.31, 0.33, 0.34 and 0.34, 4096x4096
        # 0.52, 0.55, 0.54 and 0.54; 512 and 1024 into the first, 1024 and 2048 into the second, backward
        # 0.44, 0.45, 0.51 and 0.51, 0.84, 0.85, 0.88 and 0.92. In the caches any of them costs a tenth.
        ahead_elements=512,
        # Like terms round alike: results were 80 roundings off after 1024 additions a lane, 16 after 32.
        steps_to_total=16,
    )


#: Additions of like terms that a float32 sum may have, as like terms round alike: 441 equal ones in float32
#: were 82 roundings off.
_MOST_BLOCK_ROWS = 64


def _short_row(program: Program, vector_bytes: int) -> int:
    """The elements of rows up to which several are computed side by side.

    Forward in the caches, rows side by side against only their row-sized values, a thread of a Xeon with
    AVX-512, least of 16 rounds, in ns an element: layer norm of 16 features 0.40 and 0.65, 24 0.44 and 0.53,
    33 0.37 and 0.43, 48 0.44 and 0.30; RMS norm, which has one sum to add up across lanes, 24 0.24 and 0.24,
    33 0.29 and 0.19. But past the caches only whole tiles go: RMS norm of 33 on memory 0.93 and 1.11, of 40
    0.86 and 0.94; and rows wait for each other where y lies just behind x, in the caches 0.53 and 1.02
    (``emit/elements.py``).

    Registers of 32 bytes (Zen 1), on memory and in the caches: layer norm of 16 features 1.43 and 1.90, 1.27
    and 1.89, 28 1.49 and 1.52, 1.11 and 1.50, 33 1.37 and 1.42, 1.21 and 1.39, 40 1.25 and 1.23, 1.12 and
    1.21; RMS norm of 12 1.12 and 1.19, 0.99 and 1.11, 16 0.97 and 0.86, 0.84 and 0.80, 20 0.97 and 0.87, 0.83
    and 0.78, 33 1.32 and 0.83, 0.87 and 0.64, 40 1.36 and 0.65, 0.70 and 0.52.
    """
    one_sum = sum(isinstance(node, Reduce) for node in program.nodes) == 1
    return 14 if one_sum and vector_bytes < 64 else 40


def _short_lanes(features: int, doubles: int) -> int:
    """The rows that are computed side by side: two sums of float64 in 4 registers each, or in 2.

    With 8 registers each rows of 8 elements were a fifth slower. With registers of 32 bytes (Zen 1), 16 and 8
    rows, layer norm on memory and in the caches, in ns an element: 16 features 1.43 and 1.55, 1.27 and 1.42,
    24 1.44 and 1.41, 1.17 and 1.28, 33 1.56 and 1.37, 1.12 and 1.21, 40 1.63 and 1.25, 1.02 and 1.12.
    """
    return 2 * doubles if doubles < 8 and 24 < features <= 40 else 4 * doubles


def _stream_from(cache_bytes: int) -> int:
    """The bytes of results from which they go past the caches, also those that are read in between.

    Time through the caches over time past them, with prefetch, 1024 features, one thread of a Xeon with
    AVX-512, least of 11 rounds: 0.94 at 8 MiB, 1.40 at 16 MiB. With a last cache of 8 MiB (Zen 1), the same
    arrays again and again, and others in between: RMS norm of 1024 features forward, 2 MiB 1.01 and 1.52, 3
    MiB 0.95 and 1.44, 4 MiB 2.04 and 1.65, 8 MiB 1.28 and 1.41, backward, 2 MiB 0.96 and 1.30, 4 MiB 1.32 and
    1.31; layer norm, 2 MiB 0.85 and 1.37, 4 MiB 1.27 and 1.52, backward 0.89 and 1.03, 1.06 and 1.15; batch
    norm with 128 channels innermost, 1.5 MiB 1.11 and 1.32, 3 MiB 1.36 and 1.32, 4.6 MiB 1.52 and 1.50.
    """
    most = 12 << 20
    return min(most, cache_bytes * 3 // 8) if cache_bytes else most


def _block_rows(features: int) -> int:
    """The least rows of a block: 64 Ki elements, so that threads have work where there are few rows.

    Where there are many, as many as may be: layer norm backward with blocks of 8 to 16 rows and of up to 64,
    in ns an element on one thread and on two, 4096x4096 1.03 and 0.91, 0.50 and 0.44, 2048x8192 1.19 and
    0.95, 0.66 and 0.45.
    """
    rows = 65536 // max(features, 1)
    return max(8, min(_MOST_BLOCK_ROWS, 1 << max(rows, 1).bit_length() - 1))


def fitting(wanted: int, size: int | None) -> int:
    """``wanted`` lanes, or the power of two that holds ``size`` elements where those are fewer: no loop."""
    return wanted if size is None else min(wanted, 1 << max(size - 1, 0).bit_length())


def space(start: Schedule, result_bytes: int, *, any_bits: bool = False) -> Iterator[Schedule]:
    """The schedules to try for results of so many bytes, ``start`` first and those most like it next.

    Without ``any_bits`` they differ in what leaves every bit of every result as it is.
    """
    # Long equations spill from two registers a step; short ones wait for memory with fewer than four.
    tried: dict[str, tuple[int, ...]] = {"element_lanes": (start.element_lanes // 2, start.element_lanes * 2)}
    # Whether past the caches or not is measured at one size, so larger results keep, or smaller ones get,
    # what the heuristic gives them.
    streams = 0 < start.stream_from <= result_bytes
    tried["stream_from"] = (2 * result_bytes if streams else max(result_bytes, 1),)
    # None that there are: the CPU's own prefetching may be as good.
    tried["prefetch_from"] = (1 << 30,)
    # Which is better turns on the CPU: see the heuristic's.
    tried["prefetch_level"] = (1,)
    tried["rows_ahead"] = (1,)
    # Rows one after another, which need fewer registers.
    tried["overlap_from"] = (1 << 40,)
    if any_bits:
        # More sums hide latency, fewer leave less to add up at the end of a row.
        tried["statistics_lanes"] = (start.statistics_lanes // 2, start.statistics_lanes * 2)
        # The same where features do not lie in the lanes, and how much of a row one unit reads.
        tried["column_lanes"] = (start.column_lanes // 2, start.column_lanes * 2)
        tried["short_lanes"] = (start.short_lanes // 2,)
        # Less memory for partial sums against more units of work. Never above the heuristic's largest: like
        # terms round alike.
        tried["block_rows"] = (start.block_rows // 2, min(2 * start.block_rows, _MOST_BLOCK_ROWS))
        tried["column_block_rows"] = (start.column_block_rows // 2, start.column_block_rows * 2)
        # From which length on rows of few elements are quicker one after another.
        tried["short_row"] = (start.short_row // 2, start.short_row * 2)
        # From which length on rows take so long that nothing waits for their row-sized values.
        tried["together_elements"] = (start.together_elements * 4,)
        # Row by row, or side by side: which is quicker turns on the caches.
        tried["column_rows"] = (start.column_rows // 8,)
    return prune(start, tried)


def prune(start: Schedule, tried: Mapping[str, tuple[int, ...]]) -> Iterator[Schedule]:
    """``start``, and what differs from it in one field, then in two, to one of the values in ``tried``.

    Values that a field does not take, and repetitions, are left out.
    """
    seen: set[Schedule] = set()
    for made in changes(tried):
        schedule = replace(start, **made)
        if schedule not in seen and all(_takes(name, value) for name, value in made.items()):
            seen.add(schedule)
            yield schedule


def _takes(name: str, value: int) -> bool:
    """Whether a field of this name may have the value, by the end of the name."""
    kind = name.rpartition("_")[2]
    if kind == "level":
        return value in (1, 2)
    if kind in ("lanes", "bytes"):
        return 1 <= value <= _MOST_LANES and value.bit_count() == 1
    return (0 if kind == "from" else 1) <= value <= _MOST
