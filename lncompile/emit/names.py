"""Names of arrays that can stand in a kernel: the equation's own, unless the kernel needs the word itself.

an argument called ``row``, or ``x_row`` beside ``x``    -->    ``row_``, ``x_row_``
"""

from __future__ import annotations

import keyword
from collections.abc import Iterable
from dataclasses import replace

from lncompile.emit import standins
from lncompile.ir import Part, Program, rebuilt
from lncompile.passes import Pair

#: Words that a kernel uses for itself.
RESERVED = frozenset(
    (
        *standins.__all__,
        *("begin", "end", "unit", "row", "rows", "block", "blocks", "block_rows", "tile", "i", "count"),
        *(
            "packed",
            "apart",
            "ordinary",
            "ordinary_memory",
            "ordinary_in_common",
            "ordinary_everywhere",
            "large",
            "streamed",
            "start",
            "stop",
            "left",
            "sums",
            "from_row",
            "to_row",
            "middle",
            "from_step",
            "chunk",
            "unit_next",
            "row_next",
            "last_row",
        ),
        *("min", "range", "float", "INFINITY", "NAN"),
    )
)
#: What kernels append to the name of an array or a value.
SUFFIXES = (
    *(
        "_i",
        "_row",
        "_at",
        "_tile",
        "_start",
        "_wide",
        "_f32",
        "_value",
        "_total",
        "_sum",
        "_max",
        "_kept",
        "_lanes",
        "_memory",
    ),
    *("_first", "_pivot", "_offset", "_offsets", "_sums", "_squares", "_shift", "_spread"),
    *("_lanes_total", "_offsets_total", "_sums_total", "_squares_total", "_value_f32", "_memory_row"),
    *(
        f"{suffix}_memory"
        for suffix in ("_f32", "_value", "_value_f32", "_pivot", "_lanes", "_sums", "_squares")
    ),
    *(
        f"{value}_next{suffix}"
        for value in ("", "_value", "_start")
        for suffix in ("", "_i", "_f32", "_lanes", "_lanes_total", "_first", "_pivot", "_offset", "_at")
    ),
    *("_next_sums", "_next_squares", "_next_sums_total", "_next_squares_total"),
)


def derived(names: Iterable[str], suffixes: tuple[str, ...] = SUFFIXES) -> set[str]:
    """All names that a kernel may make of these."""
    return {name + suffix for name in names for suffix in suffixes}


def sources(words: Iterable[str], suffixes: tuple[str, ...] = SUFFIXES) -> frozenset[str]:
    """These words, and the names that a kernel may make one of them of."""
    made = {word.removesuffix(suffix) for word in words for suffix in suffixes}
    return frozenset(made | set(words))


def legal(pair: Pair, reserved: frozenset[str], suffixes: tuple[str, ...] = SUFFIXES) -> Pair:
    """Both programs with every array renamed that could not keep its name."""
    arrays = dict.fromkeys(
        name
        for program in (pair.forward, pair.backward)
        for array in program.arrays
        for name in (array.array, array.name)
    )
    renamed: dict[str, str] = {}
    made = derived(arrays, suffixes)
    for name in arrays:
        new = (
            name
            if name.isascii()
            else "_" + name.encode("ascii", "namereplace").decode().strip("\\N{}").replace(" ", "_")
        )
        new = "".join(letter if letter.isalnum() else "_" for letter in new)
        clashes = made | set(renamed.values())
        while (
            new in RESERVED | reserved
            or keyword.iskeyword(new)
            or new in clashes
            or not derived((new,), suffixes).isdisjoint(reserved)
        ):
            new += "_"
        renamed[name] = new
    return Pair(_renamed(pair.forward, renamed), _renamed(pair.backward, renamed))


def _renamed(program: Program, names: dict[str, str]) -> Program:
    def part(of: Part | None) -> Part | None:
        return of and replace(of, array=names[of.array])

    inputs = tuple(replace(node, name=names[node.name], part=part(node.part)) for node in program.inputs)
    mapped = rebuilt(program.nodes, dict(zip(program.inputs, inputs, strict=True)))
    outputs = tuple(
        replace(out, name=names[out.name], value=mapped[out.value], part=part(out.part))
        for out in program.outputs
    )
    return replace(program, inputs=inputs, outputs=outputs)
