"""Where features are: STEMFORGE_FEATURES, and what DVC keeps of them in data/features/."""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stemforge import storage
from stemforge.errors import UserError
from stemforge.features.shards.reading import FeatureSet
from stemforge.features.shards.records import INFO, REJECTS, is_feature_file
from stemforge.features.shards.workers import refuse_taken
from stemforge.pipelines.paths import FEATURES
from stemforge.pipelines.running.work import WORK, publish
from stemforge.pipelines.running.workspaces import origin
from stemforge.unfinished import remove, temporary_name

PLACE = "STEMFORGE_FEATURES"
CLAIMED = WORK / "features" / "places.json"  # the places that this checkout has written to


def features_place() -> str:
    """Where stage features writes and stage train reads: STEMFORGE_FEATURES, or data/features.

    Raises:
        UserError: the variable holds a relative path.
    """
    text = os.environ.get(PLACE, "")
    place = text.rstrip("/")
    if not text:
        return str(FEATURES)
    if storage.is_local(text):
        if not Path(text).is_absolute():
            raise UserError(
                f"{PLACE}={text}: a relative path, and experiments run in folders of their own: "
                "write the whole path, or a URL such as gs://bucket/features"
            )
        if Path(text).resolve() == FEATURES.resolve():
            return str(FEATURES)
    return place


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
    if INFO in found and is_shared and place not in _claimed():
        raise UserError(
            f"{label}: holds features that were not computed from this folder: choose another "
            f"place, or remove {info} to have them replaced"
        )
    if is_shared:
        storage.write_bytes(str(CLAIMED), json.dumps(sorted({*_claimed(), place})).encode())


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


def _claimed() -> set[str]:
    try:
        found = json.loads(CLAIMED.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return set()
    return set(found) if isinstance(found, list) else set()


@contextmanager
def new_features(folder: Path, work: Path) -> Iterator[Path]:
    """An empty folder for features, which replaces `folder` when they are complete.

    It is on the same disk as `folder`, so that a rename is enough.

    Args:
        folder: the features folder; the stage's own is made in `work`.
        work: the stage's work folder.
    """
    target = folder if folder == FEATURES else folder.resolve()
    out = work / "features" if folder == FEATURES else temporary_name(target)
    out.mkdir(parents=True, exist_ok=True)
    with _held(out, target):
        try:
            for left in out.iterdir():  # by a run that was killed
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

    Shards of older features there are removed: they do not belong to this info.json.
    """
    card = work / "card"
    shutil.rmtree(card, ignore_errors=True)
    for name in (REJECTS, INFO):
        storage.write_bytes(str(card / name), storage.read_bytes(storage.join(place, name)))
    publish(card, FEATURES)


def _of_the_checkout(recorded: FeatureSet) -> FeatureSet | None:
    """In a temporary workspace: the same features in the checkout, whose shards DVC left there."""
    checkout = origin()
    if checkout is None or any(FEATURES.glob("*/*.tfrecord")):
        return None
    with suppress(UserError):
        found = FeatureSet.read_info(str(checkout / FEATURES))
        return found if found.sha256 == recorded.sha256 else None
    return None


def recorded_features() -> FeatureSet:
    """The features that data/features/info.json names, where STEMFORGE_FEATURES says.

    Raises:
        UserError: there are none, or there are others at that place.
    """
    recorded = FeatureSet.read_info(str(FEATURES))
    place = features_place()
    if place == str(FEATURES):
        return _of_the_checkout(recorded) or recorded
    try:
        found = FeatureSet.read_info(place)
    except UserError as error:
        raise UserError(f"{PLACE}: {error} (dvc repro --force --single-item features)") from None
    if found.sha256 != recorded.sha256:
        raise UserError(
            f"{PLACE}={place}: its {INFO} is not {FEATURES / INFO}, so it holds other features: "
            "name the place of these, or compute them again (dvc repro --force --single-item "
            "features)"
        )
    return found
