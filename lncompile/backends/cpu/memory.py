"""Between memory and vectors: loads, stores, what passes the caches by, and where arrays lie."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import llvmlite.ir as lir
from numba.core import types
from numba.extending import intrinsic

from lncompile.backends.cpu.conversions import converted
from lncompile.backends.cpu.lanes import shuffled
from lncompile.backends.cpu.vectors import (
    I32,
    I64,
    Half,
    Vector,
    call,
    first_lanes,
    literal,
    splat,
    store_past_caches,
)


@intrinsic(prefer_literal=True)
def load(typing_context: Any, pointer: Any, index: Any, lanes: Any) -> Any:
    kind = Vector(pointer.dtype, literal(lanes))

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        address = _address(context, builder, args, kind)
        return builder.load(address, align=_alignment(pointer))

    return kind(pointer, types.int64, lanes), generate


@intrinsic(prefer_literal=True)
def load_partial(typing_context: Any, pointer: Any, index: Any, count: Any, lanes: Any) -> Any:
    kind = Vector(pointer.dtype, literal(lanes))

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return load_first(context, builder, pointer, count, args, kind)

    # The type of ``count`` tells its value, if that is known: calls of equal types share an implementation.
    return kind(pointer, types.int64, count, lanes), generate


def load_first(context: Any, builder: Any, pointer: Any, count: Any, args: Any, kind: Any) -> Any:
    """The first lanes of a vector; ``args`` are pointer, index and number."""
    if _in_parts(context, count):
        return _load_parts(context, builder, pointer, args, kind, literal(count))
    if _in_pairs(context, pointer, count, kind.lanes):
        return _load_pairs(context, builder, args, kind)
    vector = context.get_value_type(kind)
    address = _address(context, builder, args, kind)
    mask = first_lanes(builder, args[2], kind.lanes)
    arguments = [address, I32(_alignment(pointer)), mask, lir.Constant(vector, None)]
    return call(builder, "llvm.masked.load", arguments, vector, (vector, address.type))


@intrinsic(prefer_literal=True)
def gather(typing_context: Any, pointer: Any, index: Any, stride: Any, count: Any, lanes: Any) -> Any:
    kind = Vector(pointer.dtype, literal(lanes))

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector = context.get_value_type(kind)
        addresses = _addresses(builder, args, pointer, kind.lanes)
        mask = first_lanes(builder, args[3], kind.lanes)
        arguments = [addresses, I32(_alignment(pointer)), mask, lir.Constant(vector, None)]
        return call(builder, "llvm.masked.gather", arguments, vector, (vector, addresses.type))

    return kind(pointer, types.int64, types.int64, types.int64, lanes), generate


@intrinsic
def scatter(typing_context: Any, pointer: Any, index: Any, stride: Any, count: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector = converted(context, builder, args[4], value, pointer.dtype)
        addresses = _addresses(builder, args, pointer, value.lanes)
        mask = first_lanes(builder, args[3], value.lanes)
        arguments = [vector, addresses, I32(_alignment(pointer)), mask]
        call(builder, "llvm.masked.scatter", arguments, lir.VoidType(), (vector.type, addresses.type))
        return context.get_dummy_value()

    return types.void(pointer, types.int64, types.int64, types.int64, value), generate


def _addresses(builder: Any, args: Any, pointer: Any, lanes: int) -> Any:
    """The addresses ``args[0][(args[1] + lane) * args[2]]``, as a vector."""
    kind = lir.VectorType(I64, lanes)
    numbers = builder.add(splat(builder, args[1], lanes), lir.Constant(kind, list(range(lanes))))
    step = builder.mul(args[2], I64(_alignment(pointer)))
    offsets = builder.mul(numbers, splat(builder, step, lanes))
    first = splat(builder, builder.ptrtoint(args[0], I64), lanes)
    return builder.inttoptr(builder.add(first, offsets), lir.VectorType(args[0].type, lanes))


@intrinsic
def store(typing_context: Any, pointer: Any, index: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = Vector(pointer.dtype, value.lanes) if isinstance(value, Vector) else pointer.dtype
        address = _address(context, builder, args, kind)
        builder.store(
            converted(context, builder, args[2], value, pointer.dtype), address, align=_alignment(pointer)
        )
        return context.get_dummy_value()

    return types.void(pointer, types.int64, value), generate


@intrinsic(prefer_literal=True)
def store_partial(typing_context: Any, pointer: Any, index: Any, count: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector = converted(context, builder, args[3], value, pointer.dtype)
        store_first(context, builder, pointer, count, args, vector)
        return context.get_dummy_value()

    return types.void(pointer, types.int64, count, value), generate


def store_first(context: Any, builder: Any, pointer: Any, count: Any, args: Any, vector: Any) -> None:
    """Write the first lanes of ``vector``; ``args`` begin with pointer, index and number."""
    lanes = vector.type.count
    if _in_parts(context, count):
        _store_parts(context, builder, pointer, args, vector, literal(count))
        return
    if _in_pairs(context, pointer, count, lanes):
        _store_pairs(context, builder, args, vector)
        return
    address = _address(context, builder, args, Vector(pointer.dtype, lanes))
    arguments = [vector, address, I32(_alignment(pointer)), first_lanes(builder, args[2], lanes)]
    call(builder, "llvm.masked.store", arguments, lir.VoidType(), (vector.type, address.type))


@intrinsic
def read(typing_context: Any, pointer: Any, index: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value = builder.load(_address(context, builder, args, pointer.dtype), align=_alignment(pointer))
        return converted(context, builder, value, pointer.dtype, types.float64)

    return types.float64(pointer, types.int64), generate


write = store


@intrinsic(prefer_literal=True)
def stream(typing_context: Any, pointer: Any, index: Any, value: Any, boundary: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        address = _address(context, builder, args, Vector(pointer.dtype, value.lanes))
        vector = converted(context, builder, args[2], value, pointer.dtype)
        store_past_caches(builder, vector, address, literal(boundary))
        return context.get_dummy_value()

    return types.void(pointer, types.int64, value, boundary), generate


@intrinsic
def fence(typing_context: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        # What is streamed is not ordered with other writes, not even by a lock's release on x86.
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def signal_fence(typing_context: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.fence("seq_cst", "singlethread")
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic(prefer_literal=True)
def prefetch(typing_context: Any, pointer: Any, index: Any, count: Any, level: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        first = builder.ptrtoint(builder.gep(args[0], [args[1]]), I64)
        read, locality, data = I32(0), I32(4 - literal(level)), I32(1)
        for offset in range(0, literal(count) * _alignment(pointer), _CACHE_LINE):
            line = builder.inttoptr(builder.add(first, I64(offset)), lir.IntType(8).as_pointer())
            arguments = [line, read, locality, data]
            call(builder, "llvm.prefetch", arguments, lir.VoidType(), (line.type,))
        return context.get_dummy_value()

    return types.void(pointer, types.int64, count, level), generate


#: Bytes; where lines are longer, a line is prefetched more than once, which costs an instruction.
_CACHE_LINE = 64


@intrinsic
def elements_to_boundary(typing_context: Any, pointer: Any, boundary: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        distance = builder.and_(builder.neg(builder.ptrtoint(args[0], I64)), builder.sub(args[1], I64(1)))
        return builder.udiv(distance, I64(_alignment(pointer)))

    return types.int64(pointer, types.int64), generate


@intrinsic
def same_alignment(typing_context: Any, one: Any, other: Any, boundary: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        difference = builder.sub(builder.ptrtoint(args[0], I64), builder.ptrtoint(args[1], I64))
        return builder.icmp_unsigned("==", builder.and_(difference, builder.sub(args[2], I64(1))), I64(0))

    return types.boolean(one, other, types.int64), generate


@intrinsic
def advance(typing_context: Any, pointer: Any, elements: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.gep(args[0], [args[1]])

    return pointer(pointer, types.int64), generate


@intrinsic
def is_given(typing_context: Any, pointer: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.icmp_unsigned("!=", builder.ptrtoint(args[0], I64), I64(0))

    return types.boolean(pointer), generate


def _address(context: Any, builder: Any, args: Any, kind: Any) -> Any:
    """Where ``args[0][args[1]]`` is, as the address of a ``kind``."""
    element = builder.gep(args[0], [args[1]])
    return builder.bitcast(element, context.get_value_type(kind).as_pointer())


def _alignment(pointer: Any) -> int:
    # Arrays are aligned to their elements alone; unaligned vector accesses cost nothing on aligned data.
    return int(pointer.dtype.bitwidth) // 8


def _in_parts(context: Any, count: Any) -> bool:
    """Whether to load or store so many elements as vectors of 1, 2, 4, ... of them.

    Below AVX-512 a store under a mask takes many cycles on AMD's CPUs, and where there is none LLVM stores
    lane by lane. Rows of 20 and 28 features on a CPU with registers of 32 bytes (Zen 1), under masks and in
    parts, in ns an element: layer norm forward 2.64 and 1.75, 2.11 and 1.52, backward 3.60 and 1.60, 2.82 and
    1.48; RMS norm 1.57 and 0.87, 1.28 and 0.77, backward 2.56 and 1.17, 1.97 and 1.06.
    """
    return isinstance(count, types.IntegerLiteral) and context.lnc_target.vector_bytes < 64


def _parts(builder: Any, args: Any, count: int) -> Iterator[tuple[int, int, Any]]:
    """First lane, lanes, pointer and index of each, the widest first."""
    first = 0
    while first < count:
        lanes = 1 << (count - first).bit_length() - 1
        yield first, lanes, (args[0], builder.add(args[1], I64(first)))
        first += lanes


def _load_parts(context: Any, builder: Any, pointer: Any, args: Any, kind: Any, count: int) -> Any:
    vector = lir.Constant(context.get_value_type(kind), None)
    for first, lanes, place in _parts(builder, args, count):
        if lanes == 1:  # LLVM 22.1 aborts at some vectors of one element
            element = builder.load(builder.gep(place[0], [place[1]]), align=_alignment(pointer))
            vector = builder.insert_element(vector, element, I32(first))
            continue
        address = _address(context, builder, place, Vector(pointer.dtype, lanes))
        part = builder.load(address, align=_alignment(pointer))
        nothing = lir.Constant(part.type, lir.Undefined)
        wide = shuffled(builder, part, nothing, [min(lane, lanes) for lane in range(kind.lanes)])
        taken = [kind.lanes + k - first if first <= k < first + lanes else k for k in range(kind.lanes)]
        vector = shuffled(builder, vector, wide, taken)
    return vector


def _store_parts(context: Any, builder: Any, pointer: Any, args: Any, vector: Any, count: int) -> None:
    nothing = lir.Constant(vector.type, lir.Undefined)
    for first, lanes, place in _parts(builder, args, count):
        if lanes == 1:
            address = builder.gep(place[0], [place[1]])
            part = builder.extract_element(vector, I32(first))
        else:
            address = _address(context, builder, place, Vector(pointer.dtype, lanes))
            part = shuffled(builder, vector, nothing, range(first, first + lanes))
        builder.store(part, address, align=_alignment(pointer))


def _in_pairs(context: Any, pointer: Any, count: Any, lanes: int) -> bool:
    """Whether to load or store so many elements as pairs, and the last one by itself.

    Below AVX-512 no instruction loads or stores the first of some elements of 16 bits, and LLVM asks for each
    of them where the number is not known.
    """
    return isinstance(pointer.dtype, Half) and lanes > 1 and context.lnc_target.vector_bytes < 64


def _pairs(context: Any, builder: Any, args: Any, lanes: int) -> tuple[Any, Any, Any, Any]:
    """Vector type and address of the pairs, the mask of whole ones, and the index of the last element."""
    vector = lir.VectorType(I32, lanes // 2)
    address = builder.bitcast(builder.gep(args[0], [args[1]]), vector.as_pointer())
    mask = first_lanes(builder, builder.lshr(args[2], I64(1)), lanes // 2)
    return vector, address, mask, builder.sub(args[2], I64(1))


def _load_pairs(context: Any, builder: Any, args: Any, kind: Any) -> Any:
    vector, address, mask, last = _pairs(context, builder, args, kind.lanes)
    arguments = [address, I32(2), mask, lir.Constant(vector, None)]
    pairs = call(builder, "llvm.masked.load", arguments, vector, (vector, address.type))
    element = builder.load(builder.gep(args[0], [builder.add(args[1], last)]), align=2)
    values = builder.bitcast(pairs, context.get_value_type(kind))
    return builder.insert_element(values, element, builder.trunc(last, I32))


def _store_pairs(context: Any, builder: Any, args: Any, value: Any) -> None:
    vector, address, mask, last = _pairs(context, builder, args, value.type.count)
    arguments = [builder.bitcast(value, vector), address, I32(2), mask]
    call(builder, "llvm.masked.store", arguments, lir.VoidType(), (vector, address.type))
    element = builder.extract_element(value, builder.trunc(last, I32))
    builder.store(element, builder.gep(args[0], [builder.add(args[1], last)]), align=2)
