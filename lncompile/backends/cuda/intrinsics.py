"""The kernel language for CUDA: what emitted kernels call, as inline LLVM instructions and PTX.

A value is a vector of a few lanes in one thread's registers; what is the same for all elements of a row has
one lane. The names that the CPU's kernels use too mean the same (``lncompile/emit/standins.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.ir as lir
from numba.cuda import cgutils, types
from numba.cuda.extending import intrinsic

from lncompile.backends.cpu import vecmath
from lncompile.backends.cuda.conversions import converted
from lncompile.backends.cuda.memory import (  # noqa: F401 - parts of the language
    advance,
    get_float32,
    get_float32_of_block,
    get_float64,
    get_float64_of_block,
    get_vector,
    is_given,
    literal,
    load,
    load_constant,
    load_once,
    put,
    put_vector,
    share_float32,
    share_float64,
    store,
)
from lncompile.backends.cuda.vectors import (
    I32,
    I64,
    Vector,
    adapted,
    assembly,
    bfloat16,
    call,
    float16,
    gathered,
    joined,
    lane,
    literal_intrinsic,
    magnitude,
    scattered,
)

F32 = lir.FloatType()

# Making and converting values


def _filled(element: Any) -> Any:
    @literal_intrinsic
    def filled(typing_context: Any, value: Any, lanes: Any) -> Any:
        kind = Vector(element, literal(lanes))

        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return adapted(context, builder, args[0], sig.args[0], kind)

        source = value if isinstance(value, Vector) else types.float64
        return kind(source, lanes), generate

    return filled


f32x = _filled(types.float32)
f64x = _filled(types.float64)


def _conversion(element: Any) -> Any:
    @intrinsic
    def convert(typing_context: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return converted(builder, args[0], value, element)

        return Vector(element, value.lanes)(value), generate

    return convert


as_float32 = _conversion(types.float32)
as_float64 = _conversion(types.float64)
as_float16 = _conversion(float16)
as_bfloat16 = _conversion(bfloat16)


@intrinsic
def first(typing_context: Any, value: Any) -> Any:
    """The first lane."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return gathered(builder, [lane(builder, args[0], 0)])

    return Vector(value.element, 1)(value), generate


@intrinsic
def pushed(typing_context: Any, value: Any, last: Any) -> Any:
    """A vector moved by one lane: its first lane is gone, ``last`` behind the others."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return gathered(builder, [*scattered(builder, args[0])[1:], lane(builder, args[1], 0)])

    return value(value, last), generate


# Elementwise operations


def _elementwise(body: Callable[..., Any]) -> Any:
    """An intrinsic on vectors: ``body(builder, *lanes)`` for each lane, on numbers of one type."""

    def typed(arguments: tuple[Any, ...]) -> Any:
        kind = joined(*arguments)
        if kind is None:
            return None

        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            vectors = [adapted(context, builder, v, t, kind) for v, t in zip(args, arguments, strict=True)]
            columns = zip(*(scattered(builder, vector) for vector in vectors), strict=True)
            return gathered(builder, [body(builder, *lanes) for lanes in columns])

        return kind(*arguments), generate

    arity = body.__code__.co_argcount - 1
    if arity == 1:
        return intrinsic(lambda typing_context, a: typed((a,)))
    if arity == 2:
        return intrinsic(lambda typing_context, a, b: typed((a, b)))
    return intrinsic(lambda typing_context, a, b, c: typed((a, b, c)))


@_elementwise
def fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    return call(builder, "llvm.fma", (a, b, c))


@_elementwise
def square(builder: Any, v: Any) -> Any:
    return builder.fmul(v, v)


@_elementwise
def sqrt(builder: Any, v: Any) -> Any:
    return call(builder, "llvm.sqrt", (v,))


@_elementwise
def rsqrt(builder: Any, v: Any) -> Any:
    if v.type != F32:
        return builder.fdiv(lir.Constant(v.type, 1.0), call(builder, "llvm.sqrt", (v,)))
    # The instruction is off by 1.1 ulp; a step of Newton's method makes it half an ulp, and NaN of 0 and inf.
    near = assembly(builder, "rsqrt.approx.f32 $0, $1;", F32, "=f,f", [v])
    negative = builder.fmul(builder.fsub(lir.Constant(F32, -0.0), v), near)
    error = call(builder, "llvm.fma", (negative, near, lir.Constant(F32, 1.0)))
    half = builder.fmul(near, lir.Constant(F32, 0.5))
    better = call(builder, "llvm.fma", (half, error, near))
    return builder.select(builder.fcmp_ordered("ord", better, better), better, near)


@_elementwise
def absolute(builder: Any, v: Any) -> Any:
    return magnitude(builder, v)


def _extreme(builder: Any, a: Any, b: Any, comparison: str) -> Any:
    # NaN in either operand stays NaN, as in np.maximum.
    chosen = builder.select(builder.fcmp_ordered(comparison, a, b), a, b)
    return builder.select(builder.fcmp_unordered("uno", a, a), a, chosen)


@_elementwise
def maximum(builder: Any, a: Any, b: Any) -> Any:
    return _extreme(builder, a, b, ">")


@_elementwise
def minimum(builder: Any, a: Any, b: Any) -> Any:
    return _extreme(builder, a, b, "<")


@_elementwise
def exp(builder: Any, v: Any) -> Any:
    return vecmath.exp(builder, v)


@_elementwise
def log(builder: Any, v: Any) -> Any:
    return vecmath.log(builder, v)


@_elementwise
def tanh(builder: Any, v: Any) -> Any:
    return vecmath.tanh(builder, v)


@_elementwise
def sigmoid(builder: Any, v: Any) -> Any:
    return vecmath.sigmoid(builder, v)


@_elementwise
def erf(builder: Any, v: Any) -> Any:
    return vecmath.erf(builder, v)


@_elementwise
def rounding_error(builder: Any, a: Any, b: Any) -> Any:
    """What rounding a + b loses, exactly (Knuth, The Art of Computer Programming 2, 4.2.2, theorem B)."""
    near = builder.fadd(a, b)
    of_b = builder.fsub(near, a)
    of_a = builder.fsub(near, of_b)
    return builder.fadd(builder.fsub(a, of_a), builder.fsub(b, of_b))


@intrinsic
def where(typing_context: Any, condition: Any, chosen: Any, other: Any) -> Any:
    """``chosen`` in lanes where ``condition`` holds, ``other`` in those where it does not."""
    if isinstance(chosen, Vector) and chosen.element == types.boolean:
        kind = Vector(types.boolean, max(chosen.lanes, other.lanes, condition.lanes))
    else:
        joint = joined(chosen, other)
        element = joint.element if joint else None
        if element is None:
            return None
        kind = Vector(element, max(joint.lanes, condition.lanes))

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        mask = adapted(context, builder, args[0], condition, Vector(types.boolean, kind.lanes))
        picked = [
            scattered(builder, adapted(context, builder, v, t, kind))
            for v, t in zip(args[1:], (chosen, other), strict=True)
        ]
        columns = zip(scattered(builder, mask), *picked, strict=True)
        return gathered(builder, [builder.select(*lanes) for lanes in columns])

    return kind(condition, chosen, other), generate


@intrinsic
def keep(typing_context: Any, value: Any, condition: Any, fill: Any) -> Any:
    """``value`` if the condition holds, else ``fill`` in all lanes."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        filled = adapted(context, builder, args[2], types.float64, value)
        lanes = zip(scattered(builder, args[0]), scattered(builder, filled), strict=True)
        return gathered(builder, [builder.select(args[1], kept, other) for kept, other in lanes])

    return value(value, types.boolean, types.float64), generate


# From vectors to one lane


def _folded(builder: Any, lanes: list[Any], combine: Callable[..., Any]) -> Any:
    while len(lanes) > 1:
        half = len(lanes) // 2
        lanes = [combine(builder, lanes[at], lanes[at + half]) for at in range(half)]
    return lanes[0]


def _folding(combine: Callable[..., Any]) -> Any:
    @intrinsic
    def fold(typing_context: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return gathered(builder, [_folded(builder, scattered(builder, args[0]), combine)])

        return Vector(value.element, 1)(value), generate

    return fold


def _sum(builder: Any, a: Any, b: Any) -> Any:
    return builder.fadd(a, b)


def _larger(builder: Any, a: Any, b: Any) -> Any:
    return _extreme(builder, a, b, ">")


total = _folding(_sum)
largest = _folding(_larger)


def _in_range(least: float, most: float) -> Any:
    """Whether a row-sized value is zero or of a size between two bounds."""

    @intrinsic
    def check(typing_context: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            size = magnitude(builder, lane(builder, args[0], 0))
            inside = builder.and_(
                builder.fcmp_ordered(">=", size, lir.Constant(size.type, least)),
                builder.fcmp_ordered("<=", size, lir.Constant(size.type, most)),
            )
            return builder.or_(inside, builder.fcmp_ordered("==", size, lir.Constant(size.type, 0.0)))

        return types.boolean(value), generate

    return check


fits_float32 = _in_range(2.0**-126, (2.0 - 2.0**-23) * 2.0**127)
is_moderate = _in_range(2.0**-40, 2.0**40)


@intrinsic
def is_finite(typing_context: Any, value: Any) -> Any:
    """Neither infinite nor NaN."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        size = magnitude(builder, lane(builder, args[0], 0))
        return builder.fcmp_ordered("<", size, lir.Constant(size.type, float("inf")))

    return types.boolean(value), generate


# Threads


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
warp_total = _over_warp(_sum)
warp_largest = _over_warp(_larger)


@intrinsic
def all_of_warp(typing_context: Any, condition: Any) -> Any:
    """Whether a condition holds in all threads of the warp."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pair = lir.LiteralStructType([I32, lir.IntType(1)])
        function_type = lir.FunctionType(pair, [I32, I32, lir.IntType(1)])
        vote = cgutils.get_or_insert_function(builder.module, function_type, "llvm.nvvm.vote.sync")
        return builder.extract_value(builder.call(vote, [I32(-1), I32(0), args[0]]), 1)

    return types.boolean(types.boolean), generate


# Indices: none is negative


def _of_indices(operate: Callable[..., Any]) -> Any:
    @intrinsic
    def of_indices(typing_context: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return operate(builder, *args)

        return types.int64(types.int64, types.int64), generate

    return of_indices


@intrinsic
def unrolled_never(typing_context: Any, count: Any) -> Any:
    """``count``, which LLVM cannot know: a loop over so many rounds stays one."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return assembly(builder, "mov.u64 $0, $1;", I64, "=l,l", args, again=True)

    return types.int64(types.int64), generate


quotient = _of_indices(lambda builder, a, b: builder.udiv(a, b))
remainder = _of_indices(lambda builder, a, b: builder.urem(a, b))
at_most = _of_indices(lambda builder, a, b: builder.select(builder.icmp_signed("<", a, b), a, b))
