"""The floating-point environment of kernels: rounding to nearest, subnormal numbers kept.

Any library of a process may have switched to flushing subnormals to zero (those built with ``-ffast-math`` do
so when they are loaded); results must not depend on it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.ir as lir

from lncompile.backends.cpu.target import CpuTarget

_I32, _I64 = lir.IntType(32), lir.IntType(64)

#: x86's MXCSR without its six sticky exception flags: all exceptions masked, nearest, no flushing.
_MXCSR_DEFAULT, _MXCSR_MODES = 0x1F80, 0xFFC0
#: AArch64's FPCR: flush-to-zero (bit 24), rounding mode (bits 23 and 22), default NaN (bit 25).
_FPCR_MODES = 0x3C00000


def use_defaults(builder: Any, target: CpuTarget) -> Callable[[], None]:
    """Make the defaults hold from here on; what is returned puts back what was there."""
    if target.triple.startswith("x86_64"):
        return _x86(builder)
    return _aarch64(builder)


def _x86(builder: Any) -> Callable[[], None]:
    saved, wanted = builder.alloca(_I32), builder.alloca(_I32)
    control = lir.FunctionType(lir.VoidType(), [lir.IntType(8).as_pointer()])
    store = _declared(builder.module, control, "llvm.x86.sse.stmxcsr")
    load = _declared(builder.module, control, "llvm.x86.sse.ldmxcsr")

    def at(place: Any) -> list[Any]:
        return [builder.bitcast(place, lir.IntType(8).as_pointer())]

    builder.call(store, at(saved))
    modes = builder.and_(builder.load(saved), _I32(_MXCSR_MODES))
    differs = builder.icmp_unsigned("!=", modes, _I32(_MXCSR_DEFAULT))
    with builder.if_then(differs, likely=False):
        builder.store(_I32(_MXCSR_DEFAULT), wanted)
        builder.call(load, at(wanted))

    def restore() -> None:
        with builder.if_then(differs, likely=False):
            builder.call(load, at(saved))

    return restore


def _aarch64(builder: Any) -> Callable[[], None]:
    get = _declared(builder.module, lir.FunctionType(_I64, []), "llvm.aarch64.get.fpcr")
    put = _declared(builder.module, lir.FunctionType(lir.VoidType(), [_I64]), "llvm.aarch64.set.fpcr")
    saved = builder.call(get, [])
    differs = builder.icmp_unsigned("!=", builder.and_(saved, _I64(_FPCR_MODES)), _I64(0))
    with builder.if_then(differs, likely=False):
        builder.call(put, [builder.and_(saved, _I64(~_FPCR_MODES))])

    def restore() -> None:
        with builder.if_then(differs, likely=False):
            builder.call(put, [saved])

    return restore


def _declared(module: Any, function_type: Any, name: str) -> Any:
    return module.globals.get(name) or lir.Function(module, function_type, name)
