"""How many operations on float32 a second the cores do at most: what no kernel can exceed in cache."""

from __future__ import annotations

import ctypes
import threading
import time

import llvmlite.binding as llvm

#: Independent sums: a fused multiply-add takes 4 cycles and two begin in each, so 8 hide the latency.
_SUMS = 12
_LANES = 16
_TURNS = 1 << 22


def gigaflops(threads: int) -> float:
    """The best of some runs of multiply-adds in registers on every thread; each counts as two operations."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features.flatten(), opt=2
    )
    engine = llvm.create_mcjit_compiler(
        llvm.parse_assembly(_ir(512 if features.get("avx512f") else 256)), machine
    )
    engine.finalize_object()
    spin = ctypes.CFUNCTYPE(ctypes.c_float, ctypes.c_int64)(engine.get_function_address("spin"))
    best = 0.0
    for _ in range(5):
        workers = [threading.Thread(target=spin, args=(_TURNS,)) for _ in range(threads)]
        begin = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        seconds = time.perf_counter() - begin
        best = max(best, threads * _TURNS * _SUMS * _LANES * 2 / seconds / 1e9)
    return best


def _ir(width: int) -> str:
    vector = f"<{_LANES} x float>"
    start = f"<{', '.join(['float 0x3FF0000000000000'] * _LANES)}>"
    # Half of it, so that sums stay finite: s * 0.5 + 1.
    half = f"<{', '.join(['float 0x3FE0000000000000'] * _LANES)}>"
    sums = range(_SUMS)
    phis = "\n  ".join(f"%s{k} = phi {vector} [ {start}, %enter ], [ %t{k}, %loop ]" for k in sums)
    adds = "\n  ".join(
        f"%t{k} = call {vector} @llvm.fma.v{_LANES}f32({vector} %s{k}, {vector} {half}, {vector} {start})"
        for k in sums
    )
    # All sums are part of the result, or the optimiser would leave them out.
    chain = "\n  ".join(
        f"%u{k} = fadd {vector} {f'%u{k - 1}' if k > 1 else '%t0'}, %t{k}" for k in range(1, _SUMS)
    )
    return f"""
declare {vector} @llvm.fma.v{_LANES}f32({vector}, {vector}, {vector})

define float @spin(i64 %turns) "prefer-vector-width"="{width}" "min-legal-vector-width"="{width}" {{
enter:
  br label %loop
loop:
  %i = phi i64 [ 0, %enter ], [ %next, %loop ]
  {phis}
  {adds}
  %next = add nuw nsw i64 %i, 1
  %more = icmp slt i64 %next, %turns
  br i1 %more, label %loop, label %done
done:
  {chain}
  %first = extractelement {vector} %u{_SUMS - 1}, i32 0
  ret float %first
}}
"""
