"""Runs the launches of a kernel compiled for CUDA on NumPy arrays."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from .decode import granule_of, prepare
from .faults import PtxError, UninitialisedRead
from .geometry import Geometry
from .machine import Program, Wave
from .memory import Arena, Traffic
from .parse import parse
from .scalars import Array, kind_of
from .syntax import Entry, UnknownPtx, Variable

DIRECTIVE = re.compile(r"\.(maxntid|reqntid|reqnctapercluster)\s+(\d+(?:\s*,\s*\d+)*)")
#: Lanes that run at once: so few that the arrays of a wave's registers stay in cache.
WAVE_LANES = 8192

#: What each phase may write; everything else it only reads.
WRITTEN_IN = {"forward": ("output", "saved", "workspace"), "backward": ("gradient", "workspace")}
#: What holds values before a phase begins.
READ_FROM_START = {"forward": ("input",), "backward": ("input", "cotangent", "saved", "output")}


def run(
    launches: Iterable[Any],
    buffers: Mapping[str, Any],
    arrays: Mapping[str, Array],
    phase: str,
    traffic: Traffic | None = None,
    same: Mapping[str, str] | None = None,
) -> dict[str, Array]:
    """The arrays that a phase writes, by name.

    ``arrays`` has those that the phase reads: inputs, and for ``backward`` cotangents and what ``forward``
    returned. Each has the shape and bits of its buffer; bfloat16 may be uint16 or `ml_dtypes.bfloat16`, and
    comes back as uint16. ``traffic`` gets the numbers of accesses, which tell how wide elements move.
    ``same`` tells of arrays that are written which read one each is. Races are not looked for then: all of a
    warp read the first element of a row, and exchange what they made of it before one writes there.

    Raises a `PtxError` where the code does what `faults` lists, and where the launches leave an element of an
    output, a saved value or a gradient unwritten.
    """
    described = {name: _described(buffer) for name, buffer in buffers.items()}
    same = same or {}
    chosen = [_read(launch, same) for launch in launches if _field(launch, "phase") == phase]
    used = {name for launch in chosen for name in launch["buffers"]}
    missing = used - set(described)
    if missing:
        raise PtxError(f"launches name buffers that do not exist: {', '.join(sorted(missing))}")
    entries = [_entry(launch["ptx"], launch["entry"]) for launch in chosen]
    modules = [
        (f"{place}:{variable.name}", variable)
        for place, entry in enumerate(entries)
        for variable in _data(entry)
    ]
    start = [(name, *_initial(name, described[name], arrays, phase)) for name in sorted(used)]
    start = [(name, array, able or name in same.values(), there) for name, array, able, there in start]
    start += [
        (name, np.frombuffer(v.data or b"", np.uint8), v.space == "global", True) for name, v in modules
    ]
    granule = min((_granule(launch["ptx"], launch["entry"]) for launch in chosen), default=4)
    arena = Arena(start, granule)
    for place, (launch, entry) in enumerate(zip(chosen, entries, strict=True)):
        own = {v.name: arena.address(f"{place}:{v.name}") for v in _data(entry)}
        program = _program(launch["ptx"], launch["entry"], tuple(sorted(own.items())))
        arena.open([*launch["buffers"], *(f"{place}:{name}" for name in own)])
        if same:
            arena.memory.accesses = None
        if traffic is not None:
            arena.observe(entry.name, traffic)
        _launch(program, launch, arena)
    written = [name for name in sorted(used) if described[name]["role"] in WRITTEN_IN[phase]]
    forgotten = [name for name in written if described[name]["role"] != "workspace" and arena.unwritten(name)]
    if forgotten:
        sizes = ", ".join(f"{arena.unwritten(name)} bytes of {name}" for name in forgotten)
        raise UninitialisedRead(f"{sizes} are never written")
    made = {name: arena.array(name, next(each[1] for each in start if each[0] == name)) for name in written}
    return made | {name: arena.array(read, np.asarray(arrays[read])) for name, read in same.items()}


def execute(
    ptx: str,
    arrays: Mapping[str, Array],
    args: Iterable[Any],
    *,
    entry: str | None = None,
    grid: tuple[int, int, int] = (1, 1, 1),
    block: tuple[int, int, int] = (32, 1, 1),
    cluster: tuple[int, int, int] = (1, 1, 1),
    shared: int = 0,
    unwritten: Iterable[str] = (),
    read_only: Iterable[str] = (),
) -> dict[str, Array]:
    """Run one entry on arrays, of which ``args`` names those that it gets; other arguments are numbers.

    Arrays named in ``unwritten`` count as never written.
    """
    name = entry if entry is not None else _first_entry(ptx)
    read = _entry(ptx, name)
    arguments = list(args)
    read_only, unwritten = set(read_only), set(unwritten)
    start = [(key, array, key not in read_only, key not in unwritten) for key, array in arrays.items()]
    start += [
        (f".{v.name}", np.frombuffer(v.data or b"", np.uint8), v.space == "global", True) for v in _data(read)
    ]
    arena = Arena(start, _granule(ptx, name))
    own = {v.name: arena.address(f".{v.name}") for v in _data(read)}
    program = _program(ptx, name, tuple(sorted(own.items())))
    named = [each for each in arguments if isinstance(each, str)]
    arena.open([*named, *(f".{v.name}" for v in _data(read))])
    _launch(
        program,
        {"grid": grid, "block": block, "cluster": cluster, "shared": shared, "args": arguments},
        arena,
    )
    return {key: arena.array(key, array) for key, array in arrays.items() if key not in read_only}


def _launch(program: Program, launch: Mapping[str, Any], arena: Arena) -> None:
    geometry = Geometry(launch["grid"], launch["block"], launch["cluster"])
    parameters = _parameters(program.entry, launch["args"], arena)
    if any(size % step for size, step in zip(geometry.grid, geometry.cluster, strict=True)):
        raise PtxError(f"a grid of {geometry.grid} has no whole clusters of {geometry.cluster}")
    _check_shape(program.entry, geometry)
    step = max(1, WAVE_LANES // (geometry.block_lanes * geometry.cluster_blocks)) * geometry.cluster_blocks
    with np.errstate(all="ignore"):
        for first in range(0, geometry.blocks, step):
            blocks = range(first, min(first + step, geometry.blocks))
            Wave(program, geometry, parameters, arena, blocks, launch["shared"]).run()


def _check_shape(entry: Entry, geometry: Geometry) -> None:
    """Raise where a launch is none that the entry was compiled for."""
    if not 0 < geometry.threads <= 1024:
        raise PtxError(f"a block of {geometry.threads} threads")
    text = " ".join(entry.directives)
    bounds = {name: [int(size) for size in sizes.split(",")] for name, sizes in DIRECTIVE.findall(text)}
    most = prod(bounds.get("maxntid", [1024]))
    if geometry.threads > most:
        raise PtxError(f"{entry.name}: a block of {geometry.threads} threads, .maxntid allows {most}")
    for name, given in (("reqntid", geometry.block), ("reqnctapercluster", geometry.cluster)):
        wanted = tuple([*bounds.get(name, given), 1, 1][:3])
        if wanted != given:
            raise PtxError(f"{entry.name}: a launch of {given}, .{name} asks for {wanted}")


def _parameters(entry: Entry, args: list[Any], arena: Arena) -> dict[str, Array]:
    if len(args) != len(entry.parameters):
        raise PtxError(
            f"{entry.name} has {len(entry.parameters)} parameters, the launch gives {len(args)} arguments"
        )
    bits = {}
    for parameter, argument in zip(entry.parameters, args, strict=True):
        kind = kind_of(parameter.type)
        if isinstance(argument, str):
            if kind.bits != 64 or kind.is_float:
                raise PtxError(f"{entry.name}: a pointer for the .{parameter.type} {parameter.name}")
            value = np.array([arena.address(argument)], np.uint64)
        elif kind.is_float:
            value = np.array([argument], kind.dtype).view(kind.storage)
        else:
            value = np.array([int(argument) & ((1 << kind.bits) - 1)], np.uint64).astype(kind.storage)
            if int(argument) != argument:
                raise PtxError(f"{entry.name}: {argument} for the .{parameter.type} {parameter.name}")
        bits[parameter.name] = value
    return bits


def _field(thing: Any, name: str, default: Any = None) -> Any:
    """Of a mapping or of an object with attributes."""
    return thing.get(name, default) if isinstance(thing, Mapping) else getattr(thing, name, default)


def _read(launch: Any, same: Mapping[str, str]) -> dict[str, Any]:
    args = [
        same.get(argument["buffer"], argument["buffer"]) if "buffer" in argument else argument["value"]
        for argument in _field(launch, "args")
    ]
    triples = {
        name: tuple(int(size) for size in _field(launch, name)) for name in ("grid", "block", "cluster")
    }
    return {
        "ptx": _field(launch, "ptx"),
        "entry": _field(launch, "entry"),
        "shared": int(_field(launch, "shared")),
        "args": args,
        "buffers": [argument for argument in args if isinstance(argument, str)],
        **triples,
    }


def _described(buffer: Any) -> dict[str, Any]:
    dtype = str(_field(buffer, "dtype"))
    return {
        "role": str(_field(buffer, "role")),
        "dtype": np.dtype(np.uint16) if dtype == "bfloat16" else np.dtype(dtype),
        "shape": tuple(int(size) for size in _field(buffer, "shape")),
        "fill": _field(buffer, "fill"),
    }


def _initial(
    name: str, buffer: Mapping[str, Any], arrays: Mapping[str, Array], phase: str
) -> tuple[Array, bool, bool]:
    """A buffer at the start: its contents, whether the phase may write it, whether it holds values."""
    role, dtype, shape = buffer["role"], buffer["dtype"], buffer["shape"]
    writable = role in WRITTEN_IN[phase]
    if role == "workspace":
        return np.zeros(shape, dtype), True, buffer["fill"] == 0
    if writable:
        return np.zeros(shape, dtype), True, False
    if role not in READ_FROM_START[phase]:
        raise PtxError(f"{phase} takes {name}, which is of the role {role}")
    if name not in arrays:
        raise PtxError(f"{phase} reads {name}, which is not given")
    array = np.asarray(arrays[name])
    if array.shape != shape or array.dtype.itemsize != dtype.itemsize:
        raise PtxError(f"{name}: expected {dtype} {shape}, got {array.dtype} {array.shape}")
    return np.ascontiguousarray(array).view(dtype), False, True


def _data(entry: Entry) -> list[Variable]:
    return [variable for variable in entry.variables if variable.space in ("global", "const")]


@lru_cache(maxsize=64)
def _entry(ptx: str, name: str) -> Entry:
    return parse(ptx, name)


@lru_cache(maxsize=64)
def _program(ptx: str, name: str, constants: tuple[tuple[str, int], ...]) -> Program:
    return prepare(_entry(ptx, name), dict(constants))


def _granule(ptx: str, name: str) -> int:
    return granule_of(_entry(ptx, name), "global")


def _first_entry(ptx: str) -> str:
    found = re.search(r"\.entry\s+([\w$]+)", ptx)
    if found is None:
        raise UnknownPtx("no .entry")
    return found[1]
