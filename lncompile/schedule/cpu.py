"""How the CPU's loop forms are laid out: a frozen dataclass a form, and the heuristic that fills it.

Every constant stands beside its reason; ``benchmarks/NOTES.md`` holds the measurements.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from lncompile.dtypes import TABLE


@dataclass(frozen=True)
class RowsSchedule:
    """Rows whose features lie side by side.

    ``statistics_lanes`` and ``element_lanes`` are the widths of the vectors in the loops that reduce and in
    the loop that writes; ``careful_lanes`` that of the float64 path; ``pivot_lanes`` how many of a row's
    first elements give the pivot of its moments; ``block_rows`` how many rows add up into one partial sum of
    the gradients of parameters; ``combine_lanes`` the width of the loop that adds the partial sums. From
    ``stream_rows`` rows on results are written past the caches, in vectors aligned to ``stream_bytes``, and
    inputs prefetched ``prefetch`` elements ahead meanwhile (0: not at all). After ``steps_to_total``
    additions a lane is added to a float64 total.
    """

    statistics_lanes: int
    element_lanes: int
    careful_lanes: int
    pivot_lanes: int
    block_rows: int
    combine_lanes: int
    stream_rows: int
    stream_bytes: int
    prefetch: int
    steps_to_total: int

    def show(self) -> str:
        """The schedule as text, a line a field."""
        return "rows\n" + "".join(f"  {name:<17} {value}\n" for name, value in asdict(self).items())


def heuristic(features: int, compute: str, vector_bytes: int) -> RowsSchedule:
    """The schedule for rows of ``features`` elements on a CPU with registers of ``vector_bytes``."""
    register = vector_bytes // TABLE[compute].itemsize
    # Additions take 4 cycles and two start in each, so 8 are in flight: two sums in 4 registers each.
    statistics = _lanes(4 * register, features)
    # Two registers a step hide the loop's own instructions; more would spill where an equation is long.
    element = _lanes(2 * register, features)
    return RowsSchedule(
        statistics_lanes=statistics,
        element_lanes=element,
        careful_lanes=_lanes(max(2, vector_bytes // 8), features),
        pivot_lanes=min(16, 1 << (max(features, 1).bit_length() - 1)),
        block_rows=_block_rows(features),
        combine_lanes=_lanes(max(2, vector_bytes // 8), features),
        stream_rows=_stream_rows(features, TABLE[compute].itemsize),
        stream_bytes=vector_bytes,
        prefetch=_prefetch(features, TABLE[compute].itemsize),
        # Like terms round alike: results were 80 roundings off after 1024 additions a lane, 16 after 32.
        steps_to_total=16,
    )


def _lanes(wanted: int, features: int) -> int:
    """``wanted``, or the power of two that holds all features where those are fewer: no loop."""
    return min(wanted, 1 << max(features - 1, 0).bit_length())


def _block_rows(features: int) -> int:
    """Rows a block: 64 Ki elements, so partial sums are a percent of the traffic and 8 threads have work.

    Never more than 1024: a sum of float32 loses a bit with every fourfold growth.
    """
    rows = 65536 // max(features, 1)
    return max(8, min(1024, 1 << max(rows, 1).bit_length() - 1))


def _stream_rows(features: int, itemsize: int) -> int:
    """From 12 MiB of results on.

    Time through the caches over time past them, with prefetch, 1024 features, one thread of a Xeon with
    AVX-512, least of 11 rounds: 0.94 at 8 MiB, 1.40 at 16 MiB.
    """
    return max(1, (12 << 20) // (max(features, 1) * itemsize))


def _prefetch(features: int, itemsize: int) -> int:
    """The next row, while this one is written past the caches: else memory waits during its statistics.

    With 16 MiB of results 1435 µs against 1664 without. In cache it costs a tenth, so it goes with streaming.
    """
    return features if features * itemsize >= 1024 else 0
