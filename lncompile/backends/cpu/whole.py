"""One C function for a whole phase: its calls in order, on the OpenMP that it is given or serially.

    int32_t NAME(void *buffer_0, ..., int64_t size_0, ..., const lnc_openmp *openmp);

``lnc_openmp`` is declared in the headers of libraries: ``GOMP_parallel``, ``omp_get_thread_num``,
``omp_get_num_threads`` and the number of threads to use at most, 0 for all. NULL means serially; little work
is done serially anyway.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from lncompile.backends.cpu.parallel import OpenMP, declared, evaluated, run_units
from lncompile.backends.cpu.runtime import SERIAL_BELOW
from lncompile.interface import Phase

_INT32, _INT64 = ir.IntType(32), ir.IntType(64)
_POINTER = ir.PointerType()


def whole_ir(phase: Phase, name: str) -> str:
    """LLVM IR of the function ``name``, which does all of ``phase``; the text names no target."""
    module = ir.Module(name)
    module.triple = ""
    buffers = [buffer.name for buffer in phase.buffers if buffer.role != "absent"]
    sizes = [size.name for size in phase.sizes]
    parameters = [_POINTER] * len(buffers) + [_INT64] * len(sizes) + [_POINTER]
    function = ir.Function(module, ir.FunctionType(_INT32, parameters), name)
    *values, openmp = function.args
    pointers, numbers = values[: len(buffers)], values[len(buffers) :]
    build = ir.IRBuilder(function.append_basic_block("entry"))
    given = build.icmp_unsigned("!=", openmp, _POINTER(None))
    by_name, size_by_name = dict(zip(buffers, pointers, strict=True)), dict(zip(sizes, numbers, strict=True))
    for call in phase.calls:
        units = evaluated(build, call.units, size_by_name)
        work = build.mul(units, evaluated(build, call.unit_work, size_by_name))
        many = build.and_(given, build.icmp_signed(">=", work, _INT64(SERIAL_BELOW)))
        arguments = [*(by_name[buffer] for buffer in call.buffers), *numbers]
        target = declared(module, call.function, arguments)
        status = run_units(module, build, target, arguments, units, many, lambda: _members(build, openmp))
        with build.if_then(build.icmp_unsigned("!=", status, _INT32(0)), likely=False):
            build.ret(status)
    build.ret(_INT32(0))
    return str(module)


def _members(build: Any, openmp: Any) -> OpenMP:
    kinds = (_POINTER, _POINTER, _POINTER, _INT64)
    places = [build.gep(openmp, [_INT64(at)], source_etype=_INT64) for at in range(len(kinds))]
    parallel, thread_num, num_threads, threads = (
        build.load(place, typ=kind) for place, kind in zip(places, kinds, strict=True)
    )
    return OpenMP(parallel, thread_num, num_threads, threads)
