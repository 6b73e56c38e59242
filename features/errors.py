"""The exceptions that end a command with a single line."""


class UserError(Exception):
    """A failure that a user can mend.

    Its text is one line that says what is wrong, where, and what to do.
    """


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
