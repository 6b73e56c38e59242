"""Releases of stemforge by their address: every file is fetched, and checked by SHA256SUMS."""

import hashlib
import re
import urllib.parse
from pathlib import Path, PurePosixPath

from stemforge import storage
from stemforge.errors import UserError
from stemforge.eval.config import Runtime
from stemforge.pipelines.console import say
from stemforge.pipelines.pretrained import home
from stemforge.pipelines.releases.files import SUMS, files, listed, wrong_sums
from stemforge.pipelines.running.download import fetch_file
from stemforge.unfinished import temporary_name

ADVICE = "give the folder of a release instead"


def is_release(folder: Path) -> bool:
    """Whether a folder is a release."""
    return (folder / SUMS).is_file()


def check(folder: Path) -> None:
    """Compares all files of a release with its SHA256SUMS.

    Raises:
        UserError: one differs, is missing, or is not listed.
    """
    for problem in wrong_sums(folder, listed(folder)):
        raise UserError(f"{folder}: {problem}: fetch or copy the release again")


def models_of(folder: Path, runtime: Runtime | None) -> Path:
    """The part of a release that separates."""
    return folder / ("models" if runtime == "tensorflow" else "exports")


def fetch(url: str, *, offline: bool) -> Path:
    """Fetches a release, unless it is there.

    Args:
        url: of its SHA256SUMS.
        offline: nothing is fetched.

    Returns:
        The release's folder.

    Raises:
        UserError: a file cannot be reached, or is not the one that is listed.
    """
    base, _, last = url.rpartition("/")
    if last != SUMS:
        raise UserError(f"{url}: not the address of a release: give that of its {SUMS}")
    place = home.home() / "releases" / hashlib.sha256(url.encode()).hexdigest()[:16]
    if home.is_there(place):
        return place
    if offline:
        raise UserError(f"{url}: not on this machine, and --offline: run once without it")
    with home.changing(place, what=url):
        if place.is_dir():
            return place
        say(f"{url}: once, into {place}")
        work = temporary_name(place)  # kept after an error: the next call goes on
        work.mkdir(exist_ok=True)
        fetch_file(url, work / SUMS, advice=ADVICE)
        names = _read_sums(work, url)
        for name in set(files(work)) - names.keys():  # of an older release there
            (work / name).unlink()
        for name, sha256 in names.items():
            _fetch_listed(f"{base}/{urllib.parse.quote(name)}", work / name, sha256)
        check(work)
        work.rename(place)
    return place


def _read_sums(folder: Path, url: str) -> dict[str, str]:
    """The files that a fetched SHA256SUMS lists.

    Raises:
        UserError: it is something else, or lists names that would lie outside of the release.
    """
    try:
        names = listed(folder)
    except UserError:
        names = {}
    for name, sha256 in names.items():
        path = PurePosixPath(name)
        odd = (
            path.is_absolute()
            or ".." in path.parts
            or "\\" in name
            or "\0" in name
            or storage.is_hidden(name)
        )
        if odd or not path.parts or not re.fullmatch("[0-9a-f]{64}", sha256):
            names = {}
            break
    if not any(name.startswith("exports/") for name in names):
        (folder / SUMS).unlink()
        raise UserError(f"{url}: not the {SUMS} of a release with exports/: {ADVICE}")
    return names


def _fetch_listed(url: str, path: Path, sha256: str) -> None:
    if path.is_file() and storage.file_sha256(path) == sha256:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    fetch_file(url, path, advice=ADVICE)
    found = storage.file_sha256(path)
    if found != sha256:
        path.unlink()
        raise UserError(
            f"{url}: its sha256 is {found}, not {sha256} as {SUMS} says: try again later, or "
            f"{ADVICE}"
        )
