"""Loads and stores of whole vectors, as inline PTX: LLVM would take vectors of converted values apart.

Pointers are to global memory. A vector of 16 bytes or more moves 16 bytes at a time and is aligned to them; a
shorter one moves in one piece. Every access stays where it stands: what is read twice is meant to be, since
registers are what a kernel runs out of first.
"""

from __future__ import annotations

from typing import Any

import llvmlite.ir as lir
from numba.cuda import types
from numba.cuda.extending import intrinsic

from lncompile.backends.cuda.conversions import from_words, words
from lncompile.backends.cuda.vectors import I32, I64, Vector, literal, literal_intrinsic

I16 = lir.IntType(16)


def _loading(operation: str) -> Any:
    @literal_intrinsic
    def load(typing_context: Any, pointer: Any, index: Any, lanes: Any) -> Any:
        kind = Vector(pointer.dtype, literal(lanes))

        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            found = []
            for offset, width, count in _pieces(kind.lanes * pointer.dtype.bitwidth // 8):
                found += _load(builder, operation, _address(builder, args, offset), width, count)
            return from_words(builder, found, kind)

        return kind(pointer, types.int64, lanes), generate

    return load


load = _loading("ld.global")
#: What no kernel that runs meanwhile writes to.
load_constant = _loading("ld.global.nc")
#: What is read once and need not stay in the first cache.
load_once = _loading("ld.global.L1::no_allocate")


@intrinsic
def store(typing_context: Any, pointer: Any, index: Any, value: Any) -> Any:
    """Write a vector from ``pointer[index]`` on, rounded to the element type."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        left = words(builder, args[2], value, pointer.dtype)
        for offset, width, count in _pieces(value.lanes * pointer.dtype.bitwidth // 8):
            now, left = left[:count], left[count:]
            _store(builder, _address(builder, args, offset), width, now)
        return context.get_dummy_value()

    return types.void(pointer, types.int64, value), generate


@intrinsic
def advance(typing_context: Any, pointer: Any, elements: Any) -> Any:
    """The pointer so many elements further."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.gep(args[0], [args[1]])

    return pointer(pointer, types.int64), generate


@intrinsic
def is_given(typing_context: Any, pointer: Any) -> Any:
    """Whether a pointer is not null."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.icmp_unsigned("!=", builder.ptrtoint(args[0], I64), I64(0))

    return types.boolean(pointer), generate


def _pieces(size: int) -> list[tuple[int, int, int]]:
    """Offset in bytes, bits of a word and number of words of each access to ``size`` bytes."""
    if size < 4:
        return [(0, 16, 1)]
    if size < 16:
        return [(0, 32, size // 4)]
    return [(offset, 32, 4) for offset in range(0, size, 16)]


def _address(builder: Any, args: Any, offset: int) -> Any:
    element = builder.gep(args[0], [args[1]])
    return (
        builder.add(builder.ptrtoint(element, I64), I64(offset)) if offset else builder.ptrtoint(element, I64)
    )


def _form(width: int, count: int) -> tuple[str, str, Any]:
    """The suffix of an access, the constraint of its registers, and their type."""
    suffix = f".v{count}.b{width}" if count > 1 else f".b{width}"
    return suffix, "r" if width == 32 else "h", I32 if width == 32 else I16


def _load(builder: Any, operation: str, address: Any, width: int, count: int) -> list[Any]:
    suffix, register, word = _form(width, count)
    outputs = ", ".join(f"${index}" for index in range(count))
    target = f"{{{outputs}}}" if count > 1 else outputs
    constraints = ",".join([f"={register}"] * count + ["l"])
    result = lir.LiteralStructType([word] * count) if count > 1 else word
    text = f"{operation}{suffix} {target}, [${count}];"
    assembled = lir.InlineAsm(lir.FunctionType(result, [I64]), text, constraints, side_effect=True)
    made = builder.call(assembled, [address])
    return [builder.extract_value(made, index) for index in range(count)] if count > 1 else [made]


def _store(builder: Any, address: Any, width: int, values: list[Any]) -> None:
    suffix, register, word = _form(width, len(values))
    inputs = ", ".join(f"${index + 1}" for index in range(len(values)))
    source = f"{{{inputs}}}" if len(values) > 1 else inputs
    constraints = ",".join(["l"] + [register] * len(values) + ["~{memory}"])
    function_type = lir.FunctionType(lir.VoidType(), [I64, *[word] * len(values)])
    text = f"st.global{suffix} [$0], {source};"
    builder.call(lir.InlineAsm(function_type, text, constraints, side_effect=True), [address, *values])
