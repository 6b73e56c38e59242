"""Corpora that are called by a name instead of a path: where they lie on this machine."""

from pathlib import Path

from stemforge import storage
from stemforge.errors import UserError
from stemforge.features.corpus.sources import STEM_SUFFIX

NAME = "musdb18-7"  # as corpus.root
TITLE = "MUSDB18-7"
# Folder of musdb 0.4.3: DB(download=True).
FOLDER = "~/MUSDB18/MUSDB18-7"
SONGS = {"train": 94, "test": 50}


def resolve_name(root: str, *, label: str) -> str:
    """The folder of a corpus that a command calls `musdb18-7`; any other place unchanged.

    A folder of that name is used as it is. Nothing is fetched.

    Args:
        root: as the user wrote it.
        label: what an error calls it.

    Raises:
        UserError: the corpus is not on this machine.
    """
    if root != NAME or Path(root).exists():
        return root
    folder = find()
    if folder is None:
        raise UserError(f"{label}: not on this machine: fetch it by `stemforge corpus {NAME}`")
    return str(folder)


def find() -> Path | None:
    """The folder of MUSDB18-7, where there are songs in it."""
    folder = musdb_folder()
    return folder if any(find_songs(folder).values()) else None


def find_songs(folder: Path) -> dict[str, list[Path]]:
    """The songs of train/ and of test/ in a folder, sorted; none where it does not exist."""
    found = {split: storage.visible((folder / split).glob("*"), folder) for split in SONGS}
    return {
        split: [path for path in paths if path.name.lower().endswith(STEM_SUFFIX)]
        for split, paths in found.items()
    }


def musdb_folder() -> Path:
    """Where the musdb package keeps MUSDB18-7, whether it is there or not.

    Raises:
        UserError: this user has no home, or a link there leads nowhere.
    """
    try:
        place = Path(FOLDER).expanduser()
    except RuntimeError:
        raise UserError(f"{FOLDER}: this user has no home: set HOME to a folder") from None
    folder = place.resolve()  # of a link, people's way to another disk
    if place.is_symlink() and not place.exists():
        raise UserError(f"{place}: a link to {folder}, which does not exist: make that folder")
    return folder
