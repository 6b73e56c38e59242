"""Deezer's checkpoints: downloaded, and checked against the published checksums."""

import json
import tarfile
import urllib.request
from pathlib import Path

from stemforge import storage
from stemforge.errors import UserError
from stemforge.pipelines.running.download import TIMEOUT_S, fetch_file, unreachable

CHECKSUMS = "checksum.json"  # from a model's name to the sha256 of its archive


def fetch_checkpoint(name: str, folder: Path, *, base_url: str) -> Path:
    """Downloads and unpacks a checkpoint.

    Args:
        name: of the model, such as "2stems".
        folder: an existing folder for archive and contents.
        base_url: address of NAME.tar.gz and checksum.json.

    Returns:
        The folder with the checkpoint.

    Raises:
        UserError: it cannot be reached, its checksum differs, or it is not such an archive.
    """
    base = base_url.rstrip("/")
    archive = folder / f"{name}.tar.gz"
    advice = f"download {archive.name} elsewhere, unpack it, and give the folder as CHECKPOINT_DIR"
    expected = _checksum(f"{base}/{CHECKSUMS}", name, advice)
    fetch_file(f"{base}/{archive.name}", archive, advice=advice)
    found = storage.file_sha256(archive)
    if found != expected.lower():
        raise UserError(
            f"{base}/{archive.name}: its sha256 is {found}, not {expected} as {CHECKSUMS} says: "
            "damaged or replaced; nothing was kept"
        )
    contents = folder / name
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(contents, filter="data")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise UserError(f"{archive.name}: not readable as an archive: {error}") from None
    places = [path.parent for path in storage.visible(contents.rglob("checkpoint"), contents)]
    if not places:
        raise UserError(f"{archive.name}: no checkpoint in it")
    return places[0]


def _checksum(url: str, name: str, advice: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
            sums = json.loads(response.read())
    except ValueError:
        raise UserError(f"{url}: not JSON") from None
    except OSError as error:  # URLError, HTTPError and timeouts among them
        raise unreachable(url, error, advice) from None
    expected = sums.get(name) if isinstance(sums, dict) else None
    if not isinstance(expected, str):
        raise UserError(f"{url}: no checksum of {name} in it")
    return expected
