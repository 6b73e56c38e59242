"""Files and folders that are being written: their temporary names, and how they get their own.

Whoever finds a file by its name finds it whole: until then it lies beside its place as .NAME.tmp.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PATTERN = ".*.tmp"


def temporary_name(path: Path, *, by_process: bool = False) -> Path:
    """Where a file or folder is written until it is whole: beside it, so that a rename suffices.

    Args:
        path: the final name.
        by_process: several processes may write it at the same time, each its own: the process'
            number is in the name. Without it, the next run finds and replaces what a killed
            one left.
    """
    number = f".{os.getpid()}" if by_process else ""
    return path.with_name(f".{path.name}{number}.tmp")


def is_temporary(name: str) -> bool:
    """Whether a name, or the last part of a place, is one that `temporary_name` gives."""
    return Path(name).match(PATTERN)


@contextmanager
def finishing(path: Path, *, by_process: bool = False) -> Iterator[Path]:
    """Gives a file or folder its name once it is whole, and removes it where that fails.

    Args:
        path: the final name; a file or an empty folder of that name is replaced.
        by_process: see temporary_name.

    Yields:
        The temporary name. Nothing is there; the folder that it lies in may be missing too.
    """
    temporary = temporary_name(path, by_process=by_process)
    remove(temporary)
    try:
        yield temporary
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):  # what went wrong before is what matters
            remove(temporary)
        raise


def remove(path: Path) -> None:
    """Removes a file, or a folder and all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Removes what killed processes left unfinished in a folder, at any depth."""
    for leftover in list(folder.rglob(PATTERN)):
        remove(leftover)  # it may lie in one that is gone
