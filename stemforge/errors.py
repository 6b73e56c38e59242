"""The exceptions that end a command with a single line."""

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """A failure that a user can mend.

    Its text is one line that says what is wrong, where, and what to do.
    """


class MissingExtraError(UserError, ImportError):
    """A package is not installed that an extra of stemforge would have brought."""


@contextmanager
def needs(extra: str, *, what: str) -> Iterator[None]:
    """Around work that imports what only an extra installs.

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
    """Work that was done but for a part of it; exit code 1.

    Its text is one line that says how much was not.
    """


class Interrupted(Exception):
    """Work that a signal ended after it had saved where it was.

    Args:
        text: one line that says where it stands.
        signal: the signal's number; the exit code is 128 + signal, as in a shell.
    """

    def __init__(self, text: str, signal: int) -> None:
        super().__init__(text)
        self.signal = signal
