"""Loops that move memory and do nothing else, as LLVM IR: what no kernel can be faster than.

Each reads one or two arrays and writes one, in 64-byte vectors (the exclusive or of two arrays stands for the
arithmetic), four vectors a turn, every thread a contiguous share. Stores are plain or non-temporal, reads
prefetched by the hardware alone or also by the loop. Repetitions are native too, so that the time of a
call from Python does not count.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import llvmlite.binding as llvm

VECTOR = 64
#: Bytes of a turn; the length of arrays is rounded up to it.
TURN = 4 * VECTOR
#: Bytes that the loop's own prefetches are ahead, and the cache that they go to (3 is the first level, 2 the
#: second). A streaming copy of 128 MiB on one core of a Xeon with AVX-512, ms: 13.1 without; 1280, 2560, 5120
#: and 10240 bytes ahead, 10.1, 10.2, 11.7 and 12.1 into the first, 9.8, 9.5, 10.6 and 10.5 into the second.
_AHEAD = 2560
_LEVEL = 2

_OPENMP = ("libgomp.so.1", "libomp.so.5", "libomp.so", "libiomp5.so")


@dataclass(frozen=True)
class Kind:
    """One loop: the number of arrays read, and how."""

    reads: int
    streaming: bool
    prefetch: bool

    @property
    def name(self) -> str:
        """For people."""
        return ("streaming" if self.streaming else "plain") + (" + prefetch" if self.prefetch else "")


KINDS = tuple(Kind(r, s, p) for r in (1, 2) for s in (False, True) for p in (False, True))


class _Job(ctypes.Structure):
    """What a thread needs to know; the IR's ``%job``."""

    _fields_ = (
        ("thread_number", ctypes.c_void_p),
        ("share", ctypes.c_int64),
        ("bytes", ctypes.c_int64),
        ("target", ctypes.c_void_p),
        ("first", ctypes.c_void_p),
        ("second", ctypes.c_void_p),
    )


class Stream:
    """A loop of a kind over given memory, with a number of threads; calling it repeats it so often."""

    def __init__(self, engine: Engine, kind: Kind, arrays: list[Any], size: int, threads: int) -> None:
        """``arrays`` are the one written to and those read, of at least ``size`` rounded up to ``TURN``."""
        turns = -(-size // TURN)
        addresses = [array.ctypes.data for array in arrays]
        assert all(
            address % VECTOR == 0 and array.nbytes >= turns * TURN
            for address, array in zip(addresses, arrays, strict=True)
        )
        self._arrays = arrays
        self._engine = engine
        share = -(-turns // threads) * TURN
        number, parallel = engine.openmp if threads > 1 else (None, None)
        self._job = _Job(number, share, turns * TURN, *addresses)
        run = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int32)
        self._run = run(engine.address(kind))
        self._arguments = (parallel, threads)

    def __call__(self, repeats: int) -> None:
        """Move the bytes ``repeats`` times."""
        self._run(ctypes.addressof(self._job), repeats, *self._arguments)


class Engine:
    """The compiled loops; threads are those of an OpenMP runtime."""

    def __init__(self) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        machine = llvm.Target.from_default_triple().create_target_machine(
            cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=2
        )
        wide = llvm.get_host_cpu_features().get("avx512f", False)
        module = llvm.parse_assembly("\n".join(_ir(kind, wide) for kind in KINDS) + _DECLARATIONS)
        module.verify()
        self._engine = llvm.create_mcjit_compiler(module, machine)
        self._engine.finalize_object()

    def address(self, kind: Kind) -> int:
        """Of the function that repeats the loop."""
        return int(self._engine.get_function_address(_symbol(kind)))

    @property
    def openmp(self) -> tuple[int | None, int | None]:
        """The addresses of ``omp_get_thread_num`` and ``GOMP_parallel``.

        Raises:
            OSError: there is no OpenMP runtime.
        """
        for name in _OPENMP:
            try:
                library = ctypes.CDLL(name)
                functions = (library.omp_get_thread_num, library.GOMP_parallel)
            except (OSError, AttributeError):
                continue
            number, parallel = (ctypes.cast(f, ctypes.c_void_p).value for f in functions)
            return number, parallel
        raise OSError("no OpenMP runtime was found, which the copy with several threads needs")


def _symbol(kind: Kind) -> str:
    return f"run_{kind.reads}_{'streaming' if kind.streaming else 'plain'}_{int(kind.prefetch)}"


_DECLARATIONS = "\ndeclare void @llvm.prefetch.p0(ptr, i32, i32, i32)\n!0 = !{i32 1}\n"


def _ir(kind: Kind, wide: bool) -> str:
    """The IR of a loop: one thread's share, and the repetitions around it."""
    reads = ("first", "second")[: kind.reads]
    lines: list[str] = []
    for vector in range(TURN // VECTOR):
        at = f"%at{vector}"
        lines.append(f"{at} = add nuw nsw i64 %i, {vector * VECTOR}")
        for read in reads:
            place = f"%{read}_{vector}"
            if kind.prefetch:
                lines += [
                    f"%ahead_{read}{vector} = add nuw nsw i64 %i, {vector * VECTOR + _AHEAD}",
                    f"%later_{read}{vector} = getelementptr i8, ptr %{read}, i64 %ahead_{read}{vector}",
                    f"call void @llvm.prefetch.p0(ptr %later_{read}{vector}, i32 0, i32 {_LEVEL}, i32 1)",
                ]
            lines += [
                f"{place} = getelementptr i8, ptr %{read}, i64 {at}",
                f"%value_{read}{vector} = load <8 x i64>, ptr {place}, align {VECTOR}",
            ]
        value = f"%value_first{vector}"
        if len(reads) > 1:
            value = f"%both{vector}"
            lines.append(f"{value} = xor <8 x i64> %value_first{vector}, %value_second{vector}")
        hint = ", !nontemporal !0" if kind.streaming else ""
        lines += [
            f"%to{vector} = getelementptr i8, ptr %target, i64 {at}",
            f"store <8 x i64> {value}, ptr %to{vector}, align {VECTOR}{hint}",
        ]
    symbol = _symbol(kind)
    fence = "fence seq_cst" if kind.streaming else ""
    width = 512 if wide else 256
    attributes = f'"prefer-vector-width"="{width}" "min-legal-vector-width"="{width}"'
    body = "\n  ".join(lines)
    return f"""
define internal void @share_{symbol}(ptr noalias %job, i64 %thread) {attributes} {{
enter:
  %share_at = getelementptr i64, ptr %job, i64 1
  %share = load i64, ptr %share_at
  %bytes_at = getelementptr i64, ptr %job, i64 2
  %bytes = load i64, ptr %bytes_at
  %target_at = getelementptr i64, ptr %job, i64 3
  %target = load ptr, ptr %target_at
  %first_at = getelementptr i64, ptr %job, i64 4
  %first = load ptr, ptr %first_at
  %second_at = getelementptr i64, ptr %job, i64 5
  %second = load ptr, ptr %second_at
  %begin = mul i64 %share, %thread
  %beyond = add i64 %begin, %share
  %long = icmp slt i64 %bytes, %beyond
  %end = select i1 %long, i64 %bytes, i64 %beyond
  %some = icmp slt i64 %begin, %end
  br i1 %some, label %loop, label %done
loop:
  %i = phi i64 [ %begin, %enter ], [ %next, %loop ]
  {body}
  %next = add nuw nsw i64 %i, {TURN}
  %more = icmp slt i64 %next, %end
  br i1 %more, label %loop, label %done
done:
  {fence}
  ret void
}}

define internal void @region_{symbol}(ptr %job) {{
  %number = load ptr, ptr %job
  %thread = call i32 %number()
  %wide = sext i32 %thread to i64
  call void @share_{symbol}(ptr %job, i64 %wide)
  ret void
}}

define void @{symbol}(ptr %job, i64 %repeats, ptr %parallel, i32 %threads) {{
enter:
  %serial = icmp eq ptr %parallel, null
  br label %loop
loop:
  %i = phi i64 [ 0, %enter ], [ %next, %again ]
  br i1 %serial, label %alone, label %together
alone:
  call void @share_{symbol}(ptr %job, i64 0)
  br label %again
together:
  call void %parallel(ptr @region_{symbol}, ptr %job, i32 %threads, i32 0)
  br label %again
again:
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %repeats
  br i1 %more, label %loop, label %done
done:
  ret void
}}
"""
