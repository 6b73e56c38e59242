"""Work on tracks in parallel processes, with a progress bar."""

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, TypeVar

from stemforge.pipelines.console import progress, quiet_libraries
from stemforge.pipelines.work import end_with_parent

BEAM_ARGS = "STEMFORGE_BEAM_ARGS"  # Beam's flags, for what can run as a Beam job
Result = TypeVar("Result")


def map_tracks(
    work: Callable[..., Result],
    jobs: Sequence[tuple[str, tuple[Any, ...]]],
    *,
    label: str,
    processes: int | None = None,
) -> list[Result]:
    """Calls `work(*arguments)` for each job, in processes of their own.

    Args:
        work: a function of a module, so that it can be sent to a process.
        jobs: name (for the bar) and arguments of each call.
        label: of the progress bar.
        processes: how many; as many as there are CPUs, unless given.

    Returns:
        Results in the order of the jobs. The first exception ends the others.
    """
    count = max(1, min(processes or os.cpu_count() or 1, len(jobs)))
    context = multiprocessing.get_context("spawn")
    with (
        progress(len(jobs), label=label, unit="track") as bar,
        ProcessPoolExecutor(count, context, initializer=_prepare) as pool,
    ):
        futures = {
            pool.submit(work, *arguments): number for number, (_, arguments) in enumerate(jobs)
        }
        results: list[Any] = [None] * len(jobs)
        try:
            for future in as_completed(futures):
                number = futures[future]
                results[number] = future.result()
                bar.set_postfix_str(jobs[number][0][:30], refresh=False)
                bar.update()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return results


def _prepare() -> None:
    quiet_libraries()
    end_with_parent()
