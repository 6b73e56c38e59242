"""Keys that change a live separation while it runs."""

import contextlib
import os
import select
import sys
from collections.abc import Iterator

QUIT = "q"
STEP_DB = 1.0
HELP = "keys: 1 to {stems} choose a stem, + and - its gain, m mutes it, q ends"


class Mixer:
    """Gains of the stems, as options and keys set them.

    Args:
        gains: factors by stem, in order.
    """

    def __init__(self, gains: dict[str, float]) -> None:
        self._gains = gains
        self._muted: set[str] = set()
        self.chosen = next(iter(gains))

    @property
    def gains(self) -> dict[str, float]:
        """What is heard of each stem."""
        return {stem: 0.0 if stem in self._muted else g for stem, g in self._gains.items()}

    def press(self, key: str) -> bool:
        """Does what a key means; returns whether it means anything."""
        stems = [*self._gains]
        if key.isdecimal() and 1 <= int(key) <= len(stems):
            self.chosen = stems[int(key) - 1]
        elif key in "+-":
            factor = 10.0 ** ((STEP_DB if key == "+" else -STEP_DB) / 20.0)
            self._gains[self.chosen] *= factor
            self._muted.discard(self.chosen)
        elif key == "m":
            self._muted ^= {self.chosen}
        else:
            return False
        return True


@contextlib.contextmanager
def pressed_keys() -> Iterator[Iterator[str]]:
    """Keys as they are pressed, without Return; none where no person is at a terminal.

    Yields:
        An iterator that ends when no more keys are there now; it can be asked again.
    """
    fd = sys.stdin.fileno()
    if not sys.stdin.isatty() or os.tcgetpgrp(fd) != os.getpgrp():
        yield iter(())
        return
    import termios
    import tty

    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)
        yield _Keys(fd)
    finally:
        with contextlib.suppress(termios.error):  # the terminal was closed
            termios.tcsetattr(fd, termios.TCSADRAIN, before)


class _Keys:
    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __iter__(self) -> "_Keys":
        return self

    def __next__(self) -> str:
        if not select.select([self._fd], [], [], 0)[0]:
            raise StopIteration
        key = os.read(self._fd, 1)
        if not key:
            raise StopIteration
        return key.decode("ascii", "replace")
