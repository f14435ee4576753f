"""Builds for tests: what is wanted, directories of it, and one that all test processes share."""

from __future__ import annotations

import fcntl
import platform
from pathlib import Path
from typing import Any

import pytest

import lncompile as lnc
from lncompile.aot import directory as directories
from lncompile.aot.build import build, here
from lncompile.aot.wanted import Wanted
from lncompile.backends.cpu.levels import RANKS
from lncompile.backends.cpu.target import host
from lncompile.norm import dispatcher_of
from lncompile.requested import requested


def wanted(norm: Any, shape: tuple[int, ...], dtype: Any, *targets: str, **options: Any) -> Wanted:
    """A kernel to build, for this machine where no targets are given."""
    dispatcher = dispatcher_of(norm)
    names = targets or (host().name,)
    special, sizes = requested(dispatcher, shape, dtype, names[0], None, options)
    return Wanted(norm.__name__, dispatcher, special, sizes, names)


def written(directory: Path, *kernels: Wanted, **options: Any) -> Path:
    """``directory``, with a build of the kernels in it."""
    directories.write(directory, build(kernels, here, **options).files)
    return directory


def shared_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Layer norm of 1024 features in float32: all levels of this processor, AArch64, a static library.

    Built once a session, whatever the number of test processes: read it, and change copies alone.
    """
    base = tmp_path_factory.getbasetemp()
    root = base.parent if base.name.startswith("popen-") else base
    with open(root / "dist.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (root / "dist").exists():
            native = [name for name, rank in RANKS.items() if bool(rank) == (platform.machine() == "x86_64")]
            targets = dict.fromkeys([*native, "cpu:aarch64"])
            written(root / "dist", wanted(lnc.layer_norm, (4, 1024), "float32", *targets), static=True)
    return root / "dist"
