"""CPU targets by name, and which of them this machine is. Imports nothing heavy: a cache hit needs it too."""

from __future__ import annotations

import platform
import sys
from functools import cache
from typing import NamedTuple

from lncompile.errors import LncTypeError, LncValueError
from lncompile.machine import last_cache_bytes


class CpuTarget(NamedTuple):
    """What LLVM is told to generate code for; ``vector_bytes`` is the width of its registers.

    ``converts_float16``: it has instructions for that, so that LLVM does not call a library.
    ``estimates_rsqrt``: it has AVX-512's estimate of 1 / sqrt in float64.
    ``cache_bytes``: the size of the last cache; 0 where it is not known, as for all machines of a level.
    """

    name: str
    triple: str
    cpu: str
    features: str
    vector_bytes: int
    converts_float16: bool
    estimates_rsqrt: bool = False
    cache_bytes: int = 0


_LINUX = "x86_64-unknown-linux-gnu"
TARGETS: dict[str, CpuTarget] = {
    target.name: target
    for target in (
        CpuTarget("cpu:x86-64-v2", _LINUX, "x86-64-v2", "", 16, False),
        CpuTarget("cpu:x86-64-v3", _LINUX, "x86-64-v3", "", 32, True),
        # LLVM keeps to 256-bit registers on this level unless told otherwise.
        CpuTarget("cpu:x86-64-v4", _LINUX, "x86-64-v4", "-prefer-256-bit", 64, True, True),
        CpuTarget("cpu:aarch64", "aarch64-unknown-linux-gnu", "generic", "", 16, True),
    )
}

#: By triple, what every CPU of the kind executes: code that finds out what else the CPU has.
BASELINES: dict[str, CpuTarget] = {
    target.triple: target
    for target in (
        CpuTarget("cpu:x86-64", _LINUX, "x86-64", "", 16, False),
        TARGETS["cpu:aarch64"],
    )
}

#: Names that NumPy gives to the features of a level; x86-64-v2 is what every wheel of NumPy needs anyway.
_V3 = ("AVX2", "FMA3", "F16C")
_V4 = (*_V3, "AVX512F", "AVX512BW", "AVX512DQ", "AVX512VL", "AVX512CD")


def find(name: object) -> CpuTarget:
    """The target called ``name``; ``cpu`` is this machine. ``LncError`` lists the names that exist."""
    if not isinstance(name, str):
        raise LncTypeError(f"target: expected a string such as 'cpu'; got {name!r}")
    if name == "cpu":
        return host()
    if name not in TARGETS:
        raise LncValueError(f"target: expected cpu, {', '.join(TARGETS)}; got {name!r}")
    return TARGETS[name]


@cache
def host() -> CpuTarget:
    """The target that this machine is: its level, with the size of its last cache."""
    return _level()._replace(cache_bytes=last_cache_bytes())


def _level() -> CpuTarget:
    machine = platform.machine().lower()
    if sys.platform != "linux" or machine not in ("x86_64", "amd64", "aarch64", "arm64"):
        raise LncValueError(
            f"target: 'cpu' is supported on Linux on x86-64 and AArch64; this is {sys.platform} on {machine}"
        )
    if machine in ("aarch64", "arm64"):
        return TARGETS["cpu:aarch64"]
    features = _cpu_features()
    for level, needed in (("v4", _V4), ("v3", _V3)):
        if all(features.get(feature, False) or features.get("AVX512_SKX", False) for feature in needed):
            return TARGETS[f"cpu:x86-64-{level}"]
    return TARGETS["cpu:x86-64-v2"]


def _cpu_features() -> dict[str, bool]:
    # NumPy asked the CPU when it was loaded; /proc/cpuinfo takes 20 ms on machines with many cores.
    from numpy._core._multiarray_umath import __cpu_features__

    return dict(__cpu_features__)
