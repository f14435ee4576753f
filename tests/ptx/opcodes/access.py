"""Loads, stores and atomic operations on every address space."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..decode import Decoder, Reader, generic_space, opcode
from ..faults import OutOfBounds
from ..machine import Step, Wave
from ..memory import CLUSTER_STRIDE, GLOBAL_BASE, LOCAL_WINDOW, SHARED_BASE, SHARED_WINDOW, Memory
from ..scalars import KINDS, Array, Kind, elements, kind_of, packed
from ..syntax import Address, Immediate, Instruction, Operand, Register, Symbol, UnknownPtx, Vector

SPACES = ("param", "global", "shared", "local", "const")
VECTORS = {"v2": 2, "v4": 4, "v8": 8}
STRONG = {"volatile", "relaxed", "acquire", "release", "acq_rel", "mmio"}
HINTS = {"weak", "nc", "ca", "cg", "cs", "lu", "cv", "wb", "wt", "cta", "cluster", "gpu", "sys", "unified"}


@dataclass(frozen=True)
class Form:
    """What the modifiers of an access say."""

    space: str
    in_cluster: bool
    count: int
    kind: Kind
    strong: bool
    rest: tuple[str, ...]


def form_of(instruction: Instruction) -> Form:
    # The type stands last, but before the operation of some atomics.
    place = max(place for place, name in enumerate(instruction.modifiers) if name in KINDS)
    modifiers, name = (
        instruction.modifiers[:place] + instruction.modifiers[place + 1 :],
        instruction.modifiers[place],
    )
    space, in_cluster, count, strong, rest = "generic", False, 1, False, []
    for modifier in modifiers:
        base, _, sub = modifier.partition("::")
        if base in SPACES:
            space, in_cluster = base, sub == "cluster"
        elif modifier in VECTORS:
            count = VECTORS[modifier]
        elif modifier in STRONG:
            strong = True
        elif modifier not in HINTS and base not in ("L1", "L2", "level", "mbarrier"):
            rest.append(modifier)
    return Form(space, in_cluster, count, kind_of(name), strong, tuple(rest))


def address_reader(address: Operand, decoder: Decoder) -> Reader:
    """Addresses as int64, one for each lane or one for all."""
    if not isinstance(address, Address):
        raise UnknownPtx(f"no address: {address}")
    base, offset = address.base, np.int64(address.offset)
    kind = KINDS["u32" if isinstance(base, Register) and base.width == 32 else "u64"]
    read = decoder.bits(base, kind)
    if kind.bits == 64:
        return lambda wave: read(wave).view(np.int64) + offset
    return lambda wave: read(wave).astype(np.int64) + offset


def memory_of(
    wave: Wave, space: str, in_cluster: bool, lanes: Array, addresses: Array
) -> tuple[Memory, Array]:
    """The memory that addresses of a space lie in, and the offsets there."""
    if space == "generic":
        return _generic(wave, lanes, addresses)
    if space in ("global", "const"):
        return wave.arena.memory, addresses - GLOBAL_BASE
    if space == "local":
        return wave.local, _own(wave, lanes, addresses, wave.program.local_size, wave.local_stride)
    return wave.shared, shared_offsets(wave, lanes, addresses, in_cluster)


def _generic(wave: Wave, lanes: Array, addresses: Array) -> tuple[Memory, Array]:
    space = generic_space(int(addresses[0])) if len(addresses) else "global"
    others = np.array([generic_space(int(address)) != space for address in np.unique(addresses)])
    if others.any() or space == "none":
        wrong = np.array([generic_space(int(address)) in ("none",) for address in addresses])
        if wrong.any():
            raise OutOfBounds("outside of every array", lanes[wrong])
        raise UnknownPtx("generic addresses of several spaces in one instruction")
    window = {"global": 0, "shared": SHARED_WINDOW, "local": LOCAL_WINDOW}[space]
    return memory_of(wave, space, True, lanes, addresses - window)


def _own(wave: Wave, lanes: Array, addresses: Array, size: int, stride: int) -> Array:
    outside = (addresses < 0) | (addresses >= size)
    if outside.any():
        raise OutOfBounds("outside of the thread's local memory", lanes[outside])
    return lanes * stride + addresses


def shared_offsets(wave: Wave, lanes: Array, addresses: Array, in_cluster: bool) -> Array:
    """Offsets in the shared memories of all blocks; an address of a cluster's says which block's."""
    block = wave.block[lanes]
    if in_cluster:
        size = wave.geometry.cluster_blocks
        rank, addresses = addresses // CLUSTER_STRIDE - 1, addresses % CLUSTER_STRIDE
        outside = rank >= size
        if outside.any():
            raise OutOfBounds("a block outside of the cluster", lanes[outside])
        block = np.where(rank < 0, block, block // size * size + rank)
    places = addresses - SHARED_BASE
    outside = (places < 0) | (places >= wave.shared_bytes)
    if outside.any():
        raise OutOfBounds("outside of the block's shared memory", lanes[outside])
    gone = ~_block_alive(wave)[block]
    if in_cluster and gone.any():
        raise OutOfBounds("the shared memory of a block that has ended", lanes[gone])
    return block * wave.shared_stride + places


def _block_alive(wave: Wave) -> Array:
    return wave.alive.reshape(-1, wave.block_lanes).any(axis=1)


@opcode("ld", "ldu")
def load(instruction: Instruction, decoder: Decoder) -> Step:
    form = form_of(instruction)
    if form.rest:
        raise UnknownPtx(f"no modifier .{' .'.join(form.rest)}")
    destination, address = instruction.operands[:2]
    if form.space == "param":
        return _load_parameter(decoder, destination, address, form.kind)
    targets = destination.items if isinstance(destination, Vector) else (destination,)
    if len(targets) != form.count:
        raise UnknownPtx(f"{len(targets)} registers for {form.count} elements")
    writers = [decoder.write_bits(target, form.kind) for target in targets]
    addresses = address_reader(address, decoder)
    storage, count = form.kind.storage, form.count

    def step(wave: Wave) -> None:
        lanes = wave.active_lanes()
        memory, offsets = memory_of(
            wave, form.space, form.in_cluster, lanes, wave.per_lane(addresses(wave), lanes)
        )
        rows = memory.read(wave.order, lanes, offsets, storage, count, form.strong)
        if wave.active is not None:
            full = np.zeros((wave.lanes, count), storage)
            full[lanes] = rows
            rows = full
        columns = np.ascontiguousarray(rows.T)
        for writer, column in zip(writers, columns, strict=True):
            writer(wave, column)

    return step


def _load_parameter(decoder: Decoder, destination: Operand, address: Operand, kind: Kind) -> Step:
    if not (isinstance(address, Address) and isinstance(address.base, Symbol)):
        raise UnknownPtx("a parameter at an address of its own")
    if address.offset or address.base.offset:
        raise UnknownPtx("a part of a parameter")
    name, write = address.base.name, decoder.write_bits(destination, kind)

    def step(wave: Wave) -> None:
        bits = wave.parameters[name]
        write(wave, bits if bits.dtype == kind.storage else bits.astype(kind.storage))

    return step


@opcode("st")
def store(instruction: Instruction, decoder: Decoder) -> Step:
    form = form_of(instruction)
    if form.rest == ("async",):
        # Copies are made of the accesses here.
        from .copies import asynchronous_store

        return asynchronous_store(instruction, decoder, form)
    if form.rest or form.space in ("param", "const"):
        raise UnknownPtx(f"no {instruction.name}")
    address, source = instruction.operands[:2]
    sources = source.items if isinstance(source, Vector) else (source,)
    if len(sources) != form.count:
        raise UnknownPtx(f"{len(sources)} registers for {form.count} elements")
    readers = [decoder.bits(item, form.kind) for item in sources]
    addresses = address_reader(address, decoder)
    storage, count = form.kind.storage, form.count

    def step(wave: Wave) -> None:
        lanes = wave.active_lanes()
        memory, offsets = memory_of(
            wave, form.space, form.in_cluster, lanes, wave.per_lane(addresses(wave), lanes)
        )
        rows = np.empty((len(lanes), count), storage)
        for column, reader in enumerate(readers):
            rows[:, column] = wave.per_lane(reader(wave), lanes)
        memory.write(wave.order, lanes, offsets, rows, form.strong)

    return step


def _combine(name: str, kind: Kind) -> Callable[[Array, Array], Array]:
    """The new value, of the old one and the operand."""
    if kind.is_float and name in ("min", "max"):
        return np.fmin if name == "min" else np.fmax
    return {
        "add": np.add,
        "min": np.minimum,
        "max": np.maximum,
        "and": np.bitwise_and,
        "or": np.bitwise_or,
        "xor": np.bitwise_xor,
        "exch": lambda old, operand: operand,
        "inc": lambda old, limit: np.where(old >= limit, old.dtype.type(0), old + old.dtype.type(1)),
        "dec": lambda old, limit: np.where((old == 0) | (old > limit), limit, old - old.dtype.type(1)),
    }[name]


@opcode("atom", "red")
def atomic(instruction: Instruction, decoder: Decoder) -> Step:
    """Lane after lane, each seeing what those before it left."""
    form = form_of(instruction)
    names = [name for name in form.rest if name not in ("noftz", "async")]
    if len(names) != 1 or "async" in form.rest:
        raise UnknownPtx(f"no {instruction.name}")
    kind, returns = form.kind, instruction.opcode == "atom"
    operands = list(instruction.operands)
    destination = operands.pop(0) if returns else None
    address, *sources = operands
    if names[0] == "cas":
        new_value = decoder.bits(sources[1], kind)
    first = sources[0].items if isinstance(sources[0], Vector) else (sources[0],)
    readers = [decoder.bits(item, kind) for item in first]
    if len(readers) != form.count:
        raise UnknownPtx(f"{len(readers)} registers for {form.count} elements")
    addresses = address_reader(address, decoder)
    combine = _combine(names[0], kind) if names[0] != "cas" else None
    targets: tuple[Operand, ...] = ()
    if destination is not None:
        targets = destination.items if isinstance(destination, Vector) else (destination,)
    writers = [decoder.write_bits(target, kind) for target in targets]

    def step(wave: Wave) -> None:
        lanes = wave.active_lanes()
        memory, offsets = memory_of(
            wave, form.space, form.in_cluster, lanes, wave.per_lane(addresses(wave), lanes)
        )
        width = kind.bits // 8 * form.count
        memory.strong_access(wave.order, lanes, offsets, width)
        places = memory.data.view(kind.storage).reshape(-1, form.count)
        rows = np.stack(
            [np.broadcast_to(wave.per_lane(read(wave), lanes), lanes.shape) for read in readers], 1
        )
        old = np.empty_like(rows)
        swap = wave.per_lane(new_value(wave), lanes) if combine is None else None
        for number, row in enumerate((offsets // width).tolist()):
            old[number] = places[row]
            if combine is None:
                assert swap is not None
                if old[number, 0] == rows[number, 0]:
                    places[row] = swap[number]
            else:
                before, operand = (elements(values, kind) for values in (old[number], rows[number]))
                places[row] = packed(combine(before, operand), kind)
        for writer, column in zip(writers, old.T, strict=False):
            full = np.zeros(wave.lanes, kind.storage)
            full[lanes] = column
            writer(wave, full)

    return step


@opcode("mapa")
def map_to_block(instruction: Instruction, decoder: Decoder) -> Step:
    """A shared address as that of the same place in another block of the cluster."""
    kind = kind_of(instruction.modifiers[-1])
    generic = len(instruction.modifiers) == 1
    destination, address, rank = instruction.operands
    if isinstance(address, Immediate):
        raise UnknownPtx("the address of nothing")
    read, block = decoder.bits(address, kind), decoder.bits(rank, KINDS["u32"])
    write = decoder.write_bits(destination, kind)
    window = np.int64(SHARED_WINDOW if generic else 0)

    def step(wave: Wave) -> None:
        places = (read(wave).astype(np.int64) - window) % CLUSTER_STRIDE
        number = np.broadcast_to(block(wave).astype(np.int64), (wave.lanes,))
        outside = wave.active_mask() & (number >= wave.geometry.cluster_blocks)
        if outside.any():
            raise OutOfBounds("a block outside of the cluster", np.flatnonzero(outside))
        write(wave, (places + (number + 1) * CLUSTER_STRIDE + window).astype(kind.storage))

    return step


@opcode("getctarank")
def block_of_address(instruction: Instruction, decoder: Decoder) -> Step:
    """Which block of the cluster a shared address lies in."""
    kind = kind_of(instruction.modifiers[-1])
    destination, address = instruction.operands
    read, write = decoder.bits(address, kind), decoder.write_bits(destination, KINDS["u32"])
    window = np.int64(SHARED_WINDOW if len(instruction.modifiers) == 1 else 0)

    def step(wave: Wave) -> None:
        rank = (read(wave).astype(np.int64) - window) // CLUSTER_STRIDE - 1
        write(wave, np.where(rank < 0, wave.special("%cluster_ctarank"), rank).astype(np.uint32))

    return step
