"""What a person sees: progress bars, one line per error, no noise from libraries."""

import io
import json
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from tqdm import tqdm

from stemforge.errors import IncompleteError, Interrupted, UserError

EXIT_INCOMPLETE = 1
EXIT_USER_ERROR = 2
# What ends a command from outside, beside Ctrl-C, which Python turns into KeyboardInterrupt.
ENDING_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class Ended(BaseException):
    """A signal asks the process to end; like KeyboardInterrupt, no library catches it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = number


def run_main(main: Callable[[], object]) -> int:
    """Runs a command and turns a user's error into one line.

    Returns:
        The exit code: 0; 1 after an IncompleteError; 2 after a UserError or a failed system
        call on a user's file; 128 and the signal's number after Interrupted, and after SIGTERM
        or SIGHUP, which remove unfinished files.
    """
    open_streams()
    quiet_libraries()
    try:
        with unwinding_at_signals():
            main()
            _flush()
    except Ended as error:
        say(f"stemforge: ended by {signal.Signals(error.signal).name}")
        return 128 + error.signal
    except UserError as error:
        return fail(str(error))
    except IncompleteError as error:
        say(f"stemforge: {' '.join(str(error).split())}")
        return EXIT_INCOMPLETE
    except Interrupted as error:
        say(str(error))
        return 128 + error.signal
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        _discard_output()
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        return fail(system_error(error))
    except UnicodeEncodeError as error:
        if not any("\udc80" <= character <= "\udcff" for character in error.object):
            raise
        # How Python keeps the bytes of a file's name or an argument that is not UTF-8.
        return fail(f"{error.object}: a name that is not UTF-8: rename it")
    except KeyboardInterrupt:
        return fail("interrupted")
    return 0


def _flush() -> None:
    # Not left to the interpreter's end, where a full disk would be a traceback.
    try:
        sys.stdout.flush()
    except OSError as error:
        _discard_output()
        if isinstance(error, BrokenPipeError):
            raise
        raise UserError(f"standard output: {error.strerror}") from None


def _discard_output() -> None:
    """Leads standard output nowhere; what could not be written would fail again at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def system_error(error: OSError) -> str:
    """A failed system call in words: the file, and what the system says."""
    place = f"{error.filename}: " if error.filename else ""
    return f"{place}{error.strerror or error}"


def open_streams() -> None:
    """Makes the standard streams take any text, and opens those that were closed (`2>&-`).

    Characters that a stream cannot encode are printed as escapes. Closed streams lead nowhere:
    else the next file that is opened would get their number, and a library's messages with it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream: TextIO | None = getattr(sys, name)
        if stream is None:
            stream = open(os.devnull, "w" if number else "r", encoding="utf-8")  # noqa: SIM115
            os.set_inheritable(stream.fileno(), True)  # as the standard streams are
            setattr(sys, name, stream)
        if number and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def unwinding_at_signals() -> Iterator[None]:
    """Inside, SIGTERM and SIGHUP raise an exception, so that unfinished files are removed.

    A second signal ends the process at once. Signals that have a handler or are ignored (nohup)
    keep it.
    """
    came: list[int] = []

    def end(number: int, frame: object) -> None:
        came.append(number)
        for other in mine:
            signal.signal(other, signal.SIG_DFL)
        raise Ended(number)

    here = threading.current_thread() is threading.main_thread()  # others may not set handlers
    mine = [n for n in ENDING_SIGNALS if here and signal.getsignal(n) == signal.SIG_DFL]
    for number in mine:
        signal.signal(number, end)
    try:
        yield
    except BaseException as error:
        if came:  # Beam turns any exception into its own
            raise Ended(came[0]) from error
        raise
    finally:
        for number in mine:
            signal.signal(number, signal.SIG_DFL)


def print_json(value: object) -> None:
    """Prints a value as JSON on standard output, with escapes where that cannot encode it."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, indent=2)
    print(text)


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
    # Beam logs each error of a worker, or of a service, and then raises it as well.
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL + 1)
    logging.getLogger().addFilter(_is_news)
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # likewise
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    logging.getLogger("absl").setLevel(logging.ERROR)
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # of a home that it cannot write to
    # museval reads pkg_resources in some versions, and divides by zero on silence by design.
    warnings.filterwarnings("ignore", category=DeprecationWarning)


def _is_news(record: logging.LogRecord) -> bool:
    """False for what Beam logs at its import where Google's libraries are not installed."""
    return not record.getMessage().startswith("apitools not found")
