"""Work on tracks in parallel processes, with a progress bar."""

import multiprocessing
import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing
from typing import Any, TypeVar

from stemforge.pipelines.console import (
    Ended,
    count_of,
    open_streams,
    progress,
    quiet_libraries,
    unwinding_at_signals,
)
from stemforge.pipelines.running.work import end_with_parent

BEAM_ARGS = "STEMFORGE_BEAM_ARGS"  # Beam's flags, for what can run as a Beam job
PROCESSES = "STEMFORGE_PROCESSES"  # how many tracks at once, for stages that work on tracks
Result = TypeVar("Result")
Jobs = Sequence[tuple[str, tuple[Any, ...]]]


def map_tracks(
    work: Callable[..., Result], jobs: Jobs, *, label: str, processes: int | None = None
) -> list[Result]:
    """Calls `work(*arguments)` for each job, in several processes or, with one, in this process.

    Args:
        work: a function of a module, so that it can be sent to a process.
        jobs: name (for the bar) and arguments of each call.
        label: of the progress bar.
        processes: how many; default: what STEMFORGE_PROCESSES says, else one per CPU.

    Returns:
        Results in the order of the jobs. The first exception ends the others.
    """
    count = min(processes or count_of(PROCESSES) or os.cpu_count() or 1, len(jobs))
    finished = _in_processes(work, jobs, count) if count > 1 else _here(work, jobs)
    results: list[Any] = [None] * len(jobs)
    with progress(len(jobs), label=label, unit="track") as bar, closing(finished):
        for number, result in finished:
            results[number] = result
            bar.set_postfix_str(jobs[number][0][:30], refresh=False)
            bar.update()
    return results


Finished = Generator[tuple[int, Result], None, None]  # the job's number and what it returned


def _here(work: Callable[..., Result], jobs: Jobs) -> Finished[Result]:
    for number, (_, arguments) in enumerate(jobs):
        yield number, work(*arguments)


def _in_processes(work: Callable[..., Result], jobs: Jobs, count: int) -> Finished[Result]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, context, initializer=_prepare) as pool:
        futures = {
            pool.submit(_work, work, *arguments): number
            for number, (_, arguments) in enumerate(jobs)
        }
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException as error:
            if not isinstance(error, Exception):  # a signal: do not wait for the current tracks
                for process in multiprocessing.active_children():
                    process.terminate()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _work(work: Callable[..., Result], *arguments: Any) -> Result:
    try:
        with unwinding_at_signals():
            return work(*arguments)
    except Ended as error:
        os._exit(128 + error.signal)  # the pool would give this process the next track


def _prepare() -> None:
    open_streams()
    quiet_libraries()
    end_with_parent()
