"""Ends a Beam job on several processes when a worker process dies; Beam itself does not.

Beam's interface does not report a dead worker. The thread in which Beam waits for the worker
raises an exception, but nothing catches it. Depending on what the worker was doing, the job then
fails or waits forever. So this module, and no other, changes the whole process in two ways:

- `threading.excepthook`: the only place that sees that thread's exception.
- `os._exit` from a timer: the main thread waits inside Beam, where no exception of another
  thread reaches it.

tests/test_contracts.py checks that Beam's texts are still the same.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from stemforge.pipelines.console import fail

WORKER_GRACE_S = 10.0  # for the job to fail by itself, with its own cause
WORKER_DIED = (
    "a Beam worker ended before its work was done: it was killed or ran out of memory; "
    "nothing was published: run the command again"
)
# Beam's texts: of its waiting thread, and of its error where the job fails by itself.
SAID_BY_THREAD = "Worker subprocess exited"
SAID_BY_JOB = "Channel closed prematurely"


@contextmanager
def end_with_workers() -> Iterator[None]:
    """Ends this process with one line and exit code 2 if a worker dies and the job continues."""
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
