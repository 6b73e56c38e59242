"""What a person sees: progress bars, one line per error, no noise from libraries."""

import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from stemforge.errors import IncompleteError, Interrupted, UserError

EXIT_INCOMPLETE = 1
EXIT_USER_ERROR = 2


def run_main(main: Callable[[], object]) -> int:
    """Runs a command and turns a user's error into one line.

    Returns:
        The exit code: 0; 1 after an IncompleteError; 2 after a UserError or a failed system
        call on a user's file; 128 and the signal's number after Interrupted.
    """
    quiet_libraries()
    try:
        main()
    except UserError as error:
        return fail(str(error))
    except IncompleteError as error:
        say(f"stemforge: {' '.join(str(error).split())}")
        return EXIT_INCOMPLETE
    except Interrupted as error:
        say(str(error))
        return 128 + error.signal
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        place = f"{error.filename}: " if error.filename else ""
        return fail(f"{place}{error.strerror or error}")
    except KeyboardInterrupt:
        return fail("interrupted")
    return 0


def count_of(variable: str) -> int | None:
    """The number that an environment variable holds; None where it is not set.

    Raises:
        UserError: it is not a number from 1 on.
    """
    text = os.environ.get(variable)
    if not text:
        return None
    if not text.isdecimal() or not int(text):
        raise UserError(f"{variable}={text}: must be a whole number from 1 on")
    return int(text)


def fail(text: str) -> int:
    """Prints an error on one line; returns the exit code for it."""
    line = " ".join(text.split())
    print(f"stemforge: error: {line}", file=sys.stderr, flush=True)
    return EXIT_USER_ERROR


def say(text: str) -> None:
    """Prints a line of news, above any progress bar."""
    tqdm.write(text, file=sys.stderr)


def progress(total: float | None, *, label: str, unit: str, done: float = 0) -> Any:
    """A progress bar on standard error, or lines where that is not a terminal.

    Work done before (`done`) does not count in the rate and the time left.
    """
    interactive = sys.stderr.isatty()
    return tqdm(
        total=total,
        initial=done,
        desc=label,
        unit=unit,
        dynamic_ncols=True,
        file=sys.stderr,
        mininterval=0.2 if interactive else 10.0,
        maxinterval=10.0,
        bar_format=None
        if interactive
        else "{desc}: {n_fmt}/{total_fmt} {unit}, {elapsed}<{remaining}{postfix}\n",
    )


@contextmanager
def watched(look: Callable[[], object], *, every_s: float) -> Iterator[None]:
    """Calls `look` every `every_s` seconds while other work runs, and once at its end."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(every_s):
            look()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
        look()


def quiet_libraries() -> None:
    """Silences messages that do not help a user: TensorFlow's start-up log, Beam's log."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Beam logs each error of a worker with its traceback, and then raises it as well.
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    logging.getLogger().addFilter(_is_news)
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # likewise
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    logging.getLogger("absl").setLevel(logging.ERROR)
    # museval reads pkg_resources in some versions, and divides by zero on silence by design.
    warnings.filterwarnings("ignore", category=DeprecationWarning)


def _is_news(record: logging.LogRecord) -> bool:
    """False for what Beam logs at its import where Google's libraries are not installed."""
    return not record.getMessage().startswith("apitools not found")
