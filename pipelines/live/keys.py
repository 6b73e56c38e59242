"""Keys that change a live separation while it runs."""

import contextlib
import os
import select
import sys
from collections.abc import Iterator, Mapping

QUIT = "q"
STEP_DB = 1.0
HELP = "keys: 1, 2, ... choose a stem, + and - its gain, m mutes it, q ends"


class Mixer:
    """Gains of the stems, as options and keys set them.

    Args:
        gains: factors by stem, in order. One of 0 is a muted stem, which can be turned up.
    """

    def __init__(self, gains: Mapping[str, float]) -> None:
        self._gains = {stem: gain or 1.0 for stem, gain in gains.items()}
        self._muted = {stem for stem, gain in gains.items() if not gain}
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


def are_there() -> bool:
    """Whether a person at a terminal can press keys."""
    try:
        return sys.stdin.isatty() and os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except OSError:  # the terminal is another session's
        return False


@contextlib.contextmanager
def pressed_keys() -> Iterator[Iterator[str]]:
    """Keys as they are pressed, without Return; none where no person is at a terminal.

    Yields:
        An iterator that ends when no more keys are there now; it can be asked again.
    """
    if not are_there():
        yield iter(())
        return
    fd = sys.stdin.fileno()
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
