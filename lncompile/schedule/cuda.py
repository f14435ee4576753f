"""How CUDA's kernels are laid out: a frozen dataclass, and the heuristic that fills it.

Every constant stands beside its reason. None was timed: there was no device; registers and spills are those
that ptxas reports.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import NamedTuple

from lncompile.dtypes import TABLE
from lncompile.ir import Program, Reduce
from lncompile.schedule.changes import Changes, changes

#: The accesses of a thread that are written out in the source: more compile longer than they gain.
MOST_VECTORS = 8


class Room(NamedTuple):
    """What a device has for kernels: shared memory of a block, and blocks of a cluster, 1 if it has none."""

    shared_bytes: int
    cluster_blocks: int


@dataclass(frozen=True)
class Schedule:
    """The widths and limits of a phase's kernels.

    A row is computed by a team of threads, each of which accesses ``vector_bytes`` at a time and has about
    ``thread_elements`` of the row, in ``most_vectors`` accesses at most; registers hold ``held_elements`` of
    its inputs together. A team has at most ``most_threads``, and small teams share blocks of
    ``block_threads``; a row of more than ``block_elements`` has a cluster of up to ``cluster_blocks`` blocks
    with ``most_threads`` each. Columns of partial sums are added up by ``column_members`` threads each.
    Rows of more than ``unit_elements`` are cut into stretches of ``chunk_elements`` for several teams, and
    features that lie innermost and are fewer than ``shortest_vector`` share vectors with the batch axis
    around them.
    Gradients of parameters are summed by ``threads_resident`` threads of each multiprocessor at a time, over
    ``least_rows`` rows or more, in ``shared_bytes`` of shared memory where registers do not hold them.
    """

    vector_bytes: int
    thread_elements: int
    held_elements: int
    most_vectors: int
    most_threads: int
    block_threads: int
    block_elements: int
    cluster_blocks: int
    column_members: int
    unit_elements: int
    chunk_elements: int
    shortest_vector: int
    threads_resident: int
    shared_bytes: int
    least_rows: int

    #: Columns are computed one a thread: neighbours read neighbouring elements.
    short_lanes = 1
    column_lanes = 1
    #: Columns are always summed row by row, in registers, and in blocks whose number suits the device.
    column_rows = 0
    column_block_rows = 0
    block_rows = 0
    most_block_rows = 0
    #: Rows side by side are several teams of a warp; a team has one row at a time.
    short_row = 0
    short_summing_row = 0
    column_group = 1
    row_lanes = 1
    together_elements = 0

    def show(self) -> str:
        """The schedule as text, a line a field."""
        return "".join(f"{name:<17} {value}\n" for name, value in asdict(self).items())


def heuristic(program: Program, room: Room) -> Schedule:
    """The schedule of one phase's program on a device with so much room."""
    double = TABLE[program.compute].itemsize == 8
    # 64 to 80 registers forward. Backward, with two arrays and two sums, they are 110 to 140.
    thread_elements = 16 // (2 if double else 1)
    # Two arrays of 32 elements a thread in registers, and the sums over rows in shared memory.
    block_elements = 16384
    # Of two arrays backward, 16 each: 32 each spilled 700 to 1000 bytes, with the values made of them.
    held_elements = 2 * thread_elements
    # Of 1024 threads each has 64 registers, and the second path alone takes more.
    most_threads = 512
    unit_elements, arrays = block_elements, _row_arrays(program)
    if room.cluster_blocks > 1 and arrays:
        # So much that the registers of a cluster hold a row: it is read once.
        held = room.cluster_blocks * most_threads * held_elements // arrays
        unit_elements = max(block_elements, held)
    return Schedule(
        vector_bytes=16,
        thread_elements=thread_elements,
        held_elements=held_elements,
        most_vectors=MOST_VECTORS,
        most_threads=most_threads,
        # Four warps: small enough that a block's slowest warp is not waited for long.
        block_threads=128,
        block_elements=block_elements,
        cluster_blocks=room.cluster_blocks,
        # A block then has 256 threads, and each adds up an eighth of the partial sums.
        column_members=8,
        unit_elements=unit_elements,
        chunk_elements=8192,
        # As on the CPU.
        shortest_vector=16,
        # With 64 registers a thread, half of the 2048 that a multiprocessor can have.
        threads_resident=1024,
        # What the sums through shared memory take, of which there are a few, is left to them.
        shared_bytes=room.shared_bytes - 4096,
        # Partial sums are then at most a tenth of the traffic of two 16-bit arrays in, one out.
        least_rows=8,
    )


#: What the tuner tries that leaves every bit of every result as it is: whether registers hold rows that are
#: read twice, and how many rows' teams share a block.
_SAME_BITS: Mapping[str, tuple[int, ...]] = {
    "held_elements": (0, 16, 64),
    "block_threads": (64, 256),
}
#: What changes the order of additions. More elements a thread are fewer threads that meet, and more
#: registers; fewer blocks leave less to add up at the end, more of them hide one another's waiting.
_OTHER_BITS: Mapping[str, tuple[int, ...]] = {
    "thread_elements": (8, 32),
    "most_threads": (256, 1024),
    "threads_resident": (512, 2048),
    "least_rows": (4, 16),
    "column_members": (4, 16),
}


def space(*, any_bits: bool = False) -> Iterator[Changes]:
    """The changes of schedules to try, none first and those of one field next.

    Without ``any_bits`` they leave every bit of every result as it is.
    """
    return changes({**_SAME_BITS, **(_OTHER_BITS if any_bits else {})})


def are_changes(made: Mapping[str, object]) -> bool:
    """Whether ``made``, read from a file, is what a tuner may have changed."""
    tried = {**_SAME_BITS, **_OTHER_BITS}
    return all(type(value) is int and value in tried.get(name, ()) for name, value in made.items())


def _row_arrays(program: Program) -> int:
    """How many arrays are read row by row, where every row is one vector, else 0.

    It is one where features lie together, innermost, in every array that has some of them.
    """
    features = {axis.name for axis in program.axes if axis.feature}
    reduced = any(isinstance(node, Reduce) and node.over == features for node in program.nodes)
    dims = [array.dims for array in program.arrays if features & set(array.dims)]
    if not reduced or any(set(names[-len(features) :]) != features for names in dims):
        return 0
    longest = max(map(len, dims))
    return sum(len(array.dims) == longest for array in program.inputs)
