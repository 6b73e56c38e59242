"""MUSDB18-7 by its name: how it gets into the folder that the musdb package keeps it in.

These are excerpts of a few seconds of MUSDB18's songs, the only part of the corpus that anybody can
download.
"""

import shutil
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from stemforge import storage
from stemforge.errors import UserError
from stemforge.features.corpus.musdb18 import MUSDB_VALIDATION_TRACKS
from stemforge.features.corpus.sources import STEM_SUFFIX
from stemforge.pipelines.console import say
from stemforge.pipelines.running.download import fetch_file
from stemforge.pipelines.running.named_corpora import (
    NAME,
    SONGS,
    TITLE,
    find,
    find_songs,
    musdb_folder,
)
from stemforge.pipelines.running.work import alone, check_free_space
from stemforge.text import brief
from stemforge.unfinished import finishing

# sample-url of configs/mus.yaml in musdb 0.4.3.
URL = "https://github.com/sigsep/sigsep-mus-db/releases/download/v0.4.0/MUSDB18-7-STEMS.zip"


def link_by_name(root: str) -> None:
    """Makes a link `musdb18-7` in the current folder, where that is the corpus' root.

    DVC then finds the corpus at a relative path, the same on all machines. A folder of that name
    is used as it is. The corpus is fetched where it is not on this machine.

    Raises:
        UserError: it cannot be fetched.
    """
    if root != NAME:
        return
    place = Path(root)
    if place.exists():
        say_missing(place.resolve())
        return
    folder = fetch()
    say_missing(folder)
    with finishing(place, by_process=True) as link:  # other experiments may make it too
        link.symlink_to(folder)
    say(f"{root}: {folder}")


def say_missing(folder: Path) -> None:
    """Says how many of the songs a folder lacks, if any."""
    missing = sum(SONGS.values()) - sum(map(len, find_songs(folder).values()))
    if missing > 0:
        lacks = "1 song is" if missing == 1 else f"{missing} songs are"
        say(f"{folder}: {lacks} missing: move it away to fetch all of them")


def fetch(url: str = URL) -> Path:
    """Downloads and unpacks MUSDB18-7, unless it is there.

    A folder with songs in it is used as it is, also with some of the songs only.

    Args:
        url: of the archive.

    Returns:
        The folder with train/ and test/.

    Raises:
        UserError: it cannot be reached, is another archive, the disk has no room, or something
            else is in the folder.
    """
    if (found := find()) is not None:
        return found
    folder = musdb_folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with alone(folder.with_name(f".{folder.name}.lock"), what=TITLE):
        if any(find_songs(folder).values()):  # another process has fetched it
            return folder
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(
                f"{folder}: holds no *{STEM_SUFFIX} in train/ or test/: move it away, so that "
                f"{TITLE} can be fetched"
            )
        archive = folder.with_name(f".{folder.name}.zip")
        if not archive.exists():  # else a run was killed that had downloaded it
            say(f"{TITLE}: from {url} to {folder}; for academic use only")
            advice = (
                f"unzip it into {folder}, so that train/ and test/ are there, or set corpus.root "
                "to another folder"
            )
            fetch_file(url, archive, advice=f"download it elsewhere and {advice}")
        unpack(archive, folder, url)
        archive.unlink()
    return folder


def unpack(archive: Path, folder: Path, url: str) -> None:
    """Unpacks all songs or none; an archive of something else is removed.

    Raises:
        UserError: it is another archive or a damaged one, or the disk has no room.
    """
    try:
        with zipfile.ZipFile(archive) as file:
            members = _members(file)
            size = sum(member.file_size for member in members.values())
            check_free_space(folder, size, what=f"unpacking {TITLE}")
            with finishing(folder) as fresh:
                for split in SONGS:
                    (fresh / split).mkdir(parents=True)
                for place, member in members.items():
                    with file.open(member) as source, (fresh / place).open("xb") as target:
                        shutil.copyfileobj(source, target)  # the CRC is checked at the end
    # RuntimeError: an encrypted file, or (NotImplementedError) a newer kind of archive.
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError) as error:
        archive.unlink()
        raise UserError(
            f"{url}: not the archive of {TITLE}: {brief(error)}: nothing was kept: try again, or "
            "give another --url to `stemforge corpus`"
        ) from None


def _members(archive: zipfile.ZipFile) -> Mapping[str, zipfile.ZipInfo]:
    """The songs of an archive by their place in the corpus.

    Raises:
        BadZipFile: other songs, or a file that would lie outside of the folder.
    """
    found: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        if not member.filename or member.header_offset < 0:
            raise zipfile.BadZipFile("a file in it has no name or no place")
        path = PurePosixPath(member.filename)
        if path.is_absolute() or ".." in path.parts or "\\" in member.filename:
            raise zipfile.BadZipFile(f"{member.filename!r} in it would lie outside of the folder")
        if member.is_dir() or storage.is_hidden(member.filename):
            continue
        if len(path.parts) == 2 and path.parent.name in SONGS and path.name.endswith(STEM_SUFFIX):
            if member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                raise zipfile.BadZipFile(f"{member.filename} in it is packed by another method")
            found[str(path)] = member
    counts = {split: sum(name.startswith(f"{split}/") for name in found) for split in SONGS}
    if counts != SONGS:
        there = " and ".join(f"{count} songs in {split}/" for split, count in counts.items())
        wanted = " and ".join(map(str, SONGS.values()))
        raise zipfile.BadZipFile(f"it holds {there}, not {wanted}")
    for song in MUSDB_VALIDATION_TRACKS:
        if f"train/{song}{STEM_SUFFIX}" not in found:
            raise zipfile.BadZipFile(f"train/{song}{STEM_SUFFIX} is not in it")
    return found
