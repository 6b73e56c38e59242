"""The place that the feature job writes: claimed, filled, and recorded for DVC."""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stemforge import storage
from stemforge.errors import UserError
from stemforge.features.shards.records import INFO, REJECTS, is_feature_file
from stemforge.features.shards.workers import refuse_taken
from stemforge.pipelines.paths import FEATURES
from stemforge.pipelines.running.work import WORK, publish
from stemforge.unfinished import finishing, remove, temporary_name

# What this checkout has written elsewhere: by place, sha256 of its info.json.
WRITTEN = WORK / "features" / "places.json"


def claim_output(place: str, *, label: str, is_shared: bool) -> None:
    """Refuses to replace anything but features, and features that another run is writing.

    Args:
        place: a folder, local or a URL.
        label: what errors call it.
        is_shared: whether features that others wrote there are refused too.

    Raises:
        UserError: there is something else in the folder, or it cannot be written.
    """
    if storage.is_local(place):
        _check_folder(Path(place), label)
    refuse_taken(place)
    info = storage.join(place, INFO)
    found = storage.list_files(place, hidden=True)
    # A job that was killed leaves shards without an info.json in an object store.
    if INFO not in found and not all(map(is_feature_file, found)):
        raise UserError(
            f"{label}: holds other files but no {INFO}, so it is not a features folder "
            "and is not replaced: choose an empty folder"
        )
    if INFO in found and is_shared:
        sha256 = hashlib.sha256(storage.read_bytes(info)).hexdigest()
        if _written().get(place) != sha256:
            raise UserError(
                f"{label}: holds features that this checkout has not recorded as its own: choose "
                f"another place, or remove {info} to have them replaced"
            )


def _check_folder(folder: Path, label: str) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{label}: not a folder: choose another place")
    if folder.is_mount():
        raise UserError(
            f"{label}: a disk's top folder, which cannot be replaced as a whole: name a folder in "
            "it"
        )
    existing = next(path for path in folder.resolve().parents if path.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"{label}: no right to write in {existing}: choose another place")


def _written() -> dict[str, str]:
    try:
        found = json.loads(WRITTEN.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


@contextmanager
def new_features(folder: Path, work: Path) -> Iterator[Path]:
    """An empty folder for features, which replaces `folder` when they are complete.

    It is on the same disk as `folder`, so that a rename is enough. Older features stay in `folder`
    until then.

    Args:
        folder: the features folder; the stage's own is made in `work`.
        work: the stage's work folder.
    """
    target = folder if folder == FEATURES else folder.resolve()
    out = work / "features" if folder == FEATURES else temporary_name(target)
    out.mkdir(parents=True, exist_ok=True)
    with _held(out, target):
        try:
            for left in out.iterdir():  # by a killed run, whose token would refuse this one
                remove(left)
            yield out
            publish(out, target)
        except BaseException:
            with suppress(OSError):  # the first error is the one to report
                remove(out)
            raise


@contextmanager
def _held(out: Path, target: Path) -> Iterator[None]:
    """Holds a lock on a folder, which ends with this process at the latest."""
    descriptor = os.open(out, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{target}: another process computes features for it: wait for its end, or stop it"
            ) from None
        yield
    finally:
        os.close(descriptor)


def record_features(place: str, work: Path) -> None:
    """Copies info.json and rejects.parquet to data/features/, as DVC's outputs.

    Shards of older features there are removed: they do not belong to this info.json. From now on
    this checkout may replace the features at `place`, as long as they are these.
    """
    card = work / "card"
    shutil.rmtree(card, ignore_errors=True)
    for name in (REJECTS, INFO):
        storage.write_bytes(str(card / name), storage.read_bytes(storage.join(place, name)))
    written = _written() | {place: storage.file_sha256(card / INFO)}
    with finishing(WRITTEN) as fresh:
        storage.write_bytes(str(fresh), json.dumps(written).encode())
    publish(card, FEATURES)
