"""The lock of a cache entry: one builder at a time, among threads and among processes.

``flock`` is given back by the kernel when a process dies, so a lock file that is left over means nothing.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_POLL_S = 0.01

_held: set[int] = set()


@contextmanager
def locked(shard: str, key: str, patience_s: float) -> Iterator[bool]:
    """Hold the lock of ``key``; the value is False if it was not to be had in that time or at all."""
    path = os.path.join(shard, key + ".lock")
    try:
        descriptor = _acquire(path, patience_s)
    except OSError:
        descriptor = None
    try:
        yield descriptor is not None
    finally:
        # A child forked by the builder has no lock to give back, see _forget.
        if descriptor in _held:
            _release(path, descriptor)


def _acquire(path: str, patience_s: float) -> int | None:
    deadline = time.monotonic() + patience_s
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The file is unlinked on release, so the lock counts only if it is on the file that is there now.
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                _held.add(descriptor)
                return descriptor
        except (BlockingIOError, FileNotFoundError):
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        if time.monotonic() >= deadline:
            return None
        time.sleep(_POLL_S)


def _release(path: str, descriptor: int) -> None:
    _held.discard(descriptor)
    with suppress(OSError):
        os.unlink(path)
    # Closing alone does not release it while a child that another thread forked still has a copy open.
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def _forget() -> None:
    """Drop a forked child's copies of the locks, which would outlive the parent that holds them."""
    while _held:
        with suppress(OSError):
            os.close(_held.pop())


os.register_at_fork(after_in_child=_forget)
