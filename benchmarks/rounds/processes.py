"""The contenders' processes, as the driver sees them: started, asked, stopped while others are measured.

All are bound to the same cores, as many as there are threads. Only the one that is asked runs; the others
are stopped by a signal, so that no library's waiting threads take time from another.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..contenders import PACKAGES

_FOLDER = Path(__file__).parent.parent

# The package is loaded from its folder, wherever that is, and nothing else of there can be imported.
_BOOTSTRAP = """
import importlib.util, os, sys
folder, cpus = sys.argv[1:]
if cpus:
    os.sched_setaffinity(0, map(int, cpus.split(",")))
sys.path[:] = [path for path in sys.path if path]
spec = importlib.util.spec_from_file_location(
    "benchmarks", folder + "/__init__.py", submodule_search_locations=[folder]
)
sys.modules["benchmarks"] = package = importlib.util.module_from_spec(spec)
spec.loader.exec_module(package)
from benchmarks.contenders.worker import main
main()
"""

#: torch.compile takes up to a minute for a shape that its cache does not have.
PATIENCE_S = 300.0

#: Memory that is freed stays with the process, in pages as large as NumPy's: the next result is written to
#: memory that is mapped already. Without these, glibc maps large results anew on every call.
_KEEPS_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_TOP_PAD_": str(1 << 26),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


class Gone(Exception):
    """The process ended or did not answer; the message says what is known."""


@dataclass(frozen=True)
class Contender:
    """Who takes part: ``kind`` is the module, ``python`` the interpreter, ``path`` what goes on its path."""

    name: str
    kind: str
    python: str = sys.executable
    path: str | None = None

    @property
    def package(self) -> str:
        """What must be installed."""
        return PACKAGES.get(self.kind, self.kind)


@dataclass
class Process:
    """One running contender."""

    contender: Contender
    threads: int
    mode: str
    versions: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by close)
        self._pending = b""
        cpus = ",".join(map(str, cores(self.threads)))
        self._process = subprocess.Popen(
            [self.contender.python, "-c", _BOOTSTRAP, str(_FOLDER), cpus],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment(self.contender, self.threads, self.mode, os.environ),
            bufsize=0,
        )

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def ask(self, do: str, patience_s: float = PATIENCE_S, **arguments: Any) -> dict[str, Any]:
        """The answer to a request; the process runs until it has given it.

        Raises:
            Gone: there is no answer.
        """
        request = json.dumps({"do": do, **arguments}) + "\n"
        assert self._process.stdin is not None
        try:
            self._signal(signal.SIGCONT)
            self._process.stdin.write(request.encode())
            line = self._line(time.monotonic() + patience_s)
        except (BrokenPipeError, ProcessLookupError):
            line = None
        if line is None:
            raise Gone(self._obituary(patience_s))
        self._signal(signal.SIGSTOP)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _line(self, deadline: float) -> bytes | None:
        """The next line; None if the process ends or the time does."""
        stdout = self._process.stdout
        assert stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            while b"\n" not in self._pending:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    return None
                data = os.read(stdout.fileno(), 1 << 16)
                if not data:
                    return None
                self._pending += data
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    def _obituary(self, patience_s: float) -> str:
        try:
            code = self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            return f"no answer within {patience_s:.0f} s"
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        what = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return f"ended with {what}" + (f": {lines[-1][:300]}" if lines else "")

    def _signal(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            self._process.send_signal(number)

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            assert stream is not None
            stream.close()


def cores(threads: int) -> Sequence[int]:
    """The cores for so many threads: the last ones, since the first serves most interrupts.

    Empty where a process cannot choose.
    """
    if not hasattr(os, "sched_getaffinity"):
        return ()
    return sorted(os.sched_getaffinity(0))[-threads:]


def all_threads() -> int:
    """The number of cores that this process may use."""
    return len(cores(0)) or os.cpu_count() or 1


def environment(contender: Contender, threads: int, mode: str, base: Mapping[str, str]) -> dict[str, str]:
    """The environment of a contender's process."""
    made = dict(base)
    for variable in ("OMP", "MKL", "OPENBLAS", "LNCOMPILE"):
        made[f"{variable}_NUM_THREADS"] = str(threads)
    made["JAX_PLATFORMS"] = "cpu"
    if threads == 1:
        made["XLA_FLAGS"] = f"{base.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false".strip()
    # In this process alone, so that the compiler's own processes do not run while others are measured.
    made["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    if mode == "mapped":
        made |= _KEEPS_MEMORY
    if contender.path is not None:
        rest = base.get("PYTHONPATH")
        made["PYTHONPATH"] = os.pathsep.join([contender.path, *([rest] if rest else [])])
    return made


def start(contender: Contender, threads: int, mode: str) -> Process | str:
    """The contender's process, ready for cases, or why there is none."""
    try:
        process = Process(contender, threads, mode)
    except OSError as error:
        return f"missing: {contender.python}: {error.strerror}"
    try:
        answer = process.ask("start", contender=contender.kind, threads=threads)
    except Gone as gone:
        process.close()
        return f"failed: {gone}"
    except BaseException:
        process.close()
        raise
    if "ok" in answer:
        process.versions = answer["ok"]
        return process
    process.close()
    [(what, reason)] = answer.items()
    if "ModuleNotFoundError" in reason:
        return f"missing: {contender.package} is not installed in {contender.python}"
    return f"{what}: {reason}"
