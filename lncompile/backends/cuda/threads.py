"""Which thread this is, and what the threads of a warp, a block or a cluster do together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.ir as lir
from numba.cuda import cgutils, types
from numba.cuda.extending import intrinsic

from lncompile.backends.cpu import instructions
from lncompile.backends.cuda.rows import sum_of_two
from lncompile.backends.cuda.vectors import (
    F32,
    I32,
    I64,
    gathered,
    lane,
    literal,
    literal_intrinsic,
    scattered,
)


def _read(builder: Any, name: str) -> Any:
    function_type = lir.FunctionType(I32, [])
    register = cgutils.get_or_insert_function(
        builder.module, function_type, f"llvm.nvvm.read.ptx.sreg.{name}"
    )
    return builder.zext(builder.call(register, []), I64)


def _register(name: str) -> Any:
    @intrinsic
    def read(typing_context: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return _read(builder, name)

        return types.int64(), generate

    return read


thread_index = _register("tid.x")
block_index = _register("ctaid.x")


@intrinsic
def barrier(typing_context: Any) -> Any:
    """Wait for all threads of the block."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        function_type = lir.FunctionType(lir.VoidType(), [])
        builder.call(cgutils.get_or_insert_function(builder.module, function_type, "llvm.nvvm.barrier0"), [])
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def cluster_barrier(typing_context: Any) -> Any:
    """Wait for all threads of the cluster, which then see what each has left in its shared memory."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        function_type = lir.FunctionType(lir.VoidType(), [])
        text = "barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;"
        call = builder.call(lir.InlineAsm(function_type, text, "~{memory}", side_effect=True), [])
        call.attributes.add("convergent")
        return context.get_dummy_value()

    return types.void(), generate


def _exchanged(builder: Any, number: Any, offset: int, members: Any) -> Any:
    """The number of the thread whose place in the warp differs in the bit ``offset``."""
    pair = lir.LiteralStructType([I32, lir.IntType(1)])
    function_type = lir.FunctionType(pair, [I32] * 5)
    shuffle = cgutils.get_or_insert_function(builder.module, function_type, "llvm.nvvm.shfl.sync.i32")

    def moved(word: Any) -> Any:
        by_xor = I32(3)
        return builder.extract_value(builder.call(shuffle, [members, by_xor, word, I32(offset), I32(31)]), 0)

    if number.type == F32:
        return builder.bitcast(moved(builder.bitcast(number, I32)), F32)
    both = builder.bitcast(number, lir.VectorType(I32, 2))
    return builder.bitcast(gathered(builder, [moved(word) for word in scattered(builder, both)]), number.type)


def _neighbours(builder: Any, threads: int) -> Any:
    """The mask of the thread's group of so many, within its warp."""
    place = builder.and_(builder.trunc(_read(builder, "tid.x"), I32), I32(31 & ~(threads - 1)))
    return builder.shl(I32((1 << threads) - 1), place)


#: What a third argument that is left out is to Numba.
_TOGETHER = types.Omitted(False)


def _over_warp(combine: Callable[..., Any]) -> Any:
    @literal_intrinsic
    def over_warp(typing_context: Any, value: Any, threads: Any, alone: Any = _TOGETHER) -> Any:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            number, count = lane(builder, args[0], 0), literal(threads)
            apart = not isinstance(alone, types.Omitted)
            members = _neighbours(builder, count) if apart else I32(-1)
            offset = count // 2
            while offset:
                number = combine(builder, number, _exchanged(builder, number, offset, members))
                offset //= 2
            return gathered(builder, [number])

        return value(value, threads, alone), generate

    return over_warp


#: Of so many neighbouring threads, the same bits in each: halves are exchanged, and addition commutes. All of
#: the warp take part, or, with a third argument, the neighbours alone.
warp_total = _over_warp(sum_of_two)
warp_largest = _over_warp(instructions.maximum)


@intrinsic
def all_of_warp(typing_context: Any, condition: Any) -> Any:
    """Whether a condition holds in all threads of the warp."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pair = lir.LiteralStructType([I32, lir.IntType(1)])
        function_type = lir.FunctionType(pair, [I32, I32, lir.IntType(1)])
        vote = cgutils.get_or_insert_function(builder.module, function_type, "llvm.nvvm.vote.sync")
        return builder.extract_value(builder.call(vote, [I32(-1), I32(0), args[0]]), 1)

    return types.boolean(types.boolean), generate
