"""The kernel language for Numba: what emitted kernels call, as inline LLVM instructions.

``lncompile/emit/standins.py`` gives the same names the same meaning in NumPy. Lane counts are literals, so a
value such as ``load(x, i, 64)`` is one LLVM vector; LLVM cuts it into registers, which makes wide vectors the
way to say "four accumulators".
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.ir as lir
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.core.datamodel.registry import register_default
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic

from lncompile.backends.cpu import estimates, extremes, halves, vecmath

I32, I64 = lir.IntType(32), lir.IntType(64)


class Vector(types.Type):
    """``lanes`` values of one scalar type."""

    def __init__(self, element: Any, lanes: int) -> None:
        self.element = element
        self.lanes = lanes
        super().__init__(name=f"vector({element}, {lanes})")


@register_default(Vector)
class VectorModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Vector) -> None:
        element = (
            lir.IntType(1)
            if fe_type.element == types.boolean
            else dmm.lookup(fe_type.element).get_value_type()
        )
        super().__init__(dmm, fe_type, lir.VectorType(element, fe_type.lanes))


class Half(types.Type):
    """A float of 16 bits as it lies in memory: there is no arithmetic on it, it is converted first."""

    bitwidth = 16


@register_default(Half)
class HalfModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Half) -> None:
        super().__init__(dmm, fe_type, lir.IntType(16))


float16 = Half("float16")
bfloat16 = Half("bfloat16")


def _element(t: Any) -> Any:
    return t.element if isinstance(t, Vector) else t


def _is_number(t: Any) -> bool:
    return isinstance(t, types.Float | types.Integer)


def _joined(*operands: Any) -> Any:
    """The type of an elementwise operation: the vector's, if there is one; scalars adapt to it."""
    vectors = [t for t in operands if isinstance(t, Vector) and t.element != types.boolean]
    if vectors:
        first = vectors[0]
        if all(t == first or _is_number(t) for t in operands):
            return first
        return None
    if all(_is_number(t) for t in operands):
        # Row-sized scalars are float64; float32 ones stay among themselves.
        return types.float32 if all(t == types.float32 for t in operands) else types.float64
    return None


def _adapted(context: Any, builder: Any, value: Any, source: Any, target: Any) -> Any:
    """``value`` as ``target``: scalars are converted and repeated in every lane."""
    if source == target:
        return value
    element = _element(target)
    value = context.cast(builder, value, source, element)
    return _splat(builder, value, target.lanes) if isinstance(target, Vector) else value


def _splat(builder: Any, value: Any, lanes: int) -> Any:
    kind = lir.VectorType(value.type, lanes)
    single = builder.insert_element(lir.Constant(kind, lir.Undefined), value, I32(0))
    return builder.shuffle_vector(
        single, lir.Constant(kind, lir.Undefined), lir.Constant(lir.VectorType(I32, lanes), [0] * lanes)
    )


def _literal(t: Any) -> int:
    return int(t.literal_value)


def _call(
    builder: Any, name: str, arguments: Sequence[Any], result: Any = None, suffix: Sequence[Any] = ()
) -> Any:
    """Call an LLVM intrinsic."""
    result = result or arguments[0].type
    function_type = lir.FunctionType(result, [argument.type for argument in arguments])
    full = ".".join([name, *(_mangled(kind) for kind in (suffix or (arguments[0].type,)))])
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, full), arguments)


def _mangled(kind: Any) -> str:
    if isinstance(kind, lir.VectorType):
        return f"v{kind.count}{_mangled(kind.element)}"
    if isinstance(kind, lir.PointerType):
        return "p0"
    return {"float": "f32", "double": "f64"}.get(str(kind), str(kind))


# Memory


@intrinsic(prefer_literal=True)
def load(typing_context: Any, pointer: Any, index: Any, lanes: Any) -> Any:
    kind = Vector(pointer.dtype, _literal(lanes))

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        address = _address(context, builder, args, kind)
        return builder.load(address, align=_alignment(pointer))

    return kind(pointer, types.int64, lanes), generate


@intrinsic(prefer_literal=True)
def load_partial(typing_context: Any, pointer: Any, index: Any, count: Any, lanes: Any) -> Any:
    kind = Vector(pointer.dtype, _literal(lanes))

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector = context.get_value_type(kind)
        if _in_pairs(context, pointer, count, kind.lanes):
            return _load_pairs(context, builder, args, kind)
        address = _address(context, builder, args, kind)
        mask = _first_lanes(builder, args[2], kind.lanes)
        arguments = [address, I32(_alignment(pointer)), mask, lir.Constant(vector, None)]
        return _call(builder, "llvm.masked.load", arguments, vector, (vector, address.type))

    return kind(pointer, types.int64, types.int64, lanes), generate


@intrinsic(prefer_literal=True)
def gather(typing_context: Any, pointer: Any, index: Any, stride: Any, count: Any, lanes: Any) -> Any:
    kind = Vector(pointer.dtype, _literal(lanes))

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector = context.get_value_type(kind)
        addresses = _addresses(builder, args, pointer, kind.lanes)
        mask = _first_lanes(builder, args[3], kind.lanes)
        arguments = [addresses, I32(_alignment(pointer)), mask, lir.Constant(vector, None)]
        return _call(builder, "llvm.masked.gather", arguments, vector, (vector, addresses.type))

    return kind(pointer, types.int64, types.int64, types.int64, lanes), generate


@intrinsic
def scatter(typing_context: Any, pointer: Any, index: Any, stride: Any, count: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector = _to_element(context, builder, args[4], value, pointer.dtype)
        addresses = _addresses(builder, args, pointer, value.lanes)
        mask = _first_lanes(builder, args[3], value.lanes)
        arguments = [vector, addresses, I32(_alignment(pointer)), mask]
        _call(builder, "llvm.masked.scatter", arguments, lir.VoidType(), (vector.type, addresses.type))
        return context.get_dummy_value()

    return types.void(pointer, types.int64, types.int64, types.int64, value), generate


def _addresses(builder: Any, args: Any, pointer: Any, lanes: int) -> Any:
    """The addresses ``args[0][(args[1] + lane) * args[2]]``, as a vector."""
    kind = lir.VectorType(I64, lanes)
    numbers = builder.add(_splat(builder, args[1], lanes), lir.Constant(kind, list(range(lanes))))
    step = builder.mul(args[2], I64(_alignment(pointer)))
    offsets = builder.mul(numbers, _splat(builder, step, lanes))
    first = _splat(builder, builder.ptrtoint(args[0], I64), lanes)
    return builder.inttoptr(builder.add(first, offsets), lir.VectorType(args[0].type, lanes))


@intrinsic
def store(typing_context: Any, pointer: Any, index: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = Vector(pointer.dtype, value.lanes) if isinstance(value, Vector) else pointer.dtype
        address = _address(context, builder, args, kind)
        builder.store(
            _to_element(context, builder, args[2], value, pointer.dtype), address, align=_alignment(pointer)
        )
        return context.get_dummy_value()

    return types.void(pointer, types.int64, value), generate


@intrinsic(prefer_literal=True)
def store_partial(typing_context: Any, pointer: Any, index: Any, count: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector = _to_element(context, builder, args[3], value, pointer.dtype)
        if _in_pairs(context, pointer, count, value.lanes):
            _store_pairs(context, builder, args, vector)
            return context.get_dummy_value()
        address = _address(context, builder, args, Vector(pointer.dtype, value.lanes))
        mask = _first_lanes(builder, args[2], value.lanes)
        arguments = [vector, address, I32(_alignment(pointer)), mask]
        _call(builder, "llvm.masked.store", arguments, lir.VoidType(), (vector.type, address.type))
        return context.get_dummy_value()

    return types.void(pointer, types.int64, types.int64, value), generate


@intrinsic
def read(typing_context: Any, pointer: Any, index: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value = builder.load(_address(context, builder, args, pointer.dtype), align=_alignment(pointer))
        return _to_element(context, builder, value, pointer.dtype, types.float64)

    return types.float64(pointer, types.int64), generate


write = store


@intrinsic(prefer_literal=True)
def stream(typing_context: Any, pointer: Any, index: Any, value: Any, boundary: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        address = _address(context, builder, args, Vector(pointer.dtype, value.lanes))
        vector = _to_element(context, builder, args[2], value, pointer.dtype)
        instruction = builder.store(vector, address, align=_literal(boundary))
        instruction.set_metadata("nontemporal", builder.module.add_metadata([I32(1)]))
        return context.get_dummy_value()

    return types.void(pointer, types.int64, value, boundary), generate


@intrinsic
def fence(typing_context: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        # What is streamed is not ordered with other writes, not even by a lock's release on x86.
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic(prefer_literal=True)
def prefetch(typing_context: Any, pointer: Any, index: Any, count: Any, level: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        first = builder.ptrtoint(builder.gep(args[0], [args[1]]), I64)
        read, locality, data = I32(0), I32(4 - _literal(level)), I32(1)
        for offset in range(0, _literal(count) * _alignment(pointer), _CACHE_LINE):
            line = builder.inttoptr(builder.add(first, I64(offset)), lir.IntType(8).as_pointer())
            arguments = [line, read, locality, data]
            _call(builder, "llvm.prefetch", arguments, lir.VoidType(), (line.type,))
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


def _first_lanes(builder: Any, count: Any, lanes: int) -> Any:
    """The mask of lanes below ``count``."""
    kind = lir.VectorType(I32, lanes)
    return builder.icmp_signed(
        "<", lir.Constant(kind, list(range(lanes))), _splat(builder, builder.trunc(count, I32), lanes)
    )


def _in_pairs(context: Any, pointer: Any, count: Any, lanes: int) -> bool:
    """Whether to load or store so many elements as pairs, and the last one by itself.

    Below AVX-512 no instruction loads or stores the first of some elements of 16 bits, and LLVM asks for each
    of them where the number is not known.
    """
    known = isinstance(count, types.IntegerLiteral)
    return (
        isinstance(pointer.dtype, Half) and lanes > 1 and not known and context.lnc_target.vector_bytes < 64
    )


def _pairs(context: Any, builder: Any, args: Any, lanes: int) -> tuple[Any, Any, Any, Any]:
    """Vector type and address of the pairs, the mask of whole ones, and the index of the last element."""
    vector = lir.VectorType(I32, lanes // 2)
    address = builder.bitcast(builder.gep(args[0], [args[1]]), vector.as_pointer())
    mask = _first_lanes(builder, builder.lshr(args[2], I64(1)), lanes // 2)
    return vector, address, mask, builder.sub(args[2], I64(1))


def _load_pairs(context: Any, builder: Any, args: Any, kind: Any) -> Any:
    vector, address, mask, last = _pairs(context, builder, args, kind.lanes)
    arguments = [address, I32(2), mask, lir.Constant(vector, None)]
    pairs = _call(builder, "llvm.masked.load", arguments, vector, (vector, address.type))
    element = builder.load(builder.gep(args[0], [builder.add(args[1], last)]), align=2)
    values = builder.bitcast(pairs, context.get_value_type(kind))
    return builder.insert_element(values, element, builder.trunc(last, I32))


def _store_pairs(context: Any, builder: Any, args: Any, value: Any) -> None:
    vector, address, mask, last = _pairs(context, builder, args, value.type.count)
    arguments = [builder.bitcast(value, vector), address, I32(2), mask]
    _call(builder, "llvm.masked.store", arguments, lir.VoidType(), (vector, address.type))
    element = builder.extract_element(value, builder.trunc(last, I32))
    builder.store(element, builder.gep(args[0], [builder.add(args[1], last)]), align=2)


def _to_element(context: Any, builder: Any, value: Any, source: Any, element: Any) -> Any:
    before = _element(source)
    if before == element:
        return value
    if isinstance(before, Half) or isinstance(element, Half):
        return _with_halves(context, builder, value, before, element)
    if isinstance(source, Vector):
        return _resized(
            builder,
            value,
            lir.VectorType(context.get_value_type(element), source.lanes),
            source.element,
            element,
        )
    return context.cast(builder, value, source, element)


def _with_halves(context: Any, builder: Any, value: Any, source: Any, element: Any) -> Any:
    if isinstance(source, Half):
        target = context.get_value_type(types.float64 if isinstance(element, Half) else element)
        in_hardware = context.lnc_target.converts_float16
        value = halves.widened(builder, value, source.name, target, in_hardware=in_hardware)
    if isinstance(element, Half):
        in_hardware = context.lnc_target.converts_float16
        value = halves.narrowed(builder, value, element.name, in_hardware=in_hardware)
    return value


def _resized(builder: Any, value: Any, target: Any, source: Any, element: Any) -> Any:
    convert = builder.fpext if element.bitwidth > source.bitwidth else builder.fptrunc
    return convert(value, target)


# Making and converting values


def _filled(element: Any) -> Any:
    @intrinsic(prefer_literal=True)
    def filled(typing_context: Any, value: Any, lanes: Any) -> Any:
        kind = Vector(element, _literal(lanes))

        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return _adapted(context, builder, args[0], sig.args[0], kind)

        return kind(types.float64, lanes), generate

    return filled


f32x = _filled(types.float32)
f64x = _filled(types.float64)


def _converted(element: Any) -> Any:
    @intrinsic
    def convert(typing_context: Any, value: Any) -> Any:
        target = Vector(element, value.lanes) if isinstance(value, Vector) else element

        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return _to_element(context, builder, args[0], value, element)

        return target(value), generate

    return convert


as_float32 = _converted(types.float32)
as_float64 = _converted(types.float64)
as_float16 = _converted(float16)
as_bfloat16 = _converted(bfloat16)


@intrinsic
def keep_first(typing_context: Any, value: Any, count: Any, fill: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        mask = _first_lanes(builder, args[1], value.lanes)
        return builder.select(mask, args[0], _adapted(context, builder, args[2], types.float64, value))

    return value(value, types.int64, types.float64), generate


# Elementwise operations


def _elementwise(body: Callable[..., Any]) -> Any:
    """An intrinsic on vectors and scalars alike: ``body(builder, *values)`` on values of one type."""

    def typed(arguments: tuple[Any, ...]) -> Any:
        kind = _joined(*arguments)
        if kind is None:
            return None

        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return body(
                builder,
                *(_adapted(context, builder, v, t, kind) for v, t in zip(args, arguments, strict=True)),
            )

        return kind(*arguments), generate

    arity = body.__code__.co_argcount - 1
    if arity == 1:
        return intrinsic(lambda typing_context, a: typed((a,)))
    if arity == 2:
        return intrinsic(lambda typing_context, a, b: typed((a, b)))
    return intrinsic(lambda typing_context, a, b, c: typed((a, b, c)))


@_elementwise
def fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    # fmuladd, not fma: on a CPU without the instruction the latter is a call into libm.
    return _call(builder, "llvm.fmuladd", (a, b, c))


@_elementwise
def square(builder: Any, v: Any) -> Any:
    return builder.fmul(v, v)


@_elementwise
def sqrt(builder: Any, v: Any) -> Any:
    return _call(builder, "llvm.sqrt", (v,))


@intrinsic
def rsqrt(typing_context: Any, v: Any) -> Any:
    kind = _joined(v)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value = _adapted(context, builder, args[0], v, kind)
        if _element(kind) == types.float64 and context.lnc_target.estimates_rsqrt:
            return estimates.rsqrt(builder, value)
        return builder.fdiv(_constant(value.type, 1.0), _call(builder, "llvm.sqrt", (value,)))

    return None if kind is None else (kind(v), generate)


@_elementwise
def absolute(builder: Any, v: Any) -> Any:
    return _call(builder, "llvm.fabs", (v,))


maximum = _elementwise(extremes.maximum)
minimum = _elementwise(extremes.minimum)
exp = _elementwise(vecmath.exp)
log = _elementwise(vecmath.log)
tanh = _elementwise(vecmath.tanh)
sigmoid = _elementwise(vecmath.sigmoid)
erf = _elementwise(vecmath.erf)


def _constant(kind: Any, value: float) -> Any:
    return (
        lir.Constant(kind, [value] * kind.count)
        if isinstance(kind, lir.VectorType)
        else lir.Constant(kind, value)
    )


@intrinsic
def where(typing_context: Any, condition: Any, chosen: Any, other: Any) -> Any:
    vectors = [t for t in (condition, chosen, other) if isinstance(t, Vector)]
    if _element(chosen) == types.boolean:
        joined: Any = next((t for t in vectors if t.element == types.boolean), types.boolean)
    else:
        joined = _joined(chosen, other)
        if isinstance(condition, Vector) and not isinstance(joined, Vector):
            return None
    if joined is None:
        return None

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        mask = args[0]
        if joined == types.boolean or isinstance(joined, Vector):
            mask = _as_mask(context, builder, mask, condition, joined)
        picked = [
            _as_mask(context, builder, v, t, joined)
            if _element(joined) == types.boolean
            else _adapted(context, builder, v, t, joined)
            for v, t in zip(args[1:], (chosen, other), strict=True)
        ]
        return builder.select(mask, *picked)

    return joined(condition, chosen, other), generate


def _as_mask(context: Any, builder: Any, value: Any, kind: Any, like: Any) -> Any:
    """A truth value as wide as ``like``."""
    return (
        _splat(builder, value, like.lanes)
        if isinstance(like, Vector) and not isinstance(kind, Vector)
        else value
    )


# From vectors to scalars


@intrinsic
def first(typing_context: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return context.cast(builder, builder.extract_element(args[0], I32(0)), value.element, types.float64)

    return types.float64(value), generate


def _in_range(least: float, most: float) -> Any:
    """Whether row-sized values are zero or of a size between two bounds."""

    @intrinsic
    def check(typing_context: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            size = _call(builder, "llvm.fabs", (args[0],))
            inside = builder.and_(
                builder.fcmp_ordered(">=", size, _constant(size.type, least)),
                builder.fcmp_ordered("<=", size, _constant(size.type, most)),
            )
            return builder.or_(inside, builder.fcmp_ordered("==", size, _constant(size.type, 0.0)))

        return _truth(value), generate

    return check


fits_float32 = _in_range(2.0**-126, (2.0 - 2.0**-23) * 2.0**127)
is_moderate = _in_range(2.0**-40, 2.0**40)


@intrinsic
def is_finite(typing_context: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        size = _call(builder, "llvm.fabs", (args[0],))
        return builder.fcmp_ordered("<", size, _constant(size.type, float("inf")))

    return _truth(value), generate


@intrinsic
def everywhere(typing_context: Any, condition: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if not isinstance(condition, Vector):
            return args[0]
        return _call(builder, "llvm.vector.reduce.and", (args[0],), lir.IntType(1), (args[0].type,))

    return types.boolean(condition), generate


def _truth(value: Any) -> Any:
    """The signature of a check of row-sized values: of one row, or of those side by side in the lanes."""
    if isinstance(value, Vector):
        return Vector(types.boolean, value.lanes)(value)
    return types.boolean(types.float64)


# Operators


def _install_operator(function: Any, instruction: Callable[..., Any], compares: bool) -> None:
    @infer_global(function)
    class VectorOperator(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            if kws or len(args) != 2 or not any(isinstance(t, Vector) for t in args):
                return None
            kind = _joined(*args)
            if kind is None:
                return None
            return signature(Vector(types.boolean, kind.lanes) if compares else kind, *args)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = _joined(*sig.args)
        assert kind is not None
        left, right = (_adapted(context, builder, v, t, kind) for v, t in zip(args, sig.args, strict=True))
        return instruction(builder, left, right)

    for left, right in (
        (Vector, Vector),
        (Vector, types.Float),
        (types.Float, Vector),
        (Vector, types.Integer),
        (types.Integer, Vector),
    ):
        lower_builtin(function, left, right)(lower)


_install_operator(operator.add, lambda b, x, y: b.fadd(x, y), False)
_install_operator(operator.iadd, lambda b, x, y: b.fadd(x, y), False)
_install_operator(operator.sub, lambda b, x, y: b.fsub(x, y), False)
_install_operator(operator.mul, lambda b, x, y: b.fmul(x, y), False)
_install_operator(operator.truediv, lambda b, x, y: b.fdiv(x, y), False)
_install_operator(operator.lt, lambda b, x, y: b.fcmp_ordered("<", x, y), True)
_install_operator(operator.le, lambda b, x, y: b.fcmp_ordered("<=", x, y), True)
_install_operator(operator.gt, lambda b, x, y: b.fcmp_ordered(">", x, y), True)
_install_operator(operator.ge, lambda b, x, y: b.fcmp_ordered(">=", x, y), True)
_install_operator(operator.eq, lambda b, x, y: b.fcmp_ordered("==", x, y), True)
_install_operator(operator.ne, lambda b, x, y: b.fcmp_unordered("!=", x, y), True)


@infer_global(operator.and_)
class VectorConjunction(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        vectors = [t for t in args if isinstance(t, Vector)]
        if len(args) != 2 or not vectors or any(_element(t) != types.boolean for t in args):
            return None
        return signature(vectors[0], *args)


@lower_builtin(operator.and_, Vector, Vector)
@lower_builtin(operator.and_, Vector, types.Boolean)
@lower_builtin(operator.and_, types.Boolean, Vector)
def _conjunction(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    left, right = (
        _as_mask(context, builder, v, t, sig.return_type) for v, t in zip(args, sig.args, strict=True)
    )
    return builder.and_(left, right)


@infer_global(operator.neg)
class VectorNegation(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        return signature(args[0], *args) if len(args) == 1 and isinstance(args[0], Vector) else None


@lower_builtin(operator.neg, Vector)
def _negate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.fneg(args[0])
