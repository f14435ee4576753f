"""Ctrl-C, held back where it would leave other packages broken for the rest of the process."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interrupts_held() -> Iterator[Callable[[], None]]:
    """Let a SIGINT take effect at the end of the block, not inside, but where it calls what it is given.

    An exception in the middle of Numba's imports leaves modules half imported, which no later import repairs;
    one in the middle of its registrations loses those; one where llvmlite frees something lets it free the
    same memory twice. Python runs handlers in the main thread alone, so other threads have nothing to hold
    back; neither has a process that ignores the signal or dies of it.
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield lambda: None
        return
    came: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append((number, frame)))

    def let_in() -> None:
        if came:
            first = came[0]
            came.clear()
            handler(*first)

    try:
        yield let_in
    finally:
        signal.signal(signal.SIGINT, handler)
        let_in()
