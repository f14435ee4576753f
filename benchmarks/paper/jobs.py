"""Jobs of one thread each, side by side in processes of their own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


def run_all(
    run: Callable[[Job], Result], jobs: Sequence[Job], processes: int, after: Callable[[], object]
) -> list[Result]:
    """The result of every job, in the order of the jobs; ``after`` is called when one is done.

    One process is this one. ``run`` is a function of a module, and jobs and results can be pickled.
    """
    if processes == 1 or len(jobs) == 1:
        results = []
        for job in jobs:
            results.append(run(job))
            after()
        return results
    # Threads of OpenMP do not outlive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(jobs)), context) as pool:
        futures = [pool.submit(run, job) for job in jobs]
        for future in futures:
            future.add_done_callback(lambda _: after())
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
