"""The folder on this machine that keeps what was fetched."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stemforge.errors import UserError
from stemforge.pipelines.running.work import alone
from stemforge.unfinished import remove, temporary_name

VARIABLE = "STEMFORGE_HOME"
ADVICE = f"set {VARIABLE} to a folder of yours"


def home() -> Path:
    """STEMFORGE_HOME, or stemforge in the user's cache (XDG_CACHE_HOME or ~/.cache).

    Raises:
        UserError: this user has no home.
    """
    chosen = os.environ.get(VARIABLE, "")
    cache = os.environ.get("XDG_CACHE_HOME", "")
    try:
        if chosen:
            return Path(chosen).expanduser().absolute()
        folder = Path(cache) if Path(cache).is_absolute() else Path("~/.cache").expanduser()
    except RuntimeError:
        raise UserError(f"{chosen or '~/.cache'}: this user has no home: {ADVICE}") from None
    return folder / "stemforge"


def is_there(place: Path) -> bool:
    """Whether a folder of the home exists.

    Raises:
        UserError: this user may not look.
    """
    try:
        return place.is_dir()
    except OSError as error:  # of a folder above it
        raise UserError(f"{place}: {error.strerror}: {ADVICE}") from None


def make(folder: Path) -> None:
    """Makes a folder in the home.

    Raises:
        UserError: it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made: {error.strerror}: {ADVICE}") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{folder}: not writable: {ADVICE}")


@contextmanager
def changing(place: Path, *, what: str) -> Iterator[None]:
    """Waits until no other process fetches or removes a folder of the home.

    Args:
        place: the folder, whether it exists or not.
        what: it is of; a line says that another process has it.

    Raises:
        UserError: the home cannot be written to.
    """
    make(place.parent)
    lock = place.with_name(f".{place.name}.lock")
    if lock.exists() and not os.access(lock, os.W_OK):
        raise UserError(f"{lock}: not writable: {ADVICE}")
    with alone(lock, what=what):
        yield


def discard(place: Path) -> None:
    """Removes a folder of the home, so that a half of it never has its name."""
    leftover = temporary_name(place)
    remove(leftover)
    if place.exists():
        place.rename(leftover)
        remove(leftover)
