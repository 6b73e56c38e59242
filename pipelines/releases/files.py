"""The files of a release and their checksums."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from stemforge import storage
from stemforge.errors import UserError

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"  # of a release: it becomes a folder's name
VERSION = r"\d+\.\d+\.\d+([.-][A-Za-z0-9.-]+)?"  # semantic
SUMS = "SHA256SUMS"
PROVENANCE = "provenance.json"
# Signatures beside SUMS are made after it, so that it cannot list them: OpenSSF Model Signing's and
# Sigstore's, GPG's in text, GPG's in binary.
SIGNATURES = ("model.sig", f"{SUMS}.asc", f"{SUMS}.sig")


def files(folder: Path) -> list[str]:
    """All files of a release but the list of sums, signatures and hidden ones, sorted."""
    return [name for name in storage.list_files(str(folder)) if name not in (SUMS, *SIGNATURES)]


def models(folder: Path) -> list[Path]:
    """The model directories of a release, sorted."""
    place = folder / "models"
    return storage.visible(place.iterdir(), place)


def sums(folder: Path) -> str:
    """What SHA256SUMS holds, in the form that `sha256sum -c` reads."""
    return "".join(f"{storage.file_sha256(folder / name)}  {name}\n" for name in files(folder))


def listed(folder: Path) -> dict[str, str]:
    """The files that SHA256SUMS lists: sha256 by name.

    Raises:
        UserError: there is no such list, or it is damaged.
    """
    place = folder / SUMS
    try:
        lines = place.read_text(encoding="utf-8").splitlines()
        return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    except FileNotFoundError:
        raise UserError(f"{place}: no such file: not a release") from None
    except ValueError:
        raise UserError(f"{place}: damaged: lines must be `sha256  name`") from None


def wrong_sums(folder: Path, names: Mapping[str, str]) -> Iterator[str]:
    """A line for each file that differs from SHA256SUMS; `names` is from `listed`.

    A signature may be there or not. What it signs is checked by the tool that made it.
    """
    there = set(files(folder))
    for name in sorted(there | set(names)):
        if name not in names:
            yield f"{name}: not in {SUMS}"
        elif name not in there:
            yield f"{name}: missing"
        elif storage.file_sha256(folder / name) != names[name]:
            yield f"{name}: its sha256 is not that of {SUMS}"
