"""The machine that was measured on."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any

_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


def describe() -> dict[str, Any]:
    """CPU model, cores, caches of one core in bytes by level, memory in bytes, system."""
    return {
        "cpu": _cpu(),
        "vectors": _vectors(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "caches": _caches(),
        "memory": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "libc": " ".join(platform.libc_ver()),
        "huge_pages": _text("/sys/kernel/mm/transparent_hugepage/enabled"),
    }


def slug(machine: dict[str, Any]) -> str:
    """A directory's name for the machine: ``intel-xeon-avx512-2-cores``."""
    words = re.sub(r"\((r|tm|c)\)|\b(cpu|processor)\b|@.*", " ", machine["cpu"].lower())
    parts = [*re.findall(r"[a-z0-9.]+", words), machine["vectors"], f"{machine['cores']}-cores"]
    return "-".join(part for part in parts if part)


def sentence(machine: dict[str, Any]) -> str:
    """The machine in a few words, for captions."""
    vectors = f" with {machine['vectors'].upper().replace('AVX512', 'AVX-512')}" if machine["vectors"] else ""
    return f"{machine['cpu']}{vectors}, {machine['cores']} cores, {machine['system'].split()[0]}"


def _cpu() -> str:
    found = re.search(r"^model name\s*:\s*(.*)$", _text("/proc/cpuinfo"), re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def _vectors() -> str:
    found = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", _text("/proc/cpuinfo"), re.MULTILINE)
    flags = found[1].split() if found else []
    names = {"avx512f": "avx512", "avx2": "avx2", "sve": "sve", "asimd": "neon"}
    return next((name for flag, name in names.items() if flag in flags), "")


def _caches() -> dict[str, int]:
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    found = {}
    for index in sorted(_CACHES.glob("index*")):
        kind, level, size = (_text(index / name).strip() for name in ("type", "level", "size"))
        if size and kind != "Instruction":
            found[f"L{level}"] = int(size.rstrip("KMG")) * units.get(size[-1], 1)
    return found


def _text(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""
