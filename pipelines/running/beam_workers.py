"""What Beam does not do for a job on several processes: end it when a worker process dies.

Nothing of Beam's interface tells of a dead worker. Beam's thread that waits for the worker
raises, which reaches nobody; whether the job then fails or waits forever depends on what the
worker was doing. So two means that change the whole process stand here, and only here:

- `threading.excepthook`: the one place where that thread's exception is seen.
- `os._exit` from a timer: the main thread waits inside Beam, where no exception of another
  thread reaches it.

tests/test_contracts.py checks that Beam still says so in these words.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from stemforge.pipelines.console import fail

WORKER_GRACE_S = 10.0  # in which the job may fail by itself, with a cause of its own
WORKER_DIED = (
    "a Beam worker ended before its work was done: killed, or out of memory; "
    "nothing was published: run it again"
)
# Beam's words, in its waiting thread and, where the job fails by itself, in its error.
SAID_BY_THREAD = "Worker subprocess exited"
SAID_BY_JOB = "Channel closed prematurely"


@contextmanager
def end_with_workers() -> Iterator[None]:
    """Ends this process with one line and exit code 2 if a worker dies and the job goes on."""
    timer = threading.Timer(WORKER_GRACE_S, lambda: os._exit(fail(WORKER_DIED)))
    timer.daemon = True
    before = threading.excepthook

    def hook(arguments: threading.ExceptHookArgs) -> None:
        if SAID_BY_THREAD not in str(arguments.exc_value):
            before(arguments)
        elif not timer.is_alive():
            timer.start()

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before
        timer.cancel()
