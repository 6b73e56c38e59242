"""The exceptions that end a command with a single line."""

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """A failure that a user can correct.

    Its text is one line that says what is wrong, where, and what to do, in this order.
    """


class FramesError(UserError):
    """Nets do not run on the wanted number of frames."""


class JobGoesOn(UserError):
    """A command ends before its job, which a service may still run."""


class MissingExtraError(UserError, ImportError):
    """A package is not installed; an extra of stemforge brings it."""


@contextmanager
def needs(extra: str, *, what: str) -> Iterator[None]:
    """Wraps work that imports packages of an extra.

    Args:
        extra: its name in pyproject.toml.
        what: the work, such as a command; the message begins with it.

    Raises:
        MissingExtraError: a package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "stemforge"):
            raise
        raise MissingExtraError(
            f"{what} needs {package}, which is not installed: pip install 'stemforge[{extra}]'"
        ) from error


class IncompleteError(Exception):
    """Part of the work could not be done; exit code 1.

    Its text is one line that says how much is missing.
    """


class Interrupted(Exception):
    """A signal ended the work, after the work had saved its state.

    Args:
        text: one line that says what the next run does.
        signal: the signal's number; the exit code is 128 + signal, as in a shell.
    """

    def __init__(self, text: str, signal: int) -> None:
        super().__init__(text)
        self.signal = signal
