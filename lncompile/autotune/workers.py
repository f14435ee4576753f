"""Compiling in other processes: several at a time, and an error of LLVM's that ends one does not end this.

A worker is an interpreter of its own, not a fork, since this process may have threads, and not one of
``multiprocessing``, which would run the user's script again. It reads compilations from its standard input
and writes artifacts to its standard output; both are pickled, and nobody else can reach these pipes.
"""

from __future__ import annotations

import os
import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lncompile.cache import Artifact
from lncompile.errors import LncValueError

if TYPE_CHECKING:
    from lncompile.autotune.places import Job

_PROGRAM = "import sys; sys.path[:] = {path!r}; from lncompile.autotune.worker import main; main()"


def compiled(jobs: Sequence[Job], workers: int) -> Iterator[tuple[int, Artifact | str]]:
    """The number of each job and its artifact, or what went wrong, as they are done.

    Processes end when the iterator is done or closed, and with an interrupt.

    Raises:
        LncValueError: there is no Python to start.
    """
    if not sys.executable:
        raise LncValueError("tune: needs a Python interpreter to compile in; sys.executable names none")
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in range(len(jobs)):
        waiting.put(number)
    done: queue.SimpleQueue[tuple[int, Artifact | str]] = queue.SimpleQueue()
    pool = [_Worker(jobs, waiting, done) for _ in range(min(workers, len(jobs)))]
    try:
        for _ in jobs:
            yield done.get()
    finally:
        for worker in pool:
            worker.end()


class _Worker:
    """A thread that hands jobs to a process, and starts another one when that is gone."""

    def __init__(
        self,
        jobs: Sequence[Job],
        waiting: queue.SimpleQueue[int],
        done: queue.SimpleQueue[tuple[int, Artifact | str]],
    ) -> None:
        self._jobs = jobs
        self._waiting = waiting
        self._done = done
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._work, name="lncompile-tune", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Stop, in the middle of a job too."""
        self._ended = True
        process = self._process
        if process is not None:
            process.kill()
        self._thread.join()

    def _work(self) -> None:
        try:
            while not self._ended:
                number = self._waiting.get_nowait()
                self._done.put((number, self._answer(self._jobs[number])))
        except queue.Empty:
            pass
        finally:
            if self._process is not None:
                self._process.kill()
                self._process.communicate()

    def _answer(self, job: Job) -> Artifact | str:
        try:
            if self._process is None or self._process.poll() is not None:
                self._process = _start()
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            pickle.dump(job, self._process.stdin)
            self._process.stdin.flush()
            answer: Artifact | str = pickle.load(self._process.stdout)
        except Exception as error:  # whatever it is, somebody waits for the answer
            if self._process is not None:
                self._process.kill()
                self._process.communicate()
            return f"the compiler's process failed: {type(error).__name__}: {error}"
        return answer


def _start() -> subprocess.Popen[bytes]:
    # One dump for all candidates would be that of the last one.
    environment = {name: value for name, value in os.environ.items() if name != "LNCOMPILE_DUMP"}
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM.format(path=sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
