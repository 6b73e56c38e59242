"""Songs that a user names: files, folders of them, patterns, and standard input."""

import glob
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from stemforge import storage
from stemforge.errors import UserError
from stemforge.features.corpus.sources import STEM_SUFFIX
from stemforge.pipelines.console import system_error

STDIN = "-"
# Endings of the files that are read from a folder, and that are no part of a song's name: all
# that ffmpeg reads and that people keep music in, videos too.
ENDINGS = frozenset(
    f".{ending}"
    for ending in (
        *("3g2", "3gp", "aac", "ac3", "aif", "aifc", "aiff", "amr", "ape", "asf", "au", "avi"),
        *("caf", "dff", "dsf", "dts", "eac3", "flac", "flv", "m2ts", "m4a", "m4b", "m4v", "mka"),
        *("mkv", "mov", "mp2", "mp3", "mp4", "mpc", "mpeg", "mpg", "mts", "oga", "ogg", "ogv"),
        *("opus", "ra", "rf64", "rm", "snd", "spx", "tak", "ts", "tta", "vob", "voc", "w64"),
        *("wav", "wave", "webm", "wma", "wmv", "wv"),
    )
)


def find_songs(
    names: Sequence[str], *, stdin: Path | None, output: Path
) -> tuple[list[Path], list[dict[str, str]]]:
    """Files, the audio files in folders, those that patterns match, and standard input.

    Args:
        names: as on the command line.
        stdin: the copy of standard input.
        output: folder of the results; where it lies in a folder of songs, its files are none.

    Returns:
        Each song once, in the order of the names, sorted within folders and patterns; and a
        failure ("song" and "error") for each name that matches nothing, each folder without an
        audio file or that cannot be read, and each pipe, device or link to a file that does not
        exist.
    """
    found: list[Path] = []
    failed: list[dict[str, str]] = []
    for name in names:
        path = Path(name)
        if name == STDIN and stdin is not None:
            found.append(stdin)
        elif path.is_dir():
            unreadable: list[OSError] = []
            files = _audio_files_in(path, output, unreadable)
            failed += [{"song": str(e.filename), "error": system_error(e)} for e in unreadable]
            if not files and not unreadable:
                failed.append({"song": name, "error": f"{path}: no audio file in it"})
            found += files
        elif path.is_file():
            found.append(path)
        else:
            matches = [Path(match) for match in sorted(glob.glob(name, recursive=True))]
            files = [match for match in matches if not match.is_dir()]
            if not files:
                failed.append({"song": name, "error": f"{name}: no such file"})
            found += files
    songs: dict[Path, Path] = {}
    for path in found:  # song.wav and folder/../song.wav are one
        songs.setdefault(path.parent.resolve() / path.name, path)
    for place, path in list(songs.items()):
        if not path.is_file():
            problem = "not a file" if path.exists() else "a link to a file that does not exist"
            failed.append({"song": str(path), "error": f"{path}: {problem}"})
            del songs[place]
    return list(songs.values()), failed


def _audio_files_in(root: Path, output: Path, unreadable: list[OSError]) -> list[Path]:
    """What has an audio ending, at any depth, sorted, without hidden ones and earlier results."""
    results = output.resolve()
    found: list[Path] = []
    for place, folders, files in os.walk(root, onerror=unreadable.append, followlinks=True):
        folder = Path(place)
        above = {parent.resolve() for parent in (folder, *folder.parents)}
        folders[:] = [
            name
            for name in folders
            # A link may lead to a folder that it is in.
            if not storage.is_hidden(name) and (folder / name).resolve() not in {results, *above}
        ]
        found += [
            folder / name
            for name in files
            if Path(name).suffix.lower() in ENDINGS and not storage.is_hidden(name)
        ]
    return sorted(found)


def copy_stdin(stack: ExitStack) -> Path:
    """Standard input as a file, because ffmpeg must seek in containers such as MP4.

    Args:
        stack: keeps the file until the end.

    Raises:
        UserError: standard input is empty.
    """
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stemforge-")))
    path = folder / "stdin"
    with path.open("wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    if not path.stat().st_size:
        raise UserError("standard input is empty")
    return path


def split_ending(song: Path) -> tuple[str, str]:
    """A song's name without its ending, and the ending without its dot.

    Only an ending of audio files counts, .stem.mp4 included: the song `Mr. Blue Sky` has none.
    """
    for ending in (STEM_SUFFIX, song.suffix.lower()):
        length = len(song.name) - len(ending)
        if ending in ENDINGS | {STEM_SUFFIX} and length and song.name.lower().endswith(ending):
            return song.name[:length], song.name[length + 1 :]
    return song.name, ""
