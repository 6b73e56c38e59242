"""Files and folders that are being written: temporary names, and the rename at the end.

A file has its final name only when it is complete; until then it is .NAME.tmp in the same folder.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PATTERN = ".*.tmp"
MAX_NAME_BYTES = 255  # of a file or folder, on all common filesystems


def temporary_name(path: Path, *, by_process: bool = False) -> Path:
    """The name of a file or folder until it is complete: in the same folder, for a rename.

    Args:
        path: the final name.
        by_process: several processes may write their own version at the same time: the name has
            the process' number in it. Without it, the next run replaces the file that a killed
            run left.

    Returns:
        .NAME.tmp or .NAME.PROCESS.tmp; where this would be too long for a file system, the start
        of the name and a checksum of all of it stand for the name.
    """
    number = f".{os.getpid()}" if by_process else ""
    name = path.name
    spare = MAX_NAME_BYTES - len(f"..tmp{number}")
    if len(os.fsencode(name)) > spare:
        checksum = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
        while len(os.fsencode(f"{name}~{checksum}")) > spare:
            name = name[:-1]
        name = f"{name}~{checksum}"
    return path.with_name(f".{name}{number}.tmp")


def is_temporary(name: str) -> bool:
    """Whether a name, or the last part of a place, is one that `temporary_name` returns."""
    return Path(name).match(PATTERN)


@contextmanager
def finishing(path: Path, *, by_process: bool = False) -> Iterator[Path]:
    """Renames a file or folder to its final name when it is complete; removes it after an error.

    Args:
        path: the final name; a file or an empty folder of that name is replaced.
        by_process: see temporary_name.

    Yields:
        The temporary name. No such file exists; its folder may not exist either.
    """
    temporary = temporary_name(path, by_process=by_process)
    remove(temporary)
    try:
        yield temporary
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):  # the first error is the one to report
            remove(temporary)
        raise


def remove(path: Path) -> None:
    """Removes a file, or a folder with its contents, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Removes unfinished files and folders of killed processes from a folder, at any depth."""
    for leftover in list(folder.rglob(PATTERN)):
        remove(leftover)  # its folder may have been removed before
