"""Downloads Deezer's checkpoints, and checks them against the published checksums."""

import hashlib
import json
import tarfile
import urllib.error
import urllib.request
from pathlib import Path

from stemforge import storage
from stemforge.errors import UserError
from stemforge.pipelines.console import progress

CHECKSUMS = "checksum.json"  # from a model's name to the sha256 of its archive
CHUNK_BYTES = 2**20
TIMEOUT_S = 30.0


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
    try:
        with urllib.request.urlopen(f"{base}/{CHECKSUMS}", timeout=TIMEOUT_S) as response:
            sums = json.loads(response.read())
        expected = sums.get(name) if isinstance(sums, dict) else None
    except ValueError:
        raise UserError(f"{base}/{CHECKSUMS}: not JSON") from None
    except OSError as error:  # URLError, HTTPError and timeouts among them
        raise _unreachable(f"{base}/{CHECKSUMS}", error, name) from None
    if not isinstance(expected, str):
        raise UserError(f"{base}/{CHECKSUMS}: no checksum of {name} in it")
    archive = folder / f"{name}.tar.gz"
    found = _download(f"{base}/{archive.name}", archive, name)
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


def _download(url: str, path: Path, name: str) -> str:
    """Writes a URL's contents to a file; returns their sha256."""
    digest = hashlib.sha256()
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response, path.open("wb") as file:
            size = response.headers.get("Content-Length")
            total = round(int(size) / 1e6) if size else None
            done = 0
            with progress(total, label=path.name, unit="MB") as bar:
                while chunk := response.read(CHUNK_BYTES):
                    digest.update(chunk)
                    file.write(chunk)
                    done += len(chunk)
                    bar.update(round(done / 1e6) - bar.n)
            if size and done < int(size):
                raise UserError(f"{url}: ended after {done} of {size} bytes: try again")
    except OSError as error:
        raise _unreachable(url, error, name) from None
    return digest.hexdigest()


def _unreachable(url: str, error: OSError, name: str) -> UserError:
    reason = getattr(error, "reason", None) or error
    return UserError(
        f"{url}: cannot be reached: {reason}: download {name}.tar.gz elsewhere, unpack it, and "
        "give the folder as CHECKPOINT_DIR"
    )
