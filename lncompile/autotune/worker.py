"""The process that compiles for the tuner: compilations in, artifacts out, until the input ends."""

from __future__ import annotations

import os
import pickle
import signal
import sys
from typing import TYPE_CHECKING

from lncompile.cache import Artifact

if TYPE_CHECKING:
    from lncompile.autotune.places import Job


def main() -> None:
    """Serve the process that started this one."""
    # A terminal sends Ctrl-C to all; whoever started this process decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    # What else is printed must not mix with them.
    os.dup2(2, 1)
    while True:
        try:
            job = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pickle.dump(_answer(job), answers)
        answers.flush()


def _answer(job: Job) -> Artifact | str:
    try:
        return job.artifact()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
