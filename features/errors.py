"""The one exception that ends a command with a single line and exit code 2."""


class UserError(Exception):
    """A failure that a user can mend.

    Its text is one line that says what is wrong, where, and what to do.
    """
