"""LLVM IR that runs one C function over all its units: serially, or cut into shares on threads of OpenMP.

The C functions have the form of :mod:`lncompile.interface`. ``GOMP_parallel``, which the runtimes of GCC,
LLVM and Intel export alike, calls a function with one pointer on each thread; it leads to a *job*::

    {thread_num, num_threads, status, units, the function's arguments...}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from llvmlite import ir

from lncompile.backends.cpu.calls import fold
from lncompile.errors import CompilerBug

_INT32, _INT64 = ir.IntType(32), ir.IntType(64)
_POINTER = ir.PointerType()
_STATUS = 2


class OpenMP(NamedTuple):
    """LLVM values: addresses of a runtime's functions, and an int64, the threads to use at most (0: all)."""

    parallel: Any
    thread_num: Any
    num_threads: Any
    threads: Any


def run_units(
    module: Any,
    build: Any,
    target: Any,
    arguments: list[Any],
    units: Any,
    on_threads: Any,
    openmp: Callable[[], OpenMP],
) -> Any:
    """Call ``target`` for all ``units`` (an int64), on threads where the bool ``on_threads`` holds.

    ``openmp`` builds the values that are needed on threads alone. Returns the status: 0, or what a call gave.
    """
    with build.if_else(on_threads, likely=False) as (threaded, serial):
        with threaded:
            shared_status = _on_threads(module, build, target, arguments, units, openmp())
            threaded_end = build.block
        with serial:
            # Hides that this is 0: a copy of the function specialised on it could round differently.
            begin = build.asm(ir.FunctionType(_INT64, [_INT64]), "", "=r,0", [_INT64(0)], False)
            serial_status = build.call(target, [*arguments, begin, units], attrs=("noinline",))
            serial_end = build.block
    status = build.phi(_INT32)
    status.add_incoming(shared_status, threaded_end)
    status.add_incoming(serial_status, serial_end)
    return status


def _on_threads(
    module: Any, build: Any, target: Any, arguments: list[Any], units: Any, openmp: OpenMP
) -> Any:
    fields = [openmp.thread_num, openmp.num_threads, _INT32(0), units, *arguments]
    job_type = ir.LiteralStructType([field.type for field in fields])
    with build.goto_entry_block():
        job = build.alloca(job_type, name=f"{target.name}.job")
    job.type = _POINTER  # llvmlite's alloca alone still gives a typed pointer
    for index, field in enumerate(fields):
        build.store(field, _member(build, job, job_type, index))
    threads = build.select(build.icmp_signed("<", openmp.threads, units), openmp.threads, units)
    share = _define_share(module, target, job_type)
    team = build.trunc(threads, _INT32)
    call_indirect(build, openmp.parallel, ir.VoidType(), [share, job, team, _INT32(0)])
    return build.load(_member(build, job, job_type, _STATUS), typ=_INT32)


def _define_share(module: Any, target: Any, job_type: Any) -> Any:
    """What each thread runs: its share of a call's units, shares being equal to within one."""
    name = module.get_unique_name(f"{target.name}.share")
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [_POINTER]), name)
    function.linkage = "internal"
    job = function.args[0]
    job.name = "job"
    build = ir.IRBuilder(function.append_basic_block("entry"))
    thread_num, num_threads, _, units, *arguments = (
        build.load(_member(build, job, job_type, index), typ=type_)
        for index, type_ in enumerate(job_type.elements)
    )
    thread = build.zext(call_indirect(build, thread_num, _INT32, []), _INT64)
    threads = build.zext(call_indirect(build, num_threads, _INT32, []), _INT64)
    begin = build.udiv(build.mul(units, thread), threads)
    end = build.udiv(build.mul(units, build.add(thread, _INT64(1))), threads)
    status = build.call(target, [*arguments, begin, end], attrs=("noinline",))
    with build.if_then(build.icmp_unsigned("!=", status, _INT32(0)), likely=False):
        # Atomic, since other threads may store theirs at the same time.
        build.atomic_rmw("umax", _member(build, job, job_type, _STATUS), status, "monotonic")
    build.ret_void()
    return function


def evaluated(build: Any, expression: str, sizes: Mapping[str, Any]) -> Any:
    """The value of a C expression over int64 ``sizes``; ``CompilerBug`` where it names another."""

    def leaf(value: int | str) -> Any:
        if isinstance(value, int):
            return _INT64(value)
        if value not in sizes:
            raise CompilerBug(f"{expression}: a size that is not known: {value!r}")
        return sizes[value]

    builders = {"+": build.add, "-": build.sub, "*": build.mul, "/": build.sdiv}
    return fold(expression, leaf, lambda operator, left, right: builders[operator](left, right))


def declared(module: Any, name: str, arguments: list[Any]) -> Any:
    """The C function ``name`` that takes ``arguments`` and a range."""
    if name in module.globals:
        return module.globals[name]
    parameters = [*(argument.type for argument in arguments), _INT64, _INT64]
    return ir.Function(module, ir.FunctionType(_INT32, parameters), name)


def call_indirect(build: Any, pointer: Any, result: Any, arguments: list[Any]) -> Any:
    """Call the C function at ``pointer``."""
    return build.call(_Callee(pointer, ir.FunctionType(result, [a.type for a in arguments])), arguments)


class _Callee:
    """A pointer with what IRBuilder asks a callee for, and an opaque pointer does not know: its signature."""

    def __init__(self, pointer: Any, function_type: Any) -> None:
        self.pointer = pointer
        self.type = pointer.type
        self.function_type = function_type

    def get_reference(self) -> Any:
        """How the pointer is written."""
        return self.pointer.get_reference()


def _member(build: Any, struct: Any, type_: Any, index: int) -> Any:
    return build.gep(struct, [_INT32(0), _INT32(index)], source_etype=type_)
