"""Parts of a build, compiled by processes side by side.

Worker processes are forked, so that the compiler is imported once and nothing but numbers and results
travels. An error of LLVM that ends a process ends a worker, and is an error of the part that it was at.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import Any, NamedTuple

from lncompile.aot.part import Part
from lncompile.errors import CompilerBug
from lncompile.interrupts import interrupts_held

_FORK = multiprocessing.get_context("fork")


class _Worker(NamedTuple):
    process: ForkProcess
    pipe: Connection


def compiled(
    parts: Sequence[Part], jobs: int, watch: AbstractContextManager[Callable[[], object]]
) -> list[bytes]:
    """Compile all parts in at most ``jobs`` processes.

    ``watch``, such as a progress bar, is entered once these run, so that no thread of its own is forked; what
    it gives is called after each part.

    Raises whatever compiling a part raises, and ``CompilerBug`` where a process died of one. All processes
    have ended when this returns or raises.
    """
    # Before forking, so that no worker has to.
    for prepare in dict.fromkeys(part.prepare for part in parts):
        prepare()
    workers: list[_Worker] = []
    try:
        # Python drops an exception that a signal raises in the midst of a fork.
        with interrupts_held():
            workers += [_started(parts) for _ in range(min(jobs, len(parts)))]
        with watch as advance:
            return _collected(parts, workers, advance)
    finally:
        for worker in workers:
            worker.process.kill()
        for worker in workers:
            worker.process.join()
            worker.pipe.close()


def processors() -> int:
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0))


def _collected(
    parts: Sequence[Part], workers: Sequence[_Worker], advance: Callable[[], object]
) -> list[bytes]:
    made: dict[int, bytes] = {}
    waiting = iter(range(len(parts)))
    busy: dict[Any, tuple[_Worker, int]] = {}

    def hand_out(worker: _Worker) -> None:
        number = next(waiting, None)
        if number is not None:
            worker.pipe.send(number)
            busy[worker.pipe] = worker, number

    for worker in workers:
        hand_out(worker)
    while busy:
        for pipe in wait(list(busy)):
            worker, number = busy.pop(pipe)
            try:
                result = worker.pipe.recv()
            except EOFError:
                worker.process.join()
                raise CompilerBug(
                    f"{parts[number].label}: the compiler ended with exit code {worker.process.exitcode}"
                ) from None
            if isinstance(result, BaseException):
                raise result
            made[number] = result
            advance()
            hand_out(worker)
    return [made[number] for number in range(len(parts))]


def _started(parts: Sequence[Part]) -> _Worker:
    ours, theirs = _FORK.Pipe()
    process = _FORK.Process(target=_work, args=(parts, theirs, ours), daemon=True)
    with warnings.catch_warnings():
        # Python warns of forks beside threads; those of NumPy's matrix products are not used by the child.
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    theirs.close()
    return _Worker(process, ours)


def _work(parts: Sequence[Part], pipe: Connection, other_end: Connection) -> None:
    """What a worker does: compile the parts whose numbers come, until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    other_end.close()
    # Numba makes millions of objects and few cycles: without collections a part takes a sixth less time. What
    # was there before the fork is never looked at, which would copy its pages.
    gc.freeze()
    with suppress(EOFError, BrokenPipeError):
        while True:
            number = pipe.recv()
            gc.disable()
            try:
                result: object = parts[number].compile()
            except Exception as error:
                result = error
            gc.enable()
            try:
                pipe.send(result)
            except (TypeError, ValueError, AttributeError):
                # An error that cannot travel.
                pipe.send(CompilerBug(f"{parts[number].label}: {type(result).__name__}: {result}"))
