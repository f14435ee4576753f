"""``lncompile doctor``: whether this machine has what the compiler needs, down to a kernel that is right."""

from __future__ import annotations

import inspect
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any, Literal

import click
import numpy as np

from lncompile import __version__, cache, cache_tools, memory, norms
from lncompile.ahead import compile
from lncompile.arrays import Array
from lncompile.backends.cpu import runtime
from lncompile.backends.cpu.target import host
from lncompile.cli.output import console, human_bytes, json_option, print_json, status
from lncompile.norm import norm

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}

# Four units in the last place of values of about 3; the kernel is right to one or two.
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Check:
    """One line: ``warn`` is what lncompile does without, ``fail`` what it cannot do without."""

    name: str
    state: Literal["ok", "warn", "fail"]
    detail: str


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Check versions, CPU, threads, cache, and compile a tiny kernel; exit code 1 if anything fails."""
    with status("checking"):
        checks = [result for check in _CHECKS for result in _results(check)]
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        out = console()
        for check in checks:
            mark = f"[{_STYLES[check.state]}]{check.state:<4}[/]"
            out.print(f"{mark}  {check.name:<10} ", end="")
            out.print(check.detail, markup=False, soft_wrap=True)
    if any(check.state == "fail" for check in checks):
        raise SystemExit(1)


def _results(check: Callable[[], Iterator[Check]]) -> list[Check]:
    """What a check finds; that it cannot be made at all is a finding too."""
    try:
        return list(check())
    except Exception as error:
        return [Check(check.__name__.strip("_"), "fail", f"{type(error).__name__}: {error}")]


def _versions() -> Iterator[Check]:
    yield Check("lncompile", "ok", __version__)
    yield Check("python", "ok", f"{platform.python_version()} ({platform.python_implementation()})")
    for package in ("numpy", "numba", "llvmlite"):
        try:
            yield Check(package, "ok", metadata.version(package))
        except metadata.PackageNotFoundError:
            yield Check(package, "fail", "is not installed")


def _target() -> Iterator[Check]:
    target = host()
    yield Check("target", "ok", f"{target.name}, vectors of {target.vector_bytes} bytes")


def _threads() -> Iterator[Check]:
    yield Check("threads", "ok", f"{runtime.get_num_threads()}")


def _memory() -> Iterator[Check]:
    limit = memory.get_pool_bytes()
    pool = f"a pool of at most {human_bytes(limit)}" if limit else "NumPy, without a pool"
    yield Check("memory", "ok", f"large results come from {pool}")


def _openmp() -> Iterator[Check]:
    library = runtime._find_openmp()
    if library is None:
        yield Check("openmp", "warn", "no runtime found: Python threads serve, from larger arrays on")
    else:
        yield Check("openmp", "ok", str(library._name))


def _entry() -> Iterator[Check]:
    if runtime.self_test():
        yield Check("entry", "ok", "native entry points read this process's arrays")
    else:
        yield Check("entry", "warn", "this Python has other objects than expected: calls go through ctypes")


def _cache() -> Iterator[Check]:
    try:
        found = cache_tools.info()
    except OSError as error:
        yield Check("cache", "warn", f"cannot be used ({error}): every process compiles anew")
        return
    held = f"{found.path}, entries {found.entries}, {human_bytes(found.bytes)}"
    problem = found.problem or _unwritable(found.path)
    if problem:
        yield Check("cache", "warn", f"{held}; not used: {problem}")
    else:
        yield Check("cache", "ok", held)


def _unwritable(path: str) -> str | None:
    """Why nothing can be stored under ``path``, which may be yet to be created."""
    existing = path
    while not os.path.exists(existing):
        existing = os.path.dirname(existing)
    try:
        with tempfile.TemporaryFile(dir=existing):
            return None
    except OSError as error:
        return f"{existing} cannot be written to ({error.strerror})"


def _environment() -> Iterator[Check]:
    for variable in ("LNCOMPILE_OVERRIDE", "LNCOMPILE_DUMP"):
        if os.environ.get(variable):
            yield Check("setting", "warn", f"{variable}={os.environ[variable]}")


def _kernel() -> Iterator[Check]:
    """Compile, store, run and compare one kernel, in a cache of its own."""
    x = np.random.default_rng(0).normal(3, 1, (5, 37)).astype(np.float32)
    weight = np.linspace(0.5, 2, 37, dtype=np.float32)
    with _temporary_cache():
        start = time.perf_counter()
        # Another object than lncompile.rms_norm, which may have this kernel in memory already.
        kernel = compile(norm("... [d]", weight="d")(inspect.unwrap(norms.rms_norm)), shape=x.shape)
        seconds = time.perf_counter() - start
        error = np.abs(kernel(x, weight) - _expected(x, weight)).max()
        stored = cache_tools.verify()
    if not error < _TOLERANCE:
        yield Check("kernel", "fail", f"rms_norm is wrong by {error:.2g}")
    else:
        yield Check("kernel", "ok", f"compiled in {seconds:.2f} s, within {error:.1g} of float64")
    if stored.entries != 1 or stored.damaged:
        yield Check("store", "warn", f"a kernel could not be kept in {tempfile.gettempdir()}")


def _expected(x: Array, weight: Array) -> Any:
    wide = x.astype(np.float64)
    return wide / np.sqrt(np.mean(wide**2, axis=-1, keepdims=True) + 1e-5) * weight.astype(np.float64)


@contextmanager
def _temporary_cache() -> Iterator[None]:
    before = os.environ.get("LNCOMPILE_CACHE_DIR")
    with tempfile.TemporaryDirectory(prefix="lncompile-doctor-") as directory:
        os.environ["LNCOMPILE_CACHE_DIR"] = os.path.join(directory, "cache")
        try:
            assert cache.cache_dir().startswith(directory)
            yield
        finally:
            if before is None:
                del os.environ["LNCOMPILE_CACHE_DIR"]
            else:
                os.environ["LNCOMPILE_CACHE_DIR"] = before


_CHECKS = (_versions, _target, _threads, _memory, _openmp, _entry, _cache, _environment, _kernel)
