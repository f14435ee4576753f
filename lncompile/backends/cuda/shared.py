"""Shared memory: what the threads of a block, or the blocks of a cluster, leave for one another."""

from __future__ import annotations

from typing import Any

import llvmlite.ir as lir
from numba.cuda import cgutils, types
from numba.cuda.extending import intrinsic

from lncompile.backends.cuda.vectors import (
    I32,
    I64,
    Vector,
    gathered,
    lane,
    literal,
    literal_intrinsic,
    scalar,
    scattered,
)


def _sharing(element: Any) -> Any:
    @literal_intrinsic
    def share(typing_context: Any, size: Any) -> Any:
        """Set so many places of shared memory aside, for all threads of the block."""

        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            number = scalar(element)
            places = lir.ArrayType(number, literal(size))
            made = cgutils.add_global_variable(builder.module, places, _SHARED.format(number), addrspace=3)
            made.linkage = "internal"
            made.initializer = lir.Constant(places, lir.Undefined)
            return context.get_dummy_value()

        return types.void(size), generate

    return share


_SHARED = "lnc_shared_{}"

share_float32 = _sharing(types.float32)
share_float64 = _sharing(types.float64)


@intrinsic
def put(typing_context: Any, index: Any, value: Any) -> Any:
    """Leave a value of one lane at a place of the shared memory of its type."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        number = lane(builder, args[1], 0)
        builder.store(number, _shared(builder, number.type, args[0]))
        return context.get_dummy_value()

    return types.void(types.int64, value), generate


def _getting(element: Any) -> Any:
    @intrinsic
    def get(typing_context: Any, index: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return gathered(builder, [builder.load(_shared(builder, scalar(element), args[0]))])

        return Vector(element, 1)(types.int64), generate

    return get


get_float32 = _getting(types.float32)
get_float64 = _getting(types.float64)


def _getting_of_block(element: Any, form: str, register: str) -> Any:
    @intrinsic
    def get(typing_context: Any, index: Any, rank: Any) -> Any:
        """What a block of the cluster, by its number, has left at a place of its shared memory."""

        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            place = builder.ptrtoint(_shared(builder, scalar(element), args[0]), I64)
            given = [builder.trunc(place, I32), builder.trunc(args[1], I32)]
            text = (
                "{ .reg .b32 there; mapa.shared::cluster.u32 there, $1, $2;"
                f" ld.shared::cluster.{form} $0, [there]; }}"
            )
            function_type = lir.FunctionType(scalar(element), [I32, I32])
            constraints = f"={register},r,r,~{{memory}}"
            found = builder.call(lir.InlineAsm(function_type, text, constraints, side_effect=True), given)
            return gathered(builder, [found])

        return Vector(element, 1)(types.int64, types.int64), generate

    return get


get_float32_of_block = _getting_of_block(types.float32, "f32", "f")
get_float64_of_block = _getting_of_block(types.float64, "f64", "d")


def _shared(builder: Any, number: Any, index: Any) -> Any:
    return builder.gep(builder.module.globals[_SHARED.format(number)], [I64(0), index], inbounds=True)


@literal_intrinsic
def get_vector(typing_context: Any, index: Any, step: Any, lanes: Any) -> Any:
    """A float32 vector of the dynamic shared memory: 16 bytes from ``index`` on, others ``step`` apart."""
    kind = Vector(types.float32, literal(lanes))

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        width = min(4, kind.lanes)
        numbers: list[Any] = []
        for piece in range(kind.lanes // width):
            found = builder.load(_dynamic(builder, args, piece, width), align=4 * width)
            numbers += [builder.extract_element(found, I32(at)) for at in range(width)]
        return gathered(builder, numbers)

    return kind(types.int64, types.int64, lanes), generate


@intrinsic
def put_vector(typing_context: Any, index: Any, step: Any, value: Any) -> Any:
    """Leave a float32 vector in the dynamic shared memory, as :func:`get_vector` reads it."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        width = min(4, value.lanes)
        numbers = scattered(builder, args[2])
        for piece in range(value.lanes // width):
            part = gathered(builder, numbers[piece * width : (piece + 1) * width])
            builder.store(part, _dynamic(builder, args, piece, width), align=4 * width)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, value), generate


def _dynamic(builder: Any, args: Any, piece: int, width: int) -> Any:
    """The address of a piece of a vector, in an array whose size a launch tells."""
    name, places = "lnc_dynamic", lir.ArrayType(lir.FloatType(), 0)
    found = builder.module.globals.get(name)
    if found is None:
        found = cgutils.add_global_variable(builder.module, places, name, addrspace=3)
        found.linkage = "external"
        found.align = 16
    index = builder.add(args[0], builder.mul(args[1], I64(piece)))
    address = builder.gep(found, [I64(0), index], inbounds=True)
    return builder.bitcast(address, lir.VectorType(lir.FloatType(), width).as_pointer(addrspace=3))
