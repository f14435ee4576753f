"""Ctrl-C, held back where it would leave other packages broken for the rest of the process."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Let a SIGINT take effect at the end of the block, not inside.

    An exception in the middle of Numba's imports leaves modules half imported, which no later import repairs,
    and one in the middle of its registrations loses those. Python runs handlers in the main thread alone, so
    other threads have nothing to hold back; neither has a process that ignores the signal or dies of it.
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if came:
            handler(*came[0])
